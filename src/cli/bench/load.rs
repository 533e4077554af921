//! The load: a closed loop, in which each ack lets the next message go, or an open one on a schedule. In the open
//! loop a latency begins when the message was due, so that a stall shows in all the messages that it held up.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{PublishArgs, cpu};
use crate::{
    cli::{CliError, Global, remote::connect},
    client::{Ack, Channel, ChannelConfig, Client, ClientError, Code, Message, Published, Publisher, PublisherOptions},
};

/// Errors in a row after which a connection's load ends: more would only repeat it.
const HOPELESS: u32 = 100;

/// What a load came to.
pub struct Measured {
    /// Messages that counted.
    pub messages: u64,
    /// Of each acknowledged message, microseconds.
    pub latency: Histogram<u64>,
    /// Messages that were not acknowledged.
    pub errors: u64,
    /// The last of their errors.
    pub last_error: Option<ClientError>,
    /// How long was measured.
    pub took: Duration,
    /// CPU time of the servers in that time.
    pub server_cpu: Option<Duration>,
    /// CPU time of this process in that time.
    pub client_cpu: Option<Duration>,
    /// Resident memory of each server at the end, in bytes.
    pub server_rss: Vec<u64>,
}

/// Latencies above this count as this: an hour.
const MAX_LATENCY_US: u64 = 3_600_000_000;

/// Of latencies in microseconds, exact to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MAX_LATENCY_US, 3).expect("a maximum above 1 and three digits are allowed")
}

/// The time in which something counts.
#[derive(Clone, Copy)]
pub struct Window {
    /// Stamps of messages count from here.
    pub epoch: Instant,
    pub from: Instant,
    pub until: Instant,
}

impl Window {
    pub fn begin(warmup: Duration, duration: Duration) -> Self {
        let epoch = Instant::now();
        Self { epoch, from: epoch + warmup, until: epoch + warmup + duration }
    }

    pub fn contains(&self, moment: Instant) -> bool {
        (self.from..self.until).contains(&moment)
    }
}

/// The channel, created when it is missing.
pub async fn prepare(client: &Client, channel: &str) -> Result<Channel, CliError> {
    match client.channel(channel).await {
        Ok(channel) => Ok(channel),
        Err(error) if *error.code() == Code::ChannelNotFound => {
            Ok(client.create_channel(channel, ChannelConfig::default()).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Connections to publish on.
pub async fn publishers(args: &PublishArgs, global: &Global) -> Result<Vec<Client>, CliError> {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(connect(global).await?);
    }
    Ok(clients)
}

/// A latency as the histogram takes it: at least one microsecond.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Publishes as the arguments say, and measures within the window. Each payload can say when it was made.
pub async fn publish(
    args: &PublishArgs,
    clients: Vec<Client>,
    pids: &[u32],
    window: Window,
    stamped: bool,
) -> Result<Measured, CliError> {
    let Window { from, until, .. } = window;
    let payloads = payloads(args.payloads.as_deref(), args.size)?;
    let run = ulid::Ulid::generate().to_string();
    let loads = clients.into_iter().zip(0u32..).map(|(client, index)| {
        let in_flight = share(args.in_flight, args.connections, index);
        let options = PublisherOptions { in_flight, ..args.confirm.options() };
        let load = Load {
            publisher: client.publisher(&args.channel, options),
            source: Source {
                payloads: payloads.clone(),
                stamps: stamped.then_some(window.epoch),
                key: args.keys.then(|| format!("{run}-{index}-")),
                next: 0,
            },
            tally: Tally { window, latency: histogram(), errors: 0, last_error: None, in_a_row: 0 },
        };
        let schedule = args.rate.map(|rate| Schedule::new(rate, args.connections, index));
        tokio::spawn(async move {
            match schedule {
                Some(schedule) => load.open(schedule).await,
                None => load.closed(in_flight as usize).await,
            }
        })
    });
    let loads: Vec<_> = loads.collect();
    sleep_until(from).await;
    let meter = cpu::Meter::start(pids);
    sleep_until(until).await;
    let (server_cpu, client_cpu) = meter.read(pids);
    let tallies = try_join_all(loads).await.map_err(|error| CliError::failed(error.to_string()))?;
    let mut measured = Measured {
        messages: 0,
        latency: histogram(),
        errors: 0,
        last_error: None,
        took: args.duration,
        server_cpu,
        client_cpu,
        server_rss: cpu::memory_of_all(pids),
    };
    for tally in tallies {
        measured.messages += tally.latency.len();
        measured.latency.add(tally.latency).map_err(|error| CliError::failed(error.to_string()))?;
        measured.errors += tally.errors;
        measured.last_error = tally.last_error.or(measured.last_error);
    }
    Ok(measured)
}

/// What one of `parts` gets of `whole`; all of them together get all of it.
fn share(whole: u32, parts: u32, index: u32) -> u32 {
    whole / parts + u32::from(index < whole % parts)
}

/// Different payloads that the messages of a load take turns with: more than a batch has, so that an entry holds no
/// message twice and a store that compresses gains no more than it would from real text.
const PAYLOADS: u64 = 8192;

/// What the messages of a load carry.
pub(super) fn payloads(file: Option<&Path>, size: usize) -> Result<Arc<[Bytes]>, CliError> {
    let Some(file) = file else { return Ok((0..PAYLOADS).map(|seed| payload(size, seed)).collect()) };
    let text = std::fs::read_to_string(file)
        .map_err(|error| CliError::usage(format!("cannot read {}: {error}", file.display())))?;
    let lines: Arc<[Bytes]> = text.lines().filter(|line| !line.is_empty()).map(|line| line.to_owned().into()).collect();
    if lines.is_empty() {
        return Err(CliError::usage(format!("{} has no line to publish", file.display())));
    }
    Ok(lines)
}

/// JSON, so that channels with a simple schema take it as well, of exactly `size` bytes where that is possible; the
/// text in it is random.
fn payload(size: usize, seed: u64) -> Bytes {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let frame = r#"{"p":""}"#.len();
    let Some(rest) = size.checked_sub(frame) else { return "1".repeat(size).into() };
    // SplitMix64: https://prng.di.unimi.it/splitmix64.c
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        char::from(LETTERS[(mixed >> 58) as usize])
    };
    let text: String = (0..rest).map(|_| letter()).collect();
    format!(r#"{{"p":"{text}"}}"#).into()
}

/// Bytes of a stamp: microseconds as hexadecimal digits, so that the payload stays a JSON text.
pub const STAMP: usize = 16;
/// Where the stamp begins.
const STAMP_AT: usize = r#"{"p":""#.len();

/// When a payload was made, in microseconds of the window's epoch.
pub fn stamp_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(STAMP_AT..STAMP_AT + STAMP)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

struct Source {
    payloads: Arc<[Bytes]>,
    /// Payloads are stamped with the time since then.
    stamps: Option<Instant>,
    key: Option<String>,
    next: u64,
}

impl Source {
    fn message(&mut self) -> Message {
        let payload = &self.payloads[self.next as usize % self.payloads.len()];
        let mut message = Message::new(match self.stamps {
            None => payload.clone(),
            Some(epoch) => {
                let mut payload = payload.to_vec();
                let stamp = format!("{:0width$x}", epoch.elapsed().as_micros(), width = STAMP);
                payload[STAMP_AT..STAMP_AT + STAMP].copy_from_slice(stamp.as_bytes());
                payload.into()
            }
        });
        if let Some(key) = &self.key {
            message = message.with_key(format!("{key}{}", self.next));
        }
        self.next += 1;
        message
    }
}

/// When the n-th message of a connection is due: the connections take turns.
struct Schedule {
    rate: u64,
    connections: u32,
    index: u32,
}

impl Schedule {
    fn new(rate: u64, connections: u32, index: u32) -> Self {
        Self { rate, connections, index }
    }

    fn due(&self, n: u64) -> Duration {
        let position = u128::from(n) * u128::from(self.connections) + u128::from(self.index);
        Duration::from_nanos(u64::try_from(position * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX))
    }
}

struct Tally {
    window: Window,
    latency: Histogram<u64>,
    errors: u64,
    last_error: Option<ClientError>,
    in_a_row: u32,
}

impl Tally {
    /// Counts what was acknowledged within the measured time, and everything that failed.
    fn add(&mut self, begun: Instant, result: Result<Published, ClientError>) {
        let now = Instant::now();
        match result {
            Ok(_) => {
                self.in_a_row = 0;
                if self.window.contains(now) {
                    self.latency.saturating_record(micros(now.duration_since(begun)));
                }
            }
            Err(error) => {
                self.in_a_row += 1;
                self.errors += 1;
                self.last_error = Some(error);
            }
        }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.window.until && self.in_a_row < HOPELESS
    }
}

struct Load {
    publisher: Publisher,
    source: Source,
    tally: Tally,
}

impl Load {
    /// Acks come in order, so one loop per connection suffices and the client stays cheap.
    async fn closed(mut self, in_flight: usize) -> Tally {
        let mut waiting: VecDeque<(Instant, Ack)> = VecDeque::with_capacity(in_flight);
        loop {
            while waiting.len() < in_flight && self.tally.goes_on() {
                let begun = Instant::now();
                match self.publisher.enqueue(self.source.message()).await {
                    Ok(ack) => waiting.push_back((begun, ack)),
                    Err(error) => self.tally.add(begun, Err(error)),
                }
            }
            let Some((begun, ack)) = waiting.pop_front() else { return self.tally };
            self.tally.add(begun, ack.await);
        }
    }

    async fn open(self, schedule: Schedule) -> Tally {
        let Self { publisher, mut source, mut tally } = self;
        let (sender, mut acks) = mpsc::channel::<(Instant, Result<Ack, ClientError>)>(8192);
        let until = tally.window.until;
        let start = Instant::now();
        // A thread keeps the time: the runtime's timers are only exact to a millisecond.
        let (tick, mut ticks) = mpsc::channel::<Instant>(8192);
        let clock = tokio::task::spawn_blocking(move || {
            for due in (0..).map(|n| start + schedule.due(n)).take_while(|due| *due < until) {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if tick.blocking_send(due).is_err() {
                    return;
                }
            }
        });
        let send = async move {
            while let Some(due) = ticks.recv().await {
                let ack = publisher.enqueue(source.message()).await;
                if sender.send((due, ack)).await.is_err() {
                    return;
                }
            }
        };
        let collect = async {
            while let Some((due, ack)) = acks.recv().await {
                let result = match ack {
                    Ok(ack) => ack.await,
                    Err(error) => Err(error),
                };
                tally.add(due, result);
                if tally.in_a_row >= HOPELESS {
                    break;
                }
            }
            // Lets the sender see that nobody listens.
            drop(acks);
            tally
        };
        let ((), tally, _) = tokio::join!(send, collect, clock);
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::PublishResponse;

    #[test]
    fn connections_share_the_messages_in_flight_without_losing_one() {
        let shares: Vec<u32> = (0..3).map(|index| share(256, 3, index)).collect();
        assert_eq!(shares, [86, 85, 85]);
    }

    #[test]
    fn connections_take_turns_on_the_schedule() {
        let due = |index, n| Schedule::new(1000, 2, index).due(n);
        let order = [due(0, 0), due(1, 0), due(0, 1), due(1, 1)];
        assert_eq!(order.map(|due| due.as_millis()), [0, 1, 2, 3]);
        assert_eq!(due(0, 5_000_000), Duration::from_secs(10_000));
    }

    #[test]
    fn payloads_have_the_size_asked_for_and_are_json() {
        for size in [1, 7, 8, 256] {
            let payload = payload(size, 7);
            assert_eq!(payload.len(), size);
            assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        }
    }

    #[test]
    fn payloads_come_from_the_lines_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(payloads(Some(file.path()), 256).is_err());
        std::fs::write(file.path(), "{\"a\":1}\n\n2\n").unwrap();
        assert_eq!(payloads(Some(file.path()), 256).unwrap()[..], [&b"{\"a\":1}"[..], b"2"]);
    }

    #[test]
    fn payloads_differ() {
        assert_ne!(payload(64, 1), payload(64, 2));
    }

    #[test]
    fn a_stamp_is_read_back_and_the_payload_stays_json() {
        let epoch = Instant::now() - Duration::from_secs(5);
        let mut source = Source { payloads: [payload(64, 1)].into(), stamps: Some(epoch), key: None, next: 0 };
        let message = source.message();
        assert!((5_000_000..60_000_000).contains(&stamp_of(&message.payload).unwrap()));
        assert_eq!(message.payload.len(), 64);
        assert!(serde_json::from_slice::<serde_json::Value>(&message.payload).is_ok());
        assert_eq!(stamp_of(b"short"), None);
    }

    #[test]
    fn only_acks_within_the_measured_time_count_and_all_errors_do() {
        let now = Instant::now();
        let (second, published) =
            (Duration::from_secs(60), Published::from(PublishResponse { term: 1, ..PublishResponse::default() }));
        let tally = |from, until| {
            let window = Window { epoch: now, from, until };
            Tally { window, latency: histogram(), errors: 0, last_error: None, in_a_row: 0 }
        };
        let mut warming = tally(now + second, now + second * 2);
        warming.add(now, Ok(published));
        warming.add(now, Err(ClientError::refused(Code::NoLeader, "")));
        assert_eq!((warming.latency.len(), warming.errors), (0, 1));
        let mut measuring = tally(now - second, now + second);
        measuring.add(now - second, Ok(published));
        assert_eq!(measuring.latency.len(), 1);
        assert!(measuring.latency.max() >= 59_000_000);
    }
}
