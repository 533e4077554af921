//! How much memory the parts of an encoded message will take, before it is decoded.
//!
//! A list of messages costs two bytes for each that is empty, and some hundred in memory once it is decoded. The decoder
//! knows no limit but that of bytes, and nobody may look at what it makes before all of it is made. So the parts of which a
//! list has many are counted first, each with what it takes beside its own texts and bytes.

use std::any::TypeId;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::v1;

/// What the parts of one request may take in memory, beside their texts and bytes.
const MOST: usize = 32 << 20;

/// A field with messages or texts.
struct Field {
    number: u32,
    /// Bytes that each takes in memory, about; none for one that stands there once, whose parts are counted.
    weight: usize,
    fields: &'static [Field],
}

const fn many(number: u32, weight: usize, fields: &'static [Field]) -> Field {
    Field { number, weight, fields }
}

const fn one(number: u32, fields: &'static [Field]) -> Field {
    Field { number, weight: 0, fields }
}

const HEADERS: u32 = 3;
const MESSAGE: &[Field] = &[many(HEADERS, size_of::<v1::Header>(), &[])];
/// Of a request, a reply, a message that is published alone, and one of a transaction.
const WITH_MESSAGE: &[Field] = &[one(2, MESSAGE)];
const TOKENS: &[Field] = &[many(3, size_of::<String>(), &[])];
const TRANSACTION: &[Field] = &[
    many(1, size_of::<v1::TransactionMessage>(), WITH_MESSAGE),
    many(3, size_of::<v1::TransactionAck>(), TOKENS),
    many(4, size_of::<v1::TransactionCompletion>(), &[]),
];
const SETTLE: &[Field] = &[many(3, size_of::<v1::Settlement>(), &[])];
const CONSUME: &[Field] = &[many(2, size_of::<v1::Settlement>(), &[])];

/// The fields of a request that has lists.
fn fields<T: 'static>() -> &'static [Field] {
    let of = TypeId::of::<T>();
    let is = |types: &[TypeId]| types.contains(&of);
    if is(&[TypeId::of::<v1::PublishTransactionRequest>()]) {
        TRANSACTION
    } else if is(&[
        TypeId::of::<v1::PublishRequest>(),
        TypeId::of::<v1::RequestRequest>(),
        TypeId::of::<v1::ReplyRequest>(),
    ]) {
        WITH_MESSAGE
    } else if is(&[TypeId::of::<v1::SettleRequest>()]) {
        SETTLE
    } else if is(&[TypeId::of::<v1::ConsumeRequest>()]) {
        CONSUME
    } else {
        &[]
    }
}

/// Whether the parts of an encoded request may be decoded. What is no request of that kind may: the decoder refuses it where
/// counting ends.
pub(crate) fn fit<T: 'static>(encoded: &[u8]) -> bool {
    let fields = fields::<T>();
    fields.is_empty() || count(encoded, fields, &mut 0, MOST)
}

/// How many headers an encoded message has.
pub(crate) fn headers(message: &[u8]) -> usize {
    const EACH: &[Field] = &[many(HEADERS, 1, &[])];
    let mut found = 0;
    count(message, EACH, &mut found, usize::MAX);
    found
}

/// False as soon as there are more.
fn count(mut encoded: &[u8], fields: &[Field], found: &mut usize, most: usize) -> bool {
    while !encoded.is_empty() {
        let Ok((number, wire)) = decode_key(&mut encoded) else { return true };
        let field = fields.iter().find(|field| field.number == number && wire == WireType::LengthDelimited);
        let Some(field) = field else {
            if skip_field(wire, number, &mut encoded, DecodeContext::default()).is_err() {
                return true;
            }
            continue;
        };
        let length = decode_varint(&mut encoded).ok().and_then(|length| usize::try_from(length).ok());
        let Some((inner, rest)) = length.and_then(|length| encoded.split_at_checked(length)) else { return true };
        encoded = rest;
        *found += field.weight;
        if *found > most || !field.fields.is_empty() && !count(inner, field.fields, found, most) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn message(headers: usize) -> v1::Message {
        v1::Message { payload: "x".into(), headers: vec![v1::Header::default(); headers], ..v1::Message::default() }
    }

    #[test]
    fn headers_are_counted_wherever_they_stand() {
        let mut encoded = message(2).encode_to_vec();
        assert_eq!(headers(&encoded), 2);
        // Encodings of one message may be put together.
        encoded.extend(message(1).encode_to_vec());
        assert_eq!(headers(&encoded), 3);
        // What cannot be read is the decoder's to refuse.
        assert_eq!((headers(b"\xff\xff\xff"), headers(b"")), (0, 0));
    }

    #[test]
    fn a_request_of_empty_parts_does_not_fit_long_before_it_is_as_large_as_requests_may_be() {
        let empty = |count: usize| v1::PublishTransactionRequest {
            messages: vec![v1::TransactionMessage::default(); count],
            ..v1::PublishTransactionRequest::default()
        };
        let usual = v1::PublishTransactionRequest {
            messages: vec![v1::TransactionMessage { message: Some(message(16)), ..Default::default() }; 4096],
            ..v1::PublishTransactionRequest::default()
        };
        assert!(fit::<v1::PublishTransactionRequest>(&usual.encode_to_vec()));
        assert!(!fit::<v1::PublishTransactionRequest>(&empty(1 << 18).encode_to_vec()));
        let tokens = v1::TransactionAck { tokens: vec![String::new(); 2 << 20], ..v1::TransactionAck::default() };
        let acks = v1::PublishTransactionRequest { acks: vec![tokens], ..v1::PublishTransactionRequest::default() };
        assert!(!fit::<v1::PublishTransactionRequest>(&acks.encode_to_vec()));
        let settle = v1::SettleRequest { settlements: vec![v1::Settlement::default(); 1 << 20], ..Default::default() };
        assert!(!fit::<v1::SettleRequest>(&settle.encode_to_vec()));
        let consume = v1::ConsumeRequest { settlements: settle.settlements, ..v1::ConsumeRequest::default() };
        assert!(!fit::<v1::ConsumeRequest>(&consume.encode_to_vec()));
        let publish = v1::PublishRequest { message: Some(message(1 << 20)), ..v1::PublishRequest::default() };
        assert!(!fit::<v1::PublishRequest>(&publish.encode_to_vec()));
    }
}
