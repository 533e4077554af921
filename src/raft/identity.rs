//! Who a node is, written beside its log: a random id that is never reused, the cluster that it belongs to, and what
//! its log must hold. A node whose disk was lost gets another id, so it can never vote twice as the node that it was.

mod error;
mod record;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub use self::error::IdentityError;
use self::record::Record;
pub(super) use self::record::{Held, Promise};
use crate::{
    env::{self, Env},
    sequencer::NodeAddress,
    store::HaematiteStore,
};

/// The parts of a node's directory.
const IDENTITY: &str = "identity.json";
pub(super) const LOG: &str = "raft";
pub(super) const STATE: &str = "state";

/// A node's identity; cloning shares it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    /// None: not kept on disk (simulations keep the value itself).
    path: Option<PathBuf>,
    record: RwLock<Record>,
    /// Held while the file is written: nobody else waits for the disk.
    changing: Mutex<()>,
    /// Random for every process.
    incarnation: u64,
    /// As [`Record::withheld`] says.
    withheld: watch::Sender<Option<String>>,
}

impl Identity {
    /// Reads the identity in a directory, or makes one and writes it durably. A node without a name is called what
    /// its machine is called when it starts for the first time.
    ///
    /// # Errors
    /// When the file cannot be read or written, or belongs to another node.
    pub fn open(dir: &Path, node_name: Option<&str>, env: &Env) -> Result<Self, IdentityError> {
        let path = dir.join(IDENTITY);
        let record = match fs::read(&path) {
            Ok(bytes) => {
                Record::decode(&bytes).map_err(|detail| IdentityError::Corrupt { path: path.clone(), detail })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(rest) = remains(dir) {
                    let detail = format!("is missing, but {} is there", rest.display());
                    return Err(IdentityError::Lost { path, detail });
                }
                let record = Record::fresh(node_name.unwrap_or(&env::hostname()), env);
                record.write(&path)?;
                record
            }
            Err(source) => return Err(IdentityError::Io { action: "read", path, source }),
        };
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
        let withheld = watch::Sender::new(record.withheld());
        let (record, changing) = (RwLock::new(record), Mutex::default());
        Self { inner: Arc::new(Inner { path, record, changing, incarnation, withheld }) }
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

    /// Why nobody can tell whether the state is right; none when it is, as far as anybody knows.
    pub(super) fn doubt(&self) -> Option<String> {
        self.inner.record.read().doubt.clone()
    }

    /// Why the state must be neither shown nor changed; none when it may.
    pub(super) fn withheld(&self) -> watch::Receiver<Option<String>> {
        self.inner.withheld.subscribe()
    }

    /// Writes down, durably, that nobody can tell whether the state is right, or that it is right again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn set_doubt(&self, reason: Option<String>) -> Result<(), IdentityError> {
        self.change(|record| record.doubt = reason)
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

    /// What the log must hold; none before the node's first process has begun to write it.
    pub(super) fn held(&self) -> Option<Held> {
        self.inner.record.read().log
    }

    /// Writes down, durably, what the log must hold from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) async fn hold(&self, held: Held) -> Result<(), IdentityError> {
        if self.inner.path.is_none() {
            return self.change(|record| record.log = Some(held));
        }
        let (identity, path) = (self.clone(), self.path_of(IDENTITY));
        let written = tokio::task::spawn_blocking(move || identity.change(|record| record.log = Some(held))).await;
        let failed = |source| IdentityError::Io { action: "write", path, source: io::Error::other(source) };
        written.unwrap_or_else(|error: tokio::task::JoinError| Err(failed(error)))
    }

    /// Where a part of the node's directory is.
    pub(super) fn path_of(&self, part: &str) -> PathBuf {
        let dir = self.inner.path.as_deref().and_then(Path::parent);
        dir.map_or_else(|| PathBuf::from(part), |dir| dir.join(part))
    }

    /// Looks whether the state is there that a node has once its log has begun.
    ///
    /// # Errors
    /// [`IdentityError::Lost`] where it is not.
    pub fn check_state(&self) -> Result<(), IdentityError> {
        let path = self.path_of(STATE);
        if self.held().is_none() || HaematiteStore::is_there(&path) {
            return Ok(());
        }
        Err(IdentityError::Lost { path, detail: "holds no state, but this node had one".to_owned() })
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), IdentityError> {
        let _one = self.inner.changing.lock();
        let present = self.inner.record.read().clone();
        let mut changed = present.clone();
        change(&mut changed);
        if changed == present {
            return Ok(());
        }
        if let Some(path) = &self.inner.path {
            changed.write(path)?;
        }
        let withheld = changed.withheld();
        *self.inner.record.write() = changed;
        self.inner.withheld.send_if_modified(|present| std::mem::replace(present, withheld.clone()) != withheld);
        Ok(())
    }
}

/// What is left of a node in a directory without an identity.
fn remains(dir: &Path) -> Option<PathBuf> {
    let (log, state) = (dir.join(LOG), dir.join(STATE));
    let is_log = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "log");
    if fs::read_dir(&log).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_log))) {
        return Some(log);
    }
    HaematiteStore::is_there(&state).then_some(state)
}
