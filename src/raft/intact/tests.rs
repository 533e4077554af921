use std::{fs, path::Path};

use bytes::Bytes;

use super::*;
use crate::{
    env::Env,
    raft::log::{DiskLog, StoredVote},
};

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn open(dir: &Path) -> (Identity, DiskLog) {
    fs::create_dir_all(dir.join("raft")).unwrap();
    (Identity::open(dir, Some("n1"), &Env::real()).unwrap(), DiskLog::open(&dir.join("raft"), 1 << 20).unwrap())
}

/// A process that votes in a term, takes entries up to an index, all of them committed, and ends in order.
async fn live(dir: &Path, term: u64, from: u64, to: u64) {
    let (identity, log) = open(dir);
    check(&identity, &log, None).unwrap();
    begin(&identity, &log).await.unwrap();
    identity.join("c1").unwrap();
    let vote = StoredVote { term, node: 1, committed: true };
    durably(&identity, |told| log.save_vote(vote, told)).await.unwrap();
    let entries = (from..to).map(|index| (at(term, index), Bytes::from("x"))).collect();
    durably(&identity, |told| log.append(entries, told)).await.unwrap();
    log.save_committed(Some(at(term, to - 1))).unwrap();
    follow(&identity, &log).await.unwrap();
    log.close().unwrap();
}

async fn three_lives(dir: &Path) {
    live(dir, 1, 0, 5).await;
    live(dir, 2, 5, 8).await;
    live(dir, 3, 8, 12).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn refusal(dir: &Path, applied: Option<LogPosition>) -> String {
    let (identity, log) = open(dir);
    let error = check(&identity, &log, applied).err().map_or_else(|| "none".to_owned(), |error| error.to_string());
    assert!(error == "none" || error.contains(dir.to_str().unwrap()) && error.contains("cluster remove"), "{error}");
    error
}

#[tokio::test]
async fn a_log_that_was_left_is_accepted_with_any_state_that_it_reaches_back_to() {
    let dir = tempfile::tempdir().unwrap();
    three_lives(dir.path()).await;
    for applied in [None, Some(at(1, 0)), Some(at(3, 11)), Some(at(4, 20))] {
        assert_eq!(refusal(dir.path(), applied), "none");
    }
    let error = refusal(dir.path(), Some(at(9, 6)));
    assert!(error.contains("state comes from an entry 6 of term 9, but the log's is of term 2"), "{error}");
}

#[tokio::test]
async fn an_entry_that_was_never_committed_does_not_contradict_a_state_that_came_as_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    live(dir.path(), 1, 0, 5).await;
    let (identity, log) = open(dir.path());
    check(&identity, &log, None).unwrap();
    begin(&identity, &log).await.unwrap();
    durably(&identity, |told| log.append(vec![(at(1, 5), Bytes::from("x"))], told)).await.unwrap();
    log.close().unwrap();
    drop((identity, log));
    assert_eq!(refusal(dir.path(), Some(at(2, 5))), "none");
    let error = refusal(dir.path(), Some(at(0, 5)));
    assert!(error.contains("comes from an entry 5 of term 0, but the log's is of term 1"), "{error}");
}

#[tokio::test]
async fn a_log_that_is_lost_is_refused_with_or_without_its_state() {
    let dir = tempfile::tempdir().unwrap();
    three_lives(dir.path()).await;
    fs::remove_dir_all(dir.path().join("raft")).unwrap();
    for applied in [None, Some(at(3, 11))] {
        let error = refusal(dir.path(), applied);
        assert!(error.contains("raft is not the log of this node, whose start 3 wrote to it"), "{error}");
    }
}

#[tokio::test]
async fn a_last_file_that_is_lost_and_an_older_copy_show_by_the_start_that_they_end_with() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("n1");
    live(&dir, 1, 0, 5).await;
    copy(&dir.join("raft"), &root.path().join("older"));
    live(&dir, 2, 5, 8).await;
    copy(&dir.join("raft"), &root.path().join("now"));
    fs::remove_file(dir.join("raft/0000000000000002.log")).unwrap();
    let error = refusal(&dir, None);
    assert!(error.contains("ends with what start 1 of this node wrote, but start 2 wrote to it too"), "{error}");
    fs::remove_dir_all(dir.join("raft")).unwrap();
    copy(&root.path().join("older"), &dir.join("raft"));
    assert_eq!(refusal(&dir, None), error);
    fs::remove_dir_all(dir.join("raft")).unwrap();
    copy(&root.path().join("now"), &dir.join("raft"));
    assert_eq!(refusal(&dir, None), "none");
}

#[tokio::test]
async fn an_end_that_is_cut_off_shows_by_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    live(dir.path(), 1, 0, 50).await;
    let path = dir.path().join("raft/0000000000000001.log");
    let whole = fs::read(&path).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for len in (32..end).step_by(16) {
        fs::write(&path, &whole[..len]).unwrap();
        let (identity, log) = open(dir.path());
        let result = check(&identity, &log, None);
        assert!(result.is_err() || log.bounds().last == Some(at(1, 49)), "cut at byte {len}");
        refused += usize::from(result.is_err());
    }
    assert!(refused > 50, "{refused}");
}

#[tokio::test]
async fn what_belongs_to_another_node_or_another_time_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    live(&one, 1, 0, 5).await;
    live(&two, 1, 0, 5).await;
    let older = fs::read(one.join("identity.json")).unwrap();
    live(&one, 2, 5, 8).await;
    let newest = fs::read(one.join("identity.json")).unwrap();
    fs::write(one.join("identity.json"), older).unwrap();
    let error = refusal(&one, None);
    assert!(error.contains("identity.json is older than the log: it counts 1 starts, the log 2"), "{error}");
    fs::write(one.join("identity.json"), newest).unwrap();
    fs::remove_dir_all(one.join("raft")).unwrap();
    copy(&two.join("raft"), &one.join("raft"));
    let error = refusal(&one, None);
    assert!(error.contains("raft is the log of node"), "{error}");
}

#[tokio::test]
async fn a_state_that_the_log_does_not_reach_back_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    three_lives(dir.path()).await;
    let (_, log) = open(dir.path());
    log.purge(at(2, 6)).unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(refusal(dir.path(), Some(at(2, 6))), "none");
    for (applied, shown) in [(Some(at(2, 5)), "entry 5"), (None, "entry none")] {
        let error = refusal(dir.path(), applied);
        assert!(
            error.contains(&format!("state holds the state after log {shown}, but the log begins after entry 6")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_start_that_a_crash_interrupted_is_no_loss_at_any_point() {
    let dir = tempfile::tempdir().unwrap();
    three_lives(dir.path()).await;
    // The start was counted.
    open(dir.path()).0.begin().unwrap();
    assert_eq!(refusal(dir.path(), None), "none");
    // And the log has taken it down, but the identity does not say so yet.
    let (identity, log) = open(dir.path());
    let owner = LogOwner { node: identity.node_id(), start: identity.starts() };
    durably(&identity, |told| log.save_owner(owner, told)).await.unwrap();
    drop((identity, log));
    assert_eq!(refusal(dir.path(), None), "none");
    live(dir.path(), 4, 12, 13).await;
}

#[tokio::test]
async fn a_member_of_an_earlier_build_without_a_log_is_refused_and_a_fresh_node_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(refusal(dir.path(), None), "none");
    let (identity, log) = open(dir.path());
    identity.join("c1").unwrap();
    drop((identity, log));
    let error = refusal(dir.path(), None);
    assert!(error.contains("raft is empty, but this node has been in a cluster"), "{error}");
}
