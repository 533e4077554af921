//! Payloads are bytes: every face gives back what was published, and one odd message spoils nothing beside it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use liminal::{model::Limits, node::Node};
use serde_json::Value;

use super::{http::request, node};

const MESSAGES: &str = "/v1/channels/orders/messages";
const CONSUMER: &str = "/v1/channels/orders/consumers/w";

/// JSON that a reader which decodes it would change.
const EXACT: [&str; 7] = [
    "123456789012345678901234567890",
    "1.00000000000000000001",
    "1e2",
    "-0",
    r#"{"a":1,"a":2}"#,
    "{\n  \"b\" : 1.50,\n  \"a\":[ ] }",
    r#""\u00e9\ud83d\ude00""#,
];

/// What some reader cannot take, with good messages around it.
fn odd() -> Vec<String> {
    let deep = ["[".repeat(200), "]".repeat(200)].concat();
    [r#""\ud800""#, "1e400", &deep, "plain", "\u{feff}{}", " 01"].map(str::to_owned).into()
}

async fn publish(node: &Node, payload: &str) {
    assert_eq!(request(node.http_address(), "POST", MESSAGES, &[], payload).await.status, 200, "{payload}");
}

/// The answers of all faces with many messages: a page, and a pull.
async fn answers(node: &Node, count: usize) -> [String; 2] {
    let http = node.http_address();
    let create = request(http, "POST", "/v1/channels/orders/consumers", &[], r#"{"name":"w"}"#).await;
    assert_eq!(create.status, 200, "{}", create.body);
    let page = request(http, "GET", MESSAGES, &[], "").await.body;
    let pulled = request(http, "POST", &format!("{CONSUMER}/pull?max={count}&wait=30s"), &[], "").await.body;
    [page, pulled]
}

#[tokio::test]
async fn json_is_given_back_as_it_was_published_digit_for_digit() {
    let node = node(Limits::default()).await;
    for payload in EXACT {
        publish(&node, payload).await;
    }
    for answer in answers(&node, EXACT.len()).await {
        for payload in EXACT {
            assert!(answer.contains(&format!(r#""payload":{payload}}}"#)), "{payload} in {answer}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn one_odd_message_spoils_no_page_and_no_pull() {
    let node = node(Limits::default()).await;
    let mut sent = Vec::new();
    for payload in odd() {
        sent.extend([r#"{"good":1}"#.to_owned(), payload]);
    }
    for payload in &sent {
        publish(&node, payload).await;
    }
    for answer in answers(&node, sent.len()).await {
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let messages = answer["messages"].as_array().unwrap();
        let shown = messages.iter().map(|message| match message["payload_base64"].as_str() {
            Some(text) => String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap(),
            None => message["payload"].to_string(),
        });
        assert_eq!(shown.collect::<Vec<_>>(), sent);
    }
    node.stop().await;
}

#[tokio::test]
async fn lines_are_messages_whatever_their_media_type_is_called() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let lines = b"\xef\xbb\xbf{\"id\":1}\r\n\r\n{\"id\":2}\r\n";
    let types =
        ["application/x-ndjson", "Application/X-NDJSON", "application/ndjson; charset=utf-8", "application/jsonl"];
    for media_type in types {
        let headers = [("Content-Type", media_type), ("Idempotency-Key", "k")];
        let answer = request(http, "POST", MESSAGES, &headers, lines).await;
        assert_eq!((answer.status, answer.body.lines().count()), (200, 2), "{media_type}: {}", answer.body);
        assert!(!answer.body.contains("error"), "{}", answer.body);
    }
    let page = request(http, "GET", MESSAGES, &[], "").await.json();
    let payloads: Vec<&Value> = page["messages"].as_array().unwrap().iter().map(|one| &one["payload"]["id"]).collect();
    assert_eq!(payloads, [&Value::from(1), &Value::from(2)]);
    node.stop().await;
}
