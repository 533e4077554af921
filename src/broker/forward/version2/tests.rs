//! The very bytes of what brokers say to each other. They are positional: a field that is added, moved or taken away, or a variant
//! that is not the last one, is read as something else by a node of another build, and nothing says so but the version of the
//! nodes' handshake (`raft/handshake.rs`).
//!
//! So when a line of `wire.golden` does not hold any longer: raise `NEWEST` and `OLDEST` of the handshake, unless that has been
//! done since the last release, and then write down the new line. A new variant comes last and gets a line of its own.

use serde::{Serialize, de::DeserializeOwned};

use super::*;

const GOLDEN: &str = include_str!("wire.golden");
const HEAD: usize = 2;
const CRC: usize = 4;

fn body<T: Serialize>(record: &T) -> String {
    let bytes = codec::encode_record(record);
    bytes[HEAD..bytes.len() - CRC].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Bytes {
    let head = &codec::encode_record(&())[..HEAD];
    let body = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    let mut record: Vec<u8> = head.iter().copied().chain(body).collect();
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record.into()
}

/// Each line says the kind, the bytes, and what they mean.
fn check<T: Serialize + DeserializeOwned + std::fmt::Debug>(kind: &'static str) {
    let lines = GOLDEN.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')?.split_once(' '));
    let mut variants = 0u32;
    for (hex, meaning) in lines {
        let read: T = codec::decode_record(kind, &bytes(hex)).unwrap_or_else(|error| panic!("{meaning}: {error}"));
        assert_eq!(format!("{read:?}"), meaning, "see the beginning of this file");
        assert_eq!(body(&read), hex, "{meaning}: see the beginning of this file");
        assert!(body(&variants) == hex[..8], "{meaning} is not variant {variants}");
        variants += 1;
    }
    let beyond = codec::decode_record::<T>(kind, &codec::encode_record(&variants)).unwrap_err().to_string();
    assert!(
        beyond.contains("variant index"),
        "a {kind} has no line in wire.golden, the one numbered {variants}: {beyond}"
    );
}

#[test]
fn every_request_between_brokers_has_the_bytes_that_its_version_of_the_handshake_stands_for() {
    check::<Request>("request");
}

#[test]
fn every_answer_between_brokers_has_the_bytes_that_its_version_of_the_handshake_stands_for() {
    check::<Response>("response");
}

#[test]
fn every_error_has_the_bytes_that_its_version_of_the_handshake_stands_for() {
    check::<BrokerError>("error");
}
