//! Every field of a node's configuration with its key, once: reading and showing both walk over this list.

use super::{
    ClusterConfig, PeerTlsConfig, RaftConfig, ScrubConfig, SecurityConfig, ServerConfig, StoreConfig, TlsConfig,
    reader::Visitor,
};
use crate::model::Limits;

/// Everything but channels, rules and the cluster, which may be missing or come many times.
pub(super) fn server(config: &mut ServerConfig, v: &mut dyn Visitor) {
    v.address("listen_address", &mut config.listen_address);
    v.address("health_listen_address", &mut config.health_listen_address);
    v.optional_address("advertise_address", &mut config.advertise_address);
    v.optional_address("advertise_http_address", &mut config.advertise_http_address);
    v.texts("allowed_origins", &mut config.allowed_origins);
    v.milliseconds("drain_timeout_ms", &mut config.drain_timeout);
    v.boolean("ephemeral_node", &mut config.ephemeral_node);
    v.table("limits", &mut |v| limits(&mut config.limits, v));
    v.table("store", &mut |v| store(&mut config.store, v));
    v.table("raft", &mut |v| raft(&mut config.raft, v));
    v.table("scrub", &mut |v| scrub(&mut config.scrub, v));
    v.table("tls", &mut |v| tls(&mut config.tls, v));
    v.table("peer_tls", &mut |v| peer_tls(&mut config.peer_tls, v));
    v.table("security", &mut |v| security(&mut config.security, v));
}

pub(super) fn cluster(config: &mut ClusterConfig, v: &mut dyn Visitor) {
    let mut name = Some(std::mem::take(&mut config.node_name)).filter(|name| !name.is_empty());
    v.optional("node_name", &mut name);
    config.node_name = name.unwrap_or_default();
    v.address("listen_address", &mut config.listen_address);
    v.optional_address("advertise_address", &mut config.advertise_address);
    v.texts("seed_nodes", &mut config.seed_nodes);
    v.boolean("auto_promote", &mut config.auto_promote);
    v.optional_duration("remove_departed_after", &mut config.remove_departed_after);
    let mut join = config.join.name().to_owned();
    v.text("join", &mut join);
    config.join = join.parse().unwrap_or(config.join);
}

fn store(config: &mut StoreConfig, v: &mut dyn Visitor) {
    v.size("memtable_bytes", &mut config.memtable_bytes);
    v.duration("fold_interval", &mut config.fold_interval);
    v.size("cache_bytes", &mut config.cache_bytes);
}

fn raft(config: &mut RaftConfig, v: &mut dyn Visitor) {
    v.duration("heartbeat", &mut config.heartbeat);
    v.duration("election_min", &mut config.election.0);
    v.duration("election_max", &mut config.election.1);
    v.size("log_cache_bytes", &mut config.log_cache_bytes);
    v.count("log_keep_entries", &mut config.log_keep_entries);
    v.size("log_keep_bytes", &mut config.log_keep_bytes);
}

fn security(config: &mut SecurityConfig, v: &mut dyn Visitor) {
    // What cannot be read stays as it is; whoever reads a file is told so.
    let mut mode = config.mode.name().to_owned();
    v.text("mode", &mut mode);
    config.mode = mode.parse().unwrap_or(config.mode);
    v.boolean("insecure", &mut config.insecure);
    let mut hash = config.bootstrap_token_hash.map(|hash| hash.to_string());
    v.optional("bootstrap_token_hash", &mut hash);
    config.bootstrap_token_hash = hash.and_then(|hash| hash.parse().ok());
    v.boolean("core_dumps", &mut config.core_dumps);
    let mut audit = config.audit.name().to_owned();
    v.text("audit", &mut audit);
    config.audit = audit.parse().unwrap_or(config.audit);
    v.optional_duration("audit_max_age", &mut config.audit_max_age);
    v.size("audit_max_bytes", &mut config.audit_max_bytes);
}

fn scrub(config: &mut ScrubConfig, v: &mut dyn Visitor) {
    v.size("bytes_per_second", &mut config.bytes_per_second);
    v.optional_duration("interval", &mut config.interval);
}

fn tls(config: &mut TlsConfig, v: &mut dyn Visitor) {
    v.optional("cert", &mut config.cert);
    v.optional("key", &mut config.key);
    v.optional("client_ca", &mut config.client_ca);
    v.optional("crl", &mut config.crl);
    v.boolean("require_client_cert", &mut config.require_client_cert);
    v.text("min_version", &mut config.min_version);
}

fn peer_tls(config: &mut PeerTlsConfig, v: &mut dyn Visitor) {
    v.optional("mode", &mut config.mode);
    v.optional("cert", &mut config.cert);
    v.optional("key", &mut config.key);
    v.optional("ca", &mut config.ca);
    v.optional("crl", &mut config.crl);
}

fn limits(limits: &mut Limits, v: &mut dyn Visitor) {
    let mut number = |key, field: &mut usize| {
        let mut count = *field as u64;
        v.count(key, &mut count);
        *field = usize::try_from(count).unwrap_or(usize::MAX);
    };
    number("batch_messages", &mut limits.batch_messages);
    number("entry_operations", &mut limits.entry_operations);
    number("headers", &mut limits.headers);
    number("consumer_members", &mut limits.consumer_members);
    number("compaction_keys", &mut limits.compaction_keys);
    number("schema_nodes", &mut limits.schema_nodes);
    number("json_depth", &mut limits.json_depth);
    number("violations", &mut limits.violations);
    number("connections", &mut limits.connections);
    number("connections_per_address", &mut limits.connections_per_address);
    number("streams", &mut limits.streams);
    number("streams_per_connection", &mut limits.streams_per_connection);
    number("metric_series", &mut limits.metric_series);
    number("subscriptions", &mut limits.subscriptions);
    number("subscriptions_per_connection", &mut limits.subscriptions_per_connection);
    number("requests", &mut limits.requests);
    number("requests_per_connection", &mut limits.requests_per_connection);
    v.count("schema_steps", &mut limits.schema_steps);
    v.count("live_keys", &mut limits.live_keys);
    v.size("key_memory", &mut limits.key_memory);
    v.count("hot_keys", &mut limits.hot_keys);
    v.count("channels", &mut limits.channels);
    v.count("rules", &mut limits.rules);
    v.count("claim_namespaces", &mut limits.claim_namespaces);
    v.count("live_claims", &mut limits.live_claims);
    v.size("receipt_bytes", &mut limits.receipt_bytes);
    v.duration("claim_lease_min", &mut limits.claim_lease.0);
    v.duration("claim_lease_max", &mut limits.claim_lease.1);
    v.optional_count("publisher_messages_per_second", &mut limits.publisher_messages_per_second);
    v.count("consumers", &mut limits.consumers);
    v.count("consumer_pending", &mut limits.consumer_pending);
    v.count("consumers_per_channel", &mut limits.consumers_per_channel);
    v.size("consumer_name_bytes", &mut limits.consumer_name_bytes);
    v.count("delayed_messages", &mut limits.delayed_messages);
    v.size("delayed_bytes", &mut limits.delayed_bytes);
    v.duration("max_delay", &mut limits.max_delay);
    v.duration("request_timeout", &mut limits.request_timeout);
    v.size("message_bytes", &mut limits.message_bytes);
    v.size("batch_bytes", &mut limits.batch_bytes);
    v.size("entry_bytes", &mut limits.entry_bytes);
    v.size("copied_bytes", &mut limits.copied_bytes);
    v.size("header_bytes", &mut limits.header_bytes);
    v.size("key_bytes", &mut limits.key_bytes);
    v.size("schema_bytes", &mut limits.schema_bytes);
    v.size("all_schemas_bytes", &mut limits.all_schemas_bytes);
    v.size("schema_regex_bytes", &mut limits.schema_regex_bytes);
    v.size("subscriber_bytes", &mut limits.subscriber_bytes);
    v.size("fanout_bytes", &mut limits.fanout_bytes);
    v.size("in_flight_bytes", &mut limits.in_flight_bytes);
    v.size("connection_in_flight_bytes", &mut limits.connection_in_flight_bytes);
    v.size("arriving_bytes", &mut limits.arriving_bytes);
    v.size("unread_bytes", &mut limits.unread_bytes);
    v.size("answer_bytes", &mut limits.answer_bytes);
    v.size("least_bytes_per_second", &mut limits.least_bytes_per_second);
    v.optional_count("publisher_bytes_per_second", &mut limits.publisher_bytes_per_second);
    v.size("page_bytes", &mut limits.page_bytes);
    v.duration("publish_timeout", &mut limits.publish_timeout);
    v.duration("delivery_timeout", &mut limits.delivery_timeout);
    v.duration("read_timeout", &mut limits.read_timeout);
    v.duration("long_poll", &mut limits.long_poll);
    v.duration("handshake_timeout", &mut limits.handshake_timeout);
    v.duration("idle_timeout", &mut limits.idle_timeout);
    v.duration("reader_timeout", &mut limits.reader_timeout);
    v.duration("slow_after", &mut limits.slow_after);
    v.duration("keepalive_interval", &mut limits.keepalive.0);
    v.duration("keepalive_timeout", &mut limits.keepalive.1);
}
