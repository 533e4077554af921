//! Passes over a real store and log, without a group around them.

use std::path::Path;

use futures::FutureExt as _;

use super::*;
use crate::{
    raft::log::{DiskLog, LogPosition},
    store::{HaematiteConfig, HaematiteStore, WriteBatch},
};

async fn store(dir: &Path) -> HaematiteStore {
    let store = HaematiteStore::open(dir, HaematiteConfig::default()).unwrap();
    for number in 0..100u64 {
        let blocks =
            (0..600u64).flat_map(|block| *blake3::hash(&[number, block].map(u64::to_le_bytes).concat()).as_bytes());
        let puts = vec![(Bytes::from(format!("key-{number:06}")), Some(blocks.collect::<Vec<u8>>().into()))];
        store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
    }
    store.flush().await.unwrap();
    store
}

fn append(log: &DiskLog, index: u64) {
    let (sender, durable) = std::sync::mpsc::sync_channel(1024);
    let entry = (LogPosition { term: 1, index }, Bytes::from(vec![7; 20_000]));
    log.append(vec![entry], Box::new(move |result| sender.send(result).unwrap())).unwrap();
    durable.recv().unwrap().unwrap();
}

fn scrub(dir: &Path, store: &HaematiteStore, log: &Arc<DiskLog>, rate: u64) -> (Arc<Scrub>, Health) {
    let config = ScrubConfig {
        bytes_per_second: rate,
        interval: Some(Duration::from_secs(3600)),
        file: Some(dir.join("scrub")),
    };
    let purged = log.clone();
    let purge = Box::new(move || {
        let last = purged.bounds().last.unwrap();
        // As after a flush that left out the newest entry.
        purged.purge(LogPosition { term: 1, index: last.index - 1 }).unwrap();
        append(&purged, last.index + 1);
        std::future::ready(Ok(last.index)).boxed()
    });
    let health = Health::default();
    (Arc::new(Scrub::new(config, Env::real(), store, log.clone(), purge, health.clone())), health)
}

async fn completed(scrub: &Arc<Scrub>) -> ScrubReport {
    let running = tokio::spawn(scrub.clone().run());
    let report = loop {
        let report = scrub.report();
        if report.pass > 0 && !report.running {
            break report;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    running.abort();
    report
}

#[tokio::test(start_paused = true)]
async fn a_pass_goes_on_after_a_restart_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("state")).await;
    std::fs::create_dir(dir.path().join("raft")).unwrap();
    let log = Arc::new(DiskLog::open(&dir.path().join("raft"), 1 << 20).unwrap());
    (0..20).for_each(|index| append(&log, index));
    let whole = completed(&scrub(&dir.path().join("raft"), &store, &log, 1 << 30).0).await;
    assert!(whole.state_bytes > 1 << 20 && whole.log_bytes > 400_000, "{whole:?}");

    // About twenty seconds for all of it; the position is written after ten.
    let rate = (whole.state_bytes + whole.log_bytes) / 20;
    let (before, _) = scrub(dir.path(), &store, &log, rate);
    let running = tokio::spawn(before.clone().run());
    while !dir.path().join("scrub").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
    let before = before.report();
    assert!(before.running && before.total_bytes < whole.state_bytes, "{before:?}");
    let after = completed(&scrub(dir.path(), &store, &log, rate).0).await;
    let all = whole.state_bytes + whole.log_bytes;
    assert!(after.state_bytes + after.log_bytes >= all, "{after:?}");
    assert!(after.total_bytes < all * 3 / 4, "it read {} of {all} bytes again", after.total_bytes);

    // What is complete does not begin again before its time.
    let (third, _) = scrub(dir.path(), &store, &log, rate);
    let running = tokio::spawn(third.clone().run());
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.abort();
    assert_eq!((third.report().pass, third.report().completed_ms), (0, after.completed_ms));
    store.close().await.unwrap();
}

#[tokio::test]
async fn damage_that_nobody_can_heal_is_reported_until_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("state")).await;
    std::fs::create_dir(dir.path().join("raft")).unwrap();
    let log = Arc::new(DiskLog::open(&dir.path().join("raft"), 1 << 20).unwrap());
    (0..20).for_each(|index| append(&log, index));
    let snapshot = store.snapshot().await.unwrap();
    let root = crate::store::StateHash(snapshot.root_hash().0).to_string();
    let file = dir.path().join("state/state-000001/shard-0/store").join(&root[..2]).join(&root[2..]);
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"damaged").unwrap();
    let (scrub, health) = scrub(dir.path(), &store, &log, 1 << 30);
    let report = completed(&scrub).await;
    assert_eq!((report.found, report.healed, report.left.len()), (1, 0, 1));
    assert!(health.of(Part::Damage).unwrap().contains(file.to_str().unwrap()), "{:?}", health.failures());
    std::fs::write(&file, good).unwrap();
    let running = tokio::spawn(scrub.clone().run());
    let mut changes = health.changes();
    changes.wait_for(|failures| failures.of(Part::Damage).is_none()).await.unwrap();
    running.abort();
    assert_eq!(scrub.report().left, []);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_of_the_log_is_let_go_of_once_its_entries_are_in_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("state")).await;
    std::fs::create_dir(dir.path().join("raft")).unwrap();
    let log = Arc::new(DiskLog::open(&dir.path().join("raft"), 1 << 20).unwrap());
    (0..20).for_each(|index| append(&log, index));
    let file = dir.path().join("raft/0000000000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (scrub, health) = scrub(dir.path(), &store, &log, 1 << 30);
    let report = completed(&scrub).await;
    assert_eq!(report.found, 1, "{report:?}");
    // Its newest entry is in the state a little later.
    let running = tokio::spawn(scrub.clone().run());
    while scrub.report().total_healed == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
    assert!(!file.exists() && scrub.report().left.is_empty());
    let _ = health;
    log.close().unwrap();
    let log = DiskLog::open(&dir.path().join("raft"), 1 << 20).unwrap();
    assert!(log.bounds().last.unwrap().index > 19);
    log.close().unwrap();
    store.close().await.unwrap();
}
