//! Files of a state that a disk has damaged: they are found by looking, named, and replaced by what another store has
//! under the same hash.

use std::{fs, ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use liminal::store::{
    CheckedParts, Damage, DurableStore, HaematiteConfig, HaematiteStore, Healing, PartHash, PartSource, StoreError,
    StoreParts, WriteBatch,
};

use super::support::damage::{Fault, files, live_state};

const ALL: Range<u64> = 0..120;

fn open(dir: &Path) -> HaematiteStore {
    HaematiteStore::open(dir, HaematiteConfig::default()).unwrap()
}

/// Values large enough that the tree has many nodes.
async fn put(store: &HaematiteStore, numbers: Range<u64>) {
    for number in numbers {
        let blocks =
            (0..600u64).flat_map(|block| *blake3::hash(&[number, block].map(u64::to_le_bytes).concat()).as_bytes());
        let puts = vec![(Bytes::from(format!("key-{number:06}")), Some(blocks.collect::<Vec<u8>>().into()))];
        store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
    }
    store.flush().await.unwrap();
}

/// Reads the whole state from the disk; gives the bytes and what was damaged.
async fn check(parts: &dyn StoreParts) -> (u64, Vec<Damage>) {
    let (mut from, mut bytes, mut damaged) = (Bytes::new(), 0, Vec::new());
    loop {
        let CheckedParts { next, bytes: read, damage } = parts.check(from, 200 << 10).await.unwrap();
        bytes += read;
        damaged.extend(damage);
        match next {
            Some(next) => from = next,
            None => return (bytes, damaged),
        }
    }
}

/// Another node of the cluster.
struct Other(HaematiteStore);

#[async_trait]
impl PartSource for Other {
    async fn part(&self, hash: PartHash) -> Option<Bytes> {
        self.0.parts()?.part(hash).await
    }
}

/// One that has something else under every name.
struct Liar;

#[async_trait]
impl PartSource for Liar {
    async fn part(&self, _: PartHash) -> Option<Bytes> {
        Some(Bytes::from_static(b"what nobody ever wrote"))
    }
}

async fn twins() -> (tempfile::TempDir, tempfile::TempDir, HaematiteStore, Other) {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, other) = (open(one.path()), open(two.path()));
    put(&store, ALL).await;
    put(&other, ALL).await;
    (one, two, store, Other(other))
}

#[tokio::test]
async fn every_file_that_is_flipped_cut_or_missing_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, ALL).await;
    let parts = store.parts().unwrap();
    let all = files(&store, dir.path()).await;
    let whole: u64 = all.iter().map(|(_, file)| fs::metadata(file).unwrap().len()).sum();
    let (bytes, damaged) = check(&*parts).await;
    assert!(damaged.is_empty() && bytes >= whole, "{bytes} of {whole} bytes, {damaged:?}");
    for (number, (_, file)) in all.iter().enumerate() {
        let good = fs::read(file).unwrap();
        Fault::ALL[number % 3].strike(file);
        let (_, damaged) = check(&*parts).await;
        let named: Vec<&str> = damaged.iter().map(|damage| damage.file.as_str()).collect();
        assert_eq!(named, [file.to_str().unwrap()], "{:?}", Fault::ALL[number % 3]);
        assert_eq!(parts.damaged(), damaged, "it stays on the list");
        fs::write(file, good).unwrap();
        parts.heal().await;
        assert_eq!(parts.damaged(), [], "it is well");
    }
    assert_eq!(parts.healing(), Healing { found: all.len() as u64, healed: 0 });
    store.close().await.unwrap();
}

#[tokio::test]
async fn looking_for_damage_heals_what_another_store_has() {
    let (dir, _dir, store, other) = twins().await;
    let parts = store.parts().unwrap();
    let all = files(&store, dir.path()).await;
    for (number, (_, file)) in all.iter().enumerate() {
        Fault::ALL[number % 3].strike(file);
    }
    parts.heal_from(Arc::new(other));
    let (_, damaged) = check(&*parts).await;
    assert_eq!(damaged.len(), all.len(), "each was found once");
    assert_eq!(parts.healing(), Healing { found: all.len() as u64, healed: all.len() as u64 });
    assert_eq!((parts.damaged(), check(&*parts).await.1), (vec![], vec![]));
    store.close().await.unwrap();
    drop((parts, store));
    let again = open(dir.path());
    assert_eq!(again.range(b"", None, 1000).await.unwrap().len(), 120);
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_read_that_meets_damage_heals_it_and_gives_what_was_written() {
    for fault in Fault::ALL {
        let (dir, _dir, store, other) = twins().await;
        let expected = other.0.range(b"", None, 1000).await.unwrap();
        let all = files(&store, dir.path()).await;
        all.iter().for_each(|(_, file)| fault.strike(file));
        let error = store.range(b"", None, 1000).await.unwrap_err();
        let StoreError::Damaged { file, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().starts_with(&format!("{file} cannot be read: ")), "{error}");
        assert!(all.iter().any(|(_, known)| known.to_str() == Some(file)), "{file}");
        // Nobody could be asked: the next read asks again, after a while.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let parts = store.parts().unwrap();
        parts.heal_from(Arc::new(other));
        for (key, value) in &expected {
            assert_eq!(store.get(key).await.unwrap().as_ref(), Some(value), "{fault:?}");
        }
        assert_eq!(store.range(b"", None, 1000).await.unwrap(), expected);
        let snapshot = store.snapshot().await.unwrap();
        assert!(!snapshot.page(None, usize::MAX).await.unwrap().is_empty());
        assert_eq!(parts.damaged(), []);
        assert!(parts.healing().healed > 20, "{:?}", parts.healing());
        drop(snapshot);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_replaces_a_damaged_file_but_what_its_name_says() {
    let (dir, _dir, store, other) = twins().await;
    let parts = store.parts().unwrap();
    let all = files(&store, dir.path()).await;
    let (part, file) = &all[all.len() / 2];
    Fault::Flip.strike(file);
    let bad = fs::read(file).unwrap();
    // A hard link, as the next state would have it.
    let link = dir.path().join("link");
    fs::hard_link(file, &link).unwrap();
    parts.heal_from(Arc::new(Liar));
    assert_eq!(check(&*parts).await.1.len(), 1);
    assert_eq!((fs::read(file).unwrap(), parts.damaged().len()), (bad.clone(), 1));
    assert_eq!(parts.part(*part).await, None, "what is damaged is given to nobody");

    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let good = other.part(*part).await.unwrap();
    parts.heal_from(Arc::new(other));
    parts.heal().await;
    assert_eq!((fs::read(file).unwrap(), parts.damaged()), (good.to_vec(), vec![]));
    assert_eq!(fs::read(&link).unwrap(), bad, "the name has another inode");
    assert_eq!(parts.part(*part).await, Some(good));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_flush_that_meets_damage_names_it_and_goes_on_when_it_is_healed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = HaematiteConfig { cache_bytes: 1, ..HaematiteConfig::default() };
    let (store, other) = (HaematiteStore::open(one.path(), config).unwrap(), open(two.path()));
    put(&store, ALL).await;
    put(&other, ALL).await;
    let parts = store.parts().unwrap();
    let all = files(&store, one.path()).await;
    all.iter().for_each(|(_, file)| Fault::Flip.strike(file));
    let change =
        || WriteBatch { puts: vec![(Bytes::from("key-000050x"), Some(Bytes::from("new")))], ..WriteBatch::default() };
    store.commit(change()).await.unwrap();
    let error = store.flush().await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    parts.found_damage().await;
    assert_eq!(parts.damaged().len(), 1);
    parts.heal_from(Arc::new(Other(other)));
    while let Err(error) = store.flush().await {
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        parts.heal().await;
    }
    assert_eq!(store.get(b"key-000050x").await.unwrap(), Some(Bytes::from("new")));
    check(&*parts).await;
    assert_eq!(store.range(b"", None, 1000).await.unwrap().len(), 121);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_the_state_needs_no_longer_is_no_damage_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, ALL).await;
    let parts = store.parts().unwrap();
    for (_, file) in files(&store, dir.path()).await {
        // Everything but the root, which is all that a store without content would need.
        Fault::Flip.strike(&file);
    }
    assert_eq!(check(&*parts).await.1.len(), 1, "what is reached through it cannot be looked for");
    let fresh = tempfile::tempdir().unwrap();
    let other = open(fresh.path());
    put(&other, 500..510).await;
    let snapshot = other.snapshot().await.unwrap();
    let mut install = store.install().await.unwrap();
    for hash in snapshot.parts().await.unwrap().unwrap().chunks(1000) {
        for lacking in install.lacking(hash.to_vec()).await.unwrap() {
            let part = hash[lacking as usize];
            install.put_part(part, snapshot.part(part).await.unwrap()).await.unwrap();
        }
    }
    install.finish(snapshot.root_hash()).await.unwrap();
    store.installed().await;
    parts.heal().await;
    assert_eq!(parts.damaged(), []);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_heals_a_store_whose_files_are_damaged() {
    let (dir, _dir, store, Other(other)) = twins().await;
    put(&other, 200..210).await;
    for (number, (_, file)) in files(&store, dir.path()).await.iter().enumerate() {
        if number % 4 != 0 {
            Fault::ALL[number % 3].strike(file);
        }
    }
    let before = live_state(dir.path());
    let snapshot = other.snapshot().await.unwrap();
    let parts = snapshot.parts().await.unwrap().unwrap();
    let mut install = store.install().await.unwrap();
    let lacking = install.lacking(parts.clone()).await.unwrap();
    assert!(lacking.len() > parts.len() / 2 && lacking.len() < parts.len(), "{} of {}", lacking.len(), parts.len());
    for part in lacking {
        let hash = parts[part as usize];
        install.put_part(hash, snapshot.part(hash).await.unwrap()).await.unwrap();
    }
    install.check(snapshot.root_hash()).await.unwrap();
    assert_eq!(live_state(dir.path()), before, "nothing changed yet");
    install.finish(snapshot.root_hash()).await.unwrap();
    store.installed().await;
    assert_eq!(store.root_hash().await.unwrap(), other.root_hash().await.unwrap());
    assert_eq!(check(&*store.parts().unwrap()).await.1, []);
    assert_eq!(store.range(b"", None, 1000).await.unwrap(), other.range(b"", None, 1000).await.unwrap());
    store.close().await.unwrap();
}
