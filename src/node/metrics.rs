//! The node's figures: every metric has its name and its explanation here, or in the module of what it measures.

use std::env;

use super::{access, budgets, scrub, tls, view::View};
use crate::{
    broker::Broker,
    health::Part,
    http::{Metric, metrics},
    meter::TracedHistogram,
    model::NamespaceInfo,
    raft::ClockDifference,
    telemetry::Process,
};

/// All of a node's figures. `ready`: whether clients should be sent to it.
pub(super) async fn all(node: &View, ready: bool) -> Vec<Metric> {
    let (state, fanout) = (node.group.state(), node.broker.view().fanout());
    let followers = fanout.all_followers();
    let (stats, verified) = (node.broker.stats(), node.group.verified());
    let usage = node.broker.view().store().usage().unwrap_or_default();
    let failed = stats.failed.into_iter().map(|(code, count)| (vec![("code", code.to_owned())], count)).collect();
    let health = node.broker.view().health().failures();
    let keys = node.broker.view().key_places();
    let mut metrics = vec![
        build(),
        metrics::RAFT_TERM.of(state.term),
        metrics::RAFT_COMMIT.of(state.commit),
        metrics::RAFT_APPLIED.of(state.applied),
        metrics::CLUSTER_VERSION.of(node.broker.view().version().0.into()),
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
        metrics::CONNECTIONS_REFUSED.of(node.budgets.connections_refused()),
        metrics::PUBLISHED_MESSAGES.of(stats.published),
        metrics::DUPLICATE_MESSAGES.of(stats.duplicates),
        metrics::UNROUTED_MESSAGES.of(stats.unrouted),
        metrics::QUARANTINE_DROPPED.of(stats.quarantine_dropped),
        metrics::DELIVERED_MESSAGES.of(fanout.delivered()),
        metrics::FAILED_MESSAGES.each(failed),
        node.rejected.of(stats.rejected, node.broker.limits().metric_series),
    ];
    metrics.extend(times(node));
    metrics.extend(process_metrics());
    metrics.extend(node.disk.metrics(&node.group).await);
    metrics.extend(budgets::metrics(&node.budgets));
    metrics.extend(tls::metrics(&node.tls));
    metrics.extend(access::metrics(&node.gate));
    metrics.extend(scrub::metrics(&node.group.scrubbed()));
    metrics.push(metrics::REFUSED_PEER_MESSAGES.of(node.group.refused_messages()));
    if node.broker.leads() {
        metrics.extend(cluster_metrics(&node.broker));
        let lacking = node.group.lacking().into_iter().map(|(name, entries)| (vec![("node", name)], entries));
        metrics.push(metrics::PEER_LAG_ENTRIES.each(lacking.collect()));
        metrics.extend(node.channels.of(&node.broker));
        metrics.extend(node.consumers.of(&node.broker).await);
    }
    metrics.extend(clock_metrics(&node.broker, &node.group.clocks()));
    metrics
}

/// What runs here.
fn build() -> Metric {
    let about = [("version", env!("CARGO_PKG_VERSION")), ("os", env::consts::OS), ("arch", env::consts::ARCH)];
    metrics::BUILD_INFO.each(vec![(about.map(|(name, value)| (name, value.to_owned())).into(), 1)])
}

/// How long things take on this node.
fn times(node: &View) -> [Metric; 9] {
    let view = node.broker.view();
    let meters = view.meters();
    let confirm = |what: &str, times: &TracedHistogram| (vec![("confirm", what.to_owned())], times.read());
    [
        metrics::PUBLISH_SECONDS.each_times(vec![
            confirm("commit", &meters.publish_to_commit),
            confirm("delivery", &meters.publish_to_delivery),
        ]),
        metrics::FORWARD_SECONDS.of_times([meters.forward.read()]),
        metrics::SCHEMA_CHECK_SECONDS.of_times([meters.check.read()]),
        metrics::LOG_APPEND_SECONDS.of_times([meters.append.read()]),
        metrics::LOG_SYNC_SECONDS.of_times(node.group.log_syncs()),
        metrics::APPLY_SECONDS.of_times([meters.apply.read()]),
        metrics::STORE_FOLD_SECONDS.of_times(view.store().folds()),
        metrics::FAN_OUT_SECONDS.of_times([meters.fan_out.read()]),
        metrics::DELIVERY_WAIT_SECONDS.of_times([meters.delivery.read()]),
    ]
}

/// What the process takes of its machine. What the system does not say is left out.
fn process_metrics() -> [Metric; 5] {
    let Process { resident_bytes, cpu, open_descriptors, descriptors_limit, started } = Process::now();
    let told = |value: Option<u64>| value.map(|value| (Vec::new(), value)).into_iter().collect();
    [
        metrics::RESIDENT_MEMORY_BYTES.of(resident_bytes),
        metrics::PROCESS_CPU_SECONDS.of_decimal(cpu.as_secs_f64()),
        metrics::PROCESS_START_TIMESTAMP_SECONDS.each(told(started)),
        metrics::PROCESS_OPEN_DESCRIPTORS.each(told(open_descriptors)),
        metrics::PROCESS_DESCRIPTORS_LIMIT.each(told(descriptors_limit)),
    ]
}

/// What is the whole cluster's and not a node's: only the leader tells it, so that a sum over all nodes is right.
fn cluster_metrics(broker: &Broker) -> Vec<Metric> {
    let (view, claims, keys) = (broker.view(), broker.view().claim_totals(), broker.view().live_keys());
    let (most_limit, all_limit) = broker.limits().most_keys();
    vec![
        metrics::LIVE_KEYS.of(keys.all),
        metrics::LIVE_KEYS_MOST.of(keys.most),
        metrics::LIVE_KEYS_LIMIT.of(all_limit),
        metrics::LIVE_KEYS_MOST_LIMIT.of(most_limit),
        claims_by_namespace(view.claim_namespaces(), broker.limits().metric_series),
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
fn claims_by_namespace(mut namespaces: Vec<NamespaceInfo>, most: usize) -> Metric {
    namespaces.sort_by_key(|namespace| std::cmp::Reverse(namespace.live));
    let rest = namespaces.split_off(namespaces.len().min(most));
    let label = |name: String| vec![("namespace", name)];
    let mut values: Vec<_> =
        namespaces.into_iter().map(|namespace| (label(namespace.name.to_string()), namespace.live)).collect();
    if !rest.is_empty() {
        // No namespace can have this name.
        values.push((label("(others)".into()), rest.iter().map(|namespace| namespace.live).sum()));
    }
    metrics::CLAIMS_LIVE.each(values)
}
