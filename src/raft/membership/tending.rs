//! What the leader does by itself: it makes learners voters that have caught up, removes who is gone for good, and ends
//! what another leader began.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    leader::Membership,
    picture::{CAUGHT_UP, Picture},
};
use crate::model::Limits;

/// How often the leader looks after the membership.
const INTERVAL: Duration = Duration::from_millis(500);

impl Membership {
    /// Looks after the membership as long as the node runs, while it leads.
    pub(in crate::raft) async fn tend(self: Arc<Self>) {
        let mut leading_since = None;
        let mut absent = BTreeSet::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let _one = self.changing.lock().await;
            let Some(picture) = self.picture() else {
                leading_since = None;
                continue;
            };
            self.tell_presence(&picture, &mut absent);
            self.tell_transfer().await;
            let leading = *leading_since.get_or_insert_with(Instant::now);
            if picture.joint {
                if let Err(error) = self.finish(&picture).await {
                    tracing::warn!(%error, "the change of the membership was not finished");
                }
                continue; // the picture is another one now
            }
            for (id, node) in picture.nodes.iter().filter(|(id, _)| **id != self.local.id) {
                let done = if self.is_ready(&picture, *id) {
                    tracing::info!(node = node.name, "a learner has caught up and votes from now on");
                    self.promote(&picture, node).await
                } else if self.is_gone(&picture, *id, leading.elapsed()) {
                    tracing::warn!(node = node.name, "a node has been away for too long and is removed");
                    self.take_out(&picture, node, false).await
                } else {
                    continue;
                };
                if let Err(error) = done {
                    tracing::warn!(%error, node = node.name, "the membership was not changed");
                }
                break; // the picture is another one now
            }
        }
    }

    /// One line when a node goes, and one when it is back.
    fn tell_presence(&self, picture: &Picture, absent: &mut BTreeSet<u64>) {
        for (id, node) in &picture.nodes {
            if picture.present(*id, self.local.id) {
                if absent.remove(id) {
                    tracing::info!(node = node.name, "a node is back");
                }
            } else if absent.insert(*id) {
                tracing::warn!(node = node.name, address = node.peer, "a node does not answer");
            }
        }
        absent.retain(|id| picture.nodes.contains_key(id));
    }

    fn is_ready(&self, picture: &Picture, id: u64) -> bool {
        let lacking = picture.last.saturating_sub(picture.matched.get(&id).copied().unwrap_or(0));
        self.policy.auto_promote
            && !picture.voters.contains(&id)
            && picture.voters.len() < Limits::MOST_VOTERS
            && lacking <= CAUGHT_UP
            && picture.present(id, self.local.id)
    }

    fn is_gone(&self, picture: &Picture, id: u64, leading: Duration) -> bool {
        let Some(limit) = self.policy.remove_after else { return false };
        let silent = picture.silent.get(&id).copied().unwrap_or(leading).min(leading);
        let spare = picture.voters.len() > self.policy.expect || !picture.voters.contains(&id);
        silent >= limit && spare && picture.stands_without(id, self.local.id)
    }
}
