//! Whether the log's files still hold what was written: every unit that is durable is read again, from the disk.
//!
//! The index in memory knows where entries are, so damage would show only when one is sent to another node, or at the
//! next start, which refuses the log. Found earlier, it costs nothing: see [`LogFiles::end_file`].

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use super::{
    super::{LogChecked, LogDamage, LogFiles, LogPlace},
    DiskLog,
    format::{self, SEGMENT_HEADER, SegmentHeader},
    writer,
};

impl LogFiles for DiskLog {
    fn check(&self, from: LogPlace, max_bytes: u64) -> io::Result<LogChecked> {
        let (number, needed, end) = {
            let state = self.shared.state.lock();
            let Some((number, needed)) =
                state.index.file_from(from.file).filter(|(number, _)| *number <= state.durable.0)
            else {
                return Ok(LogChecked::default());
            };
            // Only the file that is written to goes on behind what is durable.
            let end = Some(state.durable.1).filter(|end| number == state.durable.0 && *end < u64::MAX);
            (number, if end.is_some() { 0 } else { needed }, end)
        };
        let place = if number == from.file { from } else { LogPlace { file: number, offset: 0, after: from.after } };
        let path = writer::path(&self.dir, number);
        let (bytes, checked) = match read_units(&path, place, needed, end, max_bytes) {
            Ok(Ok((place, bytes))) => {
                let next = place.unwrap_or(LogPlace { file: number + 1, offset: 0, after: None });
                (bytes, Ok(next))
            }
            Ok(Err(detail)) => (0, Err(detail)),
            Err(error) if is_damage(&error) => (0, Err(error.to_string())),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        match checked {
            Ok(next) => Ok(LogChecked { next: Some(next), bytes, damage: None }),
            Err(_) if !self.has_file(number) => {
                // It was purged meanwhile.
                Ok(LogChecked {
                    next: Some(LogPlace { file: number + 1, offset: 0, after: None }),
                    bytes,
                    damage: None,
                })
            }
            Err(detail) => Ok(LogChecked {
                next: Some(LogPlace { file: number + 1, offset: 0, after: None }),
                bytes,
                damage: Some(LogDamage { number, file: path.display().to_string(), detail }),
            }),
        }
    }

    fn end_file(&self) {
        let mut state = self.shared.state.lock();
        state.offset = state.segment_bytes;
        // Nor is the place on the disk trusted any more where a damaged one was.
        state.index.distrust();
    }

    fn bytes(&self) -> io::Result<u64> {
        // As stat(2) has it, whatever the blocks of the file system are.
        const BLOCK: u64 = 512;
        let mut bytes = 0;
        for file in self.dir.read_dir()? {
            match file?.metadata() {
                Ok(metadata) => bytes += metadata.blocks() * BLOCK,
                // It was purged meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    fn has_file(&self, number: u64) -> bool {
        self.shared.state.lock().index.file_from(number).is_some_and(|(found, _)| found == number)
    }
}

/// Whether an error says that the data is not there.
fn is_damage(error: &io::Error) -> bool {
    let failed = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    failed || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

/// Where the next piece of the same file begins, none at its end, and how many bytes were read; or what is wrong.
type Read = Result<(Option<LogPlace>, u64), String>;

/// Reads whole units from a place on, until about `max_bytes` are read. `needed`: how far the entries that the index
/// knows of reach. `end`: how far it is durable; none: to its end.
fn read_units(path: &Path, place: LogPlace, needed: u64, end: Option<u64>, max_bytes: u64) -> io::Result<Read> {
    let file = File::open(path)?;
    // What the system remembers of it is not what is on the disk.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let len = file.metadata()?.len();
    let end = end.unwrap_or(len);
    if len < end.max(needed) {
        return Ok(Err(format!("it ends at byte {len}, and should at byte {} or later", end.max(needed))));
    }
    let mut header = [0; SEGMENT_HEADER];
    file.read_exact_at(&mut header, 0)?;
    let header = match SegmentHeader::decode(&header) {
        Ok(header) if header.number == place.file => header,
        Ok(header) => return Ok(Err(format!("it is file {:016x} under another name", header.number))),
        Err(reason) => return Ok(Err(reason.into())),
    };
    let begin = place.offset.max(SEGMENT_HEADER as u64);
    let mut size = max_bytes.min(end.saturating_sub(begin));
    loop {
        let mut piece = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        file.read_exact_at(&mut piece, begin)?;
        let (mut at, mut after) = (0, place.after);
        while let Some((next, seq)) = format::whole_unit(&piece, at, header.life, after) {
            (at, after) = (next, Some(seq));
        }
        let reached = begin + at as u64;
        if reached >= end {
            return Ok(Ok((None, at as u64)));
        }
        if at > 0 && begin + size < end {
            return Ok(Ok((Some(LogPlace { offset: reached, after, ..place }), at as u64)));
        }
        if begin + size >= end {
            return Ok(Err(format!("it is damaged at byte {reached}")));
        }
        // A unit that is larger than a piece.
        size = (size * 8).min(end - begin);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::super::LogStore as _, *};
    use crate::raft::log::{LogBounds, LogPosition};

    fn append(log: &DiskLog, indexes: std::ops::Range<u64>, size: usize) {
        let (sender, durable) = std::sync::mpsc::sync_channel(1024);
        for index in indexes.clone() {
            let sender = sender.clone();
            let entry = (LogPosition { term: 1, index }, Bytes::from(vec![index as u8; size]));
            log.append(vec![entry], Box::new(move |result| sender.send(result).unwrap())).unwrap();
        }
        for _ in indexes {
            durable.recv().unwrap().unwrap();
        }
    }

    /// Reads everything in pieces; gives the bytes and what is damaged.
    fn check(log: &DiskLog, mut from: LogPlace, max_bytes: u64) -> (u64, Vec<LogDamage>) {
        let (mut bytes, mut damaged) = (0, Vec::new());
        loop {
            let checked = log.check(from, max_bytes).unwrap();
            bytes += checked.bytes;
            damaged.extend(checked.damage);
            match checked.next {
                Some(next) => from = next,
                None => return (bytes, damaged),
            }
        }
    }

    fn flip(path: &Path, offset: u64) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    }

    #[test]
    fn a_flipped_bit_anywhere_in_what_is_durable_is_found_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        append(&log, 0..40, 700);
        let path = writer::path(dir.path(), 1);
        let end = log.shared.state.lock().durable.1;
        for pieces in [500, 3000, 1 << 20] {
            let (bytes, damaged) = check(&log, LogPlace::default(), pieces);
            assert_eq!((bytes + SEGMENT_HEADER as u64, damaged), (end, vec![]), "{pieces}");
        }
        for offset in (0..end).step_by(997) {
            flip(&path, offset);
            let (_, damaged) = check(&log, LogPlace::default(), 3000);
            flip(&path, offset);
            // Padding and reserved bytes mean nothing.
            let padding = offset >= 28 && damaged.is_empty();
            assert!(padding || damaged[0].file == path.display().to_string(), "byte {offset}: {damaged:?}");
        }
        flip(&path, end - 200);
        let (_, damaged) = check(&log, LogPlace::default(), 3000);
        assert!(damaged[0].detail.starts_with("it is damaged at byte "), "{damaged:?}");
        log.close().unwrap();
    }

    #[test]
    fn a_file_that_is_cut_or_missing_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        append(&log, 0..10, 700);
        log.end_file();
        append(&log, 10..20, 700);
        let (first, second) = (writer::path(dir.path(), 1), writer::path(dir.path(), 2));
        assert_eq!(check(&log, LogPlace::default(), 1 << 20).1, []);
        let whole = std::fs::read(&first).unwrap();
        for cut in [0, 20, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&first, &whole[..cut]).unwrap();
            let (_, damaged) = check(&log, LogPlace::default(), 1 << 20);
            assert_eq!(damaged.iter().map(|damage| damage.number).collect::<Vec<_>>(), [1], "cut at {cut}");
        }
        std::fs::write(&first, &whole).unwrap();
        std::fs::remove_file(&second).unwrap();
        let (_, damaged) = check(&log, LogPlace::default(), 1 << 20);
        assert_eq!(damaged.iter().map(|damage| damage.file.as_str()).collect::<Vec<_>>(), [second.to_str().unwrap()]);
        log.close().unwrap_or_default(); // its file is gone
    }

    #[test]
    fn a_damaged_file_goes_with_its_entries_and_the_log_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        append(&log, 0..20, 700);
        flip(&writer::path(dir.path(), 1), 1000);
        log.end_file();
        append(&log, 20..21, 700);
        assert!(log.has_file(1));
        log.purge(LogPosition { term: 1, index: 19 }).unwrap();
        append(&log, 21..22, 700);
        assert!(!log.has_file(1));
        assert_eq!(check(&log, LogPlace::default(), 1 << 20).1, []);
        log.close().unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(log.bounds().last, Some(LogPosition { term: 1, index: 21 }));
        assert_eq!(check(&log, LogPlace::default(), 1 << 20).1, []);
        log.close().unwrap();
    }

    #[test]
    fn a_damaged_file_whose_entries_were_purged_before_goes_when_the_purge_is_said_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        append(&log, 0..20, 700);
        let last = LogPosition { term: 1, index: 19 };
        log.purge(last).unwrap();
        assert!(log.has_file(1), "it is the file that is written to");
        flip(&writer::path(dir.path(), 1), 1000);
        log.end_file();
        log.purge(last).unwrap();
        append(&log, 20..21, 700);
        assert!(!log.has_file(1));
        assert_eq!(check(&log, LogPlace::default(), 1 << 20).1, []);
        log.close().unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(log.bounds(), LogBounds { purged: Some(last), last: Some(LogPosition { term: 1, index: 20 }) });
        log.close().unwrap();
    }
}
