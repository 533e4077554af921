//! A row of messages over gRPC, each with its length in front, in frames that are cut anywhere. They count with their
//! bytes, and with what decoding makes of them beside these.

use super::making::Making;
use crate::proto::shapes::Shape;

/// In front of every message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;

/// Where the newest message of a row is.
#[derive(Default)]
pub(super) struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    known: usize,
    /// Bytes that the message lacks.
    lacks: usize,
    /// Bytes of it that are counted.
    counted: usize,
    /// What is larger is refused by the decoder.
    most: usize,
    /// The newest one is refused by the decoder.
    refused: bool,
    /// What they become, where that may be much more than their bytes.
    making: Option<Making>,
}

/// What a frame has brought of a row of messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// Bytes of messages that began and came whole, and of what is made of the end of one that had begun before.
    pub(super) whole: usize,
    /// Bytes of the message that has begun and is to come, and of what is made of it so far.
    pub(super) begun: usize,
    /// Bytes of a message that had begun before, and has come whole.
    pub(super) ended: usize,
    /// What was made of one of the messages by then, at most.
    pub(super) most_made: usize,
}

impl Messages {
    /// Messages of this shape, where it is known.
    pub(super) fn of_at_most(most: usize, shape: Option<&'static Shape>) -> Self {
        Self { most, making: shape.and_then(Making::of), ..Self::default() }
    }

    /// Whether one has begun that is not whole.
    pub(super) fn is_within(&self) -> bool {
        self.known > 0 || self.lacks > 0
    }

    /// Goes on through what comes next.
    pub(super) fn walk(&mut self, mut data: &[u8]) -> Brought {
        let mut brought = Brought::default();
        while !data.is_empty() {
            if self.lacks == 0 {
                let part = (PREFIX - self.known).min(data.len());
                self.prefix[self.known..self.known + part].copy_from_slice(&data[..part]);
                (self.known, data) = (self.known + part, &data[part..]);
                if self.known < PREFIX {
                    break;
                }
                let [_, length @ ..] = self.prefix;
                (self.known, self.lacks) = (0, u32::from_be_bytes(length) as usize);
                self.refused = self.lacks > self.most;
                if self.lacks > data.len() && !self.refused {
                    brought.begun += self.lacks;
                    self.counted = self.lacks;
                } else if !self.refused {
                    brought.whole += self.lacks;
                }
                if let Some(making) = &mut self.making {
                    making.begin();
                }
            }
            let part = self.lacks.min(data.len());
            if let Some(making) = self.making.as_mut().filter(|_| !self.refused) {
                let made = making.walk(&data[..part]);
                brought.most_made = brought.most_made.max(making.made);
                if self.counted > 0 && part < self.lacks {
                    brought.begun += made;
                    self.counted += made;
                } else {
                    brought.whole += made;
                }
            }
            (self.lacks, data) = (self.lacks - part, &data[part..]);
            if self.lacks == 0 {
                brought.ended += std::mem::take(&mut self.counted);
            }
        }
        brought
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat()
    }

    fn walked(data: &[u8], cut: usize) -> (Vec<Brought>, Messages) {
        let mut messages = Messages::of_at_most(1000, None);
        (data.chunks(cut).map(|part| messages.walk(part)).collect(), messages)
    }

    #[test]
    fn messages_are_found_wherever_they_are_cut() {
        let data = [message(0), message(10), message(300), message(2)].concat();
        for cut in 1..data.len() {
            let (brought, messages) = walked(&data, cut);
            let sum = |of: fn(&Brought) -> usize| brought.iter().map(of).sum::<usize>();
            assert_eq!(sum(|b| b.whole) + sum(|b| b.begun), 312, "in pieces of {cut}");
            assert_eq!(sum(|b| b.begun), sum(|b| b.ended), "in pieces of {cut}");
            assert!(!messages.is_within());
        }
        assert_eq!(walked(&data, data.len()).0, [Brought { whole: 312, ..Brought::default() }]);
    }

    #[test]
    fn what_is_made_of_a_message_counts_with_it_wherever_it_is_cut() {
        // Settlements of two bytes each.
        let empties = [0x1a, 0].repeat(100);
        let framed = [&[0][..], &(empties.len() as u32).to_be_bytes(), &empties].concat();
        let data = [&framed[..], &framed].concat();
        let shape = crate::proto::shapes::of("/liminal.v1.Consumers/Settle");
        let mut counts = Vec::new();
        for cut in [1, 7, 100, data.len()] {
            let mut messages = Messages::of_at_most(1000, shape);
            let brought: Vec<Brought> = data.chunks(cut).map(|part| messages.walk(part)).collect();
            let sum = |of: fn(&Brought) -> usize| brought.iter().map(of).sum::<usize>();
            counts.push(sum(|b| b.whole) + sum(|b| b.begun));
            assert_eq!(sum(|b| b.begun), sum(|b| b.ended), "in pieces of {cut}");
            let most = brought.iter().map(|brought| brought.most_made).max().unwrap();
            assert!(most >= 100 * size_of::<crate::proto::v1::Settlement>());
            assert_eq!(counts[0], 2 * (empties.len() + most), "in pieces of {cut}");
        }
        counts.dedup();
        assert_eq!(counts.len(), 1);
    }

    #[test]
    fn a_message_that_the_decoder_refuses_is_not_counted() {
        let (brought, messages) = walked(&message(1001), 10);
        assert!(brought.iter().all(|brought| *brought == Brought::default()) && !messages.is_within());
    }
}
