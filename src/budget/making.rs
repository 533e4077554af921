//! What decoding a message will make, found while its bytes come. A repeated field can cost two bytes on the wire and
//! hundreds in memory, so bytes that came say little of what they become. The walk follows only what can be repeated, in one
//! pass, and skips payloads without looking into them; which fields those are is generated from `proto/`.

use crate::proto::shapes::{self, Field, Shape};

/// Bytes that decoding makes of a whole request of a method, beside what came.
pub(crate) fn made_of(path: &str, message: &[u8]) -> usize {
    shapes::of(path).and_then(Making::of).map_or(0, |mut making| making.walk(message))
}

/// The walk through one message, wherever its bytes are cut.
pub(super) struct Making {
    shape: &'static Shape,
    /// Messages within the message that the walk is in, each with where it ends.
    within: Vec<(&'static Shape, usize)>,
    /// Bytes of the message that were seen.
    at: usize,
    /// Bytes that mean nothing here.
    skip: usize,
    expects: Expects,
    /// The number that is being read.
    number: u64,
    shift: u32,
    /// The decoder refuses what comes from here on.
    broken: bool,
    /// Bytes that decoding makes of what was seen, beside what came.
    pub(super) made: usize,
}

#[derive(Clone, Copy)]
enum Expects {
    Key,
    Varint,
    Length(Option<&'static Field>),
}

impl Making {
    /// None where nothing can be repeated.
    pub(super) fn of(shape: &'static Shape) -> Option<Self> {
        (!shape.fields.is_empty()).then(|| Self {
            shape,
            within: Vec::new(),
            at: 0,
            skip: 0,
            expects: Expects::Key,
            number: 0,
            shift: 0,
            broken: false,
            made: 0,
        })
    }

    /// The next message begins.
    pub(super) fn begin(&mut self) {
        self.within.clear();
        (self.at, self.skip, self.expects) = (0, 0, Expects::Key);
        (self.number, self.shift, self.broken, self.made) = (0, 0, false, 0);
    }

    /// Goes on through what comes next. Gives what that makes.
    pub(super) fn walk(&mut self, mut data: &[u8]) -> usize {
        let before = self.made;
        while !self.broken {
            let part = self.skip.min(data.len());
            (self.skip, self.at, data) = (self.skip - part, self.at + part, &data[part..]);
            let Some((byte, rest)) = data.split_first() else { break };
            if self.shift == 0 && matches!(self.expects, Expects::Key) {
                // As the decoder does it: what is within a message ends where it says, wherever that message ends.
                while self.within.last().is_some_and(|(_, end)| *end <= self.at) {
                    self.within.pop();
                }
            }
            (self.at, data) = (self.at + 1, rest);
            self.number |= u64::from(byte & 0x7f) << self.shift;
            if byte & 0x80 == 0 {
                self.shift = 0;
                let number = std::mem::take(&mut self.number);
                self.read(number);
            } else {
                self.shift += 7;
                self.broken = self.shift > 63;
            }
        }
        self.made - before
    }

    fn read(&mut self, number: u64) {
        match std::mem::replace(&mut self.expects, Expects::Key) {
            Expects::Key => self.read_key(number),
            Expects::Varint => {}
            Expects::Length(field) => {
                let length = usize::try_from(number).unwrap_or(usize::MAX);
                let Some(field) = field else {
                    self.skip = length;
                    return;
                };
                self.make(if field.packed { field.bytes.saturating_mul(length) } else { field.bytes });
                match field.of {
                    Some(shape) => self.within.push((shape, self.at.saturating_add(length))),
                    None => self.skip = length,
                }
            }
        }
    }

    fn read_key(&mut self, key: u64) {
        let Ok(key) = u32::try_from(key) else {
            self.broken = true;
            return;
        };
        let shape = self.within.last().map_or(self.shape, |(shape, _)| shape);
        let field = shape.fields.iter().find(|field| field.number == key >> 3);
        match key & 7 {
            2 => {
                self.expects = Expects::Length(field);
                return;
            }
            0 => self.expects = Expects::Varint,
            1 => self.skip = 8,
            5 => self.skip = 4,
            // Groups: the decoder skips what is in them.
            3 | 4 => return,
            _ => self.broken = true,
        }
        if let Some(field) = field {
            self.make(field.bytes);
        }
    }

    fn make(&mut self, bytes: usize) {
        self.made = self.made.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::v1::{
        Header, Message, PublishTransactionRequest, SettleRequest, Settlement, TransactionAck, TransactionMessage,
    };

    const TRANSACTION: &str = "/liminal.v1.Broker/PublishTransaction";

    fn made(path: &str, message: &[u8], cut: usize) -> usize {
        let mut making = Making::of(shapes::of(path).unwrap()).unwrap();
        message.chunks(cut).for_each(|part| {
            making.walk(part);
        });
        making.made
    }

    fn sum_of_sizes(request: &PublishTransactionRequest) -> usize {
        let headers = |message: &TransactionMessage| {
            message.message.as_ref().map_or(0, |message| size_of_val(&message.headers[..]))
        };
        size_of_val(&request.messages[..])
            + request.messages.iter().map(headers).sum::<usize>()
            + size_of_val(&request.acks[..])
            + request.acks.iter().map(|ack| size_of_val(&ack.tokens[..])).sum::<usize>()
    }

    fn transaction() -> PublishTransactionRequest {
        let header = Header { name: "n".repeat(200), value: "v".into() };
        let message = Message { payload: vec![10; 300].into(), headers: vec![header; 3], ..Message::default() };
        let message = TransactionMessage { channel: "c".into(), message: Some(message), expected_seq: Some(7) };
        let ack = TransactionAck { channel: "c".into(), consumer: "w".into(), tokens: vec!["t".into(); 5] };
        PublishTransactionRequest { messages: vec![message; 4], acks: vec![ack; 2], ..Default::default() }
    }

    #[test]
    fn what_is_found_is_no_less_than_what_is_made_and_not_much_more_wherever_the_bytes_are_cut() {
        let request = transaction();
        let (bytes, least) = (request.encode_to_vec(), sum_of_sizes(&request));
        let whole = made(TRANSACTION, &bytes, bytes.len());
        assert!((least..3 * least).contains(&whole), "{whole} of {least}");
        for cut in 1..bytes.len() {
            assert_eq!(made(TRANSACTION, &bytes, cut), whole, "in pieces of {cut}");
        }
    }

    #[test]
    fn empty_messages_of_two_bytes_are_counted_as_what_they_become() {
        let request = PublishTransactionRequest {
            messages: vec![TransactionMessage::default(); 1_000],
            ..PublishTransactionRequest::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(bytes.len(), 2_000);
        assert!(made(TRANSACTION, &bytes, 64) >= sum_of_sizes(&request));
        let settle = SettleRequest { settlements: vec![Settlement::default(); 1_000], ..SettleRequest::default() };
        let settled = made("/liminal.v1.Consumers/Settle", &settle.encode_to_vec(), 64);
        assert!(settled >= size_of_val(&settle.settlements[..]));
    }

    #[test]
    fn what_lies_beyond_the_end_of_what_is_around_it_is_counted_as_the_decoder_makes_it() {
        // A message of two bytes that claims to have one of many within it.
        let headers: Vec<u8> = [0x1a, 0].repeat(1_000);
        let mut bytes = vec![0x0a, 2, 0x12];
        prost::encoding::encode_varint(headers.len() as u64, &mut bytes);
        bytes.extend(&headers);
        assert!(made(TRANSACTION, &bytes, bytes.len()) >= 1_000 * size_of::<Header>());
    }

    #[test]
    fn payloads_are_not_looked_into_and_broken_bytes_end_the_walk() {
        let payload: Vec<u8> = [0x1a, 0].repeat(1_000);
        let message = Message { payload: payload.into(), ..Message::default() };
        let request = crate::proto::v1::PublishRequest { message: Some(message), ..Default::default() };
        assert_eq!(made("/liminal.v1.Broker/Publish", &request.encode_to_vec(), 7), 0);
        assert_eq!(made(TRANSACTION, &[0xff; 1_000], 7), 0);
        assert!(Making::of(shapes::of("/liminal.v1.Channels/GetChannel").unwrap()).is_none());
        assert!(shapes::of("/grpc.health.v1.Health/Check").is_none());
    }
}
