//! The documents' worked examples, run as they stand. A block that begins with ```` ```console run ```` is executed: each
//! line after `$ ` by a shell, against one node of its own for each document, from the document's beginning to its end.
//! What stands below a command is compared with what it writes, standard output before standard error.
//!
//! In what is stated, `[..]` stands for anything within a line, and a line `...` for any number of lines. A command below
//! which nothing stands may write anything. A command has to succeed, unless a line that is stated begins with `error:`.
//! A line that ends in `\` goes on in the next one. The addresses of `liminal dev`'s first node stand for those of the
//! node that is tested.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use super::consumers::Node;

/// How a block begins whose commands are run.
const RUN: &str = "```console run";
/// What the documents call the node's addresses.
const ADDRESSES: [&str; 2] = ["127.0.0.1:7101", "127.0.0.1:7201"];

/// A command of a document, and what is stated to come out of it.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    command: String,
    stated: Vec<String>,
}

/// The commands of all blocks that are run.
fn steps(text: &str) -> Vec<Step> {
    let (mut steps, mut running, mut goes_on) = (Vec::<Step>::new(), false, false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("```") {
            running = line.trim_end() == RUN;
            goes_on = false;
        } else if running {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { line: number, command: command.to_owned(), stated: Vec::new() });
                }
                (None, Some(step)) if goes_on => step.command = format!("{}\n{line}", step.command),
                (None, Some(step)) => step.stated.push(line.to_owned()),
                (None, None) => panic!("line {number} of a block that is run has no command before it: {line}"),
            }
            let commanded = steps.last().is_some_and(|step| step.stated.is_empty());
            goes_on = commanded && line.ends_with('\\');
        }
    }
    steps
}

/// Whether a line is as stated.
fn is_like(stated: &str, line: &str) -> bool {
    let mut parts = stated.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether lines are as stated.
fn are_like(stated: &[String], lines: &[&str]) -> bool {
    match stated.split_first() {
        None => lines.is_empty(),
        Some((gap, stated)) if gap == "..." => (0..=lines.len()).any(|skipped| are_like(stated, &lines[skipped..])),
        Some((first, stated)) => lines
            .split_first()
            .is_some_and(|(line, lines)| is_like(first.trim_end(), line.trim_end()) && are_like(stated, lines)),
    }
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    all.push(root.join("README.md"));
    all.sort();
    all
}

fn run_document(path: &Path) {
    let steps = steps(&fs::read_to_string(path).unwrap());
    if steps.is_empty() {
        return;
    }
    let (node, dir) = (Node::start(), tempfile::tempdir().unwrap());
    let bin = Path::new(env!("CARGO_BIN_EXE_liminal")).parent().unwrap();
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for Step { line, command, stated } in steps {
        let [client, http] = ADDRESSES;
        let command = command.replace(client, &node.client).replace(http, &node.http);
        let mut shell = Process::new("sh");
        shell.args(["-c", &command]).current_dir(dir.path()).env("PATH", &search).env("LIMINAL_SERVER", &node.server);
        shell.env("XDG_CONFIG_HOME", "/nonexistent");
        let output = shell.stdin(std::process::Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let (lines, place) = (text.lines().collect::<Vec<_>>(), format!("{}:{line}: $ {command}", path.display()));
        let fails = stated.iter().any(|line| line.starts_with("error:"));
        assert!(output.status.success() != fails, "{place}\nended with {}:\n{text}", output.status);
        let (stated_text, as_stated) = (stated.join("\n"), stated.is_empty() || are_like(&stated, &lines));
        assert!(as_stated, "{place}\nsaid\n{text}\nand it is stated\n{stated_text}");
    }
}

#[test]
fn the_worked_examples_of_the_documents_run_as_they_stand() {
    documents().iter().for_each(|path| run_document(path));
}

#[test]
fn a_block_that_is_run_is_read_as_commands_and_what_comes_out_of_them() {
    let text = "```console\n$ not this\n```\n```console run\n$ a \\\n  b\nx [..]\n...\n$ c\n```\n$ nor this\n";
    let step = |line, command: &str, stated: &[&str]| Step {
        line,
        command: command.to_owned(),
        stated: stated.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(steps(text), [step(5, "a \\\n  b", &["x [..]", "..."]), step(9, "c", &[])]);
    assert!(is_like("a [..] c[..]", "a b c") && is_like("a", "a"));
    assert!(!is_like("a [..] c", "a b d") && !is_like("a", "ab"));
    let stated = ["a".to_owned(), "...".to_owned(), "z".to_owned()];
    assert!(are_like(&stated, &["a", "z"]) && are_like(&stated, &["a", "b", "z"]));
    assert!(!are_like(&stated, &["a", "b"]) && !are_like(&[], &["a"]));
}
