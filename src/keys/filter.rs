//! What memory holds of the keys in a file: enough to say of almost every other key that it is not there, and of those
//! that may be there, at which place.
//!
//! Keys are told by the hashes that the file is sorted by. Of each, the filter keeps the first bits: those that number as
//! many slots as there are keys (about), and twelve more. Sorted numbers are kept as Elias and Fano did: of each the low
//! twelve bits, and the slots in unary, as ones between the zeros that end each slot. That makes a little more than 14
//! bits a key. A key that is not there is looked for in vain in the file once in 4,096 times. Other filters of that size
//! (fuse, ribbon) would be as sharp, but they say nothing of the place, so the file would need an index in memory too, and
//! they cannot be made while a sorted file is written, in no other memory than their own.

/// Bits of a hash below its slot.
const LOW: u32 = 12;
/// Zeros from one whose place is remembered to the next: about a cache line of them.
const SAMPLE: u64 = 256;
const WORD: u64 = u64::BITS as u64;

/// Which hashes are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    keys: u64,
    /// Bits that number the slots.
    slot_bits: u32,
    low: Vec<u64>,
    /// For each key a one, and a zero behind each slot.
    slots: Vec<u64>,
    /// Where every so-manieth zero is.
    samples: Vec<u32>,
}

/// Makes one from hashes in order, whose number is known.
pub(super) struct FilterBuilder {
    filter: Filter,
    added: u64,
}

/// About as many slots as keys; twice as many keys at most.
fn slot_bits(keys: u64) -> u32 {
    keys.max(2).ilog2()
}

impl FilterBuilder {
    /// For so many keys; fewer than 2^31.
    pub(super) fn new(keys: u64) -> Self {
        let slot_bits = slot_bits(keys);
        let words = |bits: u64| vec![0; bits.div_ceil(WORD) as usize];
        // One word more, so that every low part can be read as one of two words.
        let mut low = words(keys * u64::from(LOW));
        low.push(0);
        let slots = words(keys + (1 << slot_bits));
        Self { filter: Filter { keys, slot_bits, low, slots, samples: Vec::new() }, added: 0 }
    }

    /// The next hash, which is not smaller than the one before it. More than were announced are not taken.
    pub(super) fn add(&mut self, hash: u64) {
        let Filter { keys, slot_bits, low, slots, .. } = &mut self.filter;
        if self.added < *keys {
            let (slot, part) = split(hash, *slot_bits);
            let at = slot + self.added;
            slots[(at / WORD) as usize] |= 1 << (at % WORD);
            let bit = self.added * u64::from(LOW);
            let (word, shift) = ((bit / WORD) as usize, bit % WORD);
            low[word] |= part << shift;
            if shift + u64::from(LOW) > WORD {
                low[word + 1] |= part >> (WORD - shift);
            }
        }
        self.added += 1;
    }

    /// The filter; none when not as many hashes came as were announced.
    pub(super) fn finish(mut self) -> Option<Filter> {
        if self.added != self.filter.keys {
            return None;
        }
        self.filter.sample();
        Some(self.filter)
    }
}

impl Filter {
    /// Places of those that have the same first bits as a hash; almost always none when it is not there.
    pub(super) fn places(&self, hash: u64) -> std::ops::Range<u64> {
        let (slot, part) = split(hash, self.slot_bits);
        let begin = if slot == 0 { 0 } else { self.zero(slot - 1) + 1 };
        let mut from = begin - slot;
        let mut at = begin;
        while self.is_one(at) && self.low(from) < part {
            (at, from) = (at + 1, from + 1);
        }
        let mut to = from;
        while self.is_one(at) && self.low(to) == part {
            (at, to) = (at + 1, to + 1);
        }
        from..to
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        ((self.low.len() + self.slots.len()) * 8 + self.samples.len() * 4) as u64
    }

    /// As it is written to a file; the number of keys is written elsewhere.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        for word in self.slots.iter().chain(&self.low) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// From what was written like that; none when bytes are missing or left over.
    pub(super) fn decode(keys: u64, bytes: &[u8]) -> Option<Self> {
        let FilterBuilder { mut filter, .. } = FilterBuilder::new(keys);
        let words = filter.slots.len() + filter.low.len();
        if bytes.len() != words * 8 {
            return None;
        }
        let (read, _) = bytes.as_chunks::<8>();
        for (word, read) in filter.slots.iter_mut().chain(&mut filter.low).zip(read) {
            *word = u64::from_le_bytes(*read);
        }
        filter.sample();
        Some(filter)
    }

    fn sample(&mut self) {
        let (mut zeros, mut samples) = (0, Vec::new());
        for (number, word) in self.slots.iter().enumerate() {
            let here = u64::from(word.count_zeros());
            let wanted = samples.len() as u64 * SAMPLE;
            if wanted < zeros + here {
                samples.push((number as u64 * WORD + select(!word, wanted - zeros)) as u32);
            }
            zeros += here;
        }
        samples.shrink_to_fit();
        self.samples = samples;
    }

    /// Where a zero is, by its number.
    fn zero(&self, number: u64) -> u64 {
        let sample = u64::from(self.samples[(number / SAMPLE) as usize]);
        let (mut word, mut left) = ((sample / WORD) as usize, number % SAMPLE);
        let mut zeros = !self.slots[word] & (u64::MAX << (sample % WORD));
        while left >= u64::from(zeros.count_ones()) {
            left -= u64::from(zeros.count_ones());
            word += 1;
            zeros = !self.slots[word];
        }
        word as u64 * WORD + select(zeros, left)
    }

    fn is_one(&self, at: u64) -> bool {
        self.slots.get((at / WORD) as usize).is_some_and(|word| word >> (at % WORD) & 1 == 1)
    }

    fn low(&self, place: u64) -> u64 {
        let bit = place * u64::from(LOW);
        let (word, shift) = ((bit / WORD) as usize, bit % WORD);
        let both = u128::from(self.low[word]) | u128::from(self.low[word + 1]) << WORD;
        (both >> shift) as u64 & ((1 << LOW) - 1)
    }
}

/// The slot of a hash, and the bits behind it.
fn split(hash: u64, slot_bits: u32) -> (u64, u64) {
    (hash >> (u64::BITS - slot_bits), hash << slot_bits >> (u64::BITS - LOW))
}

/// Where the one with a number is in a word that has it.
fn select(mut word: u64, number: u64) -> u64 {
    for _ in 0..number {
        word &= word - 1;
    }
    u64::from(word.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(hashes: &[u64]) -> Filter {
        let mut builder = FilterBuilder::new(hashes.len() as u64);
        hashes.iter().for_each(|hash| builder.add(*hash));
        builder.finish().unwrap()
    }

    /// Numbers that look as if they were chosen at random.
    fn random(number: u64) -> u64 {
        u64::from_le_bytes(blake3::hash(&number.to_le_bytes()).as_bytes()[..8].try_into().unwrap())
    }

    fn hashes() -> impl Strategy<Value = Vec<u64>> {
        // Spread as hashes are, and crowded together as they could be at worst.
        let any = prop::collection::vec(any::<u64>(), 1..3_000);
        let crowded = prop::collection::vec(prop_oneof![0_u64..9_000, (u64::MAX - 9)..=u64::MAX], 1..3_000);
        prop_oneof![any, crowded]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_hash_is_among_the_places_that_are_given_and_all_of_those_look_like_it(mut hashes in hashes()) {
            hashes.sort_unstable();
            let filter = built(&hashes);
            let like = |hash: u64| {
                let bits = filter.slot_bits + LOW;
                let same = |other: &u64| other >> (64 - bits) == hash >> (64 - bits);
                let first = hashes.iter().position(same).map_or(0, |place| place as u64);
                first..first + hashes.iter().filter(|other| same(other)).count() as u64
            };
            for hash in hashes.iter().step_by(7).copied().chain((0..200).map(random)) {
                let (found, expected) = (filter.places(hash), like(hash));
                prop_assert_eq!(found.clone().count(), expected.clone().count());
                prop_assert!(found.is_empty() || found == expected);
            }
            let mut bytes = Vec::new();
            filter.encode(&mut bytes);
            prop_assert_eq!(Filter::decode(filter.keys, &bytes), Some(filter));
        }
    }

    #[test]
    fn a_key_takes_less_than_two_bytes_and_a_stranger_is_found_once_in_thousands() {
        const KEYS: u64 = 1 << 17;
        let mut hashes: Vec<u64> = (0..KEYS).map(random).collect();
        hashes.sort_unstable();
        let filter = built(&hashes);
        assert!(filter.bytes() * 100 < KEYS * 180, "{} bytes for {KEYS} keys", filter.bytes());
        let strangers = (KEYS..3 * KEYS).filter(|number| !filter.places(random(*number)).is_empty()).count();
        assert!((20..150).contains(&strangers), "{strangers} of {}", 2 * KEYS);
    }

    #[test]
    fn a_filter_is_made_of_as_many_hashes_as_were_announced_and_of_all_its_bytes() {
        let mut builder = FilterBuilder::new(3);
        builder.add(1);
        builder.add(2);
        assert_eq!(builder.finish(), None);
        let mut builder = FilterBuilder::new(1);
        builder.add(1);
        builder.add(2);
        assert_eq!(builder.finish(), None);
        let mut bytes = Vec::new();
        built(&[1, 2, 3]).encode(&mut bytes);
        assert_eq!(Filter::decode(3, &bytes[1..]), None);
    }
}
