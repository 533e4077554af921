//! Publishing, reading and following over HTTP.

use std::{process::Stdio, sync::Arc};

use liminal::{
    config::ServerConfig,
    model::{ChannelId, Limits, Position},
    store::MemoryStore,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{PATIENCE, node};

/// The document whose commands are run.
const STORY: &str = include_str!("../../docs/HTTP.md");

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of a problem.
    pub fn code(&self) -> (u16, String) {
        assert!(self.head.to_lowercase().contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

pub async fn open(address: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    // A body that is too large may be refused while it is on its way.
    let _ = stream.write_all(body).await;
    stream
}

pub async fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let mut stream = open(address, method, target, headers, body.as_ref()).await;
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Reads a stream of events until it has said something.
pub async fn until(stream: &mut TcpStream, said: &str) -> String {
    let mut all = String::new();
    let reading = async {
        let mut bytes = [0; 4096];
        while !all.contains(said) {
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the stream ended after {all}");
            all += std::str::from_utf8(&bytes[..read]).unwrap();
        }
    };
    let waited = tokio::time::timeout(PATIENCE, reading).await;
    assert!(waited.is_ok(), "`{said}` is not in {all}");
    all
}

const MESSAGES: &str = "/v1/channels/orders/messages";
const EVENTS: &str = "/v1/channels/orders/events";

#[tokio::test]
async fn a_message_is_stored_once_however_often_its_request_is_repeated() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let key = [("Idempotency-Key", "k 1")];
    let mut first = request(http, "POST", MESSAGES, &key, "a").await.json();
    let position = first.as_object_mut().unwrap().remove("position").unwrap();
    assert!(position.as_str().unwrap().ends_with(".0"), "{position}");
    assert_eq!(first, json!({"channel": "orders", "seq": 0, "duplicate": false, "delivered": false}));
    let quoted = [("Idempotency-Key", "\"k 1\"")];
    let again = request(http, "POST", MESSAGES, &quoted, "a").await.json();
    assert_eq!(
        again,
        json!({"channel": "orders", "seq": 0, "duplicate": true, "delivered": false, "position": position})
    );
    let other = request(http, "POST", MESSAGES, &key, "b").await;
    assert_eq!(other.code(), (422, "KEY_CONFLICT".into()));
    let commit = request(http, "POST", &format!("{MESSAGES}?confirm=commit"), &[], "c").await.json();
    assert_eq!((&commit["seq"], &commit["duplicate"], commit.get("delivered")), (&json!(1), &json!(false), None));
    let next = commit["position"].as_str().unwrap();
    let page = request(http, "GET", &format!("{MESSAGES}?from={next}"), &[], "").await.json();
    assert_eq!((&page["messages"][0]["seq"], page.get("notice")), (&json!(1), None));
    let empty = request(http, "POST", MESSAGES, &[("Idempotency-Key", "")], "a").await;
    assert_eq!(empty.code(), (400, "INVALID_ARGUMENT".into()));
    node.stop().await;
}

#[tokio::test]
async fn lines_are_answered_one_by_one_and_repeated_safely() {
    let node = node(Limits { batch_messages: 2, ..Limits::default() }).await;
    let http = node.http_address();
    let schema = r#"{"schema": {"type": "integer"}}"#;
    assert_eq!(request(http, "PUT", "/v1/channels/checked", &[], schema).await.status, 200);
    let headers = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", "k")];
    for duplicate in [false, true] {
        let answer = request(http, "POST", "/v1/channels/checked/messages", &headers, "1\n\"x\"\r\n\n3\n4").await;
        let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let brief = |line: &Value| (line["line"].clone(), line["seq"].clone(), line["error"]["code"].clone());
        let expected = [
            (json!(1), json!(0), Value::Null),
            (json!(2), Value::Null, json!("SCHEMA_VIOLATION")),
            (json!(4), json!(1), Value::Null),
            (json!(5), json!(2), Value::Null),
        ];
        assert_eq!(lines.iter().map(brief).collect::<Vec<_>>(), expected);
        assert_eq!(lines[0]["duplicate"], duplicate);
        assert_eq!(lines[1]["error"]["violations"][0]["pointer"], "");
    }
    let nothing = request(http, "POST", "/v1/channels/checked/messages", &headers, "\n").await;
    assert_eq!(nothing.code(), (400, "INVALID_ARGUMENT".into()));
    let nowhere = request(http, "POST", "/v1/channels/nowhere/messages", &headers, "1\n2").await;
    assert_eq!(nowhere.code(), (404, "CHANNEL_NOT_FOUND".into()));
    node.stop().await;
}

#[tokio::test]
async fn lines_whose_last_key_would_be_too_long_are_refused_before_any_is_stored() {
    let node = node(Limits { key_bytes: 8, batch_messages: 2, ..Limits::default() }).await;
    let http = node.http_address();
    let headers = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", "sixsix")];
    let lines = |count: usize| vec!["1"; count].join("\n");
    let refused = request(http, "POST", MESSAGES, &headers, lines(10)).await;
    assert_eq!(refused.code(), (413, "LIMIT_EXCEEDED".into()));
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("the idempotency key of line 10") && detail.contains("9"), "{detail}");
    assert_eq!(node.broker().channel("orders").await.unwrap().stats.next_seq, 0);
    assert_eq!(request(http, "POST", MESSAGES, &headers, lines(9)).await.status, 200);
    assert_eq!(node.broker().channel("orders").await.unwrap().stats.next_seq, 9);
    node.stop().await;
}

#[tokio::test]
async fn messages_are_read_page_by_page_and_waited_for() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("Liminal-Header-Source", "shop"), ("traceparent", trace)];
    for payload in ["{\"n\": 0}", "one", "{\"n\": 2}"] {
        assert_eq!(request(http, "POST", MESSAGES, &headers, payload).await.status, 200);
    }
    let page = request(http, "GET", &format!("{MESSAGES}?limit=2"), &[], "").await.json();
    assert_eq!((&page["next_seq"], &page["end_seq"]), (&json!(2), &json!(3)));
    assert_eq!(page["messages"][0]["payload"], json!({"n": 0}));
    assert_eq!(page["messages"][0]["headers"], json!({"source": "shop"}));
    assert_eq!(page["messages"][1]["payload_base64"], "b25l");
    let rest = request(http, "GET", &format!("{MESSAGES}?from=2&consistency=local"), &[], "").await.json();
    assert_eq!(rest["messages"][0]["seq"], 2);
    let now = request(http, "GET", &format!("{MESSAGES}?from=3&wait=10ms"), &[], "").await.json();
    assert_eq!((&now["messages"], &now["next_seq"]), (&json!([]), &json!(3)), "a wait that ends gives an empty page");
    let mut waiting = open(http, "GET", &format!("{MESSAGES}?from=latest&wait=50s"), &[], b"").await;
    let followed =
        async { while request(http, "GET", "/v1/channels/orders", &[], "").await.json()["subscribers"] != 1 {} };
    tokio::time::timeout(PATIENCE, followed).await.expect("the reader waits");
    let acked = request(http, "POST", MESSAGES, &[], "3").await.json();
    assert_eq!(acked["delivered"], true, "somebody waited for it");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""payload":3"#) && answer.contains(r#""next_seq":4"#), "{answer}");
    for (query, code) in [
        ("from=yesterday", "INVALID_ARGUMENT"),
        ("limit=0", "INVALID_ARGUMENT"),
        ("wait=2h", "INVALID_ARGUMENT"),
        ("form=1", "INVALID_ARGUMENT"),
    ] {
        assert_eq!(request(http, "GET", &format!("{MESSAGES}?{query}"), &[], "").await.code(), (400, code.into()));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_follower_that_reconnects_misses_and_repeats_nothing() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let mut following = open(http, "GET", EVENTS, &[], b"").await;
    let begin = until(&mut following, ".0\n: following\n").await;
    assert!(begin.to_lowercase().contains("content-type: text/event-stream"), "{begin}");
    assert_eq!(request(http, "POST", MESSAGES, &[], "0").await.json()["delivered"], true);
    let seen = until(&mut following, "\"payload\":0}").await;
    let first = seen.split("id: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    assert!(first.ends_with(".1"), "{seen}");
    drop(following);
    for payload in ["1", "2"] {
        request(http, "POST", MESSAGES, &[], payload).await;
    }
    let mut again = open(http, "GET", &format!("{EVENTS}?from=latest"), &[("Last-Event-ID", &first)], b"").await;
    let seen = until(&mut again, "\"payload\":2}").await;
    assert!(seen.contains(".2\ndata") && seen.contains(".3\ndata"), "{seen}");
    assert!(seen.contains("\"payload\":1}") && !seen.contains("\"payload\":0}"), "{seen}");
    // Ids of earlier versions: the number of a message, or -1.
    for (id, next) in [("-1", "\"payload\":0}"), ("0", "\"payload\":1}")] {
        let mut by_number = open(http, "GET", EVENTS, &[("Last-Event-ID", id)], b"").await;
        until(&mut by_number, next).await;
    }
    let wrong = request(http, "GET", EVENTS, &[("Last-Event-ID", "x")], "").await;
    assert_eq!(wrong.code(), (400, "INVALID_ARGUMENT".into()));
    // An open stream does not hold up a stop.
    tokio::time::timeout(PATIENCE, node.stop()).await.expect("the node stops");
    let mut rest = String::new();
    again.read_to_string(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_filter_chooses_what_is_read_and_followed() {
    let node = node(Limits { page_bytes: 40, delivery_timeout: PATIENCE, ..Limits::default() }).await;
    let http = node.http_address();
    let mut following = open(http, "GET", &format!("{EVENTS}?filter=n%20%3E%203"), &[], b"").await;
    until(&mut following, ".0\n: following\n").await;
    for n in 0..6 {
        let acked = request(http, "POST", MESSAGES, &[], format!("{{\"n\":{n}}}")).await.json();
        assert_eq!((&acked["seq"], &acked["delivered"]), (&json!(n), &json!(n > 3)));
    }
    request(http, "POST", MESSAGES, &[], "no JSON").await;
    let seen = until(&mut following, ".7\n: passed\n\n").await;
    assert!(seen.contains("\"payload\":{\"n\":4}") && seen.contains("\"payload\":{\"n\":5}"), "{seen}");
    assert!(!seen.contains("\"payload\":{\"n\":3}") && !seen.contains(".3\ndata"), "{seen}");
    let read = async |query: &str| {
        let page = request(http, "GET", &format!("{MESSAGES}?{query}"), &[], "").await.json();
        let seqs: Vec<u64> =
            page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        (seqs, page["next_seq"].as_u64().unwrap())
    };
    assert_eq!(read("filter=n+in+[1,4,5]").await, (vec![1, 4, 5], 7));
    assert_eq!(read("filter=n+in+[1,4,5]&limit=2").await, (vec![1, 4], 5));
    assert_eq!(read("filter=n+in+[1,4,5]&limit=2&from=5&consistency=local").await, (vec![5], 7));
    assert_eq!(read("filter=n==9&wait=10ms").await, (vec![], 7));
    let mut waiting = open(http, "GET", &format!("{MESSAGES}?filter=n==9&wait=50s"), &[], b"").await;
    let followed =
        async { while request(http, "GET", "/v1/channels/orders", &[], "").await.json()["subscribers"] != 2 {} };
    tokio::time::timeout(PATIENCE, followed).await.expect("the reader waits");
    for n in [1, 9] {
        request(http, "POST", MESSAGES, &[], format!("{{\"n\":{n}}}")).await;
    }
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"seq\":8,") && answer.contains("\"next_seq\":9"), "{answer}");
    for target in [EVENTS, MESSAGES] {
        let wrong = request(http, "GET", &format!("{target}?filter=n+%3D+3"), &[], "").await;
        assert_eq!(wrong.code(), (400, "INVALID_ARGUMENT".into()));
        let detail = wrong.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("the predicate is wrong at column 3: expected a comparison"), "{detail}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_deleted_channel_ends_its_followers_with_a_problem() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let mut following = open(http, "GET", EVENTS, &[], b"").await;
    until(&mut following, ".0\n: following\n").await;
    assert_eq!(request(http, "DELETE", "/v1/channels/orders", &[], "").await.status, 204);
    let end = until(&mut following, "CHANNEL_NOT_FOUND").await;
    assert!(end.contains("event: error"), "{end}");
    node.stop().await;
}

#[tokio::test]
async fn channels_are_made_changed_and_deleted() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let made = request(http, "PUT", "/v1/channels/new", &[], r#"{"durability": "ephemeral"}"#).await.json();
    assert_eq!((&made["durability"], &made["dedup_window_ms"]), (&json!("ephemeral"), &json!(86_400_000)));
    let other = request(http, "PUT", "/v1/channels/new", &[], "").await;
    assert_eq!(other.code(), (409, "CHANNEL_EXISTS".into()));
    let update = r#"{"schema": {"type": "string"}, "dedup_window_ms": 1000}"#;
    let changed = request(http, "PATCH", "/v1/channels/new", &[], update).await.json();
    assert_eq!((&changed["schema_id"], &changed["dedup_window_ms"]), (&json!(1), &json!(1000)));
    let narrower = r#"{"schema": {"type": "string", "maxLength": 3}}"#;
    let refused = request(http, "PATCH", "/v1/channels/new", &[], narrower).await;
    assert_eq!(refused.code(), (409, "SCHEMA_INCOMPATIBLE".into()));
    assert_eq!(refused.json()["violations"][0]["pointer"], "/maxLength");
    let foreseen = request(http, "PATCH", "/v1/channels/new?dry_run=true", &[], narrower).await.json();
    assert_eq!(
        (&foreseen["compatible"], &foreseen["incompatibilities"][0]["pointer"]),
        (&json!(false), &json!("/maxLength"))
    );
    let without = request(http, "PATCH", "/v1/channels/new", &[], r#"{"schema": null}"#).await.json();
    assert_eq!((&without["schema_id"], &without["dedup_window_ms"]), (&json!(0), &json!(1000)));
    let names = request(http, "GET", "/v1/channels", &[], "").await.json();
    assert_eq!(names["channels"].as_array().unwrap().len(), 2);
    for (method, target, body, expected) in [
        ("PATCH", "/v1/channels/new", "", (400, "INVALID_ARGUMENT")),
        ("PATCH", "/v1/channels/new", r#"{"shema": null}"#, (400, "INVALID_ARGUMENT")),
        ("PATCH", "/v1/channels/new", r#"{"dedup_window_ms": 0}"#, (400, "INVALID_ARGUMENT")),
        ("PUT", "/v1/channels/a%20b", "", (400, "INVALID_CHANNEL_NAME")),
        ("PUT", "/v1/channels/bad", r#"{"schema": {"type": 7}}"#, (400, "INVALID_SCHEMA")),
        ("GET", "/v1/channels/nowhere", "", (404, "CHANNEL_NOT_FOUND")),
        ("GET", "/v1/channels/new/messages", "", (409, "NOT_STORED")),
    ] {
        let (status, code) = request(http, method, target, &[], body).await.code();
        assert_eq!((status, code.as_str()), expected, "{method} {target} {body}");
    }
    assert_eq!(request(http, "DELETE", "/v1/channels/new", &[], "").await.status, 204);
    assert_eq!(request(http, "DELETE", "/v1/channels/new", &[], "").await.status, 404);
    node.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_the_reply_that_is_posted_to_its_inbox() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let mut following = open(http, "GET", EVENTS, &[], b"").await;
    until(&mut following, ".0\n: following\n").await;
    let mut asking = open(http, "POST", "/v1/channels/orders/request?timeout=60s", &[], b"ping").await;
    let seen = until(&mut following, "payload_base64").await;
    let (_, inbox) = seen.split_once("\"liminal-reply-to\":\"").unwrap();
    let target = format!("/v1/replies/{}", inbox.split('"').next().unwrap());
    let headers = [("Liminal-Header-By", "me")];
    assert_eq!(request(http, "POST", &target, &headers, "pong").await.status, 204);
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("pong"), "{answer}");
    assert!(answer.to_lowercase().contains("liminal-header-by: me"), "{answer}");
    assert_eq!(request(http, "POST", &target, &headers, "again").await.code(), (410, "INBOX_GONE".into()));
    let late = request(http, "POST", "/v1/channels/orders/request?timeout=10ms", &[], "ping").await;
    assert_eq!((late.code(), late.json()["unknown_outcome"].clone()), ((504, "REPLY_TIMEOUT".into()), json!(true)));
    node.stop().await;
}

#[tokio::test]
async fn times_and_transactions_that_make_no_sense_are_refused() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    for headers in [
        &[("Liminal-Ttl", "soon")][..],
        &[("Liminal-Ttl", "0s")],
        &[("Liminal-Deliver-At", "noon")],
        &[("Liminal-Deliver-At", "2030-01-01T00:00:00Z"), ("Liminal-Delay", "1m")],
    ] {
        let answer = request(http, "POST", MESSAGES, headers, "a").await;
        assert_eq!(answer.code(), (400, "INVALID_ARGUMENT".into()), "{headers:?}");
    }
    for (body, expected) in [
        ("{}", (400, "INVALID_ARGUMENT")),
        (r#"{"messages":[]}"#, (400, "INVALID_ARGUMENT")),
        (r#"{"messages":[{"channel":"orders"}]}"#, (400, "INVALID_ARGUMENT")),
        (r#"{"messages":[{"channel":"nowhere","payload":1}]}"#, (404, "CHANNEL_NOT_FOUND")),
        (r#"{"messages":[{"channel":"orders","payload":1,"expected_seq":4}]}"#, (412, "WRONG_SEQ")),
    ] {
        let (status, code) = request(http, "POST", "/v1/transactions", &[], body).await.code();
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    let body =
        r#"{"messages":[{"channel":"orders","payload_base64":"/wA=","headers":{"a":["1","2"]},"ttl_ms":60000}]}"#;
    assert_eq!(request(http, "POST", "/v1/transactions", &[], body).await.status, 200);
    let page = request(http, "GET", MESSAGES, &[], "").await.json();
    assert_eq!(page["messages"][0]["payload_base64"], "/wA=");
    assert_eq!(page["messages"][0]["headers"], json!({"a": ["1", "2"]}));
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_of_the_largest_size_is_taken_in_base64_too() {
    let node = node(Limits { message_bytes: 1000, batch_bytes: 3500, ..Limits::default() }).await;
    let payload = "AAAA".repeat(330);
    let messages: Vec<Value> =
        (0..3).map(|_| json!({"channel": "orders", "payload_base64": payload, "headers": {"kind": "a"}})).collect();
    let body = json!({ "messages": messages }).to_string();
    assert!(body.len() > 3501, "more than the body of a publish");
    let answer = request(node.http_address(), "POST", "/v1/transactions", &[], body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    node.stop().await;
}

#[tokio::test]
async fn what_the_http_library_refuses_is_a_problem_too() {
    let node = node(Limits { message_bytes: 1000, batch_bytes: 1000, ..Limits::default() }).await;
    let http = node.http_address();
    assert_eq!(request(http, "GET", "/v1/nowhere", &[], "").await.code(), (404, "NO_SUCH_PATH".into()));
    let method = request(http, "DELETE", MESSAGES, &[], "").await;
    assert_eq!(method.code(), (405, "METHOD_NOT_ALLOWED".into()));
    let allowed = method.head.to_lowercase();
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
    assert!(["get", "post"].iter().all(|known| allowed.split(',').any(|method| method == *known)), "{allowed}");
    assert_eq!(request(http, "POST", MESSAGES, &[], [b'x'; 1500]).await.code(), (413, "LIMIT_EXCEEDED".into()));
    assert_eq!(request(http, "POST", MESSAGES, &[], [b'x'; 1001]).await.code(), (413, "LIMIT_EXCEEDED".into()));
    let figures = request(http, "POST", MESSAGES, &[], [b'x'; 1500]).await.json();
    assert_eq!(figures["detail"], "the body has 1500 bytes; the limit is 1000");
    assert_eq!(request(http, "POST", MESSAGES, &[], [b'x'; 1000]).await.status, 200);
    node.stop().await;
}

/// Commands of the document, each with what it prints.
fn story() -> Vec<(String, String)> {
    let mut told: Vec<(String, String)> = Vec::new();
    for block in STORY.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => told.push((command.to_owned(), String::new())),
                None => told.last_mut().unwrap().1.extend([line, "\n"]),
            }
        }
    }
    told
}

/// Without what differs from day to day.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"20") {
        let (before, time) = rest.split_at(at);
        let end = time[1..].find('"').unwrap() + 2;
        out += before;
        out += "\"(time)\"";
        rest = &time[end..];
    }
    out += rest;
    timeless_positions(&out)
}

/// The history of a position is another one in each cluster.
fn timeless_positions(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    let timeless = |word: &str| {
        let end = word.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
        match end.parse::<Position>() {
            Ok(position) => Position { channel: ChannelId(0), history: 0, ..position }.to_string() + &word[end.len()..],
            Err(_) => word.to_owned(),
        }
    };
    words.map(timeless).collect()
}

#[tokio::test]
async fn the_story_that_the_documentation_tells_with_curl_is_true() {
    let found = tokio::process::Command::new("curl").arg("--version").stdout(Stdio::null()).status().await;
    if found.is_err() {
        eprintln!("skipped: there is no curl here");
        return;
    }
    let node = node(Limits::default()).await;
    let story = story();
    assert!(story.len() >= 8, "the document has its commands");
    for (command, expected) in story {
        let here = command.replace("127.0.0.1:7201", node.http_address());
        let output = tokio::process::Command::new("sh").args(["-c", &here]).output().await.unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        let mut printed = String::from_utf8(output.stdout).unwrap();
        if !printed.ends_with('\n') {
            printed.push('\n');
        }
        assert_eq!(timeless(&printed), timeless(&expected), "{command}");
    }
    node.stop().await;
}

#[tokio::test]
async fn stored_messages_are_checked_against_a_schema_and_refusals_are_counted() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    for payload in ["1", "\"x\"", "2"] {
        request(http, "POST", MESSAGES, &[], payload).await;
    }
    let validate = "/v1/channels/orders/schema/validate";
    let report = request(http, "POST", validate, &[], r#"{"type": "integer"}"#).await.json();
    let expected = json!({
        "channel": "orders", "checked": 3, "invalid": 1, "first_seq": 0, "next_seq": 3, "end_seq": 3,
        "samples": [{"seq": 1, "violations": [{"pointer": "", "message": "\"x\" is not of type integer"}]}],
    });
    assert_eq!(report, expected);
    let part = request(http, "POST", &format!("{validate}?from=2&limit=1"), &[], r#"{"type": "integer"}"#).await.json();
    assert_eq!((&part["checked"], &part["invalid"]), (&json!(1), &json!(0)));
    assert_eq!(request(http, "POST", validate, &[], "7").await.code(), (400, "INVALID_SCHEMA".into()));
    let schema = r#"{"schema": {"type": "integer"}}"#;
    assert_eq!(request(http, "PATCH", "/v1/channels/orders", &[], schema).await.json()["rejected"], 0);
    let trial = format!("{MESSAGES}?dry_run=true");
    let taken = request(http, "POST", &trial, &[], "7").await;
    assert_eq!((taken.status, taken.json()), (200, json!({"channel": "orders", "valid": true})));
    assert_eq!(request(http, "POST", &trial, &[], "null").await.code(), (422, "SCHEMA_VIOLATION".into()));
    let lines = request(http, "POST", &trial, &[("Content-Type", "application/x-ndjson")], "7").await;
    assert_eq!(lines.code(), (400, "INVALID_ARGUMENT".into()));
    let after = request(http, "GET", "/v1/channels/orders", &[], "").await.json();
    assert_eq!((&after["rejected"], &after["next_seq"]), (&json!(0), &json!(3)), "a trial leaves nothing behind");
    assert_eq!(request(http, "POST", MESSAGES, &[], "null").await.status, 422);
    assert_eq!(request(http, "GET", "/v1/channels/orders", &[], "").await.json()["rejected"], 1);
    let metrics = request(http, "GET", "/metrics", &[], "").await.body;
    assert!(metrics.contains("liminal_rejected_messages_total{channel=\"orders\"} 1"), "{metrics}");
    node.stop().await;
}

#[tokio::test]
async fn what_a_channel_keeps_and_takes_is_given_shown_and_changed() {
    let node = node(Limits::default()).await;
    let address = node.http_address();
    let body = json!({
        "retention": {"max_messages": 2, "max_age_ms": 60_000, "when_full": "refuse_new"},
        "quota": {"bytes_per_second": 1000},
        "compatibility": "full",
        "quarantine": "bad",
    });
    let missing = request(address, "PUT", "/v1/channels/kept", &[], body.to_string()).await;
    assert_eq!(missing.code(), (400, "INVALID_ARGUMENT".into()), "there is no such quarantine");
    request(address, "PUT", "/v1/channels/bad", &[], "").await;
    let made = request(address, "PUT", "/v1/channels/kept", &[], body.to_string()).await.json();
    let retention = json!({"max_messages": 2, "max_age_ms": 60_000, "when_full": "refuse_new", "work_queue": false});
    assert_eq!(made["retention"], retention);
    assert_eq!((&made["compatibility"], &made["quarantine"]), (&json!("full"), &json!("bad")));
    assert_eq!(made["quota"], json!({"bytes_per_second": 1000}));
    let change = json!({"quarantine": null, "quota": {}, "compatibility": "none"});
    request(address, "PATCH", "/v1/channels/kept", &[], change.to_string()).await;
    let shown = request(address, "GET", "/v1/channels/kept", &[], "").await.json();
    assert_eq!((&shown["retention"], &shown["quota"], shown.get("quarantine")), (&retention, &json!({}), None));
    assert_eq!(shown["compatibility"], "none");
    for wrong in
        [json!({"retention": {"max_messages": 0}}), json!({"retention": {"compact_by": "user", "max_messages": 1}})]
    {
        let refused = request(address, "PATCH", "/v1/channels/kept", &[], wrong.to_string()).await;
        assert_eq!(refused.code(), (400, "INVALID_ARGUMENT".into()));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_full_channel_takes_messages_again_once_it_was_trimmed() {
    let node = node(Limits::default()).await;
    let address = node.http_address();
    let body = json!({"retention": {"max_messages": 2, "when_full": "refuse_new"}}).to_string();
    request(address, "PUT", "/v1/channels/kept", &[], body).await;
    let publish = async |payload: &str| request(address, "POST", "/v1/channels/kept/messages", &[], payload).await;
    publish("1").await;
    publish("2").await;
    assert_eq!(publish("3").await.code(), (507, "CHANNEL_FULL".into()));
    let trimmed = request(address, "POST", "/v1/channels/kept/trim", &[], r#"{"keep":1}"#).await;
    assert_eq!(trimmed.json(), json!({"channel": "kept", "first_seq": 1}));
    assert_eq!(publish("3").await.json()["seq"], 2);
    let gone = request(address, "GET", "/v1/channels/kept/messages?from=0", &[], "").await;
    assert_eq!(gone.code(), (410, "OUT_OF_RANGE".into()));
    for (body, first) in [(r#"{"older_than":"1h"}"#, 1), (r#"{"to":3}"#, 3)] {
        let trimmed = request(address, "POST", "/v1/channels/kept/trim", &[], body).await;
        assert_eq!(trimmed.json()["first_seq"], first, "{body}");
    }
    for wrong in [r#"{"to":9}"#, "{}", r#"{"older_than":"x"}"#, r#"{"to":1,"keep":1}"#] {
        let refused = request(address, "POST", "/v1/channels/kept/trim", &[], wrong).await;
        assert_eq!(refused.code(), (400, "INVALID_ARGUMENT".into()), "{wrong}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_publish_beyond_a_channels_quota_is_told_when_to_come_again() {
    let node = node(Limits::default()).await;
    let address = node.http_address();
    request(address, "PUT", "/v1/channels/slow", &[], r#"{"quota":{"messages_per_second":1}}"#).await;
    let publish = async || request(address, "POST", "/v1/channels/slow/messages", &[], "1").await;
    assert_eq!(publish().await.status, 200);
    let deferred = publish().await;
    assert_eq!(deferred.code(), (429, "QUOTA_EXCEEDED".into()));
    assert!(deferred.head.to_lowercase().contains("retry-after: 1"), "{}", deferred.head);
    assert!(deferred.json()["retry_after_ms"].as_u64().unwrap() <= 1000);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_web_pages_are_kept_out_and_those_that_are_named_are_answered() {
    let allowed_origins = vec!["https://console.example.com".into()];
    let node =
        super::start(ServerConfig { allowed_origins, ..ServerConfig::default() }, Arc::new(MemoryStore::new())).await;
    let address = node.http_address();
    let publish =
        async |headers: &[(&str, &str)]| request(address, "POST", "/v1/channels/orders/messages", headers, "{}").await;
    assert_eq!(publish(&[]).await.status, 200);
    assert_eq!(publish(&[("Origin", &format!("http://{address}"))]).await.status, 200);
    let foreign = [("Origin", "https://example.com"), ("Content-Type", "text/plain")];
    assert_eq!(publish(&foreign).await.code(), (403, "ORIGIN_NOT_ALLOWED".into()));
    let upgrade = [
        ("Origin", "https://example.com"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(request(address, "GET", "/v1/ws", &upgrade, "").await.status, 403);

    let named = publish(&[("Origin", "https://console.example.com")]).await;
    assert_eq!(named.status, 200);
    assert!(named.head.contains("access-control-allow-origin: https://console.example.com"), "{}", named.head);
    let asks = [
        ("Origin", "https://console.example.com"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "idempotency-key"),
    ];
    let allowed = request(address, "OPTIONS", "/v1/channels/orders/messages", &asks, "").await;
    assert_eq!(allowed.status, 204);
    assert!(allowed.head.contains("access-control-allow-headers: idempotency-key"), "{}", allowed.head);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_many_lines_repeat_are_refused_before_they_are_copied() {
    let node = node(Limits { copied_bytes: 100_000, ..Limits::default() }).await;
    let lines = "1\n".repeat(2_000);
    let publish = async |header: &str, lines: &str| {
        let headers = [("Content-Type", "application/x-ndjson"), ("Liminal-Header-X", header)];
        request(node.http_address(), "POST", "/v1/channels/orders/messages", &headers, lines).await
    };
    assert_eq!(publish("short", &lines).await.status, 200);
    let refused = publish(&"x".repeat(1_000), &lines).await;
    assert_eq!(refused.code(), (413, "LIMIT_EXCEEDED".into()));
    assert!(
        refused.body.contains("what the headers of the request add to all its lines (bytes) is 20"),
        "{}",
        refused.body
    );
    // One that no message may have is refused by its own limit.
    let refused = publish(&"x".repeat(40_000), &lines).await;
    assert_eq!(refused.code(), (413, "LIMIT_EXCEEDED".into()));
    let too_many = "1\n".repeat(Limits::REQUEST_BATCHES * Limits::default().batch_messages + 1);
    assert!(publish("x", &too_many).await.body.contains("the lines of the request"));
    assert_eq!(node.broker().channel("orders").await.unwrap().stats.next_seq, 2_000);
    node.stop().await;
}
