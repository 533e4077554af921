//! What documents name has to exist: metrics, error codes, configuration keys, commands and their options. The references
//! (COMMANDS.md, CONFIGURATION.md, ERRORS.md, METRICS.md) are written from the code; every other document is compared with
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    report,
    source::{File, files, read},
};

const CODES: &str = "docs/ERRORS.md";
/// The tables of the configuration whose keys are written with a dot.
const TABLES: [&str; 8] = ["cluster.", "limits.", "peer_tls.", "raft.", "scrub.", "security.", "store.", "tls."];
/// Upper-case words with underscores in documents that are no error codes.
const OTHER_WORDS: [&str; 6] = ["RUST_LOG", "UPDATE_DOCS", "SCHED_RR", "SCHED_BATCH", "NO_COLOR", "XDG_CONFIG_HOME"];
/// Prefixes of those.
const OTHER_PREFIXES: [&str; 3] = ["LIMINAL_", "CARGO_", "ADMISSION_"];

/// Written from the code, as [`CODES`] is, with other names that look like error codes.
const COMMANDS: &str = "docs/COMMANDS.md";

/// The documents that people wrote, without the history of changes, and the alert rules, which are read as one.
fn guides() -> Vec<File> {
    let all = files("docs", &[".md"]).into_iter().chain(files("crates", &["README.md"]));
    let all = all.chain(files("cluster/prometheus", &[".yml"]));
    let readme = File { path: "README.md".into(), text: read("README.md") };
    all.chain([readme]).filter(|file| ![CODES, COMMANDS].contains(&file.path.as_str())).collect()
}

/// Words of these characters, each with the number of its line.
fn words(text: &str, is_part: fn(char) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines());
    lines.flat_map(move |(number, line)| line.split(move |c| !is_part(c)).map(move |word| (number, word)))
}

/// What stands in backticks at the beginning of a reference's rows or in its headings.
fn known(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let named = text.lines().filter(|line| line.starts_with("| `") || line.starts_with('#'));
    named.filter_map(|line| line.split('`').nth(1)).map(str::to_owned).collect()
}

#[test]
fn error_codes_that_documents_name_exist() {
    let codes = known(CODES);
    let mut findings = Vec::new();
    for file in guides() {
        for (line, word) in words(&file.text, |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            let is_code = word.len() > 5 && word.trim_matches('_') == word && word.contains('_');
            let is_other = OTHER_WORDS.contains(&word) || OTHER_PREFIXES.iter().any(|prefix| word.starts_with(prefix));
            if is_code && !is_other && !codes.contains(word) {
                findings.push(format!("{}:{line}: there is no error code {word}", file.path));
            }
        }
    }
    report(findings);
}

#[test]
fn metrics_that_documents_name_exist() {
    let known = known("docs/METRICS.md");
    let mut findings = Vec::new();
    for file in guides() {
        for (line, word) in words(&file.text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            // Names of crates and files have the prefix too, and `liminal_consumer_*` stands for several.
            let is_prefix = word.ends_with('_');
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            let exists = known.contains(word)
                || of_histogram.is_some_and(|name| known.contains(name))
                || is_prefix && known.iter().any(|name| name.starts_with(word));
            let is_crate = ["client", "json", "memory", "predicate", "schema", "tls", "wire"]
                .iter()
                .any(|name| word == format!("liminal_{name}"));
            if word.starts_with("liminal_") && word != "liminal_" && !exists && !is_crate {
                let several = known.iter().any(|name| name.starts_with(&format!("{word}_")));
                if !several {
                    findings.push(format!("{}:{line}: there is no metric {word}", file.path));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn configuration_keys_that_documents_name_exist() {
    let known = known("docs/CONFIGURATION.md");
    let mut findings = Vec::new();
    for file in guides() {
        for (number, line) in (1..).zip(file.text.lines()) {
            for quoted in line.split('`').skip(1).step_by(2) {
                let key = quoted.split([' ', '=']).next().unwrap_or_default();
                let is_key =
                    TABLES.iter().any(|table| key.starts_with(table)) && !key.ends_with(".rs") && !key.ends_with(".sh");
                if is_key && !known.contains(key) {
                    findings.push(format!("{}:{number}: there is no key `{key}`", file.path));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn what_stands_in_brackets_behind_a_key_is_its_default() {
    let reference = read("docs/CONFIGURATION.md");
    let rows = reference.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').collect::<Vec<_>>());
    let plain = |text: &str| text.replace([' ', ',', '`', '"'], "").to_lowercase();
    let defaults: BTreeMap<String, String> = rows.map(|cells| (plain(cells[1]), plain(cells[3]))).collect();
    let mut findings = Vec::new();
    for file in guides() {
        for (number, line) in (1..).zip(file.text.lines()) {
            for (at, behind) in line.match_indices("` (") {
                let key = line[..at].rsplit('`').next().unwrap_or_default();
                let said = line[at + behind.len()..].split([')', ';']).next().unwrap_or_default();
                // `16 MiB, at most a quarter`: what comes after the value is not compared.
                let said = said.split(", ").next().unwrap_or(said);
                if let Some(default) = defaults.get(key).filter(|default| **default != plain(said)) {
                    findings.push(format!("{}:{number}: the default of `{key}` is {default}, not {said}", file.path));
                }
            }
        }
    }
    report(findings);
}

/// The commands of a line without their first word: one that is shown to be typed, and those in backticks.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let typed = line.strip_prefix("$ ").map(|line| line.split(['|', ';', '#', '>']).next().unwrap_or(line));
    let quoted = line.split('`').skip(1).step_by(2);
    let mut found = Vec::new();
    for command in typed.into_iter().chain(quoted).filter_map(|command| command.strip_prefix("liminal ")) {
        let mut words = command.split_whitespace().peekable();
        // Options of all commands may stand before the first word.
        while let Some(option) = words.next_if(|word| word.starts_with('-')) {
            if !option.contains('=') {
                words.next();
            }
        }
        found.push(words.collect());
    }
    found
}

#[test]
fn commands_and_options_that_documents_name_exist() {
    let (known, reference) = (known(COMMANDS), read(COMMANDS));
    let mut findings = Vec::new();
    for file in guides() {
        for (number, line) in (1..).zip(file.text.lines()) {
            for words in commands(line) {
                let mut names = (1..=words.len().min(3)).map(|count| format!("liminal {}", words[..count].join(" ")));
                // `liminal channel` alone stands for all that begin so.
                let all = format!("liminal {} ", words.join(" "));
                let exists =
                    names.clone().any(|name| known.contains(&name)) || known.iter().any(|name| name.starts_with(&all));
                if !words.is_empty() && !exists {
                    let name = names.next_back().unwrap_or_default();
                    findings.push(format!("{}:{number}: there is no command `{name}`", file.path));
                }
                for option in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
                    let option = option.split('=').next().unwrap_or(option);
                    if !reference.contains(&format!("`{option}`")) {
                        findings.push(format!("{}:{number}: no command has the option {option}", file.path));
                    }
                }
            }
        }
    }
    report(findings);
}

#[test]
fn files_and_directories_that_documents_name_exist() {
    const BELOW: [&str; 9] =
        ["src/", "crates/", "tests/", "docs/", "cluster/", "deploy/", "benches/", "proto/", "patches/"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    for file in guides() {
        for (number, line) in (1..).zip(file.text.lines()) {
            for quoted in line.split('`').skip(1).step_by(2) {
                let path = quoted.split(' ').next().unwrap_or(quoted);
                let is_path = BELOW.iter().any(|dir| path.starts_with(dir)) && !path.contains(['*', '#', '{']);
                if is_path && !root.join(path).exists() {
                    findings.push(format!("{}:{number}: there is no `{path}`", file.path));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn commands_are_found_where_they_are_typed_and_quoted() {
    assert_eq!(commands("$ liminal -o json channel list | wc"), [["channel", "list"]]);
    assert_eq!(commands("run `liminal cluster status`, not `cargo`"), [["cluster", "status"]]);
    assert!(commands("$ curl -s liminal").is_empty());
}
