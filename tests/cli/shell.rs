//! One message at a time from a shell, and requests that a command answers.

use std::{
    process::{Command as Process, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::consumers::Node;

fn next(node: &Node) -> Value {
    let (code, out, err) = node.run(&["-o", "json", "consumer", "next", "orders", "w", "--wait", "30s"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_message_is_taken_given_back_with_a_reason_and_done() {
    let node = Node::start();
    assert_eq!(node.run(&["publish", "orders", r#"{"id":1.0}"#, "--key", "k"]).0, 0);
    assert_eq!(node.run(&["consumer", "create", "orders", "w", "--max-attempts", "3"]).0, 0);
    let first = next(&node);
    assert_eq!((&first["seq"], &first["attempt"], &first["key"]), (&0.into(), &1.into(), &"k".into()));
    assert_eq!(first["payload"].to_string(), r#"{"id":1.0}"#);
    let token = |message: &Value| message["token"].as_str().unwrap().to_owned();
    let (code, out, err) = node.run(&["consumer", "nack", "orders", "w", &token(&first), "--reason", "later"]);
    assert_eq!((code, out.as_str()), (0, "orders/w  nacked\n"), "{err}");
    let second = next(&node);
    assert_eq!(second["attempt"], 2);
    let (code, _, err) = node.run(&["consumer", "ack", "orders", "w", &token(&first)]);
    assert!(code == 1 && err.contains("STALE_DELIVERY"), "{err}");
    assert_eq!(node.run(&["consumer", "ack", "orders", "w", &token(&second)]).1, "orders/w  acked\n");
    assert_eq!(node.run(&["-o", "raw", "consumer", "show", "orders", "w"]).1, "0\n", "nothing is left");
    let (code, out, err) = node.run(&["consumer", "next", "orders", "w", "--wait", "10ms"]);
    assert!(code == 1 && out.is_empty() && err.contains("no message"), "{out}{err}");
}

#[test]
fn a_payload_is_printed_alone_and_its_token_is_in_a_file() {
    let node = Node::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    assert_eq!(node.run(&["consumer", "create", "orders", "w"]).0, 0);
    for payload in ["a", "b"] {
        assert_eq!(node.run(&["publish", "orders", payload]).0, 0);
    }
    let take = ["-o", "raw", "consumer", "next", "orders", "w", "--wait", "30s"];
    let saved = node.run(&[&take[..], &["--save-token", file.to_str().unwrap()]].concat());
    assert_eq!(saved, (0, "a\n".to_owned(), String::new()));
    let token = std::fs::read_to_string(&file).unwrap();
    assert_eq!(node.run(&["consumer", "ack", "orders", "w", token.trim()]).0, 0);
    assert_eq!(node.run(&[&take[..], &["--ack"]].concat()).1, "b\n");
    assert_eq!(node.run(&["-o", "raw", "consumer", "show", "orders", "w"]).1, "0\n");
}

#[test]
fn a_command_answers_requests_and_one_that_fails_leaves_the_request_to_the_next_attempt() {
    let node = Node::start();
    assert_eq!(node.run(&["consumer", "create", "orders", "adders"]).0, 0);
    // It fails at the first attempt, and says so in a file.
    let dir = tempfile::tempdir().unwrap();
    let tried = dir.path().join("tried");
    let exec = format!("test -e {0} || {{ touch {0}; echo not yet >&2; exit 1; }}; tr a-z A-Z", tried.display());
    let mut replier = Process::new(env!("CARGO_BIN_EXE_liminal"));
    replier.args([
        "--server",
        &node.server,
        "reply",
        "orders",
        "--consumer",
        "adders",
        "--count",
        "2",
        "--exec",
        &exec,
    ]);
    let replier =
        replier.env("XDG_CONFIG_HOME", "/nonexistent").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let asked = node.run(&["-o", "raw", "request", "orders", "abc", "--timeout", "60s"]);
    assert_eq!(asked, (0, "ABC\n".to_owned(), String::new()));
    let ended = replier.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && out.contains("1 request(s) answered, 1 failed"), "{out}{err}");
    assert!(err.contains("not yet"), "{err}");
}

#[test]
fn top_shows_nodes_channels_and_consumers_once_and_as_json() {
    let node = Node::start();
    assert_eq!(node.run(&["consumer", "create", "orders", "w"]).0, 0);
    assert_eq!(node.run(&["publish", "orders", "a"]).0, 0);
    let (code, out, err) = node.run(&["top", "--once", "--interval", "100ms"]);
    assert_eq!(code, 0, "{err}");
    for shown in ["NODE", "leader", "CHANNEL", "orders", "CONSUMER", "orders/w"] {
        assert!(out.contains(shown), "{shown} is not in\n{out}");
    }
    assert!(!out.contains('\x1b'), "colours are for terminals: {out:?}");
    let (_, out, _) = node.run(&["-o", "json", "top", "--once", "--interval", "100ms"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["channels"][0]["name"], &shown["consumers"][0]["lag"]), (&"orders".into(), &1.into()));
    assert!(shown["channels"][0]["messages_per_second"].is_number(), "{shown}");
}

#[test]
fn top_goes_on_until_it_is_told_to_end() {
    let node = Node::start();
    let mut top = Process::new(env!("CARGO_BIN_EXE_liminal"));
    top.args(["--server", &node.server, "-o", "json", "top", "--interval", "100ms"])
        .env("XDG_CONFIG_HOME", "/nonexistent");
    let mut child = top.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("\"leader\""), "{line}");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
}
