//! Nodes that cannot be read, and how they get well.
//!
//! A node is named by the hash of its content, so what another node of the cluster has under that name is what must be
//! here, and nothing else can be taken for it. Whoever meets a node that cannot be read says so here; it is asked for,
//! checked, written beside the bad file and renamed over it. Until then the bad file stays, and the node is on the
//! list of what is damaged. A rename gives the name another inode: a hard link of another state, which shares the bad
//! one, is healed by itself.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use haematite::Hash;

use super::{blocking::blocking, check, database, nodes::Nodes, shared::Shared};
use crate::store::{CheckedParts, Damage, Healing, PartHash, PartSource, StoreError, StoreParts};

/// Nodes that are healed for one read; what it has healed stays so for the next one.
const IN_ONE_READ: usize = 64;
/// How long one read may wait for nodes to be healed; the rest is healed in the background. Whoever reads may keep a
/// snapshot from being installed.
const HEALING: Duration = Duration::from_secs(5);

impl Shared {
    /// Remembers the node that an error is about, to be healed in the background.
    pub(super) fn notice(&self, error: &StoreError) {
        if let StoreError::Damaged { file, part, detail } = error {
            self.damages.meet(file, Hash::from_bytes(*part), detail);
            self.damages.unhealed.notify_one();
        }
    }

    /// Reads off the runtime. A node that cannot be read is healed where that is possible, and the read goes on.
    pub(super) async fn reading<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut give_up = None;
        for _ in 0..IN_ONE_READ {
            match blocking(work.clone()).await {
                Err(StoreError::Damaged { file, part, detail }) => {
                    let give_up = *give_up.get_or_insert_with(|| tokio::time::Instant::now() + HEALING);
                    let healing = self.heal(Path::new(&file), Hash::from_bytes(part), &detail);
                    if !tokio::time::timeout_at(give_up, healing).await.unwrap_or(false) {
                        self.damages.unhealed.notify_one();
                        return Err(StoreError::Damaged { file, part, detail });
                    }
                }
                result => return result,
            }
        }
        blocking(work).await
    }

    /// Gets a node from elsewhere. Whether it can be read now.
    async fn heal(&self, file: &Path, hash: Hash, detail: &str) -> bool {
        if !self.damages.meet(&file.display().to_string(), hash, detail) {
            return false;
        }
        let _turn = self.damages.turn.lock().await;
        let Some(store) = file.parent().and_then(Path::parent).map(Path::to_owned) else { return false };
        let of_file = store.clone();
        if blocking(move || check::read_file(&of_file, &hash).map(drop)).await.is_ok() {
            self.damages.forget(&hash); // whoever had the turn before has healed it
            return true;
        }
        let found = match self.remembered(hash).await {
            Some(bytes) => Some(bytes),
            None => {
                let source = self.damages.source.read().clone();
                match source {
                    Some(source) => source.part(hash.into_bytes()).await,
                    None => None,
                }
            }
        };
        let Some(bytes) = found else {
            self.damages.in_vain(file, &hash, "no other node that answers has it");
            return false;
        };
        match blocking(move || write_node(&store, &hash, &bytes)).await {
            Ok(()) => {
                self.damages.healed.fetch_add(1, Ordering::Relaxed);
                self.damages.forget(&hash);
                tracing::info!(file = %file.display(), "a damaged file of the state was healed");
                true
            }
            Err(error) => {
                self.damages.in_vain(file, &hash, &error.to_string());
                false
            }
        }
    }

    /// A node's file as it would be, if a reader has the node in memory.
    async fn remembered(&self, hash: Hash) -> Option<Bytes> {
        let view = self.state.lock().view.clone()?;
        let packed = blocking(move || {
            let node = view.dir.readers.remembered(&hash).map(|node| node.serialise());
            Ok(node.and_then(|plain| zstd::stream::encode_all(&plain[..], 0).ok()))
        });
        packed.await.ok().flatten().map(Bytes::from)
    }

    /// Forgets a damaged node that the live state needs no longer, or that is well. Gives the file of one that it needs.
    async fn still_damaged(&self, hash: Hash) -> Option<PathBuf> {
        let view = self.state.lock().view.clone()?;
        let needed = blocking(move || {
            let store = database::nodes_dir(&view.dir.path);
            if check::read_file(&store, &hash).is_ok() {
                return Ok(None);
            }
            // Where something else is damaged, too, nobody knows.
            let reached = Nodes::open(&view.dir.path, 1)?.reaches(database::root_node(&view)?, &hash).unwrap_or(true);
            Ok(reached.then(|| hash.node_file_in(&store)))
        });
        let needed = needed.await.ok()?;
        if needed.is_none() {
            self.damages.forget(&hash);
        }
        needed
    }
}

/// Puts a node's file in its place, durably; whatever is there stays until then.
///
/// # Errors
/// [`StoreError::Corrupt`] when the bytes are not those of the node.
pub(super) fn write_node(store: &Path, hash: &Hash, bytes: &[u8]) -> Result<(), StoreError> {
    let path = hash.node_file_in(store);
    if let Err(detail) = check::unpack(hash, bytes) {
        return Err(StoreError::Corrupt { what: format!("what came for {}", path.display()), detail });
    }
    let written = || -> io::Result<()> {
        let prefix = path.parent().unwrap_or(store);
        // As private as haematite makes them.
        match DirBuilder::new().mode(0o700).create(prefix) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => File::open(store)?.sync_all()?,
        }
        // Haematite's own name for what was not finished.
        let temporary = prefix.join(format!(".node-{hash}.tmp"));
        fs::write(&temporary, bytes)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(prefix)?.sync_all()
    };
    written()
        .map_err(|error| StoreError::Failed { action: "write a node", reason: format!("{}: {error}", path.display()) })
}

/// The parts of a store's live state.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl StoreParts for Parts {
    async fn check(&self, from: Bytes, max_bytes: u64) -> Result<CheckedParts, StoreError> {
        let view = self.shared.state.lock().view()?;
        let piece = blocking(move || {
            check::check(&database::nodes_dir(&view.dir.path), database::root_node(&view)?, &from, max_bytes)
        });
        let check::Piece { mut next, bytes, damage } = piece.await?;
        let Some((StoreError::Damaged { file, part, detail }, begin)) = damage else {
            return Ok(CheckedParts { next, bytes, damage: None });
        };
        if self.shared.heal(Path::new(&file), Hash::from_bytes(part), &detail).await {
            next = Some(begin); // and what is reached through it
        }
        Ok(CheckedParts { next, bytes, damage: Some(Damage { file, detail }) })
    }

    async fn part(&self, hash: PartHash) -> Option<Bytes> {
        let view = self.shared.state.lock().view.clone()?;
        let read = blocking(move || check::read_file(&database::nodes_dir(&view.dir.path), &Hash::from_bytes(hash)));
        read.await.ok().map(|(_, bytes)| bytes.into())
    }

    fn heal_from(&self, source: Arc<dyn PartSource>) {
        *self.shared.damages.source.write() = Some(source);
    }

    async fn heal(&self) {
        let known: Vec<(Hash, String)> = {
            let known = self.shared.damages.known.lock();
            known.iter().map(|(hash, known)| (*hash, known.damage.detail.clone())).collect()
        };
        for (hash, detail) in known {
            if let Some(file) = self.shared.still_damaged(hash).await {
                self.shared.heal(&file, hash, &detail).await;
            }
        }
    }

    fn damaged(&self) -> Vec<Damage> {
        self.shared.damages.known.lock().values().map(|known| known.damage.clone()).collect()
    }

    async fn found_damage(&self) {
        self.shared.damages.unhealed.notified().await;
    }

    fn healing(&self) -> Healing {
        Healing { found: self.shared.damages.found.load(Ordering::Relaxed), healed: self.shared.damages.healed() }
    }
}
