//! The command line as scripts and people meet it: exit codes, help, errors, configuration.

#![allow(missing_docs)]

mod certs;
mod channels;
mod claims;
mod consumers;
mod contexts;
mod doctor;
mod documents;
mod errors;
#[path = "../support/ports.rs"]
mod ports;
mod security;
mod shell;
mod supervisor;
mod transfer;

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Command as Process, Stdio},
};

use assert_cmd::Command;

fn liminal(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("liminal").unwrap();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LIMINAL_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    // Contexts of whoever runs the tests are not for them.
    command.env("XDG_CONFIG_HOME", "/nonexistent").args(args);
    command
}

/// Exit code, standard output and standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("liminal.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn help_names_every_command() {
    let (code, out, _) = run(&mut liminal(&["--help"]));
    assert_eq!(code, 0);
    for command in [
        "dev",
        "serve",
        "publish",
        "subscribe",
        "request",
        "reply",
        "channel",
        "rule",
        "claim",
        "consumer",
        "cluster",
        "token",
        "role",
        "auth",
        "bench",
        "certs",
        "config",
        "completions",
        "definitions",
        "top",
        "doctor",
        "context",
        "man",
    ] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in\n{out}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_eq!(run(&mut liminal(&["publish"])).0, 2);
    assert_eq!(run(&mut liminal(&["dev", "--nodes", "0"])).0, 2);
    assert_eq!(run(&mut liminal(&["publish", "orders", "x", "--ttl", "soon"])).0, 2);
    assert_eq!(run(&mut liminal(&["publish", "orders", "x", "--delay", "1m", "--at", "2030-01-01T00:00:00Z"])).0, 2);
    assert_eq!(run(&mut liminal(&["publish", "orders", "x", "--atomic"])).0, 2);
    assert_eq!(run(&mut liminal(&["request", "orders", "x", "--timeout", "soon"])).0, 2);
    assert_eq!(run(&mut liminal(&["subscribe", "orders", "--from", "yesterday"])).0, 2);
    let (code, _, err) = run(&mut liminal(&["subscribe", "orders", "--where", "amount = 3"]));
    assert!(code == 2 && err.contains("column 8: expected a comparison"), "{err}");
    assert_eq!(run(&mut liminal(&["consumer", "create", "orders", "w", "--order", "any"])).0, 2);
    assert_eq!(run(&mut liminal(&["consumer", "create", "orders", "w", "--dead-letter", "d"])).0, 2);
    assert_eq!(run(&mut liminal(&["consumer", "update", "orders", "w"])).0, 2);
}

#[test]
fn an_unreachable_cluster_exits_with_3_and_says_what_to_do() {
    let (code, out, err) = run(&mut liminal(&["--server", "http://127.0.0.1:1", "channel", "list"]));
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.starts_with("error: ") && err.contains("127.0.0.1:1") && err.contains("help: "), "{err}");
}

#[test]
fn health_asks_the_node_that_server_names() {
    let (code, _, err) = run(&mut liminal(&["--server", "http://127.0.0.1:1", "health"]));
    assert!(code == 3 && err.contains("127.0.0.1:1"), "{err}");
}

#[test]
fn config_check_reports_all_mistakes_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "listen_address = \"x\"\nlisten = 1\n[limits]\nheaders = 0\n");
    let (code, out, err) = run(liminal(&["config", "check"]).arg(&path));
    assert_eq!((code, out.as_str()), (1, ""));
    for place in [":1:1: listen_address: ", ":2:1: listen: ", ":4:1: limits.headers: "] {
        assert!(err.contains(&format!("{}{place}", path.display())), "{err}");
    }
    let path = file(&dir, "listen_address = \"127.0.0.1:0\"\npersistence_path = \"data\"\n");
    let (code, out, _) = run(liminal(&["config", "check"]).arg(&path));
    assert_eq!((code, out), (0, format!("{}: ok\n", path.display())));
}

#[test]
fn config_check_looks_into_the_cookie_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let cookie = dir.path().join("cookie");
    let text = format!(
        "ephemeral_node = true\n[cluster]\nlisten_address = \"0.0.0.0:7301\"\ncookie_file = \"{}\"\n",
        cookie.display()
    );
    let path = file(&dir, &text);
    assert_eq!(run(liminal(&["config", "check"]).arg(&path)).0, 0, "a start makes it");
    std::fs::write(&cookie, "short").unwrap();
    let (code, _, err) = run(liminal(&["config", "check"]).arg(&path));
    assert!(code == 1 && err.contains("cluster.cookie_file") && err.contains("5 characters"), "{err}");
    std::fs::write(&cookie, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = run(liminal(&["config", "check"]).arg(&path));
    assert!(code == 0 && err.contains("0644") && err.contains("chmod 600"), "{err}");
}

#[test]
fn a_node_without_a_directory_does_not_start_unless_it_is_ephemeral() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "listen_address = \"127.0.0.1:0\"\n");
    for words in [&["config", "check"][..], &["serve", "--config"]] {
        let (code, _, err) = run(liminal(words).arg(&path));
        assert!(code == 1 && err.contains("persistence_path") && err.contains("ephemeral_node"), "{words:?}: {err}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text =
        format!("listen_address = \"{address}\"\nhealth_listen_address = \"127.0.0.1:0\"\nephemeral_node = true\n");
    let config = file(&dir, &text);
    let (code, _, err) = run(liminal(&["serve", "--config"]).arg(config));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("error: cannot listen on {address}: ")), "{err}");
    assert!(err.contains("  help: stop the node that runs there already, or choose other ports"), "{err}");
}

#[test]
fn a_claim_token_that_is_no_number_is_refused_in_words() {
    let (code, _, err) = run(&mut liminal(&["claim", "complete", "payments", "order-7", "abc"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("the token of a claim is a number: `liminal claim take` prints it"), "{err}");
}

#[test]
fn a_foreign_variable_is_told_of_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "ephemeral_node = true\n");
    let mut check = liminal(&["config", "check"]);
    check.arg(&path).env("LIMINAL_CLIENT_PORT", "tcp://10.0.0.1:7101").env("LIMINAL_COOKIE", "secret");
    let (code, _, err) = run(&mut check);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("LIMINAL_CLIENT_PORT: set by Kubernetes"), "{err}");
    assert!(err.contains("LIMINAL_COOKIE") && err.contains("LIMINAL_CLUSTER__COOKIE"), "{err}");
}

#[test]
fn config_show_says_where_each_value_is_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "drain_timeout_ms = 7\nephemeral_node = true\n");
    let mut show = liminal(&["config", "show", "--set", "limits.headers=3"]);
    let (code, out, err) = run(show.env("LIMINAL_RAFT__HEARTBEAT", "100ms").arg(&path));
    assert_eq!(code, 0, "{err}");
    for line in [
        "drain_timeout_ms = 7  # file",
        "heartbeat = \"100ms\"  # LIMINAL_RAFT__HEARTBEAT",
        "headers = 3  # --set",
        "message_bytes = \"1MiB\"",
    ] {
        assert!(out.lines().any(|shown| shown == line), "{line} is not in\n{out}");
    }
    let (code, out, _) = run(liminal(&["-o", "json", "config", "show"]).arg(&path));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["drain_timeout_ms"]), (0, &serde_json::json!(7)));
}

#[test]
fn serve_refuses_a_missing_schema_file_before_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "channels = [{ name = \"orders\", schema_ref = \"orders.json\" }]\n");
    let (code, _, err) = run(liminal(&["serve", "--config"]).arg(&path));
    assert_eq!(code, 1);
    assert!(err.contains("channels.schema_ref") && err.contains("orders.json"), "{err}");
}

#[test]
fn a_log_filter_that_makes_no_sense_is_reported() {
    let (code, _, err) = run(liminal(&["channel", "list"]).env("RUST_LOG", "liminal=loud"));
    assert_eq!(code, 2);
    assert!(err.contains("RUST_LOG") && err.contains("liminal=loud"), "{err}");
}

#[test]
fn completions_do_not_mind_a_closed_pipe() {
    let mut process = Process::new(env!("CARGO_BIN_EXE_liminal"));
    let mut child =
        process.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(!err.contains("panicked") && status.code() != Some(101), "{status}: {err}");
}
