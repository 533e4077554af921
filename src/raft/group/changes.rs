//! Changes of the cluster through whichever node leads: they follow the leader while it changes.

use std::time::Duration;

use super::{
    super::membership::{Change, ChangeError},
    member::RaftGroup,
};
use crate::sequencer::{Leader, NodeAddress};

/// How long a change of the membership waits for a leader.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks for one.
const LEADER_POLL: Duration = Duration::from_millis(50);

impl RaftGroup {
    /// Has all nodes hash their state at one log index, and gives that index.
    ///
    /// # Errors
    /// As [`RaftGroup::change`].
    pub async fn checkpoint(&self) -> Result<u64, ChangeError> {
        let membership = &self.inner.membership;
        self.on_leader(|leader| async move {
            match leader {
                None => membership.checkpoint().await,
                Some(node) => membership.forward_checkpoint(&node).await,
            }
        })
        .await
    }

    /// Changes who is in the cluster, or who leads it; through whichever node leads. Returns what was done, for people.
    ///
    /// # Errors
    /// [`ChangeError::NotLeader`] when no leader was found within ten seconds: nothing was done.
    pub async fn change(&self, change: Change) -> Result<String, ChangeError> {
        let (membership, change) = (&self.inner.membership, &change);
        self.on_leader(|leader| async move {
            match leader {
                None => membership.change(change).await,
                Some(node) => membership.forward(&node, change).await,
            }
        })
        .await
    }

    /// Does something on this node if it leads, or through whichever node does.
    async fn on_leader<T, F>(&self, work: impl Fn(Option<NodeAddress>) -> F) -> Result<T, ChangeError>
    where
        F: Future<Output = Result<T, ChangeError>>,
    {
        let give_up = tokio::time::Instant::now() + CHANGE_PATIENCE;
        loop {
            let leader = self.inner.leader.borrow().clone();
            let result = match leader {
                Leader::Local { .. } => work(None).await,
                Leader::Remote(node) => work(Some(node)).await,
                Leader::Unknown => Err(ChangeError::NotLeader),
            };
            if !matches!(result, Err(ChangeError::NotLeader)) || tokio::time::Instant::now() >= give_up {
                return result;
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }
}
