//! The documents' worked examples, run as they stand. A block that begins with ```` ```console run ```` is executed: each
//! line after `$ ` by a shell, against one node of its own for each document, from the document's beginning to its end.
//! What stands below a command is compared with what it writes, standard output before standard error.
//!
//! The addresses of `liminal dev`'s three nodes all stand for those of the node that is tested. From a line
//! `<!-- liminal dev is stopped -->` on, that node is gone, and the addresses are those of three nodes that the document
//! itself starts, with the files in `cluster/`. Ports 17101 and 17201 are those of another node that a document starts.
//! What a document starts in the background writes its process id into a file `NAME.pid`, and is ended with the document,
//! however that ends.
//!
//! In what is stated, `[..]` stands for anything within a line, and a line `...` for any number of lines. A command below
//! which nothing stands may write anything. A command has to succeed, unless a line that is stated begins with `error:`.
//! A line that ends in `\` goes on in the next one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
    thread,
};

use parking_lot::Mutex;

use super::{consumers::Node, ports::free_addresses};

/// How a block begins whose commands are run.
const RUN: &str = "```console run";
/// From here on a document starts its own three nodes.
const STOPPED: &str = "<!-- liminal dev is stopped -->";
/// The nodes that documents speak of, and their ports for clients, HTTP and other nodes less the node's number.
const NODES: u16 = 3;
const PORTS: [u16; 3] = [7100, 7200, 7300];
/// Where a document may start another node of its own: for clients, and over HTTP.
const ANOTHER: [&str; 2] = ["127.0.0.1:17101", "127.0.0.1:17201"];
/// Documents that are run at a time.
const WORKERS: usize = 3;

/// A command of a document, and what is stated to come out of it.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    line: usize,
    command: String,
    stated: Vec<String>,
    /// The document has stopped `liminal dev`, and starts nodes itself.
    alone: bool,
}

/// The commands of all blocks that are run.
fn steps(text: &str) -> Vec<Step> {
    let (mut steps, mut running, mut goes_on, mut alone) = (Vec::<Step>::new(), false, false, false);
    for (number, line) in (1..).zip(text.lines()) {
        alone |= line == STOPPED;
        if line.starts_with("```") {
            running = line.trim_end() == RUN;
            goes_on = false;
        } else if running {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { line: number, command: command.to_owned(), stated: Vec::new(), alone });
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

/// The Markdown files of a directory and of those within it.
fn markdown(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|end| end == "md") {
            found.push(path);
        }
    }
    found
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = markdown(&root.join("docs"));
    all.extend([root.join("README.md"), root.join("clients/examples/README.md")]);
    all.sort();
    all
}

/// Where the nodes are that a document speaks of: what it calls them, and what they are called here.
struct Addresses(Vec<(String, String)>);

impl Addresses {
    fn written() -> impl Iterator<Item = String> {
        (1..=NODES).flat_map(|node| PORTS.map(|port| format!("127.0.0.1:{}", port + node)))
    }

    /// One node stands for all three, to clients and over HTTP.
    fn of(node: &Node) -> Self {
        let here = [&node.client, &node.http, &node.http].into_iter().cycle().cloned();
        let another = ANOTHER.map(str::to_owned).into_iter().zip(free_addresses(ANOTHER.len()));
        Self(Self::written().zip(here).chain(another).collect())
    }

    /// Three nodes that are not there yet, with their files in `cluster/` of the directory.
    fn of_cluster(dir: &Path) -> Self {
        let all = Self(Self::written().zip(free_addresses(usize::from(NODES) * PORTS.len())).collect());
        fs::create_dir(dir.join("cluster")).unwrap();
        for node in 1..=NODES {
            let file = format!("cluster/node{node}.toml");
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
            fs::write(dir.join(file), all.put(&text)).unwrap();
        }
        all
    }

    fn put(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (written, here)| text.replace(written, here))
    }

    fn servers(&self) -> String {
        let clients = self.0.iter().step_by(PORTS.len()).take(usize::from(NODES));
        let mut servers: Vec<String> = clients.map(|(_, here)| format!("http://{here}")).collect();
        servers.dedup();
        servers.join(",")
    }
}

/// The directory in which a document is run. What it started in the background is ended with it.
struct Scene(tempfile::TempDir);

impl Drop for Scene {
    fn drop(&mut self) {
        let files = fs::read_dir(self.0.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        for file in files.filter(|path| path.extension().is_some_and(|end| end == "pid")) {
            // One that has ended already is no error, and nor is one whose file is being written.
            let _ = Process::new("sh").args(["-c", "kill -9 $(cat \"$0\")"]).arg(&file).output();
        }
    }
}

fn run_document(path: &Path) {
    let steps = steps(&fs::read_to_string(path).unwrap());
    if steps.is_empty() {
        return;
    }
    let (node, scene) = (Node::start(), Scene(tempfile::tempdir().unwrap()));
    let mut addresses = Addresses::of(&node);
    let mut node = Some(node);
    let bin = Path::new(env!("CARGO_BIN_EXE_liminal")).parent().unwrap();
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for Step { line, command, stated, alone } in steps {
        if alone && node.take().is_some() {
            addresses = Addresses::of_cluster(scene.0.path());
        }
        let command = addresses.put(&command);
        let mut shell = Process::new("sh");
        shell.args(["-c", &command]).current_dir(scene.0.path()).env("PATH", &search);
        shell.env("LIMINAL_SERVER", addresses.servers()).env("XDG_CONFIG_HOME", "/nonexistent");
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
    let left = Mutex::new(documents());
    let next = || left.lock().pop();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(path) = next() {
                    run_document(&path);
                }
            });
        }
    });
}

#[test]
fn a_block_that_is_run_is_read_as_commands_and_what_comes_out_of_them() {
    let text = "```console\n$ not this\n```\n```console run\n$ a \\\n  b\nx [..]\n...\n$ c\n```\n$ nor this\n\
                <!-- liminal dev is stopped -->\n```console run\n$ d\n```\n";
    let step = |line, command: &str, stated: &[&str], alone| Step {
        line,
        command: command.to_owned(),
        stated: stated.iter().map(|line| (*line).to_owned()).collect(),
        alone,
    };
    let running = [step(5, "a \\\n  b", &["x [..]", "..."], false), step(9, "c", &[], false)];
    assert_eq!(steps(text), [&running[..], &[step(14, "d", &[], true)]].concat());
    assert!(is_like("a [..] c[..]", "a b c") && is_like("a", "a"));
    assert!(!is_like("a [..] c", "a b d") && !is_like("a", "ab"));
    let stated = ["a".to_owned(), "...".to_owned(), "z".to_owned()];
    assert!(are_like(&stated, &["a", "z"]) && are_like(&stated, &["a", "b", "z"]));
    assert!(!are_like(&stated, &["a", "b"]) && !are_like(&[], &["a"]));
}
