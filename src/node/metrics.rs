//! The node's figures: every metric has its name and its explanation here, or in the module of what it measures.

use super::{budgets, scrub, view::View};
use crate::{
    broker::Broker,
    health::Part,
    http::{Metric, MetricKind},
    model::NamespaceInfo,
    raft::ClockDifference,
    telemetry,
};

/// Namespaces of claims that have a figure of their own.
const NAMESPACES_SHOWN: usize = 50;

/// All of a node's figures. `ready`: whether clients should be sent to it.
pub(super) fn all(node: &View, ready: bool) -> Vec<Metric> {
    let (state, fanout) = (node.group.state(), node.broker.view().fanout());
    let followers = fanout.all_followers();
    let (stats, verified) = (node.broker.stats(), node.group.verified());
    let usage = node.broker.view().store().usage().unwrap_or_default();
    let rejected = stats.rejected.into_iter().map(|(name, count)| (vec![("channel", name)], count)).collect();
    let failed = stats.failed.into_iter().map(|(code, count)| (vec![("code", code.to_owned())], count)).collect();
    let health = node.broker.view().health().failures();
    let keys = node.broker.view().key_places();
    let mut metrics = vec![
        Metric::gauge("raft_term", "Raft term", state.term),
        Metric::gauge("raft_commit", "Index of the newest committed log entry", state.commit),
        Metric::gauge("raft_applied", "Index of the newest applied log entry", state.applied),
        Metric::gauge("raft_leader", "1 on the leader", node.broker.leads().into()),
        Metric::gauge(
            "state_verified_index",
            "Log index at which the nodes' states were last compared",
            verified.index,
        ),
        Metric::gauge(
            "state_differing_nodes",
            "Nodes whose state was then not that of the majority: raise an alarm above 0",
            verified.differing.len() as u64,
        ),
        Metric::gauge("store_live_bytes", "Bytes of the state on disk that live", usage.live_bytes),
        Metric::gauge("store_disk_bytes", "Bytes of the state on disk", usage.disk_bytes),
        Metric {
            name: "unwell",
            help: "1 for a part of the node that does not work, which the log and /ready explain: alarm above 0",
            kind: MetricKind::Gauge,
            values: Part::ALL
                .map(|part| (vec![("part", part.name().to_owned())], health.of(part).is_some().into()))
                .into(),
        },
        Metric::gauge("raft_log_entries", "Entries in the log", node.group.log_entries()),
        Metric::gauge("ready", "1 while clients should be sent here", ready.into()),
        Metric::gauge("subscriptions", "Live subscriptions on this node", followers),
        Metric::gauge("connections", "Open client connections", node.budgets.connections()),
        Metric::gauge("in_flight_bytes", "Bytes of publishes that are not answered yet", stats.in_flight_bytes),
        Metric::gauge("keys_in_memory", "Idempotency keys that this node has in memory", keys.in_memory),
        Metric::gauge("key_files", "Files of those that it has not", keys.files),
        Metric::gauge("key_file_bytes", "Bytes of these files", keys.file_bytes),
        Metric::gauge("key_filter_bytes", "Bytes of memory that say what is in them", keys.filter_bytes),
        Metric::gauge("resident_memory_bytes", "Memory of the process", telemetry::resident_bytes()),
        Metric::counter("connections_refused", "Connections over the limits", node.budgets.connections_refused()),
        Metric::counter("published_messages", "Messages acknowledged to clients of this node", stats.published),
        Metric::counter("duplicate_messages", "Messages whose key had been used before", stats.duplicates),
        Metric::counter(
            "unrouted_messages",
            "Copies not made because they would have broken their channel's schema",
            stats.unrouted,
        ),
        Metric::counter(
            "quarantine_dropped",
            "Messages that broke their channel's schema and should be in its quarantine, and are not",
            stats.quarantine_dropped,
        ),
        Metric::counter("delivered_messages", "Messages handed to this node's subscriptions", fanout.delivered()),
        Metric {
            name: "failed_messages",
            help: "Messages refused or with unknown outcome, by code",
            kind: MetricKind::Counter,
            values: failed,
        },
        Metric {
            name: "rejected_messages",
            help: "Messages that broke their channel's schema",
            kind: MetricKind::Counter,
            values: rejected,
        },
    ];
    metrics.extend(budgets::metrics(&node.budgets));
    metrics.extend(scrub::metrics(&node.group.scrubbed()));
    metrics.push(Metric::counter(
        "refused_peer_messages",
        "Messages and answers of other nodes that cannot be so",
        node.group.refused_messages(),
    ));
    if node.broker.leads() {
        metrics.extend(cluster_metrics(&node.broker));
        metrics.extend(node.consumers.of(&node.broker));
    }
    metrics.extend(clock_metrics(&node.broker, &node.group.clocks()));
    metrics
}

/// What is the whole cluster's and not a node's: only the leader tells it, so that a sum over all nodes is right.
fn cluster_metrics(broker: &Broker) -> Vec<Metric> {
    let (view, claims, keys) = (broker.view(), broker.view().claim_totals(), broker.view().live_keys());
    let (most_limit, all_limit) = broker.limits().most_keys();
    vec![
        Metric::gauge("channels", "Channels", view.catalog().len() as u64),
        Metric::gauge("live_keys", "Idempotency keys in the windows of all channels", keys.all),
        Metric::gauge("live_keys_most", "Idempotency keys of the channel that has most of them", keys.most),
        Metric::gauge(
            "live_keys_limit",
            "Idempotency keys that all channels together may have: raise an alarm from 80 % of it on",
            all_limit,
        ),
        Metric::gauge(
            "live_keys_most_limit",
            "Idempotency keys that a channel may have: raise an alarm when the one with most has 80 % of it",
            most_limit,
        ),
        claims_by_namespace(view.claim_namespaces()),
        Metric::counter("claims_taken", "Claims taken since the state began", claims.taken),
        Metric::counter("claims_completed", "Claims completed with a receipt", claims.completed),
        Metric::counter("claims_released", "Claims given back", claims.released),
        Metric::counter("claims_expired", "Leases that ended by themselves: workers lost", claims.expired),
    ]
}

/// The log's time, and how far each node's clock is from it.
fn clock_metrics(broker: &Broker, clocks: &[ClockDifference]) -> [Metric; 2] {
    let far = |clock: &ClockDifference| (vec![("node", clock.name.clone())], clock.ahead_ms.unsigned_abs());
    [
        Metric::gauge(
            "log_time_seconds",
            "The time of day by which everything happens, seconds since the Unix epoch",
            broker.now_ms() / 1000,
        ),
        Metric {
            name: "clock_difference_milliseconds",
            help: "How far a node's clock is from that time, in either direction: raise an alarm above 1000",
            kind: MetricKind::Gauge,
            values: clocks.iter().map(far).collect(),
        },
    ]
}

/// The namespaces with the most claims by name, and all others in one.
fn claims_by_namespace(mut namespaces: Vec<NamespaceInfo>) -> Metric {
    namespaces.sort_by_key(|namespace| std::cmp::Reverse(namespace.live));
    let rest = namespaces.split_off(namespaces.len().min(NAMESPACES_SHOWN));
    let label = |name: String| vec![("namespace", name)];
    let mut values: Vec<_> =
        namespaces.into_iter().map(|namespace| (label(namespace.name.to_string()), namespace.live)).collect();
    if !rest.is_empty() {
        // No namespace can have this name.
        values.push((label("(others)".into()), rest.iter().map(|namespace| namespace.live).sum()));
    }
    let help = "Claims that are held or completed";
    Metric { name: "claims_live", help, kind: MetricKind::Gauge, values }
}
