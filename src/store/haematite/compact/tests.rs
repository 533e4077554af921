use std::{collections::BTreeMap, fs, sync::atomic::AtomicU64};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::{
    meter::Histogram,
    store::haematite::{damages::Damages, database::SHARD, memtable::Entries, view::remove},
};

/// The folding thread's part, one step at a time.
struct Folding {
    database: OpenDatabase,
    space: Space,
    view: Arc<View>,
    dir: Arc<StateDir>,
    content: BTreeMap<Bytes, Bytes>,
}

fn value(number: u64) -> Bytes {
    let blocks = (0..500_u64).flat_map(|block| *blake3::hash(&(number << 16 | block).to_le_bytes()).as_bytes());
    blocks.collect::<Vec<u8>>().into()
}

fn key(number: u64) -> Bytes {
    format!("p{number:05}").into()
}

impl Folding {
    fn begin(root: &Path) -> Self {
        let config = HaematiteConfig { compact_garbage: 64 << 10, ..HaematiteConfig::default() };
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            state: Mutex::default(),
            folded: Notify::new(),
            next_state: AtomicU64::new(2),
            cache_bytes: config.cache_bytes,
            damages: Damages::default(),
            folds: Histogram::default(),
        });
        let name = current::find(root, None).unwrap().name;
        let database = OpenDatabase::open(&root.join(&name), &config).unwrap();
        current::establish(root, None).unwrap();
        let dir = Arc::new(StateDir::new(root.join(name)));
        let view = Arc::new(View::new(database.view().unwrap(), dir.clone()));
        let space = Space::open(shared, config, dir.clone(), &view, true).unwrap();
        Self { database, space, view, dir, content: BTreeMap::new() }
    }

    fn fold(&mut self, changes: impl Iterator<Item = (u64, Option<u64>)>) {
        let changes: Entries = changes.map(|(k, v)| (key(k), v.map(|number| value(number).into()))).collect();
        self.database.write(&changes).unwrap();
        self.view = Arc::new(View::new(self.database.view().unwrap(), self.dir.clone()));
        self.space.folded(&self.database, &self.view);
        for (key, value) in changes {
            match value {
                Some(value) => self.content.insert(key, value.bytes()),
                None => self.content.remove(&key),
            };
        }
    }

    /// Begins a compaction of what is there now and lets its thread come to the end.
    fn link(&mut self) {
        assert!(self.space.step(&self.database, &self.view).unwrap().is_none());
        let task = self.space.task.as_ref().expect("enough is garbage");
        while !task.thread.is_finished() {
            std::thread::yield_now();
        }
    }

    fn step(&mut self) -> Option<Rotated> {
        self.space.step(&self.database, &self.view).unwrap()
    }
}

fn content(view: &View) -> BTreeMap<Bytes, Bytes> {
    let page = view.range_page(SHARD, &[0], database::END, usize::MAX).unwrap();
    page.entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// As the next start would find it, but without removing anything.
fn live_name(root: &Path) -> String {
    let text = fs::read_to_string(root.join("CURRENT")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("live ")).unwrap().to_owned()
}

fn live_bytes(state: &Path, root: Hash) -> u64 {
    let nodes = Nodes::open(state, 1 << 20).unwrap();
    let mut bytes = 0;
    nodes
        .walk(root, &mut |hash| {
            bytes += nodes.size(hash)?;
            Ok(())
        })
        .unwrap();
    bytes
}

#[test]
fn what_is_folded_between_the_walk_and_the_swap_is_in_the_next_state() {
    let root = tempfile::tempdir().unwrap();
    let mut folding = Folding::begin(root.path());
    folding.fold((0..200).map(|n| (n, Some(n))));
    folding.fold((20..200).map(|n| (n, None)));
    folding.link();
    // New, replaced and deleted, in several folds, one of which takes back what another did.
    folding.fold((100..150).map(|n| (n, Some(n + 1000))));
    folding.fold((0..5).map(|n| (n, Some(n + 2000))).chain((5..10).map(|n| (n, None))));
    folding.fold((100..110).map(|n| (n, None)));
    let old = database::root_node(&folding.view).unwrap();
    let rotated = folding.step().expect("a next state");
    assert_eq!(database::root_node(&rotated.view).unwrap(), old);
    assert_eq!(content(&rotated.view), folding.content);
    assert_eq!(content(&folding.view), folding.content, "the old one can still be read");
    assert_eq!(live_name(root.path()), "state-000002");
    assert_eq!(rotated.count.live, live_bytes(&rotated.dir.path, old));
    // The next state stands by itself: the old one's files are gone.
    let Folding { database, space, view, dir, content: expected } = folding;
    space.follow(&rotated).unwrap().close();
    drop(view);
    database.close();
    remove(&dir.path);
    let Rotated { database, dir, view, .. } = rotated;
    drop(view);
    database.close();
    let config = HaematiteConfig::default();
    let database = OpenDatabase::open(&dir.path, &config).unwrap();
    let view = View::new(database.view().unwrap(), dir.clone());
    assert_eq!(content(&view), expected);
    drop(view);
    database.close();
}

#[test]
fn a_next_state_that_would_lack_a_node_is_not_made_live() {
    let root = tempfile::tempdir().unwrap();
    let mut folding = Folding::begin(root.path());
    folding.fold((0..200).map(|n| (n, Some(n))));
    folding.fold((20..200).map(|n| (n, None)));
    folding.link();
    folding.fold((300..301).map(|n| (n, Some(n))));
    // A node that only the newest root reaches disappears: the compaction must fail, not the state.
    let mut fresh = Vec::new();
    let now = database::root_node(&folding.view).unwrap();
    let nodes = &folding.space.nodes;
    nodes
        .walk(now, &mut |hash| {
            fresh.push(*hash);
            Ok(())
        })
        .unwrap();
    let linked = database::nodes_dir(&root.path().join("state-000002"));
    let missing = fresh.iter().find(|hash| !hash.node_file_in(&linked).exists()).expect("something new");
    let (file, aside) = (nodes.file(missing), root.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    let stepped = folding.step();
    fs::rename(&aside, &file).unwrap();
    assert!(stepped.is_none());
    assert_eq!(live_name(root.path()), "state-000001");
    assert_eq!(content(&folding.view), folding.content);
    assert!(folding.space.retry_above > 0 && !root.path().join("state-000002").exists());
    let Folding { database, space, view, .. } = folding;
    space.close();
    drop(view);
    database.close();
}

#[test]
fn the_running_count_is_what_a_walk_finds_whatever_was_folded() {
    let root = tempfile::tempdir().unwrap();
    let mut folding = Folding::begin(root.path());
    for round in 0..25_u64 {
        let from = round * 37 % 90;
        // Deleted and written again with the same content: nodes come back to life.
        let keep = move |n: u64| (n + round).is_multiple_of(3).then_some(n);
        folding.fold((from..from + 30).map(|n| (n, keep(n))));
        let count = folding.space.count.expect("counted");
        assert_eq!(count.live, live_bytes(&folding.dir.path, count.root), "round {round}");
        assert!(count.live <= count.disk, "{count:?} in round {round}");
        assert_eq!(count.disk, folding.space.nodes.all_bytes().unwrap(), "round {round}");
    }
    let Folding { database, space, view, .. } = folding;
    space.close();
    drop(view);
    database.close();
}
