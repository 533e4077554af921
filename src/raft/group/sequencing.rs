//! What the broker sees of the group: it orders commands, says who leads, and reaches the other nodes' brokers.

use async_trait::async_trait;
use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use tokio::sync::watch;

use super::{super::propose::propose, member::RaftGroup};
use crate::{
    model::Command,
    sequencer::{Leader, NodeAddress, PeerMessage, PeerVersion, Peers, Proposed, Sequencer, SequencerError},
};

#[async_trait]
impl Sequencer for RaftGroup {
    async fn propose(&self, command: Command) -> Result<Proposed, SequencerError> {
        propose(&self.inner.raft, &command).await
    }

    fn leader(&self) -> watch::Receiver<Leader> {
        self.inner.leader.clone()
    }

    async fn read_index(&self) -> Result<u64, SequencerError> {
        match self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(SequencerError::NotLeader),
            Err(RaftError::APIError(error)) => Err(SequencerError::Unknown(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(SequencerError::Stopped),
        }
    }

    fn withheld(&self) -> watch::Receiver<Option<String>> {
        self.inner.identity.withheld()
    }
}

#[async_trait]
impl Peers for RaftGroup {
    async fn call(&self, node: &NodeAddress, request: PeerMessage) -> Result<PeerMessage, SequencerError> {
        self.inner.calls.call(node, request).await
    }

    fn version(&self, node: &NodeAddress) -> PeerVersion {
        self.inner.calls.version(node)
    }

    fn others(&self) -> Vec<NodeAddress> {
        let mut members: Vec<NodeAddress> = self.members().into_iter().map(|(node, _)| node).collect();
        members.retain(|node| node.id != self.inner.local.id);
        members
    }

    fn local(&self) -> &NodeAddress {
        &self.inner.local
    }
}
