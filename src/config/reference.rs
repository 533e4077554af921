//! docs/CONFIGURATION.md: every key with its type, default, bounds, variable and meaning. Keys and types come from the list of
//! fields, defaults from `config show`, and meanings from the comments where the fields are declared, so nothing of it is
//! written twice.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use super::{ClusterConfig, Origins, ServerConfig, fields, reader::Visitor};
use crate::{documents, model::Limits};

/// Keys that are not in the list of fields, with their types.
const APART: [(&str, &str); 6] = [
    ("persistence_path", "path"),
    ("cluster.cookie", "text"),
    ("cluster.cookie_file", "path"),
    ("cluster.expect", "number"),
    ("channels", "list of tables"),
    ("routing_rules", "list of tables"),
];

/// Defaults that depend on other keys or on the machine.
const DEPENDS: [(&str, &str); 10] = [
    ("advertise_address", "see its meaning"),
    ("advertise_http_address", "see its meaning"),
    ("persistence_path", "required, or `ephemeral_node = true`"),
    ("cluster.node_name", "the name of the machine"),
    ("cluster.listen_address", "required"),
    ("cluster.advertise_address", "see its meaning"),
    ("cluster.cookie", "required where `cluster.expect` is above 1"),
    ("cluster.cookie_file", "none"),
    ("cluster.expect", "as many as there are seeds and this node"),
    ("peer_tls.mode", "`\"required\"` with a `cert`, `\"off\"` without"),
];

/// Bounds of single keys, in place of those of their types.
fn bounds() -> [(&'static str, String); 11] {
    [
        ("limits.live_keys", format!("1 to {}", Limits::MOST_LIVE_KEYS)),
        ("limits.consumer_name_bytes", "1 to 200".to_owned()),
        ("cluster.expect", format!("1 to {}", Limits::MOST_VOTERS)),
        ("cluster.cookie", format!("at least {} characters; fewer on loopback", ClusterConfig::SHORTEST_COOKIE)),
        ("cluster.join", "`\"cookie\"` or `\"token\"`".to_owned()),
        ("raft.election_min", "at least twice `raft.heartbeat`".to_owned()),
        ("raft.election_max", "longer than `raft.election_min`".to_owned()),
        ("security.mode", "`\"off\"`, `\"permissive\"` or `\"enforce\"`".to_owned()),
        ("security.audit", "`\"auto\"`, `\"on\"` or `\"off\"`".to_owned()),
        ("tls.min_version", "`\"1.3\"` or `\"1.2\"`".to_owned()),
        ("peer_tls.mode", "`\"off\"`, `\"optional\"` or `\"required\"`".to_owned()),
    ]
}

/// Keys with the names of their types.
#[derive(Default)]
struct Keys {
    prefix: String,
    found: Vec<(String, &'static str)>,
}

impl Keys {
    fn note(&mut self, key: &str, kind: &'static str) {
        self.found.push((format!("{}{key}", self.prefix), kind));
    }

    /// All of them.
    fn all() -> Vec<(String, &'static str)> {
        let mut keys = Self::default();
        fields::server(&mut ServerConfig::default(), &mut keys);
        keys.table("cluster", &mut |v| fields::cluster(&mut ClusterConfig::default(), v));
        keys.found.extend(APART.map(|(key, kind)| (key.to_owned(), kind)));
        // One table after the other, with what every node has first.
        let rank = |key: &str| match split(key).0 {
            "" => 0,
            "cluster" => 1,
            _ => 2,
        };
        keys.found.sort_by_key(|(key, _)| rank(key));
        keys.found
    }
}

macro_rules! noted {
    ($($name:ident: $field:ty = $kind:literal,)+) => {
        $(fn $name(&mut self, key: &'static str, _: &mut $field) {
            self.note(key, $kind);
        })+
    };
}

impl Visitor for Keys {
    fn table(&mut self, key: &'static str, fields: &mut dyn FnMut(&mut dyn Visitor)) {
        let outer = std::mem::replace(&mut self.prefix, format!("{key}."));
        fields(self);
        self.prefix = outer;
    }

    noted! {
        text: String = "text",
        optional: Option<String> = "text",
        address: String = "`HOST:PORT`",
        optional_address: Option<String> = "`HOST:PORT`",
        count: u64 = "number",
        optional_count: Option<u64> = "number, or `\"off\"`",
        size: usize = "size",
        duration: Duration = "duration",
        optional_duration: Option<Duration> = "duration, or `\"off\"`",
        boolean: bool = "`true` or `false`",
        milliseconds: Duration = "milliseconds",
        texts: Vec<String> = "list of texts",
    }
}

/// The structs whose fields are keys: the table, and the fields with the comments at them.
struct Declared(BTreeMap<String, BTreeMap<String, String>>);

impl Declared {
    /// As the sources say.
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let dir = fs::read_dir(root.join("config")).unwrap().map(|entry| entry.unwrap().path());
        let paths =
            dir.filter(|path| path.extension().is_some_and(|end| end == "rs")).chain([root.join("model/limits.rs")]);
        let mut tables = BTreeMap::new();
        for source in paths.map(|path| fs::read_to_string(path).unwrap()) {
            for declared in source.split("\npub struct ").skip(1) {
                let Some((name, fields)) = declared.split_once(" {\n") else { continue };
                tables.insert(table_of(name), comments(fields));
            }
        }
        Self(tables)
    }

    /// What a key means: the comment at its field, which has its name or, where two keys make one field, the beginning of it.
    fn meaning(&self, key: &str) -> String {
        let (table, name) = split(key);
        let fields = &self.0[table];
        let part_of = || fields.iter().filter(|(field, _)| name.starts_with(field.as_str()));
        let longest = || part_of().max_by_key(|(field, _)| field.len()).map(|(_, comment)| comment);
        let comment = fields.get(name).or_else(longest).unwrap_or_else(|| panic!("{key}: no field has its name"));
        // Names of fields become names of keys.
        let parts = comment.split("[`").map(|part| match part.split_once("`]") {
            Some((link, after)) => match link.split_once("::") {
                Some((of, field)) => format!("`{}`{after}", whole(&table_of(of), field)),
                None => format!("`{link}`{after}"),
            },
            None => part.to_owned(),
        });
        parts.collect()
    }
}

/// The table whose fields a struct has: `limits` of `Limits`, `peer_tls` of `PeerTlsConfig`, the top of `ServerConfig`.
fn table_of(name: &str) -> String {
    let mut table = String::new();
    for c in name.trim_end_matches("Config").chars() {
        if c.is_uppercase() && !table.is_empty() {
            table.push('_');
        }
        table.extend(c.to_lowercase());
    }
    if table == "server" { String::new() } else { table }
}

fn whole(table: &str, field: &str) -> String {
    if table.is_empty() { field.to_owned() } else { format!("{table}.{field}") }
}

/// The comments at the fields of a struct, by the fields' names.
fn comments(declared: &str) -> BTreeMap<String, String> {
    let (mut found, mut comment) = (BTreeMap::new(), Vec::new());
    for line in declared.lines().take_while(|line| *line != "}").map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':')) {
            found.insert(field.to_owned(), comment.join(" "));
            comment.clear();
        }
    }
    found
}

/// The table of a key, and the key in it.
fn split(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or(("", key))
}

/// The defaults as `config show` prints them, by key.
fn defaults() -> BTreeMap<String, String> {
    let config = ServerConfig { cluster: Some(ClusterConfig::default()), ..ServerConfig::default() };
    let (mut table, mut found) = (String::new(), BTreeMap::new());
    for line in config.show(&Origins::default()).lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, value)) = line.split_once(" = ") {
            found.insert(format!("{table}{key}"), format!("`{value}`"));
        }
    }
    found
}

fn bound(key: &str, kind: &str) -> String {
    let of_type = match kind.split(',').next().unwrap_or(kind) {
        "number" => "at least 1",
        "size" => "at least 1 byte",
        "duration" => "longer than 0",
        _ => "",
    };
    let own = bounds().into_iter().find(|(bounded, _)| *bounded == key);
    own.map_or_else(|| of_type.to_owned(), |(_, bound)| bound)
}

#[test]
fn the_generated_reference_of_the_configuration_is_what_the_code_says() {
    let mut text = format!(
        "# Configuration\n\n{}\nEvery key of a node's configuration. `liminal config check FILE` reports everything that is wrong with a \
         file, `liminal config show FILE`\nprints what would be used. A variable of the environment wins over the file, and \
         `--set KEY=VALUE` over both. In a variable, a\nlist is written as in TOML, or, where it is a list of texts, with commas.\n\n\
         A *size* is a number of bytes or a text like `\"64MiB\"`. A *duration* is a text with its unit, like `\"250ms\"` or \
         `\"24h\"`.\n",
        documents::notice()
    );
    let (mut table, defaults, declared) = ("?".to_owned(), defaults(), Declared::read());
    for (key, kind) in Keys::all() {
        let of = split(&key).0;
        if table != of {
            table = of.to_owned();
            let heading = if table.is_empty() { "The node".to_owned() } else { format!("[{table}]") };
            write!(
                text,
                "\n## {heading}\n\n| Key | Type | Default | Bounds | Variable | Meaning |\n|---|---|---|---|---|---|\n"
            )
            .unwrap();
        }
        let depends = DEPENDS.iter().find(|(known, _)| *known == key).map(|(_, default)| (*default).to_owned());
        let default = depends.or_else(|| defaults.get(&key).cloned()).unwrap_or_else(|| "none".to_owned());
        let variable = format!("LIMINAL_{}", key.to_uppercase().replace('.', "__"));
        let (bound, meaning) = (bound(&key, kind), declared.meaning(&key));
        writeln!(text, "| `{key}` | {kind} | {default} | {bound} | `{variable}` | {meaning} |").unwrap();
    }
    documents::hold("docs/CONFIGURATION.md", &text);
}
