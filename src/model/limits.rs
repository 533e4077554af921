//! Every limit in one place. All can be configured; the defaults suit a node of a few cores.

use std::time::Duration;

/// Messages that a consumer passes over because an earlier one of their key is not settled; a bit each. It is no setting: all
/// nodes refuse by it.
pub const CONSUMER_DEFERRED: u64 = 1 << 24;
/// Ordering keys of such messages that the leader remembers of one consumer, about 32 bytes each.
pub const CONSUMER_DEFERRED_KEYS: usize = 1 << 16;

/// What a node accepts and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one payload.
    pub message_bytes: usize,
    /// Messages in one batch of a publish stream, and in one log entry.
    pub batch_messages: usize,
    /// Bytes of one batch of a publish stream.
    pub batch_bytes: usize,
    /// Bytes of messages in one log entry; a single larger batch still fits.
    pub entry_bytes: usize,
    /// Bytes of the copies that rules make of the messages of one request, and of one log entry; and of the headers that a
    /// request repeats for each of its lines.
    pub copied_bytes: usize,
    /// Headers of one message.
    pub headers: usize,
    /// Bytes of all header names and values of one message, with its causal and trace context.
    pub header_bytes: usize,
    /// Bytes of an idempotency key.
    pub key_bytes: usize,
    /// Idempotency keys in a channel's window, at most 2^32 - 1. The leader's counts for all nodes.
    pub live_keys: u64,
    /// Bytes of memory that the idempotency keys of all channels may take: the first 2,097,152 count as 48 bytes each, all
    /// others as 2.25. The leader's counts for all nodes.
    pub key_memory: usize,
    /// Idempotency keys of all channels that a node holds in memory exactly, as far as [`Limits::key_memory`] goes; older
    /// ones are in files.
    pub hot_keys: u64,
    /// Channels.
    pub channels: u64,
    /// Rules between channels.
    pub rules: u64,
    /// Namespaces of claims.
    pub claim_namespaces: u64,
    /// Claims of one namespace that are held or completed; each costs about 200 bytes of memory.
    pub live_claims: u64,
    /// Bytes of a claim's receipt.
    pub receipt_bytes: usize,
    /// The shortest and the longest lease of a claim.
    pub claim_lease: (Duration, Duration),
    /// Consumers of all channels.
    pub consumers: u64,
    /// Consumers of one channel.
    pub consumers_per_channel: u64,
    /// Bytes of a consumer's name; never more than 200.
    pub consumer_name_bytes: usize,
    /// Messages that a consumer may have pending: those that members have, those that wait to come again, and as many as half
    /// of them that wait for an earlier one of their key. No consumer may be configured to have more in flight.
    pub consumer_pending: u64,
    /// Members of one consumer that are served at once.
    pub consumer_members: usize,
    /// Operations in one log entry.
    pub entry_operations: usize,
    /// Messages of one channel that wait for their time.
    pub delayed_messages: u64,
    /// Bytes of all messages that wait for their time.
    pub delayed_bytes: usize,
    /// Keys that one pass of a channel's compaction remembers, about 32 bytes each; the next one takes up where it ended.
    pub compaction_keys: usize,
    /// How far ahead the time of a delayed message may be.
    pub max_delay: Duration,
    /// Requests of a node's clients that wait for a reply.
    pub requests: usize,
    /// Requests on one connection that wait for a reply.
    pub requests_per_connection: usize,
    /// How long a request may ask to wait for its reply.
    pub request_timeout: Duration,
    /// Bytes of a JSON Schema.
    pub schema_bytes: usize,
    /// Bytes of the schemas of all channels together.
    pub all_schemas_bytes: usize,
    /// Schema nodes after references are followed.
    pub schema_nodes: usize,
    /// Steps that the check of one payload may take: a step is one schema object that is applied to one value.
    pub schema_steps: u64,
    /// Bytes of a compiled regular expression in a schema.
    pub schema_regex_bytes: usize,
    /// Nesting of a JSON payload.
    pub json_depth: usize,
    /// Violations reported for one payload.
    pub violations: usize,
    /// Client connections of a node; gRPC and HTTP have at most three quarters of them each.
    pub connections: usize,
    /// Client connections from one address to each of gRPC and HTTP; all of one IPv6 network of 64 bits are one address.
    pub connections_per_address: usize,
    /// Requests and streams of a node's clients that are open at once; one address has at most half of them.
    pub streams: usize,
    /// Requests and streams that are open at once on one connection.
    pub streams_per_connection: usize,
    /// Bytes of clients' requests that have not come whole or are not answered; one address has at most half of them.
    pub arriving_bytes: usize,
    /// Bytes that were read from clients' connections and belong to no request yet; one address has at most half of them.
    pub unread_bytes: usize,
    /// Bytes of answers that clients have not taken; one address has at most half of them.
    pub answer_bytes: usize,
    /// Channels that have series of their own in the metrics, and as many consumers and namespaces of claims; the others are
    /// summed up as `(others)`.
    pub metric_series: usize,
    /// Subscriptions on a node.
    pub subscriptions: usize,
    /// Subscriptions on one connection.
    pub subscriptions_per_connection: usize,
    /// Bytes buffered for one subscriber before it has to read from the store.
    pub subscriber_bytes: usize,
    /// Bytes of recent messages that a node keeps in memory for all channels' live subscribers.
    pub fanout_bytes: usize,
    /// Bytes of publishes that a node holds until they are answered.
    pub in_flight_bytes: usize,
    /// Bytes of publishes that one client connection may have unanswered; its streams are not read beyond that.
    pub connection_in_flight_bytes: usize,
    /// Messages that one client connection may publish in a second; off does not limit them.
    pub publisher_messages_per_second: Option<u64>,
    /// Bytes that one client connection may publish in a second; off does not limit them.
    pub publisher_bytes_per_second: Option<u64>,
    /// Bytes of one page of a read.
    pub page_bytes: usize,
    /// How long a publish waits for its outcome before it is reported as unknown.
    pub publish_timeout: Duration,
    /// How long an ack waits for other nodes' answers and for filters before `delivered` is left out.
    pub delivery_timeout: Duration,
    /// How long a read waits for its index, and a request for a leader.
    pub read_timeout: Duration,
    /// How long a read may ask to wait for the next message.
    pub long_poll: Duration,
    /// How long a new connection may take until its first request is there, and any request over HTTP until its head is.
    pub handshake_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a connection may take none of the bytes that wait to be sent.
    pub reader_timeout: Duration,
    /// What is on its way has to bring [`Limits::least_bytes_per_second`] in each of these times.
    pub slow_after: Duration,
    /// Bytes that a request or message has to bring in a second, on the average of [`Limits::slow_after`].
    pub least_bytes_per_second: usize,
    /// How often an idle connection is probed, and how long the answer may take.
    pub keepalive: (Duration, Duration),
}

impl Limits {
    /// The most that [`Limits::live_keys`] may be: a channel's keys are told apart by numbers of four bytes.
    pub const MOST_LIVE_KEYS: u64 = u32::MAX as u64;
    /// Letters that one step of a redrive moves, in one log entry.
    pub const REDRIVE_LETTERS: usize = 256;
    /// Bytes of them; a single larger letter still fits.
    pub const REDRIVE_BYTES: usize = 256 << 10;
    /// Letters that one call lists or moves; the next call goes on behind them.
    pub const LETTERS_PER_CALL: u64 = 4_096;
    /// Bytes of a dead-letter channel that one call looks through.
    pub const LETTER_BYTES_PER_CALL: usize = 16 << 20;
    /// How long one call goes on with further steps.
    pub const REDRIVE_TIME: Duration = Duration::from_secs(4);
    /// Restores that a channel remembers by name: where each of them left the history before it.
    pub const FORKS: usize = 64;
    /// Batches of `batch_messages` that one request may bring as lines.
    pub const REQUEST_BATCHES: usize = 16;
    /// Characters of one number in a payload or schema that is checked: more than any double needs, and few enough to
    /// calculate with.
    pub const MOST_NUMBER_BYTES: usize = 1024;
    /// Channels or consumers that one page lists.
    pub const LIST_ITEMS: usize = 1_000;
    /// Bytes of their schemas or filters; a single larger one still fits.
    pub const LIST_BYTES: usize = 1 << 20;
    /// Bytes of settled work behind an unsettled message that are worth taking out of a work queue.
    pub const RECLAIMED_AT_ONCE: u64 = 1 << 20;
    /// Acks, nacks and extensions that one request may bring: they are one log entry.
    pub const SETTLEMENTS: usize = 4_096;
    /// Files of idempotency keys that a node has open at once; it may have many more of them.
    pub const OPEN_KEY_FILES: usize = 128;
    /// Files of them that stay open, because they were removed while somebody read them.
    pub const KEPT_KEY_FILES: usize = 32;
    /// Headers that are kept of one message in JSON, before [`Limits::headers`] is looked at.
    pub const HEADERS_OF_JSON: usize = 4_096;
    /// Messages of one transaction in JSON, before [`Limits::batch_messages`] is looked at.
    pub const MESSAGES_OF_JSON: usize = 1 << 16;
    /// Texts of schemas, in bytes, that a node keeps in compiled form.
    pub const COMPILED_SCHEMA_BYTES: usize = 2 << 20;
    /// Judgements of one address that wait for their turn before publishers are told that its subscriptions are behind,
    /// instead of waiting for them.
    pub const JUDGEMENTS_AWAITED: usize = 64;
    /// The largest message between nodes: a log entry that holds one publish batch of the largest size, with room to spare.
    pub const PEER_MESSAGE_BYTES: usize = 64 << 20;
    /// Bytes of messages from other nodes that have not come whole, and of what decoding makes of them.
    pub const PEERS_ARRIVING_BYTES: usize = 2 * Self::PEER_MESSAGE_BYTES;
    /// Bytes that were read from other nodes' connections and that nobody has taken yet.
    pub const PEERS_UNREAD_BYTES: usize = 64 << 20;
    /// Connections that one node may have to another one; the oldest ends for one more.
    pub const CONNECTIONS_OF_NODE: usize = 16;
    /// Voters of a cluster: more make every publish slower and no cluster safer. Other nodes are learners.
    pub const MOST_VOTERS: usize = 7;
    /// Tokens of clients. As all limits of tokens and roles, it is the same in every configuration.
    pub const TOKENS: usize = 10_000;
    /// Roles.
    pub const ROLES: usize = 1_000;
    /// Roles of one token.
    pub const TOKEN_ROLES: usize = 16;
    /// Grants of one role.
    pub const ROLE_GRANTS: usize = 256;
    /// Invitations of nodes that have not expired.
    pub const INVITATIONS: usize = 100;
    /// How long an invitation of a node may last, milliseconds.
    pub const INVITATION_MS: u64 = 7 * 24 * 60 * 60 * 1000;
    /// Bytes of the description of a token or a role.
    pub const DESCRIPTION_BYTES: usize = 256;
    /// Bytes of the name by which a client's certificate is known.
    pub const CERTIFICATE_NAME_BYTES: usize = 512;
    /// Addresses from which wrong tokens came lately that a node remembers.
    pub const GUESSING_ADDRESSES: usize = 4_096;
    /// Records of the audit that wait to be published; further ones are in the node's log only.
    pub const AUDIT_WAITING: usize = 1_024;
    /// Refusals of wrong tokens that wait for their delay; further ones are told at once.
    pub const DELAYED_REFUSALS: usize = 1_024;
    /// Moments of which a node keeps its figures for the console, two seconds apart: fifteen minutes.
    pub const HISTORY_SAMPLES: usize = 450;
    /// What a live key in memory is reckoned at, where memory is limited.
    pub const KEY_BYTES: u64 = 48;
    /// What keys in files are reckoned at: so many bytes of memory for so many keys.
    pub const COLD_KEY_BYTES: (u64, u64) = (9, 4);
    /// So many keys are reckoned as if they were in memory, because some always are: the newest, and those that are being
    /// moved into a file.
    pub const ALWAYS_HOT_KEYS: u64 = 1 << 21;

    /// Bytes of the smallest page.
    const LEAST_PAGE: usize = 16 << 10;

    /// A connection may have at most this part of the node's bytes in flight.
    const CONNECTION_SHARE: usize = 4;

    /// Bytes of publishes that one connection may have unanswered: never so many that others find no room.
    pub fn connection_room(&self) -> usize {
        self.connection_in_flight_bytes.min(self.in_flight_bytes / Self::CONNECTION_SHARE)
    }

    /// Bytes of a page that one of so many subscriptions reads from the store. Each holds one, and one more ahead, for as
    /// long as its reader takes; all of them together what answers may have.
    pub fn page_of(&self, subscriptions: u64) -> usize {
        let subscriptions = usize::try_from(subscriptions).unwrap_or(usize::MAX).max(1);
        self.page_bytes.min((self.answer_bytes / 2 / subscriptions).max(Self::LEAST_PAGE))
    }

    /// What the configuration says of idempotency keys: how many a channel may have, and how many all together.
    pub fn most_keys(&self) -> (u64, u64) {
        let memory = self.key_memory as u64;
        let hot = (memory / Self::KEY_BYTES).min(Self::ALWAYS_HOT_KEYS);
        let (bytes, keys) = Self::COLD_KEY_BYTES;
        let cold = (memory - hot * Self::KEY_BYTES) / bytes * keys;
        let cold = if hot == Self::ALWAYS_HOT_KEYS { cold } else { 0 };
        (self.live_keys.min(Self::MOST_LIVE_KEYS), hot + cold)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            batch_messages: 4096,
            batch_bytes: 4 << 20,
            entry_bytes: 1 << 20,
            copied_bytes: 32 << 20,
            headers: 64,
            header_bytes: 16 << 10,
            key_bytes: 128,
            live_keys: 432_000_000,
            key_memory: 1 << 30,
            hot_keys: 1 << 24,
            channels: 100_000,
            rules: 1_000,
            claim_namespaces: 1_000,
            live_claims: 1_000_000,
            receipt_bytes: 16 << 10,
            claim_lease: (Duration::from_millis(100), Duration::from_secs(24 * 60 * 60)),
            consumers: 100_000,
            consumers_per_channel: 50_000,
            consumer_name_bytes: 200,
            consumer_pending: 10_000,
            consumer_members: 1_000,
            entry_operations: 1_024,
            delayed_messages: 100_000,
            delayed_bytes: 256 << 20,
            compaction_keys: 1_000_000,
            max_delay: Duration::from_secs(366 * 24 * 60 * 60),
            requests: 10_000,
            requests_per_connection: 1_000,
            request_timeout: Duration::from_secs(300),
            schema_bytes: 64 << 10,
            all_schemas_bytes: 16 << 20,
            schema_nodes: 10_000,
            schema_steps: 500_000,
            schema_regex_bytes: 1 << 20,
            json_depth: 128,
            violations: 100,
            connections: 10_000,
            connections_per_address: 256,
            streams: 32_768,
            streams_per_connection: 2_048,
            arriving_bytes: 64 << 20,
            unread_bytes: 32 << 20,
            answer_bytes: 64 << 20,
            metric_series: 100,
            subscriptions: 10_000,
            subscriptions_per_connection: 1_000,
            subscriber_bytes: 8 << 20,
            fanout_bytes: 64 << 20,
            in_flight_bytes: 64 << 20,
            connection_in_flight_bytes: 16 << 20,
            publisher_messages_per_second: None,
            publisher_bytes_per_second: None,
            page_bytes: 1 << 20,
            publish_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(5),
            long_poll: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            reader_timeout: Duration::from_secs(60),
            slow_after: Duration::from_secs(10),
            least_bytes_per_second: 1 << 10,
            keepalive: (Duration::from_secs(20), Duration::from_secs(10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_many_subscriptions_are_smaller_so_that_all_of_them_fit() {
        let limits = Limits::default();
        assert_eq!([0, 1, 32].map(|count| limits.page_of(count)), [limits.page_bytes; 3]);
        for count in [33, 100, 1_000] {
            assert!(2 * count as usize * limits.page_of(count) <= limits.answer_bytes);
        }
        assert_eq!(limits.page_of(u64::MAX), Limits::LEAST_PAGE);
    }
}
