//! With `-o json` every error of every command is one JSON object on standard error, and none is a result.

use serde_json::Value;

use super::{consumers::Node, liminal, run};

/// Every command that has no commands of its own, and those that have.
fn commands() -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let (mut leaves, mut groups, mut open) = (Vec::new(), Vec::new(), vec![Vec::<String>::new()]);
    while let Some(path) = open.pop() {
        let (code, help, err) = run(liminal(&[]).args(&path).arg("--help"));
        assert_eq!(code, 0, "{path:?}: {err}");
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let listed = listed.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
        let names: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
        let below = names.iter().filter(|name| **name != "help").map(|name| {
            let mut below = path.clone();
            below.push((*name).to_owned());
            below
        });
        open.extend(below);
        if names.is_empty() { leaves.push(path) } else { groups.push(path) }
    }
    (leaves, groups)
}

/// The error that is all that was said.
fn only_error(what: &dyn std::fmt::Debug, out: &str, err: &str) -> Value {
    assert_eq!(out, "", "{what:?}: an error is no result");
    assert_eq!(err.lines().count(), 1, "{what:?}: {err}");
    let said: Value = serde_json::from_str(err).unwrap_or_else(|error| panic!("{what:?}: {error}: {err}"));
    assert!(said["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{what:?}: {said}");
    said["error"].clone()
}

#[test]
fn wrong_usage_of_any_command_is_an_error_as_json() {
    let (leaves, groups) = commands();
    assert!(leaves.len() > 30 && groups.len() > 5, "{leaves:?} {groups:?}");
    for path in leaves {
        let (code, out, err) = run(liminal(&[]).args(&path).args(["--no-such-flag", "-o", "json"]));
        let error = only_error(&path, &out, &err);
        assert_eq!((code, &error["code"], &error["exit"]), (2, &"USAGE".into(), &2.into()), "{path:?}");
        assert!(error["message"].as_str().unwrap().contains("--no-such-flag"), "{path:?}: {error}");
    }
    for path in groups {
        let (code, out, err) = run(liminal(&["-o", "json"]).args(&path));
        let error = only_error(&path, &out, &err);
        assert_eq!((code, &error["code"]), (2, &"USAGE".into()), "{path:?}");
        assert!(error["help"].as_str().unwrap().contains("Usage: "), "{path:?}: {error}");
    }
}

/// What every command needs that talks to a cluster.
const ASKING: &[&str] = &[
    "publish orders x",
    "publish orders --file {file}",
    "publish orders --file {file} --atomic",
    "subscribe orders",
    "subscribe orders --consumer w",
    "request orders x",
    "reply 1.2 x",
    "reply orders --exec cat",
    "channel create orders",
    "channel list",
    "channel show orders",
    "channel update orders --max-messages 3",
    "channel schemas orders",
    "channel validate orders --schema {file}",
    "channel trim orders --keep 1",
    "channel export orders",
    "channel import orders {file}",
    "channel delayed list orders",
    "channel delayed withdraw orders 1",
    "channel delete orders",
    "rule put a b",
    "rule list",
    "rule delete a b --yes",
    "claim take n k",
    "claim complete n k 1",
    "claim release n k 1",
    "claim renew n k 1",
    "claim show n k",
    "claim namespaces",
    "claim keep n 1h",
    "claim forget n --yes",
    "consumer create orders w",
    "consumer list orders",
    "consumer show orders w",
    "consumer update orders w --max-attempts 3",
    "consumer reset orders w --to earliest --yes",
    "consumer delete orders w --yes",
    "consumer next orders w",
    "consumer ack orders w 1",
    "consumer nack orders w 1",
    "consumer dead-letters orders w",
    "consumer redrive orders w --yes",
    "health",
    "cluster status",
    "cluster events",
    "cluster invite",
    "cluster join 127.0.0.1:1",
    "cluster promote n1",
    "cluster remove n1 --yes",
    "cluster transfer",
    "cluster snapshot",
    "cluster verify",
    "cluster backup {dir}/backup",
    "definitions export",
    "definitions import {definitions}",
    "definitions apply {definitions}",
    "top --once",
    "token create --role admin",
    "token list",
    "token show 00000000000000ff",
    "token revoke 00000000000000ff --yes",
    "token rotate 00000000000000ff --yes",
    "role create ops --grant cluster=read",
    "role update ops --grant cluster=read",
    "role list",
    "role show ops",
    "role quota ops --clear",
    "role delete ops --yes",
    "auth can-i read cluster",
    "bench publish",
    "bench fanout",
    "bench replay",
];
/// Commands that ask no cluster.
const ALONE: &[&str] = &[
    "dev",
    "serve",
    "certs",
    "completions",
    "man",
    // It finds that none answers, which is a result.
    "doctor",
    "context create",
    "context list",
    "context use",
    "context show",
    "context delete",
    "config check",
    "config show",
    "cluster restore",
    "token bootstrap",
    "bench failover",
    "bench floor",
];

#[test]
fn no_node_that_answers_is_an_error_as_json_of_every_command_that_asks_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file.json");
    std::fs::write(&file, "{\"payload\":1}\n").unwrap();
    let definitions = dir.path().join("definitions.json");
    std::fs::write(&definitions, r#"{"version":1,"channels":[{"name":"a"}]}"#).unwrap();
    let place = |word: &str| {
        let word = word.replace("{file}", file.to_str().unwrap()).replace("{dir}", dir.path().to_str().unwrap());
        word.replace("{definitions}", definitions.to_str().unwrap())
    };
    for line in ASKING {
        let words = line.split(' ').map(place);
        let (code, out, err) = run(liminal(&["-o", "json", "--server", "http://127.0.0.1:1"]).args(words));
        let error = only_error(line, &out, &err);
        assert_eq!((code, &error["exit"]), (3, &3.into()), "{line}: {error}");
    }
    for path in commands().0 {
        let path = path.join(" ");
        let known = ASKING.iter().chain(ALONE).any(|line| *line == path || line.starts_with(&format!("{path} ")));
        assert!(known, "`{path}` is a command that this test does not know");
    }
}

#[test]
fn what_a_command_reads_and_cannot_use_is_an_error_as_json() {
    for line in [
        "publish orders --file /no/such/file",
        "publish orders --file /no/such/file --atomic",
        "channel create orders --schema /no/such/file",
        "config check /no/such/file",
        "serve --config /no/such/file",
        "cluster restore /no/such/file --config /no/such/file",
        "definitions apply /no/such/file",
        "channel import orders /no/such/file",
        "man /proc/no/such/directory",
    ] {
        let (code, out, err) = run(liminal(&["-o", "json"]).args(line.split(' ')));
        let error = only_error(&line, &out, &err);
        assert_eq!((code, &error["exit"]), (1, &1.into()), "{line}: {error}");
    }
}

#[test]
fn what_a_node_refuses_is_an_error_as_json_with_its_places_and_a_refused_line_is_a_result() {
    let node = Node::start();
    let dir = tempfile::tempdir().unwrap();
    let (schema, lines) = (dir.path().join("schema.json"), dir.path().join("lines"));
    std::fs::write(&schema, r#"{"type":"object","required":["id"]}"#).unwrap();
    std::fs::write(&lines, "{\"id\":1}\n{}\n").unwrap();
    let json = |words: &[&str]| node.run(&[&["-o", "json"], words].concat());
    assert_eq!(json(&["channel", "create", "strict", "--schema", schema.to_str().unwrap()]).0, 0);

    let (code, out, err) = json(&["publish", "strict", "{}"]);
    let error = only_error(&"publish", &out, &err);
    assert_eq!((code, &error["code"]), (1, &"SCHEMA_VIOLATION".into()));
    assert_eq!(error["details"][0]["pointer"], "/id");
    let (_, _, err) = node.run(&["publish", "strict", "{}"]);
    assert!(err.contains("\n  /id: "), "{err}");

    let (code, out, err) = json(&["publish", "strict", "--file", lines.to_str().unwrap()]);
    let results: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&results[0]["seq"], &results[1]["error"]["code"]), (&0.into(), &"SCHEMA_VIOLATION".into()));
    let error = only_error(&"publish --file", "", &err);
    assert!(code == 1 && error["message"].as_str().unwrap().contains("1 of 2"), "{error}");

    std::fs::write(&lines, "{\"payload\":{\"id\":2}}\n{\"payload\":{}}\n").unwrap();
    let (code, out, err) = json(&["publish", "strict", "--file", lines.to_str().unwrap(), "--atomic"]);
    let error = only_error(&"publish --atomic", &out, &err);
    assert_eq!((code, &error["code"]), (1, &"SCHEMA_VIOLATION".into()));

    let (code, out, err) = json(&["channel", "delete", "strict"]);
    assert_eq!((code, only_error(&"delete", &out, &err)["code"].clone()), (2, "USAGE".into()));
}
