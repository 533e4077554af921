//! The bytes of a log file, a *segment*: a header, then *units* one after another.
//!
//! A unit is what one call wrote. All numbers are little endian:
//!
//! ```text
//! segment header   magic u64 · number u64 · salt u64 · crc u32 · zeros, 32 bytes together
//! unit header      tag u32 · crc u32 · seq u64 · durable u64 · rows u32 · payload bytes u32
//! rows             kind u8 · a u64 · b u64 · len u32 · crc u32, each
//! payloads         of the entry rows, in order; zeros up to a multiple of 8
//! ```
//!
//! The unit's checksum covers the segment's salt, the rest of the header and the rows; each entry row holds the
//! checksum of its payload. `seq` counts units over all segments. `durable` is the newest unit that was known to be
//! on disk when this one was written. It tells a torn write from damage: after a power cut, the first unit that cannot
//! be read was never acknowledged, unless a later one says that it had been durable. The salt is random, so that no
//! payload can pretend to be a unit.
//!
//! A segment's file may be one that was purged, and behind what was written to it this time are units of its earlier
//! lives. Each life has a salt of its own. A unit begins with the upper half of it, and two salts with equal upper halves
//! never give the same bytes the same checksum, so a unit of another life is read only if all 64 bits are the same. Even
//! then its `seq` would be one that was given before, and not the next one. Because the tag is not known before the
//! segment begins, looking for units behind a torn one costs no more than a look at each place.
//!
//! In the first version of the format the tag was the same in all segments. Such segments are read, and never written.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes};

use super::super::{LogEntry, LogOwner, LogPosition, StoredVote};

/// "liminal" and the version of the format.
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"liminal\x02");
const FIRST_SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"liminal\x01");
/// The tag of all units in segments of the first version.
const FIRST_TAG: u32 = 0x756e_6974;
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

/// What tells the units of a segment from all other bytes, those of its file's earlier lives too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    salt: u64,
    /// How its units begin.
    tag: u32,
}

impl Life {
    fn of(salt: u64) -> Self {
        Self { salt, tag: (salt >> 32) as u32 }
    }

    /// A new one, in a file that had another before.
    pub(super) fn fresh(before: Option<Self>) -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        loop {
            let life = Self::of(std::hash::RandomState::new().build_hasher().finish());
            // Space that nothing was written to is no unit, and neither is one of the first version.
            if ![0, FIRST_TAG].contains(&life.tag) && before.is_none_or(|before| before.tag != life.tag) {
                return life;
            }
        }
    }
}

/// The start of every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) life: Life,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut out = &mut bytes[..];
        out.put_u64_le(SEGMENT_MAGIC);
        out.put_u64_le(self.number);
        out.put_u64_le(self.life.salt);
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let whole = bytes;
        if bytes.len() < SEGMENT_HEADER {
            return Err("its header is cut off");
        }
        let is_first = match bytes.get_u64_le() {
            SEGMENT_MAGIC => false,
            FIRST_SEGMENT_MAGIC => true,
            other if other << 8 == SEGMENT_MAGIC << 8 => return Err("it is of another version of the format"),
            _ => return Err("it is no log file"),
        };
        let (number, salt) = (bytes.get_u64_le(), bytes.get_u64_le());
        if bytes.get_u32_le() != crc32fast::hash(&whole[..24]) {
            return Err("its header is damaged");
        }
        let life = if is_first { Life { salt, tag: FIRST_TAG } } else { Life::of(salt) };
        Ok(Self { number, life })
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

    /// Writes it behind what is in `out`, for a segment with this life.
    pub(super) fn encode(&self, life: Life, durable: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        let payloads: usize = self.records.iter().map(|record| record.payload().len()).sum();
        out.put_u32_le(life.tag);
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
        let crc = table_crc(life.salt, &out[start + 8..]);
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
fn read_table(segment: &[u8], offset: usize, life: Life) -> Option<ReadUnit> {
    let unit = segment.get(offset..)?;
    let mut head = unit.get(..UNIT_HEADER)?;
    if head.get_u32_le() != life.tag {
        return None;
    }
    let crc = head.get_u32_le();
    let (seq, durable) = (head.get_u64_le(), head.get_u64_le());
    let (rows, payloads) = (head.get_u32_le() as usize, head.get_u32_le() as usize);
    let table_end = UNIT_HEADER + rows.checked_mul(ROW)?;
    let mut table = unit.get(UNIT_HEADER..table_end)?;
    if table_crc(life.salt, unit.get(8..table_end)?) != crc {
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
fn read_unit(segment: &[u8], offset: usize, life: Life) -> Option<ReadUnit> {
    let unit = read_table(segment, offset, life)?;
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
pub(super) fn whole_unit(segment: &[u8], offset: usize, life: Life, after: Option<u64>) -> Option<(usize, u64)> {
    let unit = read_unit(segment, offset, life).filter(|unit| after.is_none_or(|after| unit.seq == after + 1))?;
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
    life: Life,
    after: Option<u64>,
    is_last: bool,
    mut found: impl FnMut(Found) -> Result<(), String>,
) -> Result<End, String> {
    let (mut offset, mut seq) = (SEGMENT_HEADER, after);
    while offset < segment.len() {
        let Some(unit) = read_unit(segment, offset, life).filter(|unit| seq.is_none_or(|seq| unit.seq == seq + 1))
        else {
            // A segment is only ever the first one left after its first unit was durable.
            let Some(lost) = seq.map(|seq| seq + 1).filter(|_| is_last) else {
                return Err(format!("it is damaged at byte {offset}"));
            };
            let later = (offset + ALIGN..segment.len()).step_by(ALIGN).filter_map(|at| read_table(segment, at, life));
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

    const LIFE: Life = Life { salt: (7 << 32) | 9, tag: 7 };
    const FIRST: Life = Life { salt: 7, tag: FIRST_TAG };

    fn unit(seq: u64, size: usize) -> Unit {
        let position = LogPosition { term: 1, index: seq };
        Unit { seq, records: vec![Record::entry((position, vec![b'x'; size].into())), Record::Committed(position)] }
    }

    /// Units 1, 2, 3, each written after the one before was durable.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = SegmentHeader { number: 1, life: LIFE }.encode().to_vec();
        let mut starts = Vec::new();
        for seq in 1..=3 {
            starts.push(bytes.len());
            unit(seq, 100).encode(LIFE, seq - 1, &mut bytes).unwrap();
        }
        (bytes, starts)
    }

    fn read(bytes: &[u8], is_last: bool) -> Result<(u64, usize), String> {
        let mut entries = 0;
        let end = read_segment(bytes, LIFE, Some(0), is_last, |found| {
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
        Unit { seq: 9, records: vec![vote, entry] }.encode(FIRST, 8, &mut bytes).unwrap();
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
        unit.encode(LIFE, 0, &mut bytes).unwrap();
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
        let mut bytes = SegmentHeader { number: 1, life: LIFE }.encode().to_vec();
        unit(1, 100).encode(LIFE, 0, &mut bytes).unwrap();
        let torn = bytes.len();
        unit(2, 100).encode(LIFE, 1, &mut bytes).unwrap();
        unit(3, 100).encode(LIFE, 1, &mut bytes).unwrap();
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

    /// Of an earlier life, as like the present one as can be.
    const EARLIER: Life = Life { salt: LIFE.salt ^ 1, tag: LIFE.tag };

    #[test]
    fn a_unit_of_an_earlier_life_is_not_read_though_it_has_the_next_number_and_entry() {
        for earlier in [EARLIER, Life::fresh(None), FIRST] {
            let mut bytes = SegmentHeader { number: 1, life: LIFE }.encode().to_vec();
            unit(1, 100).encode(LIFE, 0, &mut bytes).unwrap();
            let end = bytes.len() as u64;
            for seq in 2..5 {
                unit(seq, 100).encode(earlier, seq - 1, &mut bytes).unwrap();
            }
            assert_eq!(read(&bytes, true).unwrap(), (end, 1), "{earlier:?}");
            // Nor does it say that a torn one before it was durable.
            bytes[end as usize - 20] ^= 1;
            assert_eq!(read(&bytes, true).unwrap(), (SEGMENT_HEADER as u64, 0), "{earlier:?}");
        }
    }

    #[test]
    fn an_earlier_life_where_a_durable_unit_was_is_damage() {
        let (mut bytes, starts) = segment();
        let mut stale = Vec::new();
        unit(2, 100).encode(EARLIER, 1, &mut stale).unwrap();
        bytes[starts[1]..starts[2]].copy_from_slice(&stale);
        assert!(read(&bytes, true).unwrap_err().contains(&format!("byte {}", starts[1])));
    }

    #[test]
    fn each_life_differs_from_the_one_before_and_from_empty_space() {
        let mut life = Life::fresh(None);
        for _ in 0..1000 {
            let next = Life::fresh(Some(life));
            assert!(next.tag != life.tag && next.tag != 0 && next.tag != FIRST_TAG);
            life = next;
        }
    }

    #[test]
    fn segments_and_units_of_the_second_version_have_these_bytes() {
        let mut bytes = SegmentHeader { number: 5, life: LIFE }.encode().to_vec();
        Unit { seq: 9, records: Vec::new() }.encode(LIFE, 8, &mut bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let header = "6c696d696e616c0205000000000000000900000007000000".to_owned() + "562c626800000000";
        assert_eq!(hex, header + "07000000d651f62f0900000000000000080000000000000000000000" + "00000000");
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
        let good = SegmentHeader { number: 3, life: LIFE }.encode();
        assert_eq!(SegmentHeader::decode(&good), Ok(SegmentHeader { number: 3, life: LIFE }));
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
