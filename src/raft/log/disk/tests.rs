//! What only the log on disk does: files, power cuts, damage, failing syncs. What all logs do is tested above.

mod power;
mod recycling;

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;

use super::*;

const CACHE: usize = 1 << 20;

fn entry(index: u64, size: usize) -> LogEntry {
    (LogPosition { term: 1, index }, Bytes::from(vec![b'x'; size]))
}

/// Appends and waits until it is durable.
fn append(log: &DiskLog, entry: LogEntry) -> io::Result<()> {
    let (sender, durable) = mpsc::sync_channel(1);
    log.append(vec![entry], Box::new(move |result| sender.send(result).unwrap()))?;
    durable.recv().unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    files.sort();
    files
}

/// A log of ten durable entries that nobody closed, as after a power cut.
fn written(dir: &Path) -> PathBuf {
    let log = DiskLog::open(dir, CACHE).unwrap();
    (0..10).for_each(|index| append(&log, entry(index, 100)).unwrap());
    files(dir).pop().unwrap()
}

fn last(log: &DiskLog) -> u64 {
    log.bounds().last.unwrap().index
}

#[test]
fn a_torn_tail_is_cut_off_and_the_log_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path());
    let bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    File::options().write(true).open(&file).unwrap().set_len(end as u64 - 10).unwrap();
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    assert_eq!(last(&log), 8);
    append(&log, entry(9, 7)).unwrap();
    drop(log);
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    assert_eq!(log.read(8..99, usize::MAX).unwrap(), [entry(8, 100), entry(9, 7)]);
}

#[test]
fn a_log_cut_anywhere_keeps_whole_entries_up_to_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path());
    let whole = fs::read(&file).unwrap();
    let name = file.file_name().unwrap();
    for len in (SEGMENT_HEADER..1800).step_by(13) {
        let cut = tempfile::tempdir().unwrap();
        fs::write(cut.path().join(name), &whole[..len]).unwrap();
        let log = DiskLog::open(cut.path(), CACHE).unwrap();
        let entries = log.read(0..99, usize::MAX).unwrap();
        let expected: Vec<LogEntry> = (0..entries.len() as u64).map(|index| entry(index, 100)).collect();
        assert_eq!(entries, expected);
        assert!(entries.len() + 1 >= (len / 200).min(10), "{} entries of {len} bytes", entries.len());
    }
}

#[test]
fn a_flipped_bit_in_what_was_durable_is_refused_by_name_and_nothing_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[700] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let error = DiskLog::open(dir.path(), CACHE).err().unwrap();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn after_a_clean_close_even_the_last_entry_may_not_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    append(&log, entry(0, 100)).unwrap();
    log.close().unwrap();
    let file = files(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'x').unwrap();
    bytes[at] = b'y';
    fs::write(&file, &bytes).unwrap();
    assert!(DiskLog::open(dir.path(), CACHE).is_err());
}

#[test]
fn a_missing_or_renamed_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..3 {
        append(&DiskLog::open(dir.path(), CACHE).unwrap(), entry(index, 10)).unwrap();
    }
    let [first, second, third] = &files(dir.path())[..] else { panic!("each start begins a file") };
    let aside = dir.path().join("aside");
    fs::rename(second, &aside).unwrap();
    assert!(DiskLog::open(dir.path(), CACHE).err().unwrap().to_string().contains("missing"));
    fs::copy(first, second).unwrap();
    assert!(DiskLog::open(dir.path(), CACHE).err().unwrap().to_string().contains("another name"));
    fs::rename(aside, second).unwrap();
    assert_eq!(last(&DiskLog::open(dir.path(), CACHE).unwrap()), 2);
    fs::remove_file(first).unwrap();
    assert!(DiskLog::open(dir.path(), CACHE).err().unwrap().to_string().contains("never purged"));
    assert!(third.exists());
}

#[test]
fn purged_files_are_deleted_and_the_rest_stands_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let vote = StoredVote { term: 2, node: 3, committed: true };
    {
        let log = DiskLog::open(dir.path(), CACHE).unwrap();
        log.save_vote(vote, Box::new(|result| result.unwrap())).unwrap();
        // Four files of 64 MiB.
        (0..200).for_each(|index| append(&log, entry(index, 1 << 20)).unwrap());
        assert_eq!(files(dir.path()).len(), 4);
        log.purge(LogPosition { term: 1, index: 150 }).unwrap();
        append(&log, entry(200, 5)).unwrap();
        assert_eq!(files(dir.path()).len(), 2);
        // Not in memory any more, and read from its file.
        assert_eq!(log.read(192..193, 1).unwrap(), [entry(192, 1 << 20)]);
    }
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    assert_eq!((log.vote(), log.bounds().purged.unwrap().index, last(&log)), (Some(vote), 150, 200));
    assert_eq!(log.read(0..152, usize::MAX).unwrap(), [entry(151, 1 << 20)]);
}

#[test]
fn a_log_that_was_purged_several_times_is_read_back_from_its_last_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    for purged in [3, 5, 9] {
        let log = DiskLog::open(dir.path(), CACHE).unwrap();
        for _ in 0..4 {
            append(&log, entry(next, 10)).unwrap();
            next += 1;
        }
        log.purge(LogPosition { term: 1, index: purged }).unwrap();
        log.close().unwrap();
        let log = DiskLog::open(dir.path(), CACHE).unwrap();
        assert_eq!((log.bounds().purged.unwrap().index, last(&log)), (purged, next - 1));
        let kept: Vec<u64> = log.read(0..99, usize::MAX).unwrap().iter().map(|(at, _)| at.index).collect();
        assert_eq!(kept, (purged + 1..next).collect::<Vec<_>>());
        log.purge(LogPosition { term: 1, index: purged }).unwrap();
    }
}

#[test]
fn nothing_is_durable_before_a_sync_and_one_sync_serves_all_that_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let (go, gate) = mpsc::sync_channel::<()>(2);
    let (gate, syncs) = (Mutex::new(gate), Arc::new(AtomicU64::new(0)));
    let counted = syncs.clone();
    let sync: Sync = Arc::new(move |file: &File| {
        gate.lock().recv().unwrap();
        counted.fetch_add(1, Ordering::SeqCst);
        file.sync_data()
    });
    let log = DiskLog::open_with(dir.path(), CACHE, sync).unwrap();
    let (sender, durable) = mpsc::sync_channel(50);
    let add = |index: u64| {
        let (sender, syncs) = (sender.clone(), syncs.clone());
        let done =
            move |result: io::Result<()>| sender.send((index, result.is_ok(), syncs.load(Ordering::SeqCst))).unwrap();
        log.append(vec![entry(index, 10)], Box::new(done)).unwrap();
    };
    add(0);
    // The thread has taken the first one when it waits in its sync; the others gather.
    while !log.shared.state.lock().pending.is_empty() {
        std::thread::yield_now();
    }
    (1..50).for_each(add);
    assert!(durable.try_recv().is_err(), "no sync has ended");
    go.send(()).unwrap();
    assert_eq!(durable.recv().unwrap(), (0, true, 1));
    go.send(()).unwrap();
    for index in 1..50 {
        assert_eq!(durable.recv().unwrap(), (index, true, 2));
    }
}

#[test]
fn what_is_added_unwritten_is_read_at_once_and_durable_once_it_is_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    append(&log, entry(0, 10)).unwrap();
    let (sender, durable) = mpsc::sync_channel(2);
    for index in 1..3 {
        let sender = sender.clone();
        let done = Box::new(move |result: io::Result<()>| sender.send((index, result.is_ok())).unwrap());
        log.append_unwritten(vec![entry(index, 10)], done).unwrap();
    }
    assert_eq!(log.read(1..9, usize::MAX).unwrap(), [entry(1, 10), entry(2, 10)]);
    log.write();
    assert_eq!([durable.recv().unwrap(), durable.recv().unwrap()], [(1, true), (2, true)]);
    log.close().unwrap();
}

#[test]
fn after_a_failed_sync_nothing_is_taken_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let fails = broken.clone();
    let sync: Sync =
        Arc::new(
            move |file: &File| {
                if fails.load(Ordering::SeqCst) { Err(io::Error::other("injected")) } else { file.sync_data() }
            },
        );
    let log = DiskLog::open_with(dir.path(), CACHE, sync).unwrap();
    append(&log, entry(0, 10)).unwrap();
    broken.store(true, Ordering::SeqCst);
    assert!(append(&log, entry(1, 10)).unwrap_err().to_string().contains("injected"));
    broken.store(false, Ordering::SeqCst);
    for result in [append(&log, entry(2, 10)), log.close()] {
        assert!(result.unwrap_err().to_string().contains("injected"));
    }
}

#[test]
fn units_that_their_writers_wait_for_keep_their_place_among_those_of_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (here, by_caller) = (std::thread::current().id(), Arc::new(AtomicU64::new(0)));
    let counted = by_caller.clone();
    let sync: Sync = Arc::new(move |_: &File| {
        counted.fetch_add(u64::from(std::thread::current().id() == here), Ordering::SeqCst);
        Ok(())
    });
    let log = DiskLog::open_with(dir.path(), CACHE, sync).unwrap();
    let durable = Arc::new(Mutex::new(Vec::new()));
    let mut next = 0;
    while by_caller.load(Ordering::SeqCst) < 20 {
        for append in [DiskLog::append, DiskLog::append_and_wait, DiskLog::append_and_wait] {
            let (index, durable) = (next, durable.clone());
            let done: OnDurable = Box::new(move |result| durable.lock().push((index, result.is_ok())));
            append(&log, vec![entry(index, 10)], done).unwrap();
            next += 1;
        }
        // An idle log lets its caller write.
        while !log.shared.state.lock().is_idle() {
            std::thread::yield_now();
        }
    }
    log.close().unwrap();
    assert_eq!(*durable.lock(), (0..next).map(|index| (index, true)).collect::<Vec<_>>());
    let expected: Vec<LogEntry> = (0..next).map(|index| entry(index, 10)).collect();
    assert_eq!(DiskLog::open(dir.path(), CACHE).unwrap().read(0..next, usize::MAX).unwrap(), expected);
}

#[test]
fn a_failed_sync_that_its_caller_waited_for_ends_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let (here, syncs) = (std::thread::current().id(), Arc::new(AtomicU64::new(0)));
    let counted = syncs.clone();
    let sync: Sync = Arc::new(move |_: &File| {
        if std::thread::current().id() == here {
            return Err(io::Error::other("injected"));
        }
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let log = DiskLog::open_with(dir.path(), CACHE, sync).unwrap();
    let mut index = 0;
    let failed = loop {
        let (sender, durable) = mpsc::sync_channel(1);
        log.append_and_wait(vec![entry(index, 10)], Box::new(move |result| sender.send(result).unwrap())).unwrap();
        index += 1;
        if let Err(error) = durable.recv().unwrap() {
            break error;
        }
    };
    assert!(failed.to_string().contains("injected"));
    assert_eq!(syncs.load(Ordering::SeqCst), index - 1, "all others were the thread's");
    for result in [append(&log, entry(index, 10)), log.close()] {
        assert!(result.unwrap_err().to_string().contains("injected"));
    }
}

#[test]
fn a_log_in_another_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("r-00.wal"), b"something").unwrap();
    assert!(DiskLog::open(dir.path(), CACHE).err().unwrap().to_string().contains("r-00.wal"));
}

#[test]
fn entries_must_follow_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    append(&log, entry(0, 10)).unwrap();
    assert!(append(&log, entry(2, 10)).unwrap_err().to_string().contains("entry 1 was to come"));
    assert_eq!(last(&log), 0);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    assert!(DiskLog::open(dir.path(), CACHE).is_err());
    drop(log);
    assert!(DiskLog::open(dir.path(), CACHE).is_ok());
}

#[test]
fn each_sync_is_timed_and_the_files_take_what_the_disk_says() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::open(dir.path(), CACHE).unwrap();
    assert_eq!(log.syncs().unwrap().count(), 0);
    (0..3).for_each(|index| append(&log, entry(index, 100)).unwrap());
    assert_eq!(log.syncs().unwrap().count(), 3, "each was waited for before the next one");
    assert!(log.files().unwrap().bytes().unwrap() >= 300);
    log.close().unwrap();
}
