//! Messages and definitions as files, and back.

use serde_json::Value;

use super::consumers::Node;

fn json(node: &Node, args: &[&str]) -> Value {
    let (code, out, err) = node.run(&[&["-o", "json"], args].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn messages_are_exported_and_imported_as_they_were_and_never_twice() {
    let (node, dir) = (Node::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("orders.ndjson");
    let file = file.to_str().unwrap();
    let payloads = [r#"{"b":1.0, "a":[]}"#, "not json", " 7"];
    for payload in payloads {
        assert_eq!(node.run(&["publish", "orders", payload, "--header", "a=1", "--header", "a=2"]).0, 0);
    }
    assert_eq!(json(&node, &["channel", "export", "orders", file])["messages"], 3);
    let (code, _, err) = node.run(&["channel", "export", "orders", file]);
    assert!(code == 1 && err.contains("--resume"), "{err}");
    json(&node, &["channel", "create", "copy"]);
    let imported = json(&node, &["channel", "import", "copy", file]);
    assert_eq!((&imported["stored"], &imported["duplicates"]), (&3.into(), &0.into()));
    let again = json(&node, &["channel", "import", "copy", file]);
    assert_eq!((&again["stored"], &again["duplicates"]), (&0.into(), &3.into()));
    let (_, out, _) = node.run(&["-o", "raw", "sub", "copy", "--from", "earliest", "--count", "3"]);
    assert_eq!(out, format!("{}\n", payloads.join("\n")));
    let (_, out, _) = node.run(&["-o", "json", "sub", "copy", "--from", "earliest", "--count", "1"]);
    assert!(out.contains(r#""a":["1","2"]"#), "{out}");
}

#[test]
fn an_export_and_an_import_that_broke_off_go_on_where_they_stopped() {
    let (node, dir) = (Node::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("orders.ndjson");
    let file = path.to_str().unwrap();
    for payload in ["1", "2", "3", "4"] {
        assert_eq!(node.run(&["publish", "orders", payload]).0, 0);
    }
    json(&node, &["channel", "export", "orders", file, "--to", "2"]);
    // It was written in the middle of a line.
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"position\":\"7")).unwrap();
    assert_eq!(json(&node, &["channel", "export", "orders", file, "--resume"])["messages"], 2);
    let lines: Vec<Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let payloads: Vec<u64> = lines.iter().filter_map(|line| line["payload"].as_u64()).collect();
    assert_eq!(payloads, [1, 2, 3, 4]);
    // The second one is refused, and what comes after it is left.
    let schema = dir.path().join("schema.json");
    std::fs::write(&schema, r#"{"not":{"const":2}}"#).unwrap();
    json(&node, &["channel", "create", "copy", "--schema", schema.to_str().unwrap()]);
    let (code, _, err) = node.run(&["channel", "import", "copy", file]);
    let position = lines[1]["position"].as_str().unwrap();
    assert!(code == 1 && err.contains("SCHEMA_VIOLATION") && err.contains(&format!("--from {position}")), "{err}");
    json(&node, &["channel", "update", "copy", "--no-schema"]);
    assert_eq!(node.run(&["channel", "import", "copy", file, "--from", position]).0, 0);
    assert_eq!(json(&node, &["channel", "show", "copy"])["messages"], 4);
}

#[test]
fn a_cluster_gets_the_definitions_of_another_one_and_applying_them_again_changes_nothing() {
    let (from, to, dir) = (Node::start(), Node::start(), tempfile::tempdir().unwrap());
    let [file, schema] = ["definitions.json", "schema.json"].map(|name| dir.path().join(name));
    std::fs::write(&schema, r#"{"type":"object","properties":{"n":{"maximum":12345678901234567890123}}}"#).unwrap();
    let file = file.to_str().unwrap();
    json(
        &from,
        &["channel", "create", "jobs", "--work-queue", "--schema", schema.to_str().unwrap(), "--max-age", "1h"],
    );
    json(&from, &["consumer", "create", "jobs", "w", "--max-attempts", "5", "--where", "n   >  1", "--settle-skipped"]);
    json(&from, &["consumer", "create", "orders", "by-key", "--order", "key:user"]);
    json(&from, &["rule", "put", "orders", "jobs", "--where", "n > 5"]);
    json(&from, &["role", "create", "shop", "--grant", "channel:orders=publish,read"]);
    assert_eq!(json(&from, &["definitions", "export", file])["consumers"], 2);
    let nothing = from.run(&["definitions", "apply", file]);
    assert_eq!((nothing.0, nothing.1.as_str()), (0, "nothing to change\n"), "{}", nothing.2);
    let (code, out, err) = to.run(&["definitions", "apply", file, "--dry-run"]);
    assert!(code == 0 && out.contains("+ channel jobs") && out.contains("none of them made"), "{out}{err}");
    assert_eq!(to.run(&["channel", "show", "jobs"]).0, 1, "a dry run makes nothing");
    let (code, out, err) = to.run(&["definitions", "apply", file]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(to.run(&["definitions", "apply", file]).1, "nothing to change\n");
    assert_eq!(from.run(&["definitions", "export"]).1, to.run(&["definitions", "export"]).1);
}

#[test]
fn applying_shows_what_changes_asks_before_messages_go_and_refuses_what_cannot_be() {
    let (node, dir) = (Node::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("definitions.json");
    let file = path.to_str().unwrap();
    for payload in ["1", "2", "3"] {
        assert_eq!(node.run(&["publish", "orders", payload]).0, 0);
    }
    let wanted =
        r#"{"version":1,"channels":[{"name":"orders","dedup_window_ms":60000,"retention":{"max_messages":1}}]}"#;
    std::fs::write(&path, wanted).unwrap();
    let (_, out, _) = node.run(&["definitions", "apply", file, "--dry-run"]);
    assert!(out.contains("~ channel orders") && out.contains("dedup_window_ms: 86400000 -> 60000"), "{out}");
    let (code, _, err) = node.run(&["definitions", "apply", file]);
    assert!(code == 2 && err.contains("remove 2 message(s) of `orders`") && err.contains("--yes"), "{err}");
    assert_eq!(node.run(&["definitions", "import", file]).0, 0);
    assert_eq!(json(&node, &["channel", "show", "orders"])["messages"], 3, "an import leaves what is there");
    assert_eq!(node.run(&["definitions", "apply", file, "--yes"]).0, 0);
    assert_eq!(json(&node, &["channel", "show", "orders"])["retention"]["max_messages"], 1);
    std::fs::write(&path, r#"{"version":1,"channels":[{"name":"new"},{"name":"orders","durability":"ephemeral"}]}"#)
        .unwrap();
    let (code, out, err) = node.run(&["definitions", "apply", file]);
    assert!(code == 1 && out.contains("cannot change") && err.contains("nothing was changed"), "{out}{err}");
    assert_eq!(node.run(&["channel", "show", "new"]).0, 1);
    std::fs::write(&path, r#"{"version":1,"chanels":[]}"#).unwrap();
    let (code, _, err) = node.run(&["definitions", "apply", file]);
    assert!(code == 1 && err.contains("chanels"), "{err}");
}
