//! What brokers say to each other, as bytes that were recorded for each version, with what they mean. Nodes of earlier
//! versions are in clusters that are being upgraded, so the file of a version that was released never changes. What is new is a
//! new field or kind, with a line of its own in the file of the newest version.

use prost::Message as _;

use super::*;
use crate::{
    broker::{Broker, BrokerError, NodeAddress, PeerMessage, PeerVersion},
    config::ServerConfig,
    store::MemoryStore,
};

/// By version.
static GOLDEN: [(u8, &str); 2] = [(3, include_str!("version3.golden")), (4, include_str!("version4.golden"))];

/// The lines of all versions.
fn lines(kind: &'static str) -> impl Iterator<Item = (Bytes, &'static str)> {
    GOLDEN.iter().flat_map(move |(_, golden)| of_kind(golden, kind))
}

fn lines_of(version: PeerVersion, kind: &'static str) -> impl Iterator<Item = (Bytes, &'static str)> {
    let (_, golden) = GOLDEN.iter().find(|(known, _)| *known == version.0).expect("it is recorded");
    of_kind(golden, kind)
}

fn of_kind(golden: &'static str, kind: &'static str) -> impl Iterator<Item = (Bytes, &'static str)> {
    let of_kind = move |line: &'static str| line.strip_prefix(kind)?.strip_prefix(' ')?.split_once(' ');
    golden.lines().filter_map(of_kind).map(|(hex, meaning)| (bytes(hex), meaning))
}

fn bytes(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The numbers of the fields at the beginning of messages of a version that are nothing but a `oneof`.
fn kinds_of(version: PeerVersion, kind: &'static str) -> Vec<u8> {
    let mut kinds: Vec<u8> = lines_of(version, kind).map(|(bytes, _)| bytes[0] >> 3).collect();
    kinds.dedup();
    kinds
}

#[test]
fn every_request_of_every_version_is_understood_and_said_in_the_same_bytes() {
    for (bytes, meaning) in lines("request") {
        let request = decode_request(bytes.clone()).unwrap_or_else(|error| panic!("{meaning}: {error}"));
        assert_eq!(format!("{request:?}"), meaning);
        assert_eq!(encode_request(&request), bytes, "{meaning}");
    }
    let kinds = kinds_of(PeerVersion::NEWEST, "request");
    assert_eq!(kinds, (1..=11).collect::<Vec<_>>(), "a kind of request has no line");
}

#[test]
fn every_request_needs_no_later_version_than_the_first_one_that_has_it() {
    let recorded = |version| lines_of(PeerVersion(version), "request").map(|(bytes, _)| bytes);
    let of_version_3: Vec<Bytes> = recorded(3).collect();
    for bytes in recorded(4) {
        let request = decode_request(bytes.clone()).unwrap();
        let first = if of_version_3.contains(&bytes) { 3 } else { 4 };
        assert_eq!(request.needs(), PeerVersion(first), "{request:?}");
    }
}

#[test]
fn every_answer_of_every_version_is_understood_and_said_in_the_same_bytes() {
    for (bytes, meaning) in lines("response") {
        let response = decode_response(bytes.clone()).unwrap_or_else(|error| panic!("{meaning}: {error}"));
        assert_eq!(format!("{response:?}"), meaning);
        assert_eq!(encode_response(&response), bytes, "{meaning}");
    }
    let kinds = kinds_of(PeerVersion::NEWEST, "response");
    assert_eq!(kinds, (1..=11).collect::<Vec<_>>(), "a kind of answer has no line");
}

#[tokio::test]
async fn a_node_of_version_3_is_answered_what_it_asks_in_version_3() {
    let broker = Broker::embedded(&ServerConfig::default(), Arc::new(MemoryStore::new())).await.unwrap();
    let (handler, from) = (broker.peer_handler(), NodeAddress { id: 7, name: "old".into(), ..Default::default() });
    let newest_error =
        lines_of(PeerVersion(3), "error").filter_map(|(bytes, _)| Some(peer::Error::decode(bytes).ok()?.kind));
    let newest_error = newest_error.max().unwrap();
    for (bytes, meaning) in lines_of(PeerVersion(3), "request") {
        let answer = handler(from.clone(), PeerMessage { version: PeerVersion(3), bytes }).await;
        assert_eq!(answer.version, PeerVersion(3), "{meaning}");
        match decode_response(answer.bytes).unwrap_or_else(|error| panic!("{meaning}: {error}")) {
            Response::Refused(error) => {
                assert!(error.to_wire().kind <= newest_error, "version 3 does not know {error:?}, to {meaning}");
                assert_ne!(error.code().as_str(), "UNIMPLEMENTED", "{meaning}");
            }
            Response::Unknown(reason) => panic!("{meaning}: {reason}"),
            _ => {}
        }
    }
    broker.stop().await;
}

/// The texts of errors may change, so those that are said now are not compared.
#[test]
fn every_error_of_every_version_is_understood_and_is_the_same_after_it_was_said() {
    let mut kinds = Vec::new();
    for (bytes, meaning) in lines("error") {
        let message = peer::Error::decode(bytes).unwrap();
        kinds.push(message.kind);
        let (code, unknown) = (message.code.clone(), message.outcome_unknown);
        let error = BrokerError::from_wire(message).unwrap_or_else(|error| panic!("{meaning}: {error}"));
        assert_eq!(format!("{error:?}"), meaning);
        let said = error.to_wire();
        assert_eq!((&said.code, said.outcome_unknown), (&code, unknown), "{meaning}");
        assert_eq!(BrokerError::from_wire(said).unwrap(), error);
    }
    kinds.sort_unstable();
    kinds.dedup();
    let mut next = 0;
    while peer::ErrorKind::try_from(next).is_ok() {
        next += 1;
    }
    assert_eq!(kinds, (0..next).collect::<Vec<_>>(), "a kind of error has no line");
}

/// A field of a newer version, of a number that this one does not use.
const NEWER: [u8; 3] = [0xf8, 0x3f, 1];

#[test]
fn a_request_with_a_field_or_a_kind_of_a_newer_version_is_refused_as_not_known() {
    let refused = |bytes: Vec<u8>| match decode_request(bytes.into()).unwrap_err() {
        Misread::Unknown(what) => what,
        Misread::Malformed(reason) => panic!("it is malformed: {reason}"),
    };
    let (bytes, _) = lines("request").next().unwrap();
    assert!(refused([&bytes[..], &NEWER].concat()).contains("field"));
    // Of nothing but a kind that is not known.
    assert!(refused(NEWER.to_vec()).contains("kind"));
    // Deep within it.
    let trim = [0x0a, 1, b'c', 0x10, 9];
    let operate = |trim: &[u8]| {
        let operation = [&[0x22, trim.len() as u8][..], trim].concat();
        [&[0x2a, operation.len() as u8][..], &operation].concat()
    };
    assert!(decode_request(operate(&trim).into()).is_ok());
    assert!(refused(operate(&[&trim[..], &NEWER].concat())).contains("field"));
}

#[test]
fn an_answer_may_say_more_than_is_known() {
    let answer = [&[0x30, 9][..], &NEWER].concat();
    assert!(matches!(decode_response(answer.into()), Ok(Response::Index(9))));
    assert!(matches!(decode_response(NEWER.to_vec().into()), Err(Misread::Unknown(_))));
}

#[test]
fn what_no_log_entry_may_hold_is_refused_before_it_gets_there() {
    let claim = |position| peer::KeyClaim { position, key: Some(peer::Bits128::default()), digest: 0 };
    let request = |keys| peer::Request {
        kind: Some(peer::request::Kind::Publish(peer::Publish {
            group: Some(peer::PublishGroup {
                keys,
                frame: Bytes::from_static(b"\n\x00\n\x00"),
                ..peer::PublishGroup::default()
            }),
            confirm: peer::Confirm::Commit.into(),
        })),
    };
    let read = |keys| decode_request(request(keys).encode_to_vec().into());
    assert!(read(vec![claim(0), claim(1)]).is_ok());
    for keys in [vec![claim(2)], vec![claim(1), claim(0)]] {
        assert!(matches!(read(keys), Err(Misread::Malformed(reason)) if reason.contains("out of place")));
    }
}

#[test]
fn a_request_that_would_become_more_than_a_message_may_be_is_not_decoded() {
    // A report takes two bytes on the wire, and many more in memory.
    let reports = [0x0a, 0].repeat(Limits::PEER_MESSAGE_BYTES / 32);
    let mut request = vec![0x22];
    prost::encoding::encode_varint(reports.len() as u64, &mut request);
    request.extend(&reports);
    assert!(request.len() < Limits::PEER_MESSAGE_BYTES / 8);
    let refused = decode_request(request.into()).unwrap_err();
    assert!(matches!(&refused, Misread::Malformed(reason) if reason.contains("the limit is")), "{refused}");
}

#[test]
fn a_published_message_shares_the_bytes_that_came() {
    let payload = vec![7; 1000];
    let message = crate::proto::v1::Message { payload: payload.into(), ..Default::default() };
    let group = crate::model::PublishGroup { frame: Frame::encode([&message]), ..Default::default() };
    let bytes = encode_request(&Request::Publish { group, confirm: crate::broker::Confirm::Commit });
    let came = bytes.as_ptr_range();
    let Request::Publish { group, .. } = decode_request(bytes).unwrap() else { panic!("it was a publish") };
    assert!(came.contains(&group.frame.bytes().as_ptr()));
}
