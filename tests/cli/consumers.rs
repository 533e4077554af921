//! Consumers from the command line, against one real node.

use std::{
    process::{Child, Command as Process, Stdio},
    time::{Duration, Instant},
};

use super::{liminal, ports::free_addresses, run};

/// How long the node may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node, as `liminal serve` runs one, with the channel `orders`.
pub(super) struct Node {
    child: Child,
    /// Where clients and HTTP find it.
    pub(super) client: String,
    pub(super) http: String,
    pub(super) server: String,
    _dir: tempfile::TempDir,
}

impl Node {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [client, http] = free_addresses(2).try_into().unwrap();
        let config = dir.path().join("liminal.toml");
        let text = format!(
            "listen_address = {client:?}\nhealth_listen_address = {http:?}\npersistence_path = {:?}\n\
             [[channels]]\nname = \"orders\"\ndurable = true\n",
            dir.path().join("data")
        );
        std::fs::write(&config, text).unwrap();
        let mut serve = Process::new(env!("CARGO_BIN_EXE_liminal"));
        let child = serve.args(["serve", "--config"]).arg(&config).stderr(Stdio::null()).spawn().unwrap();
        let server = format!("http://{client}");
        let node = Self { child, client, http, server, _dir: dir };
        let until = Instant::now() + PATIENCE;
        while node.run(&["channel", "show", "orders"]).0 != 0 {
            assert!(Instant::now() < until, "the node does not serve");
            std::thread::sleep(Duration::from_millis(50));
        }
        node
    }

    pub(super) fn run(&self, args: &[&str]) -> (i32, String, String) {
        run(liminal(&["--server", &self.server]).args(args))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill(); // or it has ended
        let _ = self.child.wait();
    }
}

#[test]
fn a_consumer_is_made_used_moved_and_deleted() {
    let node = Node::start();
    for payload in ["a", "b", "c"] {
        assert_eq!(node.run(&["publish", "orders", payload]).0, 0);
    }
    let (code, out, err) =
        node.run(&["consumer", "create", "orders", "w", "--max-attempts", "5", "--order", "key:user"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().any(|line| line == "order          key:user"), "{out}");
    // It goes on where the last one stopped.
    for expected in ["a\nb\n", "c\n"] {
        let count = expected.lines().count().to_string();
        let args = ["-o", "raw", "subscribe", "orders", "--consumer", "w", "--count", &count];
        assert_eq!(node.run(&args), (0, expected.to_owned(), String::new()));
    }
    assert_eq!(node.run(&["-o", "raw", "consumer", "show", "orders", "w"]).1, "0\n");
    let (code, out, _) = node.run(&["-o", "json", "consumer", "reset", "orders", "w", "--to", "1"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["lag"], &json["next_seq"]), (0, &serde_json::json!(2), &serde_json::json!(1)));
    let (_, out, _) = node.run(&["consumer", "update", "orders", "w", "--max-in-flight", "7"]);
    assert!(out.lines().any(|line| line == "max in flight  7"), "{out}");
    // A consumer that is missing is made.
    let made = node.run(&["-o", "raw", "subscribe", "orders", "--from", "2", "--consumer", "new", "--count", "1"]);
    assert_eq!(made, (0, "c\n".to_owned(), String::new()));
    let (_, out, _) = node.run(&["consumer", "list", "orders"]);
    let names: Vec<&str> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["NAME", "new", "w"]);
    let (code, _, err) = node.run(&["consumer", "delete", "orders", "w"]);
    assert!(code == 2 && err.contains("it has not settled 2 message(s)") && err.contains("--yes"), "{err}");
    assert_eq!(node.run(&["consumer", "delete", "orders", "w", "--yes"]).1, "orders/w  deleted\n");
    let (code, _, err) = node.run(&["consumer", "show", "orders", "w"]);
    assert_eq!(code, 1);
    assert!(err.contains("channel `orders` has no consumer `w`") && err.contains("CONSUMER_NOT_FOUND"), "{err}");
}

#[test]
fn a_command_leaves_no_work_behind_unasked() {
    let node = Node::start();
    assert_eq!(node.run(&["channel", "create", "jobs", "--work-queue"]).0, 0);
    for payload in ["a", "b", "c"] {
        assert_eq!(node.run(&["publish", "jobs", payload]).0, 0);
    }
    // A new consumer of a work queue begins with what waits there.
    let first = node.run(&["-o", "raw", "subscribe", "jobs", "--consumer", "w", "--count", "1"]);
    assert_eq!(first, (0, "a\n".to_owned(), String::new()));
    let (code, _, err) = node.run(&["consumer", "reset", "jobs", "w", "--to", "latest"]);
    assert!(code == 2 && err.contains("it has not settled 2") && err.contains("--yes"), "{err}");
    assert_eq!(node.run(&["consumer", "reset", "jobs", "w", "--to", "latest", "--yes"]).0, 0);
    let (_, out, _) = node.run(&["-o", "json", "channel", "show", "jobs"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["messages"], &json["first_seq"]), (&serde_json::json!(2), &serde_json::json!(1)));
    assert_eq!(node.run(&["consumer", "create", "jobs", "later", "--from", "latest"]).0, 0);
    assert_eq!(node.run(&["consumer", "delete", "jobs", "w", "--yes"]).0, 0);
    let rest = node.run(&["-o", "raw", "subscribe", "jobs", "--consumer", "x", "--count", "2"]);
    assert_eq!(rest, (0, "b\nc\n".to_owned(), String::new()));
    let (code, _, err) = node.run(&["channel", "delete", "jobs"]);
    assert!(code == 2 && err.contains("consumer(s)") && err.contains("--yes"), "{err}");
    let (code, _, err) = node.run(&["cluster", "remove", "n9"]);
    assert!(code == 2 && err.contains("take node `n9` out") && err.contains("--yes"), "{err}");
}

#[test]
fn a_member_that_leaves_in_order_costs_no_message_an_attempt() {
    let node = Node::start();
    assert_eq!(node.run(&["consumer", "create", "orders", "w", "--max-attempts", "1"]).0, 0);
    for number in 0..9 {
        assert_eq!(node.run(&["publish", "orders", &number.to_string()]).0, 0);
    }
    for number in 0..9 {
        let got = node.run(&["-o", "raw", "subscribe", "orders", "--consumer", "w", "--count", "1"]);
        assert_eq!(got, (0, format!("{number}\n"), String::new()));
    }
    let (_, out, _) = node.run(&["-o", "json", "consumer", "show", "orders", "w"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["dead"], &json["lag"], &json["dead_letter"]), (&0.into(), &0.into(), &"orders.dead".into()));
}

#[test]
fn what_was_removed_before_a_consumer_had_it_is_told_on_standard_error_and_counted() {
    let node = Node::start();
    assert_eq!(node.run(&["consumer", "create", "orders", "w"]).0, 0);
    for payload in ["a", "b", "c"] {
        assert_eq!(node.run(&["publish", "orders", payload]).0, 0);
    }
    assert_eq!(node.run(&["channel", "trim", "orders", "--to", "2", "--yes"]).0, 0);
    let (code, out, err) = node.run(&["-o", "raw", "subscribe", "orders", "--consumer", "w", "--count", "1"]);
    assert_eq!((code, out.as_str()), (0, "c\n"), "{err}");
    assert!(err.contains("messages 0 to 1 of channel `orders` are gone") && err.contains("OUT_OF_RANGE"), "{err}");
    let (_, out, _) = node.run(&["-o", "json", "consumer", "show", "orders", "w"]);
    assert!(out.contains(r#""lost":2"#), "{out}");
}

#[test]
fn a_redrive_asks_and_names_what_stays() {
    let node = Node::start();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(node.run(&["consumer", "create", "orders", "w", "--max-attempts", "1"]).0, 0);
    for payload in ["1", "two"] {
        let mut args = vec!["publish", "orders.dead", payload];
        for header in ["channel=orders", "consumer=w", "hops=1"] {
            args.extend(["--header", ["liminal-dead-letter-", header].concat().leak()]);
        }
        assert_eq!(node.run(&args).0, 0, "{args:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema.json");
    std::fs::write(&schema, r#"{"type":"integer"}"#).unwrap();
    assert_eq!(node.run(&["channel", "create", "numbers", "--schema", schema.to_str().unwrap()]).0, 0);
    let redrive = ["consumer", "redrive", "orders", "w", "--to", "numbers"];
    let (code, _, err) = node.run(&redrive);
    assert!(
        code == 2 && err.contains("send 1 letter(s) of `orders.dead` to `numbers`") && err.contains("--yes"),
        "{err}"
    );
    let (code, out, _) = node.run(&[&redrive[..], &["--dry-run"]].concat());
    assert_eq!((code, out.lines().last()), (0, Some("orders.dead -> numbers  would move 1, refused 1")));
    let (code, out, err) = node.run(&[&["-o", "json"], &redrive[..], &["--yes"]].concat());
    let done = json(&out);
    assert_eq!((code, &done["moved"], &done["refused"], &done["left"]), (0, &1.into(), &1.into(), &1.into()));
    assert_eq!((&done["refusals"][0]["seq"], &done["refusals"][0]["code"]), (&1.into(), &"SCHEMA_VIOLATION".into()));
    assert_eq!(err, "", "what stays is among the results");
    let (_, _, err) = node.run(&[&redrive[..], &["--yes"]].concat());
    assert!(err.contains("orders.dead@1 stays: ") && err.contains("SCHEMA_VIOLATION"), "{err}");
    let (_, out, _) = node.run(&["-o", "raw", "consumer", "dead-letters", "orders", "w"]);
    assert_eq!(out, "two\n");
    // A consumer that is gone leaves its letters behind.
    assert_eq!(node.run(&["consumer", "delete", "orders", "w", "--yes"]).0, 0);
    let (_, out, _) = node.run(&["consumer", "redrive", "orders", "w", "--dead-letter", "orders.dead", "--yes"]);
    assert_eq!(out, "orders.dead -> orders  moved 1, 0 left\n");
}

#[test]
fn an_update_that_removes_messages_says_how_many_and_asks() {
    let node = Node::start();
    for payload in ["a", "b", "c"] {
        assert_eq!(node.run(&["publish", "orders", payload]).0, 0);
    }
    let update = ["channel", "update", "orders", "--max-messages", "1"];
    let (code, _, err) = node.run(&update);
    assert!(code == 2 && err.contains("remove 2 message(s) of `orders` at once") && err.contains("--yes"), "{err}");
    assert_eq!(node.run(&[&["-o", "raw"], &update[..], &["--dry-run"]].concat()), (0, "2\n".into(), String::new()));
    assert_eq!(node.run(&["channel", "update", "orders", "--max-messages", "9"]).0, 0, "nothing goes");
    assert_eq!(node.run(&[&update[..], &["--yes"]].concat()).0, 0);
    let (_, out, _) = node.run(&["-o", "raw", "channel", "update", "orders", "--max-messages", "1", "--dry-run"]);
    assert_eq!(out, "0\n");
    let compact = ["channel", "update", "orders", "--max-messages", "none", "--compact-by", "user"];
    let (code, _, err) = node.run(&compact);
    assert!(code == 2 && err.contains("all but the last message of each value of the header `user`"), "{err}");
    assert!(err.contains("of the 1 that `orders` has") && err.contains("--yes"), "{err}");
    // In a work queue, what a filter keeps back would go too.
    assert_eq!(node.run(&["channel", "create", "jobs", "--work-queue"]).0, 0);
    let filtered = ["consumer", "create", "jobs", "w", "--where", "kind == 1"];
    let (code, _, err) = node.run(&filtered);
    assert!(code == 1 && err.contains("--settle-skipped"), "{err}");
    assert_eq!(node.run(&[&filtered[..], &["--settle-skipped"]].concat()).0, 0);
    assert_eq!(node.run(&["consumer", "create", "orders", "w", "--where", "kind == 1"]).0, 0);
    let (code, _, err) = node.run(&["channel", "update", "orders", "--work-queue"]);
    assert!(code == 1 && err.contains("consumer `w` of `orders` has a filter"), "{err}");
}

#[test]
fn a_flag_that_would_not_be_used_is_an_error() {
    let node = Node::start();
    for args in [
        &["subscribe", "orders", "--consumer", "w", "--where", "id > 3"][..],
        &["channel", "update", "orders", "--schema", "f", "--dry-run", "--max-messages", "3"],
        &["channel", "update", "orders", "--rate", "3", "--dry-run"],
        &["consumer", "create", "orders", "w", "--settle-skipped"],
        &["consumer", "create", "orders", "w", "--drop-dead"],
        &["consumer", "create", "orders", "w", "--max-attempts", "3", "--dead-letter", "d", "--drop-dead"],
    ] {
        assert_eq!(node.run(args).0, 2, "{args:?}");
    }
    assert_eq!(node.run(&["consumer", "show", "orders", "w"]).0, 1, "nothing was made");
}
