//! How long files and functions are. A longer one needs a line in these tables, with its length and its reason; a line that
//! is not needed any more fails too, so the tables only shrink by themselves.

use super::{
    report,
    source::{File, files},
};

/// Lines of a file, without its tests.
const FILE: usize = 400;
/// Lines of a function.
const FUNCTION: usize = 80;

/// The reason of what could be split, and is not.
const NOT_YET: &str = "not split yet";

/// Longer files: the path, the most lines that it may have, and the reason.
const LONG_FILES: &[(&str, usize, &str)] = &[
    ("src/broker/consume/member.rs", 450, "the loop of one member"),
    ("src/broker/consume/redrive.rs", 500, NOT_YET),
    ("src/broker/error.rs", 500, NOT_YET),
    ("src/raft/transport.rs", 500, NOT_YET),
    ("src/cli/channel.rs", 450, NOT_YET),
    ("src/codec.rs", 450, "one format, and each of its versions"),
    ("src/http/messages.rs", 500, NOT_YET),
    ("src/machine/consumers/consumer.rs", 450, "one consumer's state, whose fields are private to it"),
    ("src/model/channel.rs", 450, "plain types with their checks"),
    ("src/raft/peer_service.rs", 500, NOT_YET),
    ("src/store/engine.rs", 450, "one commit from the caller's words to the engine's keys"),
    ("src/store/mod.rs", 450, "the trait, and what is said of each of its calls"),
    ("crates/liminal-client/src/calls.rs", 450, "one call after another"),
];

/// Longer functions: the path and the name, the most lines that it may have, and the reason.
const LONG_FUNCTIONS: &[(&str, usize, &str)] = &[
    ("src/broker/consume/redrive.rs redrive_on", 110, NOT_YET),
    ("src/broker/read.rs read_with", 100, NOT_YET),
    ("src/cli/channel.rs run", 100, "one arm for each command"),
    ("src/grpc/consumers.rs attend", 90, "one loop over what a stream may say"),
    ("src/node.rs start_parts", 130, "the parts of a node in the order in which they start"),
    ("src/raft/group/start.rs start", 190, "the parts of a group in the order in which they start"),
    ("src/raft/joining/sight.rs look", 90, "one round over all that a node may know"),
    ("src/store/engine.rs commit", 90, NOT_YET),
];

fn product() -> Vec<File> {
    let all = ["src", "crates", "benches"].into_iter().flat_map(|dir| files(dir, &[".rs"]));
    all.filter(|file| !file.is_of_tests()).collect()
}

/// The functions of a file with the number of their lines. The formatter has put the end of each below its beginning.
fn functions(file: &File) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = file.product().lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let keywords = ["pub", "const", "async", "unsafe", "extern"];
        if !before.split_whitespace().all(|word| keywords.iter().any(|k| word.starts_with(k)) || word.starts_with('"'))
        {
            continue;
        }
        let name = after.split(['(', '<']).next().unwrap_or(after);
        let end = format!("{}}}", " ".repeat(indent));
        if line.ends_with(['}', ';']) {
            continue;
        }
        for (length, line) in (2..).zip(&lines[at + 1..]) {
            let inner = line.trim_start();
            let depth = line.len() - inner.len();
            let declared = depth == indent && inner.starts_with(')') && inner.ends_with(';');
            let left = depth < indent && inner == "}";
            if *line == end {
                found.push((name, length));
            }
            // What has no body is only declared, in a trait.
            if *line == end || declared || left {
                break;
            }
        }
    }
    found
}

/// Findings about lengths over a limit that no exception allows, and about exceptions that are not needed.
fn judge(lengths: &[(String, usize)], most: usize, exceptions: &[(&str, usize, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for (what, length) in lengths.iter().filter(|(_, length)| *length > most) {
        match exceptions.iter().find(|(excepted, ..)| excepted == what) {
            None => findings.push(format!("{what}: {length} lines, at most {most}: split it")),
            Some((_, allowed, reason)) if length > allowed => {
                findings.push(format!("{what}: {length} lines, at most {allowed} ({reason}): it must not grow"));
            }
            Some(_) => {}
        }
    }
    let is_long = |what: &str| lengths.iter().any(|(known, length)| known == what && *length > most);
    let unneeded = exceptions.iter().filter(|(what, ..)| !is_long(what));
    findings.extend(
        unneeded.map(|(what, ..)| format!("{what}: it is not longer than {most} lines: take the exception out")),
    );
    findings
}

#[test]
fn files_are_short_or_have_a_reason() {
    let lengths: Vec<_> = product().iter().map(|file| (file.path.clone(), file.product().lines().count())).collect();
    report(judge(&lengths, FILE, LONG_FILES));
}

#[test]
fn functions_are_short_or_have_a_reason() {
    let mut lengths = Vec::<(String, usize)>::new();
    for file in product() {
        lengths.extend(functions(&file).into_iter().map(|(name, length)| (format!("{} {name}", file.path), length)));
    }
    report(judge(&lengths, FUNCTION, LONG_FUNCTIONS));
}

#[test]
fn lengths_are_counted_from_the_name_to_the_closing_brace() {
    let text = "fn a() {\n    x();\n}\n\ntrait T {\n    fn b(&self);\n    async fn c() {\n        y();\n        z();\n    }\n}\n";
    let file = File { path: "a.rs".into(), text: text.into() };
    assert_eq!(functions(&file), [("a", 3), ("c", 4)]);
    let lengths = [("long".to_owned(), 11), ("short".to_owned(), 3)];
    assert_eq!(judge(&lengths, 10, &[]).len(), 1);
    assert_eq!(judge(&lengths, 10, &[("long", 11, "")]).len(), 0);
    assert_eq!(judge(&lengths, 10, &[("long", 10, "")]).len(), 1, "it grew");
    assert_eq!(judge(&lengths, 10, &[("long", 11, ""), ("short", 20, "")]).len(), 1, "it is short");
}
