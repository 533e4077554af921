//! What an operator configures, and what an embedding program does.

mod cookie;
mod fields;
mod file;
mod reader;
#[cfg(test)]
mod reference;
mod security;
mod show;
mod tls;
mod tree;
mod variables;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, path::PathBuf, str::FromStr, time::Duration};

use crate::{
    address::{self, is_unspecified},
    model::{JoinToken, Limits},
};

pub use file::{ConfigErrors, Loaded};
pub use security::{AuditMode, SecurityConfig};
pub use show::Origins;
pub use tls::{PeerTlsConfig, PeerTlsMode, TlsConfig};
pub use tree::Overrides;

/// A node's whole configuration, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `host:port` for gRPC clients.
    pub listen_address: String,
    /// `host:port` for HTTP.
    pub health_listen_address: String,
    /// `host:port` that clients and other nodes are told for gRPC. Without it: [`ServerConfig::listen_address`], with the
    /// node's name in place of `0.0.0.0`.
    pub advertise_address: Option<String>,
    /// `host:port` that clients are told for HTTP. Without it: [`ServerConfig::health_listen_address`], with the node's name in
    /// place of `0.0.0.0`.
    pub advertise_http_address: Option<String>,
    /// Origins of web pages from elsewhere that may use the HTTP port, such as `https://console.example.com`.
    pub allowed_origins: Vec<String>,
    /// How long a node that stops in order waits for what is under way.
    pub drain_timeout: Duration,
    /// Channels that are created if they are missing: tables with `name`, `schema_ref` (the path of a JSON Schema, relative to
    /// the file) and `durable` (`true` unless you say otherwise).
    pub channels: Vec<ChannelEntry>,
    /// Rules between channels of this file, which copy messages: tables with `source_channel`, `target_channel` and
    /// `predicate`.
    pub routing_rules: Vec<RoutingRule>,
    /// The directory where the node keeps its state.
    pub persistence_path: Option<PathBuf>,
    /// Whether the node's state, durable channels included, is in a temporary directory that is gone with the process.
    pub ephemeral_node: bool,
    /// The cluster that the node is in; none: alone.
    pub cluster: Option<ClusterConfig>,
    /// The directory that `schema_ref`s are relative to; none: they are only labels.
    pub base_dir: Option<PathBuf>,
    /// Limits.
    pub limits: Limits,
    /// The state on disk.
    pub store: StoreConfig,
    /// Replication.
    pub raft: RaftConfig,
    /// The search for damage.
    pub scrub: ScrubConfig,
    /// TLS for clients.
    pub tls: TlsConfig,
    /// TLS between nodes.
    pub peer_tls: PeerTlsConfig,
    /// Who may do what.
    pub security: SecurityConfig,
}

/// How a node looks for damage on its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Bytes of state and log that the search for damage reads in a second, at most.
    pub bytes_per_second: usize,
    /// Time from the beginning of one search for damage to the beginning of the next one; off: only when an operator asks.
    pub interval: Option<Duration>,
}

/// How the state is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// What was applied is written to the store when it has this many bytes.
    pub memtable_bytes: usize,
    /// What was applied is written to the store when it is this old.
    pub fold_interval: Duration,
    /// Bytes of the store that are kept in memory.
    pub cache_bytes: usize,
}

/// How the nodes agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// How often an idle leader shows that it is there.
    pub heartbeat: Duration,
    /// Without a sign of the leader for a random time between these two, a node stands for election.
    pub election: (Duration, Duration),
    /// Bytes of the newest log entries that are kept in memory.
    pub log_cache_bytes: usize,
    /// Entries that stay in the log behind what the store has made durable, at most.
    pub log_keep_entries: u64,
    /// Bytes that stay in the log behind what the store has made durable, at most.
    pub log_keep_bytes: usize,
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
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The node's name, unique in the cluster. Without it: what the machine is called when the node starts for the first time.
    pub node_name: String,
    /// `host:port` for other nodes.
    pub listen_address: String,
    /// `host:port` that other nodes are told. Without it: [`ClusterConfig::listen_address`], with the node's name in place of
    /// `0.0.0.0`.
    pub advertise_address: Option<String>,
    /// `host:port` of nodes to find the cluster through.
    pub seed_nodes: Vec<String>,
    /// Shared secret; a node with another one is refused.
    pub cookie: String,
    /// The file that holds the secret instead.
    pub cookie_file: Option<PathBuf>,
    /// How many fresh nodes have to meet before they form a cluster.
    pub expect: usize,
    /// Whether `expect` was not said but counted from the seeds, so that those which turn out to be one node count once.
    pub counts_seeds: bool,
    /// Whether a node that joined votes as soon as it has caught up.
    pub auto_promote: bool,
    /// A node that has been away for so long is removed, if the others have a majority without it and at least `expect` voters
    /// stay; off: never.
    pub remove_departed_after: Option<Duration>,
    /// How new nodes come into a cluster that is there: `cookie`, whoever knows it and asks; `token`, with a token of
    /// `liminal cluster invite` as well. It is the leader's configuration that counts.
    pub join: JoinMode,
    /// The token of `liminal cluster invite` with which this node joins.
    pub join_token: Option<JoinToken>,
}

/// How new nodes come into a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JoinMode {
    /// By the cookie alone.
    #[default]
    Cookie,
    /// By an invitation as well.
    Token,
}

impl JoinMode {
    /// As a configuration says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Token => "token",
        }
    }
}

impl FromStr for JoinMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Cookie, Self::Token].into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("`{text}` is no way to join: there are cookie and token"))
    }
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
            ephemeral_node: false,
            cluster: None,
            base_dir: None,
            limits: Limits::default(),
            store: StoreConfig::default(),
            raft: RaftConfig::default(),
            scrub: ScrubConfig::default(),
            tls: TlsConfig::default(),
            peer_tls: PeerTlsConfig::default(),
            security: SecurityConfig::default(),
            advertise_address: None,
            advertise_http_address: None,
            allowed_origins: Vec::new(),
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

impl Default for StoreConfig {
    fn default() -> Self {
        Self { memtable_bytes: 12 << 20, fold_interval: Duration::from_secs(5), cache_bytes: 16 << 20 }
    }
}

impl Default for RaftConfig {
    /// Wide enough for busy machines of two cores.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election: (Duration::from_millis(600), Duration::from_secs(1)),
            log_cache_bytes: 8 << 20,
            log_keep_entries: 10_000,
            log_keep_bytes: 256 << 20,
        }
    }
}

impl Default for ScrubConfig {
    /// A hundredth of what a disk reads, once a day.
    fn default() -> Self {
        Self { bytes_per_second: 4 << 20, interval: Some(Duration::from_secs(24 * 3600)) }
    }
}

impl Default for ClusterConfig {
    /// A node alone.
    fn default() -> Self {
        Self {
            node_name: "n1".into(),
            listen_address: "127.0.0.1:7301".into(),
            advertise_address: None,
            seed_nodes: Vec::new(),
            cookie: String::new(),
            cookie_file: None,
            expect: 1,
            counts_seeds: false,
            auto_promote: true,
            remove_departed_after: None,
            join: JoinMode::default(),
            join_token: None,
        }
    }
}

/// Shows neither the cookie nor the secret of a join token.
impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node_name,
            listen_address,
            advertise_address,
            seed_nodes,
            cookie: _,
            cookie_file,
            expect,
            counts_seeds,
            auto_promote,
            remove_departed_after,
            join,
            join_token,
        } = self;
        f.debug_struct("ClusterConfig")
            .field("node_name", node_name)
            .field("listen_address", listen_address)
            .field("advertise_address", advertise_address)
            .field("seed_nodes", seed_nodes)
            .field("cookie_file", cookie_file)
            .field("expect", expect)
            .field("counts_seeds", counts_seeds)
            .field("auto_promote", auto_promote)
            .field("remove_departed_after", remove_departed_after)
            .field("join", join)
            .field("join_token", join_token)
            .finish_non_exhaustive()
    }
}

impl ClusterConfig {
    /// How many fresh nodes found a cluster where nobody says it: as many as there are seeds and this node; three where
    /// the only seed is a name, which stands for several nodes. So a node whose seeds are others never founds one alone.
    fn usual_expect(&self) -> usize {
        if self.has_one_name() {
            return 3;
        }
        let seeds: BTreeSet<String> = self.seed_nodes.iter().map(|seed| address::normal(seed)).collect();
        let own = [Some(&self.listen_address), self.advertise_address.as_ref()];
        // One that listens everywhere is most probably meant by one of the names.
        let everywhere = is_unspecified(&self.listen_address);
        let among_them = everywhere || own.iter().flatten().any(|own| seeds.contains(&address::normal(own)));
        if seeds.is_empty() { 1 } else { (seeds.len() + usize::from(!among_them)).min(Limits::MOST_VOTERS) }
    }

    /// Whether its only seed is a name that stands for several nodes.
    fn has_one_name(&self) -> bool {
        let seeds: BTreeSet<String> = self.seed_nodes.iter().map(|seed| address::normal(seed)).collect();
        let stands_for_several = |seed: &String| match address::split(seed) {
            Ok((host, _)) => host != "localhost" && address::ip(seed).is_none(),
            Err(_) => false,
        };
        seeds.len() == 1 && seeds.iter().all(stands_for_several)
    }
}

impl ServerConfig {
    /// What others are told of an address that this node listens on: what is configured; else, where it listens on
    /// all interfaces, the node's name, or where it has none the machine's, by which containers find each other.
    /// `machine` is what this machine is called by others.
    pub fn advertised(&self, configured: Option<&String>, listening: &str, machine: &str) -> String {
        if let Some(configured) = configured {
            return configured.clone();
        }
        match (listening.rsplit_once(':'), &self.cluster) {
            (Some((_, port)), Some(cluster)) if is_unspecified(listening) && cluster.node_name.is_empty() => {
                format!("{machine}:{port}")
            }
            (Some((_, port)), Some(cluster)) if is_unspecified(listening) => {
                format!("{}:{port}", cluster.node_name)
            }
            (Some((_, port)), None) if is_unspecified(listening) => format!("127.0.0.1:{port}"),
            _ => listening.to_owned(),
        }
    }
}
