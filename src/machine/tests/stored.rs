//! What the machine keeps in its store: the very bytes, and what it refuses to start from.

use super::*;
use crate::machine::{
    dedup::{Claims, Run},
    marks::Mark,
};
use crate::model::{Compaction, Full};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a record without the checksum at their end.
fn body<T: Serialize>(record: &T) -> String {
    let bytes = codec::encode_record(record);
    hex(&bytes[..bytes.len() - 4])
}

#[test]
fn every_record_has_the_bytes_that_older_stores_hold() {
    let record = MachineRecord { time_ms: 7, last_channel_id: 2, last_schema_id: 3, rules_version: 4 };
    assert_eq!(body(&record), "03040700000000000000020000000000000003000000000000000400000000000000");
    let meta = ChannelMeta {
        id: ChannelId(2),
        name: "orders".parse().unwrap(),
        config: ChannelConfig { durability: Durability::Ephemeral, schema: Some("{}".into()), ..window(9) },
        schema_id: 3,
        created_ms: 7,
    };
    let golden = [
        "03040200000000000000",
        "06000000000000006f7264657273",
        "01000000",
        "0102000000000000007b7d",
        "0900000000000000",
        "00000000",
        "000000000000000000",
        "00",
        "0000",
        "0300000000000000",
        "0700000000000000",
    ];
    assert_eq!(body(&meta), golden.concat());
    let stats = ChannelStats { first_seq: 1, next_seq: 2, live_keys: 3, bytes: 4, appended_bytes: 5, newest_ms: 6 };
    let golden = [1, 2, 3, 4, 5, 6].map(|number| format!("{number:02x}00000000000000")).concat();
    assert_eq!(body(&stats), format!("0304{golden}"));
    let mark = Mark { bytes_before: 1, before_ms: 2, time_ms: 3 };
    assert_eq!(body(&mark), "0304010000000000000002000000000000000300000000000000");
    let compaction = Compaction { step: 1, clean_to: 2, removed: 3 };
    assert_eq!(body(&compaction), "0304010000000000000002000000000000000300000000000000");
    let mut node = Node::new();
    node.apply(Command::Calendar { time_ms: 7, ahead_ms: -2 });
    let stored = hex(&node.stored[&Key::Calendar.encode()]);
    assert!(stored.starts_with("030401000000000000000700000000000000feffffffffffffff"), "{stored}");
    let run = Run { first_seq: 5, keys: vec![(KeyHash([1; 16]), Digest([2; 8])); 2] };
    let (count, key) = ("0100000000000000", ["01".repeat(16), "02".repeat(8)].concat());
    let golden = ["03040700000000000000", count, "0500000000000000", "0200000000000000", &key, &key];
    assert_eq!(body(&Claims { time_ms: 7, runs: Cow::Borrowed(&[run]) }), golden.concat());
}

#[test]
fn every_reply_has_the_bytes_that_other_nodes_expect() {
    let except = vec![
        (1, KeyOutcome::Duplicate { seq: 3 }),
        (2, KeyOutcome::Conflict { seq: 4 }),
        (3, KeyOutcome::TooManyKeys { limit: 9 }),
    ];
    let groups = vec![
        Ok(Assigned { first_seq: 5, except }),
        Err(Refusal::NoSuchChannel),
        Err(Refusal::StaleSchema { current: 2 }),
    ];
    let golden = [
        "0304000000000300000000000000",
        "0000000005000000000000000300000000000000",
        "01000000000000000300000000000000",
        "02000000010000000400000000000000",
        "03000000020000000900000000000000",
        "0100000000000000",
        "01000000010000000200000000000000",
    ];
    assert_eq!(body(&Reply::Published(groups)), golden.concat());
    let meta = ChannelMeta {
        id: ChannelId(2),
        name: "c".parse().unwrap(),
        config: ChannelConfig { schema: None, ..window(9) },
        schema_id: 0,
        created_ms: 7,
    };
    let channel = ChannelReply { meta, stats: ChannelStats::default() };
    let encoded = body(&channel)[4..].to_owned();
    assert_eq!(body(&Reply::Channel(Ok(channel.clone()))), ["03040100000000000000", &encoded].concat());
    let exists = Reply::Channel(Err(Refusal::ChannelExists(Box::new(channel))));
    assert_eq!(body(&exists), ["0304010000000100000002000000", &encoded].concat());
    let trimmed = Reply::Operations(vec![Ok(OperationReply::Trimmed { first_seq: 9 })]);
    assert_eq!(body(&trimmed), "030404000000010000000000000000000000020000000900000000000000");
    let compacted = Reply::Operations(vec![Ok(OperationReply::Compacted { step: 9 })]);
    assert_eq!(body(&compacted), "030404000000010000000000000000000000070000000900000000000000");
    let except = vec![
        (1, KeyOutcome::Full(Full::Messages(3))),
        (2, KeyOutcome::Full(Full::Bytes(4))),
        (3, KeyOutcome::TooLarge { bytes: 5, limit: 6 }),
    ];
    let golden = [
        "0304000000000100000000000000",
        "0000000005000000000000000300000000000000",
        "0100000003000000000000000300000000000000",
        "0200000003000000010000000400000000000000",
        "030000000400000005000000000000000600000000000000",
    ];
    assert_eq!(body(&Reply::Published(vec![Ok(Assigned { first_seq: 5, except })])), golden.concat());
    let full = Refusal::TargetFull { channel: ChannelId(2), full: Full::Bytes(3) };
    let golden = "03040000000001000000000000000100000";
    assert!(body(&Reply::Published(vec![Err(full)])).starts_with(golden));
    let full = Reply::Channel(Err(Refusal::TooManyChannels { limit: 9 }));
    assert_eq!(body(&full), "03040100000001000000030000000900000000000000");
    assert_eq!(body(&Reply::Done), "030402000000");
}

/// The keys of a machine with one channel and one idempotency key, with one of them changed.
fn restored(change: impl FnOnce(ChannelId, &mut BTreeMap<Bytes, Bytes>)) -> Result<Machine, String> {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.publish(5, group(id, 0, &[("a", Some("k"))])).0.unwrap();
    change(id, &mut node.stored);
    Machine::restore(node.stored)
}

#[test]
fn a_key_that_cannot_be_read_is_named() {
    for kind in [|_| Key::Machine, Key::Meta, Key::Stats, |id| Key::Claims(id, 0)] {
        let mut name = String::new();
        let error = restored(|id, stored| {
            let key = kind(id).encode();
            name = key.escape_ascii().to_string();
            stored.insert(key, Bytes::from_static(b"?")).expect("the key is there");
        });
        let error = error.unwrap_err();
        assert!(error.contains(&name) && error.contains("ends early"), "{error}");
    }
}

#[test]
fn an_unknown_key_is_named() {
    let error = restored(|_, stored| drop(stored.insert("stranger".into(), Bytes::new()))).unwrap_err();
    assert!(error.contains("`stranger`"), "{error}");
}

#[test]
fn a_key_that_is_missing_is_noticed() {
    assert!(restored(|_, _| {}).is_ok());
    for kind in [|_| Key::Machine, Key::Meta, Key::Stats, |id| Key::Claims(id, 0)] {
        let mut missing = None;
        let error = restored(|id, stored| {
            missing = stored.remove(&kind(id).encode());
        });
        assert!(missing.is_some() && error.is_err());
    }
}

#[test]
fn a_value_under_the_key_of_another_is_refused() {
    let moved = restored(|id, stored| {
        let meta = stored.remove(&Key::Meta(id).encode()).unwrap();
        stored.insert(Key::Meta(ChannelId(0)).encode(), meta);
    });
    assert!(moved.unwrap_err().contains("its id is 1"));
    let moved = restored(|id, stored| {
        let claims = stored.remove(&Key::Claims(id, 0).encode()).unwrap();
        stored.insert(Key::Claims(id, 1).encode(), claims);
    });
    assert!(moved.unwrap_err().contains("the first claim is of Some(0)"));
    let twice = restored(|id, stored| {
        let claims = codec::encode_record(&Claims {
            time_ms: 5,
            runs: Cow::Owned(vec![Run { first_seq: 1, keys: vec![(KeyHash::of("k"), Digest::of(b"a"))] }]),
        });
        stored.insert(Key::Claims(id, 1).encode(), claims);
    });
    assert!(twice.unwrap_err().contains("claimed twice"));
}
