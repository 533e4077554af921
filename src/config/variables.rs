//! Which `LIMINAL_*` variables of the environment are meant for a node's configuration. Others share the prefix: those of
//! clients and scripts, and those that Kubernetes puts into every pod for a service whose name begins with `liminal`. A
//! variable that is not known is told of and passed over, because whoever set it may not even know of this node.

use std::{collections::BTreeMap, time::Duration};

use super::{ClusterConfig, ServerConfig, fields, reader::Visitor};

const PREFIX: &str = "LIMINAL_";
/// Variables with the same prefix that mean something else: for clients, for the compose file and for tests.
const OTHERS: [&str; 19] = [
    "SERVER",
    "CONTEXT",
    "OUTPUT",
    "TOKEN",
    "JOIN_TOKEN",
    "CA",
    "CLIENT_CERT",
    "CLIENT_KEY",
    "IMAGE",
    "SIM_SEED",
    "SIM_SEEDS",
    "SIM_OF",
    "DRILL_MESSAGES",
    "FAULTS",
    "FAULTS_ROUNDS",
    "SIEGE",
    "TEST_BINARY",
    "TEST_DATA",
    "WRITE_CATALOGUE",
];
/// Keys that are read apart from the list of fields.
const MORE_KEYS: [&str; 6] =
    ["persistence_path", "cluster.cookie", "cluster.cookie_file", "cluster.expect", "channels", "routing_rules"];
/// Names in one warning.
const MOST_NAMED: usize = 3;

/// A variable that sets a key: the key's parts, the variable's name and its text.
pub(super) type Meant<'a> = (Vec<String>, &'a str, &'a str);

/// The variables that set a key, and warnings about those that set none.
pub(super) fn meant(variables: &BTreeMap<String, String>) -> (Vec<Meant<'_>>, Vec<String>) {
    let keys = keys();
    let (mut meant, mut warnings, mut of_services) = (Vec::new(), Vec::new(), Vec::new());
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !OTHERS.contains(rest)) else { continue };
        let key = rest.to_lowercase().replace("__", ".");
        if keys.contains(&key) {
            meant.push((key.split('.').map(str::to_owned).collect(), name.as_str(), text.as_str()));
        } else if is_of_a_service(rest, text) {
            of_services.push(name.as_str());
        } else {
            let help = match nearest(&key, &keys) {
                Some(key) => format!("did you mean {PREFIX}{}?", key.to_uppercase().replace('.', "__")),
                None => "see `liminal config show` for the keys".to_owned(),
            };
            warnings.push(format!("{name}: there is no such key, so it is passed over; {help}"));
        }
    }
    if !of_services.is_empty() {
        let shown = of_services.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = of_services.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warnings.push(format!(
            "{shown}{more}: set by Kubernetes for a service, so they are passed over; `enableServiceLinks: false` in the \
             pod's specification keeps them away"
        ));
    }
    (meant, warnings)
}

/// Whether a variable has the form of those that tell a pod of a service: `SVC_SERVICE_HOST`, `SVC_PORT=tcp://...`,
/// `SVC_PORT_7101_TCP_ADDR` and the like.
fn is_of_a_service(name: &str, text: &str) -> bool {
    let url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    let named = |part: &str| name.starts_with(part.trim_start_matches('_')) || name.contains(part);
    url || named("_SERVICE_HOST") || named("_SERVICE_PORT") || is_of_a_port(name)
}

fn is_of_a_port(name: &str) -> bool {
    let after = name.split("PORT_").skip(1);
    let mut ports = after.filter_map(|rest| rest.split_once('_'));
    ports.any(|(port, rest)| port.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|p| rest.starts_with(p)))
}

/// The key that was most probably meant: one that ends like the name, or that is spelled almost like it.
fn nearest<'a>(key: &str, keys: &'a [String]) -> Option<&'a String> {
    let last = |known: &str| known.rsplit('.').next().unwrap_or_default().to_owned();
    let flat = |known: &str| known.replace('.', "_");
    let same = keys.iter().find(|known| last(known) == key || flat(known) == key);
    let unlike = |known: &String| {
        let whole = strsim::damerau_levenshtein(&flat(key), &flat(known));
        whole.min(strsim::damerau_levenshtein(key, &last(known)))
    };
    let similar = || keys.iter().min_by_key(|known| unlike(known)).filter(|known| unlike(known) <= 2);
    same.or_else(similar)
}

/// Every key of a configuration, with dots between its parts.
fn keys() -> Vec<String> {
    let mut keys = Keys { prefix: String::new(), found: MORE_KEYS.map(str::to_owned).to_vec() };
    fields::server(&mut ServerConfig::default(), &mut keys);
    keys.table("cluster", &mut |v| fields::cluster(&mut ClusterConfig::default(), v));
    keys.found
}

/// Notes the keys of the fields that it is shown.
struct Keys {
    prefix: String,
    found: Vec<String>,
}

impl Keys {
    fn note(&mut self, key: &str) {
        self.found.push(format!("{}{key}", self.prefix));
    }
}

impl Visitor for Keys {
    fn table(&mut self, key: &'static str, fields: &mut dyn FnMut(&mut dyn Visitor)) {
        let outer = std::mem::replace(&mut self.prefix, format!("{key}."));
        fields(self);
        self.prefix = outer;
    }

    fn text(&mut self, key: &'static str, _: &mut String) {
        self.note(key);
    }

    fn optional(&mut self, key: &'static str, _: &mut Option<String>) {
        self.note(key);
    }

    fn address(&mut self, key: &'static str, _: &mut String) {
        self.note(key);
    }

    fn optional_address(&mut self, key: &'static str, _: &mut Option<String>) {
        self.note(key);
    }

    fn count(&mut self, key: &'static str, _: &mut u64) {
        self.note(key);
    }

    fn optional_count(&mut self, key: &'static str, _: &mut Option<u64>) {
        self.note(key);
    }

    fn size(&mut self, key: &'static str, _: &mut usize) {
        self.note(key);
    }

    fn duration(&mut self, key: &'static str, _: &mut Duration) {
        self.note(key);
    }

    fn optional_duration(&mut self, key: &'static str, _: &mut Option<Duration>) {
        self.note(key);
    }

    fn boolean(&mut self, key: &'static str, _: &mut bool) {
        self.note(key);
    }

    fn milliseconds(&mut self, key: &'static str, _: &mut Duration) {
        self.note(key);
    }

    fn texts(&mut self, key: &'static str, _: &mut Vec<String>) {
        self.note(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(variables: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (meant, warnings) = meant(&variables);
        (meant.into_iter().map(|(path, ..)| path.join(".")).collect(), warnings)
    }

    #[test]
    fn variables_of_kubernetes_services_are_passed_over_with_one_warning() {
        let (meant, warnings) = sorted(&[
            ("LIMINAL_CLIENT_PORT", "tcp://10.0.0.1:7101"),
            ("LIMINAL_CLIENT_PORT_7101_TCP_ADDR", "10.0.0.1"),
            ("LIMINAL_CLIENT_SERVICE_HOST", "10.0.0.1"),
            ("LIMINAL_CLIENT_SERVICE_PORT_GRPC", "7101"),
            ("LIMINAL_SERVICE_HOST", "10.0.0.2"),
            ("LIMINAL_PORT_7101_TCP_PROTO", "tcp"),
        ]);
        assert!(meant.is_empty(), "{meant:?}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("LIMINAL_CLIENT_PORT, ") && warnings[0].contains("and 3 more"), "{warnings:?}");
    }

    #[test]
    fn an_unknown_variable_is_passed_over_and_the_nearest_key_is_named() {
        let (meant, warnings) = sorted(&[
            ("LIMINAL_COOKIE", "secret"),
            ("LIMINAL_EXPECT", "5"),
            ("LIMINAL_IMAGE", "prebuilt"),
            ("LIMINAL_LIMITS__HEADRS", "7"),
            ("LIMINAL_LISTEN_ADDRESS", "127.0.0.1:1"),
            ("LIMINAL_QUUX__FROB", "1"),
        ]);
        assert_eq!(meant, ["listen_address"]);
        let named = ["LIMINAL_CLUSTER__COOKIE?", "LIMINAL_CLUSTER__EXPECT?", "LIMINAL_LIMITS__HEADERS?", "config show"];
        assert_eq!(warnings.len(), named.len(), "{warnings:?}");
        for (warning, name) in warnings.iter().zip(named) {
            assert!(warning.contains(name), "{warning} does not name {name}");
        }
    }
}
