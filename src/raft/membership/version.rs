//! The cluster's version rises when all its nodes have shown that they speak a later one.
//!
//! What a node speaks is known from the proofs at the beginning of its newest connection. A node that does not answer now
//! holds the version back, whatever it spoke before: another build may be in its place when it comes again. From the entry on
//! that raises the version, nodes that speak less are refused, and it is never lowered.

use std::{sync::Arc, time::Duration};

use super::{super::propose::raise, change::ChangeError, leader::Membership};
use crate::sequencer::{NodeAddress, PeerVersion};

/// How often the leader looks whether the version may rise. A cluster that was just founded waits for it.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often it is looked whether this node leads, or has come to speak a later version than its cluster.
const IDLE: Duration = Duration::from_millis(500);

/// What the cluster's version rises to, where it does: what this node and all others speak. None of another node says that
/// nobody knows.
fn next(
    cluster: PeerVersion,
    own: PeerVersion,
    others: impl IntoIterator<Item = Option<PeerVersion>>,
) -> Option<PeerVersion> {
    let common = others.into_iter().try_fold(own, |common, speaks| Some(common.min(speaks?)))?;
    (common > cluster).then_some(common)
}

impl Membership {
    /// Raises the cluster's version when it may, as long as the node runs, while it leads.
    pub(in crate::raft) async fn keep_version(self: Arc<Self>) {
        loop {
            let behind = self.view.version() < self.transport.newest();
            let leads = behind && self.picture().is_some();
            if leads {
                self.raise().await;
            }
            tokio::time::sleep(if behind { INTERVAL } else { IDLE }).await;
        }
    }

    async fn raise(&self) {
        // Nobody may be added meanwhile who speaks less.
        let _one = self.changing.lock().await;
        let Some(picture) = self.picture() else { return };
        let cluster = self.view.version();
        let others = picture.nodes.keys().filter(|id| **id != self.local.id).map(|id| {
            let there = picture.present(*id, self.local.id);
            self.transport.speaks(*id).filter(|_| there)
        });
        let Some(version) = next(cluster, self.transport.newest(), others) else { return };
        match raise(&self.raft, self.view.clock().now_ms(), version).await {
            Ok(_) => tracing::info!(%version, before = %cluster, "the cluster's version rises: all nodes speak it"),
            Err(error) => tracing::debug!(%error, "the cluster's version was not raised"),
        }
    }

    /// Whether a node may come in, as far as it is about what it speaks.
    pub(super) fn check_version(&self, node: &NodeAddress) -> Result<(), ChangeError> {
        let cluster = self.view.version();
        match self.transport.speaks(node.id) {
            Some(speaks) if speaks < cluster => Err(ChangeError::Refused(format!(
                "node {} speaks version {speaks}; this cluster needs {cluster}: start it with the build that the other \
                 nodes have (a cluster's version is never lowered)",
                node.name
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: PeerVersion = PeerVersion(3);
    const FOUR: PeerVersion = PeerVersion(4);

    #[test]
    fn the_version_rises_to_what_all_nodes_speak() {
        assert_eq!(next(THREE, FOUR, [Some(FOUR), Some(FOUR)]), Some(FOUR));
        assert_eq!(next(THREE, FOUR, []), Some(FOUR), "one node alone");
        assert_eq!(next(THREE, PeerVersion(6), [Some(PeerVersion(5)), Some(PeerVersion(7))]), Some(PeerVersion(5)));
    }

    #[test]
    fn one_node_that_speaks_less_holds_it_back() {
        assert_eq!(next(THREE, FOUR, [Some(FOUR), Some(THREE)]), None);
        assert_eq!(next(THREE, THREE, [Some(FOUR), Some(FOUR)]), None, "the leader itself");
    }

    #[test]
    fn one_node_that_nobody_has_heard_of_holds_it_back() {
        assert_eq!(next(THREE, FOUR, [Some(FOUR), None]), None);
    }

    #[test]
    fn it_is_never_lowered() {
        assert_eq!(next(FOUR, FOUR, [Some(THREE), Some(FOUR)]), None);
        assert_eq!(next(FOUR, FOUR, [Some(FOUR)]), None, "and is not raised to what it is");
    }
}
