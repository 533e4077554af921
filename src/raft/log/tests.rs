//! What every log promises, shown for the one on disk and the simulated one alike.

use bytes::Bytes;

use super::*;

fn entry(index: u64, size: usize) -> LogEntry {
    (LogPosition { term: 1, index }, Bytes::from(vec![b'x'; size]))
}

async fn append(log: &dyn LogStore, entries: Vec<LogEntry>) {
    let (sender, durable) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(|result| drop(sender.send(result)))).unwrap();
    durable.await.unwrap().unwrap();
}

fn indexes(entries: &[LogEntry]) -> Vec<u64> {
    entries.iter().map(|(position, _)| position.index).collect()
}

/// Opens the same log again and again.
type Open<'a> = &'a dyn Fn() -> Box<dyn LogStore>;

macro_rules! on_both_logs {
    ($($name:ident)*) => {
        mod disk {
            $(#[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::$name(&|| Box::new(super::DiskLog::open(dir.path(), 1 << 20).unwrap())).await;
            })*
        }
        mod sim {
            $(#[tokio::test]
            async fn $name() {
                let disk = super::SimDisk::default();
                super::$name(&|| Box::new(super::SimLog::open(&disk))).await;
            })*
        }
    };
}

on_both_logs! {
    entries_are_read_back_in_order_and_near_the_limit
    a_truncated_log_continues_where_it_was_cut
    a_purge_may_reach_beyond_the_end
    votes_and_entries_survive_a_restart
    the_owner_survives_a_restart_and_the_files_that_it_was_written_to
    a_candidate_that_lost_saves_the_vote_of_its_terms_leader_whatever_their_ids
}

async fn entries_are_read_back_in_order_and_near_the_limit(open: Open<'_>) {
    let log = open();
    append(&*log, (0..10).map(|index| entry(index, 100)).collect()).await;
    assert_eq!(indexes(&log.read(0..99, usize::MAX).unwrap()), (0..10).collect::<Vec<_>>());
    assert_eq!(indexes(&log.read(3..5, usize::MAX).unwrap()), [3, 4]);
    assert_eq!(indexes(&log.read(3..99, 150).unwrap()), [3, 4]);
    assert_eq!(indexes(&log.read(3..99, 1).unwrap()), [3]);
    assert!(log.read(10..99, 1).unwrap().is_empty());
}

async fn a_truncated_log_continues_where_it_was_cut(open: Open<'_>) {
    let log = open();
    append(&*log, (0..5).map(|index| entry(index, 1)).collect()).await;
    log.truncate_from(3).unwrap();
    assert_eq!(log.bounds().last.unwrap().index, 2);
    append(&*log, vec![(LogPosition { term: 2, index: 3 }, Bytes::from("new"))]).await;
    drop(log);
    let log = open();
    assert_eq!(log.read(3..4, 1).unwrap(), [(LogPosition { term: 2, index: 3 }, Bytes::from("new"))]);
}

async fn a_purge_may_reach_beyond_the_end(open: Open<'_>) {
    let log = open();
    append(&*log, (0..5).map(|index| entry(index, 1)).collect()).await;
    log.purge(LogPosition { term: 1, index: 2 }).unwrap();
    assert_eq!(indexes(&log.read(0..99, usize::MAX).unwrap()), [3, 4]);
    let beyond = LogPosition { term: 3, index: 20 };
    log.purge(beyond).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(beyond), last: Some(beyond) });
    append(&*log, vec![(LogPosition { term: 3, index: 21 }, Bytes::new())]).await;
    assert_eq!(indexes(&log.read(0..99, usize::MAX).unwrap()), [21]);
}

async fn votes_and_entries_survive_a_restart(open: Open<'_>) {
    let log = open();
    let vote = StoredVote { term: 3, node: 7, committed: true };
    let (sender, durable) = tokio::sync::oneshot::channel();
    log.save_vote(vote, Box::new(|result| drop(sender.send(result)))).unwrap();
    durable.await.unwrap().unwrap();
    append(&*log, vec![entry(0, 5)]).await;
    log.save_committed(Some(LogPosition { term: 1, index: 0 })).unwrap();
    // The mark itself is not waited for; it is on disk with the next entry.
    append(&*log, vec![entry(1, 5)]).await;
    log.close().unwrap();
    drop(log);
    let log = open();
    assert_eq!(log.vote(), Some(vote));
    assert_eq!(log.committed(), Some(LogPosition { term: 1, index: 0 }));
    assert_eq!(log.read(0..9, usize::MAX).unwrap(), [entry(0, 5), entry(1, 5)]);
}

async fn a_candidate_that_lost_saves_the_vote_of_its_terms_leader_whatever_their_ids(open: Open<'_>) {
    let log = open();
    let save = async |vote: StoredVote| {
        let (sender, durable) = tokio::sync::oneshot::channel();
        log.save_vote(vote, Box::new(|result| drop(sender.send(result))))?;
        durable.await.unwrap()
    };
    save(StoredVote { term: 2, node: 9, committed: false }).await.unwrap();
    save(StoredVote { term: 2, node: 3, committed: true }).await.unwrap();
    assert!(save(StoredVote { term: 1, node: 9, committed: true }).await.is_err(), "a vote never goes back");
    assert_eq!(log.vote(), Some(StoredVote { term: 2, node: 3, committed: true }));
}

async fn the_owner_survives_a_restart_and_the_files_that_it_was_written_to(open: Open<'_>) {
    for start in 1..=3 {
        let log = open();
        assert_eq!(log.owner().map_or(0, |owner| owner.start), start - 1);
        let (sender, durable) = tokio::sync::oneshot::channel();
        log.save_owner(LogOwner { node: 7, start }, Box::new(|result| drop(sender.send(result)))).unwrap();
        durable.await.unwrap().unwrap();
        append(&*log, vec![entry(start - 1, 5)]).await;
        log.purge(LogPosition { term: 1, index: start - 1 }).unwrap();
        log.close().unwrap();
    }
    assert_eq!(open().owner(), Some(LogOwner { node: 7, start: 3 }));
}
