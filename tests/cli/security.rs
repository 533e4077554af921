//! `liminal token`, `liminal role` and `liminal auth`, and where commands take their token from.

use std::{path::Path, sync::Arc};

use liminal::{
    config::{SecurityConfig, ServerConfig},
    env::Env,
    model::{SecurityMode, TokenHash},
    node::{Node, Storage},
    raft::{
        Identity,
        log::{SimDisk, SimLog},
    },
    store::MemoryStore,
};
use serde_json::Value;

use super::{file, liminal, run};

#[test]
fn a_token_on_the_command_line_is_refused_and_not_repeated() {
    for words in [&["--token", "lim_1_secret", "channel", "list"][..], &["health", "--token=lim_1_secret"]] {
        let (code, out, err) = run(&mut liminal(words));
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("--token-file") && err.contains("LIMINAL_TOKEN"), "{err}");
        assert!(!err.contains("secret"), "{err}");
    }
    let (code, _, err) = run(&mut liminal(&["--token-file", "/no/such/file", "channel", "list"]));
    assert!(code == 2 && err.contains("/no/such/file"), "{err}");
    assert!(!run(&mut liminal(&["--help"])).1.contains("--token <"), "it is not offered");
}

/// What `token bootstrap` says: the token, and its hash.
fn bootstrap() -> (String, TokenHash) {
    let (code, out, _) = run(&mut liminal(&["-o", "json", "token", "bootstrap"]));
    assert_eq!(code, 0);
    let said: Value = serde_json::from_str(&out).unwrap();
    let hash = said["bootstrap_token_hash"].as_str().unwrap().parse().unwrap();
    (said["token"].as_str().unwrap().to_owned(), hash)
}

#[test]
fn bootstrap_makes_a_token_and_lines_that_a_configuration_takes() {
    let (token, hash) = bootstrap();
    assert_eq!(TokenHash::of(&token), hash);
    assert_ne!(bootstrap().0, token);
    let (code, out, _) = run(&mut liminal(&["token", "bootstrap"]));
    let (token, lines) = out.split_once('\n').unwrap();
    assert!(code == 0 && token.starts_with("lim_") && !lines.contains(token), "{out}");
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &format!("listen_address = \"0.0.0.0:0\"\nephemeral_node = true\n{lines}"));
    let (code, _, err) = run(liminal(&["config", "check"]).arg(&path));
    assert_eq!(code, 0, "{err}");
}

#[test]
fn a_node_that_strangers_reach_does_not_start_unless_that_is_meant_so() {
    let dir = tempfile::tempdir().unwrap();
    let open = "listen_address = \"0.0.0.0:0\"\nephemeral_node = true\n";
    let path = file(&dir, open);
    for words in [&["config", "check"][..], &["serve", "--config"]] {
        let (code, _, err) = run(liminal(words).arg(&path));
        assert!(code == 1 && err.contains("security.insecure") && err.contains("listen_address"), "{words:?}: {err}");
    }
    let path = file(&dir, &format!("{open}[security]\ninsecure = true\n"));
    let (code, _, err) = run(liminal(&["config", "check"]).arg(&path));
    assert!(code == 0 && err.contains("may do everything"), "it is said each time: {err}");
}

/// A node of a cluster of one that asks for tokens.
async fn closed(hash: TokenHash) -> Node {
    let config = ServerConfig {
        listen_address: "127.0.0.1:0".into(),
        health_listen_address: "127.0.0.1:0".into(),
        security: SecurityConfig {
            mode: SecurityMode::Enforce,
            insecure: false,
            bootstrap_token_hash: Some(hash),
            ..SecurityConfig::default()
        },
        ..ServerConfig::default()
    };
    let env = Env::real();
    let log = Arc::new(SimLog::open(&SimDisk::default()));
    let storage = Storage::of(log, Arc::new(MemoryStore::new()), Identity::in_memory("n1", &env));
    Node::start(config, env, storage).await.unwrap()
}

async fn command(node: &Node, token_file: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_liminal"));
    command.args(["--server", &format!("http://{}", node.client_address()), "--token-file"]).arg(token_file);
    let output = command
        .args(args)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("LIMINAL_TOKEN")
        .env_remove("RUST_LOG")
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_opened_to_its_first_users_by_the_commands_of_the_document() {
    let (token, hash) = tokio::task::spawn_blocking(bootstrap).await.unwrap();
    let node = closed(hash).await;
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str, token: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        path
    };
    let first = place("bootstrap", &token);
    let (code, admin, err) = command(&node, &first, &["token", "create", "--role", "admin", "-o", "raw"]).await;
    assert_eq!(code, 0, "{err}");
    let admin = place("admin", admin.trim());
    let (code, _, err) = command(&node, &admin, &["channel", "create", "orders"]).await;
    assert_eq!(code, 0, "{err}");
    let grants = ["--grant", "channel:orders=publish,read", "--grant", "claim:mails=claim"];
    let (code, out, err) = command(&node, &admin, &[&["role", "create", "shop"][..], &grants].concat()).await;
    assert_eq!((code, out.trim()), (0, "shop  channel:orders=publish,read claim:mails=claim"), "{err}");
    let create = ["token", "create", "--role", "shop", "--description", "the shop", "--lifetime", "90d", "-o", "json"];
    let (code, out, err) = command(&node, &admin, &create).await;
    assert_eq!(code, 0, "{err}");
    let made: Value = serde_json::from_str(&out).unwrap();
    let (id, shop) = (made["id"].as_str().unwrap(), place("shop", made["token"].as_str().unwrap()));
    assert_eq!(command(&node, &shop, &["publish", "orders", "{}"]).await.0, 0);
    let (code, out, _) = command(&node, &shop, &["auth", "can-i", "consume", "channel:orders"]).await;
    assert!(code == 1 && out.starts_with("no: "), "{out}");
    let (code, out, _) = command(&node, &admin, &["auth", "can-i", "read", "channel:orders", "--token-id", id]).await;
    assert_eq!((code, out), (0, format!("yes: token {id} may read on channel:orders\n")));
    let (code, _, err) = command(&node, &shop, &["channel", "delete", "orders", "--yes"]).await;
    assert!(code == 1 && err.contains("PERMISSION_DENIED"), "{err}");
    let (_, listed, _) = command(&node, &admin, &["token", "list"]).await;
    assert!(listed.contains(id) && listed.contains("the shop") && !listed.contains("lim_"), "{listed}");
    let (code, _, err) = command(&node, &admin, &["role", "delete", "shop", "--yes"]).await;
    assert!(code == 1 && err.contains("ROLE_IN_USE") && err.contains(id), "{err}");
    let (code, _, err) = command(&node, &admin, &["token", "revoke", id]).await;
    assert!(code == 2 && err.contains("(the shop)") && err.contains("--yes"), "{err}");
    assert_eq!(command(&node, &admin, &["token", "revoke", id, "--yes"]).await.0, 0);
    let (code, _, err) = command(&node, &shop, &["publish", "orders", "{}"]).await;
    assert!(code == 1 && err.contains("UNAUTHENTICATED"), "{err}");
    assert_eq!(command(&node, &admin, &["role", "delete", "shop", "--yes"]).await.0, 0);
    let (_, out, _) = command(&node, &admin, &["role", "list", "-o", "raw"]).await;
    assert_eq!(out, "admin\n");
    node.stop().await;
}
