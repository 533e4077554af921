//! Payloads are bytes: every face gives back what was published, and one odd message spoils nothing beside it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use liminal::{model::Limits, node::Node};
use serde_json::{Value, json, value::RawValue};

use super::{
    http::{open, request, until},
    node,
    redrive::letters_of,
    websocket::Socket,
};

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

/// JSON that some form of text would give back otherwise: white space around it, and line breaks that are none everywhere.
const BROKEN: [&str; 8] = [
    "{\r\n  \"a\": 1\r\n}",
    "[1,\r2]",
    "{\"a\":1}\n",
    " 1 ",
    "\"next\u{85}line\"",
    "\"line\u{2028}separator\"",
    "\"paragraph\u{2029}separator\"",
    "{\n  \"a\": [\n    1 ]\n}",
];

/// The bytes of a message of a text.
fn bytes_of(message: &RawValue) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Shown {
        payload: Option<Box<RawValue>>,
        payload_base64: Option<String>,
    }
    let Shown { payload, payload_base64 } = serde_json::from_str(message.get()).unwrap();
    match (payload, payload_base64) {
        (Some(json), None) => json.get().into(),
        (None, Some(text)) => BASE64_STANDARD.decode(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The data of the events in an answer in chunks, as the standard reads them: a line ends at CR, LF or both.
fn events_of(answer: &str) -> Vec<String> {
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut text = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(chunk) = more.get(..size) else { break };
        text += chunk;
        rest = more.get(size + 2..).unwrap_or_default();
    }
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let data = |event: &str| {
        let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        (!data.is_empty()).then(|| data.join("\n"))
    };
    lines.split("\n\n").filter_map(data).collect()
}

#[tokio::test]
async fn pages_pulls_and_events_give_back_every_byte() {
    let node = node(Limits::default()).await;
    let sent: Vec<&str> = EXACT.iter().chain(&BROKEN).copied().collect();
    for payload in &sent {
        publish(&node, payload).await;
    }
    let bytes: Vec<Vec<u8>> = sent.iter().map(|payload| payload.as_bytes().to_vec()).collect();
    #[derive(serde::Deserialize)]
    struct Messages {
        messages: Vec<Box<RawValue>>,
    }
    for answer in answers(&node, sent.len()).await {
        let answer: Messages = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer.messages.iter().map(|message| bytes_of(message)).collect::<Vec<_>>(), bytes);
    }
    let events = "/v1/channels/orders/events?from=earliest";
    let mut following = open(node.http_address(), "GET", events, &[], b"").await;
    publish(&node, "\"the last one\"").await;
    let followed = events_of(&until(&mut following, "\"the last one\"}\n\n\r\n").await);
    let followed: Vec<Vec<u8>> = followed[..sent.len()]
        .iter()
        .map(|data| bytes_of(&serde_json::from_str::<Box<RawValue>>(data).unwrap()))
        .collect();
    assert_eq!(followed, bytes);
    node.stop().await;
}

/// Everything: JSON that decoding would change, JSON that a text would change, what some reader cannot take, and bytes.
fn all() -> Vec<Vec<u8>> {
    let texts = EXACT.iter().chain(&BROKEN).map(|text| text.as_bytes().to_vec());
    texts.chain(odd().into_iter().map(String::into_bytes)).chain([b"\xff\x00".to_vec(), Vec::new()]).collect()
}

#[tokio::test]
async fn a_websocket_takes_and_gives_back_every_byte() {
    let node = node(Limits::default()).await;
    let mut socket = Socket::open(node.http_address()).await;
    for (id, payload) in all().iter().enumerate() {
        let payload = match EXACT.get(id) {
            Some(json) => format!(r#""payload":{json}"#),
            None => format!(r#""payload_base64":"{}""#, BASE64_STANDARD.encode(payload)),
        };
        socket.say_text(format!(r#"{{"id":{id},"publish":{{"channel":"orders",{payload}}}}}"#)).await;
        let answer = socket.hear().await;
        assert_eq!(answer["ok"]["seq"], json!(id), "{payload}: {answer}");
    }
    let begun = socket.ask(json!({"id": 100, "subscribe": {"channel": "orders", "from": "earliest"}})).await;
    assert_eq!(begun["ok"]["next_seq"], 0, "{begun}");
    #[derive(serde::Deserialize)]
    struct Delivered {
        message: Box<RawValue>,
    }
    for payload in all() {
        let text = socket.hear_text().await;
        let Delivered { message } = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(bytes_of(&message), payload, "{text}");
    }
    node.stop().await;
}

#[tokio::test]
async fn the_list_of_dead_letters_gives_back_every_byte() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let consumers = "/v1/channels/orders/consumers";
    let create = request(http, "POST", consumers, &[], r#"{"name":"w","max_attempts":3}"#).await;
    assert_eq!(create.status, 200, "{}", create.body);
    letters_of(&node, &all()).await;
    let page = request(http, "GET", &format!("{consumers}/w/dead-letters?limit=100"), &[], "").await.body;
    #[derive(serde::Deserialize)]
    struct Page {
        letters: Vec<Box<RawValue>>,
    }
    let Page { letters } = serde_json::from_str(&page).unwrap_or_else(|error| panic!("{error}: {page}"));
    assert_eq!(letters.iter().map(|letter| bytes_of(letter)).collect::<Vec<_>>(), all());
    node.stop().await;
}

#[tokio::test]
async fn the_list_of_delayed_messages_gives_back_every_byte() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    for payload in all() {
        let published = request(http, "POST", MESSAGES, &[("Liminal-Delay", "10m")], &payload).await;
        assert_eq!(published.status, 200, "{}", published.body);
    }
    let page = request(http, "GET", "/v1/channels/orders/delayed?limit=100", &[], "").await.body;
    #[derive(serde::Deserialize)]
    struct Page {
        messages: Vec<Box<RawValue>>,
    }
    let Page { messages } = serde_json::from_str(&page).unwrap_or_else(|error| panic!("{error}: {page}"));
    assert_eq!(messages.iter().map(|message| bytes_of(message)).collect::<Vec<_>>(), all());
    node.stop().await;
}

#[tokio::test]
async fn what_comes_as_bytes_has_no_fields_for_a_filter() {
    let node = node(Limits::default()).await;
    let deep = format!(r#"{{"a":1,"b":{}{}}}"#, "[".repeat(60), "]".repeat(60));
    for payload in [r#"{"a":1,"b":"\ud800"}"#, r#"{"a":1,"b":1e400}"#, &deep, r#"{"a":1.0000000000000000000001}"#] {
        publish(&node, payload).await;
    }
    publish(&node, r#"{"a":1.0}"#).await;
    let mut socket = Socket::open(node.http_address()).await;
    let subscribe = json!({"channel": "orders", "from": "earliest", "filter": "a == 1"});
    assert!(socket.ask(json!({"id": 1, "subscribe": subscribe})).await["ok"].is_object());
    assert_eq!(socket.hear().await["message"]["seq"], 4);
    node.stop().await;
}

#[tokio::test]
async fn a_header_with_a_line_separator_is_no_line_break_of_a_stream() {
    let node = node(Limits::default()).await;
    let headers = [("Liminal-Header-H", "a\u{2028}b")];
    assert_eq!(request(node.http_address(), "POST", MESSAGES, &headers, "1").await.status, 200);
    let mut following = open(node.http_address(), "GET", "/v1/channels/orders/events?from=earliest", &[], b"").await;
    let seen = until(&mut following, "\"payload\":1}").await;
    assert!(seen.contains(r#""h":"a\u2028b""#), "{seen}");
    node.stop().await;
}

#[tokio::test]
async fn text_in_another_encoding_is_refused_with_what_to_do() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let headers = [("Content-Type", "application/x-ndjson; charset=utf-16")];
    let refused = request(http, "POST", MESSAGES, &headers, "{}\n").await;
    assert_eq!(refused.code(), (400, "INVALID_ARGUMENT".into()));
    assert!(refused.body.contains("utf-16") && refused.body.contains("UTF-8"), "{}", refused.body);
    let change = serde_json::json!({ "schema": { "type": "object" } }).to_string();
    assert_eq!(request(http, "PATCH", "/v1/channels/orders", &[], change).await.status, 200);
    let refused = request(http, "POST", MESSAGES, &[], b"{\"name\":\"Ren\xe9\"}").await;
    assert_eq!(refused.code(), (422, "SCHEMA_VIOLATION".into()));
    let message = refused.json()["violations"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("0xe9") && message.contains("iconv -f latin1 -t utf-8"), "{message}");
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
