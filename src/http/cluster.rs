//! The cluster and its nodes over HTTP: what `liminal cluster status` shows and changes, for whoever has no gRPC, and the
//! figures of one node as JSON.

use axum::{
    Extension, Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Operating,
    live::Figures,
    metrics::{self, Metric},
    problem::Problem,
};
use crate::{
    broker::{Access, BrokerError},
    model::{Action, timestamp},
    proto::v1::{ClusterEvent, NodeHealth, NodeRole, NodeStatus},
};

/// A change that an operator asks for, with the name of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// It shall lead.
    Lead(String),
    /// It becomes a voter.
    Promote(String),
    /// It is taken out, and may not come back by itself.
    Remove(String),
}

/// What this face shows of the cluster that its node is in.
#[async_trait::async_trait]
pub trait ClusterView: Send + Sync + 'static {
    /// All nodes as they are now. The other nodes are asked.
    async fn cluster(&self) -> Result<crate::proto::v1::ClusterStatusResponse, BrokerError>;
    /// Changes the membership, through whichever node leads; says what was done.
    async fn change_member(&self, change: MemberChange) -> Result<String, BrokerError>;
    /// What happened to the nodes, oldest first.
    fn member_events(&self) -> Vec<ClusterEvent>;
    /// What is kept of the last minutes. It has to be quick: it is asked every two seconds.
    fn figures(&self) -> Figures;
    /// The name of this node.
    fn name(&self) -> String;
    /// The nodes whose state differed when the states were last compared.
    fn differing(&self) -> Vec<String>;
}

#[derive(Debug, Serialize)]
struct NodeJson {
    name: String,
    id: u64,
    role: &'static str,
    health: &'static str,
    term: u64,
    commit: u64,
    applied: u64,
    lag: u64,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
    state_hash: String,
    state_hash_at: u64,
    client_address: String,
    http_address: String,
    peer_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    failure: String,
}

/// The role of a node in a word.
pub(super) fn role(node: &NodeStatus) -> &'static str {
    match node.role() {
        NodeRole::Leader => "leader",
        NodeRole::Follower => "follower",
        NodeRole::Learner => "learner",
        NodeRole::Unspecified => "unknown",
    }
}

/// How a node is, in a word.
pub(super) fn health(node: &NodeStatus) -> &'static str {
    match node.health() {
        NodeHealth::Ok => "ok",
        NodeHealth::Behind => "behind",
        NodeHealth::Unreachable => "unreachable",
        NodeHealth::Failed => "failed",
        NodeHealth::Unwell => "unwell",
        NodeHealth::Unspecified => "unknown",
    }
}

impl NodeJson {
    fn of(node: NodeStatus) -> Self {
        Self {
            role: role(&node),
            health: health(&node),
            name: node.name,
            id: node.id,
            term: node.term,
            commit: node.commit,
            applied: node.applied,
            lag: node.lag,
            version: node.version,
            clock_ahead_ms: node.clock_ahead_ms,
            state_hash: node.state_hash,
            state_hash_at: node.state_hash_at,
            client_address: node.client_address,
            http_address: node.http_address,
            peer_address: node.peer_address,
            failure: node.failure,
        }
    }
}

pub(super) async fn status(
    State(Operating { view, .. }): State<Operating>,
    Extension(access): Extension<Access>,
) -> Result<Response, Problem> {
    access.may_on_cluster(Action::Read)?;
    let status = view.cluster().await?;
    let nodes: Vec<NodeJson> = status.nodes.into_iter().map(NodeJson::of).collect();
    let answer = json!({
        "cluster_id": status.cluster_id,
        "leader": status.leader,
        "epoch": status.epoch,
        "cluster_version": status.cluster_version,
        "answered_by": view.name(),
        "nodes": nodes,
    });
    Ok(Json(answer).into_response())
}

pub(super) async fn events(
    State(Operating { view, .. }): State<Operating>,
    Extension(access): Extension<Access>,
) -> Result<Response, Problem> {
    access.may_on_cluster(Action::Read)?;
    let events = view.member_events().into_iter().map(|event| {
        json!({
            "time": timestamp(event.time_ms), "node": event.node, "node_id": event.node_id, "event": event.event,
            "detail": event.detail,
        })
    });
    Ok(Json(json!({ "events": events.collect::<Vec<_>>() })).into_response())
}

async fn change(operating: Operating, access: Access, change: MemberChange) -> Result<Response, Problem> {
    access.may_on_cluster(Action::Admin)?;
    let done = operating.view.change_member(change).await?;
    Ok(Json(json!({ "done": done })).into_response())
}

pub(super) async fn lead(
    State(operating): State<Operating>,
    Extension(access): Extension<Access>,
    Path(node): Path<String>,
) -> Result<Response, Problem> {
    change(operating, access, MemberChange::Lead(node)).await
}

pub(super) async fn promote(
    State(operating): State<Operating>,
    Extension(access): Extension<Access>,
    Path(node): Path<String>,
) -> Result<Response, Problem> {
    change(operating, access, MemberChange::Promote(node)).await
}

pub(super) async fn remove(
    State(operating): State<Operating>,
    Extension(access): Extension<Access>,
    Path(node): Path<String>,
) -> Result<Response, Problem> {
    change(operating, access, MemberChange::Remove(node)).await
}

/// The metrics of this node, by name.
pub(super) async fn node(
    State(Operating { view, .. }): State<Operating>,
    Extension(access): Extension<Access>,
) -> Result<Response, Problem> {
    access.may_on_cluster(Action::Read)?;
    let metrics: Map<String, Value> = view.metrics().await.into_iter().map(figure).collect();
    let answer = json!({
        "name": view.name(), "version": env!("CARGO_PKG_VERSION"), "unmet": view.unmet(), "warnings": view.warnings(),
        "metrics": metrics,
    });
    Ok(Json(answer).into_response())
}

/// A number, or a list of numbers with their labels.
fn figure(Metric { declared, values }: Metric) -> (String, Value) {
    let value = match (declared.labels, values.as_slice()) {
        ([], [(_, value)]) => number(value),
        _ => {
            let each = values.into_iter().map(|(labels, value)| {
                let labels: Map<String, Value> =
                    labels.into_iter().map(|(name, label)| (name.to_owned(), label.into())).collect();
                json!({ "labels": labels, "value": number(&value) })
            });
            Value::Array(each.collect())
        }
    };
    (declared.name.to_owned(), value)
}

/// Of a histogram how many there were, and how long all of them took.
fn number(value: &metrics::Value) -> Value {
    match value {
        metrics::Value::Number(number) => json!(number),
        metrics::Value::Decimal(number) => json!(number),
        metrics::Value::Times(times) => {
            json!({ "count": times.counts.iter().sum::<u64>(), "sum_seconds": times.sum.as_secs_f64() })
        }
    }
}
