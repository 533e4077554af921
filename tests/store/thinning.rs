//! Records that are removed from inside a stream: they are gone, and all others are read where they were.

use std::{collections::BTreeMap, ops::Range};

use liminal::{
    model::StoredBatch,
    store::{DurableStore, WriteBatch},
};

use super::{append, batch, payloads};

fn thin(stream: &str, ranges: &[Range<u64>]) -> WriteBatch {
    WriteBatch { thins: vec![(stream.into(), ranges.to_vec())], ..WriteBatch::default() }
}

pub(super) async fn what_is_thinned_is_gone_and_the_rest_stays_where_it_was(store: &dyn DurableStore) {
    let mut naive = BTreeMap::new();
    for number in 0..300u64 {
        let batch = batch(4 * number, &["a", "b", "c", "d"]);
        naive.extend((batch.first_seq..).zip(["a", "b", "c", "d"].map(str::to_owned)));
        store.commit(append("s:0", batch)).await.unwrap();
        if number == 150 {
            store.flush().await.unwrap();
        }
    }
    // What is left of an old batch is newer than what follows it, and no read may jump from there to the newest.
    store.commit(thin("s:0", &[1..2, 5..6])).await.unwrap();
    naive.retain(|seq, _| ![1, 5].contains(seq));
    for from in 0..12 {
        let left: Vec<_> = naive.range(from..).map(|(seq, payload)| (*seq, payload.clone())).collect();
        assert_eq!(payloads(store, "s:0", from).await, left, "from {from}");
    }
    // Inside of a batch, over several, all of one, twice, and where there is nothing any more.
    for ranges in [&[1..3, 6..7, 7..21][..], &[100..104, 598..602, 1000..1001], &[0..8, 1100..1101, 1100..1130]] {
        store.commit(thin("s:0", ranges)).await.unwrap();
        naive.retain(|seq, _| !ranges.iter().any(|range| range.contains(seq)));
        for from in [0, 2, 20, 99, 101, 598, 600, 999, 1129, 1199, 1200] {
            let left: Vec<_> = naive.range(from..).map(|(seq, payload)| (*seq, payload.clone())).collect();
            assert_eq!(payloads(store, "s:0", from).await, left, "from {from}");
        }
    }
    store.commit(thin("nothing:0", &[0..5, 5..9])).await.unwrap();
    assert_eq!(store.bounds("nothing:0").await.unwrap(), None);
    store.commit(append("s:0", batch(1200, &["z"]))).await.unwrap();
    assert_eq!(payloads(store, "s:0", 1199).await, [(1199, "d".to_owned()), (1200, "z".to_owned())]);
}

pub(super) async fn a_thinned_stream_is_cut_and_dropped_without_a_trace(store: &dyn DurableStore) {
    let empty = store.root_hash().await.unwrap();
    for number in 0..300 {
        store.commit(append("s:0", batch(4 * number, &["a", "b", "c", "d"]))).await.unwrap();
    }
    let every_other: Vec<Range<u64>> = (0..1199).step_by(2).map(|seq| seq..seq + 1).collect();
    store.commit(thin("s:0", &every_other)).await.unwrap();
    let batches = store.read_batches("s:0", 0, usize::MAX).await.unwrap();
    assert_eq!(batches.iter().map(StoredBatch::end_seq).collect::<Vec<_>>(), (2..=1200).step_by(2).collect::<Vec<_>>());
    // A cut and what it leaves of the same stream's thinning, in one commit.
    let removes = vec![("s:0".into(), 501)];
    store.commit(WriteBatch { removes, ..thin("s:0", &[0..502, 511..512, 1199..1200]) }).await.unwrap();
    let first = store.read_from("s:0", 0, 1).await.unwrap()[0].seq;
    assert_eq!(first, 503);
    assert_eq!(store.read_from("s:0", 510, 1).await.unwrap()[0].seq, 513);
    store.commit(append("s:0", batch(1200, &["z"]))).await.unwrap();
    store.remove("s:0", 1100).await.unwrap();
    assert_eq!(store.read_from("s:0", 0, 1).await.unwrap()[0].seq, 1101);
    store.commit(WriteBatch { drops: vec!["s:0".into()], ..WriteBatch::default() }).await.unwrap();
    assert_eq!(store.root_hash().await.unwrap(), empty);
}

pub(super) async fn batches_that_are_taken_out_one_by_one_leave_those_between_them(store: &dyn DurableStore) {
    for number in 0..400 {
        store.commit(append("s:0", batch(number, &["a"]))).await.unwrap();
    }
    store.flush().await.unwrap();
    let every_other: Vec<Range<u64>> = (0..399).step_by(2).map(|seq| seq..seq + 1).collect();
    store.commit(thin("s:0", &every_other)).await.unwrap();
    let seqs = || async { payloads(store, "s:0", 0).await.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>() };
    let left: Vec<u64> = (1..400).step_by(2).collect();
    assert_eq!(seqs().await, left);
    store.flush().await.unwrap();
    assert_eq!(seqs().await, left);
}
