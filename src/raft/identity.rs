//! Who a node is, written beside its log: a random id that is never reused and the cluster that it belongs to.
//! A node whose disk was lost gets another id, so it can never vote twice as the node that it was.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::{
    env::{self, Env},
    sequencer::NodeAddress,
};

const FORMAT: u32 = 1;

/// A node's identity; cloning shares it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    /// None: not kept on disk (simulations keep the value itself).
    path: Option<PathBuf>,
    record: RwLock<Record>,
    /// Random for every process.
    incarnation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    node_id: u64,
    node_name: String,
    cluster_id: Option<String>,
    /// Who proposed that cluster, where the node agreed to a proposal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founder: Option<NodeAddress>,
    /// Who was to vote in that cluster, by id, and the number that the founder gave the proposal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    members: Vec<u64>,
    #[serde(default, skip_serializing_if = "is_none")]
    number: u64,
    /// How many clusters the node has proposed itself.
    #[serde(default, skip_serializing_if = "is_none")]
    proposals: u64,
    /// How often a process began on this disk.
    #[serde(default)]
    starts: u64,
    /// Why the disk must not be used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condemned: Option<String>,
}

/// What a fresh node agrees to when it is asked to be one of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    /// The cluster that is proposed.
    pub(super) cluster_id: String,
    /// Who proposes it: the only one that can found or withdraw it.
    pub(super) founder: NodeAddress,
    /// Who is to vote in it, by id; empty where an earlier version wrote it down.
    pub(super) members: Vec<u64>,
    /// How many clusters the founder had proposed, this one included.
    pub(super) number: u64,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not ours.
    #[error("{path} is corrupt: {detail}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// How it shows.
        detail: String,
    },
    /// The directory belongs to a node of another name.
    #[error(
        "{path} belongs to node `{found}`, but this node is `{expected}`: mount the right disk, or give the node its own name"
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        expected: String,
    },
}

impl Identity {
    /// Reads the identity in a directory, or makes one and writes it durably. A node without a name is called what
    /// its machine is called when it starts for the first time.
    ///
    /// # Errors
    /// When the file cannot be read or written, or belongs to another node.
    pub fn open(dir: &Path, node_name: Option<&str>, env: &Env) -> Result<Self, IdentityError> {
        let path = dir.join("identity.json");
        let record = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Record>(&bytes)
                .map_err(|error| IdentityError::Corrupt { path: path.clone(), detail: error.to_string() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let record = Record::fresh(node_name.unwrap_or(&env::hostname()), env);
                write(&path, &record)?;
                record
            }
            Err(source) => return Err(IdentityError::Io { action: "read", path, source }),
        };
        if record.format != FORMAT {
            let detail = format!("format {} where this liminal reads format {FORMAT}", record.format);
            return Err(IdentityError::Corrupt { path, detail });
        }
        if let Some(expected) = node_name.filter(|name| **name != record.node_name) {
            return Err(IdentityError::OtherNode { path, found: record.node_name, expected: expected.to_owned() });
        }
        Ok(Self::of(Some(path), record, env))
    }

    /// An identity that lives only as long as the value, for nodes without a disk.
    pub fn in_memory(node_name: &str, env: &Env) -> Self {
        Self::of(None, Record::fresh(node_name, env), env)
    }

    fn of(path: Option<PathBuf>, record: Record, env: &Env) -> Self {
        let incarnation = env.random.next_u64();
        Self { inner: Arc::new(Inner { path, record: RwLock::new(record), incarnation }) }
    }

    /// Counts a start of the node, durably, and tells how many there were.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(&self) -> Result<u64, IdentityError> {
        self.change(|record| record.starts += 1)?;
        Ok(self.starts())
    }

    /// How often a process began on this disk.
    pub fn starts(&self) -> u64 {
        self.inner.record.read().starts
    }

    /// Random for every process.
    pub fn incarnation(&self) -> u64 {
        self.inner.incarnation
    }

    /// The node's id.
    pub fn node_id(&self) -> u64 {
        self.inner.record.read().node_id
    }

    /// The node's name.
    pub fn node_name(&self) -> String {
        self.inner.record.read().node_name.clone()
    }

    /// The cluster that it belongs to; none while it is fresh.
    pub fn cluster_id(&self) -> Option<String> {
        self.inner.record.read().cluster_id.clone()
    }

    /// Why the disk must not be used again; none when it may.
    pub fn condemned(&self) -> Option<String> {
        self.inner.record.read().condemned.clone()
    }

    /// Writes down, durably, that the disk must not be used again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn condemn(&self, reason: &str) -> Result<(), IdentityError> {
        self.change(|record| record.condemned = Some(reason.to_owned()))
    }

    /// The proposal of a cluster that the node agreed to, if it did.
    pub(super) fn promise(&self) -> Option<Promise> {
        let record = self.inner.record.read();
        let (cluster_id, founder) = record.cluster_id.clone().zip(record.founder.clone())?;
        Some(Promise { cluster_id, founder, members: record.members.clone(), number: record.number })
    }

    /// How many clusters the node has proposed.
    pub(super) fn proposals(&self) -> u64 {
        self.inner.record.read().proposals
    }

    /// Proposes a cluster and agrees to it, durably. None when it belongs to one already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn propose(
        &self,
        cluster_id: String,
        founder: NodeAddress,
        members: Vec<u64>,
    ) -> Result<Option<Promise>, IdentityError> {
        let mut promise = Promise { cluster_id, founder, members, number: 0 };
        let mut proposed = false;
        self.change(|record| {
            proposed = record.cluster_id.is_none();
            if proposed {
                record.proposals += 1;
                promise.number = record.proposals;
                record.promise(Some(&promise));
            }
        })?;
        Ok(proposed.then_some(promise))
    }

    /// Belongs to a cluster from now on, durably. False when it belongs to another one already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn join(&self, cluster_id: &str) -> Result<bool, IdentityError> {
        self.belong(cluster_id, None)
    }

    /// Agrees, durably, to belong to a cluster that is proposed. False when it belongs to another one already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn agree(&self, promise: Promise) -> Result<bool, IdentityError> {
        self.belong(&promise.cluster_id.clone(), Some(promise))
    }

    /// Belongs to no cluster again, durably, if this is what the node agreed to last. Only for a proposal that was
    /// withdrawn.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn release(&self, promise: &Promise) -> Result<(), IdentityError> {
        self.change(|record| {
            if record.founder.is_some() && record.cluster_id.as_ref() == Some(&promise.cluster_id) {
                record.promise(None);
            }
        })
    }

    fn belong(&self, cluster_id: &str, promise: Option<Promise>) -> Result<bool, IdentityError> {
        let mut belongs = true;
        self.change(|record| match &record.cluster_id {
            Some(present) if present != cluster_id => belongs = false,
            // Once it was let in, a promise has been kept, and is none any more.
            _ => {
                record.promise(promise.as_ref());
                record.cluster_id = Some(cluster_id.to_owned());
            }
        })?;
        Ok(belongs)
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), IdentityError> {
        let mut record = self.inner.record.write();
        let mut changed = record.clone();
        change(&mut changed);
        if changed == *record {
            return Ok(());
        }
        if let Some(path) = &self.inner.path {
            write(path, &changed)?;
        }
        *record = changed;
        Ok(())
    }
}

impl Record {
    fn fresh(node_name: &str, env: &Env) -> Self {
        // 53 bits, so that programs that read JSON numbers as doubles see the very id; never 0.
        let node_id = (env.random.next_u64() >> 11).max(1);
        Self {
            format: FORMAT,
            node_id,
            node_name: node_name.to_owned(),
            cluster_id: None,
            founder: None,
            members: Vec::new(),
            number: 0,
            proposals: 0,
            starts: 0,
            condemned: None,
        }
    }

    /// Puts a promise, or none, in the place of whatever the node belonged to.
    fn promise(&mut self, promise: Option<&Promise>) {
        self.cluster_id = promise.map(|promise| promise.cluster_id.clone());
        self.founder = promise.map(|promise| promise.founder.clone());
        self.members = promise.map(|promise| promise.members.clone()).unwrap_or_default();
        self.number = promise.map_or(0, |promise| promise.number);
    }
}

// Serde hands it a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(number: &u64) -> bool {
    *number == 0
}

/// Replaces the file durably: a crash leaves the old or the new content.
fn write(path: &Path, record: &Record) -> Result<(), IdentityError> {
    let replace = || -> io::Result<()> {
        let dir = path.parent().ok_or_else(|| io::Error::other("a file without a directory"))?;
        let temporary = path.with_extension("json.new");
        let mut bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
        bytes.push(b'\n');
        fs::write(&temporary, bytes)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(dir)?.sync_all()
    };
    replace().map_err(|source| IdentityError::Io { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_and_belongs_to_one_node_and_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
        assert!(first.join("c1").unwrap());
        let again = Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
        assert_eq!(again.node_id(), first.node_id());
        assert_eq!(again.cluster_id().as_deref(), Some("c1"));
        assert!(!again.join("c2").unwrap());
        let unnamed = Identity::open(dir.path(), None, &Env::real()).unwrap();
        assert_eq!(unnamed.node_name(), "n1");
        let error = Identity::open(dir.path(), Some("n2"), &Env::real()).err().unwrap();
        assert!(error.to_string().contains("belongs to node `n1`"), "{error}");
    }

    #[test]
    fn a_promise_outlives_the_process_and_ends_only_when_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
        let promise = |cluster: &str| Promise {
            cluster_id: cluster.to_owned(),
            founder: NodeAddress::default(),
            members: vec![1, 2],
            number: 3,
        };
        assert!(open().agree(promise("c1")).unwrap());
        assert!(!open().agree(promise("c2")).unwrap());
        open().release(&promise("c2")).unwrap();
        assert_eq!(open().promise(), Some(promise("c1")));
        open().release(&promise("c1")).unwrap();
        assert_eq!((open().promise(), open().cluster_id()), (None, None));
        // A promise is kept once the node was let in.
        assert!(open().agree(promise("c3")).unwrap());
        assert!(open().join("c3").unwrap());
        assert_eq!(open().promise(), None);
        open().release(&promise("c3")).unwrap();
        assert_eq!(open().cluster_id().as_deref(), Some("c3"));
    }

    #[test]
    fn proposals_are_counted_for_good_and_a_node_that_belongs_to_a_cluster_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
        let propose = |cluster: &str| open().propose(cluster.to_owned(), NodeAddress::default(), vec![1]).unwrap();
        let first = propose("c1").unwrap();
        assert_eq!((first.number, open().promise()), (1, Some(first.clone())));
        assert_eq!(propose("c2"), None);
        open().release(&first).unwrap();
        assert_eq!((propose("c2").unwrap().number, open().proposals()), (2, 2));
    }

    #[test]
    fn a_promise_of_an_earlier_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let written = r#"{"format":1,"node_id":7,"node_name":"n1","cluster_id":"c1","founder":{"id":8,"name":"n0",
            "peer":"n0:7301","client":"n0:7101","http":"n0:7201"},"starts":1}"#;
        fs::write(dir.path().join("identity.json"), written).unwrap();
        let promise = Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap().promise().unwrap();
        assert_eq!((promise.founder.id, promise.members, promise.number), (8, vec![], 0));
    }

    #[test]
    fn every_start_is_counted_and_every_process_is_another_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Identity::open(dir.path(), None, &Env::real()).unwrap();
        let (first, second) = (open(), open());
        assert_eq!((first.begin().unwrap(), open().begin().unwrap()), (1, 2));
        assert_ne!(first.incarnation(), second.incarnation());
    }

    #[test]
    fn an_empty_directory_gives_another_id() {
        let id = || Identity::open(tempfile::tempdir().unwrap().path(), Some("n1"), &Env::real()).unwrap().node_id();
        assert_ne!(id(), id());
    }
}
