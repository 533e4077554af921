//! `liminal doctor` and `liminal man`.

use serde_json::Value;

use super::{consumers::Node, file, liminal, run};

fn findings(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(findings: &'a [Value], check: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["check"] == check).collect()
}

#[test]
fn a_cluster_that_is_well_has_no_problem() {
    let node = Node::start();
    let (code, out, err) = node.run(&["-o", "json", "doctor"]);
    assert_eq!(code, 0, "{out}{err}");
    let found = findings(&out);
    assert_eq!(of(&found, "cluster")[0]["level"], "ok", "{out}");
    assert_eq!(of(&found, "versions")[0]["level"], "ok", "{out}");
    assert!(found.iter().all(|finding| finding["level"] != "problem"), "{out}");
}

#[test]
fn a_cluster_that_does_not_answer_is_a_problem_with_what_to_do() {
    let (code, out, err) = run(&mut liminal(&["-o", "json", "--server", "http://127.0.0.1:1", "doctor"]));
    assert_eq!((code, err.as_str()), (1, ""));
    let found = findings(&out);
    assert_eq!(found.len(), 1, "{out}");
    assert!(found[0]["level"] == "problem" && found[0]["todo"].as_str().is_some_and(|todo| !todo.is_empty()), "{out}");
    let (code, out, _) = run(&mut liminal(&["--server", "http://127.0.0.1:1", "doctor"]));
    assert!(code == 1 && out.contains("problem") && out.contains("do: ") && !out.contains('\x1b'), "{out}");
}

#[test]
fn a_machine_is_looked_at_before_its_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = format!(
        "listen_address = \"127.0.0.1:0\"\nhealth_listen_address = \"127.0.0.1:0\"\npersistence_path = {data:?}\n"
    );
    let path = file(&dir, &text);
    let (code, out, err) = run(liminal(&["-o", "json", "doctor", "--config"]).arg(&path));
    let found = findings(&out);
    for check in ["configuration", "disk", "fsync", "descriptors", "ports", "clock"] {
        assert!(!of(&found, check).is_empty(), "{check} is not in {out}{err}");
    }
    assert!(of(&found, "cluster").is_empty() && !data.exists(), "nothing is asked and nothing made: {out}");
    assert_eq!(code, i32::from(found.iter().any(|finding| finding["level"] == "problem")), "{out}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_problem_for_each_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "listen_address = \"x\"\nlisten = 1\n");
    let (code, out, _) = run(liminal(&["-o", "json", "doctor", "--config"]).arg(&path));
    let found = findings(&out);
    assert_eq!(code, 1);
    assert!(of(&found, "configuration").len() >= 2, "{out}");
    assert!(out.contains("listen_address") && out.contains("2:1: listen"), "{out}");
}

#[test]
fn a_private_key_that_others_can_read_and_an_unknown_name_are_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["other.example".to_owned()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!(
        "listen_address = \"127.0.0.1:0\"\nhealth_listen_address = \"127.0.0.1:0\"\nephemeral_node = true\n\
         advertise_address = \"broker.example:7101\"\n[tls]\ncert = {cert:?}\nkey = {key:?}\n"
    );
    let (code, out, err) = run(liminal(&["-o", "json", "doctor", "--config"]).arg(file(&dir, &text)));
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("chmod 600") && out.contains("lacks the name broker.example"), "{out}");
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man1");
    let (code, out, err) = run(liminal(&["-o", "raw", "man"]).arg(&man));
    assert_eq!(code, 0, "{err}");
    for page in ["liminal.1", "liminal-publish.1", "liminal-channel-export.1"] {
        assert!(out.lines().any(|line| line == page) && man.join(page).exists(), "{page} is not in\n{out}");
    }
}

#[test]
fn help_ends_with_examples() {
    let (_, out, _) = run(&mut liminal(&["consumer", "nack", "--help"]));
    let (_, examples) = out.split_once("Examples:\n").unwrap();
    assert!(examples.trim_start().starts_with("liminal consumer nack orders billing"), "{out}");
}
