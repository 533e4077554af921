//! The dashboard and the alert rules of the deployment: both can be read, and ask only for metrics and labels that a node
//! has. A query for a metric that is not there is no error for Prometheus: the alert never fires.

use std::collections::BTreeSet;

use liminal::http::metrics::{ALL, Declared, MetricKind};
use saphyr::{LoadableYamlNode as _, Yaml};

use super::{report, source::read};

const DASHBOARD: &str = "cluster/grafana/liminal.json";
const RULES: &str = "cluster/prometheus/alerts.yml";
const SCRAPE: &str = "cluster/prometheus/prometheus.yml";
const GUIDE: &str = "docs/OPERATIONS.md";
/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["job", "instance"];
/// Metrics that are none of ours.
const FOREIGN: [&str; 1] = ["up"];

/// The series that a query asks for, each with the metric that it belongs to; or what is wrong with it.
fn series(query: &str) -> Vec<Result<&'static Declared, String>> {
    let names =
        query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("liminal_"));
    let declared = |name: &str| {
        let of = |exposed: &str| ALL.iter().find(|declared| declared.exposed() == exposed);
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| of(name.strip_suffix(suffix)?));
        match (of(name), parts.filter(|declared| declared.kind == MetricKind::Histogram)) {
            (Some(declared), _) if declared.kind == MetricKind::Histogram => {
                Err(format!("{name} is a histogram: ask for its _bucket, _sum or _count"))
            }
            (Some(declared), _) | (None, Some(declared)) => Ok(*declared),
            (None, None) => Err(format!("there is no metric {name}")),
        }
    };
    names.map(declared).collect()
}

/// The labels that a query groups by or chooses by.
fn labels(query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for list in ["by (", "on ("] {
        for behind in query.split(list).skip(1) {
            let inside = behind.split(')').next().unwrap_or_default();
            found.extend(inside.split(',').map(|label| label.trim().to_owned()));
        }
    }
    for behind in query.split('{').skip(1) {
        let mut inside = behind.split('}').next().unwrap_or_default();
        while let Some((label, rest)) = inside.split_once(['=', '!']) {
            found.insert(label.trim_matches([',', ' ']).to_owned());
            // Behind the value in quotes.
            inside = rest.split_once('"').and_then(|(_, value)| value.split_once('"')).map_or("", |(_, rest)| rest);
        }
    }
    found
}

/// What is wrong with a query.
fn judge(query: &str) -> Vec<String> {
    let (mut findings, mut known) = (Vec::new(), BTreeSet::from(ADDED));
    let series = series(query);
    if series.is_empty() && !FOREIGN.iter().any(|name| query.contains(name)) {
        findings.push("it asks for no metric".to_owned());
    }
    for found in series {
        match found {
            Ok(declared) => {
                known.extend(declared.labels);
                known.extend((declared.kind == MetricKind::Histogram).then_some("le"));
            }
            Err(finding) => findings.push(finding),
        }
    }
    let unknown = labels(query).into_iter().filter(|label| !known.contains(label.as_str()));
    findings.extend(unknown.map(|label| format!("none of its metrics has the label {label}")));
    findings
}

/// The panels of the dashboard, those in rows too.
fn panels(of: &serde_json::Value) -> Vec<&serde_json::Value> {
    let own = of["panels"].as_array().into_iter().flatten();
    own.flat_map(|panel| [panel].into_iter().chain(panels(panel))).collect()
}

/// A rule's text under a key, or under a key of a key.
fn text<'a>(rule: &'a Yaml<'_>, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(rule, |inside, key| inside.as_mapping_get(key)).and_then(|found| found.as_str())
}

/// Hands all rules with an alert to `look`.
fn rules(look: &mut dyn FnMut(&Yaml<'_>)) {
    let file = read(RULES);
    let documents = Yaml::load_from_str(&file).unwrap_or_else(|error| panic!("{RULES}: {error}"));
    let groups = documents[0].as_mapping_get("groups").and_then(|groups| groups.as_sequence()).expect("groups");
    for group in groups {
        assert!(text(group, &["name"]).is_some(), "{RULES}: a group has no name");
        group.as_mapping_get("rules").and_then(|rules| rules.as_sequence()).expect("rules").iter().for_each(&mut *look);
    }
}

#[test]
fn every_query_of_the_dashboard_asks_for_metrics_and_labels_that_a_node_has() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read(DASHBOARD)).unwrap_or_else(|error| panic!("{DASHBOARD}: {error}"));
    let (mut findings, mut ids, mut queries) = (Vec::new(), BTreeSet::new(), 0);
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap_or("a panel without a title");
        if !ids.insert(panel["id"].as_u64()) {
            findings.push(format!("{DASHBOARD}: `{title}`: another panel has its id"));
        }
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.is_empty() != (panel["type"] == "row") {
            findings.push(format!("{DASHBOARD}: `{title}`: only rows have no query"));
        }
        for target in targets {
            let query = target["expr"].as_str().unwrap_or_default();
            queries += 1;
            findings.extend(judge(query).into_iter().map(|found| format!("{DASHBOARD}: `{title}`: {found}: {query}")));
        }
    }
    report(findings);
    assert!(queries > 0, "{DASHBOARD} asks for nothing");
}

#[test]
fn every_alert_asks_for_metrics_and_labels_that_a_node_has_and_says_what_to_do() {
    let (mut findings, mut names) = (Vec::new(), BTreeSet::new());
    rules(&mut |rule| {
        let name = text(rule, &["alert"]).unwrap_or("a rule without a name").to_owned();
        let query = text(rule, &["expr"]).unwrap_or_default();
        findings.extend(judge(query).into_iter().map(|found| format!("{RULES}: {name}: {found}: {query}")));
        if !matches!(text(rule, &["labels", "severity"]), Some("page" | "ticket")) {
            findings.push(format!("{RULES}: {name}: its severity is neither page nor ticket"));
        }
        for part in ["summary", "description"] {
            if text(rule, &["annotations", part]).is_none_or(str::is_empty) {
                findings.push(format!("{RULES}: {name}: it has no {part}"));
            }
        }
        if !names.insert(name.clone()) {
            findings.push(format!("{RULES}: there are two alerts {name}"));
        }
    });
    report(findings);
    assert!(!names.is_empty(), "{RULES} has no alerts");
}

#[test]
fn the_guide_explains_every_metric_that_an_alert_looks_at() {
    let guide = read(GUIDE);
    let (_, section) = guide.split_once("\n## What to watch\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut findings = BTreeSet::new();
    rules(&mut |rule| {
        let named = series(text(rule, &["expr"]).unwrap_or_default());
        let missing =
            named.into_iter().flatten().map(Declared::exposed).filter(|name| !section.contains(name.as_str()));
        findings.extend(missing.map(|name| format!("{GUIDE}, 'What to watch': {name} has an alert and no line")));
    });
    report(findings.into_iter().collect());
}

#[test]
fn the_scrape_example_can_be_read_and_takes_the_rules_beside_it() {
    let file = read(SCRAPE);
    let documents = Yaml::load_from_str(&file).unwrap_or_else(|error| panic!("{SCRAPE}: {error}"));
    let list = |key| documents[0].as_mapping_get(key).and_then(|list| list.as_sequence()).expect(key);
    let files: Vec<&str> = list("rule_files").iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(files, [RULES.rsplit('/').next().unwrap()]);
    assert_eq!(text(&list("scrape_configs")[0], &["metrics_path"]), Some("/metrics"));
}

#[test]
fn a_query_is_judged_by_its_metrics_and_labels() {
    for right in [
        r#"sum by (code) (rate(liminal_failed_messages_total{job="$job",code=~"A|B"}[5m]))"#,
        "histogram_quantile(0.9, sum by (le, confirm) (rate(liminal_publish_seconds_bucket[5m])))",
        "liminal_ready == 0",
        "up == 0",
    ] {
        assert_eq!(judge(right), Vec::<String>::new(), "{right}");
    }
    for wrong in [
        "liminal_failed_messages",
        "liminal_publish_seconds",
        "liminal_ready_bucket",
        "sum by (le) (liminal_ready)",
        r#"liminal_ready{channel!="a"}"#,
        "vector(1)",
    ] {
        assert_eq!(judge(wrong).len(), 1, "{wrong}: {:?}", judge(wrong));
    }
}
