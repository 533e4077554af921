//! Orders one command on this node, if it leads: what the broker proposes, and what the group itself writes down.

use openraft::{errors::ClientWriteError, impls::ProgressResponder, raft::ClientWriteResult};

use super::{
    encoding::{EncodedCommand, TypeConfig},
    sizes::MAX_MESSAGE,
    types::Raft,
};
use crate::{
    codec,
    model::Command,
    replica::ReplicaView,
    sequencer::{PeerVersion, Proposed, SequencerError},
};

/// Bytes of one command: as much as a message takes, with room for what is around it.
const MAX_COMMAND: usize = MAX_MESSAGE - (1 << 20);

/// Orders a command on this node, if it leads and the cluster has the version that the command needs.
pub(super) async fn propose(raft: &Raft, view: &ReplicaView, command: &Command) -> Result<Proposed, SequencerError> {
    let needs = command.needs();
    // Most commands are as old as any cluster, and do not wait for what is applied now.
    if needs > PeerVersion::UNWRITTEN {
        // It only rises, so that it is still there where the command is applied.
        let cluster = view.version();
        if needs > cluster {
            return Err(SequencerError::NotUpgraded { needs, cluster });
        }
    }
    order(raft, command).await
}

/// Raises the cluster's version, if this node leads. Its caller has seen that all nodes speak it.
pub(super) async fn raise(raft: &Raft, time_ms: u64, version: PeerVersion) -> Result<Proposed, SequencerError> {
    order(raft, &Command::RaiseVersion { time_ms, version }).await
}

async fn order(raft: &Raft, command: &Command) -> Result<Proposed, SequencerError> {
    let encoded = EncodedCommand(codec::encode_command(command));
    if encoded.0.len() > MAX_COMMAND {
        // In the log, it and all behind it could never be sent to another node.
        return Err(SequencerError::TooLarge { bytes: encoded.0.len() as u64, limit: MAX_COMMAND as u64 });
    }
    let (responder, applied) = ProgressResponder::<TypeConfig, ClientWriteResult<TypeConfig>>::complete_only();
    if raft.client_write_ff(encoded, Some(responder)).await.is_err() {
        return Err(SequencerError::Stopped);
    }
    match applied.await {
        Ok(Ok(response)) => {
            let reply = response.data.map(|applied| applied.0);
            let reply = reply.ok_or_else(|| SequencerError::Unknown("the command was not applied as one".into()))?;
            Ok(Proposed { index: response.log_id.index, term: response.log_id.leader_id.term, reply })
        }
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(SequencerError::NotLeader),
        Ok(Err(error)) => Err(SequencerError::Unknown(error.to_string())),
        Err(_) => Err(SequencerError::Unknown("the Raft core stopped".into())),
    }
}
