//! Dead letters over gRPC and HTTP: looking at them and sending them back; and what a change of limits would remove.

use liminal::{
    model::{Frame, Limits},
    proto::v1::{self, channels_client::ChannelsClient, consumers_client::ConsumersClient},
};
use serde_json::{Value, json};

use super::{http::request, node};

/// Three letters; the payload of the second one is no number.
async fn letters(node: &liminal::node::Node) {
    letters_of(node, &["1", "\"two\"", "3"].map(|payload| payload.as_bytes().to_vec())).await;
}

/// Letters of consumer `w` of `orders` with these payloads.
pub async fn letters_of(node: &liminal::node::Node, payloads: &[Vec<u8>]) {
    let header =
        |name: &str, value: &str| v1::Header { name: format!("liminal-dead-letter-{name}"), value: value.into() };
    let letter = |(seq, payload): (usize, &Vec<u8>)| v1::Message {
        payload: payload.clone().into(),
        headers: vec![
            header("channel", "orders"),
            header("seq", &seq.to_string()),
            header("consumer", "w"),
            header("attempts", "3"),
            header("reason", "nacked: busy"),
            header("hops", "1"),
        ],
        ..v1::Message::default()
    };
    let messages: Vec<v1::Message> = payloads.iter().enumerate().map(letter).collect();
    let confirm = liminal::broker::Confirm::Commit;
    for written in node.broker().publish_frame("orders.dead", Frame::encode(&messages), confirm).await {
        written.unwrap();
    }
}

#[tokio::test]
async fn letters_are_listed_and_redriven_over_grpc() {
    let node = node(Limits::default()).await;
    let address = format!("http://{}", node.client_address());
    let mut consumers = ConsumersClient::connect(address).await.unwrap();
    let config = Some(v1::ConsumerConfig { max_attempts: 3, ..Default::default() });
    let create = v1::CreateConsumerRequest { channel: "orders".into(), name: "w".into(), config, start: None };
    consumers.create_consumer(create).await.unwrap();
    letters(&node).await;
    let selection = Some(v1::DeadLetterSelection {
        channel: "orders".into(),
        consumer: "w".into(),
        limit: 2,
        ..v1::DeadLetterSelection::default()
    });
    let list = v1::ListDeadLettersRequest { selection: selection.clone() };
    let page = consumers.list_dead_letters(list).await.unwrap().into_inner();
    assert_eq!((page.dead_letter.as_str(), page.letters.len(), page.next_seq, page.done), ("orders.dead", 2, 2, false));
    let letter = &page.letters[1];
    assert_eq!((letter.seq, letter.origin_seq, letter.attempts, letter.reason.as_str()), (1, 1, 3, "nacked: busy"));
    let redrive = v1::RedriveRequest { selection: selection.clone(), dry_run: true, ..Default::default() };
    assert_eq!(consumers.redrive(redrive.clone()).await.unwrap().into_inner().moved, 2);
    let redrive = v1::RedriveRequest { dry_run: false, ..redrive };
    let done = consumers.redrive(redrive).await.unwrap().into_inner();
    assert_eq!((done.moved, done.next_seq, done.done, done.target.as_str()), (2, 2, false, "orders"));
    let to = v1::RedriveRequest { selection, to: "nowhere".into(), dry_run: false };
    let missing = consumers.redrive(to).await.unwrap_err();
    assert_eq!(missing.metadata().get("liminal-code").unwrap(), "CHANNEL_NOT_FOUND");
    node.stop().await;
}

#[tokio::test]
async fn letters_are_listed_and_redriven_over_http() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let base = "/v1/channels/orders/consumers";
    request(http, "POST", base, &[], r#"{"name":"w","max_attempts":3}"#).await;
    request(http, "PUT", "/v1/channels/numbers", &[], r#"{"schema":{"type":"integer"}}"#).await;
    letters(&node).await;
    let listed =
        request(http, "GET", &format!("{base}/w/dead-letters?filter=$payload%20%3E%201"), &[], "").await.json();
    let letter = &listed["letters"][0];
    assert_eq!((&letter["payload"], &letter["channel"], &letter["seq"]), (&json!(3), &json!("orders.dead"), &json!(2)));
    assert_eq!(
        (&letter["origin"], &letter["origin_seq"], &letter["deaths"]),
        (&json!("orders"), &json!(2), &Value::Null)
    );
    assert_eq!((&letter["hops"], &letter["redriven"], &listed["done"]), (&json!(1), &json!(0), &json!(true)));
    let done = request(http, "POST", &format!("{base}/w/redrive"), &[], r#"{"to":"numbers"}"#).await.json();
    assert_eq!((&done["moved"], &done["refused"], &done["done"]), (&json!(2), &json!(1), &json!(true)));
    assert_eq!(done["refusals"][0]["error"]["code"], "SCHEMA_VIOLATION");
    let rest = request(http, "POST", &format!("{base}/w/redrive"), &[], "").await.json();
    assert_eq!((&rest["moved"], &rest["target"], &rest["unsure"]), (&json!(1), &json!("orders"), &json!(0)));
    let wrong = request(http, "POST", &format!("{base}/w/redrive"), &[], r#"{"to":"orders.dead"}"#).await;
    assert_eq!(wrong.code(), (400, "INVALID_ARGUMENT".into()));
    let unknown = request(http, "GET", &format!("{base}/v/dead-letters"), &[], "").await;
    assert_eq!(unknown.code(), (404, "CONSUMER_NOT_FOUND".into()));
    let gone = request(http, "GET", &format!("{base}/v/dead-letters?dead_letter=orders.dead"), &[], "").await.json();
    assert_eq!(gone["letters"], json!([]));
    node.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_how_many_messages_would_go_under_new_limits() {
    let node = node(Limits::default()).await;
    for number in 0..5 {
        node.broker().publish("orders", liminal::broker::Envelope::default(), Some(&number.to_string())).await.unwrap();
    }
    let update = r#"{"retention":{"max_messages":2}}"#;
    let dry = request(node.http_address(), "PATCH", "/v1/channels/orders?dry_run=true", &[], update).await.json();
    assert_eq!((&dry["removes"], &dry["compatible"]), (&json!(3), &json!(true)));
    let mut channels = ChannelsClient::connect(format!("http://{}", node.client_address())).await.unwrap();
    let retention = Some(v1::Retention { max_messages: Some(1), ..v1::Retention::default() });
    let update = v1::UpdateChannelRequest {
        name: "orders".into(),
        retention,
        dry_run: true,
        ..v1::UpdateChannelRequest::default()
    };
    let dry = channels.update_channel(update).await.unwrap().into_inner();
    assert_eq!((dry.removes, dry.channel.unwrap().first_seq), (4, 0));
    node.stop().await;
}
