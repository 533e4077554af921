//! The node's figures: every metric has its name and its explanation here, or in the module of what it measures.

use super::{access, budgets, scrub, tls, view::View};
use crate::{
    broker::Broker,
    health::Part,
    http::{Metric, metrics},
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
        metrics::RAFT_TERM.of(state.term),
        metrics::RAFT_COMMIT.of(state.commit),
        metrics::RAFT_APPLIED.of(state.applied),
        metrics::RAFT_LEADER.of(node.broker.leads().into()),
        metrics::STATE_VERIFIED_INDEX.of(verified.index),
        metrics::STATE_DIFFERING_NODES.of(verified.differing.len() as u64),
        metrics::STORE_LIVE_BYTES.of(usage.live_bytes),
        metrics::STORE_DISK_BYTES.of(usage.disk_bytes),
        metrics::UNWELL.each(
            Part::ALL.map(|part| (vec![("part", part.name().to_owned())], health.of(part).is_some().into())).into(),
        ),
        metrics::RAFT_LOG_ENTRIES.of(node.group.log_entries()),
        metrics::READY.of(ready.into()),
        metrics::SUBSCRIPTIONS.of(followers),
        metrics::CONNECTIONS.of(node.budgets.connections()),
        metrics::IN_FLIGHT_BYTES.of(stats.in_flight_bytes),
        metrics::KEYS_IN_MEMORY.of(keys.in_memory),
        metrics::KEY_FILES.of(keys.files),
        metrics::KEY_FILE_BYTES.of(keys.file_bytes),
        metrics::KEY_FILTER_BYTES.of(keys.filter_bytes),
        metrics::RESIDENT_MEMORY_BYTES.of(telemetry::resident_bytes()),
        metrics::CONNECTIONS_REFUSED.of(node.budgets.connections_refused()),
        metrics::PUBLISHED_MESSAGES.of(stats.published),
        metrics::DUPLICATE_MESSAGES.of(stats.duplicates),
        metrics::UNROUTED_MESSAGES.of(stats.unrouted),
        metrics::QUARANTINE_DROPPED.of(stats.quarantine_dropped),
        metrics::DELIVERED_MESSAGES.of(fanout.delivered()),
        metrics::FAILED_MESSAGES.each(failed),
        metrics::REJECTED_MESSAGES.each(rejected),
    ];
    metrics.extend(budgets::metrics(&node.budgets));
    metrics.extend(tls::metrics(&node.tls));
    metrics.extend(access::metrics(node.gate.refused(), node.gate.audited()));
    metrics.extend(scrub::metrics(&node.group.scrubbed()));
    metrics.push(metrics::REFUSED_PEER_MESSAGES.of(node.group.refused_messages()));
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
        metrics::CHANNELS.of(view.catalog().len() as u64),
        metrics::LIVE_KEYS.of(keys.all),
        metrics::LIVE_KEYS_MOST.of(keys.most),
        metrics::LIVE_KEYS_LIMIT.of(all_limit),
        metrics::LIVE_KEYS_MOST_LIMIT.of(most_limit),
        claims_by_namespace(view.claim_namespaces()),
        metrics::CLAIMS_TAKEN.of(claims.taken),
        metrics::CLAIMS_COMPLETED.of(claims.completed),
        metrics::CLAIMS_RELEASED.of(claims.released),
        metrics::CLAIMS_EXPIRED.of(claims.expired),
    ]
}

/// The log's time, and how far each node's clock is from it.
fn clock_metrics(broker: &Broker, clocks: &[ClockDifference]) -> [Metric; 2] {
    let far = |clock: &ClockDifference| (vec![("node", clock.name.clone())], clock.ahead_ms.unsigned_abs());
    [
        metrics::LOG_TIME_SECONDS.of(broker.now_ms() / 1000),
        metrics::CLOCK_DIFFERENCE_MILLISECONDS.each(clocks.iter().map(far).collect()),
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
    metrics::CLAIMS_LIVE.each(values)
}
