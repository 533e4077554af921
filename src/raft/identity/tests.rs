use super::*;

#[test]
fn an_identity_survives_and_belongs_to_one_node_and_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let first = Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
    assert!(first.join("c1").unwrap());
    let again = Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
    assert_eq!(again.node_id(), first.node_id());
    assert_eq!(again.cluster_id().as_deref(), Some("c1"));
    assert!(!again.join("c2").unwrap());
    let unnamed = Identity::open(dir.path(), None, &Env::real()).unwrap();
    assert_eq!(unnamed.node_name(), "n1");
    let error = Identity::open(dir.path(), Some("n2"), &Env::real()).err().unwrap();
    assert!(error.to_string().contains("belongs to node `n1`"), "{error}");
}

#[test]
fn a_promise_outlives_the_process_and_ends_only_when_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
    let promise = |cluster: &str| Promise {
        cluster_id: cluster.to_owned(),
        founder: NodeAddress::default(),
        members: vec![1, 2],
        number: 3,
    };
    assert!(open().agree(promise("c1")).unwrap());
    assert!(!open().agree(promise("c2")).unwrap());
    open().release(&promise("c2")).unwrap();
    assert_eq!(open().promise(), Some(promise("c1")));
    open().release(&promise("c1")).unwrap();
    assert_eq!((open().promise(), open().cluster_id()), (None, None));
    // A promise is kept once the node was let in.
    assert!(open().agree(promise("c3")).unwrap());
    assert!(open().join("c3").unwrap());
    assert_eq!(open().promise(), None);
    open().release(&promise("c3")).unwrap();
    assert_eq!(open().cluster_id().as_deref(), Some("c3"));
}

#[test]
fn proposals_are_counted_for_good_and_a_node_that_belongs_to_a_cluster_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap();
    let propose = |cluster: &str| open().propose(cluster.to_owned(), NodeAddress::default(), vec![1]).unwrap();
    let first = propose("c1").unwrap();
    assert_eq!((first.number, open().promise()), (1, Some(first.clone())));
    assert_eq!(propose("c2"), None);
    open().release(&first).unwrap();
    assert_eq!((propose("c2").unwrap().number, open().proposals()), (2, 2));
}

#[test]
fn a_promise_of_an_earlier_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let written = r#"{"format":1,"node_id":7,"node_name":"n1","cluster_id":"c1","founder":{"id":8,"name":"n0",
        "peer":"n0:7301","client":"n0:7101","http":"n0:7201"},"starts":1}"#;
    fs::write(dir.path().join("identity.json"), written).unwrap();
    let promise = Identity::open(dir.path(), Some("n1"), &Env::real()).unwrap().promise().unwrap();
    assert_eq!((promise.founder.id, promise.members, promise.number), (8, vec![], 0));
}

#[test]
fn every_start_is_counted_and_every_process_is_another_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Identity::open(dir.path(), None, &Env::real()).unwrap();
    let (first, second) = (open(), open());
    assert_eq!((first.begin().unwrap(), open().begin().unwrap()), (1, 2));
    assert_ne!(first.incarnation(), second.incarnation());
}

#[test]
fn an_empty_directory_gives_another_id() {
    let id = || Identity::open(tempfile::tempdir().unwrap().path(), Some("n1"), &Env::real()).unwrap().node_id();
    assert_ne!(id(), id());
}

#[test]
fn a_cut_or_flipped_identity_is_never_taken_for_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Identity::open(dir.path(), Some("n1"), &Env::real());
    let identity = open().unwrap();
    identity.join("c1").unwrap();
    identity.begin().unwrap();
    let (path, record) = (dir.path().join(IDENTITY), identity.inner.record.read().clone());
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() - 2 {
        fs::write(&path, &whole[..len]).unwrap();
        let error = open().err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("cluster remove"), "{error}");
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        if let Ok(found) = open() {
            assert_eq!(*found.inner.record.read(), record, "bit {bit}"); // white space
        }
    }
    let larger = String::from_utf8(whole).unwrap().replace("\"starts\": 1", "\"starts\": 9");
    fs::write(&path, larger).unwrap();
    assert!(open().err().unwrap().to_string().contains("checksum"));
}

#[test]
fn an_identity_without_a_checksum_is_that_of_an_earlier_build_and_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(IDENTITY);
    let old = r#"{ "format": 1, "node_id": 53, "node_name": "n1", "cluster_id": "c1", "starts": 4 }"#;
    fs::write(&path, old).unwrap();
    let open = || Identity::open(dir.path(), Some("n1"), &Env::real());
    let identity = open().unwrap();
    assert_eq!((identity.node_id(), identity.begin().unwrap(), identity.held()), (53, 5, None));
    assert!(fs::read_to_string(&path).unwrap().contains("\"format\": 2"));
    assert_eq!(open().unwrap().starts(), 5);
    fs::write(&path, old.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(open().err().unwrap().to_string().contains("checksum"));
}

#[test]
fn a_node_without_its_identity_does_not_become_another_beside_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("raft")).unwrap();
    fs::write(dir.path().join("raft/0000000000000001.log"), []).unwrap();
    let error = Identity::open(dir.path(), Some("n1"), &Env::real()).err().unwrap().to_string();
    assert!(error.contains("identity.json is missing, but") && error.contains("raft is there"), "{error}");
    assert!(!dir.path().join(IDENTITY).exists());
}
