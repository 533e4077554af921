//! `liminal claim` against a real node.

use std::sync::Arc;

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
use serde_json::{Value, json};

/// A node of a cluster of one.
async fn node() -> Node {
    let config = ServerConfig {
        listen_address: "127.0.0.1:0".into(),
        health_listen_address: "127.0.0.1:0".into(),
        ..ServerConfig::default()
    };
    let env = Env::real();
    let log = Arc::new(SimLog::open(&SimDisk::default()));
    let storage = Storage::of(log, Arc::new(MemoryStore::new()), Identity::in_memory("n1", &env));
    Node::start(config, env, storage).await.unwrap()
}

/// Exit code, standard output and standard error.
async fn claim(node: &Node, args: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_liminal"));
    let output = command.args(["--server", &format!("http://{}", node.client_address()), "claim"]).args(args);
    let output = output.env_remove("LIMINAL_TOKEN").env_remove("RUST_LOG").output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn json(node: &Node, args: &[&str]) -> Value {
    let (code, out, err) = claim(node, &[args, &["-o", "json"]].concat()).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_taken_completed_and_told_of_on_the_command_line() {
    let node = node().await;
    let taken = json(&node, &["take", "jobs", "k", "--owner", "w1"]).await;
    assert_eq!((&taken["state"], &taken["token"], &taken["repeated"]), (&json!("claimed"), &json!(1), &json!(false)));
    assert_eq!(json(&node, &["take", "jobs", "k", "--owner", "w1"]).await["repeated"], true);
    let (code, out, err) = claim(&node, &["take", "jobs", "k"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    for part in ["error: claim `jobs/k` is in flight", "`w1`", "token 1", "  help: ", "  code: CLAIM_IN_FLIGHT"] {
        assert!(err.contains(part), "{part} is not in {err}");
    }
    let shown = json(&node, &["show", "jobs", "k"]).await;
    assert_eq!((&shown["state"], &shown["owner"]), (&json!("in_flight"), &json!("w1")));
    assert_eq!(json(&node, &["renew", "jobs", "k", "1", "--lease", "1h"]).await["token"], 1);
    let (code, out, _) = claim(&node, &["complete", "jobs", "k", "1", r#"{"mail":7}"#]).await;
    assert_eq!((code, out.as_str()), (0, "jobs/k  completed\n"));
    let (_, out, _) = claim(&node, &["complete", "jobs", "k", "1", r#"{"mail":7}"#]).await;
    assert_eq!(out, "jobs/k  completed  it was already\n");
    let done = json(&node, &["take", "jobs", "k"]).await;
    assert_eq!((&done["state"], &done["receipt"]), (&json!("completed"), &json!({"mail": 7})));
    let (_, out, _) = claim(&node, &["take", "jobs", "k", "-o", "raw"]).await;
    assert_eq!(out, r#"{"mail":7}"#);
    let (code, _, err) = claim(&node, &["complete", "jobs", "k", "9", "x"]).await;
    assert!(code == 1 && err.contains("CLAIM_STALE"), "{err}");
    let other = json(&node, &["take", "jobs", "other"]).await["token"].to_string();
    let (code, out, _) = claim(&node, &["release", "jobs", "other", &other]).await;
    assert_eq!((code, out.as_str()), (0, "jobs/other  free\n"));
    assert_eq!(json(&node, &["show", "jobs", "other"]).await["state"], "free");
    let (_, out, _) = claim(&node, &["namespaces"]).await;
    assert!(out.lines().any(|line| line.starts_with("jobs") && line.contains("1day")), "{out}");
    let (code, out, _) = claim(&node, &["keep", "jobs", "7d"]).await;
    assert!(code == 0 && out.lines().any(|line| line.starts_with("jobs") && line.contains("7days")), "{out}");
    assert_eq!(json(&node, &["keep", "mails", "1h"]).await["window_ms"], 3_600_000);
    let (code, _, err) = claim(&node, &["forget", "mails"]).await;
    assert!(code == 2 && err.contains("all its claims and receipts") && err.contains("--yes"), "{err}");
    assert_eq!(claim(&node, &["forget", "mails", "--yes"]).await.1, "mails  forgotten\n");
    let (code, _, err) = claim(&node, &["forget", "mails", "--yes"]).await;
    assert!(code == 1 && err.contains("NAMESPACE_NOT_FOUND"), "{err}");
    let (code, _, err) = claim(&node, &["show", "jbos", "k"]).await;
    assert!(code == 1 && err.contains("NAMESPACE_NOT_FOUND") && err.contains("help: "), "{err}");
    assert_eq!(claim(&node, &["take", "jobs"]).await.0, 2);
    node.stop().await;
}
