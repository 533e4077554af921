//! What is newer than a node of the cluster waits until that node is upgraded: the leader orders nothing that a node could
//! not read, and says which node it is.

use std::time::Duration;

use tokio::time::Instant;

use super::{Broker, BrokerError, NodeAddress, PeerVersion, forward::Response};

/// How long the leader waits for the version of a cluster whose nodes all speak it, and for nodes of which it has not heard
/// yet: it has just been elected, or the cluster founded.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const POLL: Duration = Duration::from_millis(10);

impl Broker {
    /// On the leader, before something is ordered. The error is what to answer: it was not done.
    pub(super) async fn await_version(&self, needs: PeerVersion, deadline: Instant) -> Result<(), Response> {
        // Most is as old as any cluster, and is not to wait for what is applied now.
        if needs <= PeerVersion::UNWRITTEN {
            return Ok(());
        }
        let until = deadline.min(Instant::now() + PATIENCE);
        while self.inner.view.version() < needs {
            if !self.leads() {
                return Err(Response::NotProposed);
            }
            let lacking = self.inner.peers.lacking(needs);
            let is_older = lacking.as_ref().is_some_and(|(_, speaks)| speaks.is_some());
            if is_older || Instant::now() >= until {
                let (node, speaks) = lacking.unwrap_or_default();
                return Err(Response::Refused(self.not_upgraded(needs, &node, speaks)));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// A node that speaks too little, or of which nothing is known, keeps the cluster from something.
    pub(super) fn not_upgraded(
        &self,
        needs: PeerVersion,
        node: &NodeAddress,
        speaks: Option<PeerVersion>,
    ) -> BrokerError {
        let number = |version: PeerVersion| u32::from(version.0);
        BrokerError::NotUpgraded {
            needs: number(needs),
            cluster: number(self.inner.view.version()),
            node: node.name.clone(),
            speaks: speaks.map_or(0, number),
        }
    }
}
