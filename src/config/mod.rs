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

impl Default for ServerConfig {
    /// A process of its own, with default limits and no channels.
    fn default() -> Self {
        Self {
            listen_address: "127.0.0.1:7101".into(),
            health_listen_address: "127.0.0.1:7201".into(),
            drain_timeout: Duration::from_secs(10),
            channels: Vec::new(),
            routing_rules: Vec::new(),
            persistence_path: None,
            cluster: None,
            base_dir: None,
            limits: Limits::default(),
        }
    }
}

impl ServerConfig {
    /// With one more channel.
    #[must_use]
    pub fn with_channel(mut self, name: &str, durable: bool) -> Self {
        self.channels.push(ChannelEntry { name: name.into(), schema_ref: None, durable });
        self
    }
}
