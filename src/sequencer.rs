//! What the broker needs from whoever orders commands, the Raft group of a cluster or a single embedded process. It
//! stands between the two, so that neither knows the other.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::model::{Command, Reply};

/// How to reach a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeAddress {
    /// Random and never reused; a node that lost its disk gets another.
    pub id: u64,
    /// What its operator calls it.
    pub name: String,
    /// `host:port` for other nodes.
    pub peer: String,
    /// `host:port` for gRPC clients.
    pub client: String,
    /// `host:port` for HTTP.
    pub http: String,
}

/// Who orders commands now, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// Nobody, or it is not known.
    #[default]
    Unknown,
    /// This node, in this term.
    Local {
        /// Raft term.
        term: u64,
    },
    /// Another node.
    Remote(NodeAddress),
}

/// A command that was committed and applied on this node.
#[derive(Clone, Debug)]
pub struct Proposed {
    /// Its log index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The machine's answer.
    pub reply: Reply,
}

/// Why a command was not ordered, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SequencerError {
    /// This node does not lead: the command was not taken.
    #[error("this node is not the leader")]
    NotLeader,
    /// The node is stopping: the command was not taken.
    #[error("this node is stopping")]
    Stopped,
    /// The log entry would be larger than nodes take from each other: the command was not taken.
    #[error(
        "the log entry would have {bytes} bytes; nodes take at most {limit} from each other, so nothing was stored"
    )]
    TooLarge {
        /// How many it would have.
        bytes: u64,
        /// How many it may have.
        limit: u64,
    },
    /// Leadership was lost, or the core stopped, while the command was on its way: it may yet be committed.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// Orders commands and applies them to the local replica.
#[async_trait]
pub trait Sequencer: Send + Sync + 'static {
    /// Orders a command, with its leader only. Resolves when it is applied here. The order of calls is the order in
    /// the log: the command is taken before the first suspension, so callers may keep several under way.
    async fn propose(&self, command: Command) -> Result<Proposed, SequencerError>;

    /// Who leads.
    fn leader(&self) -> watch::Receiver<Leader>;

    /// With the leader only: the log index that covers everything acknowledged before the call, once a majority
    /// has confirmed that this node still leads.
    async fn read_index(&self) -> Result<u64, SequencerError>;

    /// Why this node's state must be neither shown nor changed; none when it may.
    fn withheld(&self) -> watch::Receiver<Option<String>>;
}

/// A version of the protocol that nodes speak with each other. It has nothing to do with the versions of what is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerVersion(pub u8);

impl PeerVersion {
    /// The oldest one that this build speaks: that of the version before it, so that a cluster is upgraded node by node.
    pub const OLDEST: Self = Self(2);
    /// The newest one.
    pub const NEWEST: Self = Self(3);
    /// That in which brokers say everything by its position, in the encoding of the disk. Since then it is protobuf.
    pub const POSITIONAL: Self = Self(2);

    /// Whether it is that one.
    pub fn is_positional(self) -> bool {
        self == Self::POSITIONAL
    }
}

/// What one broker says to another, as bytes of a version. An answer is of the version of its request.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    /// The version.
    pub version: PeerVersion,
    /// The bytes.
    pub bytes: Bytes,
}

/// Requests of the broker to the brokers of other nodes. Bytes are opaque to the transport.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// One request to the broker of another node, and its answer. Calls to one node may overtake each other.
    ///
    /// # Errors
    /// [`SequencerError::NotLeader`] when the request surely was not delivered, also because that node speaks another
    /// version; `Unknown` when it may have been.
    async fn call(&self, node: &NodeAddress, request: PeerMessage) -> Result<PeerMessage, SequencerError>;

    /// The newest version that a node understands, as far as it is known: it is learned with the connection to it.
    fn version(&self, node: &NodeAddress) -> PeerVersion;

    /// All other nodes of the cluster.
    fn others(&self) -> Vec<NodeAddress>;

    /// This node.
    fn local(&self) -> &NodeAddress;
}
