//! The store on disk gives back the space of what was deleted, whatever happens meanwhile.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use liminal::store::{DurableStore, HaematiteConfig, HaematiteStore, StateHash, StoreSnapshot, StoreUsage, WriteBatch};

const VALUE: usize = 20_000;

/// Compacts as soon as half of a megabyte would come back.
fn eager() -> HaematiteConfig {
    HaematiteConfig {
        compact_garbage: 256 << 10,
        fold_interval: Duration::from_millis(20),
        fold_bytes: 1 << 20,
        ..HaematiteConfig::default()
    }
}

fn never() -> HaematiteConfig {
    HaematiteConfig { compact_garbage: u64::MAX, ..eager() }
}

fn open(dir: &Path, config: HaematiteConfig) -> HaematiteStore {
    HaematiteStore::open(dir, config).unwrap()
}

/// Bytes that do not compress.
fn value(number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..VALUE / 8).flat_map(|_| next()).collect::<Vec<u8>>().into()
}

fn key(number: u64) -> Bytes {
    format!("key-{number:06}").into()
}

async fn put(store: &HaematiteStore, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let puts = vec![(key(number), Some(value(number)))];
        store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
    }
    store.flush().await.unwrap();
}

async fn delete(store: &HaematiteStore, numbers: impl Iterator<Item = u64>) {
    let puts = numbers.map(|number| (key(number), None)).collect();
    store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
    store.flush().await.unwrap();
}

async fn content(store: &HaematiteStore) -> Vec<(Bytes, Bytes)> {
    store.range(b"", None, usize::MAX).await.unwrap()
}

fn states(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut states: Vec<String> = names.filter(|name| name.starts_with("state-")).collect();
    states.sort();
    states
}

fn live(dir: &Path, state: &str) -> bool {
    fs::read_to_string(dir.join("CURRENT")).unwrap().lines().any(|line| line == format!("live {state}"))
}

/// Before the second state takes the place of the first one.
fn unswapped(dir: &Path) {
    fs::write(dir.join("CURRENT"), "state-000001\n").unwrap();
    fs::write(dir.join("state-000002.unfinished"), []).unwrap();
}

fn disk_bytes(dir: &Path) -> u64 {
    // A file may go while it is looked at.
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

fn assert_may_go(path: &Path) {
    let goes = |extension: &std::ffi::OsStr| extension == "new" || extension == "unfinished";
    assert!(path.extension().is_some_and(goes), "{} is gone", path.display());
}

fn copy_dir(from: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = into.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => match fs::copy(entry.path(), target) {
                // The store goes on meanwhile: it renames what it has written beside a file, and removes the mark of a state
                // that is live.
                Err(error) if error.kind() == ErrorKind::NotFound => assert_may_go(&entry.path()),
                copied => drop(copied.unwrap()),
            },
        }
    }
}

async fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Until another state than `before` is the only one.
async fn compacted(dir: &Path, before: &str) {
    wait_until("a compaction", || matches!(&states(dir)[..], [only] if only != before)).await;
}

fn usage(store: &HaematiteStore) -> StoreUsage {
    store.usage().unwrap()
}

async fn closed(store: HaematiteStore) {
    store.close().await.unwrap();
}

async fn hash(store: &HaematiteStore) -> StateHash {
    store.root_hash().await.unwrap().0
}

#[tokio::test]
async fn deleting_most_of_a_store_shrinks_its_directory_to_near_what_lives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), eager());
    put(&store, 0..200).await;
    let full = disk_bytes(dir.path());
    assert!(full > 200 * VALUE as u64);
    delete(&store, 20..200).await;
    let (before, hash_before) = (content(&store).await, hash(&store).await);
    compacted(dir.path(), "state-000001").await;
    assert_eq!(content(&store).await, before);
    assert_eq!(hash(&store).await, hash_before);
    let (shrunk, used) = (disk_bytes(dir.path()), usage(&store));
    assert!(shrunk < full / 5, "{shrunk} of {full}");
    let shown = format!("{used:?}, really {shrunk}");
    assert!(used.live_bytes > 20 * VALUE as u64 && used.live_bytes < 25 * VALUE as u64, "{shown}");
    assert!(used.disk_bytes >= used.live_bytes && used.disk_bytes <= shrunk, "{shown}");
    put(&store, 300..310).await;
    let (after, hash_after) = (content(&store).await, hash(&store).await);
    closed(store).await;
    let store = open(dir.path(), eager());
    assert_eq!(content(&store).await, after);
    assert_eq!(hash(&store).await, hash_after);
    closed(store).await;
}

#[tokio::test]
async fn an_emptied_store_is_compacted_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), eager());
    put(&store, 0..60).await;
    delete(&store, 0..60).await;
    compacted(dir.path(), "state-000001").await;
    assert!(content(&store).await.is_empty());
    put(&store, 0..3).await;
    assert_eq!(content(&store).await.len(), 3);
    closed(store).await;
}

#[tokio::test]
async fn growth_alone_is_never_compacted_and_all_of_it_lives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), eager());
    for round in 0..10 {
        put(&store, round * 20..(round + 1) * 20).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(states(dir.path()), ["state-000001"]);
    let used = usage(&store);
    assert!(used.live_bytes > 200 * VALUE as u64 && used.disk_bytes < 2 * used.live_bytes, "{used:?}");
    closed(store).await;
}

#[tokio::test]
async fn a_compacted_state_is_left_alone_until_as_much_is_garbage_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), eager());
    put(&store, 0..100).await;
    delete(&store, 10..100).await;
    compacted(dir.path(), "state-000001").await;
    put(&store, 500..501).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(states(dir.path()), ["state-000002"], "nothing to gain");
    put(&store, 100..200).await;
    delete(&store, 100..200).await;
    compacted(dir.path(), "state-000002").await;
    assert_eq!(content(&store).await.len(), 11);
    closed(store).await;
}

#[tokio::test]
async fn what_is_read_and_written_during_compactions_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let twin_dir = tempfile::tempdir().unwrap();
    let (store, twin) = (open(dir.path(), eager()), open(twin_dir.path(), never()));
    for round in 0..40u64 {
        for target in [&store, &twin] {
            let puts = (0..15).map(|n| (key(n * 7 % 15 + round % 3), Some(value(round * 100 + n))));
            let gone = (0..3).map(|n| (key((round + n) % 17), None));
            let puts = puts.chain(gone).collect();
            target.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
            if round % 4 == 0 {
                target.flush().await.unwrap();
            }
        }
        assert_eq!(content(&store).await, content(&twin).await, "round {round}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hash(&store).await, hash(&twin).await);
    assert_ne!(states(dir.path()), ["state-000001"], "it was compacted meanwhile");
    closed(store).await;
    let store = open(dir.path(), eager());
    assert_eq!(content(&store).await, content(&twin).await);
    closed(store).await;
    closed(twin).await;
}

async fn pages(snapshot: &dyn StoreSnapshot) -> Vec<(Bytes, Bytes)> {
    let (mut all, mut after): (Vec<(Bytes, Bytes)>, Option<Bytes>) = (Vec::new(), None);
    loop {
        let page = snapshot.page(after.as_deref(), 1 << 18).await.unwrap();
        let Some((last, _)) = page.last() else { return all };
        after = Some(last.clone());
        all.extend(page);
    }
}

#[tokio::test]
async fn a_snapshot_is_readable_after_compaction_and_its_files_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), HaematiteConfig { cache_bytes: 1 << 16, ..eager() });
    put(&store, 0..100).await;
    let snapshot = store.snapshot().await.unwrap();
    delete(&store, 5..100).await;
    wait_until("a compaction", || live(dir.path(), "state-000002")).await;
    let read = pages(&*snapshot).await;
    assert_eq!(read.len(), 100);
    assert!(read.iter().zip(0..).all(|((_, found), number)| *found == value(number)));
    assert_eq!(states(dir.path()), ["state-000001", "state-000002"]);
    drop(snapshot);
    compacted(dir.path(), "state-000001").await;
    closed(store).await;
}

/// A directory after a compaction whose old state was kept by a reader: both states are complete.
async fn both_states(dir: &Path) -> (Vec<(Bytes, Bytes)>, StateHash) {
    let live = tempfile::tempdir().unwrap();
    let store = open(live.path(), eager());
    put(&store, 0..100).await;
    delete(&store, 5..100).await;
    let snapshot = store.snapshot().await.unwrap();
    wait_until("a compaction", || self::live(live.path(), "state-000002")).await;
    let expected = (content(&store).await, hash(&store).await);
    copy_dir(live.path(), dir);
    drop(snapshot);
    closed(store).await;
    expected
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_the_old_or_the_new_state() {
    let both = tempfile::tempdir().unwrap();
    let (expected, expected_hash) = both_states(both.path()).await;
    type Damage = fn(&Path);
    let steps: [(&str, Damage); 6] = [
        ("the next directory is empty", |dir| {
            fs::remove_dir_all(dir.join("state-000002")).unwrap();
            fs::create_dir(dir.join("state-000002")).unwrap();
            unswapped(dir);
        }),
        ("some nodes are linked", |dir| {
            fs::remove_dir_all(dir.join("state-000002/branches")).unwrap();
            let store = dir.join("state-000002/shard-0/store");
            let first = fs::read_dir(store).unwrap().next().unwrap().unwrap();
            fs::remove_dir_all(first.path()).unwrap();
            unswapped(dir);
        }),
        ("everything is linked, nothing swapped", |dir| unswapped(dir)),
        ("the name is written, not yet renamed", |dir| {
            unswapped(dir);
            fs::write(dir.join("CURRENT.new"), "state-0").unwrap();
        }),
        ("swapped, the old state is still there", |_| {}),
        ("swapped, the old state is half removed", |dir| {
            fs::remove_dir_all(dir.join("state-000001/shard-0")).unwrap();
        }),
    ];
    for (step, damage) in steps {
        for usage in ["kept", "lost", "torn"] {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(both.path(), dir.path());
            damage(dir.path());
            match usage {
                "lost" => fs::remove_file(dir.path().join("USAGE")).unwrap(),
                "torn" => fs::write(dir.path().join("USAGE"), "state-000002 12").unwrap(),
                _ => {}
            }
            let store = open(dir.path(), eager());
            assert_eq!(content(&store).await, expected, "{step}");
            assert_eq!(hash(&store).await, expected_hash, "{step}");
            // What a crash kept from being compacted is compacted then.
            wait_until(step, || {
                let used = store.usage();
                used.is_some_and(|used| used.disk_bytes < 2 * used.live_bytes) && states(dir.path()).len() == 1
            })
            .await;
            assert!(disk_bytes(dir.path()) < 12 * VALUE as u64, "{step}, {usage}: {}", disk_bytes(dir.path()));
            assert_eq!(content(&store).await, expected, "{step}");
            closed(store).await;
        }
    }
}

#[tokio::test]
async fn a_store_closed_while_it_is_compacted_opens_again_and_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), never());
    put(&store, 0..150).await;
    delete(&store, 10..150).await;
    let expected = content(&store).await;
    for wait in [0, 1, 3, 10, 30, 60] {
        closed(store).await;
        store = open(dir.path(), eager());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(content(&store).await, expected);
    }
    wait_until("a compaction", || disk_bytes(dir.path()) < 20 * VALUE as u64).await;
    assert_eq!(content(&store).await, expected);
    closed(store).await;
}

#[tokio::test]
async fn usage_survives_a_restart_and_is_counted_again_when_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), never());
    put(&store, 0..50).await;
    delete(&store, 25..50).await;
    let before = usage(&store);
    closed(store).await;
    let store = open(dir.path(), never());
    assert_eq!(usage(&store), before, "known at once");
    closed(store).await;
    fs::remove_file(dir.path().join("USAGE")).unwrap();
    let store = open(dir.path(), never());
    wait_until("counting", || store.usage().is_some()).await;
    let counted = usage(&store);
    assert_eq!(counted.live_bytes, before.live_bytes);
    assert!(counted.disk_bytes.abs_diff(before.disk_bytes) < 1_000, "{counted:?} after {before:?}");
    closed(store).await;
}

#[tokio::test]
async fn a_crash_that_loses_what_was_counted_does_not_spoil_the_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), never());
    put(&store, 0..50).await;
    let old = fs::read(dir.path().join("USAGE")).unwrap();
    put(&store, 50..60).await;
    delete(&store, 0..30).await;
    let before = usage(&store);
    closed(store).await;
    fs::write(dir.path().join("USAGE"), old).unwrap();
    let store = open(dir.path(), never());
    put(&store, 60..61).await;
    delete(&store, 60..61).await;
    let after = usage(&store);
    assert_eq!(after.live_bytes, before.live_bytes);
    assert!(after.disk_bytes >= before.live_bytes);
    closed(store).await;
}

#[tokio::test]
async fn a_snapshot_that_arrives_during_a_compaction_wins() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, into) = (open(a.path(), never()), open(b.path(), eager()));
    put(&from, 1000..1010).await;
    for wait in [0, 5, 20, 50, 100] {
        put(&into, 0..100).await;
        let snapshot = from.snapshot().await.unwrap();
        let mut install = into.install().await.unwrap();
        install.put(pages(&*snapshot).await).await.unwrap();
        delete(&into, 5..100).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        install.finish(snapshot.root_hash()).await.unwrap();
        into.installed().await;
        assert_eq!(content(&into).await, content(&from).await, "after {wait} ms");
    }
    let expected = content(&from).await;
    closed(into).await;
    let into = open(b.path(), eager());
    assert_eq!(content(&into).await, expected);
    assert_eq!(states(b.path()).len(), 1);
    closed(into).await;
    closed(from).await;
}

#[tokio::test]
async fn an_abandoned_snapshot_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), never());
    let mut install = store.install().await.unwrap();
    install.put(vec![(Bytes::from("pkey"), value(1))]).await.unwrap();
    assert_eq!(states(dir.path()).len(), 2);
    drop(install);
    wait_until("removing", || states(dir.path()) == ["state-000001"]).await;
    wait_until("removing the note", || !dir.path().join("state-000002.unfinished").exists()).await;
    closed(store).await;
}
