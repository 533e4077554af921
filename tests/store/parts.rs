//! A state that goes from one store to another by its parts, skipping what is there already.

use std::path::Path;

use bytes::Bytes;
use liminal::store::{
    DurableStore, HaematiteConfig, HaematiteStore, MemoryStore, StoreError, StoreInstall, StoreSnapshot, WriteBatch,
};

fn open(dir: &Path) -> HaematiteStore {
    HaematiteStore::open(dir, HaematiteConfig::default()).unwrap()
}

/// Large values that differ, so that the tree has many nodes.
async fn put(store: &HaematiteStore, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let value: Vec<u8> = (0..600u64)
            .flat_map(|block| *blake3::hash(&[number, block].map(u64::to_le_bytes).concat()).as_bytes())
            .collect();
        let puts = vec![(Bytes::from(format!("key-{number:06}")), Some(Bytes::from(value)))];
        store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
    }
    store.flush().await.unwrap();
}

/// Sends what is lacking; gives how many parts there are and how many were sent.
async fn send(
    snapshot: &dyn StoreSnapshot,
    install: &mut dyn StoreInstall,
    damage: impl Fn(usize, Bytes) -> Option<Bytes>,
) -> Result<(usize, usize), StoreError> {
    let parts = snapshot.parts().await?.expect("a store on disk knows its parts");
    let lacking = install.lacking(parts.clone()).await?;
    for (number, part) in lacking.iter().enumerate() {
        let hash = parts[*part as usize];
        if let Some(bytes) = damage(number, snapshot.part(hash).await?) {
            install.put_part(hash, bytes).await?;
        }
    }
    Ok((parts.len(), lacking.len()))
}

#[tokio::test]
async fn only_what_the_receiver_lacks_is_sent_and_the_states_are_equal_then() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, into) = (open(one.path()), open(two.path()));
    put(&from, 0..300).await;
    let snapshot = from.snapshot().await.unwrap();
    let mut install = into.install().await.unwrap();
    let (parts, sent) = send(&*snapshot, &mut *install, |_, bytes| Some(bytes)).await.unwrap();
    assert!(parts > 50 && sent >= parts - 1, "{sent} of {parts}: a fresh store has nothing");
    install.finish(snapshot.root_hash()).await.unwrap();
    into.installed().await;
    assert_eq!(into.root_hash().await.unwrap(), from.root_hash().await.unwrap());

    // It was away for a while.
    put(&from, 300..310).await;
    let snapshot = from.snapshot().await.unwrap();
    let mut install = into.install().await.unwrap();
    let (parts, sent) = send(&*snapshot, &mut *install, |_, bytes| Some(bytes)).await.unwrap();
    assert!(sent < parts / 4, "{sent} of {parts}");
    install.finish(snapshot.root_hash()).await.unwrap();
    into.installed().await;
    assert_eq!(into.root_hash().await.unwrap(), from.root_hash().await.unwrap());
    assert_eq!(into.range(b"", None, 1000).await.unwrap(), from.range(b"", None, 1000).await.unwrap());
    put(&into, 310..320).await;
    into.close().await.unwrap();
    drop(into);
    assert_eq!(open(two.path()).range(b"", None, 1000).await.unwrap().len(), 320);
}

#[tokio::test]
async fn a_damaged_or_missing_part_is_refused_and_the_old_state_stays() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, into) = (open(one.path()), open(two.path()));
    put(&from, 0..100).await;
    put(&into, 500..510).await;
    let before = into.root_hash().await.unwrap();
    let snapshot = from.snapshot().await.unwrap();
    let flipped = |number: usize, bytes: Bytes| {
        let mut bytes = bytes.to_vec();
        if number == 7 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Some(bytes.into())
    };
    let mut install = into.install().await.unwrap();
    let error = send(&*snapshot, &mut *install, flipped).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let mut install = into.install().await.unwrap();
    send(&*snapshot, &mut *install, |number, bytes| (number != 7).then_some(bytes)).await.unwrap();
    install.finish(snapshot.root_hash()).await.unwrap_err();
    // Given up in the middle.
    let mut install = into.install().await.unwrap();
    send(&*snapshot, &mut *install, |number, bytes| (number < 50).then_some(bytes)).await.unwrap();
    drop(install);
    assert_eq!(into.root_hash().await.unwrap(), before);
    into.close().await.unwrap();
    drop(into);
    let again = open(two.path());
    assert_eq!(again.root_hash().await.unwrap(), before);
}

#[tokio::test]
async fn a_store_without_parts_says_so() {
    let store = MemoryStore::new();
    assert!(store.snapshot().await.unwrap().parts().await.unwrap().is_none());
    let mut install = store.install().await.unwrap();
    assert!(install.lacking(vec![[0; 32]]).await.is_err());
}
