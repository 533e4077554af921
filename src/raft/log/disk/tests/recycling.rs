//! Files that are used again, and files that are made ahead.

use super::{
    super::{index::Place, medium::Medium, spares::SPARES},
    power::{SEGMENT, Unsynced},
    *,
};

fn open(dir: &Path) -> DiskLog {
    DiskLog::open_on(dir, 0, Arc::new(Unsynced), SEGMENT).unwrap()
}

/// Appends so many entries, of which ten fill a segment.
fn fill(log: &DiskLog, indexes: std::ops::Range<u64>) {
    indexes.for_each(|index| append(log, numbered(index)).unwrap());
}

fn numbered(index: u64) -> LogEntry {
    (LogPosition { term: 1, index }, Bytes::from(format!("{index:08}").repeat(190)))
}

fn named(dir: &Path, end: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    found.sort();
    found
}

/// Purges, and waits until the purge is durable and its files are let go of.
fn purge_and_settle(log: &DiskLog, index: u64, next: u64) -> usize {
    log.purge(LogPosition { term: 1, index }).unwrap();
    append(log, numbered(next)).unwrap();
    log.spares.settled()
}

#[test]
fn a_stale_unit_behind_the_end_of_a_recycled_segment_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0..45);
    assert!(purge_and_settle(&log, 40, 45) > 0);
    fill(&log, 46..58);
    drop(log);
    let newest = named(dir.path(), ".log").pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("00000057") && (0..40).any(|old| holds(&format!("{old:08}"))), "old units are behind the new ones");

    let log = open(dir.path());
    assert_eq!(log.read(0..99, usize::MAX).unwrap(), (41..58).map(numbered).collect::<Vec<_>>());
    fill(&log, 58..70);
    drop(log);
    assert_eq!(open(dir.path()).read(0..99, usize::MAX).unwrap(), (41..70).map(numbered).collect::<Vec<_>>());
}

#[test]
fn a_bounded_number_of_spare_files_is_kept_none_is_longer_and_the_disk_usage_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    // What comes next still goes to the present segment, and takes no spare.
    fill(&log, 0..98);
    let before = named(dir.path(), ".log").len();
    assert_eq!(purge_and_settle(&log, 95, 98), SPARES);
    let (spares, logs) = (named(dir.path(), ".spare"), named(dir.path(), ".log"));
    assert!(before > SPARES + logs.len(), "{before} files, {} left", logs.len());
    assert_eq!(spares.len(), SPARES);
    let len = |path: &PathBuf| fs::metadata(path).unwrap().len();
    assert!(spares.iter().all(|spare| len(spare) == SEGMENT) && logs.iter().all(|log| len(log) <= SEGMENT));
    let bytes = log.files().unwrap().bytes().unwrap();
    assert!(bytes >= SEGMENT * SPARES as u64, "{bytes}");
    log.close().unwrap();
    assert_eq!(log.spares.settled(), SPARES);
}

#[test]
fn spares_of_an_earlier_process_are_used_and_what_is_too_much_or_unfinished_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()), 0..3);
    for (name, len) in [("zeros", 9000), ("a.spare", 100), ("b.spare", SEGMENT), ("c.spare", 0), ("d.spare", 7)] {
        fs::write(dir.path().join(name), vec![b'!'; len as usize]).unwrap();
    }
    let log = open(dir.path());
    assert_eq!(log.spares.settled(), SPARES);
    assert!(named(dir.path(), "zeros").is_empty());
    let spares = named(dir.path(), ".spare");
    assert!(spares.len() == SPARES && spares.iter().all(|spare| fs::metadata(spare).unwrap().len() == SEGMENT));
    fill(&log, 3..50);
    drop(log);
    assert!(spares.iter().all(|spare| !spare.exists()), "both were used");
    assert_eq!(open(dir.path()).read(0..99, usize::MAX).unwrap(), (0..50).map(numbered).collect::<Vec<_>>());
}

/// A disk on which one step of the thread that prepares spares fails.
struct Fails {
    step: u64,
    taken: AtomicU64,
    free: u64,
}

impl Fails {
    fn step(&self, what: &str) -> io::Result<()> {
        let helps = std::thread::current().name() == Some("liminal-spares");
        if helps && self.taken.fetch_add(1, Ordering::SeqCst) == self.step {
            return Err(io::Error::new(io::ErrorKind::StorageFull, what.to_owned()));
        }
        Ok(())
    }
}

impl Medium for Fails {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step("create").and_then(|()| Unsynced.create(path))
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.step("write").is_err() {
            Unsynced.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Unsynced.write(file, bytes, offset)
    }

    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        self.step("reserve").and_then(|()| Unsynced.reserve(file, len))
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        self.step("sync")
    }

    fn sync_new(&self, _: &File) -> io::Result<()> {
        self.step("sync_new")
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename").and_then(|()| Unsynced.rename(from, to))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.step("sync_dir")
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free)
    }
}

#[test]
fn a_disk_that_fills_up_while_a_spare_is_prepared_means_no_spare_and_no_error() {
    for step in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let medium = Arc::new(Fails { step, taken: AtomicU64::new(0), free: u64::MAX });
        let log = DiskLog::open_on(dir.path(), 0, medium.clone(), SEGMENT).unwrap();
        fill(&log, 0..5);
        let made = log.spares.settled();
        let failed = medium.taken.load(Ordering::SeqCst) > step;
        assert_eq!((made, named(dir.path(), ".spare").len()), if failed { (0, 0) } else { (1, 1) }, "step {step}");
        assert!(named(dir.path(), "zeros").is_empty(), "step {step}");
        fill(&log, 5..45);
        purge_and_settle(&log, 40, 45);
        fill(&log, 46..60);
        log.close().unwrap();
        assert!(medium.taken.load(Ordering::SeqCst) > step, "step {step} was taken");
        let log = open(dir.path());
        assert_eq!(log.read(0..99, usize::MAX).unwrap(), (41..60).map(numbered).collect::<Vec<_>>());
    }
}

#[test]
fn a_disk_that_is_nearly_full_is_left_to_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let medium = Arc::new(Fails { step: u64::MAX, taken: AtomicU64::new(0), free: SEGMENT * 8 - 1 });
    let log = DiskLog::open_on(dir.path(), 0, medium, SEGMENT).unwrap();
    fill(&log, 0..45);
    assert_eq!(purge_and_settle(&log, 40, 45), 0);
    assert!(named(dir.path(), ".spare").is_empty());
    log.close().unwrap();
}

#[test]
fn a_file_that_is_still_read_is_not_used_again_before_its_reader_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0..25);
    let mut places = log.shared.state.lock().index.places(3..4, 1);
    let place @ Place::Disk(..) = places.remove(0) else { panic!("nothing is kept in memory") };
    log.purge(LogPosition { term: 1, index: 20 }).unwrap();
    fill(&log, 25..28);
    std::thread::sleep(std::time::Duration::from_millis(50));
    fill(&log, 28..60);
    assert!(named(dir.path(), "0000000000000001.spare").len() == 1, "it waits for its reader");
    assert_eq!(read_entry(place).unwrap(), numbered(3));
    log.spares.settled();
    fill(&log, 60..80);
    assert!(named(dir.path(), "0000000000000001.spare").is_empty(), "now it is used");
    log.close().unwrap();
}

#[test]
fn neither_a_damaged_file_nor_one_with_another_name_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir_in(dir.path()).unwrap();
    let log = open(dir.path());
    fill(&log, 0..45);
    log.spares.settled();
    let copied: Vec<(PathBuf, Vec<u8>)> = named(dir.path(), ".log")
        .into_iter()
        .map(|path| {
            let copy = copies.path().join(path.file_name().unwrap());
            fs::hard_link(&path, &copy).unwrap();
            let bytes = fs::read(&copy).unwrap();
            (copy, bytes)
        })
        .collect();
    let made = named(dir.path(), ".spare").len();
    purge_and_settle(&log, 40, 45);
    assert_eq!(named(dir.path(), ".spare").len(), made.min(1), "only one of zeros");
    fill(&log, 46..60);
    // The last one was being written to.
    for (copy, bytes) in &copied[..copied.len() - 1] {
        assert!(fs::read(copy).unwrap() == *bytes, "{} was written to", copy.display());
    }
    log.files().unwrap().end_file();
    fill(&log, 60..61);
    let before = named(dir.path(), ".spare");
    purge_and_settle(&log, 59, 61);
    let after = named(dir.path(), ".spare");
    assert!(after.iter().all(|path| before.contains(path) || path.ends_with("zeros.spare")), "{before:?} {after:?}");
    log.close().unwrap();
}

#[test]
fn a_recorded_log_of_the_first_version_is_read_goes_on_in_the_second_and_its_files_are_used_again() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/recorded/with-work/raft");
    let dir = tempfile::tempdir().unwrap();
    for file in named(&recorded, ".log") {
        fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let version = |path: &PathBuf| fs::read(path).unwrap()[7];
    assert!(named(dir.path(), ".log").iter().all(|path| version(path) == 1));
    let log = open(dir.path());
    let found = log.read(0..u64::MAX, usize::MAX).unwrap();
    let last = log.bounds().last.unwrap();
    assert!(found.len() > 10 && found.last().unwrap().0 == last && log.vote().is_some() && log.owner().is_some());
    let next = |by: u64| (LogPosition { index: last.index + by, ..last }, Bytes::from(vec![b'n'; 1500]));
    (1..5).for_each(|by| append(&log, next(by)).unwrap());
    drop(log);
    let log = open(dir.path());
    let expected: Vec<LogEntry> = found.into_iter().chain((1..5).map(next)).collect();
    assert_eq!(log.read(0..u64::MAX, usize::MAX).unwrap(), expected);
    assert_eq!(named(dir.path(), ".log").last().map(version), Some(2));

    let (vote, owner) = (log.vote(), log.owner());
    log.purge(last).unwrap();
    append(&log, next(5)).unwrap();
    assert!(log.spares.settled() > 0 && named(dir.path(), ".log").iter().all(|path| version(path) == 2));
    (6..40).for_each(|by| append(&log, next(by)).unwrap());
    drop(log);
    let log = open(dir.path());
    assert_eq!((log.vote(), log.owner(), log.bounds().purged), (vote, owner, Some(last)));
    assert_eq!(log.read(0..u64::MAX, usize::MAX).unwrap(), (1..40).map(next).collect::<Vec<_>>());
}
