//! A row of messages over gRPC, each with its length in front, in frames that are cut anywhere.

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
}

/// What a frame has brought of a row of messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// Bytes of messages that began and came whole.
    pub(super) whole: usize,
    /// Bytes of the message that has begun and is to come.
    pub(super) begun: usize,
    /// Bytes of a message that had begun before, and has come whole.
    pub(super) ended: usize,
}

impl Messages {
    pub(super) fn of_at_most(most: usize) -> Self {
        Self { most, ..Self::default() }
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
                if self.lacks > data.len() && self.lacks <= self.most {
                    brought.begun = self.lacks;
                    self.counted = self.lacks;
                } else if self.lacks <= self.most {
                    brought.whole += self.lacks;
                }
            }
            let part = self.lacks.min(data.len());
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
        let mut messages = Messages::of_at_most(1000);
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
        assert_eq!(walked(&data, data.len()).0, [Brought { whole: 312, begun: 0, ended: 0 }]);
    }

    #[test]
    fn a_message_that_the_decoder_refuses_is_not_counted() {
        let (brought, messages) = walked(&message(1001), 10);
        assert!(brought.iter().all(|brought| *brought == Brought::default()) && !messages.is_within());
    }
}
