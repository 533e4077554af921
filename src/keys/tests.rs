//! A replica that has most of its keys in files answers and stores what one does that has all of them in memory.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use bytes::Bytes;
use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::{
    env::Env,
    fanout::Fanout,
    model::{
        ChannelConfig, ChannelUpdate, Command, Delayed, Frame, KeyClaim, Operation, Part, PublishGroup, Reply,
        Schedule, Transaction,
    },
    proto::v1::Message,
    replica::{Replica, ReplicaView},
    store::MemoryStore,
};

const NAMES: [&str; 2] = ["a", "b"];
const WINDOW_MS: u64 = 400;

fn limits(hot_keys: u64) -> Limits {
    Limits { hot_keys, ..Limits::default() }
}

async fn open(store: Arc<dyn DurableStore>, hot_keys: u64, files: Arc<dyn KeyFiles>, salt: u64) -> Replica {
    let limits = limits(hot_keys);
    let fanout = Fanout::new(limits.subscriber_bytes, limits.fanout_bytes);
    Replica::open_with(store, fanout, limits, Env::real().clock, files, [salt, 7]).await.unwrap()
}

/// Keys by number, each with a payload by number.
fn group(channel: ChannelId, messages: &[(u16, u8)]) -> PublishGroup {
    let message = |(key, payload): &(u16, u8)| Message {
        payload: Bytes::from(vec![*payload; 3]),
        key: Some(key.to_string()),
        ..Message::default()
    };
    let claim = |(position, (key, payload)): (u32, &(u16, u8))| KeyClaim {
        position,
        key: KeyHash::of(&key.to_string()),
        digest: Digest::of(&[*payload; 3]),
    };
    let messages_of: Vec<Message> = messages.iter().map(message).collect();
    let keys = (0..).zip(messages).map(claim).collect();
    PublishGroup { channel, keys, frame: Frame::encode(&messages_of), ..PublishGroup::default() }
}

/// A replica with few keys in memory, and one with all of them, which is right.
struct Pair {
    replica: Option<Replica>,
    store: Arc<dyn DurableStore>,
    files: Arc<dyn KeyFiles>,
    hot_keys: u64,
    right: Replica,
    right_store: Arc<dyn DurableStore>,
    index: u64,
    time_ms: u64,
    /// Only one of them gets commands: the other one will get a snapshot.
    lags: bool,
    /// The most files that there were.
    files_seen: u64,
}

impl Pair {
    async fn new(files: Arc<dyn KeyFiles>, hot_keys: u64) -> Self {
        let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
        let right_store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
        let replica = Some(open(store.clone(), hot_keys, files.clone(), 1).await);
        let right = open(right_store.clone(), u64::MAX, Arc::new(KeyMemory::default()), 2).await;
        let (index, time_ms, lags, files_seen) = (0, 1, false, 0);
        let mut pair = Self { replica, store, files, hot_keys, right, right_store, index, time_ms, lags, files_seen };
        for name in NAMES {
            pair.create(name).await;
        }
        pair
    }

    async fn create(&mut self, name: &str) {
        let (time_ms, name) = (self.time_ms, name.parse().unwrap());
        let config = ChannelConfig { dedup_window_ms: WINDOW_MS, ..ChannelConfig::default() };
        self.apply(Command::CreateChannel { time_ms, name, config }).await;
    }

    fn replica(&self) -> &Replica {
        self.replica.as_ref().unwrap()
    }

    fn id(&self, channel: usize) -> ChannelId {
        self.right.view().catalog().get(NAMES[channel]).unwrap().id
    }

    async fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        let mark = Bytes::from(self.index.to_string());
        let expected = self.right.apply(self.index, command.clone(), mark.clone()).await;
        if !self.lags {
            let reply = self.replica.as_mut().unwrap().apply(self.index, command, mark).await;
            assert_eq!(reply, expected);
            let (keys, right) = (self.replica().view().live_keys(), self.right.view().live_keys());
            assert_eq!(keys, right);
            // What makes files has its turn.
            tokio::task::yield_now().await;
            self.files_seen = self.files_seen.max(self.replica().view().key_places().files);
        }
        expected
    }

    async fn publish(&mut self, channel: usize, messages: &[(u16, u8)]) {
        let groups = vec![group(self.id(channel), messages)];
        self.apply(Command::Publish { time_ms: self.time_ms, groups }).await;
    }

    async fn operate(&mut self, operation: Operation) {
        self.apply(Command::Operations { time_ms: self.time_ms, operations: vec![operation] }).await;
    }

    async fn restart(&mut self) {
        drop(self.replica().replacing().await);
        self.replica = None;
        self.replica = Some(open(self.store.clone(), self.hot_keys, self.files.clone(), self.index).await);
    }

    async fn install(&mut self) {
        self.lags = false;
        let snapshot = self.right_store.snapshot().await.unwrap();
        let mut install = self.store.install().await.unwrap();
        let mut after: Option<Bytes> = None;
        loop {
            let page = snapshot.page(after.as_deref(), 1 << 12).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            install.put(page).await.unwrap();
        }
        let prepared = self.replica().prepare(install.plain_keys()).await.unwrap();
        assert!(prepared.is_some());
        let _whole = self.replica().replacing().await;
        install.finish(snapshot.root_hash()).await.unwrap();
        self.store.installed().await;
        self.replica().take_over(prepared, self.index).await.unwrap();
    }

    async fn assert_same_state(&self) {
        assert_eq!(self.store.root_hash().await.unwrap(), self.right_store.root_hash().await.unwrap());
    }

    async fn take(&mut self, step: Step, dir: Option<&Path>) {
        match step {
            Step::Publish(channel, messages) => self.publish(channel, &messages).await,
            Step::Transact(messages) => {
                let parts = (0..)
                    .zip(messages.chunks(2))
                    .map(|(number, messages)| Part::Publish(group(self.id(number % 2), messages)));
                let transaction = Transaction { parts: parts.collect() };
                self.operate(Operation::Transaction(transaction)).await;
            }
            Step::Schedule(channel, key, payload) => {
                let PublishGroup { frame, keys, .. } = group(self.id(channel), &[(key, payload)]);
                let claim = keys.first().map(|claim| (claim.key, claim.digest));
                let messages = vec![Delayed { due_ms: u64::MAX, claim, expires: false, frame }];
                let schedule = Schedule { channel: self.id(channel), schema_id: 0, messages };
                self.operate(Operation::Schedule(schedule)).await;
            }
            Step::Pass(ms) => {
                self.time_ms += ms;
                self.apply(Command::Tick { time_ms: self.time_ms }).await;
            }
            Step::Window(channel, ms) => {
                let update = ChannelUpdate { dedup_window_ms: Some(ms), ..ChannelUpdate::default() };
                let name = NAMES[channel].parse().unwrap();
                self.apply(Command::UpdateChannel { time_ms: self.time_ms, name, update }).await;
            }
            Step::Recreate(channel) => {
                let name = NAMES[channel].parse().unwrap();
                self.apply(Command::DeleteChannel { time_ms: self.time_ms, name }).await;
                self.create(NAMES[channel]).await;
            }
            Step::Restart if !self.lags => self.restart().await,
            Step::Lose(number) if !self.lags => {
                let names = self.files.names().unwrap();
                if let Some(name) = names.get(number % names.len().max(1)) {
                    self.files.remove(name).unwrap();
                }
                self.restart().await;
            }
            Step::Damage(number, place) if !self.lags => {
                let names = self.files.names().unwrap();
                if let Some(name) = names.get(number % names.len().max(1)) {
                    damage(&*self.files, name, place, dir);
                }
            }
            Step::Lag => self.lags = true,
            Step::Install => self.install().await,
            Step::Restart | Step::Lose(_) | Step::Damage(..) => {}
        }
    }
}

/// Flips a bit of a file: on disk, where it is open.
fn damage(files: &dyn KeyFiles, name: &str, place: u64, dir: Option<&Path>) {
    let Ok(file) = files.open(name) else { return };
    let at = place % file.len().unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << (place % 8);
    if let Some(dir) = dir {
        let Ok(file) = fs::OpenOptions::new().write(true).open(dir.join(name)) else { return };
        file.write_all_at(&byte, at).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize, Vec<(u16, u8)>),
    Transact(Vec<(u16, u8)>),
    Schedule(usize, u16, u8),
    Pass(u64),
    Window(usize, u64),
    Recreate(usize),
    Restart,
    Lose(usize),
    Damage(usize, u64),
    Lag,
    Install,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let messages = || prop::collection::vec((0_u16..1_500, 0_u8..2), 1..40);
    let step = prop_oneof![
        30 => (0_usize..2, messages()).prop_map(|(channel, messages)| Step::Publish(channel.min(1), messages)),
        3 => prop::collection::vec((0_u16..3_000, 0_u8..2), 1..5).prop_map(Step::Transact),
        2 => (0_usize..2, 0_u16..2_000, 0_u8..2).prop_map(|(channel, key, payload)| Step::Schedule(channel, key, payload)),
        8 => (1_u64..60).prop_map(Step::Pass),
        1 => (0_usize..2, 50_u64..600).prop_map(|(channel, ms)| Step::Window(channel, ms)),
        1 => (0_usize..2).prop_map(Step::Recreate),
        2 => Just(Step::Restart),
        2 => (0_usize..9).prop_map(Step::Lose),
        3 => (0_usize..9, any::<u64>()).prop_map(|(number, place)| Step::Damage(number, place)),
        1 => Just(Step::Lag),
        2 => Just(Step::Install),
    ];
    prop::collection::vec(step, 40..120)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn answers_and_state_are_the_same_wherever_keys_are(steps in steps(), hot_keys in prop_oneof![Just(0_u64), Just(300)]) {
        runtime().block_on(async {
            let mut pair = Pair::new(Arc::new(KeyMemory::default()), hot_keys).await;
            for step in steps {
                pair.take(step, None).await;
            }
            if pair.lags {
                pair.install().await;
            }
            pair.assert_same_state().await;
        });
    }

    #[test]
    fn answers_and_state_are_the_same_when_files_on_disk_are_lost_and_damaged(steps in steps()) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut pair = Pair::new(Arc::new(KeyDirectory::open(dir.path()).unwrap()), 0).await;
            for step in steps {
                pair.take(step, Some(dir.path())).await;
            }
            if pair.lags {
                pair.install().await;
            }
            pair.assert_same_state().await;
            drop(pair.replica().replacing().await);
        });
    }
}

/// Publishes so many new keys, twenty in each entry.
async fn fill(pair: &mut Pair, from: u16, count: u16) {
    for number in (from..from + count).step_by(20) {
        let messages: Vec<(u16, u8)> = (number..number + 20).map(|key| (key, 0)).collect();
        pair.publish(0, &messages).await;
    }
}

#[tokio::test]
async fn keys_leave_memory_and_files_become_few_and_go_when_the_window_has_passed() {
    let files = Arc::new(KeyMemory::default());
    let mut pair = Pair::new(files.clone(), 0).await;
    fill(&mut pair, 0, 6_000).await;
    let places = pair.replica().view().key_places();
    assert!(places.in_memory < 200 && places.in_files >= 5_800, "{places:?}");
    assert!((16..=80).contains(&places.files), "{places:?}");
    assert_eq!(files.names().unwrap().len() as u64, places.files);
    // All are known, and of some it is known that they were claimed for something else.
    for number in (0..6_000).step_by(100) {
        let messages: Vec<(u16, u8)> = (number..number + 100).map(|key| (key, u8::from(key % 3 == 0))).collect();
        pair.publish(0, &messages).await;
    }
    pair.time_ms += WINDOW_MS;
    for _ in 0..2_100 {
        pair.take(Step::Pass(0), None).await;
    }
    assert_eq!((pair.replica().view().live_keys().all, pair.replica().view().key_places()), (0, KeyPlaces::default()));
    assert!(files.names().unwrap().is_empty());
    fill(&mut pair, 0, 400).await;
    pair.assert_same_state().await;
}

#[tokio::test]
async fn a_restart_finds_the_files_and_makes_only_those_that_are_missing() {
    let files = Arc::new(KeyMemory::default());
    let mut pair = Pair::new(files.clone(), 0).await;
    fill(&mut pair, 0, 2_000).await;
    let open = |files: &KeyMemory| {
        let names = files.names().unwrap();
        names.into_iter().map(|name| (files.open(&name).unwrap(), name)).collect::<Vec<_>>()
    };
    let before = open(&files);
    files.remove(&before[1].1).unwrap();
    pair.restart().await;
    let after = open(&files);
    let kept = before.iter().filter(|(file, _)| after.iter().any(|(other, _)| Arc::ptr_eq(file, other))).count();
    assert!(kept >= before.len() - 1, "{kept} of {} are what they were", before.len());
    assert!(pair.replica().view().key_places().in_memory <= 40, "what was missing is there again");
    fill(&mut pair, 0, 2_000).await;
    pair.assert_same_state().await;
}

#[tokio::test]
async fn a_state_without_files_of_keys_is_read_without_holding_more_of_them_than_memory_may() {
    let mut pair = Pair::new(Arc::new(KeyMemory::default()), u64::MAX).await;
    fill(&mut pair, 0, 3_000).await;
    assert_eq!(pair.replica().view().key_places().in_memory, 3_000, "an older node had all of them in memory");
    pair.hot_keys = 320;
    pair.restart().await;
    let places = pair.replica().view().key_places();
    assert!(places.in_memory <= 320 && places.in_files >= 2_680, "{places:?}");
    fill(&mut pair, 0, 3_000).await;
    pair.assert_same_state().await;
}

#[tokio::test]
async fn files_of_another_state_are_not_believed() {
    let files = Arc::new(KeyMemory::default());
    let mut pair = Pair::new(files.clone(), 0).await;
    fill(&mut pair, 0, 1_000).await;
    assert!(pair.files_seen > 10);
    // Another history, with a channel and sequence numbers of the same names.
    let mut other = Pair::new(Arc::new(KeyMemory::default()), 0).await;
    other.time_ms = 2;
    fill(&mut other, 5_000, 1_000).await;
    drop(pair.replica().replacing().await);
    other.files = files;
    other.restart().await;
    fill(&mut other, 0, 1_000).await;
    fill(&mut other, 5_000, 1_000).await;
    other.assert_same_state().await;
}

#[tokio::test]
async fn a_damaged_file_is_made_again_before_anything_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(Arc::new(KeyDirectory::open(dir.path()).unwrap()), 0).await;
    while pair.replica().view().key_places().files < 20 {
        let from = u16::try_from(pair.right.view().live_keys().all).unwrap();
        fill(&mut pair, from, 20).await;
    }
    drop(pair.replica().replacing().await);
    let all = u16::try_from(pair.right.view().live_keys().all).unwrap();
    for name in pair.files.names().unwrap() {
        // Of the first page: the rest was read when the file was opened.
        damage(&*pair.files, &name, 3, Some(dir.path()));
    }
    fill(&mut pair, 0, all).await;
    drop(pair.replica().replacing().await);
    for name in pair.files.names().unwrap() {
        Run::open(&*pair.files, &name).unwrap();
    }
    pair.assert_same_state().await;
}

/// Files in memory that look, whenever one of them is made, whether readers have to wait meanwhile.
#[derive(Default)]
struct Watching {
    files: KeyMemory,
    readers: Mutex<Option<ReplicaView>>,
    made: AtomicU64,
    waited: AtomicU64,
}

impl KeyFiles for Watching {
    fn names(&self) -> io::Result<Vec<String>> {
        self.files.names()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn KeyFile>> {
        self.files.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        if let Some(view) = &*self.readers.lock() {
            self.made.fetch_add(1, Ordering::Relaxed);
            let waits = tokio::task::unconstrained(view.whole()).now_or_never().is_none();
            self.waited.fetch_add(waits.into(), Ordering::Relaxed);
        }
        self.files.create(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn is_disk(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn while_files_are_made_of_the_keys_of_a_snapshot_readers_do_not_wait() {
    let files = Arc::new(Watching::default());
    let mut pair = Pair::new(files.clone(), 0).await;
    pair.lags = true;
    fill(&mut pair, 0, 1_000).await;
    *files.readers.lock() = Some(pair.replica().view());
    pair.install().await;
    *files.readers.lock() = None;
    let (made, waited) = (files.made.load(Ordering::Relaxed), files.waited.load(Ordering::Relaxed));
    assert!(made > 10 && waited == 0, "{waited} of {made}");
    let places = pair.replica().view().key_places();
    assert!(places.in_files >= 680, "{places:?}");
    // All of them are known, and those that come now go on behind them.
    fill(&mut pair, 0, 1_500).await;
    pair.assert_same_state().await;
}

/// Files in memory for which there is no room while it says so.
struct Full(KeyMemory, AtomicBool);

impl KeyFiles for Full {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn KeyFile>> {
        self.0.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        if self.1.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { self.0.create(name) }
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn is_disk(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_command_waits_while_files_cannot_be_written_and_memory_is_full_and_says_so() {
    let files = Arc::new(Full(KeyMemory::default(), AtomicBool::new(true)));
    let mut pair = Pair::new(files.clone(), 0).await;
    let view = pair.replica().view();
    let filled = tokio::time::timeout(Duration::from_secs(2), fill(&mut pair, 0, 1_000)).await;
    assert!(filled.is_err());
    let in_memory = view.key_places().in_memory;
    assert!((64..200).contains(&in_memory), "{in_memory} keys in memory, whatever comes");
    let failure = view.commits().borrow().failure().map(str::to_owned).unwrap();
    assert!(failure.contains("idempotency keys cannot leave memory"), "{failure}");
    files.1.store(false, Ordering::Relaxed);
    // The command that was given up belongs to the log still.
    pair.lags = true;
    pair.install().await;
    fill(&mut pair, 0, 1_000).await;
    assert!(view.commits().borrow().failure().is_none());
    pair.assert_same_state().await;
}

#[tokio::test]
async fn keys_that_leave_memory_while_a_command_waits_are_known_to_it() {
    let files = Arc::new(Full(KeyMemory::default(), AtomicBool::new(true)));
    let mut pair = Pair::new(files.clone(), 0).await;
    fill(&mut pair, 0, 100).await;
    let view = pair.replica().view();
    let again: Vec<(u16, u8)> = (0..110).map(|key| (key, u8::from(key % 2 == 0))).collect();
    let waits = pair.publish(0, &again);
    let room = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((view.key_places().in_memory, view.key_places().files), (100, 0));
        files.1.store(false, Ordering::Relaxed);
    };
    tokio::join!(waits, room);
    assert!(view.key_places().files > 0);
    pair.assert_same_state().await;
}

#[tokio::test]
async fn a_snapshot_waits_for_nothing_that_was_begun_before() {
    let mut pair = Pair::new(Arc::new(KeyMemory::default()), 0).await;
    fill(&mut pair, 0, 1_000).await;
    pair.lags = true;
    fill(&mut pair, 1_000, 1_000).await;
    pair.install().await;
    assert!(pair.replica().view().key_places().in_memory <= 40);
    fill(&mut pair, 0, 2_000).await;
    pair.assert_same_state().await;
}

#[tokio::test]
async fn a_store_that_lost_its_newest_entries_is_not_told_of_them_by_files() {
    let store = Arc::new(MemoryStore::new());
    let files = Arc::new(KeyMemory::default());
    let mut replica = open(store.clone(), 0, files.clone(), 1).await;
    let name: crate::model::ChannelName = "a".parse().unwrap();
    let create = Command::CreateChannel { time_ms: 1, name, config: ChannelConfig::default() };
    replica.apply(1, create, Bytes::new()).await;
    let id = replica.view().catalog().get("a").unwrap().id;
    let publish = |number: u16| {
        let messages: Vec<(u16, u8)> = (number * 20..number * 20 + 20).map(|key| (key, 0)).collect();
        Command::Publish { time_ms: 2, groups: vec![group(id, &messages)] }
    };
    let mut replies = Vec::new();
    for number in 0..60 {
        if number == 30 {
            store.flush().await.unwrap();
        }
        replies.push(replica.apply(u64::from(number) + 2, publish(number), Bytes::new()).await);
        tokio::task::yield_now().await;
    }
    assert!(replica.view().key_places().in_files > 800);
    drop(replica);
    let crashed = Arc::new(store.crash());
    let mut replica = open(crashed, 0, files, 1).await;
    assert_eq!(replica.view().live_keys().all, 600);
    // The log brings the rest again: none of it is a duplicate.
    for number in 30..60 {
        let reply = replica.apply(u64::from(number) + 2, publish(number), Bytes::new()).await;
        assert_eq!(reply, replies[usize::from(number)]);
        tokio::task::yield_now().await;
    }
}

/// What docs/KEYS.md says of bytes and times. `MILLIONS=20 cargo test --release --lib keys::tests::measure -- --ignored
/// --nocapture`, on a machine with nothing else to do.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and takes minutes"]
async fn measure() {
    use std::time::Instant as Now;

    use crate::store::{HaematiteConfig, HaematiteStore};

    let millions: u64 = std::env::var("MILLIONS").map_or(2, |millions| millions.parse().unwrap());
    let hot_keys: u64 = std::env::var("HOT_KEYS").map_or(1 << 20, |keys| keys.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let opened = || {
        let store: Arc<dyn DurableStore> = Arc::new(HaematiteStore::open(&state, HaematiteConfig::default()).unwrap());
        let files = Arc::new(KeyDirectory::open(&dir.path().join("keys")).unwrap());
        async move { (open(store.clone(), hot_keys, files, 1).await, store) }
    };
    let (mut replica, mut store) = opened().await;
    let name: crate::model::ChannelName = "a".parse().unwrap();
    let config = ChannelConfig { durability: crate::model::Durability::Ephemeral, ..ChannelConfig::default() };
    replica.apply(1, Command::CreateChannel { time_ms: 1, name, config }, Bytes::from("1")).await;
    let limit = Operation::LimitKeys { live_keys: u64::from(u32::MAX), all_keys: u64::MAX };
    replica.apply(2, Command::Operations { time_ms: 1, operations: vec![limit] }, Bytes::from("2")).await;
    let id = replica.view().catalog().get("a").unwrap().id;
    let entry = |first: u64, time_ms: u64| {
        let frame = Frame::encode(&vec![Message::default(); 50]);
        let claim = |position: u32| KeyClaim {
            position,
            key: KeyHash::of(&(first + u64::from(position)).to_string()),
            digest: Digest([1; 8]),
        };
        let keys = (0..50).map(claim).collect();
        Command::Publish { time_ms, groups: vec![PublishGroup { channel: id, keys, frame, ..PublishGroup::default() }] }
    };
    let resident = || crate::telemetry::Process::now().resident_bytes >> 20;
    let (mut index, mut longest, begun, before) = (2, Duration::ZERO, Now::now(), resident());
    for first in (0..millions * 1_000_000).step_by(50) {
        index += 1;
        let command = entry(first, first / 5);
        let applying = Now::now();
        replica.apply(index, command, Bytes::from(index.to_string())).await;
        longest = longest.max(applying.elapsed());
        if first % 1_000_000 == 0 {
            let (places, took) = (replica.view().key_places(), begun.elapsed());
            println!("{first} keys, {took:.1?}, {} MiB resident, longest {longest:.1?}: {places:?}", resident());
        }
    }
    drop(replica.replacing().await);
    let places = replica.view().key_places();
    println!(
        "{millions} million keys in {:.1?}, longest apply {longest:.1?}, {} MiB more resident: {places:?}; {:.2} B of memory \
         and {:.2} B of file for a key in files",
        begun.elapsed(),
        resident() - before,
        places.filter_bytes as f64 / places.in_files as f64,
        places.file_bytes as f64 / places.in_files as f64,
    );
    for (what, from) in [("new keys", millions * 1_000_000), ("retries of the oldest", 0)] {
        let begun = Now::now();
        for first in (from..from + 20_000).step_by(50) {
            index += 1;
            replica.apply(index, entry(first, millions * 200_000), Bytes::from(index.to_string())).await;
        }
        println!("{what}: {:.1?} a key, in entries of 50", begun.elapsed() / 20_000);
    }
    store.flush().await.unwrap();
    for what in ["with its files", "without"] {
        drop(replica.replacing().await);
        drop(replica);
        store.close().await.unwrap();
        if what == "without" {
            fs::remove_dir_all(dir.path().join("keys")).unwrap();
        }
        let begun = Now::now();
        (replica, store) = opened().await;
        println!("a start {what}: {:.1?}, {} MiB resident", begun.elapsed(), resident());
    }
}
