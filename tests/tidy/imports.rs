//! Which module may import which. The truth is the table below the heading "What imports what" of docs/ARCHITECTURE.md: a
//! module imports only what its row names, a row names only rows below it, and nothing that is not imported. So there are
//! no cycles between modules, and the table is never out of date.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    report,
    source::{File, files, read},
};

const MAP: &str = "docs/ARCHITECTURE.md";
/// Imports against the order of the table, each with its reason.
static UPWARD: [(&str, &str, &str); 2] = [
    ("raft", "grpc", "the port for nodes serves HTTP/2, and counts what comes in as the clients' port does"),
    ("env", "budget", "a connection carries the account that its bytes are counted on, from the socket on"),
];
/// Files of the machine that have hash maps: they look up in them and never walk over them.
const LOOK_UPS: [&str; 2] = ["src/machine/dedup.rs", "src/machine/delayed.rs"];
/// What the machine must not know: files, sockets, clocks, threads, randomness, and maps that have no order of their own.
const FORBIDDEN_IN_MACHINE: [&str; 15] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "Instant",
    "SystemTime",
    "tokio",
    "futures",
    "getrandom",
    "rand::",
    "RandomState",
    "HashMap",
    "HashSet",
];

/// A table of the map: the names in the first column, in order, each with those in the second.
fn rows(heading: &str) -> Vec<(String, BTreeSet<String>)> {
    let text = read(MAP);
    let (_, below) = text.split_once(heading).unwrap_or_else(|| panic!("{MAP} has no heading `{heading}`"));
    let lines =
        below.lines().skip(1).skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let cells = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for cells in lines.skip(2).map(cells) {
        let imported: BTreeSet<String> = cells.get(2).map(|cell| names(cell).into_iter().collect()).unwrap_or_default();
        rows.extend(names(&cells[1]).into_iter().map(|name| (name, imported.clone())));
    }
    rows
}

/// The top-level modules that a text names behind `crate::`.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let behind = &code[at + start.len()..];
        if !behind.starts_with('{') {
            found.insert(word(behind));
            continue;
        }
        // A list, possibly of lists: only its own level names modules.
        let (mut depth, mut begins) = (0, false);
        for (at, c) in behind.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ if depth == 1 && begins && c.is_alphabetic() => {
                    found.insert(word(&behind[at..]));
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            begins = depth == 1 && (matches!(c, '{' | ',') || begins && c.is_whitespace());
        }
    }
    // `crate::Broker` is re-exported from a module of that name.
    found.into_iter().map(|name| name.to_lowercase()).collect()
}

fn module_of(file: &File) -> &str {
    let inside = file.path.trim_start_matches("src/");
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// What each module of `src` imports, with a file that does it.
fn imported() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all = BTreeMap::<String, BTreeMap<String, String>>::new();
    let files = files("src", &[".rs"]);
    for file in files.iter().filter(|file| !file.is_of_tests()) {
        let module = module_of(file);
        if matches!(module, "lib" | "main" | "documents") {
            continue;
        }
        let code: Vec<&str> = file.code().map(|(_, line)| line).collect();
        let imports = all.entry(module.to_owned()).or_default();
        // Only tests have `documents`.
        for name in named(&code.join("\n")).into_iter().filter(|name| name != module && name != "documents") {
            imports.entry(name).or_insert_with(|| file.path.clone());
        }
    }
    all
}

#[test]
fn modules_import_what_the_map_names_and_the_map_names_what_they_import() {
    let (allowed, imported) = (rows("### What imports what"), imported());
    let table: BTreeMap<&String, &BTreeSet<String>> = allowed.iter().map(|(name, imports)| (name, imports)).collect();
    let mut findings = Vec::new();
    for (module, imports) in &imported {
        let Some(named) = table.get(module) else {
            findings.push(format!("{MAP}: the table has no row for the module `{module}`"));
            continue;
        };
        for (name, file) in imports.iter().filter(|(name, _)| !named.contains(*name)) {
            findings.push(format!("{file}: `{module}` imports `{name}`, which its row in {MAP} does not name"));
        }
        for name in named.iter().filter(|name| !imports.contains_key(*name)) {
            findings.push(format!("{MAP}: `{module}` does not import `{name}`, which its row names"));
        }
    }
    report(findings);
}

#[test]
fn each_module_imports_only_modules_below_it_in_the_map() {
    let rows = rows("### What imports what");
    let place = |name: &str| rows.iter().position(|(module, _)| module == name);
    let (mut findings, mut needed) = (Vec::new(), Vec::new());
    for (at, (module, imports)) in rows.iter().enumerate() {
        for name in imports {
            let upward = UPWARD.iter().find(|(from, to, _)| (from, to) == (&module.as_str(), &name.as_str()));
            match (place(name), upward) {
                (None, _) => findings.push(format!("{MAP}: `{module}` names `{name}`, which has no row")),
                (Some(other), None) if other <= at => {
                    findings.push(format!("{MAP}: `{module}` imports `{name}`, which does not stand below it"));
                }
                (Some(other), Some(upward)) if other < at => needed.push(upward),
                _ => {}
            }
        }
    }
    let unneeded = UPWARD.iter().filter(|upward| !needed.contains(upward));
    findings.extend(unneeded.map(|(from, to, _)| format!("UPWARD: `{from}` to `{to}` is not needed: take it out")));
    report(findings);
}

#[test]
fn the_machine_knows_no_file_socket_clock_or_chance() {
    let mut findings = Vec::new();
    for file in files("src/machine", &[".rs"]).iter().filter(|file| !file.is_of_tests()) {
        for (line, code) in file.code() {
            for word in FORBIDDEN_IN_MACHINE.iter().filter(|word| code.contains(**word)) {
                if (word.starts_with("Hash") || *word == "RandomState") && LOOK_UPS.contains(&file.path.as_str()) {
                    continue;
                }
                findings.push(format!("{}:{line}: the state machine must not use {word}: {}", file.path, code.trim()));
            }
        }
    }
    report(findings);
}

#[test]
fn crates_depend_on_the_crates_that_the_map_names_and_never_on_the_node() {
    let allowed: BTreeMap<String, BTreeSet<String>> = rows("### What the crates depend on").into_iter().collect();
    let mut findings = Vec::new();
    for file in files("crates", &["Cargo.toml"]) {
        let name = file.path.split('/').nth(1).unwrap_or_default();
        let Some(named) = allowed.get(name) else {
            findings.push(format!("{MAP}: the table has no row for the crate `{name}`"));
            continue;
        };
        let after = file.text.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = after.split("\n[").next().unwrap_or_default();
        let ours = dependencies.lines().filter_map(|line| line.split([' ', '.']).next());
        let ours: BTreeSet<String> = ours.filter(|name| name.starts_with("liminal")).map(str::to_owned).collect();
        if ours != *named {
            findings.push(format!("{}: it depends on {ours:?}, and {MAP} says {named:?}", file.path));
        }
    }
    report(findings);
}

#[test]
fn names_behind_crate_are_found_in_lists_and_alone() {
    let found = named("use crate::{\n    a::{x, y},\n    b,\n};\nfn f() { crate::c::g() } use crate::Broker;");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "broker", "c"]);
}
