//! The web console as a browser meets it: files of the node itself, under a policy that lets nothing else in, and scripts that
//! make only calls that the API describes.

use std::{collections::BTreeSet, path::Path};

use liminal::model::{Limits, SecurityMode};
use serde_json::Value;

use super::{
    http::{Answer, request},
    node,
    security::Closed,
};

/// What the policy has to say; it says nothing else.
const POLICY: [&str; 8] = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
];
/// The name of SVG's elements, which is no address that anything is fetched from.
const SVG: &str = r#"xmlns="http://www.w3.org/2000/svg""#;
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The console's files with their names.
fn files() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console/assets");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 15, "{}", files.len());
    files
}

fn scripts() -> Vec<(String, String)> {
    files().into_iter().filter(|(name, _)| name.ends_with(".js")).collect()
}

/// Where a file is served.
fn target(name: &str) -> String {
    if name == "index.html" { "/".to_owned() } else { format!("/console/{name}") }
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

#[tokio::test]
async fn every_file_of_the_console_is_served_with_its_type_and_its_policy() {
    let node = node(Limits::default()).await;
    for (name, text) in files() {
        let answer = request(node.http_address(), "GET", &target(&name), &[], "").await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.body, text, "{name}");
        let kind = match name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            other => panic!("{name}: no type for {other:?}"),
        };
        assert_eq!(header(&answer, "content-type"), kind, "{name}");
        let policy: Vec<&str> = header(&answer, "content-security-policy").split(';').map(str::trim).collect();
        assert_eq!(policy, POLICY, "{name}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{name}");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer", "{name}");
    }
    for other in ["/console/index.html", "/console/none.js", "/console/..%2Fmod.rs"] {
        let answer = request(node.http_address(), "GET", other, &[], "").await;
        assert_eq!(answer.code(), (404, "NO_SUCH_PATH".into()), "{other}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_browser_that_has_a_file_is_not_sent_it_again() {
    let node = node(Limits::default()).await;
    let get = async |name: &str, tag: &str| {
        request(node.http_address(), "GET", &target(name), &[("If-None-Match", tag)], "").await
    };
    let mut tags = BTreeSet::new();
    for (name, _) in files() {
        let first = request(node.http_address(), "GET", &target(&name), &[], "").await;
        let tag = header(&first, "etag").to_owned();
        assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{name}: {tag}");
        assert!(tags.insert(tag.clone()), "{name} has a tag of its own");
        assert_eq!(header(&first, "cache-control"), "no-cache", "{name}");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let again = get(&name, &known).await;
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{name} {known}");
            assert_eq!(header(&again, "etag"), tag, "{name}");
        }
        assert_eq!(get(&name, "\"other\"").await.status, 200, "{name}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_closed_node_shows_the_console_and_none_of_its_figures_to_strangers() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let http = closed.node.http_address();
    for (name, _) in files() {
        assert_eq!(request(http, "GET", &target(&name), &[], "").await.status, 200, "{name}");
    }
    for path in ["/v1/live", "/v1/history", "/v1/node", "/v1/cluster", "/v1/consumers"] {
        let answer = request(http, "GET", path, &[], "").await;
        assert_eq!(answer.code(), (401, "UNAUTHENTICATED".into()), "{path}");
    }
    closed.node.stop().await;
}

#[tokio::test]
async fn consumers_of_all_channels_are_listed_page_by_page_as_far_as_a_token_sees_them() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let all = closed.token("all", &["channel:*=manage"]).await.text;
    let some = closed.token("some", &["channel:b=read"]).await.text;
    for (channel, names) in [("a", ["x", "y"]), ("b", ["x", "z"])] {
        let made = closed.ask(&all, "PUT", &format!("/v1/channels/{channel}"), "").await;
        assert_eq!(made.status, 200, "{}", made.body);
        for name in names {
            let body = format!(r#"{{"name":"{name}"}}"#);
            let made = closed.ask(&all, "POST", &format!("/v1/channels/{channel}/consumers"), &body).await;
            assert_eq!(made.status, 200, "{}", made.body);
        }
    }
    let pages = async |token: &str, limit: usize| {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = closed.ask(token, "GET", &format!("/v1/consumers?limit={limit}&after={after}"), "").await.json();
            let consumers = page["consumers"].as_array().unwrap();
            assert!(consumers.len() <= limit, "{page}");
            let name = |one: &Value| format!("{}/{}", one["channel"].as_str().unwrap(), one["name"].as_str().unwrap());
            found.extend(consumers.iter().map(name));
            match page["next_after"].as_str() {
                Some(next) => after = next.replace('/', "%2F"),
                None => return found,
            }
        }
    };
    for limit in 1..=5 {
        assert_eq!(pages(&all, limit).await, ["a/x", "a/y", "b/x", "b/z"], "{limit}");
        assert_eq!(pages(&some, limit).await, ["b/x", "b/z"], "{limit}");
    }
    closed.node.stop().await;
}

#[test]
fn nothing_is_fetched_from_anywhere_else_and_nothing_runs_that_is_no_file() {
    for (name, text) in files() {
        let text = text.replace(SVG, "");
        for address in ["http://", "https://", "ws://", "wss://", "\"//", "'//", "url(", "@import", "data:", "blob:"] {
            assert!(!text.contains(address), "{name} has `{address}`");
        }
        let markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
        for way in markup.into_iter().chain(["javascript:", "style=", "<style", "\"style\"", "srcdoc", " on"]) {
            // A word that begins so is an attribute only in a page.
            let in_script = way == " on" && !name.ends_with(".html");
            assert!(in_script || !text.contains(way), "{name} has `{way}`");
        }
        let opened = text.matches("<script").count();
        assert_eq!(opened, text.matches("<script type=\"module\" src=\"console/").count(), "{name}");
    }
}

#[test]
fn every_file_that_a_page_or_a_script_names_is_there_and_every_script_is_used() {
    let known: BTreeSet<String> = files().into_iter().map(|(name, _)| name).collect();
    let (mut used, all) = (BTreeSet::from(["index.html".to_owned()]), files());
    for (name, text) in &all {
        let imported = text.split(" from \"./").skip(1);
        let loaded = text.split("=\"console/").skip(1);
        for rest in imported.chain(loaded) {
            let file = rest.split('"').next().unwrap();
            assert!(known.contains(file), "{name} names {file}");
            used.insert(file.to_owned());
        }
    }
    assert_eq!(used, known);
}

/// The calls of a script: a method and a path behind it, both in quotes.
fn calls(text: &str) -> Vec<(&str, &str)> {
    let quoted = |text: &'static str| format!("\"{text}\", \"/");
    let mut found = Vec::new();
    for method in METHODS {
        let begin = quoted(method);
        let paths = text.split(begin.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap());
        found.extend(paths.map(|path| (method, path)));
    }
    found
}

#[tokio::test]
async fn every_call_that_a_script_makes_is_in_the_document_of_the_api() {
    let node = node(Limits::default()).await;
    let document = request(node.http_address(), "GET", "/v1/openapi.json", &[], "").await.json();
    let mut called = 0;
    for (name, text) in scripts() {
        let calls = calls(&text);
        // No path stands anywhere else, and only one file sends anything.
        assert_eq!(text.matches("\"/v1").count(), calls.len(), "{name}");
        assert!(!text.contains("`/v1") && !text.contains("'/v1"), "{name}");
        assert!(name == "api.js" || !text.contains("fetch("), "{name}");
        for other in ["XMLHttpRequest", "EventSource", "WebSocket", "sendBeacon"] {
            assert!(!text.contains(other), "{name}: {other}");
        }
        for (method, path) in calls {
            let operation = &document["paths"][format!("/{path}")][method.to_lowercase()];
            assert!(operation.is_object(), "{name}: {method} /{path} is not in the document");
            called += 1;
        }
    }
    assert!(called > 40, "{called}");
    node.stop().await;
}

#[test]
fn the_token_is_kept_for_the_tab_only() {
    for (name, text) in scripts() {
        assert!(!text.contains("document.cookie") && !text.contains("indexedDB"), "{name}");
        let local: Vec<&str> = text.lines().filter(|line| line.contains("localStorage")).collect();
        assert!(name == "main.js" || local.is_empty(), "{name}: {local:?}");
        assert!(local.iter().all(|line| !line.contains("token")), "{name}: {local:?}");
        assert!(name == "api.js" || !text.contains("sessionStorage"), "{name}");
    }
}
