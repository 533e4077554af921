//! Words that code and documents do without: marks of unfinished work, macros that must not be left behind, and words that
//! say nothing or tell readers what they should find easy.

use super::{report, source::files};

/// Found as they are written here.
static MARKS: [&str; 6] = ["TODO", "FIXME", "HACK", "unimplemented!", "todo!(", "dbg!("];
/// Found as whole words, in any case.
static WORDS: [&str; 18] = [
    "simply",
    "obviously",
    "of course",
    "merely",
    "basically",
    "actually",
    "trivially",
    "easily",
    "hopefully",
    "needless to say",
    "as mentioned",
    "please note",
    "leverage",
    "utilize",
    "utilise",
    "seamless",
    "blazing",
    "whilst",
];

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut places = line.match_indices(word);
    places.any(|(at, _)| !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next()))
}

#[test]
fn no_unfinished_work_and_no_empty_words() {
    let mut findings = Vec::new();
    for file in files("", &[".rs", ".md", ".proto", ".toml", ".sh", ".yml"]) {
        if file.path.starts_with("tests/tidy/") {
            continue;
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            let lower = line.to_lowercase();
            let marks = MARKS.iter().filter(|mark| line.contains(**mark));
            let words = WORDS.iter().filter(|word| has_word(&lower, word));
            findings
                .extend(marks.chain(words).map(|word| format!("{}:{number}: `{word}`: {}", file.path, line.trim())));
        }
    }
    report(findings);
}

#[test]
fn a_word_is_found_only_as_a_whole() {
    assert!(has_word("it is simply so", "simply") && has_word("simply", "simply"));
    assert!(!has_word("oversimply", "simply") && !has_word("simply_so", "simply"));
}
