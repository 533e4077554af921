//! The writing side of a replica: opened from a store, it applies one command after another.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Instant,
};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{RwLock as AsyncRwLock, watch};

use super::{error::OpenError, health::StoreHealth, shared::Shared, view::ReplicaView};
use crate::{
    env::Clock,
    fanout::Fanout,
    health::Health,
    keys::{ColdKeys, Found, KeyFiles, KeyMemory},
    log_clock::LogClock,
    machine::{CatalogChange, Machine},
    meter::Meters,
    model::{Catalog, Command, Limits, Reply},
    store::{DurableStore, WatchedStore, WriteBatch},
};

/// The writing side. There is one, owned by whoever orders the commands.
pub struct Replica {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shared.keys.stop();
    }
}

impl Replica {
    /// Reads the machine's state back from a store. The node's clock is what the log's time is compared with. Idempotency
    /// keys beyond [`Limits::hot_keys`] take a quarter of the memory of the others.
    ///
    /// # Errors
    /// When the store fails, or holds something else.
    pub async fn open(
        store: Arc<dyn DurableStore>,
        fanout: Arc<Fanout>,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(KeyMemory::default());
        let salt = [0, 1].map(|number| RandomState::new().hash_one(number));
        Self::open_with(store, fanout, limits, clock, files, salt).await
    }

    /// The same with a place for the files of the idempotency keys that memory does not hold, and with a random number
    /// that only this node knows.
    ///
    /// # Errors
    /// When the store fails, or holds something else, or the files cannot be used.
    pub async fn open_with(
        store: Arc<dyn DurableStore>,
        fanout: Arc<Fanout>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        files: Arc<dyn KeyFiles>,
        salt: [u64; 2],
    ) -> Result<Self, OpenError> {
        let health = Health::default();
        let watched = Arc::new(WatchedStore::new(store, health.clone()));
        let store: Arc<dyn DurableStore> = watched.clone();
        let keys = open_keys(files, store.clone(), limits.clone(), salt).await?;
        let machine = keys.restore().await?;
        let clock = LogClock::new(clock);
        clock.applied(machine.time_ms(), machine.ahead_ms());
        let has_calendar = AtomicBool::new(machine.has_calendar());
        let catalog = catalog_of(&machine);
        let due = watch::channel(machine.next_due_ms()).0;
        let security = watch::channel(machine.security().clone()).0;
        let shared = Shared {
            due,
            security,
            store,
            watched,
            fanout,
            wakes: Arc::default(),
            limits,
            clock,
            has_calendar,
            machine: Arc::new(RwLock::new(machine)),
            keys: Arc::new(keys),
            catalog: RwLock::new(Arc::new(catalog)),
            applied: watch::channel(0).0,
            replacing: AsyncRwLock::default(),
            expecting: AtomicUsize::new(0),
            commits: watch::channel(StoreHealth::Working).0,
            health,
            meters: Arc::new(Meters::default()),
            checkpoints: watch::channel(VecDeque::new()).0,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The reading side.
    pub fn view(&self) -> ReplicaView {
        ReplicaView { shared: self.shared.clone() }
    }

    /// Tells readers how far the state is when nothing was applied yet in this process.
    pub fn set_applied(&self, index: u64) {
        self.shared.applied.send_replace(index);
    }

    /// Applies the command at a log index; `mark` is stored with its effects. While the store fails, the very same
    /// effects are tried again until they succeed, and [`ReplicaView::commits`] says so: a command is never skipped.
    pub async fn apply(&mut self, index: u64, command: Command, mark: Bytes) -> Reply {
        let (shared, begun) = (&self.shared, Instant::now());
        let hot = shared.machine.read().hot_keys();
        if shared.keys.must_wait(hot) {
            shared.make_room().await;
        }
        // From here on no key may leave memory before the command is applied: nobody would have looked it up.
        let (asks, hot) = {
            let machine = shared.machine.read();
            (machine.asks(&command), machine.hot_keys())
        };
        let found = if asks.is_empty() { Vec::new() } else { shared.look_up(&asks).await };
        let (reply, mut effects, due, hot) = {
            let mut machine = shared.machine.write();
            for Found { channel, key, seq, digest } in found {
                machine.recall(channel, key, seq, digest);
            }
            let (reply, effects) = machine.apply(command);
            shared.pass_time(&machine);
            let came = machine.hot_keys().saturating_sub(hot);
            shared.keys.cool(&mut machine, came);
            (reply, effects, machine.next_due_ms(), machine.hot_keys())
        };
        effects.writes.applied = Some(mark);
        shared.commit(&effects.writes).await;
        if let Some(security) = effects.security {
            shared.security.send_replace(security);
        }
        if !effects.catalog.is_empty() {
            let mut catalog = Catalog::clone(&shared.catalog.read());
            for change in &effects.catalog {
                match change {
                    CatalogChange::Put(meta) => catalog.insert(meta.clone()),
                    CatalogChange::Rules(rules) => catalog.set_rules(rules.clone()),
                    CatalogChange::Remove(meta) => {
                        catalog.remove(meta.name.as_str());
                        shared.fanout.close(meta.id);
                    }
                }
            }
            *shared.catalog.write() = Arc::new(catalog);
        }
        shared.wakes.applied(&effects.consumers, &effects.deliveries);
        for (channel, batch) in effects.deliveries {
            if shared.fanout.publish(channel, batch) {
                shared.meters.fan_out.since(begun);
            }
        }
        if effects.checkpoint {
            shared.checkpoint(index);
        }
        shared.announce_due(due);
        shared.applied.send_replace(index);
        shared.keys.tend(hot, &shared.machine);
        shared.meters.apply.since(begun);
        reply
    }

    /// Records that an entry without a command (a membership change, a leader's first entry) was applied.
    pub async fn skip(&mut self, index: u64, mark: Bytes) {
        let writes = WriteBatch { applied: Some(mark), ..Default::default() };
        self.shared.commit(&writes).await;
        self.shared.applied.send_replace(index);
    }
}

async fn open_keys(
    files: Arc<dyn KeyFiles>,
    store: Arc<dyn DurableStore>,
    limits: Limits,
    salt: [u64; 2],
) -> Result<ColdKeys, OpenError> {
    let is_disk = files.is_disk();
    let open = move || ColdKeys::open(files, store, &limits, salt);
    let opened =
        if is_disk { tokio::task::spawn_blocking(open).await.map_err(std::io::Error::other).flatten() } else { open() };
    opened.map_err(|error| OpenError::Keys(error.to_string()))
}

pub(super) fn catalog_of(machine: &Machine) -> Catalog {
    let mut catalog = Catalog::default();
    for (meta, _) in machine.channels() {
        catalog.insert(meta.clone());
    }
    catalog.set_rules(machine.rules().clone());
    catalog
}
