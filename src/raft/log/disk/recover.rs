//! Reading a log's files back at a start: what they hold, and whether any of it is damaged.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use super::{
    format::{self, Found, Record, SegmentHeader},
    index::{Index, Obsolete},
    medium::Medium,
    writer,
};
use crate::files::WAY_OUT;

/// What a directory holds.
pub(super) struct Recovered {
    pub(super) index: Index,
    /// Numbers of the last file and the last unit.
    pub(super) segment: u64,
    pub(super) seq: u64,
    /// Files whose entries were purged, and which were not let go of.
    pub(super) obsolete: Vec<Obsolete>,
}

/// Reads all files.
pub(super) fn recover(dir: &Path, cache_bytes: usize, medium: &dyn Medium) -> io::Result<Recovered> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(".wal")) {
            let name = name.display();
            let reason = format!("{name} is a log of a version before 0.1.0; start this node with an empty directory");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".log")) {
            let number = u64::from_str_radix(number, 16);
            numbers.push(number.map_err(|_| io::Error::other(format!("{} is no file of a log", name.display())))?);
        }
    }
    numbers.sort_unstable();
    let mut index = Index::new(cache_bytes);
    let (mut seq, mut before, mut obsolete) = (None, None, Vec::new());
    // The files before the first one were deleted with all their entries.
    let mut begun = numbers.first().is_none_or(|first| *first == 1);
    for number in &numbers {
        let path = writer::path(dir, *number);
        let damaged = |reason: String| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {reason}; if the other nodes are well, replace this node by a fresh one", path.display()),
            )
        };
        if before.is_some_and(|before: u64| before + 1 != *number) {
            return Err(damaged("the file before it is missing".into()));
        }
        let file = Arc::new(File::options().read(true).write(true).open(&path)?);
        let bytes = fs::read(&path)?;
        let header = SegmentHeader::decode(&bytes).map_err(|reason| damaged(reason.into()))?;
        if header.number != *number {
            return Err(damaged(format!("it is file {:016x} under another name", header.number)));
        }
        index.add_segment(*number, Some(file.clone()));
        // The very first file may lack even its first unit; any other one is only kept with it.
        let after = if *number == 1 { Some(0) } else { seq };
        let is_last = numbers.last() == Some(number);
        let end = format::read_segment(&bytes, header.life, after, is_last, |found| {
            match found {
                Found::Entry(position, span) => {
                    if !std::mem::replace(&mut begun, true) {
                        index.begin_at(position.index);
                    }
                    index.follows([position])?;
                    index.push(position, 0, *number, span, None);
                }
                Found::Other(Record::Vote(vote)) => index.vote = Some(vote),
                Found::Other(Record::Owner(owner)) => index.owner = Some(owner),
                Found::Other(Record::Committed(position)) => index.committed = Some(position),
                Found::Other(Record::Truncate(from)) => index.truncate(from),
                Found::Other(Record::Purge(up_to)) => obsolete.extend(index.purge(up_to)),
                Found::Other(Record::Entry(..)) => {}
            }
            Ok(())
        })
        .map_err(damaged)?;
        if end.offset < bytes.len() as u64 {
            medium.set_len(&file, end.offset)?;
            medium.sync_new(&file)?;
        }
        (seq, before) = (end.seq, Some(*number));
    }
    if !index.is_complete() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("files with entries that were never purged are missing: {WAY_OUT}"),
        ));
    }
    Ok(Recovered { index, segment: before.unwrap_or(0), seq: seq.unwrap_or(0), obsolete })
}
