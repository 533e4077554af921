//! Channels: named, ordered streams of messages, and the catalogue of them that a node has applied.

use std::{borrow::Borrow, fmt, ops::Bound, str::FromStr, sync::Arc};

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use super::{ChannelId, Digest, RuleSet, canonical::canonical_json};
use crate::proto::v1;

/// Longest channel name in bytes.
pub const MAX_NAME: usize = 200;

/// The channel of the audit. Only the nodes publish to it, and whoever may administer the cluster reads it. Nobody can ask
/// for a channel of such a name, because no text is read as one.
pub const AUDIT_CHANNEL: &str = "$audit";

/// 1 to 200 of `[A-Za-z0-9._-]`, not `.` or `..`; or [`AUDIT_CHANNEL`]. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(Arc<str>);

/// Why a text is no channel name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing at all.
    #[error("a channel name must have at least one character")]
    Empty,
    /// More than 200 bytes.
    #[error("a channel name may have {MAX_NAME} characters; this one has {0}")]
    TooLong(usize),
    /// Reserved by file systems and URLs.
    #[error("`{0}` is no channel name: `.` and `..` are reserved")]
    Reserved(String),
    /// A character outside the allowed ones.
    #[error("`{name}` is no channel name: `{character}` is not one of A-Z a-z 0-9 . _ -")]
    Character {
        /// The whole text.
        name: String,
        /// The first offending character.
        character: char,
    },
}

impl ChannelName {
    /// That of [`AUDIT_CHANNEL`].
    pub fn audit() -> Self {
        Self(AUDIT_CHANNEL.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(InvalidName::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(InvalidName::Reserved(name.to_owned()));
        }
        match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(character) => Err(InvalidName::Character { name: name.to_owned(), character }),
            None => Ok(Self(name.into())),
        }
    }
}

impl TryFrom<String> for ChannelName {
    type Error = InvalidName;

    /// Of what a node has written, which may be a name that nobody can ask for.
    fn try_from(name: String) -> Result<Self, InvalidName> {
        if name == AUDIT_CHANNEL { Ok(Self::audit()) } else { name.parse() }
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a channel's stream in a store: `"<channel>:<partition>"`. There is one partition today.
pub fn stream_key(channel: &str) -> String {
    format!("{channel}:0")
}

/// Whether messages are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Stored on every node; an ack means fsynced on a majority.
    #[default]
    Durable,
    /// At most once, never stored.
    Ephemeral,
}

/// By what payloads under the same idempotency key are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// By their bytes.
    #[default]
    Bytes,
    /// By what they say as JSON; by their bytes where one is none.
    CanonicalJson,
}

impl Comparison {
    /// Of a payload: equal for payloads that are the same.
    pub fn digest(self, payload: &[u8]) -> Digest {
        match self {
            Self::CanonicalJson => Digest::of(canonical_json(payload).as_deref().unwrap_or(payload)),
            Self::Bytes => Digest::of(payload),
        }
    }
}

/// What a channel's creator chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredConfig", into = "StoredConfig")]
pub struct ChannelConfig {
    /// Whether messages are stored. Cannot change.
    pub durability: Durability,
    /// By what a retry is told from another message with the same key. Cannot change: the digests of the keys that are
    /// remembered are made by it.
    pub comparison: Comparison,
    /// JSON Schema text; none means that any payload is taken.
    pub schema: Option<String>,
    /// How long an idempotency key is remembered, milliseconds of log time.
    pub dedup_window_ms: u64,
    /// What a new schema has to be to the one before it.
    pub compatibility: Compatibility,
    /// What is kept.
    pub retention: Retention,
    /// The channel that gets samples of the messages which the schema refuses.
    pub quarantine: Option<ChannelName>,
    /// How much may be published.
    pub quota: Quota,
}

impl ChannelConfig {
    /// The default window: 24 hours.
    pub const DEFAULT_DEDUP_WINDOW_MS: u64 = 24 * 60 * 60 * 1000;
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            comparison: Comparison::Bytes,
            schema: None,
            dedup_window_ms: Self::DEFAULT_DEDUP_WINDOW_MS,
            compatibility: Compatibility::default(),
            retention: Retention::default(),
            quarantine: None,
            quota: Quota::default(),
        }
    }
}

/// A configuration as it is written. Older builds wrote its durability first and nothing of the comparison: what they can
/// say is written as they did, byte for byte. Append only.
#[derive(Serialize, Deserialize)]
enum StoredConfig {
    Durable(StoredChoices),
    Ephemeral(StoredChoices),
    WithComparison(Durability, Comparison, StoredChoices),
}

/// The rest of it.
#[derive(Serialize, Deserialize)]
struct StoredChoices {
    schema: Option<String>,
    dedup_window_ms: u64,
    compatibility: Compatibility,
    retention: Retention,
    quarantine: Option<ChannelName>,
    quota: Quota,
}

impl From<ChannelConfig> for StoredConfig {
    fn from(config: ChannelConfig) -> Self {
        let ChannelConfig {
            durability,
            comparison,
            schema,
            dedup_window_ms,
            compatibility,
            retention,
            quarantine,
            quota,
        } = config;
        let choices = StoredChoices { schema, dedup_window_ms, compatibility, retention, quarantine, quota };
        match (durability, comparison) {
            (Durability::Durable, Comparison::Bytes) => Self::Durable(choices),
            (Durability::Ephemeral, Comparison::Bytes) => Self::Ephemeral(choices),
            (durability, comparison) => Self::WithComparison(durability, comparison, choices),
        }
    }
}

impl From<StoredConfig> for ChannelConfig {
    fn from(stored: StoredConfig) -> Self {
        let (durability, comparison, choices) = match stored {
            StoredConfig::Durable(choices) => (Durability::Durable, Comparison::Bytes, choices),
            StoredConfig::Ephemeral(choices) => (Durability::Ephemeral, Comparison::Bytes, choices),
            StoredConfig::WithComparison(durability, comparison, choices) => (durability, comparison, choices),
        };
        let StoredChoices { schema, dedup_window_ms, compatibility, retention, quarantine, quota } = choices;
        Self { durability, comparison, schema, dedup_window_ms, compatibility, retention, quarantine, quota }
    }
}

/// What a new schema has to be to the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compatibility {
    /// It accepts all that the old one accepts: who reads by the new one can read what is stored.
    #[default]
    Backward,
    /// The old one accepts all that it accepts: who reads by the old one can read what comes.
    Forward,
    /// Both.
    Full,
    /// Anything.
    None,
}

/// What a channel keeps. Absent limits do not limit. All of it is decided by the log's time and content alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Messages.
    pub max_messages: Option<u64>,
    /// Encoded bytes of messages.
    pub max_bytes: Option<u64>,
    /// Milliseconds since a message was sequenced.
    pub max_age_ms: Option<u64>,
    /// What happens at the limit of messages or bytes.
    pub when_full: WhenFull,
    /// Messages go as soon as every consumer of the channel has acknowledged them.
    pub work_queue: bool,
    /// Of the messages that have the same value in the header of this name, only the last one is kept. Others are kept
    /// as without it.
    pub compact_by: Option<String>,
}

/// A schema that a channel has, or has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaVersion {
    /// Which schema, of all channels: what messages carry as the one that they were checked against.
    pub id: u64,
    /// The channel's first schema is version 1.
    pub version: u64,
    /// The log's time when the channel got it, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The JSON Schema.
    pub text: String,
}

impl From<SchemaVersion> for v1::SchemaVersion {
    fn from(schema: SchemaVersion) -> Self {
        let SchemaVersion { id, version, time_ms, text } = schema;
        Self { id, version, time_ms, schema: text }
    }
}

/// What happens to a publish that would exceed a channel's limit of messages or bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It is taken, and the oldest messages go.
    #[default]
    DropOldest,
    /// It is refused.
    RefuseNew,
}

/// How much may be published to a channel by all publishers together. Absent limits do not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Messages.
    pub messages_per_second: Option<u64>,
    /// Bytes of encoded messages.
    pub bytes_per_second: Option<u64>,
}

/// What to change of a channel's configuration. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelUpdate {
    /// The new schema; the empty text removes it.
    pub schema: Option<String>,
    /// The id of the schema that the new one was compared with; refused when the channel has another one.
    pub compared_with: Option<u64>,
    /// The new window in milliseconds.
    pub dedup_window_ms: Option<u64>,
    /// What the new and later schemas have to be.
    pub compatibility: Option<Compatibility>,
    /// The whole of it.
    pub retention: Option<Retention>,
    /// The new one; none removes it.
    pub quarantine: Option<Option<ChannelName>>,
    /// The whole of it.
    pub quota: Option<Quota>,
}

/// A channel as all nodes know it: what changes only by channel commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMeta {
    /// Its identity.
    pub id: ChannelId,
    /// Its name.
    pub name: ChannelName,
    /// What its creator chose.
    pub config: ChannelConfig,
    /// Grows with each schema that the channel gets, never reused; 0 means that there is none.
    pub schema_id: u64,
    /// Leader's time of creation, milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A channel's counters at some applied index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStats {
    /// First sequence number that is still stored.
    pub first_seq: u64,
    /// Sequence number of the next message.
    pub next_seq: u64,
    /// Idempotency keys in the window.
    pub live_keys: u64,
    /// Encoded bytes of the stored messages. An estimate where the first of them lies between two marks of retention.
    pub bytes: u64,
    /// Encoded bytes of all messages that were ever stored.
    pub appended_bytes: u64,
    /// The log's time of the newest message, milliseconds since the Unix epoch; 0 before the first one.
    pub newest_ms: u64,
}

/// All channels, and the rules between them, at some applied index. Copies share what is the same in both: each change
/// makes a new one beside those that readers still have.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    by_name: RedBlackTreeMapSync<ChannelName, Arc<ChannelMeta>>,
    rules: Arc<RuleSet>,
}

impl Catalog {
    /// The rules between channels.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Replaces the rules.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.rules = rules;
    }

    /// The channel of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<ChannelMeta>> {
        self.by_name.get(name)
    }

    /// All channels by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ChannelMeta>> {
        self.by_name.values()
    }

    /// The channels whose names are in a range, by name.
    pub fn range<'a>(&'a self, names: (Bound<&'a str>, Bound<&'a str>)) -> impl Iterator<Item = &'a Arc<ChannelMeta>> {
        self.by_name.range::<str, _>(names).map(|(_, meta)| meta)
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.by_name.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds or replaces a channel.
    pub fn insert(&mut self, meta: Arc<ChannelMeta>) {
        self.by_name.insert_mut(meta.name.clone(), meta);
    }

    /// Forgets a channel.
    pub fn remove(&mut self, name: &str) {
        self.by_name.remove_mut(name);
    }
}
