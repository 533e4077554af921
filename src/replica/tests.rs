use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    Checkpoint, Replica,
    checkpoint::{CHECKPOINTS, keep},
};
use crate::{
    env::Env,
    fanout::Fanout,
    model::{Command, Limits},
    store::{DurableStore as _, FaultyStore, MemoryStore, StateHash},
};

async fn replica() -> (Replica, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let limits = Limits::default();
    let fanout = Fanout::new(limits.subscriber_bytes, limits.fanout_bytes);
    (Replica::open(store.clone(), fanout, limits, Env::real().clock).await.unwrap(), store)
}

#[tokio::test]
async fn entries_are_applied_while_a_checkpoint_is_hashed_and_do_not_change_it() {
    let (mut replica, store) = replica().await;
    let (mut twin, twin_store) = self::replica().await;
    let view = replica.view();
    store.hold_hashes(true);
    let checkpoint = Command::Checkpoint { time_ms: 1 };
    replica.apply(1, checkpoint.clone(), Bytes::from("1")).await;
    replica.apply(2, Command::Tick { time_ms: 7 }, Bytes::from("2")).await;
    assert_eq!((view.applied(), view.checkpoint()), (2, None));
    store.hold_hashes(false);
    view.wait_checkpoint(1).await;
    twin.apply(1, checkpoint, Bytes::from("1")).await;
    let (hash, _) = twin_store.root_hash().await.unwrap();
    assert_eq!(view.checkpoint(), Some(Checkpoint { index: 1, hash }));
    assert_ne!(store.root_hash().await.unwrap().0, hash);
}

#[tokio::test]
async fn the_newest_checkpoints_are_kept_in_the_order_of_the_log() {
    let (mut replica, _store) = replica().await;
    let view = replica.view();
    let last = 2 * CHECKPOINTS as u64;
    for index in 1..=last {
        replica.apply(index, Command::Checkpoint { time_ms: index }, Bytes::new()).await;
    }
    view.wait_checkpoint(last).await;
    let indexes: Vec<u64> = view.checkpoints().iter().map(|checkpoint| checkpoint.index).collect();
    assert_eq!(indexes, (last - CHECKPOINTS as u64 + 1..=last).collect::<Vec<_>>());
    assert_eq!(view.checkpoint(), view.checkpoints().pop());
}

#[test]
fn a_hash_that_arrives_late_takes_its_place() {
    let mut kept = VecDeque::new();
    for index in [1, 3, 2] {
        keep(&mut kept, Checkpoint { index, hash: StateHash([0; 32]) });
    }
    assert_eq!(kept.iter().map(|checkpoint| checkpoint.index).collect::<Vec<_>>(), [1, 2, 3]);
}
