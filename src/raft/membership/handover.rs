//! Who leads next: which voter is fit for it, and how leadership is handed to it.

use std::{sync::atomic::Ordering, time::Duration};

use openraft::async_runtime::WatchReceiver as _;

use super::{
    super::transport::Lane,
    change::ChangeError,
    leader::Membership,
    picture::{CAUGHT_UP, Picture},
};
use crate::{model::MemberEvent, proto::raft as proto, sequencer::NodeAddress};

/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a leadership transfer may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);

impl Membership {
    /// Why a node should not be given leadership now.
    pub(super) async fn can_lead(&self, picture: &Picture, node: &NodeAddress) -> Result<(), String> {
        if !picture.voters.contains(&node.id) {
            return Err("it does not vote: promote it first".into());
        }
        let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
        let state = match tokio::time::timeout(TIMEOUT, client.status(proto::StatusRequest {})).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(format!("it does not answer at {}: {}", node.peer, status.message())),
            Err(_) => return Err(format!("it does not answer at {} within {TIMEOUT:?}", node.peer)),
        };
        if state.node.is_some_and(|other| other.id != node.id) {
            return Err(format!("another node answers at {}", node.peer));
        }
        if let Some(reason) = [state.failure].into_iter().chain(state.unwell).find(|reason| !reason.is_empty()) {
            return Err(format!("it is not well: {reason}"));
        }
        let lacking = picture.last.saturating_sub(picture.matched.get(&node.id).copied().unwrap_or(0));
        if lacking > CAUGHT_UP {
            return Err(format!("it lacks {lacking} log entries, more than {CAUGHT_UP}"));
        }
        Ok(())
    }

    /// The other voter that is well and has the newest log; none where there is no such.
    async fn successor(&self, picture: &Picture) -> Option<NodeAddress> {
        let others =
            picture.nodes.values().filter(|node| node.id != self.local.id && picture.voters.contains(&node.id));
        let asked = others.map(|node| async move { self.can_lead(picture, node).await.is_ok().then(|| node.clone()) });
        let able = futures::future::join_all(asked).await.into_iter().flatten();
        able.max_by_key(|node| picture.matched.get(&node.id).copied())
    }

    pub(super) async fn hand_over(
        &self,
        picture: &Picture,
        to: Option<&NodeAddress>,
    ) -> Result<NodeAddress, ChangeError> {
        let to = match to {
            Some(to) => to.clone(),
            None => {
                let nobody = || ChangeError::Refused("there is no other voter that is well and could lead".into());
                self.successor(picture).await.ok_or_else(nobody)?
            }
        };
        let unknown = |error: String| ChangeError::Unknown(error);
        self.raft.trigger().transfer_leader(to.id).await.map_err(|error| unknown(error.to_string()))?;
        let mut metrics = self.raft.server_metrics();
        let moved = async {
            loop {
                let leader = metrics.borrow_watched().current_leader.filter(|leader| *leader != self.local.id);
                if leader.is_some() || metrics.changed().await.is_err() {
                    return leader;
                }
            }
        };
        match tokio::time::timeout(TRANSFER_TIMEOUT, moved).await.ok().flatten() {
            Some(leader) if leader == to.id => Ok(to),
            Some(leader) => {
                let name = picture.nodes.get(&leader).map_or_else(|| leader.to_string(), |node| node.name.clone());
                Err(ChangeError::Refused(format!("{} was asked to lead, and {name} leads now", to.name)))
            }
            None => Err(unknown(format!(
                "{} was asked to lead and did not take over within {TRANSFER_TIMEOUT:?}; who leads is said by \
                 `liminal cluster status`",
                to.name
            ))),
        }
    }

    /// Leadership goes to the voter that is well and has the newest log, because this node stops; false when there is
    /// none.
    pub(in crate::raft) async fn step_down(&self) -> bool {
        let Some(picture) = self.picture() else { return false };
        match self.successor(&picture).await {
            Some(best) => {
                self.offer(&best).await;
                true
            }
            None => {
                tracing::debug!("there is no other voter to hand leadership to");
                false
            }
        }
    }

    /// The same because this node cannot do its work. It needs no entry in the log. Where no other voter is well, this
    /// node leads on: it may still be of some use.
    pub(in crate::raft) async fn step_aside(&self, reason: &str) {
        let Some(picture) = self.picture() else { return };
        match self.successor(&picture).await {
            Some(best) => {
                tracing::warn!(reason, to = best.name, "giving up leadership");
                self.offer(&best).await;
            }
            None => tracing::warn!(reason, "this node should not lead, but no other voter is well and could"),
        }
    }

    async fn offer(&self, to: &NodeAddress) {
        if let Err(error) = self.raft.trigger().transfer_leader(to.id).await {
            tracing::debug!(%error, "the Raft core stopped");
        }
    }

    /// The leader of a term has handed leadership to this node.
    pub(in crate::raft) fn was_handed_leadership(&self, term: u64) {
        self.handed_in.store(term, Ordering::Relaxed);
    }

    /// Writes down that this node was handed the leadership that it has, once. Only who leads knows that it came about.
    pub(super) async fn tell_transfer(&self) {
        let handed_in = self.handed_in.load(Ordering::Relaxed);
        let term = self.raft.metrics().borrow_watched().current_term;
        if handed_in == 0 || term <= handed_in {
            return;
        }
        // The next term is that of the election which the transfer was for; a later one was won otherwise.
        if term == handed_in + 1 {
            match self.must_record(&self.local, MemberEvent::Transferred).await {
                Ok(()) => {}
                // Nothing was done: the next look at the membership tries again, if this node leads in this term yet.
                Err(ChangeError::NotLeader) => return,
                // It may be in the log, where a second one would be too much.
                Err(error) => {
                    tracing::warn!(%error, "it may not be written down that leadership was handed to this node");
                }
            }
        }
        self.handed_in.store(0, Ordering::Relaxed);
    }
}
