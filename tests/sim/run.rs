//! One seed: a cluster of three, publishers that retry, a subscriber, and in the middle of it a partition of the
//! leader and power cuts; at the end, everything that was promised is looked up on every node.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use liminal::{
    broker::Leader,
    client::{Client, Message, Start},
    model::StoredBatch,
    store::DurableStore as _,
};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{machine::Machine, world};

pub(super) const NODES: [&str; 3] = ["n1", "n2", "n3"];
const PUBLISHERS: u64 = 3;
/// Messages of one publisher beyond which it ends once the faults are over.
const ENOUGH: u64 = 30;
const CHANNEL: &str = "orders";
/// Simulated time in which everything has to be over.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the publishers know.
#[derive(Default)]
pub(super) struct History {
    /// Key to sequence number and payload.
    acknowledged: Mutex<BTreeMap<String, u64>>,
    retried: AtomicU64,
    seen: AtomicU64,
    begun: AtomicBool,
    over: AtomicBool,
    /// The node that an operator is to remove.
    pub(super) remove: Mutex<Option<&'static str>>,
}

/// Simulates a seed in which machines lose their power and each other; gives a line that says what happened.
///
/// # Panics
/// When a promise is broken.
pub fn simulate(seed: u64) -> String {
    with(seed, |world| {
        world.pass(100, 1_500);
        world.partition_the_leader();
        world.cut_power_of_one();
        if world.random.random_bool(0.4) {
            world.cut_power_of_all();
        }
    })
}

/// Simulates a seed in which what happens is up to the caller.
///
/// # Panics
/// When a promise is broken.
pub(super) fn with(seed: u64, happens: impl FnOnce(&mut World<'_>)) -> String {
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let mut random = StdRng::seed_from_u64(seed ^ 0x6c69_6d69_6e61_6c21);

    let mut sim = world::sim(seed, PATIENCE, Duration::from_millis(random.random_range(2..20)));

    let machine =
        |(number, name)| Arc::new(Machine::new(seed * 10 + number, name, NODES.to_vec(), NODES.len(), &mut random));
    let machines: Vec<Arc<Machine>> = (0..).zip(NODES).map(machine).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name, move || machine.clone().serve());
    }
    let history = Arc::new(History::default());
    for publisher in 0..PUBLISHERS {
        sim.client(format!("publisher{publisher}"), publish(seed, publisher, history.clone()));
    }
    sim.client("subscriber", subscribe(seed, history.clone()));
    sim.client("operator", operate(seed, history.clone()));

    let mut world = World { sim, machines, history, random };
    world.wait("the channel to exist", |world| world.history.begun.load(Ordering::SeqCst));
    happens(&mut world);
    world.history.over.store(true, Ordering::SeqCst);
    while !world.step() {}
    world.wait("all nodes to agree", |world| {
        let applied: Vec<u64> = world.machines.iter().map(|machine| machine.applied()).collect();
        applied.iter().all(|index| *index == applied[0] && *index > 0)
    });
    world.check(seed)
}

async fn connect(seed: u64) -> Client {
    loop {
        let builder = Client::builder().servers(NODES.map(|name| format!("{name}:7101")));
        let builder = builder.env(world::env(seed, Duration::ZERO)).retry_for(PATIENCE);
        match builder.answer_timeout(Duration::from_secs(3)).connect().await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Publishes with keys until the faults are over, and every now and then repeats what was acknowledged.
async fn publish(seed: u64, publisher: u64, history: Arc<History>) -> turmoil::Result {
    let mut random = StdRng::seed_from_u64(seed * 1_000 + publisher);
    let client = connect(seed * 1_000 + publisher).await;
    match client.create_channel(CHANNEL, liminal::client::ChannelConfig::default()).await {
        Ok(_) => history.begun.store(true, Ordering::SeqCst),
        Err(error) if error.code() == "CHANNEL_EXISTS" => {}
        Err(error) => return Err(error.into()),
    }
    let message = |number: u64| {
        let key = format!("p{publisher}-{number}");
        Message::new(format!("payload of {key}")).with_key(key)
    };
    for number in 0.. {
        if number >= ENOUGH && history.over.load(Ordering::SeqCst) {
            return Ok(());
        }
        let ack = client.publish(CHANNEL, message(number)).await?;
        history.acknowledged.lock().insert(message(number).key().to_owned(), ack.seq);
        if random.random_bool(0.2) {
            let earlier = random.random_range(0..=number);
            let again = client.publish(CHANNEL, message(earlier)).await?;
            let seq = history.acknowledged.lock()[message(earlier).key()];
            assert!(again.duplicate && again.seq == seq, "{:?} was at {seq}: {again:?}", message(earlier).key());
            history.retried.fetch_add(1, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
    }
    Ok(())
}

/// Follows the channel from its beginning, over whatever nodes are there, until everything acknowledged was seen.
async fn subscribe(seed: u64, history: Arc<History>) -> turmoil::Result {
    let client = connect(seed + 1_000_000).await;
    let mut subscription = loop {
        match client.subscribe(CHANNEL, Start::Earliest).await {
            Ok(subscription) => break subscription,
            Err(error) if error.code() == "CHANNEL_NOT_FOUND" => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.into()),
        }
    };
    let mut next = 0;
    loop {
        let all = history.acknowledged.lock().values().max().map_or(0, |last| last + 1);
        let enough = history.acknowledged.lock().len() as u64 >= PUBLISHERS * ENOUGH;
        if history.over.load(Ordering::SeqCst) && enough && next >= all {
            return Ok(());
        }
        let Ok(message) = tokio::time::timeout(Duration::from_secs(1), subscription.next()).await else { continue };
        let message = message.expect("a subscription goes on for ever")?;
        assert_eq!(message.seq, next, "no gap and no repeat");
        next += 1;
        history.seen.store(next, Ordering::SeqCst);
    }
}

/// Removes nodes when it is asked to.
async fn operate(seed: u64, history: Arc<History>) -> turmoil::Result {
    let client = connect(seed + 2_000_000).await;
    while !history.over.load(Ordering::SeqCst) {
        let name = *history.remove.lock();
        if let Some(name) = name
            && client.remove_node(name).await.is_ok()
        {
            *history.remove.lock() = None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

pub(super) struct World<'a> {
    sim: turmoil::Sim<'a>,
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) history: Arc<History>,
    pub(super) random: StdRng,
}

impl World<'_> {
    /// One tick; whether all clients are done.
    fn step(&mut self) -> bool {
        self.sim.step().unwrap_or_else(|error| panic!("after {:?}: {error}", self.sim.elapsed()))
    }

    pub(super) fn wait(&mut self, what: &str, until: impl Fn(&Self) -> bool) {
        while !until(self) {
            assert!(self.sim.elapsed() < PATIENCE, "waited in vain for {what}");
            self.step();
        }
    }

    /// Lets a random time pass, in milliseconds.
    pub(super) fn pass(&mut self, from: u64, to: u64) {
        let end = self.sim.elapsed() + Duration::from_millis(self.random.random_range(from..to));
        self.wait("time to pass", |world| world.sim.elapsed() >= end);
    }

    fn leader(&self) -> Option<usize> {
        self.machines
            .iter()
            .position(|machine| machine.broker().is_some_and(|broker| matches!(broker.leader(), Leader::Local { .. })))
    }

    pub(super) fn some_leader(&mut self) -> usize {
        self.wait("a leader", |world| world.leader().is_some());
        self.leader().expect("it was there a moment ago")
    }

    fn acknowledged(&self) -> usize {
        self.history.acknowledged.lock().len()
    }

    /// Publishing goes on.
    pub(super) fn progress(&mut self) {
        let before = self.acknowledged();
        self.wait("publishing to go on", move |world| world.acknowledged() >= before + 5);
    }

    fn partition_the_leader(&mut self) {
        let leader = self.some_leader();
        for other in (0..NODES.len()).filter(|other| *other != leader) {
            self.sim.partition(NODES[leader], NODES[other]);
        }
        self.pass(500, 6_000);
        for other in (0..NODES.len()).filter(|other| *other != leader) {
            self.sim.repair(NODES[leader], NODES[other]);
        }
        self.progress();
    }

    fn cut_power_of_one(&mut self) {
        let leader = self.some_leader();
        let victim = if self.random.random_bool(0.5) { leader } else { (leader + 1) % NODES.len() };
        self.cut(victim);
        self.pass(100, 4_000);
        self.restart(victim);
        self.progress();
    }

    fn cut_power_of_all(&mut self) {
        (0..NODES.len()).for_each(|number| self.cut(number));
        self.pass(100, 1_000);
        (0..NODES.len()).for_each(|number| self.restart(number));
        self.progress();
    }

    pub(super) fn cut(&mut self, number: usize) {
        self.machines[number].cut();
        self.sim.crash(NODES[number]);
    }

    pub(super) fn restart(&mut self, number: usize) {
        self.sim.bounce(NODES[number]);
    }

    /// Everything acknowledged is on every node once, where its acknowledgement said, and all nodes are equal.
    fn check(&self, seed: u64) -> String {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let acknowledged = self.history.acknowledged.lock();
        let (mut first, mut log) = (None, None);
        for (name, machine) in NODES.iter().zip(&self.machines) {
            let store = machine.store.lock().clone();
            let (batches, hash) = runtime.block_on(async {
                let batches = store.read_batches(&format!("{CHANNEL}:0"), 0, usize::MAX).await.expect("readable");
                (batches, store.root_hash().await.expect("hashable"))
            });
            let shown = |batch: &StoredBatch| {
                let keys: Vec<String> =
                    batch.frame.messages().map(|m| m.map(|m| m.key().to_owned()).unwrap_or_default()).collect();
                format!("{} at {}: {keys:?}", batch.first_seq, batch.time_ms)
            };
            let shown: Vec<String> = batches.iter().map(shown).collect();
            let reference = log.get_or_insert_with(|| shown.clone());
            let differ = reference.iter().zip(&shown).position(|(a, b)| a != b);
            if let Some(at) = differ {
                let from = at.saturating_sub(2);
                panic!("n1: {:#?}\n{name}: {:#?}", &reference[from..at + 3], &shown[from..at + 3]);
            }
            assert_eq!(reference.len(), shown.len(), "batches on {name}");
            let mut keys = BTreeMap::new();
            let mut next = 0;
            for batch in &batches {
                assert_eq!(batch.first_seq, next, "{name} has a gap");
                for message in batch.frame.messages() {
                    let message = message.expect("a message");
                    assert_eq!(message.payload, format!("payload of {}", message.key()));
                    let before = keys.insert(message.key().to_owned(), next);
                    assert_eq!(before, None, "{} is twice on {name}", message.key());
                    next += 1;
                }
            }
            for (key, seq) in acknowledged.iter() {
                assert_eq!(keys.get(key), Some(seq), "{key} on {name}, which holds {next} messages");
            }
            assert_eq!(*first.get_or_insert(hash.clone()), hash, "{name} differs from {}", NODES[0]);
            if let Some(broker) = machine.broker()
                && acknowledged.len() as u64 > machine.hot_keys() + 100
            {
                let places = broker.view().key_places();
                assert!(places.files > 0 && places.in_memory < 200, "{name} has its keys elsewhere: {places:?}");
            }
        }
        format!(
            "seed {seed}: {} acknowledged, {} repeated, {} seen by the subscriber, state {} after {:?}",
            acknowledged.len(),
            self.history.retried.load(Ordering::SeqCst),
            self.history.seen.load(Ordering::SeqCst),
            first.map(|(hash, _)| hash.to_string()).unwrap_or_default(),
            self.sim.elapsed(),
        )
    }
}
