use super::*;

fn state(root: &Path, name: &str) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(CONFIG), format!("{{\"shard_count\":1,\"of\":\"{name}\"}}")).unwrap();
    dir
}

/// A store whose first state is live.
fn begun(root: &Path, owner: Option<u64>) -> PathBuf {
    let found = find(root, owner).unwrap();
    assert!(found.is_new);
    let dir = state(root, &found.name);
    establish(root, owner).unwrap();
    dir
}

fn names(root: &Path) -> Vec<String> {
    let mut names = entries(root).unwrap();
    names.sort();
    names
}

fn swap(next: &Path, present: &Path) {
    begin(next).unwrap();
    state(next.parent().unwrap(), next.file_name().unwrap().to_str().unwrap());
    assert!(make_current(next, present).is_ok());
}

#[test]
fn a_cut_or_flipped_current_is_refused_by_name_and_nothing_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let first = begun(root.path(), Some(7));
    swap(&root.path().join("state-000002"), &first);
    let (path, before) = (root.path().join(CURRENT), names(root.path()));
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = find(root.path(), Some(7)).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("cluster remove"), "{error}");
        assert_eq!(names(root.path()), before);
    };
    for len in 0..whole.len() {
        refused(&whole[..len]);
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(&bytes);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(find(root.path(), Some(7)).unwrap().name, "state-000002");
}

#[test]
fn only_what_was_superseded_by_name_or_never_finished_is_removed_at_a_start() {
    let root = tempfile::tempdir().unwrap();
    let first = begun(root.path(), None);
    swap(&root.path().join("state-000002"), &first);
    state(root.path(), "state-000005");
    let unfinished = root.path().join("state-000006");
    begin(&unfinished).unwrap();
    state(root.path(), "state-000006");
    let found = find(root.path(), None).unwrap();
    assert_eq!((found.name.as_str(), found.highest, found.is_new), ("state-000002", 6, false));
    assert_eq!(names(root.path()), [CURRENT, "state-000002", "state-000005"]);
}

#[test]
fn a_current_of_an_earlier_build_is_checked_and_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(CURRENT);
    state(root.path(), FIRST);
    state(root.path(), "state-000002");
    fs::write(&path, "state-000003\n").unwrap();
    let error = find(root.path(), None).unwrap_err().to_string();
    assert!(error.contains("`state-000003`, which is not there; there is [state-000001, state-000002]"), "{error}");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = find(root.path(), None).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("no text"), "{error}");
    fs::write(&path, "state-000002\n").unwrap();
    assert_eq!(find(root.path(), Some(7)).unwrap().name, "state-000002");
    assert_eq!(read(root.path()).unwrap().unwrap().owner, Some(7));
    assert!(root.path().join(FIRST).exists(), "nothing said that it was superseded");
}

#[test]
fn a_state_of_another_node_or_with_another_configuration_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let first = begun(root.path(), Some(7));
    let error = find(root.path(), Some(8)).unwrap_err().to_string();
    assert!(error.contains("state of node 7, and this node is 8"), "{error}");
    assert!(find(root.path(), None).is_ok());
    fs::write(first.join(CONFIG), "{\"shard_count\":2}").unwrap();
    let error = find(root.path(), Some(7)).unwrap_err().to_string();
    assert!(error.contains(first.join(CONFIG).to_str().unwrap()) && error.contains("shard_count is 2"), "{error}");
    fs::write(first.join(CONFIG), "{\"shard_count\":1}").unwrap();
    let error = find(root.path(), Some(7)).unwrap_err().to_string();
    assert!(error.contains("its checksum is"), "{error}");
    fs::remove_dir_all(&first).unwrap();
    let error = find(root.path(), Some(7)).unwrap_err().to_string();
    assert!(error.contains("names `state-000001`, which is not there"), "{error}");
}

#[test]
fn a_first_state_that_a_crash_interrupted_is_begun_again_and_any_other_is_missed_its_current() {
    let root = tempfile::tempdir().unwrap();
    assert!(!is_there(root.path()));
    assert!(find(root.path(), None).unwrap().is_new);
    let half = state(root.path(), FIRST);
    assert!(find(root.path(), None).unwrap().is_new);
    assert!(!half.exists());
    begun(root.path(), None);
    fs::remove_file(root.path().join(CURRENT)).unwrap();
    assert!(is_there(root.path()));
    let error = find(root.path(), None).unwrap_err().to_string();
    assert!(error.contains("it is missing, but state-000001 is there"), "{error}");
}
