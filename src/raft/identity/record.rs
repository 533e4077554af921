//! The file `identity.json`: a node's record with a checksum over it, replaced durably.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{super::log::LogPosition, error::IdentityError};
use crate::{env::Env, files, sequencer::NodeAddress};

/// Format 1 had no checksum and said nothing of the log.
const FORMAT: u32 = 2;

/// What a fresh node agrees to when it is asked to be one of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) struct Promise {
    /// The cluster that is proposed.
    pub(in crate::raft) cluster_id: String,
    /// Who proposes it: the only one that can found or withdraw it.
    pub(in crate::raft) founder: NodeAddress,
    /// Who is to vote in it, by id; empty where an earlier version wrote it down.
    pub(in crate::raft) members: Vec<u64>,
    /// How many clusters the founder had proposed, this one included.
    pub(in crate::raft) number: u64,
}

/// What is written down of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) node_id: u64,
    pub(super) node_name: String,
    pub(super) cluster_id: Option<String>,
    /// Who proposed that cluster, where the node agreed to a proposal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) founder: Option<NodeAddress>,
    /// Who was to vote in that cluster, by id, and the number that the founder gave the proposal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<u64>,
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) number: u64,
    /// How many clusters the node has proposed itself.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) proposals: u64,
    /// How often a process began on this disk.
    #[serde(default)]
    pub(super) starts: u64,
    /// Why the disk must not be used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) condemned: Option<String>,
    /// Why nobody can tell whether the state is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) doubt: Option<String>,
    /// What the log must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<Held>,
}

/// What a node's log must hold at least. The last seconds before a crash may be missing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Held {
    /// The newest process that certainly wrote to it.
    pub(in super::super) start: u64,
    /// A committed entry that was on this disk.
    pub(in super::super) committed: Option<LogPosition>,
    /// The term of a vote that was on this disk.
    pub(in super::super) term: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    #[serde(flatten)]
    record: Record,
    /// Over the record as compact JSON.
    #[serde(default)]
    checksum: String,
}

impl Record {
    /// A node that has just come into being.
    pub(super) fn fresh(node_name: &str, env: &Env) -> Self {
        Self {
            // 53 bits, so that programs that read JSON numbers as doubles see the very id; never 0.
            node_id: (env.random.next_u64() >> 11).max(1),
            node_name: node_name.to_owned(),
            cluster_id: None,
            founder: None,
            members: Vec::new(),
            number: 0,
            proposals: 0,
            starts: 0,
            condemned: None,
            doubt: None,
            log: None,
        }
    }

    /// Why the node's state must be neither shown nor changed; none when it may.
    pub(super) fn withheld(&self) -> Option<String> {
        self.condemned.as_ref().or(self.doubt.as_ref()).cloned()
    }

    /// Puts a promise, or none, in the place of whatever the node belonged to.
    pub(super) fn promise(&mut self, promise: Option<&Promise>) {
        self.cluster_id = promise.map(|promise| promise.cluster_id.clone());
        self.founder = promise.map(|promise| promise.founder.clone());
        self.members = promise.map(|promise| promise.members.clone()).unwrap_or_default();
        self.number = promise.map_or(0, |promise| promise.number);
    }

    /// Reads the file's content; an error says what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let File { format, record, checksum } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match format {
            1 if checksum.is_empty() => Ok(record),
            FORMAT if checksum == record.checksum()? => Ok(record),
            1 | FORMAT => Err("its checksum is another one".to_owned()),
            other => Err(format!("it is of format {other}, and this liminal reads formats 1 and {FORMAT}")),
        }
    }

    /// Replaces the file durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let failed = |source: std::io::Error| IdentityError::Io { action: "write", path: path.to_owned(), source };
        let checksum = self.checksum().map_err(|error| failed(std::io::Error::other(error)))?;
        let file = File { format: FORMAT, record: self.clone(), checksum };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| failed(std::io::Error::other(error)))?;
        bytes.push(b'\n');
        files::replace(path, &bytes).map_err(failed)
    }

    fn checksum(&self) -> Result<String, String> {
        serde_json::to_vec(self).map(|bytes| files::checksum(&bytes)).map_err(|error| error.to_string())
    }
}

// Serde hands it a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(number: &u64) -> bool {
    *number == 0
}
