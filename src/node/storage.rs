//! What a node keeps on its disk, and how it is opened: the directories' layout is decided here.

use std::{path::PathBuf, sync::Arc};

use super::error::NodeError;
use crate::{
    config::ServerConfig,
    env::Env,
    files,
    keys::{KeyDirectory, KeyFiles, KeyMemory},
    raft::{
        Identity,
        log::{DiskLog, LogStore},
    },
    store::{DurableStore, HaematiteConfig, HaematiteStore},
};

/// Where a node keeps its state.
pub struct Storage {
    /// The replicated log.
    pub log: Arc<dyn LogStore>,
    /// The applied state.
    pub store: Arc<dyn DurableStore>,
    /// Who the node is.
    pub identity: Identity,
    /// Where the files of the idempotency keys are that memory does not hold.
    pub(super) keys: Arc<dyn KeyFiles>,
    /// The directory of all of it; none where there is none.
    pub(super) dir: Option<PathBuf>,
    /// Where the node notes how far its search for damage is.
    pub(super) scrub: Option<PathBuf>,
    /// A directory that goes with the node.
    pub(super) temporary: Option<PathBuf>,
}

impl Storage {
    /// Opens what a node keeps on disk. Blocks.
    ///
    /// # Errors
    /// When the directory is in use, belongs to another node, or holds what cannot be read.
    pub fn open(config: &ServerConfig, env: &Env) -> Result<Self, NodeError> {
        let (dir, temporary) = match &config.persistence_path {
            Some(dir) => (dir.clone(), None),
            None if config.ephemeral_node => {
                let dir = std::env::temp_dir().join(format!("liminal-{:016x}", env.random.next_u64()));
                tracing::info!(dir = %dir.display(), "the node's state is in a temporary directory");
                (dir.clone(), Some(dir))
            }
            None => return Err(NodeError::NoDirectory),
        };
        let unusable = |reason: std::io::Error| NodeError::Directory { path: dir.clone(), reason: reason.to_string() };
        let raft = dir.join("raft");
        files::private_dir(&dir).and_then(|()| std::fs::create_dir_all(&raft)).map_err(unusable)?;
        // The log's lock keeps a second process out of the whole directory.
        let log = DiskLog::open(&raft, config.raft.log_cache_bytes).map_err(unusable)?;
        let name = config.cluster.as_ref().map_or("n1", |cluster| cluster.node_name.as_str());
        let identity = Identity::open(&dir, Some(name).filter(|name| !name.is_empty()), env)?;
        identity.check_state()?;
        let store_config = HaematiteConfig {
            fold_bytes: config.store.memtable_bytes,
            fold_interval: config.store.fold_interval,
            cache_bytes: config.store.cache_bytes,
            owner: Some(identity.node_id()),
            ..HaematiteConfig::default()
        };
        let store = HaematiteStore::open(&dir.join("state"), store_config)?;
        let keys = KeyDirectory::open(&dir.join("keys")).map_err(unusable)?;
        let scrub = Some(dir.join("scrub"));
        let (log, store, keys) = (Arc::new(log), Arc::new(store), Arc::new(keys));
        Ok(Self { log, store, identity, keys, dir: Some(dir), scrub, temporary })
    }

    /// Of other parts: for simulations.
    pub fn of(log: Arc<dyn LogStore>, store: Arc<dyn DurableStore>, identity: Identity) -> Self {
        Self { log, store, identity, keys: Arc::new(KeyMemory::default()), dir: None, scrub: None, temporary: None }
    }
}
