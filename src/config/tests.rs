use std::{path::Path, time::Duration};

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

fn overrides(variables: &[(&str, &str)], flags: &[&str]) -> Overrides {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Overrides {
        variables: variables.iter().map(owned).collect(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    }
}

fn mistakes(text: &str) -> Vec<String> {
    let errors = ServerConfig::parse(text, "f.toml", Some(Path::new("."))).unwrap_err();
    errors.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_file_of_liminal_server_0_2_1_loads_unchanged() {
    let config = ServerConfig::parse(OLD, "liminal.toml", None).unwrap();
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!(config.channels.len(), 2);
    assert_eq!(config.routing_rules[0].predicate.as_deref(), Some("amount > 3"));
    assert_eq!(config.cluster.unwrap().expect, 3);
}

#[test]
fn all_mistakes_are_reported_together_with_their_places() {
    let text = "listen_address = \"nowhere\"\nlisten_adress = 3\ndrain_timeout_ms = \"soon\"\nchannels = [\n\
                { name = \"a b\" },\n{ name = \"c\", schema_ref = \"missing.json\" },\n{ name = \"c\" },\n{ }]\n\
                [limits]\nmessage_bytes = \"1 lot\"\npublish_timeout = 5\n[cluster]\nnode_name = \"\"\nexpect = 0\n";
    let mistakes = mistakes(text);
    let begins = [
        "f.toml:1:1: listen_address: `nowhere` is no address",
        "f.toml:1:1: persistence_path: it is missing; name the directory",
        "f.toml:2:1: listen_adress: there is no such key; did you mean `listen_address`?",
        "f.toml:3:1: drain_timeout_ms: a whole number",
        "f.toml:5:3: channels.name: `a b` is no channel name",
        "f.toml:6:15: channels.schema_ref: ./missing.json: No such file",
        "f.toml:7:3: channels.name: there are two channels `c`",
        "f.toml:8:1: channels.name: it is missing",
        "f.toml:10:1: limits.message_bytes: `1 lot` is no size",
        "f.toml:11:1: limits.publish_timeout: a time span with its unit",
        "f.toml:12:2: cluster.listen_address: it is missing",
        "f.toml:13:1: cluster.node_name: it is empty",
        "f.toml:14:1: cluster.expect: 0 is too small",
    ];
    assert_eq!(mistakes.len(), begins.len(), "{mistakes:#?}");
    for (mistake, begin) in mistakes.iter().zip(begins) {
        assert!(mistake.starts_with(begin), "{mistake} does not begin with {begin}");
    }
}

#[test]
fn mistakes_of_syntax_do_not_hide_the_others() {
    let mistakes = mistakes("listen_address = \"nowhere\"\ndrain_timeout_ms = = 3\nunknown = 1\n");
    assert!(mistakes[0].starts_with("f.toml:1:1: listen_address: `nowhere`"), "{mistakes:?}");
    assert!(mistakes.iter().any(|mistake| mistake.starts_with("f.toml:2:")), "{mistakes:?}");
    assert!(mistakes.iter().any(|mistake| mistake.starts_with("f.toml:3:1: unknown: there is no such key")));
}

#[test]
fn variables_win_over_the_file_and_flags_over_both() {
    let variables = [
        ("LIMINAL_LISTEN_ADDRESS", "0.0.0.0:9000"),
        ("LIMINAL_CLUSTER__COOKIE", "12345"),
        ("LIMINAL_CLUSTER__SEED_NODES", "a:1, b:1"),
        ("LIMINAL_LIMITS__MESSAGE_BYTES", "2MiB"),
        ("LIMINAL_LIMITS__HEADERS", "7"),
        ("LIMINAL_SERVER", "http://elsewhere:1"),
        ("LIMINAL_SERVICE_HOST", "10.0.0.1"),
        ("LIMINAL_PORT_7101_TCP", "tcp://10.0.0.1:7101"),
        ("LIMINAL_COOKIE", "of another program"),
        ("OTHER", "x"),
    ];
    let overrides = overrides(&variables, &["limits.headers=8", "cluster.expect=5"]);
    let Loaded { config, origins, warnings } = ServerConfig::parse_with(OLD, "f.toml", None, &overrides).unwrap();
    assert_eq!((config.listen_address.as_str(), config.limits.message_bytes), ("0.0.0.0:9000", 2 << 20));
    assert_eq!(config.limits.headers, 8);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let cluster = config.cluster.unwrap();
    assert_eq!((cluster.cookie.as_str(), cluster.expect), ("12345", 5));
    assert_eq!(cluster.seed_nodes, ["a:1", "b:1"]);
    assert_eq!(origins.of("cluster.cookie").as_deref(), Some("LIMINAL_CLUSTER__COOKIE"));
    assert_eq!(origins.of("limits.headers").as_deref(), Some("--set"));
    assert_eq!(origins.of("drain_timeout_ms").as_deref(), Some("file"));
}

#[test]
fn a_mistake_in_an_override_names_the_variable_or_the_flag() {
    let variables = [("LIMINAL_LIMITS__HEADRS", "7"), ("LIMINAL_LIMITS__HEADERS", "many")];
    let overrides = overrides(&variables, &["drain_timeout_ms=soon", "nonsense"]);
    let errors = ServerConfig::parse_with("", "f.toml", None, &overrides).unwrap_err().to_string();
    assert!(errors.contains("LIMINAL_LIMITS__HEADERS: limits.headers: a whole number"), "{errors}");
    assert!(errors.contains("environment: LIMINAL_LIMITS__HEADRS: there is no such key"), "{errors}");
    assert!(errors.contains("--set: drain_timeout_ms: a whole number"), "{errors}");
    assert!(errors.contains("--set: `nonsense` is no KEY=VALUE"), "{errors}");
}

#[test]
fn what_is_shown_loads_again_and_says_the_same_without_the_secret() {
    let overrides = overrides(&[("LIMINAL_LIMITS__PAGE_BYTES", "1234567")], &[]);
    let Loaded { config, origins, .. } = ServerConfig::parse_with(OLD, "f.toml", None, &overrides).unwrap();
    let shown = config.show(&origins);
    assert!(!shown.contains("secret") && !format!("{config:?}").contains("secret"), "{shown}");
    assert!(shown.contains("page_bytes = 1234567  # LIMINAL_LIMITS__PAGE_BYTES"), "{shown}");
    assert!(shown.contains("drain_timeout_ms = 5000  # file"), "{shown}");
    assert!(shown.contains("\npublish_timeout = \"10s\"\n"), "{shown}");
    let again = ServerConfig::parse(&shown, "shown", None).unwrap();
    assert_eq!(again.show(&origins), shown);
    assert_eq!((again.limits, again.raft, again.store), (config.limits, config.raft, config.store));
}

#[test]
fn a_cluster_without_a_secret_is_refused() {
    let text = OLD.replace("cookie = \"secret\"", "cookie = \"\"");
    let errors = ServerConfig::parse(&text, "f.toml", None).unwrap_err().to_string();
    assert!(errors.contains("cluster.cookie: it is empty"), "{errors}");
}

#[test]
fn a_node_that_listens_everywhere_is_told_of_by_its_name() {
    let mut config = ServerConfig { cluster: Some(ClusterConfig::default()), ..ServerConfig::default() };
    assert_eq!(config.advertised(None, "0.0.0.0:7101", "box"), "n1:7101");
    assert_eq!(config.advertised(None, "[::]:7101", "box"), "n1:7101");
    assert_eq!(config.advertised(None, "10.0.0.4:7101", "box"), "10.0.0.4:7101");
    assert_eq!(config.advertised(Some(&"broker.example:1".to_owned()), "0.0.0.0:7101", "box"), "broker.example:1");
    config.cluster = Some(ClusterConfig { node_name: String::new(), ..ClusterConfig::default() });
    assert_eq!(config.advertised(None, "0.0.0.0:7101", "box"), "box:7101");
    config.cluster = None;
    assert_eq!(config.advertised(None, "0.0.0.0:7101", "box"), "127.0.0.1:7101");
}

#[test]
fn one_name_as_the_only_seed_stands_for_three_nodes() {
    let expect = |seeds: &[&str]| {
        let seed_nodes = seeds.iter().map(|seed| (*seed).to_owned()).collect();
        ClusterConfig { seed_nodes, ..ClusterConfig::default() }.usual_expect()
    };
    assert_eq!((expect(&[]), expect(&["127.0.0.1:7301"]), expect(&["node:7301"])), (1, 1, 3));
    assert_eq!(expect(&["[::1]:7301"]), 2, "an IPv6 address is no name");
    let alone = ClusterConfig {
        listen_address: "[::1]:7301".into(),
        seed_nodes: vec!["[0:0::1]:7301".into()],
        ..ClusterConfig::default()
    };
    assert_eq!(alone.usual_expect(), 1);
    assert_eq!(expect(&["127.0.0.1:7301", "b:1", "127.0.0.1:7301"]), 2);
    assert_eq!(expect(&["10.0.0.1:7301"]), 2, "a node whose seed is another one does not begin alone");
    let everywhere = ClusterConfig {
        listen_address: "0.0.0.0:7301".into(),
        seed_nodes: ["n1:7301", "n2:7301", "n3:7301"].map(str::to_owned).to_vec(),
        ..ClusterConfig::default()
    };
    assert_eq!(everywhere.usual_expect(), 3);
}

#[test]
fn seeds_are_counted_only_where_nobody_says_how_many_nodes_there_are() {
    let counts = |seeds: &[&str]| {
        let seed_nodes = seeds.iter().map(|seed| (*seed).to_owned()).collect();
        !ClusterConfig { seed_nodes, ..ClusterConfig::default() }.has_one_name()
    };
    assert!(counts(&["localhost:7301"]) && counts(&["127.0.0.1:7301"]) && counts(&["a:7301", "b:7301"]));
    assert!(!counts(&["node:7301"]), "a name that stands for three nodes is not one of them");
    assert!(!ClusterConfig::default().counts_seeds, "who embeds a node says how many there are");
}

#[test]
fn no_more_than_seven_nodes_found_a_cluster() {
    let seeds: Vec<String> = (1..=9).map(|number| format!("n{number}:7301")).collect();
    let nine = ClusterConfig { seed_nodes: seeds, ..ClusterConfig::default() };
    assert_eq!(nine.usual_expect(), 7);
    let text = OLD.replace("cookie", "expect = 9\ncookie");
    let mistakes = mistakes(&text);
    assert!(
        mistakes.iter().any(|mistake| mistake.contains("cluster.expect: 9 is too large; at most 7")),
        "{mistakes:?}"
    );
}

#[test]
fn more_live_keys_than_can_be_told_apart_are_refused() {
    let with = |keys: u64| format!("ephemeral_node = true\n[limits]\nlive_keys = {keys}\n");
    let most = u64::from(u32::MAX);
    assert_eq!(ServerConfig::parse(&with(most), "f.toml", None).unwrap().limits.live_keys, most);
    let mistakes = mistakes(&with(most + 1));
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].ends_with("limits.live_keys: 4294967296 is too large; at most 4294967295"), "{mistakes:?}");
}

#[test]
fn a_node_says_where_its_messages_go_or_that_they_go_nowhere() {
    let nowhere = mistakes("");
    assert!(nowhere[0].starts_with("f.toml:1:1: persistence_path: it is missing"), "{nowhere:?}");
    assert!(nowhere[0].contains("`ephemeral_node = true`"), "{nowhere:?}");
    assert!(ServerConfig::parse("ephemeral_node = true", "f.toml", None).unwrap().ephemeral_node);
    assert!(ServerConfig::parse("persistence_path = \"d\"", "f.toml", None).is_ok());
    let both = mistakes("persistence_path = \"d\"\nephemeral_node = true\n");
    assert!(both[0].starts_with("f.toml:2:1: ephemeral_node: an ephemeral node keeps nothing"), "{both:?}");
    assert!(ServerConfig::load_with(None, &Overrides::default()).is_ok(), "the defaults can be shown");
}

#[test]
fn ipv6_addresses_are_taken_everywhere_in_brackets() {
    let text = "ephemeral_node = true\nlisten_address = \"[::]:7101\"\nadvertise_address = \"[2001:db8::1]:7101\"\n\
                [cluster]\nnode_name = \"n1\"\nlisten_address = \"[::1]:7301\"\nseed_nodes = [\"[::1]:7301\"]\n";
    let config = ServerConfig::parse(text, "f.toml", None).unwrap();
    assert_eq!(config.cluster.as_ref().unwrap().expect, 1);
    assert_eq!(config.advertised(None, "[::]:7201", "box"), "n1:7201");
    let mistakes = mistakes(&text.replace("\"[::1]:7301\"", "\"::1:7301\""));
    assert!(mistakes.iter().any(|mistake| mistake.contains("write an IPv6 address in brackets: [::1]:7301")));
}

#[test]
fn a_file_in_another_encoding_is_told_with_the_place_of_the_first_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latin-1.toml");
    std::fs::write(&path, b"drain_timeout_ms = 7\npersistence_path = \"caf\xe9\"\n").unwrap();
    let errors = ServerConfig::load(&path).unwrap_err().to_string();
    assert!(errors.contains(":2:24: ") && errors.contains("no UTF-8"), "{errors}");
}
