//! `liminal channel` against a node: what a channel keeps and takes, and trims.

use std::{sync::Arc, time::Duration};

use liminal::{
    config::ServerConfig,
    env::Env,
    node::{Node, Storage},
    raft::{
        Identity,
        log::{SimDisk, SimLog},
    },
    store::MemoryStore,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{liminal, run};

/// A node of a cluster of one, with a channel `orders`, and what it runs on.
fn node() -> (Runtime, Node) {
    let runtime = Runtime::new().unwrap();
    let node = runtime.block_on(async {
        let config = ServerConfig {
            listen_address: "127.0.0.1:0".into(),
            health_listen_address: "127.0.0.1:0".into(),
            drain_timeout: Duration::from_secs(1),
            ..ServerConfig::default()
        };
        let env = Env::real();
        let log = Arc::new(SimLog::open(&SimDisk::default()));
        let storage = Storage::of(log, Arc::new(MemoryStore::new()), Identity::in_memory("n1", &env));
        let node = Node::start(config.with_channel("orders", true), env, storage).await.unwrap();
        let created = async { while node.broker().channel("orders").await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), created).await.expect("the channel is created");
        node
    });
    (runtime, node)
}

/// Exit code, standard output and standard error of a command about a node.
fn asked(node: &Node, args: &[&str]) -> (i32, String, String) {
    let server = format!("http://{}", node.client_address());
    run(liminal(&["--server", &server]).args(args))
}

fn json(node: &Node, args: &[&str]) -> Value {
    let (code, out, err) = asked(node, &[&["-o", "json"], args].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn what_a_channel_keeps_and_takes_is_set_changed_and_shown() {
    let (runtime, node) = node();
    json(&node, &["channel", "create", "bad"]);
    let made = json(
        &node,
        &[
            "channel",
            "create",
            "kept",
            "--max-messages",
            "100",
            "--max-bytes",
            "1GiB",
            "--max-age",
            "7d",
            "--when-full",
            "refuse-new",
            "--work-queue",
            "--rate",
            "50",
            "--byte-rate",
            "1MiB",
            "--compatibility",
            "full",
            "--quarantine",
            "bad",
        ],
    );
    let kept = serde_json::json!({
        "max_messages": 100, "max_bytes": 1 << 30, "max_age_ms": 604_800_000,
        "when_full": "refuse_new", "work_queue": true,
    });
    assert_eq!(
        (&made["retention"], &made["compatibility"], &made["quarantine"]),
        (&kept, &"full".into(), &"bad".into())
    );
    assert_eq!(made["quota"], serde_json::json!({"messages_per_second": 50, "bytes_per_second": 1 << 20}));

    let change =
        ["channel", "update", "kept", "--max-age", "none", "--work-queue=false", "--rate", "none", "--quarantine", ""];
    let changed = json(&node, &change);
    let kept = serde_json::json!({
        "max_messages": 100, "max_bytes": 1 << 30, "when_full": "refuse_new", "work_queue": false,
    });
    assert_eq!((&changed["retention"], changed.get("quarantine")), (&kept, None));
    assert_eq!(changed["quota"], serde_json::json!({"bytes_per_second": 1 << 20}));

    let (_, shown, _) = asked(&node, &["channel", "show", "kept"]);
    assert!(shown.contains("keeps         100 messages, 1.0 GiB, then refuses\n"), "{shown}");
    assert!(shown.contains("quota         1.0 MiB/s\n") && shown.contains("compatibility full\n"), "{shown}");
    let (_, listed, _) = asked(&node, &["channel", "list"]);
    assert!(listed.lines().any(|line| line.starts_with("orders") && line.ends_with("all")), "{listed}");
    let (code, _, err) = asked(&node, &["channel", "update", "kept", "--compact-by", "user"]);
    assert!(code == 1 && err.contains("compact_by does not go with max_messages"), "{err}");
    json(&node, &["channel", "update", "kept", "--compact-by", "user", "--max-messages", "none"]);
    let (_, shown, _) = asked(&node, &["channel", "show", "kept"]);
    assert!(
        shown.contains(
            "keeps         1.0 GiB, the last of each user, then refuses
"
        ),
        "{shown}"
    );
    let changed = json(&node, &["channel", "update", "kept", "--compact-by", ""]);
    assert_eq!(changed["retention"].get("compact_by"), None);
    runtime.block_on(node.stop());
}

#[test]
fn a_trim_says_what_it_would_remove_and_where_the_channel_begins() {
    let (runtime, node) = node();
    for _ in 0..5 {
        assert_eq!(asked(&node, &["publish", "orders", "{}"]).0, 0);
    }
    let (code, _, err) = asked(&node, &["channel", "trim", "orders", "--keep", "4"]);
    assert!(code == 2 && err.contains("remove 1 message(s) of `orders`") && err.contains("--yes"), "{err}");
    let (code, out, _) = asked(&node, &["channel", "trim", "orders", "--keep", "4", "--yes"]);
    assert_eq!((code, out.as_str()), (0, "orders  begins at 1\n"));
    assert_eq!(json(&node, &["channel", "trim", "orders", "--to", "3", "--yes"])["first_seq"], 3);
    assert_eq!(json(&node, &["channel", "trim", "orders", "--older-than", "1h", "--yes"])["first_seq"], 3);
    let (code, _, err) = asked(&node, &["channel", "trim", "orders", "--to", "9"]);
    assert!(code == 1 && err.contains("give at most 5"), "{err}");
    assert_eq!(asked(&node, &["channel", "trim", "orders"]).0, 2);
    assert_eq!(asked(&node, &["channel", "trim", "orders", "--to", "1", "--keep", "1"]).0, 2);
    runtime.block_on(node.stop());
}

#[test]
fn what_waits_is_listed_and_withdrawn_and_payloads_are_compared_as_their_channel_says() {
    let (runtime, node) = node();
    let made = json(&node, &["channel", "create", "said", "--compare", "canonical-json"]);
    assert_eq!(made["comparison"], "canonical-json");
    json(&node, &["publish", "said", r#"{"a": 1}"#, "--key", "k"]);
    assert_eq!(json(&node, &["publish", "said", r#"{"a":1.0}"#, "--key", "k"])["duplicate"], true);
    json(&node, &["publish", "orders", "x", "--delay", "1h", "--key", "late"]);
    let listed = json(&node, &["channel", "delayed", "list", "orders"]);
    assert_eq!((&listed["id"], &listed["key"], &listed["payload_base64"]), (&1.into(), &"late".into(), &"eA==".into()));
    let (_, shown, _) = asked(&node, &["channel", "delayed", "list", "orders"]);
    assert!(shown.starts_with("ID") && shown.contains("late"), "{shown}");
    let withdraw = ["channel", "delayed", "withdraw", "orders", "1"];
    assert_eq!(json(&node, &withdraw)["withdrawn"], true);
    let (code, out, _) = asked(&node, &withdraw);
    assert!(code == 1 && out.contains("no message 1 waits"), "{out}");
    let (code, _, err) = asked(&node, &["publish", "orders", "x", "--key", ""]);
    assert!(code == 2 && err.contains("it is empty"), "{err}");
    runtime.block_on(node.stop());
}
