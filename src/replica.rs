//! One node's copy of the replicated state: the machine, its store and the live subscribers, kept in step.
//!
//! Whoever orders commands (the Raft group, or a single process that embeds the broker) hands them to
//! [`Replica::apply`] one after another. Readers look through a [`ReplicaView`].

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{RwLock as AsyncRwLock, RwLockReadGuard, RwLockWriteGuard, watch};

use crate::{
    env::Clock,
    fanout::{Fanout, Wakes},
    health::Health,
    keys::{ColdKeys, Found, KeyFiles, KeyMemory, KeyPlaces, RestoreError},
    log_clock::LogClock,
    machine::{CatalogChange, Consumers, Laggards, LiveKeys, Machine},
    model::{
        Catalog, ChannelId, ChannelMeta, ChannelStats, ClaimInfo, ClaimTotals, Command, Compaction, ConsumerId,
        ConsumerStatus, History, KeyHash, Limits, MemberLogEntry, MemberRecord, NamespaceId, NamespaceInfo,
        NamespaceName, PublishGroup, Refusal, Reply, Retention, SecurityState, StateLimits, Waiting,
    },
    store::{DurableStore, PlainKeys, StateHash, StoreError, WatchedStore},
};

/// How long to wait before a failed commit is tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(20);
/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often a commit that waits is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A commit that waits for longer is no commit that is slow: nothing goes on.
const STALL: Duration = Duration::from_secs(5);

/// Checkpoints that a replica remembers.
const CHECKPOINTS: usize = 8;

/// The writing side. There is one, owned by whoever orders the commands.
pub struct Replica {
    shared: Arc<Shared>,
}

/// The reading side. Cloning is cheap.
#[derive(Clone)]
pub struct ReplicaView {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn DurableStore>,
    /// The same.
    watched: Arc<WatchedStore>,
    fanout: Arc<Fanout>,
    wakes: Arc<Wakes>,
    limits: Limits,
    machine: Arc<RwLock<Machine>>,
    /// The idempotency keys that the machine does not hold.
    keys: Arc<ColdKeys>,
    clock: LogClock,
    /// Whether the log's time ever was anything else than the time of day.
    has_calendar: AtomicBool,
    catalog: RwLock<Arc<Catalog>>,
    applied: watch::Sender<u64>,
    /// Held for writing while another state takes the place of this one, in the store first and then in the machine.
    replacing: AsyncRwLock<()>,
    /// What will wait for an index that is not known yet.
    expecting: AtomicUsize,
    commits: watch::Sender<StoreHealth>,
    health: Health,
    checkpoints: watch::Sender<VecDeque<Checkpoint>>,
    /// All tokens and roles, as they are from the newest entry on that changed them.
    security: watch::Sender<Arc<SecurityState>>,
    /// When the first message that waits is due.
    due: watch::Sender<Option<u64>>,
}

/// Whether the store takes commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    #[default]
    Working,
    /// The newest commit failed and is being tried again, or waits and nothing goes on; the store's own words.
    Failing(String),
    /// The store has ended by itself and will take none in this process.
    Ended(String),
}

impl StoreHealth {
    /// Why commits get nowhere; none while they do.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Working => None,
            Self::Failing(reason) | Self::Ended(reason) => Some(reason),
        }
    }
}

/// The hash of the whole state at one log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log index.
    pub index: u64,
    /// The hash.
    pub hash: StateHash,
}

/// What a replica cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's content makes no sense.
    #[error("the stored state cannot be read: {0}")]
    Corrupt(String),
    /// The idempotency keys that memory does not hold cannot be read or written.
    #[error("idempotency keys: {0}")]
    Keys(String),
}

impl From<RestoreError> for OpenError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Corrupt(reason) => Self::Corrupt(reason),
            RestoreError::Store(error) => Self::Store(error),
            RestoreError::Files(reason) => Self::Keys(reason),
        }
    }
}

/// What was made of a state that is about to take this one's place: see [`Replica::prepare`].
pub struct Prepared(Box<Machine>);

/// Somebody who will wait for an index: see [`ReplicaView::expect`].
pub struct Expecting {
    shared: Arc<Shared>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shared.keys.stop();
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.shared.expecting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Time has passed as far as the machine has come.
    fn pass_time(&self, machine: &Machine) {
        self.clock.applied(machine.time_ms(), machine.ahead_ms());
        self.has_calendar.store(machine.has_calendar(), Ordering::Release);
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
        let shared = &self.shared;
        let hot = shared.machine.read().hot_keys();
        if shared.keys.must_wait(hot) {
            self.make_room().await;
        }
        // From here on no key may leave memory before the command is applied: nobody would have looked it up.
        let (asks, hot) = {
            let machine = shared.machine.read();
            (machine.asks(&command), machine.hot_keys())
        };
        let found = if asks.is_empty() { Vec::new() } else { self.look_up(&asks).await };
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
        self.commit(&effects.writes).await;
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
            shared.fanout.publish(channel, batch);
        }
        if effects.checkpoint {
            self.checkpoint(index);
        }
        self.announce_due(due);
        shared.applied.send_replace(index);
        shared.keys.tend(hot, &shared.machine);
        reply
    }

    /// Finds the keys of a command that are not in memory. As with a commit, nothing is skipped: while they cannot be
    /// looked up, it tries again, and says so.
    async fn look_up(&self, asks: &BTreeMap<ChannelId, Vec<KeyHash>>) -> Vec<Found> {
        let mut wait = RETRY_MIN;
        let found = loop {
            match self.shared.keys.look_up(asks).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::error!(%error, retry_in = ?wait, "cannot look idempotency keys up");
                    self.failing(StoreHealth::Failing(error.to_string()));
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        };
        if wait > RETRY_MIN {
            self.working();
        }
        found
    }

    /// Waits until some of the keys in memory have left it.
    async fn make_room(&self) {
        let shared = &self.shared;
        loop {
            let hot = {
                let mut machine = shared.machine.write();
                shared.keys.cool(&mut machine, 0);
                machine.hot_keys()
            };
            if !shared.keys.must_wait(hot) {
                break;
            }
            shared.keys.tend(hot, &shared.machine);
            if let Some(reason) = shared.keys.wait(LOOK).await {
                self.failing(StoreHealth::Failing(format!("idempotency keys cannot leave memory: {reason}")));
            }
        }
        self.working();
    }

    fn announce_due(&self, due: Option<u64>) {
        self.shared.due.send_if_modified(|known| std::mem::replace(known, due) != due);
    }

    /// Records that an entry without a command (a membership change, a leader's first entry) was applied.
    pub async fn skip(&mut self, index: u64, mark: Bytes) {
        let writes = crate::store::WriteBatch { applied: Some(mark), ..Default::default() };
        self.commit(&writes).await;
        self.shared.applied.send_replace(index);
    }

    /// Keeps those who hold [`ReplicaView::whole`] out, for as long as the answer lives.
    pub async fn replacing(&self) -> RwLockWriteGuard<'_, ()> {
        let guard = self.shared.replacing.write().await;
        self.shared.keys.rest().await;
        guard
    }

    /// Reads a state that is about to take the store's place, and makes files of those of its keys that memory cannot hold.
    /// That may take minutes, and readers go on meanwhile. Nothing may be applied until the state is in its place. None where
    /// it cannot be read before.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn prepare(&self, staged: Option<Arc<dyn PlainKeys>>) -> Result<Option<Prepared>, OpenError> {
        match staged {
            Some(state) => self.restore(Some(state)).await.map(|machine| Some(Prepared(Box::new(machine)))),
            None => Ok(None),
        }
    }

    /// Reads everything again after the store's state was replaced, which [`Replica::replacing`] has to surround. Whoever
    /// waits for something is told as if the entries behind it had been applied here.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn reload(&self, index: u64) -> Result<(), OpenError> {
        self.take_over(None, index).await
    }

    /// The same with what was made of the state beforehand: readers wait for no more than the change from one to the other.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn take_over(&self, prepared: Option<Prepared>, index: u64) -> Result<(), OpenError> {
        let machine = match prepared {
            Some(Prepared(machine)) => *machine,
            None => self.restore(None).await?,
        };
        let ends: HashMap<ChannelId, u64> = machine.channels().map(|(meta, stats)| (meta.id, stats.next_seq)).collect();
        *self.shared.catalog.write() = Arc::new(catalog_of(&machine));
        let due = machine.next_due_ms();
        self.shared.security.send_replace(machine.security().clone());
        self.shared.pass_time(&machine);
        *self.shared.machine.write() = machine;
        self.announce_due(due);
        self.shared.fanout.reset(|channel| ends.get(&channel).copied());
        self.shared.wakes.all();
        self.shared.applied.send_replace(index);
        Ok(())
    }

    /// Tries again while the files of keys cannot be written, for want of space or because of the disk.
    async fn restore(&self, staged: Option<Arc<dyn PlainKeys>>) -> Result<Machine, OpenError> {
        let mut wait = RETRY_MIN;
        loop {
            let restored = match &staged {
                Some(state) => self.shared.keys.restore_from(state.clone()).await,
                None => self.shared.keys.restore().await,
            };
            match restored {
                Err(RestoreError::Files(reason)) => {
                    tracing::error!(reason, retry_in = ?wait, "cannot read the state that was installed");
                    self.failing(StoreHealth::Failing(reason));
                }
                restored => {
                    let machine = restored?;
                    self.working();
                    return Ok(machine);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn failing(&self, failing: StoreHealth) {
        self.shared.commits.send_if_modified(|health| {
            let changed = *health != failing;
            *health = failing;
            changed
        });
    }

    fn working(&self) {
        self.shared.commits.send_if_modified(|health| std::mem::take(health) != StoreHealth::Working);
    }

    async fn commit(&self, writes: &crate::store::WriteBatch) {
        let mut wait = RETRY_MIN;
        loop {
            match self.try_commit(writes.clone()).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, retry_in = ?wait, "the store refused a commit");
                    let ended = matches!(error, StoreError::Closed);
                    let failing = if ended { StoreHealth::Ended } else { StoreHealth::Failing };
                    self.shared.commits.send_replace(failing(error.to_string()));
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
        self.working();
    }

    /// One try, which says so while it waits for what does not come: room in memory that a flush should make, or a disk.
    async fn try_commit(&self, writes: crate::store::WriteBatch) -> Result<(), StoreError> {
        let store = &self.shared.store;
        let (mut commit, begun) = (store.commit(writes), tokio::time::Instant::now());
        loop {
            if let Ok(done) = tokio::time::timeout(LOOK, &mut commit).await {
                return done;
            }
            let stalled = || (begun.elapsed() >= STALL).then(|| format!("a commit has waited for more than {STALL:?}"));
            if let Some(reason) = store.failure().or_else(stalled) {
                self.failing(StoreHealth::Failing(reason));
            }
        }
    }

    /// Pins the state as it is after `index`. Hashing it may take a fold, and the next entry must not wait for that.
    fn checkpoint(&self, index: u64) {
        let hash = self.shared.store.checkpoint();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            match hash.await {
                Ok((hash, _)) => shared.checkpoints.send_modify(|kept| keep(kept, Checkpoint { index, hash })),
                Err(error) => tracing::error!(%error, index, "cannot hash the state"),
            }
        });
    }
}

/// Adds a checkpoint in the order of the log, whatever the order in which hashes arrive, and forgets the oldest.
fn keep(kept: &mut VecDeque<Checkpoint>, checkpoint: Checkpoint) {
    let at = kept.partition_point(|other| other.index < checkpoint.index);
    kept.insert(at, checkpoint);
    while kept.len() > CHECKPOINTS {
        kept.pop_front();
    }
}

impl ReplicaView {
    /// The store under the replica.
    pub fn store(&self) -> &Arc<dyn DurableStore> {
        &self.shared.store
    }

    /// While the answer lives, the store and the machine are of one state: no snapshot takes their place. To be held for
    /// one read of the store and a look at what the machine says of it, and never while waiting for an entry.
    pub async fn whole(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.replacing.read().await
    }

    /// The live subscribers.
    pub fn fanout(&self) -> &Arc<Fanout> {
        &self.shared.fanout
    }

    /// Who waits for consumers.
    pub fn wakes(&self) -> &Arc<Wakes> {
        &self.shared.wakes
    }

    /// Looks at the consumers as applied. Nothing is applied meanwhile, so it has to be quick.
    pub fn consumers<T>(&self, look: impl FnOnce(&Consumers) -> T) -> T {
        look(self.shared.machine.read().consumers())
    }

    /// A consumer as its users see it.
    pub fn consumer_status(&self, consumer: ConsumerId) -> Option<ConsumerStatus> {
        self.shared.machine.read().consumer_status(consumer)
    }

    /// Consumers of a channel whose names are in a range, as their users see them, by name; at most `most`.
    pub fn consumer_statuses(
        &self,
        channel: ChannelId,
        names: (Bound<&str>, Bound<&str>),
        most: usize,
    ) -> Vec<ConsumerStatus> {
        self.shared.machine.read().consumer_statuses(channel, names, most)
    }

    /// The consumers that are furthest behind, at most `most`.
    pub fn laggards(&self, most: usize) -> Laggards {
        self.shared.machine.read().laggards(most)
    }

    /// How much state there may be, as the log says.
    pub fn state_limits(&self) -> StateLimits {
        self.shared.machine.read().state_limits()
    }

    /// All tokens and roles as applied; whoever waits for a change of it is woken when one is.
    pub fn security(&self) -> watch::Receiver<Arc<SecurityState>> {
        self.shared.security.subscribe()
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// All channels as applied.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog.read().clone()
    }

    /// What a channel is, as applied.
    pub fn meta(&self, channel: ChannelId) -> Option<Arc<ChannelMeta>> {
        self.shared.machine.read().meta(channel).cloned()
    }

    /// A channel's counters as applied. They may be ahead of the store for a moment.
    pub fn stats(&self, channel: ChannelId) -> Option<ChannelStats> {
        self.shared.machine.read().stats(channel)
    }

    /// Whether all copies that a group makes are taken for certain, also behind so many messages and bytes that are not applied
    /// yet.
    pub fn takes_copies(&self, group: &PublishGroup, before: (u64, u64)) -> bool {
        group.routes.is_empty() || self.shared.machine.read().takes_copies(group, before)
    }

    /// How far a channel is compacted.
    pub fn compaction(&self, channel: ChannelId) -> Option<Compaction> {
        self.shared.machine.read().compaction(channel)
    }

    /// About how many messages of a channel would go at once if it kept something else.
    pub fn would_remove(&self, channel: ChannelId, retention: &Retention) -> u64 {
        self.shared.machine.read().would_remove(channel, retention)
    }

    /// The newest message of a channel where it is a letter that was redriven.
    pub fn redriven(&self, channel: ChannelId) -> Option<u64> {
        self.shared.machine.read().redriven(channel)
    }

    /// The log's time at the newest entry that was applied: what has expired has done so by it.
    pub fn time_ms(&self) -> u64 {
        self.shared.machine.read().time_ms()
    }

    /// The log's time as it goes on.
    pub fn clock(&self) -> &LogClock {
        &self.shared.clock
    }

    /// The time of day at one of the log's times, milliseconds since the Unix epoch.
    pub fn time_of_day(&self, log_ms: u64) -> u64 {
        // Every batch of every subscription asks.
        if !self.shared.has_calendar.load(Ordering::Acquire) {
            return log_ms;
        }
        self.shared.machine.read().time_of_day(log_ms)
    }

    /// A channel's history as applied: what positions are judged by.
    pub fn history(&self, channel: ChannelId) -> Option<History> {
        self.shared.machine.read().history(channel)
    }

    /// 1, and one more for each time that the state was restored from a backup.
    pub fn epoch(&self) -> u64 {
        self.shared.machine.read().epoch()
    }

    /// What is known of a node that is or was in the cluster.
    pub fn member(&self, node: u64) -> Option<MemberRecord> {
        self.shared.machine.read().member(node).cloned()
    }

    /// What happened to the cluster's nodes, oldest first.
    pub fn member_log(&self) -> Vec<MemberLogEntry> {
        self.shared.machine.read().member_log().cloned().collect()
    }

    /// A claim that is not free as applied, and its namespace. It may be ahead of the store for a moment.
    ///
    /// # Errors
    /// [`Refusal::NoSuchNamespace`].
    pub fn claim(&self, namespace: &NamespaceName, key: KeyHash) -> Result<(NamespaceId, Option<ClaimInfo>), Refusal> {
        self.shared.machine.read().claim(namespace, key)
    }

    /// The namespaces of claims as applied, by name.
    pub fn claim_namespaces(&self) -> Vec<NamespaceInfo> {
        self.shared.machine.read().namespaces().collect()
    }

    /// What became of all claims since the state began.
    pub fn claim_totals(&self) -> ClaimTotals {
        self.shared.machine.read().claim_totals()
    }

    /// When something expires next, in log time.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.shared.machine.read().next_expiry_ms()
    }

    /// When the first message that waits for its time is due, a time of day, as it changes.
    pub fn next_due(&self) -> watch::Receiver<Option<u64>> {
        self.shared.due.subscribe()
    }

    /// The messages that are due at a time of day, at most `limit`, in the order in which they come.
    pub fn due(&self, now_ms: u64, limit: usize) -> Vec<Waiting> {
        self.shared.machine.read().due(now_ms, limit)
    }

    /// How many idempotency keys there are. Looks at every channel.
    pub fn live_keys(&self) -> LiveKeys {
        self.shared.machine.read().live_keys()
    }

    /// Where this node has the idempotency keys.
    pub fn key_places(&self) -> KeyPlaces {
        KeyPlaces { in_memory: self.shared.machine.read().hot_keys(), ..self.shared.keys.places() }
    }

    /// The ids of a channel's messages that wait for their time, from the first above `after` on: at most `limit`, and no
    /// more than hold about so many bytes, but at least one. And whether there are more.
    pub fn delayed_ids(&self, channel: ChannelId, after: u64, limit: usize, bytes: u64) -> (Vec<u64>, bool) {
        let machine = self.shared.machine.read();
        let (mut ids, mut held) = (Vec::new(), 0);
        for (id, size) in machine.delayed_ids(channel, after) {
            held += size;
            if ids.len() == limit || held > bytes && !ids.is_empty() {
                return (ids, true);
            }
            ids.push(id);
        }
        (ids, false)
    }

    /// Messages of a channel that wait for their time.
    pub fn delayed(&self, channel: ChannelId) -> u64 {
        self.shared.machine.read().delayed(channel)
    }

    /// Log index of the newest applied entry.
    pub fn applied(&self) -> u64 {
        *self.shared.applied.borrow()
    }

    /// Whether anybody on this node waits for what is committed next: subscribers, members of consumers, or requests.
    pub fn is_awaited(&self) -> bool {
        let shared = &self.shared;
        shared.expecting.load(Ordering::Relaxed) > 0
            || shared.applied.receiver_count() > 0
            || shared.fanout.is_followed()
            || shared.wakes.is_waited_for()
    }

    /// Says that somebody will soon wait for an index, until the answer is dropped.
    pub fn expect(&self) -> Expecting {
        self.shared.expecting.fetch_add(1, Ordering::Relaxed);
        Expecting { shared: self.shared.clone() }
    }

    /// Waits until an index is applied.
    pub async fn wait_applied(&self, index: u64) {
        let mut applied = self.shared.applied.subscribe();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|applied| *applied >= index).await;
    }

    /// Whether the store takes commits.
    pub fn commits(&self) -> watch::Receiver<StoreHealth> {
        self.shared.commits.subscribe()
    }

    /// What keeps this node from doing its work.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Tries what could not be read again; see [`WatchedStore::read_again`].
    pub async fn read_again(&self) {
        self.shared.watched.read_again().await;
    }

    /// The newest hash of the whole state. It may lag what is applied by a fold.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared.checkpoints.borrow().back().cloned()
    }

    /// The newest hashes, newest last: nodes get theirs at different times, but for the same log indexes.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.shared.checkpoints.borrow().iter().cloned().collect()
    }

    /// Waits until the hash of an index has arrived, or of a later one.
    pub async fn wait_checkpoint(&self, index: u64) {
        let mut checkpoints = self.shared.checkpoints.subscribe();
        // The sender lives as long as `self`.
        let _ = checkpoints.wait_for(|kept| kept.back().is_some_and(|newest| newest.index >= index)).await;
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

fn catalog_of(machine: &Machine) -> Catalog {
    let mut catalog = Catalog::default();
    for (meta, _) in machine.channels() {
        catalog.insert(meta.clone());
    }
    catalog.set_rules(machine.rules().clone());
    catalog
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FaultyStore, MemoryStore};

    async fn replica() -> (Replica, Arc<FaultyStore>) {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let limits = Limits::default();
        let fanout = Fanout::new(limits.subscriber_bytes, limits.fanout_bytes);
        (Replica::open(store.clone(), fanout, limits, crate::env::Env::real().clock).await.unwrap(), store)
    }

    #[tokio::test]
    async fn entries_are_applied_while_a_checkpoint_is_hashed_and_do_not_change_it() {
        let (mut replica, store) = replica().await;
        let (mut twin, twin_store) = self::replica().await;
        let view = replica.view();
        store.hold_hashes(true);
        let checkpoint = Command::Checkpoint { time_ms: 1 };
        replica.apply(1, checkpoint.clone(), Bytes::from("1")).await;
        replica.apply(2, Command::Tick { time_ms: 7 }, Bytes::from("2")).await;
        assert_eq!((view.applied(), view.checkpoint()), (2, None));
        store.hold_hashes(false);
        view.wait_checkpoint(1).await;
        twin.apply(1, checkpoint, Bytes::from("1")).await;
        let (hash, _) = twin_store.root_hash().await.unwrap();
        assert_eq!(view.checkpoint(), Some(Checkpoint { index: 1, hash }));
        assert_ne!(store.root_hash().await.unwrap().0, hash);
    }

    #[tokio::test]
    async fn the_newest_checkpoints_are_kept_in_the_order_of_the_log() {
        let (mut replica, _store) = replica().await;
        let view = replica.view();
        let last = 2 * CHECKPOINTS as u64;
        for index in 1..=last {
            replica.apply(index, Command::Checkpoint { time_ms: index }, Bytes::new()).await;
        }
        view.wait_checkpoint(last).await;
        let indexes: Vec<u64> = view.checkpoints().iter().map(|checkpoint| checkpoint.index).collect();
        assert_eq!(indexes, (last - CHECKPOINTS as u64 + 1..=last).collect::<Vec<_>>());
        assert_eq!(view.checkpoint(), view.checkpoints().pop());
    }

    #[test]
    fn a_hash_that_arrives_late_takes_its_place() {
        let mut kept = VecDeque::new();
        for index in [1, 3, 2] {
            keep(&mut kept, Checkpoint { index, hash: StateHash([0; 32]) });
        }
        assert_eq!(kept.iter().map(|checkpoint| checkpoint.index).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
