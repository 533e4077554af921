//! What operators ask of the cluster, and have it do, through this node.

use std::time::Duration;

use futures::stream::BoxStream;

use super::{
    scrub,
    view::{BEHIND, View},
};
use crate::{
    broker::{BrokerError, NodeAddress},
    grpc::ClusterAdmin,
    http::NodeView as _,
    model::{MemberEvent, MemberLogEntry},
    proto::v1::{
        BackupHead, ClusterEvent, ClusterStatusResponse, NodeHash, NodeHealth, NodeRole, NodeStatus, SnapshotResponse,
        VerifyDeepResponse, VerifyResponse,
    },
    raft::{Backup, Change, ChangeError, NodeState},
};

/// How long the nodes may take to hash their states for a comparison that was asked for.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often they are asked meanwhile.
const VERIFY_POLL: Duration = Duration::from_millis(200);
/// A node that does not answer at all for so long is not waited for.
const VERIFY_SILENT: Duration = Duration::from_secs(3);

#[async_trait::async_trait]
impl ClusterAdmin for View {
    fn ready(&self) -> bool {
        self.unmet().is_empty()
    }

    async fn status(&self) -> Result<ClusterStatusResponse, BrokerError> {
        if let Some(reason) = self.group.refused() {
            return Err(BrokerError::NotAMember { reason });
        }
        let local = self.group.state();
        let members = self.group.members();
        let leader = local.leader;
        let states = members.into_iter().map(|(address, voter)| {
            let (group, local) = (&self.group, &local);
            async move {
                let state =
                    if address.id == local.address.id { Some(local.clone()) } else { group.state_of(&address).await };
                (address, voter, state)
            }
        });
        let states = futures::future::join_all(states).await;
        let commit = states.iter().filter_map(|(_, _, state)| state.as_ref()).map(|state| state.commit).max();
        let name = states.iter().find(|(address, ..)| address.id == leader).map(|(address, ..)| address.name.clone());
        let mut nodes: Vec<NodeStatus> = states
            .into_iter()
            .map(|(address, voter, state)| node_status(&address, voter, leader, state, commit.unwrap_or(0)))
            .collect();
        let clocks = self.group.clocks();
        for node in &mut nodes {
            // Also of nodes that do not answer now.
            let speaks = self.group.speaks(&NodeAddress { id: node.id, ..NodeAddress::default() });
            node.version = speaks.map_or(0, |version| version.0.into());
            node.clock_ahead_ms = clocks.iter().find(|clock| clock.id == node.id).map(|clock| clock.ahead_ms);
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ClusterStatusResponse {
            cluster_id: self.group.cluster_id().unwrap_or_default(),
            leader: name.unwrap_or_default(),
            nodes,
            epoch: self.broker.view().epoch(),
            cluster_version: self.broker.view().version().0.into(),
        })
    }

    async fn change(&self, change: Change) -> Result<String, BrokerError> {
        self.group.change(change).await.map_err(change_error)
    }

    async fn verify(&self) -> Result<VerifyResponse, BrokerError> {
        let index = self.group.checkpoint().await.map_err(change_error)?;
        let members = self.group.members();
        let give_up = tokio::time::Instant::now() + VERIFY_TIMEOUT;
        let hashes = members.into_iter().map(|(address, _)| async move {
            let mut heard = tokio::time::Instant::now();
            // One that answers may have its hash later; one that does not is not there.
            while tokio::time::Instant::now() < give_up && heard.elapsed() < VERIFY_SILENT {
                let own = address.id == self.group.state().address.id;
                let state = if own { Some(self.group.state()) } else { self.group.state_of(&address).await };
                if state.is_some() {
                    heard = tokio::time::Instant::now();
                }
                let found = state.and_then(|state| state.checkpoints.into_iter().find(|found| found.index == index));
                if let Some(checkpoint) = found {
                    return NodeHash { name: address.name, state_hash: checkpoint.hash.to_string() };
                }
                tokio::time::sleep(VERIFY_POLL).await;
            }
            NodeHash { name: address.name, state_hash: String::new() }
        });
        let mut nodes = futures::future::join_all(hashes).await;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(VerifyResponse { index, nodes })
    }

    fn verify_deep(&self, bytes_per_second: u64) -> BoxStream<'static, VerifyDeepResponse> {
        scrub::verify_deep(self.group.clone(), bytes_per_second)
    }

    async fn backup(&self) -> Result<(BackupHead, Backup), BrokerError> {
        if let Some(reason) = self.group.refused() {
            return Err(BrokerError::NotAMember { reason });
        }
        let backup = self.group.backup().await;
        let backup = backup.map_err(|error| self.store_failed(&error))?;
        let head = BackupHead {
            cluster_id: self.group.cluster_id().unwrap_or_default(),
            epoch: self.broker.view().epoch(),
            log_index: backup.log_index,
            state_hash: backup.state_hash.0.to_vec().into(),
            created_ms: self.broker.now_ms(),
            bytes: self.broker.view().store().usage().map_or(0, |usage| usage.live_bytes),
        };
        Ok((head, backup))
    }

    fn events(&self) -> Vec<ClusterEvent> {
        self.broker.view().member_log().into_iter().map(cluster_event).collect()
    }

    async fn snapshot(&self) -> Result<SnapshotResponse, BrokerError> {
        let applied = self.group.cut_log().await;
        let applied = applied.map_err(|reason| self.store_failed(&reason))?;
        Ok(SnapshotResponse { applied, log_entries: self.group.log_entries() })
    }
}

fn change_error(error: ChangeError) -> BrokerError {
    match error {
        ChangeError::Refused(reason) => BrokerError::ChangeRefused { reason },
        ChangeError::NotLeader => BrokerError::NoLeader { waited_ms: 10_000 },
        ChangeError::Unknown(reason) => BrokerError::OutcomeUnknown { reason },
    }
}

fn cluster_event(entry: MemberLogEntry) -> ClusterEvent {
    let (event, detail) = match entry.event {
        MemberEvent::Started { starts, peer, .. } => ("started", format!("at {peer}, start {starts} of its disk")),
        MemberEvent::Joined => ("joined", String::new()),
        MemberEvent::Promoted => ("promoted", String::new()),
        MemberEvent::Moved { peer } => ("moved", format!("to {peer}")),
        MemberEvent::Removed { by_operator: true } => ("removed", String::new()),
        MemberEvent::Removed { by_operator: false } => ("departed", "it had been away for too long".to_owned()),
        MemberEvent::Readmitted => ("readmitted", String::new()),
        MemberEvent::Transferred => ("transferred", "leadership was handed to it".to_owned()),
    };
    ClusterEvent { time_ms: entry.time_ms, node_id: entry.node, node: entry.name, event: event.into(), detail }
}

fn node_status(address: &NodeAddress, voter: bool, leader: u64, state: Option<NodeState>, commit: u64) -> NodeStatus {
    let role = match voter {
        true if address.id == leader => NodeRole::Leader,
        true => NodeRole::Follower,
        false => NodeRole::Learner,
    };
    let lag = state.as_ref().map_or(0, |state| commit.saturating_sub(state.applied));
    let health = match &state {
        None => NodeHealth::Unreachable,
        Some(state) if !state.failure.is_empty() => NodeHealth::Failed,
        Some(state) if !state.unwell.is_empty() => NodeHealth::Unwell,
        Some(_) if lag > BEHIND => NodeHealth::Behind,
        Some(_) => NodeHealth::Ok,
    };
    let checkpoint = state.as_ref().and_then(|state| state.checkpoints.last().cloned());
    NodeStatus {
        name: address.name.clone(),
        id: address.id,
        role: role.into(),
        health: health.into(),
        term: state.as_ref().map_or(0, |state| state.term),
        commit: state.as_ref().map_or(0, |state| state.commit),
        applied: state.as_ref().map_or(0, |state| state.applied),
        lag,
        state_hash: checkpoint.as_ref().map(|checkpoint| checkpoint.hash.to_string()).unwrap_or_default(),
        state_hash_at: checkpoint.map_or(0, |checkpoint| checkpoint.index),
        client_address: address.client.clone(),
        http_address: address.http.clone(),
        peer_address: address.peer.clone(),
        failure: state.map(NodeState::reasons).unwrap_or_default(),
        version: 0, // filled in by whoever has heard of it, and so is the next one
        clock_ahead_ms: None,
    }
}
