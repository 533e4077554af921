//! Lets nodes in: what the leader asks of a node whose process has begun, and what it writes down of it.
//!
//! Two processes may not run on copies of one disk, and an old copy of a disk may not take part at all.

use std::{sync::Arc, time::Duration};

use tonic::Status;

use super::{
    super::{handshake::Bond, wire::from_address, witness},
    change::ChangeError,
    leader::Membership,
};
use crate::{model::MemberEvent, proto::raft as proto, sequencer::NodeAddress};

/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node that comes back waits for its start to be in the logs of the others. Without it they could take an
/// older copy of its disk for its own one day; but it may be needed for the very majority that commits.
const SPREAD: Duration = Duration::from_millis(500);
/// How often it is looked.
const SPREAD_POLL: Duration = Duration::from_millis(10);

impl Membership {
    /// A node's process has begun and wants to take part. A voter that comes back may be needed for the very majority
    /// that commits, so what is decided about it is decided from what is applied, and written down afterwards.
    pub(in crate::raft) async fn announce(
        self: &Arc<Self>,
        request: proto::AnnounceRequest,
        bond: Option<Bond>,
    ) -> Result<proto::AnnounceResponse, Status> {
        let not_leader = || Status::unavailable("this node does not lead");
        let node = request.node.map(from_address).ok_or_else(|| Status::invalid_argument("nobody announces itself"))?;
        let picture = self.picture().ok_or_else(not_leader)?;
        if picture.nodes.values().any(|other| other.name == node.name && other.id != node.id) {
            let name = &node.name;
            return Err(Status::failed_precondition(format!(
                "there is a node `{name}` with another id already: if that one's disk was lost, remove it with \
                 `liminal cluster remove {name}`, and this one joins in its place; else give this node another name"
            )));
        }
        let known = picture.nodes.get(&node.id).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.peer != node.peer && node.id != self.local.id) {
            self.refuse_a_copy(known, request.incarnation).await?;
        }
        let old_copy = |why: &str| Status::data_loss(witness::old_copy(&node.name, why));
        let last = request.last_log_id.map_or(0, |id| id.index);
        let matched = picture.matched.get(&node.id).copied().unwrap_or(0);
        if matched > last && node.id != self.local.id {
            // One that takes part gets entries all the time: what it holds now counts.
            let now = if request.takes_part { self.ends_at(&node, request.incarnation).await? } else { Some(last) };
            if let Some(now) = now.filter(|now| *now < matched) {
                return Err(old_copy(&witness::ends_early(now, matched)));
            }
        }
        let record = self.view.member(node.id).unwrap_or_default();
        if record.removed {
            self.waiting.refused(&node);
            return Err(Status::failed_precondition(format!(
                "the node was removed from the cluster: `liminal cluster join {}` lets it in again",
                node.name
            )));
        }
        if let Err(error) = self.check_version(&node) {
            return Err(Status::failed_precondition(error.to_string()));
        }
        let again = self.knows_start(node.id, request.starts, request.incarnation);
        if let Some(why) = self.witness.starts_again(node.id, request.starts, request.incarnation) {
            return Err(old_copy(&why));
        }
        // Whoever has started before was let in before, by an invitation, an operator or with the cluster.
        if self.policy.by_invitation && known.is_none() && self.view.member(node.id).is_none() {
            self.check_invitation(&node, request.join.as_ref(), bond).await?;
        }
        self.transport.learn(node.id, &node.peer);
        let started =
            MemberEvent::Started { starts: request.starts, incarnation: request.incarnation, peer: node.peer.clone() };
        if known.is_some() {
            let (this, id) = (self.clone(), node.id);
            tokio::spawn(async move {
                if let Err(error) = this.settle(&node, known.as_ref(), started, again).await {
                    tracing::debug!(%error, node = node.name, "a start was not written down");
                }
            });
            let spread = self.spread(id, request.starts, request.incarnation);
            // Or not: then those that are here know of it.
            let _ = tokio::time::timeout(SPREAD, spread).await;
        } else {
            let settled = self.settle(&node, None, started, again).await;
            settled.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        let cluster_id = (self.cluster_id)().ok_or_else(not_leader)?;
        Ok(proto::AnnounceResponse { cluster_id })
    }

    /// Waits until all other voters that are here have a node's start in their logs.
    async fn spread(&self, node: u64, starts: u64, incarnation: u64) {
        let mut end = None;
        loop {
            let Some(picture) = self.picture() else { return };
            if end.is_none() && self.knows_start(node, starts, incarnation) {
                end = Some(picture.last);
            }
            let has_it = |voter: &u64| {
                *voter == self.local.id
                    || *voter == node
                    || !picture.present(*voter, self.local.id)
                    || picture.matched.get(voter).copied() >= end
            };
            if end.is_some() && picture.voters.iter().all(has_it) {
                return;
            }
            tokio::time::sleep(SPREAD_POLL).await;
        }
    }

    /// Writes down that a node was let in.
    async fn settle(
        &self,
        node: &NodeAddress,
        known: Option<&NodeAddress>,
        started: MemberEvent,
        again: bool,
    ) -> Result<(), ChangeError> {
        let _one = self.changing.lock().await;
        if !again {
            self.must_record(node, started).await?;
        }
        match known {
            None => self.add(node).await,
            Some(known) if known != node => self.moved(node).await,
            Some(_) => Ok(()),
        }
    }

    /// Where the log of a running node ends now; none when a node of an earlier build does not say so.
    async fn ends_at(&self, node: &NodeAddress, incarnation: u64) -> Result<Option<u64>, Status> {
        let mut client = self.transport.client_of_anyone(&node.peer);
        let asked = tokio::time::timeout(TIMEOUT, client.hello(proto::HelloRequest::default())).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer.into_inner(),
            _ => return Err(Status::unavailable(format!("{} does not say where its log ends", node.peer))),
        };
        if answer.node.is_none_or(|found| found.id != node.id) || answer.incarnation != incarnation {
            return Err(Status::unavailable(format!("another process answers at {}", node.peer)));
        }
        Ok(answer.last_log_id.map(|last| last.index))
    }

    /// Two processes may not run on copies of one disk: the one that is there already stays.
    async fn refuse_a_copy(&self, known: &NodeAddress, incarnation: u64) -> Result<(), Status> {
        let mut client = self.transport.client_of_anyone(&known.peer);
        let asked = client.hello(proto::HelloRequest::default());
        let Ok(Ok(answer)) = tokio::time::timeout(TIMEOUT, asked).await else { return Ok(()) };
        let answer = answer.into_inner();
        let there = answer.node.is_some_and(|node| node.id == known.id) && answer.incarnation != incarnation;
        if !there {
            return Ok(());
        }
        Err(Status::data_loss(format!(
            "node `{}` runs at {} already: this is a copy of its disk. Stop one of the two, and start the other again \
             with an empty directory if both are to stay",
            known.name, known.peer
        )))
    }
}
