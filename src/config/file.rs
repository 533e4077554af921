//! The configuration file: TOML, strict. A file of liminal-server 0.2.1 loads unchanged.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

use super::{ChannelEntry, ClusterConfig, RoutingRule, ServerConfig};
use crate::model::ChannelName;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen_address: Option<Spanned<String>>,
    health_listen_address: Option<Spanned<String>>,
    drain_timeout_ms: Option<u64>,
    #[serde(default)]
    channels: Vec<Channel>,
    #[serde(default)]
    routing_rules: Vec<Rule>,
    persistence_path: Option<PathBuf>,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Channel {
    name: Spanned<String>,
    schema_ref: Option<Spanned<String>>,
    durable: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    source_channel: Spanned<String>,
    target_channel: Spanned<String>,
    predicate: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    node_name: String,
    listen_address: Spanned<String>,
    seed_nodes: Vec<Spanned<String>>,
    cookie: String,
    expect: Option<usize>,
}

/// Everything that is wrong with a configuration, one line each: `FILE:LINE: what`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects mistakes with their lines.
struct Checker<'a> {
    name: &'a str,
    text: &'a str,
    errors: Vec<(usize, String)>,
}

impl Checker<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
    }

    fn wrong(&mut self, offset: usize, what: impl Into<String>) {
        self.errors.push((self.line(offset), what.into()));
    }

    fn address(&mut self, key: &str, address: &Spanned<String>) {
        let port = address.get_ref().rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
        if !matches!(port, Some((false, Ok(_)))) {
            let what = format!("{key}: `{}` is no address; write HOST:PORT", address.get_ref());
            self.wrong(address.span().start, what);
        }
    }

    fn finish(mut self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort();
        let name = self.name;
        Err(ConfigErrors(self.errors.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")).collect()))
    }
}

impl ServerConfig {
    /// Reads and checks a file. `schema_ref`s are relative to its directory, and must exist.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| ConfigErrors(vec![format!("{name}: {error}")]))?;
        let base_dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(&text, &name, Some(base_dir))
    }

    /// Checks a text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`ServerConfig::load`].
    pub fn parse(text: &str, name: &str, base_dir: Option<&Path>) -> Result<Self, ConfigErrors> {
        let mut checker = Checker { name, text, errors: Vec::new() };
        let file: File = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                checker.wrong(error.span().map_or(0, |span| span.start), error.message());
                checker.finish()?;
                return Err(ConfigErrors(Vec::new()));
            }
        };
        let mut names = BTreeSet::new();
        for channel in &file.channels {
            let at = channel.name.span().start;
            if let Err(error) = channel.name.get_ref().parse::<ChannelName>() {
                checker.wrong(at, format!("channels.name: {error}"));
            }
            if !names.insert(channel.name.get_ref().clone()) {
                checker.wrong(at, format!("channels.name: there are two channels `{}`", channel.name.get_ref()));
            }
            if let (Some(schema_ref), Some(base_dir)) = (&channel.schema_ref, base_dir) {
                let path = base_dir.join(schema_ref.get_ref());
                if let Err(error) = fs::metadata(&path) {
                    checker.wrong(schema_ref.span().start, format!("channels.schema_ref: {}: {error}", path.display()));
                }
            }
        }
        for rule in &file.routing_rules {
            for (key, channel) in [("source_channel", &rule.source_channel), ("target_channel", &rule.target_channel)] {
                if !names.contains(channel.get_ref()) {
                    let what = format!("routing_rules.{key}: there is no channel `{}` in this file", channel.get_ref());
                    checker.wrong(channel.span().start, what);
                }
            }
        }
        let addresses =
            [("listen_address", &file.listen_address), ("health_listen_address", &file.health_listen_address)];
        for (key, address) in addresses {
            if let Some(address) = address {
                checker.address(key, address);
            }
        }
        if let Some(cluster) = &file.cluster {
            checker.address("cluster.listen_address", &cluster.listen_address);
            cluster.seed_nodes.iter().for_each(|seed| checker.address("cluster.seed_nodes", seed));
            if cluster.node_name.is_empty() {
                checker.wrong(0, "cluster.node_name: it is empty; give every node a name of its own");
            }
            if cluster.expect == Some(0) {
                checker.wrong(0, "cluster.expect: a cluster needs at least 1 node");
            }
        }
        checker.finish()?;
        Ok(Self::from_file(file, base_dir))
    }

    fn from_file(file: File, base_dir: Option<&Path>) -> Self {
        let defaults = Self::default();
        if !file.routing_rules.is_empty() {
            tracing::warn!("routing_rules are read, but this version does not apply them yet");
        }
        let channel = |channel: Channel| ChannelEntry {
            name: channel.name.into_inner(),
            schema_ref: channel.schema_ref.map(Spanned::into_inner),
            durable: channel.durable,
        };
        let rule = |rule: Rule| RoutingRule {
            source_channel: rule.source_channel.into_inner(),
            target_channel: rule.target_channel.into_inner(),
            predicate: rule.predicate.map(|predicate| predicate.to_string()),
        };
        let cluster = |cluster: Cluster| {
            let seed_nodes: Vec<String> = cluster.seed_nodes.into_iter().map(Spanned::into_inner).collect();
            let distinct: BTreeSet<&String> = seed_nodes.iter().collect();
            let expect = cluster.expect.unwrap_or(distinct.len().max(1));
            ClusterConfig {
                node_name: cluster.node_name,
                listen_address: cluster.listen_address.into_inner(),
                cookie: cluster.cookie,
                expect,
                seed_nodes,
            }
        };
        Self {
            listen_address: file.listen_address.map_or(defaults.listen_address, Spanned::into_inner),
            health_listen_address: file
                .health_listen_address
                .map_or(defaults.health_listen_address, Spanned::into_inner),
            drain_timeout: file.drain_timeout_ms.map_or(defaults.drain_timeout, Duration::from_millis),
            channels: file.channels.into_iter().map(channel).collect(),
            routing_rules: file.routing_rules.into_iter().map(rule).collect(),
            persistence_path: file.persistence_path,
            cluster: file.cluster.map(cluster),
            base_dir: base_dir.map(Path::to_owned),
            limits: defaults.limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
listen_address = "127.0.0.1:7101"
health_listen_address = "127.0.0.1:7201"
drain_timeout_ms = 5000
persistence_path = "data"
channels = [
  { name = "orders", schema_ref = "orders.json", durable = true },
  { name = "ticks", durable = false },
]
routing_rules = [{ source_channel = "orders", target_channel = "ticks", predicate = "amount > 3" }]

[cluster]
node_name = "n1"
listen_address = "127.0.0.1:7301"
seed_nodes = ["127.0.0.1:7301", "127.0.0.1:7302", "127.0.0.1:7303"]
cookie = "secret"
"#;

    #[test]
    fn a_file_of_liminal_server_0_2_1_loads_unchanged() {
        let config = ServerConfig::parse(OLD, "liminal.toml", None).unwrap();
        assert_eq!(config.drain_timeout, Duration::from_secs(5));
        assert_eq!(config.channels.len(), 2);
        assert_eq!(config.cluster.unwrap().expect, 3);
    }

    #[test]
    fn all_mistakes_of_values_are_reported_together_with_their_lines() {
        let text = "listen_address = \"nowhere\"\n\nchannels = [\n{ name = \"a b\", durable = true },\n\
                    { name = \"c\", schema_ref = \"missing.json\", durable = true },\n{ name = \"c\", durable = true }]\n";
        let errors = ServerConfig::parse(text, "f.toml", Some(Path::new("."))).unwrap_err().to_string();
        let lines: Vec<&str> = errors.lines().collect();
        assert_eq!(lines.len(), 4, "{errors}");
        assert!(lines[0].starts_with("f.toml:1: listen_address: `nowhere` is no address"));
        assert!(
            lines[1].starts_with("f.toml:4: ")
                && lines[2].starts_with("f.toml:5: ")
                && lines[3].starts_with("f.toml:6: ")
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let errors = ServerConfig::parse("\nlisten = 3\n", "f.toml", None).unwrap_err().to_string();
        assert!(errors.starts_with("f.toml:2: unknown field `listen`"), "{errors}");
    }
}
