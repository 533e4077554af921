//! A backup's two ends: the whole state of a running node at one log index, and a node that begins with that state in a
//! cluster of its own.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    encoding::{Mark, Members},
    formation::cluster_id,
    identity::{Identity, IdentityError},
    intact,
    log::{LogPosition, LogStore, StoredVote},
    snapshot::{Head, Pages, Staging},
};
use crate::{
    machine,
    replica::ReplicaView,
    sequencer::NodeAddress,
    store::{DurableStore, StateHash, StoreError, WriteBatch},
};

/// Plain keys looked at in one go.
const STEP: usize = 1_000;

/// A state on its way out.
pub struct Backup {
    /// The state is that after this log entry.
    pub log_index: u64,
    /// Over the whole state.
    pub state_hash: StateHash,
    pages: Pages,
}

impl Backup {
    /// Takes a view of the state as it is now.
    pub(super) async fn begin(view: &ReplicaView) -> io::Result<Self> {
        let snapshot = view.store().snapshot().await.map_err(io::Error::other)?;
        let head = Head::of(&snapshot)?;
        let log_index = head.mark.applied.map_or(0, |applied| applied.index);
        Ok(Self { log_index, state_hash: snapshot.root_hash(), pages: Pages::new(Arc::clone(&snapshot)) })
    }

    /// The next page; none at the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.pages.next().await
    }
}

/// Why a state cannot be restored. The directory is then to be removed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store refuses it; among others because the hash is another one.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log or the identity cannot be written.
    #[error("cannot write the restored state: {0}")]
    Io(#[from] io::Error),
    /// The identity cannot be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The backup holds no state.
    #[error("the backup's state comes from no log entry")]
    Empty,
}

/// Where a restored state goes.
pub struct Restore {
    /// The empty store.
    pub store: Arc<dyn DurableStore>,
    /// The empty log.
    pub log: Arc<dyn LogStore>,
    /// The fresh identity.
    pub identity: Identity,
    /// Where the node will be.
    pub node: NodeAddress,
    /// The epoch that begins.
    pub epoch: u64,
}

impl Restore {
    /// Takes all pages of a backup whose hash is known, and makes this node the only voter of a new cluster.
    ///
    /// # Errors
    /// When the pages do not add up to that hash, or cannot be written.
    pub async fn run(
        self,
        hash: StateHash,
        mut pages: impl AsyncFnMut() -> io::Result<Option<Bytes>>,
    ) -> Result<(), RestoreError> {
        let mut staging = Staging::begin(&self.store, hash).await?;
        while let Some(page) = pages().await? {
            staging.put(0, page).await?;
        }
        staging.finish().await?;
        self.store.installed().await;
        let mark = match self.store.applied().await? {
            Some(bytes) => Mark::decode(&bytes)?,
            None => Mark::default(),
        };
        let applied = mark.applied.ok_or(RestoreError::Empty)?;
        let mut puts: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        // What is known of nodes is known of the old cluster's.
        puts.extend(self.all(machine::NODES_PREFIX).await?.into_iter().map(|(key, _)| (key, None)));
        let mut histories = Vec::new();
        for prefix in machine::HISTORY_PREFIXES {
            histories.extend(self.all(prefix).await?);
        }
        // A node's id is drawn for each restore, so two restores of one backup are told apart.
        let history = self.identity.node_id() as u32;
        let begun = machine::begin_epoch(self.epoch, history, histories);
        let begun = begun.map_err(|reason| RestoreError::Io(io::Error::other(reason)))?;
        puts.extend(begun.into_iter().map(|(key, value)| (key, Some(value))));
        let node = NodeAddress { id: self.identity.node_id(), ..self.node.clone() };
        let mark = Mark { membership_at: Some(applied), membership: Members::alone(&node).into(), ..mark };
        let batch = WriteBatch { puts, applied: Some(mark.encode()), ..WriteBatch::default() };
        self.store.commit(batch).await?;
        self.store.close().await?;
        self.begin_log(applied).await?;
        self.identity.join(&cluster_id(std::slice::from_ref(&node), 0))?;
        Ok(())
    }

    /// All plain keys that begin so, with their values.
    async fn all(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut all: Vec<(Bytes, Bytes)> = Vec::new();
        loop {
            let after = all.last().map(|(key, _)| key.clone());
            let page = self.store.range(prefix, after.as_deref(), STEP).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The log goes on after the state's entry, in later terms.
    async fn begin_log(&self, applied: LogPosition) -> Result<(), RestoreError> {
        let (sender, voted) = tokio::sync::oneshot::channel();
        let vote = StoredVote { term: applied.term, node: self.identity.node_id(), committed: false };
        let told = Box::new(move |result| drop(sender.send(result)));
        intact::begin(&self.identity, &*self.log).await?;
        self.log.save_vote(vote, told)?;
        self.log.purge(applied)?;
        self.log.save_committed(Some(applied))?;
        voted.await.map_err(io::Error::other)??;
        intact::follow(&self.identity, &*self.log).await?;
        let log = self.log.clone();
        Ok(tokio::task::spawn_blocking(move || log.close()).await.map_err(io::Error::other)??)
    }
}
