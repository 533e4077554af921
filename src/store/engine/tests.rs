//! What a cut costs does not grow with what it deletes.

use super::*;
use crate::{proto::v1::Message, store::MemoryStore};

async fn filled(batches: u64) -> MemoryStore {
    let store = MemoryStore::new();
    let frame = Frame::encode(&[Message { payload: "x".into(), ..Message::default() }]);
    for first_seq in 0..batches {
        let batch = StoredBatch { first_seq, time_ms: 1, schema_id: 0, expires: false, frame: frame.clone() };
        store.commit(WriteBatch { appends: vec![("s:0".into(), batch)], ..WriteBatch::default() }).await.unwrap();
    }
    store
}

#[tokio::test]
async fn a_cut_is_as_large_whether_it_deletes_hundreds_of_batches_or_thousands() {
    for batches in [1_000, 20_000] {
        let store = filled(batches).await;
        for up_to in [batches / 2, batches] {
            let end = store.end(&HashMap::new(), &HashMap::new(), "s:0").await.unwrap().unwrap();
            let mut changes = Changes::default();
            let left = store.cut("s:0", end, up_to, &mut changes).await.unwrap();
            assert_eq!(left.bounds, StreamBounds { first: up_to, next: batches });
            assert!(changes.cuts.len() <= 2 && changes.writes.len() <= 1, "{batches} batches: {changes:?}");
        }
    }
}

#[tokio::test]
async fn streams_beyond_those_whose_ends_are_remembered_go_on_where_they_ended() {
    let store = MemoryStore::new();
    let frame = Frame::encode(&[Message { payload: "x".into(), ..Message::default() }]);
    let append = |number: usize, first_seq: u64| {
        let batch = StoredBatch { first_seq, time_ms: 1, schema_id: 0, expires: false, frame: frame.clone() };
        (Arc::from(format!("s{number}:0")), batch)
    };
    for first_seq in 0..3 {
        for many in (0..=MOST_ENDS).collect::<Vec<_>>().chunks(1_000) {
            let appends = many.iter().map(|number| append(*number, first_seq)).collect();
            store.commit(WriteBatch { appends, ..WriteBatch::default() }).await.unwrap();
            assert!(store.ends.lock().await.len() <= MOST_ENDS + 1_000);
        }
    }
    store.remove("s0:0", 2).await.unwrap();
    assert_eq!(store.bounds("s0:0").await.unwrap(), Some(StreamBounds { first: 2, next: 3 }));
    assert_eq!(store.read_from("s0:0", 0, 9).await.unwrap().len(), 1);
}
