//! Limits are declared in src/model/limits.rs. A constant elsewhere that is named like a limit needs a line here, with the
//! reason why it is no limit of the node that somebody could want to know or set.

use std::collections::BTreeSet;

use super::{
    report,
    source::{files, read},
};

const DECLARED: &str = "src/model/limits.rs";
/// Parts of names that limits have.
const NAMED_LIKE_LIMITS: [&str; 3] = ["MAX", "MOST", "LONGEST"];
/// The command line is a client, and has limits of its own.
const CLIENT: &str = "src/cli/";

/// Other constants: the path and the name, and the reason.
const OTHERS: &[(&str, &str)] = &[
    ("src/broker/access/guesses.rs MOST_TOLD", "different lines that the log is told of refusals in a minute"),
    ("src/broker/consume/letters.rs MOST_HOPS", "what letters mean, on all nodes alike"),
    ("src/broker/consume/manage.rs MAX_HEADER", "what a consumer's configuration means"),
    ("src/broker/consume/member.rs LONGEST_MS", "the range of a field of the protocol"),
    ("src/broker/consume/settle.rs MAX_REASON", "the range of a field of the protocol"),
    ("src/codec.rs MAX_RECORD", "part of the format: a longer length is damage"),
    ("src/config/variables.rs MOST_NAMED", "the length of one warning"),
    ("src/grpc/mod.rs MAX_FRAME", "a setting of HTTP/2, which peers are told"),
    ("src/keys/plan.rs MOST_MOVED", "the pace of background work"),
    ("src/machine/consumers/settled.rs MOST_RUNS", "part of the state: all nodes forget by it alike"),
    ("src/machine/entry_list.rs LONGEST", "the layout of a structure in memory"),
    ("src/machine/marks.rs MOST", "part of the state: all nodes merge marks by it alike"),
    ("src/model/channel.rs MAX_NAME", "what a channel's name means"),
    ("src/quota.rs LONGEST", "what a quota means: no wait that is told is longer"),
    ("src/raft/complaints.rs MOST", "addresses that the log remembers to have named"),
    ("src/raft/group.rs MAX_COMMAND", "follows from Limits::PEER_MESSAGE_BYTES"),
    ("src/raft/log/disk/mod.rs MAX_ENTRY", "part of the format: a longer length is damage"),
    ("src/raft/state_machine.rs RETRY_MAX", "the pace of retries"),
    ("src/raft/transport.rs MAX_FRAME", "a setting of HTTP/2, which peers are told"),
    ("src/raft/transport.rs MAX_MESSAGE", "is Limits::PEER_MESSAGE_BYTES"),
    ("src/raft/waiting.rs MOST", "nodes that ask to be let in again, which an operator reads"),
    ("src/replica.rs RETRY_MAX", "the pace of retries"),
    ("src/store/haematite/check.rs MAX_NODE", "part of the format: a longer length is damage"),
];

/// The name of a constant that a line declares.
fn constant(line: &str) -> Option<&str> {
    let (visibility, declared) = line.split_once("const ")?;
    let (name, _) = declared.split_once(':')?;
    let is_declared = matches!(visibility.trim(), "" | "pub") || visibility.trim().starts_with("pub(");
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    (is_declared && is_name(name)).then_some(name)
}

#[test]
fn limits_are_declared_in_one_place() {
    let (mut findings, mut seen) = (Vec::new(), Vec::new());
    for file in files("src", &[".rs"]) {
        if file.path == DECLARED || file.path.starts_with(CLIENT) || file.is_of_tests() {
            continue;
        }
        for (line, code) in file.code() {
            let Some(name) = constant(code) else { continue };
            if !name.split('_').any(|part| NAMED_LIKE_LIMITS.contains(&part)) {
                continue;
            }
            let what = format!("{} {name}", file.path);
            if !OTHERS.iter().any(|(other, _)| *other == what) {
                findings.push(format!("{}:{line}: {name} is named like a limit: declare it in {DECLARED}", file.path));
            }
            seen.push(what);
        }
    }
    let gone = OTHERS.iter().filter(|(other, _)| !seen.iter().any(|what| what == other));
    findings.extend(gone.map(|(other, _)| format!("OTHERS: there is no `{other}`: take the line out")));
    report(findings);
}

#[test]
fn every_limit_that_is_a_field_can_be_configured() {
    let (declared, read_by) = (read(DECLARED), read("src/config/fields.rs"));
    let (_, after) = declared.split_once("pub struct Limits {").unwrap();
    let fields = after.split("\n}").next().unwrap().lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let names = fields.filter_map(|field| field.split(':').next());
    let read: BTreeSet<&str> = read_by.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing = names.filter(|name| !read.contains(name));
    report(missing.map(|name| format!("{DECLARED}: {name} has no key in src/config/fields.rs")).collect());
}

#[test]
fn constants_are_recognised_whoever_may_see_them() {
    for line in ["const MOST: usize = 1;", "    pub const MOST: usize = 1;", "pub(crate) const MOST: u8 = 1;"] {
        assert_eq!(constant(line), Some("MOST"), "{line}");
    }
    for line in ["pub const fn most() {", "impl<const MOST: usize> A {}", "let x = MOST;"] {
        assert_eq!(constant(line), None, "{line}");
    }
}
