//! What an operator may have the leader do, and what it refuses to do because nobody would be left to decide anything.

use std::time::Duration;

use super::{
    super::transport::Lane,
    change::{Change, ChangeError},
    leader::Membership,
    picture::Picture,
};
use crate::{model::MemberEvent, proto::raft as proto, sequencer::NodeAddress};

/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Membership {
    /// Does what an operator wants. Returns what was done, for people.
    pub(in crate::raft) async fn change(&self, change: &Change) -> Result<String, ChangeError> {
        let _one = self.changing.lock().await;
        let picture = self.picture().ok_or(ChangeError::NotLeader)?;
        match change {
            Change::Join { node } => self.join(&picture, node).await,
            Change::Promote { name } => {
                let node = picture.named(name)?;
                if picture.voters.contains(&node.id) {
                    return Err(ChangeError::Refused(format!("`{}` is a voter already", node.name)));
                }
                self.promote(&picture, node).await?;
                Ok(format!("{} votes now", node.name))
            }
            Change::Remove { name } => self.remove(&picture, picture.named(name)?).await,
            Change::Transfer { name } => self.transfer(&picture, name).await,
        }
    }

    async fn join(&self, picture: &Picture, wanted: &str) -> Result<String, ChangeError> {
        if let Some(node) = picture.nodes.values().find(|node| node.name == wanted || node.peer == wanted) {
            return Err(ChangeError::Refused(format!("{} is in the cluster already", node.name)));
        }
        let node = self.waiting.find(wanted).map_err(ChangeError::Refused)?;
        if picture.nodes.contains_key(&node.id) {
            return Err(ChangeError::Refused(format!("{} is in the cluster already", node.name)));
        }
        if picture.nodes.values().any(|other| other.name == node.name) {
            let reason = format!("there is another node called {} already: remove it first", node.name);
            return Err(ChangeError::Refused(reason));
        }
        self.must_record(&node, MemberEvent::Readmitted).await?;
        self.transport.learn(node.id, &node.peer);
        self.add(&node).await?;
        Ok(format!("{} is in the cluster as a learner; it votes when it has caught up", node.name))
    }

    async fn remove(&self, picture: &Picture, node: &NodeAddress) -> Result<String, ChangeError> {
        let voter = picture.voters.contains(&node.id);
        if voter && picture.voters.len() == 1 {
            return Err(ChangeError::Refused(format!("{} is the only voter: nobody would be left", node.name)));
        }
        if voter && !self.rest_answers(picture, node.id).await {
            return Err(ChangeError::Refused(format!(
                "without {} there would be no majority of reachable voters: bring another node back first",
                node.name
            )));
        }
        if node.id == self.local.id {
            // The next leader does it: the caller follows.
            self.hand_over(picture, None).await?;
            return Err(ChangeError::NotLeader);
        }
        self.take_out(picture, node, true).await?;
        Ok(format!("{} is no longer in the cluster, and does not come back by itself", node.name))
    }

    /// Whether a majority of the voters but this one answers now.
    async fn rest_answers(&self, picture: &Picture, without: u64) -> bool {
        let rest: Vec<u64> = picture.voters.iter().copied().filter(|voter| *voter != without).collect();
        let asked = rest.iter().filter(|voter| **voter != self.local.id).filter_map(|voter| picture.nodes.get(voter));
        let answers = asked.map(|node| async move {
            let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
            let answer = tokio::time::timeout(TIMEOUT, client.status(proto::StatusRequest {})).await;
            matches!(answer, Ok(Ok(_)))
        });
        let answered = futures::future::join_all(answers).await.into_iter().filter(|answered| *answered).count();
        answered + usize::from(rest.contains(&self.local.id)) > rest.len() / 2
    }

    async fn transfer(&self, picture: &Picture, name: &str) -> Result<String, ChangeError> {
        let to = if name.is_empty() { None } else { Some(picture.named(name)?) };
        if let Some(to) = to {
            if to.id == self.local.id {
                return Ok(format!("{} leads already", to.name));
            }
            if let Err(reason) = self.can_lead(picture, to).await {
                return Err(ChangeError::Refused(format!("{} cannot lead: {reason}", to.name)));
            }
        }
        let to = self.hand_over(picture, to).await?;
        Ok(format!("{} leads now", to.name))
    }
}
