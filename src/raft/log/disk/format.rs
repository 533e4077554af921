//! The bytes of a log file, a *segment*: a header, then *units* one after another.
//!
//! A unit is what one call wrote. All numbers are little endian:
//!
//! ```text
//! segment header   magic u64 · number u64 · salt u64 · crc u32 · zeros, 32 bytes together
//! unit header      magic u32 · crc u32 · seq u64 · durable u64 · rows u32 · payload bytes u32
//! rows             kind u8 · a u64 · b u64 · len u32 · crc u32, each
//! payloads         of the entry rows, in order; zeros up to a multiple of 8
//! ```
//!
//! The unit's checksum covers the segment's salt, the rest of the header and the rows; each entry row holds the
//! checksum of its payload. `seq` counts units over all segments. `durable` is the newest unit that was known to be
//! on disk when this one was written. It tells a torn write from damage: after a power cut, the first unit that cannot
//! be read was never acknowledged, unless a later one says that it had been durable. The salt is random, so that no
//! payload can pretend to be a unit.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes};

use super::super::{LogEntry, LogOwner, LogPosition, StoredVote};

/// "liminal" and the version of the format.
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"liminal\x01");
const UNIT_MAGIC: u32 = 0x756e_6974;
pub(super) const SEGMENT_HEADER: usize = 32;
const UNIT_HEADER: usize = 32;
const ROW: usize = 25;
const ALIGN: usize = 8;

/// One thing that a unit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// With the checksum of its payload.
    Entry(LogPosition, Bytes, u32),
    Vote(StoredVote),
    Owner(LogOwner),
    Committed(LogPosition),
    /// Entries from this index on are gone.
    Truncate(u64),
    /// Entries up to here are gone.
    Purge(LogPosition),
}

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const OWNER: u8 = 6;

/// Where in its segment an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// The start of every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) salt: u64,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut out = &mut bytes[..];
        out.put_u64_le(SEGMENT_MAGIC);
        out.put_u64_le(self.number);
        out.put_u64_le(self.salt);
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let whole = bytes;
        if bytes.len() < SEGMENT_HEADER {
            return Err("its header is cut off");
        }
        match bytes.get_u64_le() {
            SEGMENT_MAGIC => {}
            other if other << 8 == SEGMENT_MAGIC << 8 => return Err("it is of another version of the format"),
            _ => return Err("it is no log file"),
        }
        let header = Self { number: bytes.get_u64_le(), salt: bytes.get_u64_le() };
        if bytes.get_u32_le() != crc32fast::hash(&whole[..24]) {
            return Err("its header is damaged");
        }
        Ok(header)
    }
}

/// A unit as it is written; the entries' payloads are shared, not copied.
pub(super) struct Unit {
    pub(super) seq: u64,
    pub(super) records: Vec<Record>,
}

impl Unit {
    /// Bytes that it takes in a file.
    pub(super) fn len(&self) -> u64 {
        let payloads: usize = self.records.iter().map(|record| record.payload().len()).sum();
        (UNIT_HEADER + self.records.len() * ROW + payloads).next_multiple_of(ALIGN) as u64
    }

    /// Writes it behind what is in `out`, for a segment with this salt.
    pub(super) fn encode(&self, salt: u64, durable: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        let payloads: usize = self.records.iter().map(|record| record.payload().len()).sum();
        out.put_u32_le(UNIT_MAGIC);
        out.put_u32_le(0);
        out.put_u64_le(self.seq);
        out.put_u64_le(durable);
        out.put_u32_le(u32::try_from(self.records.len()).map_err(io::Error::other)?);
        out.put_u32_le(u32::try_from(payloads).map_err(io::Error::other)?);
        for record in &self.records {
            let (kind, a, b, len) = match record {
                Record::Entry(position, bytes, _) => (ENTRY, position.term, position.index, bytes.len()),
                Record::Vote(vote) => (VOTE, vote.term, vote.node, usize::from(vote.committed)),
                Record::Owner(owner) => (OWNER, owner.start, owner.node, 0),
                Record::Committed(position) => (COMMITTED, position.term, position.index, 0),
                Record::Truncate(index) => (TRUNCATE, 0, *index, 0),
                Record::Purge(position) => (PURGE, position.term, position.index, 0),
            };
            out.put_u8(kind);
            out.put_u64_le(a);
            out.put_u64_le(b);
            out.put_u32_le(u32::try_from(len).map_err(io::Error::other)?);
            out.put_u32_le(if let Record::Entry(.., crc) = record { *crc } else { 0 });
        }
        let crc = table_crc(salt, &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        for record in &self.records {
            out.extend_from_slice(record.payload());
        }
        out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);
        Ok(())
    }

    /// Its entries, and where their payloads will be when it is written at an offset.
    pub(super) fn entries(&self, offset: u64) -> impl Iterator<Item = (LogPosition, Span, &Bytes)> {
        let mut at = offset + (UNIT_HEADER + self.records.len() * ROW) as u64;
        self.records.iter().filter_map(move |record| {
            let Record::Entry(position, bytes, crc) = record else { return None };
            // The length was checked when the entry was taken.
            let span = Span { offset: at, len: bytes.len() as u32, crc: *crc };
            at += bytes.len() as u64;
            Some((*position, span, bytes))
        })
    }
}

impl Record {
    pub(super) fn entry((position, bytes): LogEntry) -> Self {
        let crc = crc32fast::hash(&bytes);
        Self::Entry(position, bytes, crc)
    }

    fn payload(&self) -> &[u8] {
        match self {
            Self::Entry(_, bytes, _) => bytes,
            _ => &[],
        }
    }
}

fn table_crc(salt: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

/// A unit as it is read.
struct ReadUnit {
    seq: u64,
    durable: u64,
    rows: Vec<Row>,
    len: usize,
}

struct Row {
    kind: u8,
    a: u64,
    b: u64,
    span: Span,
}

/// Reads a unit's header and rows; none when they are not whole.
fn read_table(segment: &[u8], offset: usize, salt: u64) -> Option<ReadUnit> {
    let unit = segment.get(offset..)?;
    let mut head = unit.get(..UNIT_HEADER)?;
    if head.get_u32_le() != UNIT_MAGIC {
        return None;
    }
    let crc = head.get_u32_le();
    let (seq, durable) = (head.get_u64_le(), head.get_u64_le());
    let (rows, payloads) = (head.get_u32_le() as usize, head.get_u32_le() as usize);
    let table_end = UNIT_HEADER + rows.checked_mul(ROW)?;
    let mut table = unit.get(UNIT_HEADER..table_end)?;
    if table_crc(salt, unit.get(8..table_end)?) != crc {
        return None;
    }
    let mut at = offset + table_end;
    let rows = (0..rows).map(|_| {
        let (kind, a, b) = (table.get_u8(), table.get_u64_le(), table.get_u64_le());
        let span = Span { offset: at as u64, len: table.get_u32_le(), crc: table.get_u32_le() };
        if kind == ENTRY {
            at += span.len as usize;
        }
        Row { kind, a, b, span }
    });
    let rows = rows.collect();
    Some(ReadUnit { seq, durable, rows, len: (table_end + payloads).next_multiple_of(ALIGN) })
}

/// A whole unit with right checksums.
fn read_unit(segment: &[u8], offset: usize, salt: u64) -> Option<ReadUnit> {
    let unit = read_table(segment, offset, salt)?;
    segment.get(offset..offset + unit.len)?;
    let whole = unit.rows.iter().filter(|row| row.kind == ENTRY).all(|row| {
        let start = row.span.offset as usize;
        segment
            .get(start..start + row.span.len as usize)
            .is_some_and(|payload| crc32fast::hash(payload) == row.span.crc)
    });
    whole.then_some(unit)
}

/// Where the unit at an offset ends, and its number, if it is whole and comes after the one that is given.
pub(super) fn whole_unit(segment: &[u8], offset: usize, salt: u64, after: Option<u64>) -> Option<(usize, u64)> {
    let unit = read_unit(segment, offset, salt).filter(|unit| after.is_none_or(|after| unit.seq == after + 1))?;
    Some((offset + unit.len, unit.seq))
}

/// What is read back, in the order in which it was written.
pub(super) enum Found {
    Entry(LogPosition, Span),
    Other(Record),
}

/// How the reading of a segment ended.
#[derive(Debug)]
pub(super) struct End {
    /// Where the whole units end.
    pub(super) offset: u64,
    /// The newest unit; that of the segment before when there is none.
    pub(super) seq: Option<u64>,
}

/// Reads a segment's units. `after` is the last unit of the segment before, 0 for the very first one; the last segment may end in a write that
/// a power cut tore.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn read_segment(
    segment: &[u8],
    salt: u64,
    after: Option<u64>,
    is_last: bool,
    mut found: impl FnMut(Found) -> Result<(), String>,
) -> Result<End, String> {
    let (mut offset, mut seq) = (SEGMENT_HEADER, after);
    while offset < segment.len() {
        let Some(unit) = read_unit(segment, offset, salt).filter(|unit| seq.is_none_or(|seq| unit.seq == seq + 1))
        else {
            // A segment is only ever the first one left after its first unit was durable.
            let Some(lost) = seq.map(|seq| seq + 1).filter(|_| is_last) else {
                return Err(format!("it is damaged at byte {offset}"));
            };
            let later = (offset + ALIGN..segment.len()).step_by(ALIGN).filter_map(|at| read_table(segment, at, salt));
            let mut durable = later.filter(|unit| unit.seq > lost && unit.durable >= lost);
            return match durable.next() {
                Some(_) => Err(format!("it is damaged at byte {offset}: what follows was written after a sync")),
                None => Ok(End { offset: offset as u64, seq }),
            };
        };
        for row in &unit.rows {
            let position = LogPosition { term: row.a, index: row.b };
            found(match row.kind {
                ENTRY => Found::Entry(position, row.span),
                VOTE => {
                    Found::Other(Record::Vote(StoredVote { term: row.a, node: row.b, committed: row.span.len == 1 }))
                }
                OWNER => Found::Other(Record::Owner(LogOwner { node: row.b, start: row.a })),
                COMMITTED => Found::Other(Record::Committed(position)),
                TRUNCATE => Found::Other(Record::Truncate(row.b)),
                PURGE => Found::Other(Record::Purge(position)),
                other => return Err(format!("byte {offset} begins a record of the unknown kind {other}")),
            })
            .map_err(|reason| format!("byte {offset} makes no sense: {reason}"))?;
        }
        (offset, seq) = (offset + unit.len, Some(unit.seq));
    }
    Ok(End { offset: offset as u64, seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 7;

    fn unit(seq: u64, size: usize) -> Unit {
        let position = LogPosition { term: 1, index: seq };
        Unit { seq, records: vec![Record::entry((position, vec![b'x'; size].into())), Record::Committed(position)] }
    }

    /// Units 1, 2, 3, each written after the one before was durable.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = SegmentHeader { number: 1, salt: SALT }.encode().to_vec();
        let mut starts = Vec::new();
        for seq in 1..=3 {
            starts.push(bytes.len());
            unit(seq, 100).encode(SALT, seq - 1, &mut bytes).unwrap();
        }
        (bytes, starts)
    }

    fn read(bytes: &[u8], is_last: bool) -> Result<(u64, usize), String> {
        let mut entries = 0;
        let end = read_segment(bytes, SALT, Some(0), is_last, |found| {
            entries += usize::from(matches!(found, Found::Entry(..)));
            Ok(())
        })?;
        Ok((end.offset, entries))
    }

    #[test]
    fn units_have_the_bytes_that_older_logs_hold() {
        let mut bytes = Vec::new();
        let vote = Record::Vote(StoredVote { term: 3, node: 4, committed: true });
        let entry = Record::entry((LogPosition { term: 1, index: 2 }, Bytes::from("ab")));
        Unit { seq: 9, records: vec![vote, entry] }.encode(SALT, 8, &mut bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let header = "74696e7576edfba50900000000000000080000000000000002000000".to_owned() + "02000000";
        let vote = "0203000000000000000400000000000000".to_owned() + "0100000000000000";
        let entry = "0101000000000000000200000000000000".to_owned() + "020000006d48839e";
        assert_eq!(hex, header + &vote + &entry + "6162" + "00000000");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (bytes, _) = segment();
        assert_eq!(read(&bytes, false).unwrap(), (bytes.len() as u64, 3));
    }

    #[test]
    fn a_payload_is_where_its_span_says() {
        let mut bytes = Vec::new();
        let unit = unit(0, 10);
        unit.encode(SALT, 0, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, unit.len());
        let (_, span, _) = unit.entries(0).next().unwrap();
        let start = span.offset as usize;
        assert_eq!(&bytes[start..start + span.len as usize], b"xxxxxxxxxx");
    }

    #[test]
    fn a_torn_last_unit_is_cut_off_in_the_last_segment_only() {
        let (mut bytes, starts) = segment();
        bytes.truncate(bytes.len() - 20);
        assert_eq!(read(&bytes, true).unwrap(), (starts[2] as u64, 2));
        assert!(read(&bytes, false).unwrap_err().contains(&format!("byte {}", starts[2])));
    }

    #[test]
    fn a_torn_unit_may_be_followed_by_one_of_the_same_sync_that_reached_the_disk() {
        let mut bytes = SegmentHeader { number: 1, salt: SALT }.encode().to_vec();
        unit(1, 100).encode(SALT, 0, &mut bytes).unwrap();
        let torn = bytes.len();
        unit(2, 100).encode(SALT, 1, &mut bytes).unwrap();
        unit(3, 100).encode(SALT, 1, &mut bytes).unwrap();
        bytes[torn + 90] ^= 1;
        assert_eq!(read(&bytes, true).unwrap(), (torn as u64, 1));
    }

    #[test]
    fn a_damaged_unit_that_had_been_durable_is_refused() {
        for at in [2, 40, 100] {
            let (mut bytes, starts) = segment();
            bytes[starts[1] + at] ^= 1;
            let error = read(&bytes, true).unwrap_err();
            assert!(error.contains(&format!("byte {}", starts[1])), "{error}");
        }
    }

    #[test]
    fn space_that_was_only_reserved_is_no_unit() {
        let (mut bytes, _) = segment();
        let end = bytes.len() as u64;
        bytes.extend([0; 4096]);
        assert_eq!(read(&bytes, true).unwrap(), (end, 3));
    }

    #[test]
    fn a_header_says_what_is_wrong_with_it() {
        let good = SegmentHeader { number: 3, salt: 9 }.encode();
        assert_eq!(SegmentHeader::decode(&good), Ok(SegmentHeader { number: 3, salt: 9 }));
        let broken = |at: usize| {
            let mut bytes = good;
            bytes[at] ^= 2;
            SegmentHeader::decode(&bytes).unwrap_err()
        };
        assert_eq!(
            [broken(0), broken(7), broken(9)],
            ["it is no log file", "it is of another version of the format", "its header is damaged"]
        );
        assert_eq!(SegmentHeader::decode(&good[..9]), Err("its header is cut off"));
    }
}
