//! What is known of a store's nodes that cannot be read.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use haematite::Hash;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::store::{Damage, PartSource};

/// Damaged nodes that are remembered; those beyond are met again.
const KNOWN: usize = 4096;
/// A node that nobody had is not asked for again for so long.
const AGAIN: Duration = Duration::from_secs(2);

/// What is known of a store's damaged nodes.
#[derive(Default)]
pub(super) struct Damages {
    pub(super) known: Mutex<BTreeMap<Hash, Known>>,
    pub(super) source: RwLock<Option<Arc<dyn PartSource>>>,
    /// One node at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) found: AtomicU64,
    pub(super) healed: AtomicU64,
    /// After damage that was not healed at once.
    pub(super) unhealed: Notify,
}

pub(super) struct Known {
    pub(super) damage: Damage,
    /// When it was last asked for in vain.
    pub(super) tried: Option<Instant>,
}

impl Damages {
    /// How many nodes were healed so far.
    pub(super) fn healed(&self) -> u64 {
        self.healed.load(Ordering::Relaxed)
    }

    /// Remembers a node. Whether it is worth while to ask for it now.
    pub(super) fn meet(&self, file: &str, hash: Hash, detail: &str) -> bool {
        let mut known = self.known.lock();
        if let Some(known) = known.get(&hash) {
            return known.tried.is_none_or(|tried| tried.elapsed() >= AGAIN);
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        tracing::error!(file, detail, "a file of the state cannot be read");
        if known.len() < KNOWN {
            let damage = Damage { file: file.to_owned(), detail: detail.to_owned() };
            known.insert(hash, Known { damage, tried: None });
        }
        true
    }

    pub(super) fn forget(&self, hash: &Hash) {
        self.known.lock().remove(hash);
    }

    /// Nobody has it. The first time this is an error, later it is known.
    pub(super) fn in_vain(&self, file: &Path, hash: &Hash, reason: &str) {
        let before = self.known.lock().get_mut(hash).and_then(|known| known.tried.replace(Instant::now()));
        if before.is_none() {
            let file = file.display();
            tracing::error!(%file, reason, "a damaged file of the state cannot be healed yet; it is tried again");
        }
        self.unhealed.notify_one();
    }
}
