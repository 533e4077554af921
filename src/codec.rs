//! Encodings that outlive a process: log entries, stored batches, machine records, replies between nodes.
//!
//! Everything is wrapped in an envelope: format version (1 byte), kind (1 byte), body, CRC-32 (IEEE) of all before
//! it (4 bytes). All fixed-width numbers are little endian. Records are bincode in its legacy configuration, whose
//! fixed-width integers keep golden bytes readable; this module is the only user of bincode.
//!
//! A publish command's body is the length of its header (4 bytes), the header by bincode, then the frames as they
//! are, so that decoding slices them out of the entry without copying or walking them.

use std::borrow::Cow;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::model::{
    ChannelConfig, ChannelId, ChannelName, ChannelUpdate, Command, ConsumerOperation, Frame, KeyClaim, Made,
    MemberEvent, OnBehalf, Operation, Part, PeerVersion, PublishGroup, Route, StoredBatch, TokenId,
};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 3;
const HEAD: usize = 2;
const CRC: usize = 4;
/// Bytes of a stored batch before its messages.
const BATCH_HEAD: usize = 28;
/// Encoded bytes of a group's header without its keys and routes, about, and of one key.
const GROUP_LEN: usize = 64;
const KEY_LEN: usize = 28;
/// Most records are counters.
const RECORD_ESTIMATE: usize = 64;
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
    /// A batch with messages that have a time to live.
    ExpiringBatch = 5,
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
    UpdateChannel { time_ms: u64, name: ChannelName, update: ChannelUpdate },
    DeleteChannel { time_ms: u64, name: ChannelName },
    Tick { time_ms: u64 },
    Checkpoint { time_ms: u64 },
    Member { time_ms: u64, node: u64, name: String, event: MemberEvent },
    Operations { time_ms: u64, operations: Vec<Operation> },
    Calendar { time_ms: u64, ahead_ms: i64 },
    ChangeChannel { time_ms: u64, name: ChannelName, update: ChannelUpdate },
    RaiseVersion { time_ms: u64, version: PeerVersion },
    CreateChannelFor { time_ms: u64, name: ChannelName, config: ChannelConfig, token: TokenId },
}

#[derive(Debug, Serialize, Deserialize)]
struct PublishHeader<'a> {
    time_ms: u64,
    groups: Vec<GroupHeader<'a>>,
}

/// Borrows the claims when it is written, owns them when it is read.
#[derive(Debug, Serialize, Deserialize)]
struct GroupHeader<'a> {
    channel: ChannelId,
    schema_id: u64,
    rules_version: u64,
    expected_seq: Option<u64>,
    expires: bool,
    routes: Cow<'a, [Route]>,
    keys: Cow<'a, [KeyClaim]>,
    frame_len: u64,
    frame_count: u32,
}

/// A log entry's bytes.
pub fn encode_command(command: &Command) -> Bytes {
    let time_ms = command.time_ms();
    let command = match command {
        Command::Publish { groups, .. } => return encode_publish(time_ms, groups),
        Command::CreateChannel { name, config, .. } => {
            WireCommand::CreateChannel { time_ms, name: name.clone(), config: config.clone() }
        }
        Command::CreateChannelFor { name, config, token, .. } => {
            let (name, config) = (name.clone(), config.clone());
            WireCommand::CreateChannelFor { time_ms, name, config, token: *token }
        }
        Command::UpdateChannel { name, update, .. } => {
            WireCommand::UpdateChannel { time_ms, name: name.clone(), update: update.clone() }
        }
        Command::ChangeChannel { name, update, .. } => {
            WireCommand::ChangeChannel { time_ms, name: name.clone(), update: update.clone() }
        }
        Command::DeleteChannel { name, .. } => WireCommand::DeleteChannel { time_ms, name: name.clone() },
        Command::Tick { .. } => WireCommand::Tick { time_ms },
        Command::Checkpoint { .. } => WireCommand::Checkpoint { time_ms },
        Command::Member { node, name, event, .. } => {
            WireCommand::Member { time_ms, node: *node, name: name.clone(), event: event.clone() }
        }
        Command::Operations { operations, .. } => WireCommand::Operations { time_ms, operations: operations.clone() },
        Command::Calendar { ahead_ms, .. } => WireCommand::Calendar { time_ms, ahead_ms: *ahead_ms },
        Command::RaiseVersion { version, .. } => WireCommand::RaiseVersion { time_ms, version: *version },
    };
    seal(Kind::Command, RECORD_ESTIMATE, |out| write_bincode(&command, out))
}

fn encode_publish(time_ms: u64, groups: &[PublishGroup]) -> Bytes {
    debug_assert!(
        groups
            .iter()
            .all(|group| { positions_are_sound(group.keys.iter().map(|claim| claim.position), group.frame.count()) })
    );
    let header = PublishHeader {
        time_ms,
        groups: groups
            .iter()
            .map(|group| GroupHeader {
                channel: group.channel,
                schema_id: group.schema_id,
                rules_version: group.rules_version,
                expected_seq: group.expected_seq,
                expires: group.expires,
                routes: Cow::Borrowed(&group.routes),
                keys: Cow::Borrowed(&group.keys),
                frame_len: group.frame.len() as u64,
                frame_count: group.frame.count(),
            })
            .collect(),
    };
    let frames: usize = groups.iter().map(|group| group.frame.len()).sum();
    let keys: usize = groups.iter().map(|group| group.keys.len()).sum();
    let estimate = 20 + groups.len() * GROUP_LEN + keys * KEY_LEN + frames;
    seal(Kind::Publish, estimate, |out| {
        let start = out.len();
        out.put_u32_le(0);
        write_bincode(&header, out);
        let len = u32::try_from(out.len() - start - 4).expect("a header is bounded by the entry's limits");
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        for group in groups {
            group.frame.write(out);
        }
    })
}

/// Whether bytes may hold a command that is no publish: for looking through many without reading messages.
pub fn is_no_publish(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&(Kind::Command as u8))
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
            WireCommand::CreateChannelFor { time_ms, name, config, token } => {
                Command::CreateChannelFor { time_ms, name, config, token }
            }
            WireCommand::UpdateChannel { time_ms, name, update } => Command::UpdateChannel { time_ms, name, update },
            WireCommand::ChangeChannel { time_ms, name, update } => Command::ChangeChannel { time_ms, name, update },
            WireCommand::DeleteChannel { time_ms, name } => Command::DeleteChannel { time_ms, name },
            WireCommand::Tick { time_ms } => Command::Tick { time_ms },
            WireCommand::Checkpoint { time_ms } => Command::Checkpoint { time_ms },
            WireCommand::Member { time_ms, node, name, event } => Command::Member { time_ms, node, name, event },
            WireCommand::Operations { time_ms, operations } => {
                operations.iter().try_for_each(check_operation)?;
                Command::Operations { time_ms, operations }
            }
            WireCommand::Calendar { time_ms, ahead_ms } => Command::Calendar { time_ms, ahead_ms },
            WireCommand::RaiseVersion { time_ms, version } => Command::RaiseVersion { time_ms, version },
        });
    }
    expect_kind(WHAT, kind, Kind::Publish)?;
    let header_len = body.try_get_u32_le().map_err(|_| CodecError::Truncated { what: WHAT })? as usize;
    if header_len > body.len() {
        return Err(CodecError::Truncated { what: WHAT });
    }
    let header: PublishHeader<'static> = from_bincode(WHAT, &body.split_to(header_len))?;
    let mut groups = Vec::with_capacity(header.groups.len());
    for group in header.groups {
        let len = usize::try_from(group.frame_len).unwrap_or(usize::MAX);
        if len > body.len() {
            return Err(CodecError::Truncated { what: WHAT });
        }
        check_positions(&group.keys, &group.routes, group.frame_count)?;
        // The envelope's checksum covers the count, so the frame need not be walked.
        let frame = Frame::trusted(body.split_to(len), group.frame_count);
        groups.push(PublishGroup {
            channel: group.channel,
            schema_id: group.schema_id,
            rules_version: group.rules_version,
            expected_seq: group.expected_seq,
            expires: group.expires,
            routes: group.routes.into_owned(),
            keys: group.keys.into_owned(),
            frame,
        });
    }
    if !body.is_empty() {
        return Err(CodecError::Malformed { what: WHAT, detail: format!("{} bytes are left over", body.len()) });
    }
    Ok(Command::Publish { time_ms: header.time_ms, groups })
}

/// Refuses keys and routes of messages that are not there.
fn check_positions(keys: &[KeyClaim], routes: &[Route], count: u32) -> Result<(), CodecError> {
    let malformed = |whose: &str| CodecError::Malformed {
        what: "log entry",
        detail: format!("the {whose} of a group of {count} messages are out of place"),
    };
    if !positions_are_sound(keys.iter().map(|claim| claim.position), count) {
        return Err(malformed("keys"));
    }
    if !routes.iter().all(|route| positions_are_sound(route.positions.iter().copied(), count)) {
        return Err(malformed("routes"));
    }
    Ok(())
}

/// The same for a group that came from another node, before it can become a part of a log entry.
///
/// # Errors
/// When no log entry may hold it.
pub fn check_group(group: &PublishGroup) -> Result<(), CodecError> {
    check_positions(&group.keys, &group.routes, group.frame.count())
}

/// The same for an operation and its groups.
///
/// # Errors
/// When no log entry may hold it.
pub fn check_operation(operation: &Operation) -> Result<(), CodecError> {
    let check = check_group;
    match operation {
        Operation::Transaction(transaction) => transaction.parts.iter().try_for_each(|part| match part {
            Part::Publish(group) => check(group),
            Part::Ack { .. } | Part::Complete { .. } => Ok(()),
        }),
        Operation::Due(due) if due.ids.len() != due.group.frame.count() as usize => {
            let detail = format!("{} ids for {} messages that are due", due.ids.len(), due.group.frame.count());
            Err(CodecError::Malformed { what: "log entry", detail })
        }
        Operation::Due(due) => check(&due.group),
        Operation::Schedule(schedule) if schedule.messages.iter().any(|message| message.frame.count() != 1) => {
            let detail = "a message that is to wait is not one message".to_owned();
            Err(CodecError::Malformed { what: "log entry", detail })
        }
        Operation::Redrive(redrive) if !redrive.is_sound() => {
            let (letters, messages) = (redrive.count(), redrive.group.frame.count());
            let detail = format!("{messages} messages without keys for {letters} letters that are redriven");
            Err(CodecError::Malformed { what: "log entry", detail })
        }
        Operation::Redrive(redrive) => check(&redrive.group),
        Operation::Consumer(operation) | Operation::OnBehalf(OnBehalf { made: Made::Consumer(operation), .. }) => {
            check_letter(operation)
        }
        Operation::PutRule { .. }
        | Operation::DeleteRule { .. }
        | Operation::Schedule(_)
        | Operation::Claim(_)
        | Operation::OnBehalf(_)
        | Operation::Compact(_)
        | Operation::Reclaim(_)
        | Operation::Trim { .. }
        | Operation::Withdraw { .. }
        | Operation::LimitKeys { .. }
        | Operation::LimitState(_)
        | Operation::Security(_) => Ok(()),
    }
}

/// The same for what a consumer's operation publishes.
fn check_letter(operation: &ConsumerOperation) -> Result<(), CodecError> {
    match operation {
        ConsumerOperation::DeadLetter { letter: Some(letter), .. } => check_group(letter),
        ConsumerOperation::Keeping(inner) | ConsumerOperation::Judged { operation: inner, .. } => match &**inner {
            ConsumerOperation::Keeping(_) | ConsumerOperation::Judged { .. } => {
                let detail = "an operation on a consumer is wrapped twice".to_owned();
                Err(CodecError::Malformed { what: "log entry", detail })
            }
            inner => check_letter(inner),
        },
        _ => Ok(()),
    }
}

/// Whether the positions increase and lie within the frame: the machine's arithmetic relies on it.
fn positions_are_sound(mut positions: impl Iterator<Item = u32>, count: u32) -> bool {
    let mut next = 0;
    positions.all(|position| {
        let sound = (next..count).contains(&position);
        next = position.saturating_add(1);
        sound
    })
}

/// A stored batch's bytes.
pub fn encode_batch(batch: &StoredBatch) -> Bytes {
    let kind = if batch.expires { Kind::ExpiringBatch } else { Kind::Batch };
    seal(kind, BATCH_HEAD + batch.frame.len(), |out| {
        out.put_u64_le(batch.first_seq);
        out.put_u64_le(batch.time_ms);
        out.put_u64_le(batch.schema_id);
        out.put_u32_le(batch.frame.count());
        batch.frame.write(out);
    })
}

/// How many bytes a stored batch has.
pub fn encoded_batch_len(batch: &StoredBatch) -> usize {
    HEAD + BATCH_HEAD + batch.frame.len() + CRC
}

/// A stored batch; its frame shares the bytes.
///
/// # Errors
/// When the bytes are no batch of this version.
pub fn decode_batch(bytes: &Bytes) -> Result<StoredBatch, CodecError> {
    const WHAT: &str = "stored batch";
    let (kind, mut body) = open(WHAT, bytes)?;
    let expires = kind == Kind::ExpiringBatch as u8;
    if !expires {
        expect_kind(WHAT, kind, Kind::Batch)?;
    }
    if body.len() < BATCH_HEAD {
        return Err(CodecError::Truncated { what: WHAT });
    }
    let (first_seq, time_ms, schema_id) = (body.get_u64_le(), body.get_u64_le(), body.get_u64_le());
    let count = body.get_u32_le();
    Ok(StoredBatch { first_seq, time_ms, schema_id, expires, frame: Frame::trusted(body, count) })
}

/// Any small record (machine state, replies, marks), by bincode.
pub fn encode_record<T: Serialize>(record: &T) -> Bytes {
    seal(Kind::Record, RECORD_ESTIMATE, |out| write_bincode(record, out))
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

/// `estimate` is the likely length of the body; a longer one only costs another allocation.
fn seal(kind: Kind, estimate: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + estimate + CRC);
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

fn write_bincode<T: Serialize>(value: &T, out: &mut BytesMut) {
    bincode::serde::encode_into_std_write(value, &mut out.writer(), bincode::config::legacy())
        .expect("memory takes every write, and our types have no sequences of unknown length");
}

fn from_bincode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, CodecError> {
    let malformed = |detail: String| CodecError::Malformed { what, detail };
    let (value, read) =
        bincode::serde::decode_from_slice(body, CONFIG).map_err(|error| malformed(error.to_string()))?;
    if read == body.len() { Ok(value) } else { Err(malformed(format!("{} bytes are left over", body.len() - read))) }
}

#[cfg(test)]
mod tests;
