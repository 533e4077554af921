use super::*;
use crate::store::engine::Cut;

fn open(dir: &Path) -> OpenDatabase {
    OpenDatabase::open(dir, &HaematiteConfig::default()).unwrap()
}

fn root_of(database: &OpenDatabase) -> StateHash {
    root(&database.view().unwrap()).unwrap()
}

fn batch(stream: &str, last: u64) -> (Bytes, Option<Value>) {
    // Several to a leaf, and some leaves of their own.
    let len = if last.is_multiple_of(7) { 70_000 } else { 9_000 };
    (keys::batch(stream, last), Some(vec![u8::try_from(last % 251).unwrap(); len].into()))
}

fn delete(stream: &str, last: u64) -> (Bytes, Option<Value>) {
    (keys::batch(stream, last), None)
}

fn value(bytes: &'static [u8]) -> Option<Value> {
    Some(Bytes::from_static(bytes).into())
}

fn filled(dir: &Path) -> OpenDatabase {
    let mut database = open(dir);
    let mut changes: Entries = (0..400).map(|last| batch("b:0", last)).collect();
    changes.extend((0..50).flat_map(|last| [batch("a:0", last), batch("c:0", last)]));
    changes.insert(keys::mark(), value(b"1"));
    database.write(&changes).unwrap();
    database
}

/// As `write`, a delete at a time.
fn write_singly(database: &mut OpenDatabase, changes: &Entries) {
    for (key, value) in changes {
        database.write(&Entries::from([(key.clone(), value.clone())])).unwrap();
    }
}

/// Of the batches of a stream that end below a number.
fn cut(stream: &str, up_to: u64, keys: usize) -> Cut {
    Cut { range: keys::batch(stream, 0)..keys::batch(stream, up_to), keys }
}

fn cuts(all: impl IntoIterator<Item = Cut>) -> Cuts {
    let mut cuts = Cuts::default();
    all.into_iter().for_each(|cut| cuts.add(cut));
    cuts
}

#[test]
fn a_range_that_is_cut_out_leaves_the_tree_that_single_deletes_would_leave() {
    let dir = tempfile::tempdir().unwrap();
    let mark = || (keys::mark(), value(b"2"));
    // Written again by a later stream of the same name.
    let again = || [7, 150, 399].map(|last| (keys::batch("b:0", last), value(b"another")));
    let few = || (0..9).map(|last| delete("a:0", last));
    let rests: Vec<Entries> = vec![
        Entries::from([mark()]),
        again().into_iter().chain(few()).chain([mark()]).collect(),
        again().into_iter().chain(few()).collect(),
        Entries::new(),
    ];
    for (number, (up_to, rest)) in
        [333, 400].iter().flat_map(|up_to| rests.iter().map(move |rest| (*up_to, rest))).enumerate()
    {
        let path = dir.path().join(format!("cut{number}"));
        let mut database = filled(&path);
        let nothing = Cut { range: keys::batch("n:0", 0)..keys::batches_end("n:0"), keys: usize::MAX };
        // Where nothing else changes there is nothing to commit to another branch.
        let others = if rest.is_empty() { 0 } else { 20 };
        database.write_after(&cuts([cut("b:0", up_to, 400), cut("c:0", others, 20), nothing]), rest).unwrap();
        assert_eq!(database.name == BRANCHES[1], others > 0, "it took the way of the cut");
        let named = (0..up_to).map(|last| delete("b:0", last)).chain((0..others).map(|last| delete("c:0", last)));
        let mut single = filled(&dir.path().join(format!("single{number}")));
        write_singly(&mut single, &named.chain(rest.clone()).collect());
        assert_eq!(root_of(&database), root_of(&single), "case {number}");
        database.close();
        assert_eq!(root_of(&open(&path)), root_of(&single), "case {number} after a restart");
    }
}

#[test]
fn batches_that_are_deleted_from_the_middle_of_a_stream_leave_those_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = filled(&dir.path().join("state"));
    let mark = (keys::mark(), value(b"2"));
    database.write(&(0..400).step_by(2).map(|last| delete("b:0", last)).chain([mark]).collect()).unwrap();
    let view = database.view().unwrap();
    let there = |last: &u64| get(&view, &keys::batch("b:0", *last)).unwrap().is_some();
    assert!((0..400).filter(there).eq((1..400).step_by(2)));
}

#[test]
fn a_cut_state_is_found_again_and_cut_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut database = filled(&path);
    for end in [100, 200, 300] {
        let mark = (keys::mark(), Some(Value::from(Bytes::from(end.to_string()))));
        database.write_after(&cuts([cut("b:0", end, 100)]), &Entries::from([mark])).unwrap();
        let root = root_of(&database);
        database.close();
        database = open(&path);
        assert_eq!(root_of(&database), root);
        let view = database.view().unwrap();
        assert_eq!(get(&view, &keys::mark()).unwrap(), Some(Bytes::from(end.to_string())));
        assert_eq!(get(&view, &keys::batch("b:0", end - 1)).unwrap(), None);
        assert!(get(&view, &keys::batch("b:0", end)).unwrap().is_some());
    }
}

#[test]
fn a_crash_before_the_commit_to_the_new_branch_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut database = filled(&path);
    let before = root_of(&database);
    let mut nodes = DiskStore::new(nodes_dir(&path), database.cache).unwrap();
    let (from, to) = (keys::batch("b:0", 0), keys::batch("b:0", 300));
    let current = database.branch.shard_current_root(SHARD).unwrap();
    let cut = delete_range(&mut nodes, current, &from, &to, database.policy).unwrap();
    nodes.sync_dirty_dirs().unwrap();
    drop(nodes);
    let roots = BTreeMap::from([(SHARD, cut)]);
    let timestamp = haematite::current_timestamp().max(database.timestamp + 1);
    let OpenDatabase { refs, registry, .. } = &mut database;
    drop(create_branch_with_kind(BRANCHES[1], roots, BranchKind::Work, refs, registry, timestamp).unwrap());
    database.close();
    let database = open(&path);
    assert_eq!((database.name, root_of(&database)), (BRANCHES[0], before));
    assert!(database.refs.get(BRANCHES[1]).is_none(), "what was begun is gone");
}

#[test]
fn a_crash_after_the_commit_to_the_new_branch_leaves_the_new_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let records = || {
        let entries = std::fs::read_dir(path.join("branches")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|entry| entry.is_file()).collect::<Vec<_>>()
    };
    let mut database = filled(&path);
    let old: Vec<_> = records().into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect();
    let mark = (keys::mark(), value(b"2"));
    database.write_after(&cuts([cut("b:0", 300, 300)]), &Entries::from([mark])).unwrap();
    let after = root_of(&database);
    database.close();
    let removed: Vec<_> = old.into_iter().filter(|(_, file)| !file.exists()).collect();
    assert!(!removed.is_empty(), "the old branch's record is a file of its own");
    for (bytes, file) in removed {
        std::fs::write(file, bytes).unwrap();
    }
    let database = open(&path);
    assert_eq!((database.name, root_of(&database)), (BRANCHES[1], after));
    assert!(database.refs.get(BRANCHES[0]).is_none());
}

/// Some thirty pieces, in the way of the cut too.
#[test]
fn what_is_written_in_pieces_is_what_is_written_at_once_and_is_the_state_only_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["whole", "pieces"].map(|name| dir.path().join(name));
    let [mut whole, mut pieces] = [&paths[0], &paths[1]].map(|path| filled(path));
    pieces.piece = 100 << 10;
    for (number, cutting) in [false, true].into_iter().enumerate() {
        let mark = (keys::mark(), Some(Value::from(Bytes::from(format!("more {number}")))));
        let begin = 1000 * (number as u64 + 1);
        let mut changes: Entries = (begin..begin + 200).map(|last| batch("b:0", last)).chain([mark]).collect();
        changes.extend((0..9).map(|last| delete("c:0", last + 9 * number as u64)));
        let cut = cuts(cutting.then(|| cut("b:0", 300, 300)));
        // A try that was given up on the way.
        let before = root_of(&whole);
        let branch = pieces.branch.clone();
        for (key, value) in changes.iter().take(150) {
            put(&branch, key, value.as_ref()).unwrap();
        }
        pieces.advance(&branch, false).unwrap();
        assert_ne!(root_of(&pieces), before);
        drop(branch);
        pieces.close();
        pieces = open(&paths[1]);
        assert_eq!(root_of(&pieces), before, "nothing of it is there");
        pieces.piece = 100 << 10;
        whole.write_after(&cut, &changes).unwrap();
        pieces.write_after(&cut, &changes).unwrap();
        assert_eq!(root_of(&pieces), root_of(&whole));
        let root = root_of(&pieces);
        pieces.close();
        pieces = open(&paths[1]);
        pieces.piece = 100 << 10;
        assert_eq!(root_of(&pieces), root, "all of it is there");
    }
}

#[test]
fn pieces_that_a_failure_has_left_behind_do_no_harm_to_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let [mut whole, mut pieces] = ["whole", "pieces"].map(|name| filled(&dir.path().join(name)));
    pieces.piece = 100 << 10;
    let mark = (keys::mark(), value(b"2"));
    let changes: Entries = (1000..1200).map(|last| batch("b:0", last)).chain([mark]).collect();
    let branch = pieces.branch.clone();
    for (key, value) in changes.iter().filter(|(key, _)| **key != keys::mark()) {
        put(&branch, key, value.as_ref()).unwrap();
        pieces.advance(&branch, false).unwrap();
    }
    pieces.write(&changes).unwrap();
    whole.write(&changes).unwrap();
    let root = root_of(&whole);
    assert_eq!(root_of(&pieces), root);
    drop(branch);
    pieces.close();
    assert_eq!(root_of(&open(&dir.path().join("pieces"))), root, "and what was there before counts as written");
}

#[test]
fn claims_that_a_channel_forgets_in_a_row_are_cut_out_too() {
    let claims =
        |channel: u64, seq: u64| keys::plain(&[keys::CLAIMS, &channel.to_be_bytes(), &seq.to_be_bytes()].concat());
    let mut changes: Entries = (0..200).map(|seq| (claims(1, seq), None)).collect();
    changes.extend((0..200).map(|seq| (claims(2, seq), if seq < 100 { None } else { value(b"keys") })));
    changes.insert(keys::plain(b"claims/x"), None);
    let found = runs(&changes);
    let ends: Vec<_> = found.iter().map(|run| (run.first, run.last, run.keys.len())).collect();
    assert_eq!(ends, [(&claims(1, 0)[..], &claims(1, 199)[..], 200), (&claims(2, 0)[..], &claims(2, 99)[..], 100)]);
    let dir = tempfile::tempdir().unwrap();
    let mark = |mark: &'static [u8]| (keys::mark(), value(mark));
    let all = (0..400).flat_map(|seq| [1, 2].map(|channel| (claims(channel, seq), value(b"keys"))));
    let all: Entries = all.chain([mark(b"1")]).collect();
    let gone: Entries = (0..300).map(|seq| (claims(1, seq), None)).chain([mark(b"2")]).collect();
    let [mut cut, mut single] = ["cut", "single"].map(|name| open(&dir.path().join(name)));
    for database in [&mut cut, &mut single] {
        database.write(&all).unwrap();
    }
    cut.write(&gone).unwrap();
    write_singly(&mut single, &gone);
    assert_eq!((cut.name, single.name), (BRANCHES[1], BRANCHES[0]), "one took the way of the cut");
    assert_eq!(root_of(&cut), root_of(&single));
}

#[test]
fn a_write_that_is_refused_is_told_with_what_the_system_says() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(write_refusal(dir.path()), None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the probe leaves nothing behind");
    let missing = dir.path().join("gone");
    let said = write_refusal(&missing).unwrap();
    assert!(said.contains("gone is refused: No such file") && said.contains("os error 2"), "{said}");
}

#[test]
fn runs_end_where_claims_are_put_and_are_never_made_of_batches() {
    let claims = |seq: u64| keys::plain(&[keys::CLAIMS, &[0; 8], &seq.to_be_bytes()].concat());
    let few: Entries = (0..RUN as u64 - 1).map(|seq| (claims(seq), None)).collect();
    assert!(runs(&few).is_empty());
    let mut changes: Entries = (0..200).map(|seq| (claims(seq), None)).collect();
    changes.extend((0..200).map(|last| delete("b:0", last)));
    changes.extend([(claims(100), value(b"keys")), (keys::index("a:0", 0), None), (keys::plain(b"x"), None)]);
    let found = runs(&changes);
    let ends = |run: &Run<'_>| (run.first.to_vec(), run.last.to_vec(), run.keys.len());
    let expected = [(0, 99, 100), (101, 199, 99)];
    let expected = expected.map(|(first, last, count)| (claims(first).to_vec(), claims(last).to_vec(), count));
    assert_eq!(found.iter().map(ends).collect::<Vec<_>>(), expected);
}
