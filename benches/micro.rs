//! What each step of a message's way costs by itself, per entry of 128 messages of 256 B unless it says otherwise.
//! `cargo bench` compares with the run before it, so a change shows what it did.

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use liminal::{
    broker::CompiledSchema,
    codec,
    fanout::{Fanout, Next, Taking},
    machine::Machine,
    meter::{Histogram, TracedHistogram},
    model::{
        ChannelConfig, ChannelId, Command, Digest, Durability, Frame, KeyClaim, KeyHash, Limits, PublishGroup,
        StoredBatch,
    },
    proto::v1::Message,
    raft::log::{DiskLog, LogPosition, LogStore as _},
    store::{DurableStore as _, HaematiteConfig, HaematiteStore, WriteBatch},
};

const MESSAGES: u32 = 128;
const CHANNEL: ChannelId = ChannelId(1);

fn frame() -> Frame {
    let message = Message { payload: Bytes::from(vec![b'x'; 256]), ..Message::default() };
    Frame::encode(&vec![message; MESSAGES as usize])
}

fn command(time_ms: u64, keys: Vec<KeyClaim>) -> Command {
    Command::Publish {
        time_ms,
        groups: vec![PublishGroup { channel: CHANNEL, keys, frame: frame(), ..PublishGroup::default() }],
    }
}

fn batch(first_seq: u64) -> StoredBatch {
    StoredBatch { first_seq, time_ms: 1, schema_id: 0, expires: false, frame: frame() }
}

/// A machine with one channel.
fn machine() -> Machine {
    let mut machine = Machine::restore([]).expect("an empty state");
    let name = "bench".parse().expect("a name");
    machine.apply(Command::CreateChannel { time_ms: 1, name, config: ChannelConfig::default() });
    machine
}

fn keys(first: u64) -> Vec<KeyClaim> {
    let digest = Digest::of(b"payload");
    (0..MESSAGES)
        .map(|position| KeyClaim {
            position,
            key: KeyHash::of(&format!("key-{}", first + u64::from(position))),
            digest,
        })
        .collect()
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    let (command, batch) = (command(1, Vec::new()), batch(0));
    let keyed = self::command(1, keys(0));
    let stored = codec::encode_batch(&batch);
    for (name, command) in [("a command", command), ("a command with keys", keyed)] {
        let encoded = codec::encode_command(&command);
        group.bench_function(format!("encode {name}"), |b| b.iter(|| codec::encode_command(black_box(&command))));
        group.bench_function(format!("decode {name}"), |b| b.iter(|| codec::decode_command(black_box(&encoded))));
    }
    group.bench_function("encode a stored batch", |b| b.iter(|| codec::encode_batch(black_box(&batch))));
    group.bench_function("decode a stored batch", |b| b.iter(|| codec::decode_batch(black_box(&stored))));
    let bytes = frame().bytes();
    group.bench_function("walk a frame", |b| b.iter(|| Frame::parse(black_box(bytes.clone()))));
    group.finish();
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("machine");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    let mut plain = machine();
    let entry = command(1, Vec::new());
    group.bench_function("apply", |b| {
        b.iter_batched(|| entry.clone(), |entry| plain.apply(entry), BatchSize::SmallInput)
    });
    let (mut keyed, mut next) = (machine(), 0);
    group.bench_function("apply with fresh keys", |b| {
        b.iter_batched(
            || {
                next += u64::from(MESSAGES);
                command(next, keys(next))
            },
            |entry| keyed.apply(entry),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn stores(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("store");
    group
        .throughput(Throughput::Elements(u64::from(MESSAGES)))
        .sample_size(20)
        .measurement_time(Duration::from_secs(5));
    let dir = tempfile::tempdir().expect("a directory");
    let store = HaematiteStore::open(&dir.path().join("state"), HaematiteConfig::default()).expect("a store");
    let mut next = 0;
    group.bench_function("commit and fold", |b| {
        b.iter_custom(|rounds| {
            let begun = Instant::now();
            for _ in 0..rounds {
                let appends = vec![(Arc::from("bench:0"), batch(next))];
                next += u64::from(MESSAGES);
                runtime.block_on(store.commit(WriteBatch { appends, ..WriteBatch::default() })).expect("a commit");
            }
            runtime.block_on(store.flush()).expect("a flush");
            begun.elapsed()
        });
    });
    runtime.block_on(store.close()).expect("a close");
    group.finish();
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(u64::from(MESSAGES))).sample_size(20);
    let dir = tempfile::tempdir().expect("a directory");
    let log = DiskLog::open(dir.path(), 16 << 20).expect("a log");
    let entry = codec::encode_command(&command(1, Vec::new()));
    let (sender, durable) = std::sync::mpsc::sync_channel(1);
    let mut index = 0;
    group.bench_function("append and sync", |b| {
        b.iter(|| {
            let sender = sender.clone();
            let position = LogPosition { term: 1, index };
            let done = Box::new(move |result: std::io::Result<()>| sender.send(result.is_ok()).expect("a receiver"));
            log.append(vec![(position, entry.clone())], done).expect("an append");
            index += 1;
            assert!(durable.recv().expect("an answer"));
            if index % 1000 == 0 {
                log.purge(position).expect("a purge");
            }
        });
    });
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(u64::from(MESSAGES) * 12));
    let fanout = Fanout::new(8 << 20, 64 << 20);
    let followers: Vec<_> = (0..12).map(|_| fanout.follow(CHANNEL, Durability::Durable, Taking::All)).collect();
    for follower in &followers {
        follower.begin(None, 0);
    }
    let mut next = 0;
    group.bench_function("publish to 12 followers", |b| {
        b.iter(|| {
            fanout.publish(CHANNEL, batch(next));
            for follower in &followers {
                assert!(matches!(follower.at(next), Next::Batch(_)));
                follower.passed(next + u64::from(MESSAGES));
            }
            next += u64::from(MESSAGES);
        });
    });
    group.finish();
}

/// Real messages where they are at hand (`LIMINAL_TEST_DATA`), otherwise a small order.
fn schema_and_payloads() -> (String, Vec<Vec<u8>>) {
    if let Some(dir) = std::env::var_os("LIMINAL_TEST_DATA").map(PathBuf::from)
        && let (Ok(schema), Ok(events)) =
            (fs::read_to_string(dir.join("schemas/pull_request.json")), fs::read_to_string(dir.join("events.ndjson")))
    {
        let payload = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["event"] == "pull_request").then(|| line["payload"].to_string().into_bytes())
        };
        return (schema, events.lines().filter_map(payload).collect());
    }
    let schema = r#"{"type":"object","required":["id","items"],"properties":{"id":{"type":"integer"},
        "items":{"type":"array","items":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"},
        "count":{"type":"integer","minimum":1}}}}}}"#;
    let items: Vec<String> = (0..20).map(|n| format!(r#"{{"sku":"sku-{n}","count":{}}}"#, n + 1)).collect();
    (schema.to_owned(), vec![format!(r#"{{"id":7,"items":[{}]}}"#, items.join(",")).into_bytes()])
}

fn schemas(c: &mut Criterion) {
    let mut group = c.benchmark_group("schema");
    let (text, payloads) = schema_and_payloads();
    group.throughput(Throughput::Elements(payloads.len() as u64));
    let limits = Limits::default();
    let compiled = CompiledSchema::compile(&text, &limits).expect("a schema");
    group.bench_function("check", |b| {
        b.iter(|| payloads.iter().filter(|payload| compiled.check(black_box(payload), &limits).is_ok()).count());
    });
    let bare = jsonschema::validator_for(&serde_json::from_str(&text).expect("JSON")).expect("a schema");
    group.bench_function("parse and validate with the bare library", |b| {
        b.iter(|| {
            let valid = |payload: &&Vec<u8>| {
                let value: serde_json::Value = serde_json::from_slice(black_box(payload)).expect("JSON");
                bare.is_valid(&value)
            };
            payloads.iter().filter(valid).count()
        });
    });
    group.finish();
}

/// What a step costs by being measured: its clock is read twice, and a bucket and a sum are counted up. Of the traces, most
/// observations ask for none.
fn observations(c: &mut Criterion) {
    let mut group = c.benchmark_group("meter");
    let (histogram, traced) = (Histogram::default(), TracedHistogram::default());
    group.bench_function("observe", |b| b.iter(|| histogram.observe(black_box(Duration::from_micros(700)))));
    group.bench_function("measure", |b| {
        b.iter(|| {
            let begun = Instant::now();
            histogram.since(black_box(begun));
        });
    });
    group.bench_function("measure with exemplars", |b| {
        b.iter(|| {
            let begun = Instant::now();
            traced.since(black_box(begun), || Some(("4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), 1)));
        });
    });
    // As many threads as a small machine has cores observe into one histogram.
    group.bench_function("observe while another thread does", |b| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    histogram.observe(Duration::from_micros(700));
                }
            });
            b.iter(|| histogram.observe(black_box(Duration::from_micros(700))));
            stop.store(true, Ordering::Relaxed);
        });
    });
    group.bench_function("read", |b| b.iter(|| histogram.read()));
    group.finish();
}

criterion_group!(benches, codecs, apply, stores, log, fan_out, schemas, observations);
criterion_main!(benches);
