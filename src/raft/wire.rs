//! Between openraft's messages and the peers' protocol.

use std::io;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse};
use tonic::Status;

use super::{
    encoding::{EntryOf, LogIdOf, TypeConfig, VoteOf, decode_entry, encode_entry, log_id, position, stored_vote, vote},
    log::LogPosition,
    scrub::ScrubReport,
};
use crate::{proto::raft as wire, replica::Checkpoint, sequencer::NodeAddress, store::StateHash};

pub(super) fn to_log_id(id: &LogIdOf) -> wire::LogId {
    position_to_log_id(position(id))
}

pub(super) fn position_to_log_id(position: LogPosition) -> wire::LogId {
    wire::LogId { term: position.term, index: position.index }
}

pub(super) fn from_log_id(id: wire::LogId) -> LogIdOf {
    log_id(LogPosition { term: id.term, index: id.index })
}

pub(super) fn to_vote(vote: &VoteOf) -> wire::Vote {
    let stored = stored_vote(vote);
    wire::Vote { term: stored.term, node: stored.node, committed: stored.committed }
}

pub(super) fn from_vote(given: Option<wire::Vote>) -> Result<VoteOf, Status> {
    let given = given.ok_or_else(|| Status::invalid_argument("a message without its vote"))?;
    Ok(vote(super::log::StoredVote { term: given.term, node: given.node, committed: given.committed }))
}

pub(super) fn to_vote_request(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(to_vote(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(to_log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn from_vote_request(request: wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let mut given = VoteRequest::new(from_vote(request.vote)?, request.last_log_id.map(from_log_id));
    given.leadership_transfer = request.leadership_transfer;
    Ok(given)
}

pub(super) fn to_vote_response(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(to_vote(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(to_log_id),
    }
}

pub(super) fn from_vote_response(response: wire::VoteResponse) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse::new(from_vote(response.vote)?, response.last_log_id.map(from_log_id), response.granted))
}

pub(super) fn to_append(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    let entry = |entry: EntryOf| {
        let id = to_log_id(&entry.log_id);
        wire::Entry { id: Some(id), data: encode_entry(entry).1 }
    };
    wire::AppendRequest {
        vote: Some(to_vote(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(to_log_id),
        entries: request.entries.into_iter().map(entry).collect(),
        leader_commit: request.leader_commit.as_ref().map(to_log_id),
    }
}

pub(super) fn from_append(request: wire::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let entry = |entry: wire::Entry| -> io::Result<EntryOf> {
        let id = entry.id.ok_or_else(|| io::Error::other("an entry without its id"))?;
        decode_entry((position(&from_log_id(id)), entry.data))
    };
    Ok(AppendEntriesRequest {
        vote: from_vote(request.vote)?,
        prev_log_id: request.prev_log_id.map(from_log_id),
        entries: request
            .entries
            .into_iter()
            .map(entry)
            .collect::<io::Result<_>>()
            .map_err(|error| Status::invalid_argument(error.to_string()))?,
        leader_commit: request.leader_commit.map(from_log_id),
    })
}

pub(super) fn to_append_response(result: &StreamAppendResult<TypeConfig>, awaited: bool) -> wire::AppendResponse {
    use wire::append_response::Outcome;
    let outcome = match result {
        Ok(matched) => Outcome::Matched(wire::Matched { id: matched.as_ref().map(to_log_id) }),
        Err(StreamAppendError::Conflict(id)) => Outcome::Conflict(to_log_id(id)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(to_vote(vote)),
    };
    wire::AppendResponse { outcome: Some(outcome), awaited }
}

pub(super) fn from_append_response(response: wire::AppendResponse) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use wire::append_response::Outcome;
    Ok(match response.outcome.ok_or_else(|| Status::internal("an append answer without an outcome"))? {
        Outcome::Matched(matched) => Ok(matched.id.map(from_log_id)),
        Outcome::Conflict(id) => Err(StreamAppendError::Conflict(from_log_id(id))),
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(from_vote(Some(vote))?)),
    })
}

pub(super) fn to_address(node: &NodeAddress) -> wire::NodeAddress {
    wire::NodeAddress {
        id: node.id,
        name: node.name.clone(),
        peer: node.peer.clone(),
        client: node.client.clone(),
        http: node.http.clone(),
    }
}

pub(super) fn from_address(node: wire::NodeAddress) -> NodeAddress {
    NodeAddress { id: node.id, name: node.name, peer: node.peer, client: node.client, http: node.http }
}

pub(super) fn to_checkpoint(checkpoint: &Checkpoint) -> wire::Checkpoint {
    wire::Checkpoint { index: checkpoint.index, hash: Bytes::copy_from_slice(&checkpoint.hash.0) }
}

pub(super) fn from_checkpoint(checkpoint: &wire::Checkpoint) -> Option<Checkpoint> {
    let hash = <[u8; 32]>::try_from(checkpoint.hash.as_ref()).ok()?;
    Some(Checkpoint { index: checkpoint.index, hash: StateHash(hash) })
}

pub(super) fn to_scrub(report: &ScrubReport, expected_state_bytes: u64) -> wire::ScrubResponse {
    let ScrubReport { pass, running, state_bytes, log_bytes, found, healed, .. } = *report;
    let left = report.left.iter().map(ToString::to_string).collect();
    wire::ScrubResponse { pass, running, state_bytes, log_bytes, found, healed, left, expected_state_bytes }
}
