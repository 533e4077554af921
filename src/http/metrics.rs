//! Every metric that a node has, declared once: its name, how it moves, its labels, who tells it, and what it says. What is
//! served takes its texts from here, and docs/METRICS.md is written from here.

use crate::meter::Reading;

/// Names and values of labels; none for a single value.
pub type Labels = Vec<(&'static str, String)>;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts by how long something took, in seconds, from 0 at the start of the process.
    Histogram,
}

/// A metric's value for one combination of labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// Any number.
    Decimal(f64),
    /// Of a histogram.
    Times(Reading),
}

/// Which nodes tell a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// Each node, of itself.
    Node,
    /// The leader, of the whole cluster: so a sum over all nodes is right.
    Leader,
}

/// What is known of a metric before it has a value.
#[derive(Debug)]
pub struct Declared {
    /// Without the prefix `liminal_`, and without the suffix `_total` of counters.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Which nodes tell it.
    pub told_by: ToldBy,
    /// What it says.
    pub help: &'static str,
}

/// A metric as it is now.
#[derive(Debug)]
pub struct Metric {
    /// Which one.
    pub declared: &'static Declared,
    /// One value, or one for each combination of labels.
    pub values: Vec<(Labels, Value)>,
}

impl MetricKind {
    /// As both formats call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Declared {
    /// Its name as Prometheus sees it; of a histogram, without the suffixes of its series.
    pub fn exposed(&self) -> String {
        let suffix = if self.kind == MetricKind::Counter { "_total" } else { "" };
        format!("liminal_{}{suffix}", self.name)
    }

    /// With its only value.
    pub fn of(&'static self, value: u64) -> Metric {
        self.each(vec![(Labels::new(), value)])
    }

    /// With its only value, which is no whole number.
    pub fn of_decimal(&'static self, value: f64) -> Metric {
        self.with(vec![(Labels::new(), Value::Decimal(value))])
    }

    /// A histogram without labels; without a value where nothing is measured.
    pub fn of_times(&'static self, times: impl IntoIterator<Item = Reading>) -> Metric {
        self.each_times(times.into_iter().map(|times| (Labels::new(), times)).collect())
    }

    /// A histogram for each combination of labels.
    pub fn each_times(&'static self, times: Vec<(Labels, Reading)>) -> Metric {
        self.with(times.into_iter().map(|(labels, times)| (labels, Value::Times(times))).collect())
    }

    /// With one value for each combination of labels.
    pub fn each(&'static self, values: Vec<(Labels, u64)>) -> Metric {
        self.with(values.into_iter().map(|(labels, value)| (labels, Value::Number(value))).collect())
    }

    fn with(&'static self, values: Vec<(Labels, Value)>) -> Metric {
        debug_assert!(
            values.iter().all(|(labels, _)| labels.iter().map(|(name, _)| name).eq(self.labels)),
            "the labels of {} are {:?}",
            self.name,
            self.labels
        );
        Metric { declared: self, values }
    }
}

macro_rules! metrics {
    ($($name:ident = $kind:ident $text:literal $(by $($label:literal)+)?, $told_by:ident: $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $name: Declared = Declared {
                name: $text,
                kind: MetricKind::$kind,
                labels: &[$($($label),+)?],
                told_by: ToldBy::$told_by,
                help: $help,
            };
        )+

        /// All of them, in the order in which they are documented.
        pub static ALL: &[&Declared] = &[$(&$name),+];
    };
}

metrics! {
    BUILD_INFO = Gauge "build_info" by "version" "os" "arch", Node: "Always 1, with what runs here in the labels";
    READY = Gauge "ready", Node: "1 while clients should be sent here";
    UNWELL = Gauge "unwell" by "part", Node: "1 for a part of the node that does not work, which the log and /ready explain: raise an alarm above 0";
    RAFT_LEADER = Gauge "raft_leader", Node: "1 on the leader";
    CLUSTER_VERSION = Gauge "cluster_version", Node: "Version of the nodes' protocol that all nodes are known to speak, as this node's state says: it rises when the last node is upgraded";
    RAFT_TERM = Gauge "raft_term", Node: "Raft term";
    RAFT_COMMIT = Gauge "raft_commit", Node: "Index of the newest committed log entry";
    RAFT_APPLIED = Gauge "raft_applied", Node: "Index of the newest applied log entry";
    RAFT_LOG_ENTRIES = Gauge "raft_log_entries", Node: "Entries in the log";
    PEER_LAG_ENTRIES = Gauge "peer_lag_entries" by "node", Leader: "Entries of the leader's log that a node lacks, as far as it has said: raise an alarm where it grows";
    REFUSED_PEER_MESSAGES = Counter "refused_peer_messages", Node: "Messages and answers of other nodes that were refused because no node that works would send them";
    STATE_VERIFIED_INDEX = Gauge "state_verified_index", Node: "Log index at which the nodes' states were last compared";
    STATE_DIFFERING_NODES = Gauge "state_differing_nodes", Node: "Nodes whose state differed from that of the majority at that index: raise an alarm above 0";
    LOG_TIME_SECONDS = Gauge "log_time_seconds", Node: "The cluster's time of day, by which everything happens, in seconds since the Unix epoch";
    CLOCK_DIFFERENCE_MILLISECONDS = Gauge "clock_difference_milliseconds" by "node", Node: "How far a node's clock is from that time, in either direction: raise an alarm above 1000";
    STORE_LIVE_BYTES = Gauge "store_live_bytes", Node: "Bytes of the state on disk that are still needed";
    STORE_DISK_BYTES = Gauge "store_disk_bytes", Node: "Bytes of the state on disk";
    LOG_BYTES = Gauge "log_bytes", Node: "Bytes that the log takes on disk";
    DISK_FREE_BYTES = Gauge "disk_free_bytes", Node: "Bytes that the node may still write to the disk of its data directory; left out while the disk does not answer. Raise an alarm below 10 % of its size";
    DISK_SIZE_BYTES = Gauge "disk_size_bytes", Node: "Bytes of that disk";
    SCRUB_BYTES = Counter "scrub_bytes", Node: "Bytes of state and log that were read to look for damage";
    SCRUB_DAMAGED_FILES = Counter "scrub_damaged_files", Node: "Damaged files of state and log that were found";
    SCRUB_HEALED_FILES = Counter "scrub_healed_files", Node: "Damaged files that were repaired";
    SCRUB_UNHEALED_FILES = Gauge "scrub_unhealed_files", Node: "Files that are damaged now: raise an alarm above 0";
    SCRUB_COMPLETED_TIMESTAMP_SECONDS = Gauge "scrub_completed_timestamp_seconds", Node: "When everything had last been read, in seconds since the Unix epoch; 0: never";
    RESIDENT_MEMORY_BYTES = Gauge "resident_memory_bytes", Node: "Resident memory of the process";
    PROCESS_CPU_SECONDS = Counter "process_cpu_seconds", Node: "Seconds that the process has worked, on all processors together";
    PROCESS_START_TIMESTAMP_SECONDS = Gauge "process_start_timestamp_seconds", Node: "When the process started, in seconds since the Unix epoch";
    PROCESS_OPEN_DESCRIPTORS = Gauge "process_open_descriptors", Node: "File descriptors that the process has open";
    PROCESS_DESCRIPTORS_LIMIT = Gauge "process_descriptors_limit", Node: "File descriptors that the process may have open; left out where there is no limit. Raise an alarm when 90 % of it are open";
    KEYS_IN_MEMORY = Gauge "keys_in_memory", Node: "Idempotency keys that this node has in memory";
    KEY_FILES = Gauge "key_files", Node: "Files with the idempotency keys that are not in memory";
    KEY_FILE_BYTES = Gauge "key_file_bytes", Node: "Bytes of these files";
    KEY_FILTER_BYTES = Gauge "key_filter_bytes", Node: "Bytes of memory for the filters over these files";
    CONNECTIONS = Gauge "connections", Node: "Open client connections";
    CONNECTIONS_REFUSED = Counter "connections_refused", Node: "Client connections that were refused because of a limit";
    CONNECTIONS_EVICTED = Counter "connections_evicted" by "face" "why", Node: "Connections that were closed because their time was up or their room was needed";
    SUBSCRIPTIONS = Gauge "subscriptions", Node: "Live subscriptions on this node";
    IN_FLIGHT_BYTES = Gauge "in_flight_bytes", Node: "Bytes of publishes that are not answered yet";
    BUDGET_HELD = Gauge "budget_held" by "face" "what", Node: "What clients and other nodes hold: connections, open streams, bytes that are no whole request yet";
    BUDGET_REFUSED = Counter "budget_refused" by "face" "what" "why", Node: "What was refused, and which level was full, or that it came too slowly";
    TLS_CERTIFICATE_SECONDS_LEFT = Gauge "tls_certificate_seconds_left" by "table" "key" "serial", Node: "Seconds until a certificate of the node's files expires, 0 when it has: raise an alarm below a week";
    TLS_RELOAD_FAILURES = Counter "tls_reload_failures" by "table", Node: "Changed certificate files that could not be used, which the log explains: the old ones are still in use";
    TLS_HANDSHAKES_FAILED = Counter "tls_handshakes_failed" by "table", Node: "Connections that were refused for how they speak TLS, or for their certificate";
    ACCESS_REFUSED = Counter "access_refused" by "reason", Node: "Requests refused because of who asks: a rise of wrong tokens means that somebody tries them";
    ACCESS_WOULD_REFUSE = Counter "access_would_refuse", Node: "Requests let through that security.mode = enforce would refuse";
    QUOTA_REFUSED = Counter "quota_refused" by "token" "what", Node: "Requests refused because a token had as much as its roles allow, or more than its share while the node had little left (what = share); (others) sums up the tokens beyond limits.metric_series";
    PUBLISH_SECONDS = Histogram "publish_seconds" by "confirm", Node: "Publishes that this node was asked for and of which a message was acknowledged, from their acceptance to the answer, by what the answer waits for. With exemplars in OpenMetrics where a publish carries a traceparent";
    FORWARD_SECONDS = Histogram "forward_seconds", Node: "Publishes that this node has passed on to the leader, until the answer of the leader is there";
    SCHEMA_CHECK_SECONDS = Histogram "schema_check_seconds", Node: "Checks of a request's messages against the schema of their channel, with the wait for their turn";
    LOG_APPEND_SECONDS = Histogram "log_append_seconds", Node: "Appends of entries to this node's log, until they are durable here";
    LOG_SYNC_SECONDS = Histogram "log_sync_seconds", Node: "Syncs of the log to the disk; each is for all that was written before it";
    APPLY_SECONDS = Histogram "apply_seconds", Node: "Committed entries that this node has applied and stored, each";
    STORE_FOLD_SECONDS = Histogram "store_fold_seconds", Node: "Writes of what the store had gathered in memory to the disk";
    FAN_OUT_SECONDS = Histogram "fan_out_seconds", Node: "New messages of an entry, from the moment that this node takes the committed entry up until they are in the inbox of a subscriber here";
    DELIVERY_WAIT_SECONDS = Histogram "delivery_wait_seconds", Node: "Waits of publishes on the leader, behind the commit, until it is known whether their messages were handed to a subscriber";
    AUDIT_RECORDS = Counter "audit_records", Node: "Records of acts and refusals that are in the channel $audit";
    AUDIT_LOST = Counter "audit_lost" by "why", Node: "Acts and refusals that are not in the channel $audit, by why: the queue was full, they could not be published, a node of an earlier version held them back, or one address had too many refusals; raise an alarm for the first two";
    PUBLISHED_MESSAGES = Counter "published_messages", Node: "Messages acknowledged to clients of this node";
    DUPLICATE_MESSAGES = Counter "duplicate_messages", Node: "Messages whose key had been used before";
    FAILED_MESSAGES = Counter "failed_messages" by "code", Node: "Messages that were refused or whose outcome is unknown, by error code";
    REJECTED_MESSAGES = Counter "rejected_messages" by "channel", Node: "Messages that broke their channel's schema; (others) sums up the channels beyond limits.metric_series";
    QUARANTINE_DROPPED = Counter "quarantine_dropped", Node: "Messages that broke their channel's schema and that could not be put into its quarantine";
    UNROUTED_MESSAGES = Counter "unrouted_messages", Node: "Copies that rules did not make because they would have broken the schema of their channel";
    DELIVERED_MESSAGES = Counter "delivered_messages", Node: "Messages handed to this node's subscriptions";
    CHANNELS = Gauge "channels", Leader: "Channels";
    CHANNELS_NOT_SHOWN = Gauge "channels_not_shown", Leader: "Channels without series of their own, which (others) sums up: see limits.metric_series";
    CHANNEL_MESSAGES = Gauge "channel_messages" by "channel", Leader: "Messages that a channel holds";
    CHANNEL_BYTES = Gauge "channel_bytes" by "channel", Leader: "Bytes of the messages that a channel holds";
    CHANNEL_PUBLISHED_MESSAGES = Counter "channel_published_messages" by "channel", Leader: "Messages that a channel has taken since it was created";
    CHANNEL_PUBLISHED_BYTES = Counter "channel_published_bytes" by "channel", Leader: "Bytes of the messages that a durable channel has taken since it was created";
    CHANNEL_LIVE_KEYS = Gauge "channel_live_keys" by "channel", Leader: "Idempotency keys in a channel's window";
    CHANNEL_LIVE_KEYS_LIMIT = Gauge "channel_live_keys_limit" by "channel", Leader: "Idempotency keys that a channel may have; of (others), all of them together";
    LIVE_KEYS = Gauge "live_keys", Leader: "Idempotency keys in the windows of all channels";
    LIVE_KEYS_LIMIT = Gauge "live_keys_limit", Leader: "Idempotency keys that all channels together may have: raise an alarm when 80 % of it are used";
    LIVE_KEYS_MOST = Gauge "live_keys_most", Leader: "Idempotency keys of the channel that has most of them";
    LIVE_KEYS_MOST_LIMIT = Gauge "live_keys_most_limit", Leader: "Idempotency keys that a channel may have: raise an alarm when the channel with most has 80 % of it";
    CLAIMS_LIVE = Gauge "claims_live" by "namespace", Leader: "Claims that are held or completed; (others) sums up all but the limits.metric_series namespaces with most claims";
    CLAIMS_TAKEN = Counter "claims_taken", Leader: "Claims taken since the state began";
    CLAIMS_COMPLETED = Counter "claims_completed", Leader: "Claims completed with a receipt";
    CLAIMS_RELEASED = Counter "claims_released", Leader: "Claims given back";
    CLAIMS_EXPIRED = Counter "claims_expired", Leader: "Claims whose lease ended before they were completed or given back: workers were lost";
    CONSUMERS = Gauge "consumers", Leader: "Consumers of all channels";
    CONSUMERS_NOT_SHOWN = Gauge "consumers_not_shown", Leader: "Consumers without series of their own, which (others) sums up";
    CONSUMERS_LAG = Gauge "consumers_lag", Leader: "Messages that some consumer has not settled, of all consumers";
    CONSUMER_LAG = Gauge "consumer_lag" by "channel" "consumer", Leader: "Messages not settled, of the consumers furthest behind";
    CONSUMER_PENDING = Gauge "consumer_pending" by "channel" "consumer", Leader: "Messages handed out, or waiting to be handed out again";
    CONSUMER_OLDEST_AGE_SECONDS = Gauge "consumer_oldest_age_seconds" by "channel" "consumer", Leader: "Age of the oldest message that is not settled, 0 where there is none; not told of (others)";
    CONSUMER_DYING = Gauge "consumer_dying" by "channel" "consumer", Leader: "Messages given up that wait for their dead-letter channel";
    CONSUMER_REDELIVERIES = Counter "consumer_redeliveries" by "channel" "consumer", Leader: "Messages handed out again";
    CONSUMER_DEAD_LETTERS = Counter "consumer_dead_letters" by "channel" "consumer", Leader: "Messages given up";
    CONSUMER_LOST_MESSAGES = Counter "consumer_lost_messages" by "channel" "consumer", Leader: "Messages removed before they were settled";
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _};

    use super::*;
    use crate::documents;

    #[test]
    fn the_generated_reference_of_metrics_is_what_the_code_says() {
        let mut text = format!(
            "# Metrics\n\n{}\nWhat `/metrics` on the HTTP port says. Counters begin at 0 when the process starts, and their names \
             end in `_total`. Histograms begin at 0 too; they are in seconds, and have series that end in `_bucket`, `_sum` and \
             `_count`.\nWhat the leader tells is of the whole cluster: other nodes do not have these series, so a sum over \
             all nodes is right.\nWhich of them to raise an alarm on: [OPERATIONS.md](OPERATIONS.md#what-to-watch).\n\n\
             | Metric | Kind | Labels | Told by | What it says |\n|---|---|---|---|---|\n",
            documents::notice()
        );
        for declared in ALL {
            let kind = declared.kind.name();
            let told_by = if declared.told_by == ToldBy::Leader { "the leader" } else { "each node" };
            let labels: Vec<String> = declared.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, labels, help) = (declared.exposed(), labels.join(", "), declared.help);
            writeln!(text, "| `{name}` | {kind} | {labels} | {told_by} | {help} |").unwrap();
        }
        documents::hold("docs/METRICS.md", &text);
    }

    #[test]
    fn no_two_metrics_have_one_name() {
        let names: BTreeSet<String> = ALL.iter().map(|declared| declared.exposed()).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
