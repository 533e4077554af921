//! What every store promises, shown for the one in memory and the one on disk alike.

#![allow(missing_docs)]

mod compaction;
mod damage;
mod parts;
#[path = "../support/mod.rs"]
mod support;
mod thinning;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use liminal::{
    model::{Frame, StoredBatch},
    proto::v1::Message,
    store::{
        DurableStore, HaematiteConfig, HaematiteStore, MemoryStore, StateHash, StoreError, StreamBounds, WriteBatch,
    },
};
use proptest::prelude::*;

use self::thinning::{
    a_thinned_stream_is_cut_and_dropped_without_a_trace,
    batches_that_are_taken_out_one_by_one_leave_those_between_them,
    what_is_thinned_is_gone_and_the_rest_stays_where_it_was,
};

fn disk(dir: &Path) -> HaematiteStore {
    HaematiteStore::open(dir, HaematiteConfig::default()).unwrap()
}

fn batch(first_seq: u64, payloads: &[&str]) -> StoredBatch {
    let message = |payload: &&str| Message { payload: Bytes::from(payload.to_string()), ..Message::default() };
    let frame = Frame::encode(&payloads.iter().map(message).collect::<Vec<_>>());
    StoredBatch { first_seq, time_ms: 7, schema_id: 0, expires: false, frame }
}

fn append(stream: &str, batch: StoredBatch) -> WriteBatch {
    WriteBatch { appends: vec![(stream.into(), batch)], ..WriteBatch::default() }
}

fn mark(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

async fn payloads(store: &dyn DurableStore, stream: &str, from: u64) -> Vec<(u64, String)> {
    let batches = store.read_batches(stream, from, usize::MAX).await.unwrap();
    let mut all = Vec::new();
    for batch in batches {
        for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
            all.push((seq, String::from_utf8(message.unwrap().payload.to_vec()).unwrap()));
        }
    }
    all
}

fn numbered(from: u64, payloads: &[&str]) -> Vec<(u64, String)> {
    (from..).zip(payloads.iter().map(ToString::to_string)).collect()
}

/// Runs a specification on both stores.
macro_rules! on_both_stores {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::MemoryStore::new()).await;
            })*
        }
        mod haematite {
            $(#[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let store = super::disk(dir.path());
                super::$name(&store).await;
                liminal::store::DurableStore::close(&store).await.unwrap();
            })*
        }
    };
}

on_both_stores! {
    an_append_that_does_not_continue_its_stream_is_refused_with_both_numbers
    records_are_read_back_in_order_from_any_offset
    a_number_changes_only_from_its_present_value
    a_scan_gives_the_records_of_all_streams_with_the_prefix
    a_commit_does_everything_or_nothing
    a_read_begins_inside_a_batch_and_stops_near_its_limit
    removal_takes_whole_batches_and_keeps_the_numbers
    a_stream_can_be_dropped_and_made_again_in_one_commit
    whatever_was_cut_from_a_stream_of_many_batches_leaves_nothing_behind
    a_stream_of_many_batches_is_gone_for_readers_at_once_and_its_name_can_be_used_again
    two_cuts_of_one_stream_in_one_commit_are_the_further_one
    batches_that_are_taken_out_one_by_one_leave_those_between_them
    what_is_thinned_is_gone_and_the_rest_stays_where_it_was
    a_thinned_stream_is_cut_and_dropped_without_a_trace
    plain_keys_are_paged_in_byte_order_and_see_nothing_else
    a_range_of_plain_keys_is_deleted_as_a_whole_and_before_what_the_same_commit_sets
    the_durable_mark_moves_only_with_a_flush
    a_snapshot_does_not_change_while_the_store_goes_on
    a_checkpoint_is_of_the_moment_it_was_asked_for
}

async fn an_append_that_does_not_continue_its_stream_is_refused_with_both_numbers(store: &dyn DurableStore) {
    assert_eq!(store.append("orders:0", Bytes::from("a"), 0).await.unwrap(), 1);
    match store.append("orders:0", Bytes::from("b"), 7).await {
        Err(StoreError::SequenceConflict { expected: 7, actual: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(store.append("fresh:0", Bytes::from("b"), 3).await.is_err());
    assert_eq!(store.append("orders:0", Bytes::from("b"), 1).await.unwrap(), 2);
}

async fn records_are_read_back_in_order_from_any_offset(store: &dyn DurableStore) {
    for (seq, payload) in ["a", "b", "c"].into_iter().enumerate() {
        store.append("orders:0", Bytes::from(payload), seq as u64).await.unwrap();
    }
    let read = |offset, limit| store.read_from("orders:0", offset, limit);
    let entries = |entries: Vec<liminal::store::StoredEntry>| -> Vec<(u64, Bytes)> {
        entries.into_iter().map(|entry| (entry.seq, entry.payload)).collect()
    };
    assert_eq!(entries(read(1, 2).await.unwrap()), [(1, Bytes::from("b")), (2, Bytes::from("c"))]);
    assert_eq!(entries(read(0, 1).await.unwrap()), [(0, Bytes::from("a"))]);
    assert!(read(3, 9).await.unwrap().is_empty());
    assert!(store.read_from("nothing:0", 0, 9).await.unwrap().is_empty());
}

async fn a_number_changes_only_from_its_present_value(store: &dyn DurableStore) {
    store.cas("cursor", None, 5).await.unwrap();
    match store.cas("cursor", Some(4), 6).await {
        Err(StoreError::CasConflict { expected: Some(4), actual: Some(5), .. }) => {}
        other => panic!("{other:?}"),
    }
    store.cas("cursor", Some(5), 6).await.unwrap();
    assert_eq!(store.read_value("cursor").await.unwrap(), Some(6));
    assert_eq!(store.read_value("none").await.unwrap(), None);
}

async fn a_scan_gives_the_records_of_all_streams_with_the_prefix(store: &dyn DurableStore) {
    for stream in ["orders:0", "orders.eu:0", "other:0"] {
        store.append(stream, Bytes::from(stream), 0).await.unwrap();
    }
    let found: Vec<Bytes> = store.scan("orders").await.unwrap().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(found, ["orders.eu:0", "orders:0"]);
}

async fn a_commit_does_everything_or_nothing(store: &dyn DurableStore) {
    store.commit(append("a:0", batch(0, &["x"]))).await.unwrap();
    let half = WriteBatch {
        appends: vec![("b:0".into(), batch(0, &["y"])), ("a:0".into(), batch(5, &["z"]))],
        puts: vec![(Bytes::from("k"), Some(Bytes::from("v")))],
        applied: mark("m"),
        ..WriteBatch::default()
    };
    assert!(matches!(store.commit(half).await, Err(StoreError::SequenceConflict { .. })));
    assert_eq!(store.bounds("b:0").await.unwrap(), None);
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert_eq!(store.applied().await.unwrap(), None);
}

async fn a_read_begins_inside_a_batch_and_stops_near_its_limit(store: &dyn DurableStore) {
    store.commit(append("a:0", batch(0, &["a", "b", "c"]))).await.unwrap();
    store.flush().await.unwrap();
    store.commit(append("a:0", batch(3, &["d", "e"]))).await.unwrap();
    assert_eq!(payloads(store, "a:0", 1).await, numbered(1, &["b", "c", "d", "e"]));
    assert_eq!(payloads(store, "a:0", 4).await, numbered(4, &["e"]));
    let first = store.read_batches("a:0", 0, 1).await.unwrap();
    assert_eq!(first.len(), 1, "one batch even where it is larger than the limit");
}

async fn removal_takes_whole_batches_and_keeps_the_numbers(store: &dyn DurableStore) {
    store.commit(append("a:0", batch(0, &["a", "b"]))).await.unwrap();
    store.commit(append("a:0", batch(2, &["c", "d"]))).await.unwrap();
    store.flush().await.unwrap();
    store.remove("a:0", 3).await.unwrap();
    assert_eq!(store.bounds("a:0").await.unwrap(), Some(StreamBounds { first: 2, next: 4 }));
    assert_eq!(payloads(store, "a:0", 0).await, numbered(2, &["c", "d"]));
    store.remove("a:0", 99).await.unwrap();
    assert_eq!(store.bounds("a:0").await.unwrap(), Some(StreamBounds { first: 4, next: 4 }));
    store.commit(append("a:0", batch(4, &["e"]))).await.unwrap();
    assert_eq!(payloads(store, "a:0", 0).await, numbered(4, &["e"]));
}

async fn a_stream_can_be_dropped_and_made_again_in_one_commit(store: &dyn DurableStore) {
    store.commit(append("a:0", batch(0, &["old", "older"]))).await.unwrap();
    store.flush().await.unwrap();
    let again = WriteBatch { drops: vec!["a:0".into()], ..append("a:0", batch(0, &["new"])) };
    store.commit(again).await.unwrap();
    assert_eq!(payloads(store, "a:0", 0).await, numbered(0, &["new"]));
    store.flush().await.unwrap();
    assert_eq!(payloads(store, "a:0", 0).await, numbered(0, &["new"]));
    store.commit(WriteBatch { drops: vec!["a:0".into()], ..WriteBatch::default() }).await.unwrap();
    assert_eq!(store.bounds("a:0").await.unwrap(), None);
}

async fn whatever_was_cut_from_a_stream_of_many_batches_leaves_nothing_behind(store: &dyn DurableStore) {
    let empty = store.root_hash().await.unwrap();
    for number in 0..600 {
        store.commit(append("a:0", batch(2 * number, &["x", "y"]))).await.unwrap();
    }
    store.commit(append("ab:0", batch(0, &["other"]))).await.unwrap();
    for (up_to, first) in [(1, 0), (7, 6), (500, 500), (513, 512), (1101, 1100)] {
        store.remove("a:0", up_to).await.unwrap();
        assert_eq!(store.bounds("a:0").await.unwrap(), Some(StreamBounds { first, next: 1200 }));
        assert_eq!(store.read_from("a:0", 0, 1).await.unwrap()[0].seq, first);
    }
    store.commit(append("a:0", batch(1200, &["z"]))).await.unwrap();
    assert_eq!(store.read_from("a:0", 1100, 1000).await.unwrap().len(), 101);
    assert_eq!(payloads(store, "ab:0", 0).await, numbered(0, &["other"]));
    let drops = vec!["a:0".into(), "ab:0".into()];
    store.commit(WriteBatch { drops, ..WriteBatch::default() }).await.unwrap();
    assert_eq!(store.root_hash().await.unwrap(), empty);
}

/// Of so many batches with one record each.
async fn filled(store: &dyn DurableStore, stream: &str, batches: u64) {
    for number in 0..batches {
        store.commit(append(stream, batch(number, &["old"]))).await.unwrap();
    }
}

/// In the tree, in memory, and cut again before the first cut is in the tree.
async fn a_stream_of_many_batches_is_gone_for_readers_at_once_and_its_name_can_be_used_again(store: &dyn DurableStore) {
    let empty = store.root_hash().await.unwrap();
    filled(store, "a:0", 900).await;
    filled(store, "ab:0", 1).await;
    store.flush().await.unwrap();
    for number in 900..1000 {
        store.commit(append("a:0", batch(number, &["old"]))).await.unwrap();
    }
    for up_to in [700, 701, 950] {
        store.remove("a:0", up_to).await.unwrap();
        assert_eq!(payloads(store, "a:0", 0).await.first(), numbered(up_to, &["old"]).first());
        assert_eq!(payloads(store, "a:0", up_to - 1).await.len() as u64, 1000 - up_to);
        assert_eq!(store.bounds("a:0").await.unwrap(), Some(StreamBounds { first: up_to, next: 1000 }));
    }
    let again = WriteBatch { drops: vec!["a:0".into()], ..append("a:0", batch(0, &["new"])) };
    store.commit(again).await.unwrap();
    for flushed in [false, true] {
        if flushed {
            store.flush().await.unwrap();
        }
        assert_eq!(payloads(store, "a:0", 0).await, numbered(0, &["new"]));
        assert_eq!(payloads(store, "ab:0", 0).await, numbered(0, &["old"]));
        assert_eq!(store.scan("a").await.unwrap().len(), 2);
    }
    store.commit(append("a:0", batch(1, &["newer"]))).await.unwrap();
    assert_eq!(payloads(store, "a:0", 0).await, numbered(0, &["new", "newer"]));
    let drops = vec!["a:0".into(), "ab:0".into()];
    store.commit(WriteBatch { drops, ..WriteBatch::default() }).await.unwrap();
    assert_eq!(store.root_hash().await.unwrap(), empty);
}

async fn two_cuts_of_one_stream_in_one_commit_are_the_further_one(store: &dyn DurableStore) {
    let empty = store.root_hash().await.unwrap();
    for (batches, cuts) in [(10, [3, 7]), (600, [500, 300])] {
        filled(store, "a:0", batches).await;
        let removes = cuts.map(|up_to| ("a:0".into(), up_to)).to_vec();
        store.commit(WriteBatch { removes, ..WriteBatch::default() }).await.unwrap();
        let first = cuts.into_iter().max().unwrap();
        assert_eq!(store.bounds("a:0").await.unwrap(), Some(StreamBounds { first, next: batches }));
        assert_eq!(payloads(store, "a:0", 0).await.len() as u64, batches - first);
        store.commit(WriteBatch { drops: vec!["a:0".into()], ..WriteBatch::default() }).await.unwrap();
        assert_eq!(store.root_hash().await.unwrap(), empty);
    }
}

async fn plain_keys_are_paged_in_byte_order_and_see_nothing_else(store: &dyn DurableStore) {
    let put = |key: &str| (Bytes::from(key.to_owned()), Some(Bytes::from("v")));
    store.cas("number", None, 1).await.unwrap();
    store.commit(WriteBatch { puts: vec![put("c"), put("a")], ..append("s:0", batch(0, &["x"])) }).await.unwrap();
    store.flush().await.unwrap();
    store.commit(WriteBatch { puts: vec![put("b"), (Bytes::from("c"), None)], ..WriteBatch::default() }).await.unwrap();
    let keys = |page: Vec<(Bytes, Bytes)>| page.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(store.range(b"", None, 9).await.unwrap()), ["a", "b"]);
    assert_eq!(keys(store.range(b"", Some(b"a"), 9).await.unwrap()), ["b"]);
    assert_eq!(keys(store.range(b"", None, 1).await.unwrap()), ["a"]);
}

async fn a_range_of_plain_keys_is_deleted_as_a_whole_and_before_what_the_same_commit_sets(store: &dyn DurableStore) {
    let key = |number: u32| Bytes::from(format!("k{number:04}"));
    let put = |number: u32| (key(number), Some(Bytes::from("v")));
    store.commit(append("k:0", batch(0, &["x"]))).await.unwrap();
    store.commit(WriteBatch { puts: (0..800).map(put).collect(), ..WriteBatch::default() }).await.unwrap();
    store.flush().await.unwrap();
    store.commit(WriteBatch { puts: (800..1_000).map(put).collect(), ..WriteBatch::default() }).await.unwrap();
    let cuts = vec![key(10)..key(990)];
    store.commit(WriteBatch { cuts, puts: vec![put(500)], applied: mark("1"), ..WriteBatch::default() }).await.unwrap();
    let left: Vec<Bytes> = (0..10).chain([500]).chain(990..1_000).map(key).collect();
    for flushed in [false, true] {
        if flushed {
            store.flush().await.unwrap();
        }
        let found = store.range(b"", None, 2_000).await.unwrap();
        assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), left);
        assert_eq!(store.range(b"k", Some(&key(9)), 1).await.unwrap()[0].0, key(500));
        assert_eq!((store.get(&key(11)).await.unwrap(), store.get(&key(9)).await.unwrap()), (None, put(9).1));
        assert_eq!(payloads(store, "k:0", 0).await, numbered(0, &["x"]));
    }
}

async fn the_durable_mark_moves_only_with_a_flush(store: &dyn DurableStore) {
    store.commit(WriteBatch { applied: mark("1"), ..WriteBatch::default() }).await.unwrap();
    store.flush().await.unwrap();
    store.commit(WriteBatch { applied: mark("2"), ..WriteBatch::default() }).await.unwrap();
    assert_eq!(store.applied().await.unwrap(), mark("2"));
    assert_eq!(store.durable_applied().await.unwrap(), mark("1"));
}

async fn a_snapshot_does_not_change_while_the_store_goes_on(store: &dyn DurableStore) {
    store.commit(WriteBatch { applied: mark("1"), ..append("a:0", batch(0, &["a"])) }).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let before = snapshot.page(None, usize::MAX).await.unwrap();
    store.commit(WriteBatch { applied: mark("2"), ..append("a:0", batch(1, &["b"])) }).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(snapshot.page(None, usize::MAX).await.unwrap(), before);
    assert_eq!(snapshot.applied(), mark("1"));
    assert_ne!(store.root_hash().await.unwrap().0, snapshot.root_hash());
}

async fn a_checkpoint_is_of_the_moment_it_was_asked_for(store: &dyn DurableStore) {
    let write = |seq: u64| WriteBatch {
        applied: mark(["0", "1", "2", "3"][seq as usize]),
        ..append("a:0", batch(seq, &["x"]))
    };
    store.commit(write(0)).await.unwrap();
    let first = store.checkpoint();
    let again = store.checkpoint();
    store.commit(write(1)).await.unwrap();
    let second = store.checkpoint();
    store.commit(write(2)).await.unwrap();
    assert_eq!(payloads(store, "a:0", 0).await, numbered(0, &["x", "x", "x"]), "what is pinned is read as ever");
    let third = store.root_hash().await.unwrap();
    store.commit(write(3)).await.unwrap();
    let (first, again, second) = (first.await.unwrap(), again.await.unwrap(), second.await.unwrap());
    assert_eq!((&first.1, &second.1, &third.1), (&mark("0"), &mark("1"), &mark("2")));
    assert_eq!(first, again);
    let fresh = MemoryStore::new();
    let mut expected = Vec::new();
    for seq in 0..3 {
        fresh.commit(write(seq)).await.unwrap();
        expected.push(fresh.root_hash().await.unwrap());
    }
    let distinct = |all: &[(StateHash, Option<Bytes>)]| all[0].0 != all[1].0 && all[1].0 != all[2].0;
    assert!(distinct(&expected) && distinct(&[first, second, third]));
}

#[tokio::test]
async fn a_checkpoint_of_a_store_on_disk_has_the_hash_of_the_same_content() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (busy, still) = (disk(a.path()), disk(b.path()));
    for store in [&busy, &still] {
        store.commit(append("a:0", batch(0, &["x"]))).await.unwrap();
    }
    let pinned = busy.checkpoint();
    busy.commit(append("a:0", batch(1, &["y"]))).await.unwrap();
    assert_eq!(pinned.await.unwrap(), still.root_hash().await.unwrap());
    busy.close().await.unwrap();
    still.close().await.unwrap();
    assert!(matches!(busy.checkpoint().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_checkpoint_is_refused_when_too_many_memtables_wait() {
    let dir = tempfile::tempdir().unwrap();
    let config = HaematiteConfig { frozen_memtables: 0, ..HaematiteConfig::default() };
    let store = HaematiteStore::open(dir.path(), config).unwrap();
    assert!(store.checkpoint().await.is_ok(), "nothing has to be folded");
    store.commit(append("a:0", batch(0, &["x"]))).await.unwrap();
    assert!(matches!(store.checkpoint().await, Err(StoreError::Failed { action: "pin the state", .. })));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_crash_takes_only_what_was_not_flushed() {
    let store = MemoryStore::new();
    store.commit(append("a:0", batch(0, &["kept"]))).await.unwrap();
    store.flush().await.unwrap();
    store.commit(append("a:0", batch(1, &["lost"]))).await.unwrap();
    assert_eq!(payloads(&store.crash(), "a:0", 0).await, numbered(0, &["kept"]));
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = disk(dir.path());
    store.commit(WriteBatch { applied: mark("1"), ..append("a:0", batch(0, &["a", "b"])) }).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.applied().await, Err(StoreError::Closed)));
    drop(store);
    let store = disk(dir.path());
    assert_eq!(payloads(&store, "a:0", 0).await, numbered(0, &["a", "b"]));
    assert_eq!(store.durable_applied().await.unwrap(), mark("1"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_was_cut_is_cut_after_a_restart_too_and_its_state_is_that_of_what_is_left() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cut, other) = (disk(a.path()), disk(b.path()));
    let commit = async |store: &HaematiteStore, number: u64| {
        let writes = WriteBatch { applied: mark("1"), ..append("a:0", batch(number, &["x"])) };
        store.commit(writes).await.unwrap();
    };
    for number in 0..2_000 {
        commit(&cut, number).await;
        commit(&other, number).await;
        // What was cut in many steps, each of some batches, leaves the state that one cut leaves.
        if number % 100 == 0 {
            other.remove("a:0", number * 9 / 10).await.unwrap();
            other.flush().await.unwrap();
        }
    }
    cut.flush().await.unwrap();
    for store in [&cut, &other] {
        let removes = vec![("a:0".into(), 1_900)];
        store.commit(WriteBatch { removes, applied: mark("2"), ..WriteBatch::default() }).await.unwrap();
        store.commit(append("a:0", batch(2_000, &["y"]))).await.unwrap();
    }
    cut.close().await.unwrap();
    drop(cut);
    let cut = disk(a.path());
    assert_eq!(payloads(&cut, "a:0", 0).await.len(), 101);
    assert_eq!(payloads(&cut, "a:0", 0).await, payloads(&other, "a:0", 0).await);
    for store in [cut, other] {
        store.commit(WriteBatch { drops: vec!["a:0".into()], ..WriteBatch::default() }).await.unwrap();
        let left = store.snapshot().await.unwrap().page(None, usize::MAX).await.unwrap();
        assert_eq!(left.len(), 1, "only the mark");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = disk(dir.path());
    let refused = HaematiteStore::open(dir.path(), HaematiteConfig::default());
    assert!(matches!(refused.err(), Some(StoreError::Locked { .. })));
    store.close().await.unwrap();
}

#[tokio::test]
async fn equal_states_have_equal_hashes_whatever_was_flushed_when() {
    let mut hashes = Vec::new();
    for flush_after in [1, 3, 100] {
        let dir = tempfile::tempdir().unwrap();
        let store = disk(dir.path());
        for seq in 0..10 {
            let put = (Bytes::from(format!("k{}", seq % 3)), (seq % 4 != 0).then(|| Bytes::from(seq.to_string())));
            let writes = WriteBatch { puts: vec![put], applied: mark("m"), ..append("a:0", batch(seq, &["x"])) };
            store.commit(writes).await.unwrap();
            if seq % flush_after == 0 {
                store.flush().await.unwrap();
            }
        }
        hashes.push(store.root_hash().await.unwrap());
        store.close().await.unwrap();
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

async fn copy(from: &dyn DurableStore, into: &dyn DurableStore, damage: bool) -> Result<(), StoreError> {
    let snapshot = from.snapshot().await?;
    let mut install = into.install().await?;
    let mut after: Option<Bytes> = None;
    loop {
        let mut page = snapshot.page(after.as_deref(), 64).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        if damage {
            page[0].1 = Bytes::from("damaged");
        }
        install.put(page).await?;
    }
    install.finish(snapshot.root_hash()).await?;
    into.installed().await;
    Ok(())
}

#[tokio::test]
async fn a_snapshot_replaces_a_state_whole_and_durably() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, into) = (disk(a.path()), disk(b.path()));
    for seq in 0..50 {
        from.commit(WriteBatch { applied: mark("9"), ..append("a:0", batch(seq, &["x"])) }).await.unwrap();
    }
    into.commit(append("old:0", batch(0, &["gone"]))).await.unwrap();
    copy(&from, &into, false).await.unwrap();
    assert_eq!(into.root_hash().await.unwrap(), from.root_hash().await.unwrap());
    assert_eq!(into.bounds("old:0").await.unwrap(), None);
    into.close().await.unwrap();
    drop(into);
    let into = disk(b.path());
    assert_eq!(payloads(&into, "a:0", 0).await.len(), 50);
    into.close().await.unwrap();
    from.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_the_old_state_stays() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, into) = (disk(a.path()), disk(b.path()));
    from.commit(append("a:0", batch(0, &["x"]))).await.unwrap();
    into.commit(append("old:0", batch(0, &["stays"]))).await.unwrap();
    assert!(matches!(copy(&from, &into, true).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(payloads(&into, "old:0", 0).await, numbered(0, &["stays"]));
    into.close().await.unwrap();
    drop(into);
    let into = disk(b.path());
    assert_eq!(payloads(&into, "old:0", 0).await, numbered(0, &["stays"]));
    into.close().await.unwrap();
    from.close().await.unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Append { stream: usize, count: usize },
    Remove { stream: usize, up_to: u64 },
    Thin { stream: usize, from: u64, count: u64 },
    Drop { stream: usize },
    Put { key: u8, value: Option<u8> },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 1usize..4).prop_map(|(stream, count)| Step::Append { stream, count }),
        1 => (0usize..3, 0u64..12).prop_map(|(stream, up_to)| Step::Remove { stream, up_to }),
        2 => (0usize..3, 0u64..12, 0u64..4)
            .prop_map(|(stream, from, count)| Step::Thin { stream, from, count }),
        1 => (0usize..3).prop_map(|stream| Step::Drop { stream }),
        2 => (any::<u8>(), any::<Option<u8>>()).prop_map(|(key, value)| Step::Put { key: key % 5, value }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

const STREAMS: [&str; 3] = ["a:0", "ab:0", "b:0"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_store_on_disk_agrees_with_the_one_in_memory(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let memory = MemoryStore::new();
            let mut on_disk = Arc::new(disk(dir.path()));
            for step in steps {
                let writes = match step {
                    Step::Append { stream, count } => {
                        let bounds = memory.bounds(STREAMS[stream]).await.unwrap();
                        append(STREAMS[stream], batch(bounds.map_or(0, |bounds| bounds.next), &vec!["p"; count]))
                    }
                    Step::Remove { stream, up_to } => {
                        WriteBatch { removes: vec![(STREAMS[stream].into(), up_to)], ..WriteBatch::default() }
                    }
                    Step::Thin { stream, from, count } => {
                        let thins = vec![(STREAMS[stream].into(), std::iter::once(from..from + count).collect())];
                        WriteBatch { thins, ..WriteBatch::default() }
                    }
                    Step::Drop { stream } => WriteBatch { drops: vec![STREAMS[stream].into()], ..WriteBatch::default() },
                    Step::Put { key, value } => {
                        let value = value.map(|value| Bytes::from(vec![value]));
                        WriteBatch { puts: vec![(Bytes::from(vec![key]), value)], ..WriteBatch::default() }
                    }
                    Step::Flush => {
                        on_disk.flush().await.unwrap();
                        continue;
                    }
                    Step::Reopen => {
                        on_disk.close().await.unwrap();
                        drop(on_disk);
                        on_disk = Arc::new(disk(dir.path()));
                        continue;
                    }
                };
                memory.commit(writes.clone()).await.unwrap();
                on_disk.commit(writes).await.unwrap();
                for stream in STREAMS {
                    assert_eq!(on_disk.bounds(stream).await.unwrap(), memory.bounds(stream).await.unwrap());
                    for from in [0, 3] {
                        assert_eq!(payloads(&*on_disk, stream, from).await, payloads(&memory, stream, from).await);
                    }
                }
                assert_eq!(on_disk.range(b"", None, 9).await.unwrap(), memory.range(b"", None, 9).await.unwrap());
            }
            on_disk.close().await.unwrap();
        });
    }
}
