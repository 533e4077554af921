//! Encodings that outlive a process: log entries, stored batches, machine records, replies between nodes.
//!
//! Everything is wrapped in an envelope: format version (1 byte), kind (1 byte), body, CRC-32 (IEEE) of all before
//! it (4 bytes). All fixed-width numbers are little endian. Records are bincode in its legacy configuration, whose
//! fixed-width integers keep golden bytes readable; this module is the only user of bincode.
//!
//! A publish command's body is the length of its header (4 bytes), the header by bincode, then the frames as they
//! are, so that decoding slices them out of the entry without copying or walking them.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::model::{ChannelConfig, ChannelId, ChannelName, Command, Frame, KeyClaim, PublishGroup, StoredBatch};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;
const HEAD: usize = 2;
const CRC: usize = 4;
/// No record is larger; a length that claims more is refused before anything is allocated.
const MAX_RECORD: usize = 256 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_RECORD>> =
    bincode::config::legacy().with_limit::<MAX_RECORD>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Publish = 1,
    Command = 2,
    Batch = 3,
    Record = 4,
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than the smallest envelope, or than the body says.
    #[error("the {what} ends early")]
    Truncated {
        /// What was read.
        what: &'static str,
    },
    /// The checksum differs.
    #[error("the checksum of the {what} is wrong")]
    Checksum {
        /// What was read.
        what: &'static str,
    },
    /// Written by another version of liminal.
    #[error("the {what} has format version {found}; this liminal reads version {supported}")]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The version that can be read.
        supported: u8,
    },
    /// The body makes no sense.
    #[error("the {what} cannot be decoded: {detail}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
}

/// Commands other than publishes, as they are written. Append only: the order of the variants is the format.
#[derive(Debug, Serialize, Deserialize)]
enum WireCommand {
    CreateChannel { time_ms: u64, name: ChannelName, config: ChannelConfig },
    UpdateChannel { time_ms: u64, name: ChannelName, schema: Option<String>, dedup_window_ms: Option<u64> },
    DeleteChannel { time_ms: u64, name: ChannelName },
    Tick { time_ms: u64 },
    Checkpoint { time_ms: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
struct PublishHeader {
    time_ms: u64,
    groups: Vec<GroupHeader>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupHeader {
    channel: ChannelId,
    schema_id: u64,
    keys: Vec<KeyClaim>,
    frame_len: u64,
    frame_count: u32,
}

/// A log entry's bytes.
pub fn encode_command(command: &Command) -> Bytes {
    let command = match command.clone() {
        Command::Publish { time_ms, groups } => return encode_publish(time_ms, &groups),
        Command::CreateChannel { time_ms, name, config } => WireCommand::CreateChannel { time_ms, name, config },
        Command::UpdateChannel { time_ms, name, schema, dedup_window_ms } => {
            WireCommand::UpdateChannel { time_ms, name, schema, dedup_window_ms }
        }
        Command::DeleteChannel { time_ms, name } => WireCommand::DeleteChannel { time_ms, name },
        Command::Tick { time_ms } => WireCommand::Tick { time_ms },
        Command::Checkpoint { time_ms } => WireCommand::Checkpoint { time_ms },
    };
    let body = bincode_bytes(&command);
    seal(Kind::Command, body.len(), |out| out.put_slice(&body))
}

fn encode_publish(time_ms: u64, groups: &[PublishGroup]) -> Bytes {
    let header = PublishHeader {
        time_ms,
        groups: groups
            .iter()
            .map(|group| GroupHeader {
                channel: group.channel,
                schema_id: group.schema_id,
                keys: group.keys.clone(),
                frame_len: group.frame.bytes().len() as u64,
                frame_count: group.frame.count(),
            })
            .collect(),
    };
    let header = bincode_bytes(&header);
    let frames: usize = groups.iter().map(|group| group.frame.bytes().len()).sum();
    seal(Kind::Publish, 4 + header.len() + frames, |out| {
        out.put_u32_le(u32::try_from(header.len()).expect("a header is bounded by the entry's limits"));
        out.put_slice(&header);
        for group in groups {
            out.put_slice(group.frame.bytes());
        }
    })
}

/// The command of a log entry; frames share its bytes.
///
/// # Errors
/// When the bytes are no command of this version.
pub fn decode_command(bytes: &Bytes) -> Result<Command, CodecError> {
    const WHAT: &str = "log entry";
    let (kind, mut body) = open(WHAT, bytes)?;
    if kind == Kind::Command as u8 {
        return Ok(match from_bincode(WHAT, &body)? {
            WireCommand::CreateChannel { time_ms, name, config } => Command::CreateChannel { time_ms, name, config },
            WireCommand::UpdateChannel { time_ms, name, schema, dedup_window_ms } => {
                Command::UpdateChannel { time_ms, name, schema, dedup_window_ms }
            }
            WireCommand::DeleteChannel { time_ms, name } => Command::DeleteChannel { time_ms, name },
            WireCommand::Tick { time_ms } => Command::Tick { time_ms },
            WireCommand::Checkpoint { time_ms } => Command::Checkpoint { time_ms },
        });
    }
    expect_kind(WHAT, kind, Kind::Publish)?;
    let header_len = body.try_get_u32_le().map_err(|_| CodecError::Truncated { what: WHAT })? as usize;
    if header_len > body.len() {
        return Err(CodecError::Truncated { what: WHAT });
    }
    let header: PublishHeader = from_bincode(WHAT, &body.split_to(header_len))?;
    let mut groups = Vec::with_capacity(header.groups.len());
    for group in header.groups {
        let len = usize::try_from(group.frame_len).unwrap_or(usize::MAX);
        if len > body.len() {
            return Err(CodecError::Truncated { what: WHAT });
        }
        // The envelope's checksum covers the count, so the frame need not be walked.
        let frame = Frame::trusted(body.split_to(len), group.frame_count);
        groups.push(PublishGroup { channel: group.channel, schema_id: group.schema_id, keys: group.keys, frame });
    }
    Ok(Command::Publish { time_ms: header.time_ms, groups })
}

/// A stored batch's bytes.
pub fn encode_batch(batch: &StoredBatch) -> Bytes {
    seal(Kind::Batch, 28 + batch.frame.bytes().len(), |out| {
        out.put_u64_le(batch.first_seq);
        out.put_u64_le(batch.time_ms);
        out.put_u64_le(batch.schema_id);
        out.put_u32_le(batch.frame.count());
        out.put_slice(batch.frame.bytes());
    })
}

/// A stored batch; its frame shares the bytes.
///
/// # Errors
/// When the bytes are no batch of this version.
pub fn decode_batch(bytes: &Bytes) -> Result<StoredBatch, CodecError> {
    const WHAT: &str = "stored batch";
    let (kind, mut body) = open(WHAT, bytes)?;
    expect_kind(WHAT, kind, Kind::Batch)?;
    if body.len() < 28 {
        return Err(CodecError::Truncated { what: WHAT });
    }
    let (first_seq, time_ms, schema_id) = (body.get_u64_le(), body.get_u64_le(), body.get_u64_le());
    let count = body.get_u32_le();
    Ok(StoredBatch { first_seq, time_ms, schema_id, frame: Frame::trusted(body, count) })
}

/// Any small record (machine state, replies, marks), by bincode.
pub fn encode_record<T: Serialize>(record: &T) -> Bytes {
    let body = bincode_bytes(record);
    seal(Kind::Record, body.len(), |out| out.put_slice(&body))
}

/// Any small record; `what` names it in errors.
///
/// # Errors
/// When the bytes are no such record of this version.
pub fn decode_record<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let body = check(what, bytes)?;
    expect_kind(what, bytes[1], Kind::Record)?;
    from_bincode(what, &bytes[HEAD..HEAD + body])
}

fn seal(kind: Kind, body: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + body + CRC);
    out.put_u8(VERSION);
    out.put_u8(kind as u8);
    write(&mut out);
    let crc = crc32fast::hash(&out);
    out.put_u32_le(crc);
    out.freeze()
}

/// Checks the envelope and gives the length of the body.
fn check(what: &'static str, bytes: &[u8]) -> Result<usize, CodecError> {
    if bytes.len() < HEAD + CRC {
        return Err(CodecError::Truncated { what });
    }
    let (sealed, crc) = bytes.split_at(bytes.len() - CRC);
    // The version first: another version may have another checksum.
    if sealed[0] != VERSION {
        return Err(CodecError::Version { what, found: sealed[0], supported: VERSION });
    }
    if crc32fast::hash(sealed).to_le_bytes() != crc {
        return Err(CodecError::Checksum { what });
    }
    Ok(sealed.len() - HEAD)
}

fn open(what: &'static str, bytes: &Bytes) -> Result<(u8, Bytes), CodecError> {
    let body = check(what, bytes)?;
    Ok((bytes[1], bytes.slice(HEAD..HEAD + body)))
}

fn expect_kind(what: &'static str, found: u8, expected: Kind) -> Result<(), CodecError> {
    if found == expected as u8 {
        return Ok(());
    }
    Err(CodecError::Malformed { what, detail: format!("kind {found} where {} was expected", expected as u8) })
}

fn bincode_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::legacy())
        .expect("our types have no maps of unknown length and no failing serializers")
}

fn from_bincode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, CodecError> {
    let malformed = |detail: String| CodecError::Malformed { what, detail };
    let (value, read) =
        bincode::serde::decode_from_slice(body, CONFIG).map_err(|error| malformed(error.to_string()))?;
    if read == body.len() { Ok(value) } else { Err(malformed(format!("{} bytes are left over", body.len() - read))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Digest, Durability, KeyHash};
    use crate::proto::v1::Message;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn frame(payloads: &[&str]) -> Frame {
        let message = |payload: &&str| Message { payload: Bytes::from(payload.to_string()), ..Message::default() };
        Frame::encode(&payloads.iter().map(message).collect::<Vec<_>>())
    }

    fn commands() -> Vec<(Command, &'static str)> {
        let name: ChannelName = "orders".parse().unwrap();
        vec![
            (
                Command::Publish {
                    time_ms: 7,
                    groups: vec![PublishGroup {
                        channel: ChannelId(3),
                        schema_id: 2,
                        keys: vec![KeyClaim { position: 1, key: KeyHash([1; 16]), digest: Digest([2; 16]) }],
                        frame: frame(&["a", "bc"]),
                    }],
                },
                concat!(
                    "0101",
                    "58000000",
                    "0700000000000000",
                    "0100000000000000",
                    "0300000000000000",
                    "0200000000000000",
                    "0100000000000000",
                    "01000000",
                    "01010101010101010101010101010101",
                    "02020202020202020202020202020202",
                    "0b00000000000000",
                    "02000000",
                    "0a030a0161",
                    "0a040a026263",
                ),
            ),
            (
                Command::CreateChannel {
                    time_ms: 7,
                    name: name.clone(),
                    config: ChannelConfig {
                        durability: Durability::Ephemeral,
                        schema: Some("{}".into()),
                        dedup_window_ms: 9,
                    },
                },
                concat!(
                    "0102",
                    "00000000",
                    "0700000000000000",
                    "0600000000000000",
                    "6f7264657273",
                    "01000000",
                    "01",
                    "0200000000000000",
                    "7b7d",
                    "0900000000000000",
                ),
            ),
            (
                Command::UpdateChannel { time_ms: 7, name: name.clone(), schema: None, dedup_window_ms: Some(9) },
                concat!(
                    "0102",
                    "01000000",
                    "0700000000000000",
                    "0600000000000000",
                    "6f7264657273",
                    "00",
                    "010900000000000000"
                ),
            ),
            (
                Command::DeleteChannel { time_ms: 7, name },
                concat!("0102", "02000000", "0700000000000000", "0600000000000000", "6f7264657273"),
            ),
            (Command::Tick { time_ms: 7 }, concat!("0102", "03000000", "0700000000000000")),
            (Command::Checkpoint { time_ms: 7 }, concat!("0102", "04000000", "0700000000000000")),
        ]
    }

    #[test]
    fn every_command_has_the_bytes_that_older_logs_hold() {
        for (command, golden) in commands() {
            let bytes = encode_command(&command);
            assert_eq!(hex(&bytes[..bytes.len() - CRC]), golden, "{command:?}");
            assert_eq!(decode_command(&bytes).unwrap(), command);
        }
    }

    #[test]
    fn a_stored_batch_has_the_bytes_that_older_stores_hold() {
        let batch = StoredBatch { first_seq: 5, time_ms: 7, schema_id: 2, frame: frame(&["a"]) };
        let bytes = encode_batch(&batch);
        let golden = "0103050000000000000007000000000000000200000000000000010000000a030a0161";
        assert_eq!(hex(&bytes[..bytes.len() - CRC]), golden);
        assert_eq!(decode_batch(&bytes).unwrap(), batch);
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut bytes = encode_command(&Command::Tick { time_ms: 1 }).to_vec();
        bytes[0] = 2;
        let error = decode_command(&bytes.into()).unwrap_err();
        assert_eq!(error, CodecError::Version { what: "log entry", found: 2, supported: 1 });
    }

    #[test]
    fn a_flipped_bit_or_a_missing_tail_is_noticed() {
        for (command, _) in commands() {
            let bytes = encode_command(&command);
            for position in 1..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[position] ^= 0x10;
                assert!(decode_command(&flipped.into()).is_err());
                assert!(decode_command(&bytes.slice(..position)).is_err());
            }
        }
    }

    #[test]
    fn a_record_comes_back_and_leftovers_are_refused() {
        let bytes = encode_record(&(1u32, "x".to_owned()));
        assert_eq!(decode_record::<(u32, String)>("pair", &bytes).unwrap(), (1, "x".to_owned()));
        assert!(matches!(decode_record::<u32>("number", &bytes), Err(CodecError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_batch(&bytes.clone().into());
            let _ = decode_record::<Vec<String>>("record", &bytes);
            let _ = decode_command(&bytes.into());
        }

        #[test]
        fn a_sealed_body_of_arbitrary_bytes_never_panics(kind in 0u8..6, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = vec![VERSION, kind];
            bytes.extend(&body);
            let crc = crc32fast::hash(&bytes);
            bytes.extend(crc.to_le_bytes());
            let _ = decode_batch(&bytes.clone().into());
            let _ = decode_record::<Vec<String>>("record", &bytes);
            let _ = decode_command(&bytes.into());
        }
    }
}
