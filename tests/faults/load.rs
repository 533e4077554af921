//! The mixed load of every row: publishers that repeat and publishers that do not, contenders for a place, a storm on one
//! key, transactions, claims, a consumer's group, subscribers that roam and subscribers that stay, and reads that must
//! not be stale. Modest in rate, because what matters is what happens to each of its messages.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use liminal::client::{ChannelConfig, Client, Confirm, ConsumerConfig, Message, Start};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    history::{History, Intent, Outcome, Record},
    raw::{self, Claim, Node},
};

/// Everything that is published to, and looked up on every node in the end.
pub const CHANNELS: [&str; 7] = ["keyed", "plain", "contended", "storm", "left", "right", "jobs"];
/// Nothing is published here but in the middle of the fault: its subscribers wait for long.
pub const IDLE: &str = "idle";
/// Its group consumes `jobs`.
pub const CONSUMER: &str = "workers";
pub const CLAIMS: &str = "work";
/// How long a lease lasts, and how long a delivery may be unsettled.
pub const LEASE: Duration = Duration::from_secs(3);
/// Between two calls of one client.
const PAUSE: Duration = Duration::from_millis(40);
/// Between two attempts where nothing worked.
const AGAIN: Duration = Duration::from_millis(200);

/// A client for everything that is not part of the load's history.
pub async fn client(addresses: &[String], patience: Duration) -> Result<Client, String> {
    let builder = Client::builder().servers(addresses).retry_for(patience).connect_timeout(Duration::from_secs(1));
    builder.answer_timeout(Duration::from_secs(5)).connect().await.map_err(|error| error.to_string())
}

/// Makes what the load needs.
pub async fn prepare(client: &Client) -> Result<(), String> {
    let say = |error: liminal::client::ClientError| error.to_string();
    for name in CHANNELS.into_iter().chain([IDLE]) {
        client.create_channel(name, ChannelConfig::default()).await.map_err(say)?;
    }
    let config = ConsumerConfig::new().ack_timeout(LEASE);
    client.create_consumer("jobs", CONSUMER, config, Start::Earliest).await.map_err(say)?;
    Ok(())
}

/// The running load.
pub struct Load {
    tasks: JoinSet<()>,
    world: World,
}

#[derive(Clone)]
struct World {
    addresses: Arc<Vec<String>>,
    nodes: Arc<Vec<Node>>,
    history: History,
    /// Ends whoever writes.
    writing: CancellationToken,
    /// Ends whoever reads.
    reading: CancellationToken,
}

impl Load {
    pub fn start(addresses: Vec<String>, history: History) -> Self {
        let nodes = Arc::new(addresses.iter().map(|address| Node::new(address)).collect());
        let (writing, reading) = (CancellationToken::new(), CancellationToken::new());
        let world = World { addresses: Arc::new(addresses), nodes, history, writing, reading };
        let mut tasks = JoinSet::new();
        for number in 0..2 {
            tasks.spawn(repeating(world.clone(), "keyed", number));
            tasks.spawn(contender(world.clone(), number));
            tasks.spawn(claimer(world.clone(), number));
            tasks.spawn(member(world.clone(), number));
        }
        tasks.spawn(repeating(world.clone(), "jobs", 2));
        tasks.spawn(once(world.clone(), "keyed", true));
        tasks.spawn(once(world.clone(), "plain", false));
        tasks.spawn(storm(world.clone()));
        tasks.spawn(transactions(world.clone()));
        tasks.spawn(reader(world.clone()));
        tasks.spawn(roaming(world.clone(), "keyed"));
        for number in 0..world.nodes.len() {
            tasks.spawn(staying(world.clone(), "keyed", number));
            tasks.spawn(staying(world.clone(), IDLE, number));
        }
        Self { tasks, world }
    }

    /// No more is written.
    pub fn stop_writing(&self) {
        self.world.writing.cancel();
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        self.stop_writing();
        self.world.reading.cancel();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl World {
    fn node(&self, number: usize) -> &Node {
        &self.nodes[number % self.nodes.len()]
    }

    /// Waits a little; whether to go on writing.
    async fn pause(&self, time: Duration) -> bool {
        self.writing.run_until_cancelled(tokio::time::sleep(time)).await.is_some()
    }

    async fn publish(&self, node: usize, message: Intent, expected: Option<u64>) -> Outcome<u64> {
        let begun = self.history.now();
        let outcome = self.node(node).publish(&message, expected).await;
        let ended = self.history.now();
        self.history.add(Record::Publish { begun, ended, message, expected, outcome: outcome.clone() });
        outcome
    }
}

/// Publishes with keys through the library's client, which repeats until it knows.
async fn repeating(world: World, channel: &'static str, number: usize) {
    let Ok(client) = client(&world.addresses, Duration::from_secs(30)).await else { return };
    for message in 0.. {
        publish_repeating(&client, &world.history, channel, format!("{channel}-{number}-{message}")).await;
        if !world.pause(PAUSE).await {
            return;
        }
    }
}

/// Publishes one message until it is known what became of it.
pub async fn publish_repeating(client: &Client, history: &History, channel: &'static str, name: String) {
    let message = Intent { channel, key: name.clone(), payload: name };
    let begun = history.now();
    let sent = Message::new(message.payload.clone()).with_key(message.key.clone());
    let outcome = match client.publish(channel, sent).confirm(Confirm::Commit).await {
        Ok(published) => Outcome::Done(published.seq),
        Err(error) if error.outcome_unknown() => Outcome::Unknown(error.code().to_string()),
        Err(error) => Outcome::Refused(error.code().to_string()),
    };
    history.add(Record::Publish { begun, ended: history.now(), message, expected: None, outcome });
}

/// Publishes each message once, through one node after another.
async fn once(world: World, channel: &'static str, keyed: bool) {
    for number in 0.. {
        let payload = format!("{channel}-once-{number}");
        let key = if keyed { payload.clone() } else { String::new() };
        let done = matches!(world.publish(number, Intent { channel, key, payload }, None).await, Outcome::Done(_));
        if !world.pause(if done { PAUSE } else { AGAIN }).await {
            return;
        }
    }
}

/// Publishes where the channel ends, as others do too.
async fn contender(world: World, contender: usize) {
    for number in 0.. {
        let through = number + contender;
        if let Outcome::Done(end) = world.node(through).end("contended").await {
            let payload = format!("contended-{contender}-{number}");
            world.publish(through + 1, Intent { channel: "contended", key: String::new(), payload }, Some(end)).await;
        }
        if !world.pause(2 * PAUSE).await {
            return;
        }
    }
}

/// Publishes one key through all nodes at the same time, again and again.
async fn storm(world: World) {
    for number in 0.. {
        let name = format!("storm-{number}");
        let message = || Intent { channel: "storm", key: name.clone(), payload: name.clone() };
        let all = (0..world.nodes.len() * 2).map(|node| world.publish(node, message(), None));
        futures::future::join_all(all).await;
        if !world.pause(10 * PAUSE).await {
            return;
        }
    }
}

async fn transactions(world: World) {
    for number in 0.. {
        let name = format!("both-{number}");
        let messages: Vec<Intent> =
            ["left", "right"].map(|channel| Intent { channel, key: name.clone(), payload: name.clone() }).into();
        // A second attempt with the same keys, whatever became of the first.
        for attempt in 0..2 {
            let begun = world.history.now();
            let outcome = world.node(number + attempt).transaction(&messages).await;
            let ended = world.history.now();
            let done = matches!(outcome, Outcome::Done(_));
            world.history.add(Record::Transaction { begun, ended, messages: messages.clone(), outcome });
            if done && number % 4 != 0 {
                break;
            }
        }
        if !world.pause(3 * PAUSE).await {
            return;
        }
    }
}

/// Asks for claims that another one asks for too; completes most of those that it gets, and comes back to the others.
async fn claimer(world: World, worker: usize) {
    for number in 0usize.. {
        let claim = if number % 3 == 2 { (number / 2).saturating_sub(10) } else { number };
        let (key, owner) = (format!("claim-{claim}"), format!("worker-{worker}-{number}"));
        if let Some(token) = take(&world.history, world.node(number + worker), &key, &owner, LEASE).await
            && number % 5 != 4
        {
            let receipt = format!("done by {owner} with {token}");
            let begun = world.history.now();
            let outcome = world.node(number).complete(CLAIMS, &key, token, &receipt).await;
            let ended = world.history.now();
            world.history.add(Record::Complete { begun, ended, key, token, receipt, outcome });
        }
        if !world.pause(2 * PAUSE).await {
            return;
        }
    }
}

/// Asks for a claim once; gives its token if it was granted.
pub async fn take(history: &History, node: &Node, key: &str, owner: &str, lease: Duration) -> Option<u64> {
    let begun = history.now();
    let answer = node.take(CLAIMS, key, owner, lease).await;
    let ended = history.now();
    let outcome = match answer {
        Outcome::Done(Claim::Granted(token)) => Outcome::Done(Some(token)),
        Outcome::Done(Claim::InFlight) => Outcome::Done(None),
        Outcome::Done(Claim::Completed(receipt)) => {
            history.add(Record::Told { key: key.to_owned(), receipt });
            Outcome::Done(None)
        }
        Outcome::Refused(code) => Outcome::Refused(code),
        Outcome::Unknown(code) => Outcome::Unknown(code),
    };
    let token = if let Outcome::Done(token) = outcome { token } else { None };
    history.add(Record::Take { begun, ended, key: key.to_owned(), lease, outcome });
    token
}

/// A member of the group: leaves one in seven unsettled the first time.
async fn member(world: World, number: usize) {
    let member = format!("member-{number}");
    while !world.reading.is_cancelled() {
        let Ok(client) = client(&world.addresses, Duration::from_secs(30)).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let Ok(mut deliveries) = client.consumer("jobs", CONSUMER).credit(20).open().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        while let Some(Ok(delivery)) = deliveries.next().await {
            let (seq, attempt) = (delivery.received.seq, delivery.attempt);
            world.history.add(Record::Handed { at: world.history.now(), member: member.clone(), seq, attempt });
            if attempt == 1 && seq % 7 == 3 {
                continue;
            }
            let (history, settled) = (world.history.clone(), delivery.ack());
            tokio::spawn(async move {
                let begun = history.now();
                let outcome = match settled.await {
                    Ok(()) => Outcome::Done(()),
                    Err(error) if error.outcome_unknown() => Outcome::Unknown(error.code().to_string()),
                    Err(error) => Outcome::Refused(error.code().to_string()),
                };
                history.add(Record::Settle { begun, ended: history.now(), seq, attempt, outcome });
            });
        }
    }
}

/// Asks where channels end, through one node after another.
async fn reader(world: World) {
    for number in 0usize.. {
        let channel = ["plain", "keyed"][number % 2];
        let begun = world.history.now();
        if let Outcome::Done(end) = world.node(number / 2).end(channel).await {
            world.history.add(Record::Read { begun, ended: world.history.now(), channel, end });
        }
        if !world.pause(2 * PAUSE).await {
            return;
        }
    }
}

/// Follows through the library's client, which goes on at another node when one fails.
async fn roaming(world: World, channel: &'static str) {
    let mut next = 0;
    loop {
        let Ok(client) = client(&world.addresses, Duration::from_secs(30)).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let Ok(mut messages) = client.subscribe(channel, Start::Seq(next)).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        while let Some(Ok(received)) = messages.next().await {
            let payload = String::from_utf8_lossy(&received.message.payload).into_owned();
            next = received.seq + 1;
            world.history.add(Record::Seen { reader: "roaming".into(), channel, seq: received.seq, payload });
        }
    }
}

/// Follows at one address only, and comes back to it.
async fn staying(world: World, channel: &'static str, number: usize) {
    let (reader, mut next) = (format!("staying at {}", world.nodes[number].address), 0);
    loop {
        if let Ok(mut deliveries) = world.nodes[number].follow(channel, next).await {
            while let Ok(Some(delivery)) = deliveries.message().await {
                let Ok(messages) = raw::messages(delivery) else { break };
                let from = next;
                for (seq, _, payload) in messages.into_iter().filter(|(seq, ..)| *seq >= from) {
                    next = seq + 1;
                    world.history.add(Record::Seen { reader: reader.clone(), channel, seq, payload });
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
