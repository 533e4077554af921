use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{HaematiteConfig, HaematiteStore};
use crate::{
    model::{Frame, StoredBatch},
    proto::v1::Message,
    store::{DurableStore as _, WriteBatch, value::Value},
};

const COPIES: usize = 64;

fn open(dir: &Path) -> HaematiteStore {
    let config = HaematiteConfig {
        fold_bytes: usize::MAX / 4,
        fold_interval: Duration::from_secs(3600),
        ..HaematiteConfig::default()
    };
    HaematiteStore::open(dir, config).unwrap()
}

/// As the copies of an entry: all of one's bytes, or of some of them.
fn copies() -> Vec<(Arc<str>, StoredBatch)> {
    let message = |byte: u8| Message { payload: vec![byte; 400_000].into(), ..Message::default() };
    let frame = Frame::encode(&[1, 2, 3].map(message));
    let copy = |number: usize| {
        let frame = if number.is_multiple_of(2) { frame.clone() } else { frame.pick(&[0, 2]) };
        let batch = StoredBatch { first_seq: 0, time_ms: 7, schema_id: 0, expires: false, frame };
        (Arc::from(format!("t{number}:0")), batch)
    };
    (0..COPIES).map(copy).collect()
}

#[tokio::test]
async fn the_batches_of_a_large_commit_take_no_memory_until_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let (at_once, one_by_one) = (open(&dir.path().join("a")), open(&dir.path().join("b")));
    let mark = Some(Bytes::from_static(b"1"));
    at_once.commit(WriteBatch { appends: copies(), applied: mark.clone(), ..WriteBatch::default() }).await.unwrap();
    {
        let state = at_once.engine.shared.state.lock();
        assert!(state.active.bytes() > 50 << 20, "they count as what they will take");
        let encoded = state.active.entries().values().flatten().filter_map(|value| match value {
            Value::Encoded(bytes) => Some(bytes.len()),
            Value::Batch(_) => None,
        });
        assert!(encoded.sum::<usize>() < 100_000);
    }
    // Readers do not know the difference.
    for (stream, batch) in copies().into_iter().take(2) {
        assert_eq!(at_once.read_batches(&stream, 0, 1).await.unwrap(), [batch]);
    }
    for copy in copies() {
        let applied = mark.clone();
        one_by_one.commit(WriteBatch { appends: vec![copy], applied, ..WriteBatch::default() }).await.unwrap();
    }
    assert_eq!(at_once.root_hash().await.unwrap(), one_by_one.root_hash().await.unwrap());
    for (stream, batch) in copies().into_iter().skip(COPIES - 2) {
        assert_eq!(at_once.read_batches(&stream, 0, 1).await.unwrap(), [batch]);
    }
    for store in [at_once, one_by_one] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_fold_is_timed_when_there_was_something_to_fold() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.flush().await.unwrap();
    assert_eq!(store.folds().unwrap().count(), 0);
    store.commit(WriteBatch { appends: vec![copies().remove(0)], ..WriteBatch::default() }).await.unwrap();
    store.flush().await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.folds().unwrap().count(), 1);
    store.close().await.unwrap();
}
