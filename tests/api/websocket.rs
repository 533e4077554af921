//! Publishing and following over a WebSocket.

use futures::{SinkExt as _, StreamExt as _};
use liminal::model::Limits;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{PATIENCE, node};

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn open(address: &str) -> Self {
        Self(connect_async(format!("ws://{address}/v1/ws")).await.unwrap().0)
    }

    async fn say(&mut self, request: Value) {
        self.say_text(request.to_string()).await;
    }

    pub async fn say_text(&mut self, request: String) {
        self.0.send(Message::text(request)).await.unwrap();
    }

    pub async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_text().await).unwrap()
    }

    pub async fn hear_text(&mut self) -> String {
        match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an answer") {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn ask(&mut self, request: Value) -> Value {
        self.say(request).await;
        self.hear().await
    }
}

#[tokio::test]
async fn one_connection_publishes_and_follows() {
    let node = node(Limits::default()).await;
    let mut socket = Socket::open(node.http_address()).await;
    let publish =
        json!({"id": 1, "publish": {"channel": "orders", "payload": {"id": 7}, "key": "k", "headers": {"h": "v"}}});
    for duplicate in [false, true] {
        let mut answer = socket.ask(publish.clone()).await;
        let position = answer["ok"].as_object_mut().unwrap().remove("position").unwrap();
        assert!(position.as_str().unwrap().ends_with(".0"), "{position}");
        let stored = json!({"channel": "orders", "seq": 0, "duplicate": duplicate, "delivered": false});
        assert_eq!(answer, json!({"id": 1, "ok": stored}));
    }
    let begun = socket.ask(json!({"id": 2, "subscribe": {"channel": "orders", "from": "earliest"}})).await;
    assert_eq!((&begun["id"], &begun["ok"]["next_seq"]), (&json!(2), &json!(0)));
    assert!(begun["ok"]["next"].as_str().unwrap().ends_with(".0"), "{begun}");
    let first = socket.hear().await;
    assert_eq!((&first["subscription"], &first["message"]["seq"]), (&json!(2), &json!(0)));
    assert!(first["next"].as_str().unwrap().ends_with(".1"), "{first}");
    assert_eq!((&first["message"]["payload"], &first["message"]["headers"]), (&json!({"id": 7}), &json!({"h": "v"})));
    // The answer and the message itself may come in either order.
    socket.say(json!({"id": 3, "publish": {"channel": "orders", "payload_base64": "/wA="}})).await;
    let (one, two) = (socket.hear().await, socket.hear().await);
    let (answer, message) = if one.get("ok").is_some() { (one, two) } else { (two, one) };
    assert_eq!(answer["ok"]["delivered"], true);
    assert_eq!(message["message"]["payload_base64"], "/wA=");
    assert_eq!(socket.ask(json!({"id": 4, "unsubscribe": 2})).await, json!({"id": 4, "ok": {"unsubscribed": true}}));
    let after = socket.ask(json!({"id": 5, "publish": {"channel": "orders", "payload": 1}})).await;
    assert_eq!(after["ok"]["delivered"], false);
    node.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_under_the_id_of_the_request_and_the_connection_goes_on() {
    let node = node(Limits { subscriptions_per_connection: 1, ..Limits::default() }).await;
    let mut socket = Socket::open(node.http_address()).await;
    let code = |answer: &Value| (answer["id"].clone(), answer["error"]["code"].as_str().unwrap_or_default().to_owned());
    for (request, expected) in [
        (json!({"id": 1, "publish": {"channel": "ordres", "payload": 1}}), "CHANNEL_NOT_FOUND"),
        (json!({"id": 1, "publish": {"channel": "orders"}}), "INVALID_ARGUMENT"),
        (json!({"id": 1, "publish": {"channel": "orders", "payload": 1, "key": ""}}), "INVALID_ARGUMENT"),
        (json!({"id": 1, "publish": {"channel": "orders", "payload_base64": "?"}}), "INVALID_ARGUMENT"),
        (json!({"id": 1}), "INVALID_ARGUMENT"),
        (json!({"id": 1, "shout": {}}), "INVALID_ARGUMENT"),
        (json!({"id": 1, "subscribe": {"channel": "nothing"}}), "CHANNEL_NOT_FOUND"),
        (json!({"id": 1, "subscribe": {"channel": "orders", "from": "soon"}}), "INVALID_ARGUMENT"),
    ] {
        assert_eq!(code(&socket.ask(request.clone()).await), (json!(1), expected.to_owned()), "{request}");
    }
    socket.0.send(Message::text("no json")).await.unwrap();
    assert_eq!(code(&socket.hear().await), (Value::Null, "INVALID_ARGUMENT".into()));
    assert_eq!(socket.ask(json!({"id": 2, "subscribe": {"channel": "orders"}})).await["ok"]["next_seq"], 0);
    let again = socket.ask(json!({"id": 2, "subscribe": {"channel": "orders"}})).await;
    assert_eq!(code(&again), (json!(2), "INVALID_ARGUMENT".into()));
    let more = socket.ask(json!({"id": 3, "subscribe": {"channel": "orders"}})).await;
    assert_eq!(code(&more), (json!(3), "LIMIT_EXCEEDED".into()));
    node.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_one_far_too_large_closes_the_connection_with_a_reason() {
    let node = node(Limits { message_bytes: 1000, header_bytes: 100, ..Limits::default() }).await;
    let mut socket = Socket::open(node.http_address()).await;
    socket.ask(json!({"id": 1, "subscribe": {"channel": "orders"}})).await;
    let large = |bytes| json!({"id": 2, "publish": {"channel": "orders", "payload": "x".repeat(bytes)}});
    let refused = socket.ask(large(2_600)).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!("LIMIT_EXCEEDED")), "{refused}");
    assert!(refused["error"]["detail"].as_str().unwrap().contains("2457"), "{refused}");
    // The subscription is still there.
    let (one, two) = (socket.ask(large(100)).await, socket.hear().await);
    assert!(one.get("subscription").is_some() || two.get("subscription").is_some(), "{one} {two}");
    socket.say(large(100_000)).await;
    match tokio::time::timeout(PATIENCE, socket.0.next()).await.expect("a last word") {
        Some(Ok(Message::Close(Some(close)))) => {
            assert_eq!((u16::from(close.code), close.reason.contains("at most 2457 bytes")), (1009, true), "{close:?}");
        }
        other => panic!("{other:?}"),
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_closes_its_connections_with_a_reason() {
    let node = node(Limits::default()).await;
    let mut socket = Socket::open(node.http_address()).await;
    socket.ask(json!({"id": 1, "subscribe": {"channel": "orders"}})).await;
    let stopped = tokio::spawn(node.stop());
    match tokio::time::timeout(PATIENCE, socket.0.next()).await.expect("a last word") {
        Some(Ok(Message::Close(Some(close)))) => assert!(close.reason.contains("try another"), "{close:?}"),
        other => panic!("{other:?}"),
    }
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_publishes_too_fast_is_told_when_to_come_again() {
    let node = node(Limits { publisher_messages_per_second: Some(1), ..Limits::default() }).await;
    let mut socket = Socket::open(node.http_address()).await;
    let publish = json!({"id": 1, "publish": {"channel": "orders", "payload": 1}});
    assert_eq!(socket.ask(publish.clone()).await["ok"]["seq"], 0);
    let deferred = socket.ask(publish.clone()).await;
    assert_eq!(deferred["error"]["code"], "QUOTA_EXCEEDED");
    assert!(deferred["error"]["retry_after_ms"].as_u64().unwrap() > 0, "{deferred}");
    assert_eq!(Socket::open(node.http_address()).await.ask(publish).await["ok"]["seq"], 1);
    node.stop().await;
}
