//! The thread that writes and syncs: it takes all units that have gathered, writes them in one piece, syncs once, and
//! then tells their writers. So a busy log syncs for many at once, and an idle one at once. A caller that may wait for
//! the disk does the same for its own unit, where that takes less time than two threads take to wake each other.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    super::LogPosition,
    format::{Life, SEGMENT_HEADER, SegmentHeader},
    index::{Index, Obsolete},
    medium::Medium,
    pending::Pending,
    spares::Spares,
};
use crate::meter::Histogram;

/// A file is reserved ahead in steps of this part of a segment, so that most syncs need not record a new length. When the
/// first one is used up, the log is busy enough for a spare file.
const RESERVED: u64 = 16;
/// What is written ends at a multiple of this. In a file that was written before, the system would have to read the rest of
/// the last page first.
const PAGE: u64 = 4096;
/// The name of a segment's file before it is one.
const NEXT: &str = "next";
/// The buffer for writing keeps at most this capacity.
const BUFFER: usize = 2 << 20;

/// Nobody waits for a disk that needs longer: there, waking a thread is nothing.
const QUICK: Duration = Duration::from_millis(1);

/// What the log's callers and its thread share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) work: Condvar,
    /// How long it took to make what was written durable.
    pub(super) syncs: Histogram,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// Length of a segment's file.
    pub(super) segment_bytes: u64,
    /// Number of the segment that the next unit goes to, and where in it.
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// The newest unit.
    pub(super) seq: u64,
    /// How far everything is on disk: in which segment, and up to where; `u64::MAX` is its end.
    pub(super) durable: (u64, u64),
    /// A commit mark that the next unit takes along.
    pub(super) unsaved: Option<LogPosition>,
    pub(super) pending: Vec<Pending>,
    /// Somebody writes and syncs: nobody else may until that is done and told.
    pub(super) writing: bool,
    pub(super) pace: Pace,
    /// Segments to let go of once what is pending is durable.
    pub(super) obsolete: Vec<Obsolete>,
    /// The first write or sync that failed.
    pub(super) failure: Option<String>,
    /// The thread ends when nothing is pending.
    pub(super) closing: bool,
}

/// How fast the disk is, and how busy.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    /// When the newest write ended, and how long it took.
    newest: Option<(Instant, Duration)>,
}

impl Pace {
    /// Whether the disk is quick and idle for more than half of the time. A busy one is left to the thread, which
    /// writes and syncs for all that gathers meanwhile.
    pub(super) fn is_quick(self) -> bool {
        self.newest.is_some_and(|(ended, took)| took < QUICK && ended.elapsed() >= took)
    }
}

impl State {
    /// Whether all units before are durable and their writers told.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && !self.writing
    }
}

pub(super) struct Writer {
    dir: PathBuf,
    shared: Arc<Shared>,
    medium: Arc<dyn Medium>,
    spares: Arc<Spares>,
    segment_bytes: u64,
    /// The segment that is written to.
    active: Option<Active>,
    /// The newest unit on disk.
    durable: u64,
    buffer: Vec<u8>,
}

struct Active {
    header: SegmentHeader,
    file: Arc<File>,
    written: u64,
    reserved: u64,
    /// Whether a file for the next segment was asked for.
    asked: bool,
}

/// The thread.
pub(super) fn run(writer: &Mutex<Writer>) {
    let shared = writer.lock().shared.clone();
    loop {
        let (pending, obsolete) = {
            let mut state = shared.state.lock();
            while state.writing || state.pending.is_empty() && !state.closing {
                shared.work.wait(&mut state);
            }
            if state.pending.is_empty() {
                return;
            }
            state.writing = true;
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.obsolete))
        };
        writer.lock().write_all(pending, obsolete);
    }
}

impl Writer {
    pub(super) fn new(
        dir: PathBuf,
        shared: Arc<Shared>,
        medium: Arc<dyn Medium>,
        spares: Arc<Spares>,
        durable: u64,
    ) -> Self {
        let segment_bytes = shared.state.lock().segment_bytes;
        Self { dir, shared, medium, spares, segment_bytes, active: None, durable, buffer: Vec::new() }
    }

    /// Writes units, tells their writers, and lets the next one write.
    pub(super) fn write_all(&mut self, pending: Vec<Pending>, obsolete: Vec<Obsolete>) {
        let begun = Instant::now();
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.write(&pending, &mut buffer);
        self.buffer = buffer;
        let ended = Instant::now();
        match &result {
            Ok(()) => self.let_go(obsolete),
            Err(error) => {
                self.shared.state.lock().failure.get_or_insert_with(|| error.to_string());
            }
        }
        for Pending { on_durable, .. } in pending {
            let Some(on_durable) = on_durable else { continue };
            on_durable(result.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string())));
        }
        let mut state = self.shared.state.lock();
        state.writing = false;
        state.pace = Pace { newest: Some((ended, ended - begun)) };
        if !state.pending.is_empty() || state.closing {
            self.shared.work.notify_one(); // when it was not the thread that wrote
        }
    }

    fn write(&mut self, pending: &[Pending], buffer: &mut Vec<u8>) -> io::Result<()> {
        if let Some(first) = &self.shared.state.lock().failure {
            return Err(failed_before(first));
        }
        let mut rest = pending;
        while let Some(first) = rest.first() {
            let (now, later) = rest.split_at(rest.iter().take_while(|next| next.segment == first.segment).count());
            self.write_segment(now, buffer)?;
            rest = later;
        }
        Ok(())
    }

    /// Writes units of one segment and syncs.
    fn write_segment(&mut self, pending: &[Pending], buffer: &mut Vec<u8>) -> io::Result<()> {
        let (Some(first), Some(last)) = (pending.first(), pending.last()) else { return Ok(()) };
        if self.active.as_ref().is_none_or(|active| active.header.number != first.segment) {
            self.begin(first.segment)?;
        }
        let Some(active) = &mut self.active else { return Err(io::Error::other("no segment is open")) };
        buffer.clear();
        for Pending { unit, .. } in pending {
            unit.encode(active.header.life, self.durable, buffer)?;
        }
        let end = first.offset + buffer.len() as u64;
        if end > active.reserved {
            active.reserved = end.next_multiple_of(self.segment_bytes / RESERVED);
            self.medium.reserve(&active.file, active.reserved)?;
        }
        let padding = end.next_multiple_of(PAGE).min(active.reserved) - end;
        buffer.resize(buffer.len() + usize::try_from(padding).map_err(io::Error::other)?, 0);
        self.medium.write(&active.file, buffer, first.offset)?;
        active.written = end;
        let begun = Instant::now();
        self.medium.sync(&active.file)?;
        self.shared.syncs.since(begun);
        self.durable = last.unit.seq;
        if buffer.capacity() > BUFFER {
            *buffer = Vec::new();
        }
        {
            let mut state = self.shared.state.lock();
            state.durable = (first.segment, end);
            state.index.written(pending, &active.file, self.durable);
        }
        if end > self.segment_bytes / RESERVED && !std::mem::replace(&mut active.asked, true) {
            self.spares.want();
        }
        Ok(())
    }

    /// Ends the present segment and begins the next one.
    fn begin(&mut self, number: u64) -> io::Result<()> {
        if let Some(active) = self.active.take() {
            // What is behind its end may be units of an earlier life, and of the other segments all is read.
            self.medium.set_len(&active.file, active.written)?;
            self.medium.sync(&active.file)?;
        }
        let spare = self.spares.take().and_then(|spare| match self.begin_in(&spare, number) {
            Ok(begun) => Some(begun),
            Err(error) => {
                // It is not of the log yet.
                tracing::warn!(%error, file = %spare.display(), "a spare file of the log is of no use");
                let _ = self.medium.remove(&spare);
                None
            }
        });
        let is_spare = spare.is_some();
        let (header, file) = match spare {
            Some(spare) => spare,
            None => self.create(number)?,
        };
        self.medium.sync_dir(&self.dir)?;
        let reserved = if is_spare { self.segment_bytes } else { 0 };
        self.active = Some(Active { header, file: Arc::new(file), written: 0, reserved, asked: false });
        Ok(())
    }

    /// Makes a spare file a segment.
    fn begin_in(&self, spare: &Path, number: u64) -> io::Result<(SegmentHeader, File)> {
        let file = File::options().read(true).write(true).open(spare)?;
        let mut before = [0; SEGMENT_HEADER];
        file.read_exact_at(&mut before, 0)?;
        let before = SegmentHeader::decode(&before).ok().map(|header| header.life);
        let header = SegmentHeader { number, life: Life::fresh(before) };
        self.enter(&file, header, spare)?;
        Ok((header, file))
    }

    /// Makes a segment's file.
    fn create(&self, number: u64) -> io::Result<(SegmentHeader, File)> {
        let header = SegmentHeader { number, life: Life::fresh(None) };
        let new = self.dir.join(NEXT);
        let file = self.medium.create(&new)?;
        self.enter(&file, header, &new)?;
        Ok((header, file))
    }

    /// A segment has its name only when its header is durable, so a file without one is damaged.
    fn enter(&self, file: &File, header: SegmentHeader, name: &Path) -> io::Result<()> {
        let mut page = header.encode().to_vec();
        page.resize(PAGE.min(self.segment_bytes / RESERVED) as usize, 0);
        self.medium.write(file, &page, 0)?;
        self.medium.sync_new(file)?;
        self.medium.rename(name, &path(&self.dir, header.number))
    }

    fn let_go(&self, obsolete: Vec<Obsolete>) {
        for file in obsolete {
            let Err(Obsolete { number, .. }) = self.spares.recycle(file) else { continue };
            // What stays is deleted after the next start.
            if let Err(error) = self.medium.remove(&path(&self.dir, number)) {
                tracing::warn!(%error, number, "cannot delete a file of the log that is not needed any more");
            }
        }
    }
}

pub(super) fn failed_before(first: &str) -> io::Error {
    io::Error::other(format!("the log failed earlier and takes no more writes: {first}"))
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}
