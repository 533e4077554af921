//! Links between documents lead somewhere: to a file that is there, and to a heading that it has.

use std::{collections::BTreeSet, path::Path};

use super::{
    report,
    source::{files, read},
};

/// The text without blocks of code, in which brackets are no links.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if fence || inside { "" } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of all links of a text.
fn targets(text: &str) -> Vec<String> {
    let text = prose(text);
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let text = prose(text);
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let name = anchor(heading);
        // The second heading of a name gets a number.
        let again = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(again).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

#[test]
fn links_between_documents_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    for file in files("", &[".md"]) {
        let dir = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for target in targets(&file.text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(path, at)| (path, Some(at)));
            let path = if path.is_empty() { Path::new(&file.path).to_owned() } else { dir.join(path) };
            if !root.join(&path).exists() {
                findings.push(format!("{}: the link to `{target}` leads to no file", file.path));
            } else if let Some(anchor) = anchor
                && !anchors(&read(path.to_str().unwrap())).contains(anchor)
            {
                findings.push(format!("{}: the link to `{target}` leads to no heading of that file", file.path));
            }
        }
    }
    report(findings);
}

#[test]
fn links_and_headings_are_read_as_github_reads_them() {
    let text =
        "# A `b` (c)\n[x](y.md#z) and [v](#w)\n```\n[no](link)\n# no heading\n```\n## Dead-letter queues\n## A b c\n";
    assert_eq!(targets(text), ["y.md#z", "#w"]);
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["a-b-c", "a-b-c-1", "dead-letter-queues"]);
}
