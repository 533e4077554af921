//! From the merged tree to a checked configuration. Strict, and everything that is wrong is reported at once. A file
//! of liminal-server 0.2.1 loads unchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{
    AuditMode, ChannelEntry, ClusterConfig, JoinMode, Origins, RoutingRule, ServerConfig, fields,
    reader::{Reader, Visitor as _},
    tls,
    tree::{self, Node, Origin, Overrides, Value},
};
use crate::model::{ChannelName, Limits, SecurityMode, TokenHash};

/// Everything that is wrong with a configuration, one line each: `FILE:LINE:COLUMN: key: what`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(Vec<(Origin, String)>);

impl ConfigErrors {
    pub(super) fn push(&mut self, origin: Origin, what: impl Into<String>) {
        self.0.push((origin, what.into()));
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (origin, what)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{origin}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A configuration and where its values come from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Checked.
    pub config: ServerConfig,
    /// For `config show`.
    pub origins: Origins,
    /// About variables of the environment that set nothing, and private keys that others can read.
    pub warnings: Vec<String>,
}

impl ServerConfig {
    /// Reads and checks a file. `schema_ref`s are relative to its directory, and must exist.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with(Some(path), &Overrides::default()).map(|loaded| loaded.config)
    }

    /// Reads a file, if there is one, and lays overrides over it.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its place.
    pub fn load_with(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
        let Some(path) = path else {
            // Nobody is going to run it as it is: it may lack a directory.
            return Self::read("", "the defaults", Some(Path::new(".")), overrides, false);
        };
        let name = path.display().to_string();
        let at =
            |line, column, what: String| ConfigErrors(vec![(Origin::File { name: name.clone(), line, column }, what)]);
        let bytes = fs::read(path).map_err(|error| at(1, 1, error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let (before, wrong) = error.as_bytes().split_at(good);
            let before = String::from_utf8_lossy(before);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let wrong = wrong.first().copied().unwrap_or_default();
            at(line, column, format!("the byte 0x{wrong:02x} is no UTF-8; save the file as UTF-8"))
        })?;
        let base_dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse_with(&text, &name, Some(base_dir), overrides)
    }

    /// Checks a text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`ServerConfig::load`].
    pub fn parse(text: &str, name: &str, base_dir: Option<&Path>) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, name, base_dir, &Overrides::default()).map(|loaded| loaded.config)
    }

    pub(super) fn parse_with(
        text: &str,
        name: &str,
        base_dir: Option<&Path>,
        overrides: &Overrides,
    ) -> Result<Loaded, ConfigErrors> {
        Self::read(text, name, base_dir, overrides, true)
    }

    fn read(
        text: &str,
        name: &str,
        base_dir: Option<&Path>,
        overrides: &Overrides,
        needs_place: bool,
    ) -> Result<Loaded, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut tree = tree::parse(text, name, &mut errors);
        let mut warnings = tree.overlay(overrides, &mut errors);
        let mut config = Self { base_dir: base_dir.map(Path::to_owned), ..Self::default() };
        let mut reader = Reader::new("", &tree, &mut errors);
        fields::server(&mut config, &mut reader);
        let mut path = None;
        reader.optional("persistence_path", &mut path);
        config.persistence_path = path.map(Into::into);
        if needs_place {
            place(&config, &mut reader);
        }
        channels(&mut config, &mut reader);
        rules(&mut config, &mut reader);
        cluster(&mut config, &mut reader);
        timing(&config, &mut reader);
        security(&mut reader);
        numbers(&config, &mut reader);
        let of_files = tls::check(&config, &mut reader);
        reader.finish();
        if errors.0.is_empty() {
            warnings.extend(of_files);
            let mut origins = BTreeMap::new();
            collect(&tree, "", &mut origins);
            return Ok(Loaded { config, origins: Origins(origins), warnings });
        }
        // What was passed over may be what is missing.
        let passed_over = |warning| (Origin::Environment, warning);
        errors.0.extend(warnings.into_iter().map(passed_over));
        errors.0.sort();
        errors.0.dedup();
        Err(errors)
    }
}

fn collect(node: &Node, path: &str, origins: &mut BTreeMap<String, Origin>) {
    if let Value::Table(entries) = &node.value {
        for (key, node) in entries {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            collect(node, &path, origins);
            origins.insert(path, node.origin.clone());
        }
    }
}

/// The tables of a list; what is no list is a mistake.
fn items<'a>(key: &'static str, reader: &mut Reader<'a>) -> Vec<&'a Node> {
    match reader.get(key) {
        None => Vec::new(),
        Some(Node { value: Value::Array(items), .. }) => items.iter().collect(),
        Some(node) => {
            reader.wrong(key, &node.origin, "a list of tables is wanted here, `[{ ... }]`");
            Vec::new()
        }
    }
}

fn channels(config: &mut ServerConfig, reader: &mut Reader<'_>) {
    let mut names = BTreeSet::new();
    for node in items("channels", reader) {
        let mut channel = Reader::new("channels", node, reader.errors);
        let mut entry = ChannelEntry { name: String::new(), schema_ref: None, durable: true };
        match channel.get("name") {
            None => channel.missing("name", "every channel needs one"),
            Some(node) => {
                if let Some(name) = channel.text_of("name", node) {
                    if let Err(error) = name.parse::<ChannelName>() {
                        channel.wrong("name", &node.origin, error);
                    } else if !names.insert(name.clone()) {
                        channel.wrong("name", &node.origin, format!("there are two channels `{name}`"));
                    }
                    entry.name = name;
                }
            }
        }
        channel.optional("schema_ref", &mut entry.schema_ref);
        if let (Some(schema_ref), Some(base_dir), Some(node)) =
            (&entry.schema_ref, &config.base_dir, channel.get("schema_ref"))
        {
            let path = base_dir.join(schema_ref);
            if let Err(error) = fs::metadata(&path) {
                channel.wrong("schema_ref", &node.origin, format!("{}: {error}", path.display()));
            }
        }
        match channel.get("durable") {
            None => {}
            Some(Node { value: Value::Boolean(durable), .. }) => entry.durable = *durable,
            Some(node) => channel.wrong("durable", &node.origin, "`true` or `false` is wanted here"),
        }
        channel.finish();
        config.channels.push(entry);
    }
}

fn rules(config: &mut ServerConfig, reader: &mut Reader<'_>) {
    let names: BTreeSet<String> = config.channels.iter().map(|channel| channel.name.clone()).collect();
    for node in items("routing_rules", reader) {
        let mut rule = Reader::new("routing_rules", node, reader.errors);
        let mut channel = |key: &'static str| match rule.get(key) {
            None => {
                rule.missing(key, "name a channel of this file");
                String::new()
            }
            Some(node) => {
                let name = rule.text_of(key, node).unwrap_or_default();
                if !name.is_empty() && !names.contains(&name) {
                    rule.wrong(key, &node.origin, format!("there is no channel `{name}` in this file"));
                }
                name
            }
        };
        let (source_channel, target_channel) = (channel("source_channel"), channel("target_channel"));
        let predicate = rule.get("predicate").map(|node| match &node.value {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        });
        rule.finish();
        config.routing_rules.push(RoutingRule { source_channel, target_channel, predicate });
    }
}

fn cluster(config: &mut ServerConfig, reader: &mut Reader<'_>) {
    let path = reader.key("cluster");
    let Some(node) = reader.get("cluster") else { return };
    let mut table = Reader::new(&path, node, reader.errors);
    let mut cluster = ClusterConfig::default();
    fields::cluster(&mut cluster, &mut table);
    if let Some(node) = table.get("join")
        && let Some(Err(what)) = table.text_of("join", node).map(|text| text.parse::<JoinMode>())
    {
        table.wrong("join", &node.origin, what);
    }
    if table.get("listen_address").is_none() {
        table.missing("listen_address", "write HOST:PORT");
    }
    if table.get("node_name").is_none() {
        cluster.node_name.clear();
    }
    if let Some(seeds) = table.get("seed_nodes") {
        cluster.seed_nodes.iter().for_each(|seed| table.check_address("seed_nodes", &seeds.origin, seed));
    }
    cluster.counts_seeds = table.get("expect").is_none() && !cluster.has_one_name();
    let mut expect = cluster.usual_expect() as u64;
    table.count("expect", &mut expect);
    cluster.expect = usize::try_from(expect).unwrap_or(usize::MAX);
    if let Some(node) = table.get("expect").filter(|_| cluster.expect > Limits::MOST_VOTERS) {
        let most = Limits::MOST_VOTERS;
        table.wrong(
            "expect",
            &node.origin,
            format!("{expect} is too large; at most {most} nodes vote, others join them"),
        );
    }
    let cookie = table.get("cookie").map(|node| (node, table.text_of("cookie", node).unwrap_or_default()));
    let mut file = None;
    table.optional("cookie_file", &mut file);
    cluster.cookie_file = file.map(PathBuf::from);
    match cookie {
        Some((node, _)) if cluster.cookie_file.is_some() => {
            table.wrong("cookie", &node.origin, "there is a `cookie_file` as well; take one of them out");
        }
        Some((node, cookie)) => match cluster.too_weak(&cookie) {
            Some(reason) if !cookie.is_empty() || cluster.expect > 1 => table.wrong("cookie", &node.origin, reason),
            _ => cluster.cookie = cookie,
        },
        None if cluster.expect > 1 && cluster.cookie_file.is_none() => {
            table.missing("cookie", "choose a secret that all nodes share, or name a `cookie_file`");
        }
        None => {}
    }
    table.finish();
    config.cluster = Some(cluster);
}

/// Where the messages go has to be said, also when it is nowhere.
fn place(config: &ServerConfig, reader: &mut Reader<'_>) {
    match (&config.persistence_path, config.ephemeral_node, reader.get("ephemeral_node")) {
        // What is there and cannot be read has been reported.
        (None, false, _) if reader.get("persistence_path").is_none() => reader.missing(
            "persistence_path",
            "name the directory that keeps the node's messages, or set `ephemeral_node = true` if all of them may be \
             gone when the node stops",
        ),
        (Some(_), true, Some(node)) => {
            reader.wrong(
                "ephemeral_node",
                &node.origin,
                "an ephemeral node keeps nothing; take out `persistence_path`",
            );
        }
        _ => {}
    }
}

/// What cannot be counted any further.
fn numbers(config: &ServerConfig, reader: &mut Reader<'_>) {
    let Some(node) = reader.get("limits") else { return };
    let (keys, most) = (config.limits.live_keys, Limits::MOST_LIVE_KEYS);
    if keys > most {
        reader.wrong("limits.live_keys", &node.origin, format!("{keys} is too large; at most {most}"));
    }
}

/// What has to be understood before anybody is let in.
fn security(reader: &mut Reader<'_>) {
    let Some(node) = reader.get("security") else { return };
    let mut table = Reader::new("security", node, reader.errors);
    let mut check = |key: &'static str, parse: fn(&str) -> Result<(), String>| {
        if let Some(node) = table.get(key)
            && let Some(text) = table.text_of(key, node)
            && let Err(what) = parse(&text)
        {
            table.wrong(key, &node.origin, what);
        }
    };
    check("mode", |text| text.parse::<SecurityMode>().map(drop));
    check("audit", |text| text.parse::<AuditMode>().map(drop));
    check("bootstrap_token_hash", |text| text.parse::<TokenHash>().map(drop));
}

/// Times that have to fit each other.
fn timing(config: &ServerConfig, reader: &mut Reader<'_>) {
    let Some(node) = reader.get("raft") else { return };
    let (min, max) = config.raft.election;
    if min < config.raft.heartbeat * 2 {
        reader.wrong("raft.election_min", &node.origin, "it must be at least twice `raft.heartbeat`");
    }
    if max <= min {
        reader.wrong("raft.election_max", &node.origin, "it must be longer than `raft.election_min`");
    }
}
