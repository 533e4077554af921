//! `liminal context`: what commands need to reach a cluster, kept under a name; and names that commands have beside their own.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::{consumers::Node, liminal, run};

/// A command of a user whose files are in this directory.
fn of(home: &Path, args: &[&str]) -> assert_cmd::Command {
    let mut command = liminal(args);
    command.env("XDG_CONFIG_HOME", home);
    command
}

fn contexts(home: &Path) -> std::path::PathBuf {
    home.join("liminal/contexts.toml")
}

#[test]
fn a_context_is_made_used_shown_and_deleted_in_a_file_for_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let said = |args: &[&str]| run(&mut of(home.path(), args));
    let (code, out, err) = said(&["context", "create", "prod", "--server", "https://n1:7101,https://n2:7101"]);
    assert!(code == 0 && out.contains("in use       yes"), "the first one is used: {out}{err}");
    assert_eq!(std::fs::metadata(contexts(home.path())).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(said(&["context", "create", "dev", "--server", "http://n3:7101", "-o", "json"]).0, 0);
    assert_eq!(said(&["-o", "raw", "context", "ls"]).1, "dev\nprod\n");
    assert_eq!(said(&["context", "use", "dev"]).1, "dev  in use\n");
    let shown: Value = serde_json::from_str(&said(&["-o", "json", "context", "info"]).1).unwrap();
    assert_eq!((&shown["name"], &shown["current"], &shown["output"]), (&"dev".into(), &true.into(), &"json".into()));
    let (code, _, err) = said(&["context", "create", "dev", "--server", "http://n3:7101"]);
    assert!(code == 2 && err.contains("--replace"), "{err}");
    let (code, _, err) = said(&["context", "use", "none-such"]);
    assert!(code == 2 && err.contains("dev, prod"), "{err}");
    let (code, _, err) = said(&["context", "delete", "dev"]);
    assert!(code == 2 && err.contains("--yes"), "{err}");
    assert_eq!(said(&["context", "delete", "dev", "--yes"]).0, 0);
    assert_eq!(said(&["context", "show"]).0, 1, "none is in use");
}

#[test]
fn a_context_keeps_something_and_only_files_that_are_there() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&mut of(home.path(), &["context", "create", "x"]));
    assert!(code == 2 && err.contains("--server"), "{err}");
    let (code, _, err) = run(&mut of(home.path(), &["context", "create", "x", "--token-file", "/no/such/file"]));
    assert!(code == 2 && err.contains("/no/such/file"), "{err}");
    assert!(!contexts(home.path()).exists());
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_context() {
    let (node, home) = (Node::start(), tempfile::tempdir().unwrap());
    let kept = ["context", "create", "here", "--server", &node.server, "-o", "raw"];
    assert_eq!(run(&mut of(home.path(), &kept)).0, 0);
    assert_eq!(run(&mut of(home.path(), &["channel", "list"])).1, "orders\n", "server and output are the context's");
    let (_, out, _) = run(of(home.path(), &["channel", "list"]).env("LIMINAL_OUTPUT", "json"));
    assert!(out.starts_with('{'), "{out}");
    let (_, out, _) = run(of(home.path(), &["channel", "ls", "-o", "table"]).env("LIMINAL_OUTPUT", "json"));
    assert!(out.starts_with("NAME"), "{out}");
    let nobody = "http://127.0.0.1:1";
    assert_eq!(run(of(home.path(), &["channel", "list"]).env("LIMINAL_SERVER", nobody)).0, 3);
    assert_eq!(run(of(home.path(), &["--server", &node.server, "channel", "list"]).env("LIMINAL_SERVER", nobody)).0, 0);
    let (code, _, err) = run(of(home.path(), &["channel", "list"]).env("LIMINAL_CONTEXT", "there"));
    assert!(code == 2 && err.contains("there is no context `there`"), "{err}");
}

#[test]
fn the_token_of_a_context_goes_to_other_servers_only_if_the_context_is_named() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "lim_x").unwrap();
    let create =
        ["context", "create", "prod", "--server", "http://127.0.0.1:1", "--token-file", token.to_str().unwrap()];
    assert_eq!(run(&mut of(home.path(), &create)).0, 0);
    // A token file that is gone is noticed by whoever would send its token.
    std::fs::remove_file(&token).unwrap();
    let elsewhere = ["--server", "http://127.0.0.1:2", "channel", "list"];
    assert_eq!(run(&mut of(home.path(), &elsewhere)).0, 3);
    let (code, _, err) = run(&mut of(home.path(), &[&["--context", "prod"], &elsewhere[..]].concat()));
    assert!(code == 2 && err.contains("the token file of the context"), "{err}");
    assert_eq!(run(of(home.path(), &["channel", "list"]).env("LIMINAL_TOKEN", "lim_y")).0, 3, "the variable wins");
}

#[test]
fn a_file_of_contexts_that_cannot_be_read_is_named_and_nodes_do_not_mind() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("liminal")).unwrap();
    std::fs::write(contexts(home.path()), "what = 1\n").unwrap();
    let (code, _, err) = run(&mut of(home.path(), &["channel", "list"]));
    assert!(code == 1 && err.contains("contexts.toml"), "{err}");
    let config = home.path().join("liminal.toml");
    std::fs::write(&config, "ephemeral_node = true\n").unwrap();
    assert_eq!(run(of(home.path(), &["config", "check"]).arg(&config)).0, 0);
}

#[test]
fn errors_of_a_line_that_cannot_be_read_have_the_output_of_the_environment_and_the_context() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, err) = run(of(home.path(), &["publish"]).env("LIMINAL_OUTPUT", "json"));
    assert!(code == 2 && err.starts_with("{\"error\":"), "{err}");
    assert_eq!(run(&mut of(home.path(), &["context", "create", "j", "-o", "json"])).0, 0);
    let (_, _, err) = run(&mut of(home.path(), &["publish"]));
    assert!(err.starts_with("{\"error\":"), "{err}");
    let (_, _, err) = run(&mut of(home.path(), &["publish", "-o", "table"]));
    assert!(err.starts_with("error: "), "{err}");
}

#[test]
fn short_names_are_the_same_commands() {
    let node = Node::start();
    assert_eq!(node.run(&["pub", "orders", "a"]).0, 0);
    assert_eq!(node.run(&["-o", "raw", "sub", "orders", "--from", "earliest", "--count", "1"]).1, "a\n");
    assert_eq!(node.run(&["channel", "ls"]).1, node.run(&["channel", "list"]).1);
    assert_eq!(node.run(&["channel", "info", "orders"]).0, 0);
    assert!(run(&mut liminal(&["--help"])).1.contains("[alias: pub]"));
}
