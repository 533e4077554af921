//! The very bytes of version 2 as its nodes say them, with what they mean. They are positional: a field that is added, moved or
//! taken away is read as something else by a node of that version. So no line of `version2.golden` ever changes; where one does
//! not hold any longer, what it is made of was changed, and version 2 needs a copy of its own of how it was.

use serde::{Serialize, de::DeserializeOwned};

use super::*;

const GOLDEN: &str = include_str!("version2.golden");
const HEAD: usize = 2;
const CRC: usize = 4;

fn body(bytes: &[u8]) -> String {
    bytes[HEAD..bytes.len() - CRC].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Bytes {
    let head = &codec::encode_record(&())[..HEAD];
    let body = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    let mut record: Vec<u8> = head.iter().copied().chain(body).collect();
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record.into()
}

fn lines(kind: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    GOLDEN.lines().filter_map(move |line| line.strip_prefix(kind)?.strip_prefix(' ')?.split_once(' '))
}

/// Each line says the kind, the bytes, and what they mean.
fn check<T: Serialize + DeserializeOwned + std::fmt::Debug>(kind: &'static str) {
    let mut variants = 0u32;
    for (hex, meaning) in lines(kind) {
        let read: T = codec::decode_record(kind, &bytes(hex)).unwrap_or_else(|error| panic!("{meaning}: {error}"));
        assert_eq!(format!("{read:?}"), meaning, "see the beginning of this file");
        assert_eq!(body(&codec::encode_record(&read)), hex, "{meaning}: see the beginning of this file");
        assert!(body(&codec::encode_record(&variants)) == hex[..8], "{meaning} is not variant {variants}");
        variants += 1;
    }
    let beyond = codec::decode_record::<T>(kind, &codec::encode_record(&variants)).unwrap_err().to_string();
    assert!(
        beyond.contains("variant index"),
        "a {kind} has no line in version2.golden, the one numbered {variants}: {beyond}"
    );
}

#[test]
fn every_request_of_version_2_has_the_bytes_that_its_nodes_know() {
    check::<Request>("request");
}

#[test]
fn every_answer_of_version_2_has_the_bytes_that_its_nodes_know() {
    check::<Response>("response");
}

#[test]
fn every_error_of_version_2_has_the_bytes_that_its_nodes_know() {
    check::<Error>("error");
}

#[test]
fn what_a_node_of_version_2_asks_is_understood_and_can_be_asked_of_it() {
    for (hex, meaning) in lines("request") {
        let request = decode_request(&bytes(hex)).unwrap();
        assert_eq!(body(&encode_request(&request)), hex, "{meaning}");
    }
}

#[test]
fn what_a_node_of_version_2_answers_is_understood_and_can_be_answered_to_it() {
    for (hex, meaning) in lines("response") {
        let response = decode_response(&bytes(hex)).unwrap();
        assert_eq!(body(&encode_response(response)), hex, "{meaning}");
    }
}

#[test]
fn an_error_that_version_2_does_not_know_is_told_in_words_and_its_outcome_stays_what_it_is() {
    let told = |error: BrokerError| {
        let bytes = encode_response(super::super::Response::Refused(error));
        match decode_response(&bytes).unwrap() {
            super::super::Response::Refused(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let definite = told(BrokerError::NotUnderstood { node: "a".into(), what: "a field or a kind".into() });
    assert!(
        matches!(&definite, BrokerError::Internal { reason } if reason.contains("does not understand")),
        "{definite}"
    );
    let of_newer = |unknown| BrokerError::OfNewerVersion {
        code: "NEWEST".into(),
        text: "so it is".into(),
        unknown,
        retry_after_ms: 0,
    };
    assert!(told(of_newer(true)).outcome_unknown() && !told(of_newer(false)).outcome_unknown());
}
