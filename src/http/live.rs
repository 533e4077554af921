//! The figures of the last fifteen minutes, and a feed of the newest ones as server-sent events.
//!
//! A node takes its figures every two seconds, whether or not somebody looks, and keeps them in a ring of fixed size: who
//! opens the console sees what happened before. Counters are kept as they are, and whoever shows a rate takes the difference
//! of two. The other nodes are asked only while somebody follows, once for all who do; a follower that does not read gets
//! the newest event and not those that it missed, so nothing gathers.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{Operating, cluster, events::json_data, monitoring::NodeView, problem::Problem};
use crate::{
    broker::{Access, Standing},
    meter::{BUCKETS, quantile_ms},
    model::{Action, Limits, timestamp},
};

/// How often figures are taken.
const EVERY: Duration = Duration::from_secs(2);

/// Figures of one moment, of one node. What counts up begins at 0 with the process, but for `stored`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Milliseconds since the Unix epoch, by the log's time.
    #[serde(rename = "time", serialize_with = "as_time")]
    pub time_ms: u64,
    /// Messages in all channels, ever: the same on all nodes.
    pub stored: u64,
    /// Messages acknowledged to clients of this node.
    pub published: u64,
    /// Of clients of this node, whose key had been used before.
    pub duplicates: u64,
    /// Refused, or with an unknown outcome, of clients of this node.
    pub failed: u64,
    /// Handed to this node's subscriptions.
    pub delivered: u64,
    /// Subscriptions on this node.
    pub subscriptions: u64,
    /// Connections of clients to this node.
    pub connections: u64,
    /// Bytes of publishes that are not answered yet.
    pub in_flight_bytes: u64,
    /// Resident memory of the process.
    pub memory_bytes: u64,
    /// Channels of the cluster.
    pub channels: u64,
    /// Consumers of the cluster.
    pub consumers: u64,
    /// Messages that the consumers of the cluster have not settled.
    pub backlog: u64,
    /// Raft term.
    pub term: u64,
    /// Newest committed log entry.
    pub commit: u64,
    /// Newest applied log entry.
    pub applied: u64,
    /// The name of the leader that this node follows; empty while it knows none.
    pub leader: String,
    /// The half of the publishes that this node answered since the figures before took at most so long; none where it
    /// answered none.
    pub publish_p50_ms: Option<f64>,
    /// The same of 99 in 100.
    pub publish_p99_ms: Option<f64>,
    /// The same of syncs of this node's log to its disk.
    pub log_sync_p99_ms: Option<f64>,
    /// How long publishes took, since the process began.
    #[serde(skip)]
    pub publish_times: [u64; BUCKETS],
    /// How long syncs of the log took, since the process began.
    #[serde(skip)]
    pub log_sync_times: [u64; BUCKETS],
}

/// What was counted after the moment before.
fn since(before: &[u64; BUCKETS], now: &[u64; BUCKETS]) -> [u64; BUCKETS] {
    std::array::from_fn(|bucket| now[bucket].saturating_sub(before[bucket]))
}

fn as_time<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*ms))
}

/// What the console shows first.
#[derive(Debug, Serialize)]
struct Overview {
    node: String,
    leader: String,
    ready: bool,
    figures: Figures,
    nodes: Vec<Light>,
    alarms: Vec<Alarm>,
}

/// One node, as much as a light shows.
#[derive(Debug, Serialize)]
struct Light {
    name: String,
    role: &'static str,
    health: &'static str,
    lag: u64,
}

/// What somebody should look at.
#[derive(Debug, Serialize)]
struct Alarm {
    /// `alarm` or `warning`.
    severity: &'static str,
    text: String,
}

/// The newest figures and those before them.
pub(super) struct Feed {
    kept: Mutex<VecDeque<Figures>>,
    /// The newest event, as it is sent.
    newest: watch::Sender<Arc<str>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { kept: Mutex::default(), newest: watch::channel(Arc::from("")).0 }
    }
}

impl Feed {
    /// Takes figures for as long as it is waited for.
    pub(super) async fn keep(self: Arc<Self>, view: Arc<dyn NodeView>) {
        let mut times = tokio::time::interval(EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            let figures = self.add(view.figures());
            if self.newest.receiver_count() > 0
                && let Ok(text) = json_data(&overview(&*view, figures).await)
            {
                self.newest.send_replace(text.into());
            }
        }
    }

    /// Gives them back with what the difference to those before them says.
    fn add(&self, mut figures: Figures) -> Figures {
        let mut kept = self.kept.lock();
        if let Some(before) = kept.back() {
            let publishes = since(&before.publish_times, &figures.publish_times);
            let syncs = since(&before.log_sync_times, &figures.log_sync_times);
            figures.publish_p50_ms = quantile_ms(&publishes, 0.5);
            figures.publish_p99_ms = quantile_ms(&publishes, 0.99);
            figures.log_sync_p99_ms = quantile_ms(&syncs, 0.99);
        }
        if kept.len() >= Limits::HISTORY_SAMPLES {
            kept.pop_front();
        }
        kept.push_back(figures.clone());
        figures
    }
}

async fn overview(view: &dyn NodeView, figures: Figures) -> Overview {
    let mut alarms = Vec::new();
    let mut tell = |severity, text: String| alarms.push(Alarm { severity, text });
    if let Some(reason) = view.failure() {
        tell("alarm", format!("this node has failed: {reason}"));
    }
    let unmet = view.unmet();
    let ready = unmet.is_empty();
    unmet.into_iter().for_each(|reason| tell("alarm", format!("this node is not ready: {reason}")));
    for node in view.differing() {
        tell("alarm", format!("the state of node `{node}` differs from that of the majority"));
    }
    view.warnings().into_iter().for_each(|warning| tell("warning", warning));
    let (mut leader, mut nodes) = (String::new(), Vec::new());
    match tokio::time::timeout(EVERY, view.cluster()).await {
        Ok(Ok(status)) => {
            leader = status.leader;
            for node in status.nodes {
                let (role, health) = (cluster::role(&node), cluster::health(&node));
                if health != "ok" {
                    let reason = if node.failure.is_empty() { String::new() } else { format!(": {}", node.failure) };
                    tell("alarm", format!("node `{}` is {health}{reason}", node.name));
                }
                nodes.push(Light { name: node.name, role, health, lag: node.lag });
            }
        }
        Ok(Err(error)) => tell("alarm", error.to_string()),
        Err(_) => tell("warning", format!("the nodes did not all answer within {} s", EVERY.as_secs())),
    }
    Overview { node: view.name(), leader, ready, figures, nodes, alarms }
}

pub(super) async fn history(
    State(Operating { feed, .. }): State<Operating>,
    Extension(access): Extension<Access>,
) -> Result<Response, Problem> {
    access.may_on_cluster(Action::Read)?;
    let samples: Vec<Figures> = feed.kept.lock().iter().cloned().collect();
    let interval_ms = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({ "interval_ms": interval_ms, "samples": samples })).into_response())
}

/// Ends with the right by which it was asked for, and with the node.
pub(super) async fn follow(
    State(Operating { feed, .. }): State<Operating>,
    Extension(access): Extension<Access>,
) -> Result<Response, Problem> {
    let standing = access.may_long_on_cluster(Action::Read)?;
    let newest = feed.newest.subscribe();
    let events = futures::stream::unfold(Some((newest, standing, access)), |open| async move {
        let (mut newest, mut standing, access) = open?;
        let ended = tokio::select! {
            () = access.stopped() => return None,
            error = Standing::ended_of(&mut standing) => Some(error),
            changed = newest.changed() => {
                changed.ok()?;
                None
            }
        };
        if let Some(error) = ended {
            let event = Event::default().event("error").data(json_data(&Problem::from(error)).ok()?);
            return Some((Ok::<_, Infallible>(event), None));
        }
        let event = Event::default().data(&*newest.borrow_and_update().clone());
        Some((Ok(event), Some((newest, standing, access))))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_figures_go_when_there_are_too_many() {
        let feed = Feed::default();
        let last = Limits::HISTORY_SAMPLES as u64 + 2;
        for commit in 0..=last {
            feed.add(Figures { commit, ..Figures::default() });
        }
        let kept = feed.kept.lock();
        assert_eq!((kept.len(), kept[0].commit), (Limits::HISTORY_SAMPLES, 3));
        assert_eq!(kept.back().unwrap().commit, last);
    }

    #[test]
    fn latencies_are_those_since_the_figures_before() {
        let feed = Feed::default();
        // In the buckets up to 1 ms and up to 50 ms.
        let of = |quick: u64, slow: u64| {
            let mut publish_times = [0; BUCKETS];
            (publish_times[4], publish_times[9]) = (quick, slow);
            Figures { publish_times, ..Figures::default() }
        };
        let first = feed.add(of(1_000, 0));
        assert_eq!((first.publish_p50_ms, first.publish_p99_ms), (None, None), "there is nothing before it");
        let slow = feed.add(of(1_000, 10));
        assert_eq!((slow.publish_p50_ms, slow.publish_p99_ms), (Some(37.5), Some(49.75)));
        let quick = feed.add(of(1_100, 10));
        assert_eq!((quick.publish_p50_ms, quick.publish_p99_ms), (Some(0.75), Some(0.995)));
        let none = feed.add(of(1_100, 10));
        assert_eq!((none.publish_p50_ms, none.log_sync_p99_ms), (None, None));
    }
}
