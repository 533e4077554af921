//! One file of keys: the *run*. It has a channel's keys from one log entry to another one, sorted by a hash, each as a few
//! bytes more of that hash and the entry that it came with. What a key was claimed for is in the store, under that entry;
//! a run only says where to look, so that it takes eight bytes a key on disk.
//!
//! Pages of records come first, each with a checksum; then the filter and the list of the entries, which are read when a
//! run is opened; then a footer that says what the file is.

use std::{
    io::{self, BufWriter, Write as _},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    files::{KeyFile, KeyFiles, NewFile},
    filter::{Filter, FilterBuilder},
};
use crate::{
    codec,
    machine::{ClaimEntry, decode_entries},
    model::{ChannelId, KeyHash},
};

const MAGIC: &[u8; 8] = b"LMNLKEY1";
const PAGE: usize = 4096;
const RECORD: usize = 8;
/// A page ends with its checksum.
const RECORDS: u64 = (PAGE as u64 - 8) / RECORD as u64;
const CHECKSUM: usize = PAGE - 8;
/// Behind the footer: its length and the magic bytes.
const END: usize = 12;
/// Written at a time.
const BUFFER: usize = 256 << 10;

/// What keys are hashed with. It is of the node alone, so that nobody can choose keys that crowd together in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Salt {
    words: [u64; 2],
    key: [u8; 32],
}

impl Salt {
    pub(super) fn new(words: [u64; 2]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self { words, key: *blake3::hash(&bytes).as_bytes() }
    }

    pub(super) fn hash(&self, key: KeyHash) -> u64 {
        let hash = blake3::keyed_hash(&self.key, &key.0);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

/// Which keys a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) channel: ChannelId,
    /// The first entry's name.
    pub(super) first_seq: u64,
    /// The last entry's name.
    pub(super) last_seq: u64,
    /// One behind the last key's sequence number.
    pub(super) end_seq: u64,
    pub(super) keys: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Footer {
    span: Span,
    salt: [u64; 2],
    /// BLAKE3 of what the store holds for the last entry: histories that differ do not come together again, so a store
    /// that has it has all entries before it.
    last_claims: [u8; 32],
    filter_bytes: u64,
    filter_checksum: u32,
    entries_bytes: u64,
    entries_checksum: u32,
}

/// A run that can be looked through.
pub(super) struct Run {
    pub(super) span: Span,
    pub(super) name: String,
    pub(super) salt: Salt,
    pub(super) last_claims: [u8; 32],
    /// Bytes of the file.
    pub(super) bytes: u64,
    filter: Filter,
    file: Arc<dyn KeyFile>,
    entries_at: u64,
    entries_bytes: u64,
    entries_checksum: u32,
}

/// Why a run cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file of idempotency keys `{name}` cannot be used: {reason}")]
pub(super) struct Damaged {
    pub(super) name: String,
    pub(super) reason: String,
}

impl Run {
    pub(super) fn open(files: &dyn KeyFiles, name: &str) -> Result<Self, Damaged> {
        let damaged = |reason: String| Damaged { name: name.to_owned(), reason };
        let read = || -> io::Result<Result<Self, String>> {
            let file = files.open(name)?;
            let bytes = file.len()?;
            let mut end = [0; END];
            let Some(end_at) = bytes.checked_sub(END as u64) else { return Ok(Err("it ends early".into())) };
            file.read_at(&mut end, end_at)?;
            let (footer_bytes, magic) = end.split_at(4);
            if magic != MAGIC {
                return Ok(Err("it is none, or of another version".into()));
            }
            let footer_bytes = u32::from_le_bytes(footer_bytes.try_into().unwrap_or_default());
            let Some(footer_at) = end_at.checked_sub(u64::from(footer_bytes)) else {
                return Ok(Err("it ends early".into()));
            };
            let footer: Footer = match codec::decode_record("footer", &part(&*file, footer_at..end_at)?) {
                Ok(footer) => footer,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let Footer { span, filter_bytes, entries_bytes, .. } = footer;
            let pages = span.keys.div_ceil(RECORDS).saturating_mul(PAGE as u64);
            let entries_at = pages.saturating_add(filter_bytes);
            if entries_at.checked_add(entries_bytes) != Some(footer_at) || span.name() != name {
                return Ok(Err("its parts do not fit each other".into()));
            }
            let filter = part(&*file, pages..entries_at)?;
            let checked = crc32fast::hash(&filter) == footer.filter_checksum;
            let Some(filter) = checked.then(|| Filter::decode(span.keys, &filter)).flatten() else {
                return Ok(Err("its filter's checksum is wrong".into()));
            };
            let (name, salt, last_claims) = (name.to_owned(), Salt::new(footer.salt), footer.last_claims);
            let entries_checksum = footer.entries_checksum;
            Ok(Ok(Self {
                span,
                name,
                salt,
                last_claims,
                bytes,
                filter,
                file,
                entries_at,
                entries_bytes,
                entries_checksum,
            }))
        };
        read().map_err(|error| error.to_string()).flatten().map_err(damaged)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> u64 {
        self.filter.bytes()
    }

    /// Whether a key may be in it: the places to look at.
    pub(super) fn places(&self, hash: u64) -> std::ops::Range<u64> {
        self.filter.places(hash)
    }

    /// The names of the entries that may have brought a key, of the places where it may be. Blocks.
    pub(super) fn read(&self, hash: u64, places: std::ops::Range<u64>) -> Result<Vec<u64>, Damaged> {
        let damaged = |reason: String| Damaged { name: self.name.clone(), reason };
        let (mut names, mut page, mut held) = (Vec::new(), vec![0; PAGE], None);
        for place in places {
            let number = place / RECORDS;
            if held != Some(number) {
                self.file.read_at(&mut page, number * PAGE as u64).map_err(|error| damaged(error.to_string()))?;
                if checksum(&page, number).to_le_bytes() != page[CHECKSUM..CHECKSUM + 4] {
                    return Err(damaged(format!("the checksum of its page {number} is wrong")));
                }
                held = Some(number);
            }
            let at = (place % RECORDS) as usize * RECORD;
            let record = page[at..at + RECORD].try_into().map(u64::from_le_bytes).unwrap_or_default();
            if record >> 32 == hash & u64::from(u32::MAX) {
                names.push(self.span.first_seq + (record & u64::from(u32::MAX)));
            }
        }
        Ok(names)
    }

    /// Its entries, oldest first. Blocks.
    pub(super) fn entries(&self) -> Result<Vec<ClaimEntry>, Damaged> {
        let damaged = |reason: String| Damaged { name: self.name.clone(), reason };
        let mut bytes = vec![0; self.entries_bytes as usize];
        self.file.read_at(&mut bytes, self.entries_at).map_err(|error| damaged(error.to_string()))?;
        if crc32fast::hash(&bytes) != self.entries_checksum {
            return Err(damaged("the checksum of its entries is wrong".into()));
        }
        Ok(decode_entries(&bytes).collect())
    }
}

impl Span {
    /// The name of the file.
    fn name(&self) -> String {
        format!("{}-{}-{}", self.channel.0, self.first_seq, self.last_seq)
    }
}

fn part(file: &dyn KeyFile, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Of a page's records, and of where it is.
fn checksum(page: &[u8], number: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&page[..CHECKSUM]);
    hasher.finalize()
}

/// Writes a run from records in the order of their hashes. Blocks.
pub(super) struct RunWriter {
    file: BufWriter<Box<dyn NewFile>>,
    span: Span,
    filter: FilterBuilder,
    page: Vec<u8>,
    pages: u64,
}

impl RunWriter {
    pub(super) fn begin(files: &dyn KeyFiles, span: Span) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER, files.create(&span.name())?);
        Ok(Self { file, span, filter: FilterBuilder::new(span.keys), page: Vec::with_capacity(PAGE), pages: 0 })
    }

    /// A key by its hash, and how far its entry's name is from the first one's.
    pub(super) fn add(&mut self, hash: u64, entry: u32) -> io::Result<()> {
        self.filter.add(hash);
        self.page.extend_from_slice(&(hash << 32 | u64::from(entry)).to_le_bytes());
        if self.page.len() == CHECKSUM { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> io::Result<()> {
        self.page.resize(PAGE, 0);
        let checksum = checksum(&self.page, self.pages);
        self.page[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all(&self.page)?;
        self.pages += 1;
        self.page.clear();
        Ok(())
    }

    /// Gives the file its name, which it returns; none when not as many keys came as the span says.
    pub(super) fn finish(mut self, salt: &Salt, entries: &[u8], last_claims: [u8; 32]) -> io::Result<Option<String>> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let Some(filter) = self.filter.finish() else { return Ok(None) };
        let mut bytes = Vec::with_capacity(filter.bytes() as usize);
        filter.encode(&mut bytes);
        let footer = Footer {
            span: self.span,
            salt: salt.words,
            last_claims,
            filter_bytes: bytes.len() as u64,
            filter_checksum: crc32fast::hash(&bytes),
            entries_bytes: entries.len() as u64,
            entries_checksum: crc32fast::hash(entries),
        };
        let footer = codec::encode_record(&footer);
        let footer_bytes = u32::try_from(footer.len()).map_err(io::Error::other)?;
        for part in [&bytes[..], entries, &footer, &footer_bytes.to_le_bytes(), MAGIC] {
            self.file.write_all(part)?;
        }
        self.file.flush()?;
        self.file.get_mut().publish()?;
        Ok(Some(self.span.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::files::KeyMemory, machine::EntryBytes};

    fn key(number: u64) -> KeyHash {
        KeyHash::of(&number.to_string())
    }

    /// A run of so many keys, ten in each entry.
    fn written(files: &KeyMemory, salt: &Salt, keys: u64) -> Run {
        let span = Span {
            channel: ChannelId(7),
            first_seq: 100,
            last_seq: 100 + (keys - 1) / 10 * 10,
            end_seq: 100 + keys,
            keys,
        };
        let mut writer = RunWriter::begin(files, span).unwrap();
        let mut records: Vec<_> = (0..keys).map(|number| (salt.hash(key(number)), (number / 10 * 10) as u32)).collect();
        records.sort_unstable();
        records.iter().for_each(|(hash, entry)| writer.add(*hash, *entry).unwrap());
        let mut entries = EntryBytes::default();
        (0..keys.div_ceil(10)).for_each(|number| entries.push(entry(number)));
        let name = writer.finish(salt, entries.as_bytes(), [9; 32]).unwrap().unwrap();
        Run::open(files, &name).unwrap()
    }

    fn entry(number: u64) -> ClaimEntry {
        ClaimEntry { time_ms: number, first_seq: 100 + 10 * number, keys: 10 }
    }

    fn found(run: &Run, number: u64) -> Result<Vec<u64>, Damaged> {
        let hash = run.salt.hash(key(number));
        run.read(hash, run.places(hash))
    }

    #[test]
    fn a_run_says_with_which_entry_each_of_its_keys_came() {
        let (files, salt) = (KeyMemory::default(), Salt::new([1, 2]));
        for keys in [1, 10, RECORDS, RECORDS + 1, 5_000] {
            let run = written(&files, &salt, keys);
            assert_eq!((run.span.keys, &run.salt, run.last_claims), (keys, &salt, [9; 32]));
            for number in 0..keys {
                assert_eq!(found(&run, number).unwrap(), [100 + number / 10 * 10]);
            }
            for stranger in keys..keys + 5_000 {
                assert_eq!(found(&run, stranger).unwrap(), [0_u64; 0]);
            }
            assert_eq!(run.entries().unwrap(), (0..keys.div_ceil(10)).map(entry).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_before_it_gives_a_wrong_answer() {
        let (files, salt) = (KeyMemory::default(), Salt::new([1, 2]));
        let run = written(&files, &salt, 700);
        let mut whole = vec![0; run.bytes as usize];
        files.open(&run.name).unwrap().read_at(&mut whole, 0).unwrap();
        for at in (0..whole.len()).step_by(13) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            let mut file = files.create(&run.name).unwrap();
            file.write_all(&bytes).unwrap();
            file.publish().unwrap();
            let Ok(damaged) = Run::open(&files, &run.name) else { continue };
            let found =
                (0..700).map(|number| Ok((number, found(&damaged, number)?))).collect::<Result<Vec<_>, Damaged>>();
            let right =
                |found: Vec<(u64, Vec<u64>)>| found.iter().all(|(number, names)| *names == [100 + number / 10 * 10]);
            assert!(found.is_err() || found.is_ok_and(right), "byte {at}");
            assert!(damaged.entries().is_err() || damaged.entries().unwrap() == run.entries().unwrap());
        }
    }

    #[test]
    fn a_file_that_is_cut_short_or_has_another_name_is_refused() {
        let (files, salt) = (KeyMemory::default(), Salt::new([1, 2]));
        let run = written(&files, &salt, 700);
        let mut whole = vec![0; run.bytes as usize];
        files.open(&run.name).unwrap().read_at(&mut whole, 0).unwrap();
        for (name, bytes) in [("other", &whole[..]), (&run.name, &whole[..4_000]), (&run.name, b""), (&run.name, MAGIC)]
        {
            let mut file = files.create(name).unwrap();
            file.write_all(bytes).unwrap();
            file.publish().unwrap();
            assert!(Run::open(&files, name).is_err());
        }
    }
}
