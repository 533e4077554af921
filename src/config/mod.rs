//! What an operator configures. (Interface first.)

use std::{path::PathBuf, time::Duration};

use crate::model::Limits;

/// A node's whole configuration, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `host:port` for gRPC clients.
    pub listen_address: String,
    /// `host:port` for HTTP.
    pub health_listen_address: String,
    /// How long a graceful stop may take.
    pub drain_timeout: Duration,
    /// Channels that are created if they are missing.
    pub channels: Vec<ChannelEntry>,
    /// Rules between channels.
    pub routing_rules: Vec<RoutingRule>,
    /// Where the node keeps its state; none: in a temporary place that is gone with the process.
    pub persistence_path: Option<PathBuf>,
    /// The cluster that the node is in; none: alone.
    pub cluster: Option<ClusterConfig>,
    /// The directory that `schema_ref`s are relative to; none: they are only labels.
    pub base_dir: Option<PathBuf>,
    /// Limits.
    pub limits: Limits,
}

/// A channel of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelEntry {
    /// Its name.
    pub name: String,
    /// Path of its JSON Schema, relative to the configuration file.
    pub schema_ref: Option<String>,
    /// Whether its messages are stored.
    pub durable: bool,
}

/// A rule between channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingRule {
    /// From where.
    pub source_channel: String,
    /// To where.
    pub target_channel: String,
    /// On which condition.
    pub predicate: Option<String>,
}

/// A node's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Unique in the cluster.
    pub node_name: String,
    /// `host:port` for other nodes.
    pub listen_address: String,
    /// `host:port` of nodes to find the cluster through.
    pub seed_nodes: Vec<String>,
    /// Shared secret; a node with another one is refused.
    pub cookie: String,
    /// How many fresh nodes have to meet before they form a cluster.
    pub expect: usize,
}
