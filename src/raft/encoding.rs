//! The types that openraft is instantiated with, and our encodings of what it stores.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{EntryPayload, LogId, Membership, StoredMembership, impls::leader_id_std};
use serde::{Deserialize, Serialize};

use super::log::{LogEntry, LogPosition, StoredVote};
use crate::{codec, model::Reply, sequencer::NodeAddress};

openraft::declare_raft_types!(
    /// One Raft group over encoded commands.
    pub TypeConfig:
        D = EncodedCommand,
        R = Option<Applied>,
        NodeId = u64,
        Node = MemberNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft::impls::TokioRuntime,
);

pub(super) type LogIdOf = openraft::type_config::alias::LogIdOf<TypeConfig>;
type CommittedLeaderIdOf = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
pub(super) type VoteOf = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(super) type EntryOf = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(super) type MembershipOf = Membership<u64, MemberNode>;
/// A node as openraft knows it. It is shared: openraft copies it several times for an entry.
pub(super) type MemberNode = Arc<NodeAddress>;
pub(super) type StoredMembershipOf = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;

/// A command as it is in the log: encoded once, by the leader.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedCommand(pub Bytes);

impl EncodedCommand {
    /// Stands for a command whose bytes are to be had from the log: no command is without any.
    pub(super) fn left_out() -> Self {
        Self(Bytes::new())
    }

    pub(super) fn is_left_out(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The machine's answer, for the node that proposed the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied(pub Reply);

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("applied")
    }
}

/// What the store remembers of the log position that its state comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) applied: Option<LogPosition>,
    pub(super) membership_at: Option<LogPosition>,
    pub(super) membership: Arc<Members>,
}

/// A membership in our own form: voter sets (two while it changes) and every node's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Members {
    configs: Vec<Vec<u64>>,
    nodes: Vec<NodeAddress>,
}

impl Mark {
    pub(super) fn encode(&self) -> Bytes {
        codec::encode_record(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        codec::decode_record("applied mark", bytes).map_err(invalid)
    }

    pub(super) fn log_id(&self) -> Option<LogIdOf> {
        self.applied.map(log_id)
    }

    pub(super) fn stored_membership(&self) -> io::Result<StoredMembershipOf> {
        match self.membership_at {
            Some(at) => Ok(StoredMembership::new(Some(log_id(at)), self.membership.to_membership()?)),
            None => Ok(StoredMembership::default()),
        }
    }
}

/// Makes the marks of one entry after another, which nearly all have the same members.
pub(super) struct Marking {
    membership: StoredMembershipOf,
    members: Arc<Members>,
}

impl Marking {
    pub(super) fn new(membership: StoredMembershipOf) -> Self {
        Self { members: Arc::new(Members::from(membership.membership())), membership }
    }

    pub(super) fn membership(&self) -> &StoredMembershipOf {
        &self.membership
    }

    /// The mark, encoded, of the state at a log position.
    pub(super) fn at(&self, applied: Option<&LogIdOf>) -> Bytes {
        let mark = Mark {
            applied: applied.map(position),
            membership_at: self.membership.log_id().as_ref().map(position),
            membership: self.members.clone(),
        };
        mark.encode()
    }
}

impl From<&MembershipOf> for Members {
    fn from(membership: &MembershipOf) -> Self {
        Self {
            configs: membership.get_joint_config().iter().map(|voters| voters.iter().copied().collect()).collect(),
            nodes: membership.nodes().map(|(_, node)| NodeAddress::clone(node)).collect(),
        }
    }
}

impl Members {
    /// One node, which votes.
    pub(super) fn alone(node: &NodeAddress) -> Self {
        Self { configs: vec![vec![node.id]], nodes: vec![node.clone()] }
    }

    fn to_membership(&self) -> io::Result<MembershipOf> {
        let nodes: BTreeMap<u64, MemberNode> =
            self.nodes.iter().map(|node| (node.id, Arc::new(node.clone()))).collect();
        let configs = self.configs.iter().map(|voters| voters.iter().copied().collect()).collect();
        Membership::new(configs, nodes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

pub(super) fn position(log_id: &LogIdOf) -> LogPosition {
    LogPosition { term: log_id.leader_id.term, index: log_id.index }
}

pub(super) fn log_id(position: LogPosition) -> LogIdOf {
    LogId::new(CommittedLeaderIdOf::new(position.term), position.index)
}

pub(super) fn stored_vote(vote: &VoteOf) -> StoredVote {
    StoredVote { term: vote.leader_id().term, node: vote.leader_id().voted_for, committed: vote.is_committed() }
}

pub(super) fn vote(vote: StoredVote) -> VoteOf {
    if vote.committed { VoteOf::new_committed(vote.term, vote.node) } else { VoteOf::new(vote.term, vote.node) }
}

/// First byte of an entry that holds a membership. Commands begin with their format version, which is never this;
/// an entry without bytes is a leader's first, blank one.
const MEMBERSHIP: u8 = 0xff;

/// An entry as it is on disk and on the wire.
pub(super) fn encode_entry(entry: EntryOf) -> LogEntry {
    let bytes = match entry.payload {
        EntryPayload::Blank => Bytes::new(),
        EntryPayload::Normal(command) => command.0,
        EntryPayload::Membership(membership) => {
            let mut bytes = BytesMut::new();
            bytes.put_u8(MEMBERSHIP);
            bytes.put(codec::encode_record(&Members::from(&membership)));
            bytes.freeze()
        }
    };
    (position(&entry.log_id), bytes)
}

pub(super) fn decode_entry((position, bytes): LogEntry) -> io::Result<EntryOf> {
    let payload = match bytes.first() {
        None => EntryPayload::Blank,
        Some(&MEMBERSHIP) => {
            let members: Members = codec::decode_record("membership", &bytes[1..]).map_err(invalid)?;
            EntryPayload::Membership(members.to_membership()?)
        }
        Some(_) => EntryPayload::Normal(EncodedCommand(bytes)),
    };
    Ok(EntryOf { log_id: log_id(position), payload })
}

fn invalid(error: codec::CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
