//! How a change is made: as a Raft membership entry, and as an entry of the machine's that says what happened and why.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::{
    ChangeMembers,
    errors::{ClientWriteError, RaftError},
};

use super::{
    super::{encoding::MemberNode, propose::propose},
    change::ChangeError,
    leader::Membership,
    picture::{CAUGHT_UP, Picture},
};
use crate::{
    model::{Command, Limits, MemberEvent, Refusal, Reply},
    sequencer::{NodeAddress, SequencerError},
};

/// How long a change of the membership may take.
pub(super) const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

impl Membership {
    pub(super) async fn add(&self, node: &NodeAddress) -> Result<(), ChangeError> {
        self.commit(ChangeMembers::AddNodes([(node.id, Arc::new(node.clone()))].into())).await?;
        self.must_record(node, MemberEvent::Joined).await
    }

    pub(super) async fn moved(&self, node: &NodeAddress) -> Result<(), ChangeError> {
        self.commit(ChangeMembers::SetNodes([(node.id, Arc::new(node.clone()))].into())).await?;
        self.must_record(node, MemberEvent::Moved { peer: node.peer.clone() }).await
    }

    pub(super) async fn promote(&self, picture: &Picture, node: &NodeAddress) -> Result<(), ChangeError> {
        if picture.voters.len() >= Limits::MOST_VOTERS {
            return Err(ChangeError::Refused(format!(
                "there are {} voters already, which is the most; `cluster remove` another one first",
                picture.voters.len()
            )));
        }
        let lacking = picture.last.saturating_sub(picture.matched.get(&node.id).copied().unwrap_or(0));
        if lacking > CAUGHT_UP || !picture.present(node.id, self.local.id) {
            return Err(ChangeError::Refused(format!("{} has not caught up: it lacks {lacking} entries", node.name)));
        }
        self.commit(ChangeMembers::AddVoterIds([node.id].into())).await?;
        self.must_record(node, MemberEvent::Promoted).await
    }

    /// Ends a change of the voters that an earlier leader began: otherwise it would never end.
    pub(super) async fn finish(&self, picture: &Picture) -> Result<(), ChangeError> {
        tracing::info!("finishing a change of the membership that another leader began");
        self.commit(ChangeMembers::AddVoterIds(BTreeSet::new())).await?;
        for node in picture.entering.iter().filter_map(|id| picture.nodes.get(id)) {
            self.must_record(node, MemberEvent::Promoted).await?;
        }
        Ok(())
    }

    pub(super) async fn take_out(
        &self,
        picture: &Picture,
        node: &NodeAddress,
        by_operator: bool,
    ) -> Result<(), ChangeError> {
        // Said first: a node that is out must not come back in between.
        self.must_record(node, MemberEvent::Removed { by_operator }).await?;
        let id = [node.id].into();
        let change = if picture.voters.contains(&node.id) {
            ChangeMembers::RemoveVoters(id)
        } else {
            ChangeMembers::RemoveNodes(id)
        };
        self.commit(change).await
    }

    async fn commit(&self, change: ChangeMembers<u64, MemberNode>) -> Result<(), ChangeError> {
        let what = change.to_string();
        let changed = tokio::time::timeout(CHANGE_TIMEOUT, self.raft.change_membership(change, false)).await;
        match changed {
            Ok(Ok(_)) => {
                tracing::info!(change = what, "the membership changed");
                Ok(())
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ChangeError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ChangeError::Refused(error.to_string())),
            Ok(Err(RaftError::Fatal(fatal))) => Err(ChangeError::Unknown(fatal.to_string())),
            Err(_) => Err(ChangeError::Unknown(format!("no majority agreed within {CHANGE_TIMEOUT:?}"))),
        }
    }

    pub(super) async fn must_record(&self, node: &NodeAddress, event: MemberEvent) -> Result<(), ChangeError> {
        self.record(node, event).await?.map_err(|refusal| ChangeError::Refused(refusal.to_string()))
    }

    /// Orders an event, and gives the machine's answer to it.
    async fn record(&self, node: &NodeAddress, event: MemberEvent) -> Result<Result<(), Refusal>, SequencerError> {
        let time_ms = self.view.clock().now_ms();
        let command = Command::Member { time_ms, node: node.id, name: node.name.clone(), event };
        match propose(&self.raft, &command).await?.reply {
            Reply::Member(answer) => Ok(answer),
            other => Err(SequencerError::Unknown(format!("the machine answered {other:?}"))),
        }
    }

    /// All nodes hash their state at the index that this gives.
    pub(in crate::raft) async fn checkpoint(&self) -> Result<u64, ChangeError> {
        let time_ms = self.view.clock().now_ms();
        Ok(propose(&self.raft, &Command::Checkpoint { time_ms }).await?.index)
    }
}
