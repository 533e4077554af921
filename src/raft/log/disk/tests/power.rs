//! The power is cut behind every step of what the log does to its files. Of what was not synced, some sectors are on the disk
//! and some are not, and of the names some changes and those before them.

use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::MetadataExt as _,
};

use super::{super::medium::Medium, *};

pub(super) const SEGMENT: u64 = 16 << 10;
const SECTOR: usize = 512;

#[derive(Clone)]
enum Step {
    Create(usize, String),
    Write(usize, u64, Vec<u8>),
    Len(usize, u64),
    Reserve(usize, u64),
    Sync(usize),
    Rename(String, String),
    Remove(String),
    SyncDir,
    /// So many units were given to the log.
    Given(usize),
    /// So many units were acknowledged.
    Durable(usize),
}

/// Notes every step, and takes it.
#[derive(Default)]
struct Recorder(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    steps: Vec<Step>,
    /// Which file has which inode; that of a deleted file is given again.
    files: HashMap<u64, usize>,
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Recorder {
    fn note(&self, step: Step) {
        self.0.lock().steps.push(step);
    }

    fn take(&self, file: &File, step: impl FnOnce(usize) -> Step, taken: io::Result<()>) -> io::Result<()> {
        taken?;
        let mut recorded = self.0.lock();
        let id = recorded.files[&file.metadata()?.ino()];
        recorded.steps.push(step(id));
        Ok(())
    }
}

impl Medium for Recorder {
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut recorded = self.0.lock();
        let id = recorded.steps.iter().filter(|step| matches!(step, Step::Create(..))).count();
        recorded.files.insert(file.metadata()?.ino(), id);
        recorded.steps.push(Step::Create(id, name(path)));
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.take(file, |id| Step::Write(id, offset, bytes.to_vec()), file.write_all_at(bytes, offset))
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.take(file, |id| Step::Len(id, len), file.set_len(len))
    }

    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        let longer = file.metadata()?.len().max(len);
        self.take(file, |id| Step::Reserve(id, len), file.set_len(longer))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.take(file, Step::Sync, Ok(()))
    }

    fn sync_new(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut recorded = self.0.lock();
        fs::rename(from, to)?;
        recorded.steps.push(Step::Rename(name(from), name(to)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut recorded = self.0.lock();
        fs::remove_file(path)?;
        recorded.steps.push(Step::Remove(name(path)));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.note(Step::SyncDir);
        Ok(())
    }
}

/// A disk on which nothing is ever synced: what is tested is not that.
pub(super) struct Unsynced;

impl Medium for Unsynced {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_new(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    purged: Option<LogPosition>,
    entries: Vec<LogEntry>,
}

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A log's user, with what the log holds after each unit.
struct User {
    log: DiskLog,
    recorder: Arc<Recorder>,
    states: Vec<Held>,
    dice: Dice,
    term: u64,
}

impl User {
    fn give(&mut self, held: Held, unit: impl FnOnce(&DiskLog, OnDurable)) {
        self.states.push(held);
        let given = self.states.len() - 1;
        self.recorder.note(Step::Given(given));
        let (sender, durable) = mpsc::sync_channel(1);
        let recorder = self.recorder.clone();
        let told = Box::new(move |result: io::Result<()>| {
            result.unwrap();
            recorder.note(Step::Durable(given));
            sender.send(()).unwrap();
        });
        unit(&self.log, told);
        // Where nobody is told, the sender is gone at once.
        let _ = durable.recv();
    }

    fn append(&mut self, count: u64) {
        let mut held = self.states.last().unwrap().clone();
        let next = held.entries.last().map_or(0, |(last, _)| last.index + 1);
        let entries: Vec<LogEntry> = (next..next + count)
            .map(|index| {
                let text = format!("{}/{index} ", self.term);
                let size = 100 + self.dice.below(2500) as usize;
                (LogPosition { term: self.term, index }, Bytes::from(text.repeat(size / text.len() + 1)))
            })
            .collect();
        held.entries.extend(entries.iter().cloned());
        self.give(held, |log, told| log.append(entries, told).unwrap());
    }

    fn truncate(&mut self, count: usize) {
        let mut held = self.states.last().unwrap().clone();
        let keep = held.entries.len() - count;
        let from = held.entries[keep].0.index;
        held.entries.truncate(keep);
        self.term += 1;
        self.give(held, |log, _| log.truncate_from(from).unwrap());
    }

    fn purge(&mut self, keep: usize) {
        let mut held = self.states.last().unwrap().clone();
        let gone = held.entries.len() - keep;
        held.purged = Some(held.entries[gone - 1].0);
        held.entries.drain(..gone);
        let up_to = held.purged.unwrap();
        self.give(held, |log, _| log.purge(up_to).unwrap());
    }
}

/// A log's life with several rounds of recycling.
fn life(dir: &Path) -> (Vec<Step>, Vec<Held>) {
    let recorder = Arc::new(Recorder::default());
    let log = DiskLog::open_on(dir, 0, recorder.clone(), SEGMENT).unwrap();
    let mut user = User { log, recorder, states: vec![Held::default()], dice: Dice(7), term: 1 };
    for round in 1..60 {
        user.append(1 + round % 3);
        if round == 4 {
            assert_eq!(user.log.spares.settled(), 1, "a file of zeros is ready");
        }
        if round % 7 == 3 {
            user.truncate(1);
            user.append(1);
        }
        if round % 9 == 8 {
            user.purge(4);
            user.append(1);
            if round % 2 == 0 {
                user.log.spares.settled();
            }
        }
    }
    drop(user.log);
    let steps = std::mem::take(&mut user.recorder.0.lock().steps);
    (steps, user.states)
}

#[derive(Default)]
struct OnDisk {
    bytes: Vec<u8>,
    unsynced: Vec<Step>,
}

impl OnDisk {
    /// Some of the sectors of what was not synced: each with one chance in `sides`; 0: none, 1: all.
    fn settle(&mut self, dice: &mut Dice, sides: u64) {
        let mut is_there = || sides > 0 && dice.below(sides) == 0;
        for step in std::mem::take(&mut self.unsynced) {
            match step {
                Step::Write(_, offset, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let place = offset as usize + at;
                        let len = (SECTOR - place % SECTOR).min(bytes.len() - at);
                        if is_there() {
                            self.bytes.resize(self.bytes.len().max(place + len), 0);
                            self.bytes[place..place + len].copy_from_slice(&bytes[at..at + len]);
                        }
                        at += len;
                    }
                }
                Step::Len(_, len) if is_there() => self.bytes.resize(len as usize, 0),
                Step::Reserve(_, len) if is_there() => self.bytes.resize(self.bytes.len().max(len as usize), 0),
                _ => {}
            }
        }
    }
}

fn rename(names: &mut BTreeMap<String, usize>, step: &Step) {
    match step {
        Step::Create(id, name) => {
            names.insert(name.clone(), *id);
        }
        Step::Rename(from, to) => {
            let id = names.remove(from).unwrap();
            names.insert(to.clone(), id);
        }
        Step::Remove(name) => {
            names.remove(name);
        }
        _ => {}
    }
}

/// What the disk holds when the power is cut behind these steps; and how many units were acknowledged and given.
fn cut(steps: &[Step], dice: &mut Dice, sides: u64) -> (BTreeMap<String, Vec<u8>>, usize, usize) {
    let (mut files, mut names, mut renames) = (Vec::new(), BTreeMap::new(), Vec::new());
    let (mut durable, mut given) = (0, 0);
    for step in steps {
        match step {
            Step::Create(..) => {
                files.push(OnDisk::default());
                renames.push(step);
            }
            Step::Write(id, ..) | Step::Len(id, _) | Step::Reserve(id, _) => files[*id].unsynced.push(step.clone()),
            Step::Sync(id) => files[*id].settle(dice, 1),
            Step::Rename(..) | Step::Remove(_) => renames.push(step),
            Step::SyncDir => renames.drain(..).for_each(|step| rename(&mut names, step)),
            Step::Given(units) => given = *units,
            Step::Durable(units) => durable = *units,
        }
    }
    let kept = if sides == 0 { 0 } else { dice.below(renames.len() as u64 + 1) as usize };
    renames.into_iter().take(kept).for_each(|step| rename(&mut names, step));
    files.iter_mut().for_each(|file| file.settle(dice, sides));
    (names.into_iter().map(|(name, id)| (name, files[id].bytes.clone())).collect(), durable, given)
}

fn held(log: &DiskLog) -> Held {
    Held { purged: log.bounds().purged, entries: log.read(0..u64::MAX, usize::MAX).unwrap() }
}

#[test]
fn a_power_cut_at_any_step_of_recycling_loses_nothing_durable_and_brings_nothing_old_back() {
    let dir = tempfile::tempdir().unwrap();
    let (steps, states) = life(dir.path());
    let renamed = |from: &str, to: &str| {
        let is_so = |step: &&Step| matches!(step, Step::Rename(old, new) if old.ends_with(from) && new.ends_with(to));
        steps.iter().filter(is_so).count()
    };
    assert!(renamed(".log", ".spare") >= 4 && renamed(".spare", ".log") >= 4 && renamed("zeros.spare", ".log") >= 1);
    let mut dice = Dice(1);
    for at in 0..=steps.len() {
        for sides in [0, 1, 3] {
            let (files, durable, given) = cut(&steps[..at], &mut dice, sides);
            let after = format!("step {at} of {}, one in {sides} of the rest", steps.len());
            let dir = tempfile::tempdir().unwrap();
            for (name, bytes) in &files {
                fs::write(dir.path().join(name), bytes).unwrap();
            }
            let open = || DiskLog::open_on(dir.path(), 0, Arc::new(Unsynced), SEGMENT);
            let log = open().unwrap_or_else(|error| panic!("{after}: {error}"));
            let found = held(&log);
            assert!(states[durable..=given].contains(&found), "{after}: units {durable} to {given}, found {found:?}");

            // It goes on, and what it writes then is what is read.
            let mut expected = found;
            let last = log.bounds().last;
            let next = LogPosition { term: 99, index: last.map_or(0, |last| last.index + 1) };
            super::append(&log, (next, Bytes::from("new"))).unwrap();
            expected.entries.push((next, Bytes::from("new")));
            if let Some(last) = last {
                log.purge(last).unwrap();
                expected = Held { purged: Some(last), entries: expected.entries.split_off(expected.entries.len() - 1) };
            }
            drop(log);
            assert_eq!(held(&open().unwrap()), expected, "{after}");
        }
    }
}
