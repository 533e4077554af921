//! How a member of the group ends: by itself, because it cannot go on, or in order.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;

use super::{
    super::{intact, standing::Standing},
    member::RaftGroup,
};
use crate::{replica::StoreHealth, sequencer::Leader};

/// Why a node ends whose core panicked: the panic before it says what was found.
const CORE_GONE: &str = "Raft's core found what must not be: most likely this node's log is not of the history that the \
                         cluster has, because a disk lies. If it ends so again, keep a copy of the data directory, run \
                         `liminal cluster remove` for this node, and start it with an empty directory";

/// How long a leadership transfer may take before the node stops all the same.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

impl RaftGroup {
    /// Resolves when the node cannot go on, with the reason: Raft's core or the store has stopped by itself, or the
    /// cluster refuses this node's disk for good.
    pub async fn failed(&self) -> String {
        let mut standing = self.inner.standing.clone();
        let barred = async {
            match standing.wait_for(|standing| matches!(standing, Standing::Barred(_))).await {
                Ok(standing) => standing.failure().to_owned(),
                Err(_) => std::future::pending().await, // the node is stopping
            }
        };
        let mut commits = self.inner.view.commits();
        let ended = async {
            let ended = commits.wait_for(|commits| matches!(commits, StoreHealth::Ended(_))).await;
            match ended.ok().and_then(|commits| commits.failure().map(str::to_owned)) {
                Some(reason) => reason,
                None => std::future::pending().await, // the node is stopping
            }
        };
        tokio::select! {
            reason = self.core_failed() => reason,
            reason = barred => reason,
            reason = ended => reason,
        }
    }

    async fn core_failed(&self) -> String {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            if let Err(fatal) = &self.inner.raft.metrics().borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                let state = self.inner.raft.metrics().borrow_watched().running_state.clone();
                return state.err().map_or_else(|| CORE_GONE.to_owned(), |fatal| fatal.to_string());
            }
        }
    }

    /// Hands leadership over if this node has it and somebody can take it.
    pub async fn give_up_leadership(&self) {
        self.inner.membership.step_down().await;
    }

    /// Hands leadership over if this node has it, stops everything and closes the log.
    pub async fn stop(&self) {
        let inner = &self.inner;
        if inner.raft.is_leader() && inner.membership.step_down().await {
            let mut leader = inner.leader.clone();
            let handed_over = leader.wait_for(|leader| !matches!(leader, Leader::Local { .. }));
            if tokio::time::timeout(TRANSFER_TIMEOUT, handed_over).await.is_err() {
                tracing::info!("leadership was not taken over in time; the other nodes will elect");
            }
        }
        inner.stop.cancel();
        inner.tasks.close();
        if let Err(error) = inner.raft.shutdown().await {
            tracing::warn!(%error, "the Raft core did not stop cleanly");
        }
        inner.tasks.wait().await;
        if let Err(error) = intact::follow(&inner.identity, &*inner.log).await {
            tracing::warn!(%error, "cannot write down what the log holds");
        }
        let log = inner.log.clone();
        match tokio::task::spawn_blocking(move || log.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot close the log"),
            Err(error) => tracing::error!(%error, "cannot close the log"),
        }
    }
}
