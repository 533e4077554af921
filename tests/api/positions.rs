//! What each face says to a reader whose place is not, or no longer, in the channel's history.

use std::{process::Stdio, sync::Arc};

use futures::StreamExt as _;
use liminal::{
    client::{Client, Consistency, HistoryChange, IfChanged, Start},
    model::{Limits, Position},
    node::Node,
    proto::v1,
    store::{FaultyStore, MemoryStore},
};
use serde_json::json;

use super::{
    PATIENCE, client,
    http::{open, request, until},
    node, node_over,
    websocket::Socket,
};

const MESSAGES: &str = "/v1/channels/orders/messages";
const EVENTS: &str = "/v1/channels/orders/events";

async fn publish(node: &Node, payloads: &[&str]) {
    for payload in payloads {
        assert_eq!(request(node.http_address(), "POST", MESSAGES, &[], payload).await.status, 200);
    }
}

/// A channel of which five messages were read, and which was created again then and has two others.
async fn recreated() -> (Node, Position) {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    publish(&node, &["0", "1", "2", "3", "4"]).await;
    let page = request(http, "GET", MESSAGES, &[], "").await.json();
    assert_eq!((&page["next_seq"], page.get("notice")), (&json!(5), None));
    assert_eq!(request(http, "DELETE", "/v1/channels/orders", &[], "").await.status, 204);
    assert_eq!(request(http, "PUT", "/v1/channels/orders", &[], "{}").await.status, 200);
    publish(&node, &["10", "11"]).await;
    (node, page["next"].as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_page_says_that_the_channel_was_created_again_and_begins_with_what_it_has() {
    let (node, position) = recreated().await;
    let http = node.http_address();
    let page = request(http, "GET", &format!("{MESSAGES}?from={position}"), &[], "").await.json();
    assert_eq!((&page["messages"][0]["payload"], &page["next_seq"]), (&json!(10), &json!(2)));
    let notice = &page["notice"];
    assert_eq!((&notice["change"], &notice["code"]), (&json!("recreated"), &json!("CHANNEL_RECREATED")));
    assert_eq!((&notice["from_seq"], &notice["next_seq"]), (&json!(5), &json!(0)));
    let filtered = request(http, "GET", &format!("{MESSAGES}?from={position}&filter=true"), &[], "").await;
    assert!(filtered.status == 400 || filtered.json()["notice"]["code"] == "CHANNEL_RECREATED");
    let failed = request(http, "GET", &format!("{MESSAGES}?from={position}&if_changed=fail"), &[], "").await;
    assert_eq!(failed.code(), (410, "CHANNEL_RECREATED".into()));
    assert_eq!(failed.json()["notice"]["next"], notice["next"]);
    let again = request(http, "GET", &format!("{MESSAGES}?from={}", notice["next"].as_str().unwrap()), &[], "").await;
    assert_eq!(again.json().get("notice"), None);
    let beyond = request(http, "GET", &format!("{MESSAGES}?from=99"), &[], "").await;
    assert_eq!(beyond.code(), (416, "POSITION_BEYOND_END".into()));
    assert_eq!(beyond.json()["notice"]["end_seq"], 2);
    let wrong = request(http, "GET", &format!("{MESSAGES}?if_changed=maybe"), &[], "").await;
    assert_eq!(wrong.code(), (400, "INVALID_ARGUMENT".into()));
    node.stop().await;
}

#[tokio::test]
async fn an_event_tells_a_browser_that_comes_back_what_became_of_its_place() {
    let (node, position) = recreated().await;
    let http = node.http_address();
    // The id of an earlier version says nothing of the history, but that it lies beyond the end.
    let place = position.to_string();
    for (id, code, first) in [(place.as_str(), "CHANNEL_RECREATED", "10}"), ("99", "POSITION_BEYOND_END", "12}")] {
        let mut following = open(http, "GET", EVENTS, &[("Last-Event-ID", id)], b"").await;
        let seen = until(&mut following, code).await;
        assert!(seen.starts_with("HTTP/1.1 200") && seen.contains("event: notice\n"), "{seen}");
        assert!(!seen.contains(": following"), "nothing comes before it: {seen}");
        if id == "99" {
            publish(&node, &["12"]).await;
        }
        let rest = if seen.contains(first) { String::new() } else { until(&mut following, first).await };
        assert!(!(seen + &rest).contains("\"payload\":4}"));
    }
    let refused = request(http, "GET", &format!("{EVENTS}?from=99"), &[], "").await;
    assert_eq!(refused.code(), (416, "POSITION_BEYOND_END".into()));
    let strict = request(http, "GET", &format!("{EVENTS}?from={position}&if_changed=fail"), &[], "").await;
    assert_eq!(strict.code(), (410, "CHANNEL_RECREATED".into()));
    node.stop().await;
}

#[tokio::test]
async fn a_frame_tells_a_subscriber_over_a_websocket() {
    let (node, position) = recreated().await;
    let mut socket = Socket::open(node.http_address()).await;
    let begun = socket.ask(json!({"id": 1, "subscribe": {"channel": "orders", "from": position}})).await;
    assert_eq!(begun, json!({"id": 1, "ok": {"next_seq": 0}}));
    let told = socket.hear().await;
    assert_eq!((&told["subscription"], &told["notice"]["code"]), (&json!(1), &json!("CHANNEL_RECREATED")));
    assert_eq!(socket.hear().await["message"]["payload"], 10);
    let strict = json!({"id": 2, "subscribe": {"channel": "orders", "from": position, "if_changed": "fail"}});
    let mut refused = socket.ask(strict).await;
    while refused["id"] != 2 {
        refused = socket.hear().await;
    }
    assert_eq!(refused["error"]["code"], "CHANNEL_RECREATED");
    node.stop().await;
}

#[tokio::test]
async fn an_item_of_the_stream_tells_a_subscriber_over_grpc() {
    let (node, position) = recreated().await;
    let mut broker = client(&node).await;
    let start = |position: Position| v1::Start {
        from: Some(v1::start::From::Seq(position.seq)),
        position: Some(position.into()),
    };
    let request = v1::SubscribeRequest {
        channel: "orders".into(),
        start: Some(start(position)),
        ..v1::SubscribeRequest::default()
    };
    let mut stream = broker.subscribe(request.clone()).await.unwrap().into_inner();
    let told = stream.message().await.unwrap().unwrap();
    let notice = told.notice.unwrap();
    assert_eq!((notice.change(), told.first_seq, told.count), (v1::HistoryChange::Recreated, 0, 0));
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.first_seq, first.notice), (0, None));
    assert_eq!(first.next.unwrap().channel_id, notice.next.unwrap().channel_id);
    let strict = v1::SubscribeRequest { if_changed: v1::IfChanged::Fail.into(), ..request };
    let refused = broker.subscribe(strict).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    assert_eq!(refused.metadata().get("liminal-code").unwrap(), "CHANNEL_RECREATED");
    // Who has only a number, as clients of earlier versions, is refused as ever, and beyond the end too.
    let bare = v1::Start { from: Some(v1::start::From::Seq(99)), position: None };
    let bare = v1::SubscribeRequest { channel: "orders".into(), start: Some(bare), ..v1::SubscribeRequest::default() };
    let refused = broker.subscribe(bare).await.unwrap_err();
    assert_eq!(refused.metadata().get("liminal-code").unwrap(), "POSITION_BEYOND_END");
    let read = v1::ReadRequest { channel: "orders".into(), start: Some(start(position)), ..v1::ReadRequest::default() };
    let page = broker.read(read).await.unwrap().into_inner();
    assert_eq!((page.deliveries[0].first_seq, page.end_seq), (0, 2));
    assert_eq!(page.notice.unwrap().code, "CHANNEL_RECREATED");
    node.stop().await;
}

#[tokio::test]
async fn the_client_tells_it_as_an_error_after_which_the_stream_goes_on() {
    let (node, position) = recreated().await;
    let client = Client::connect([format!("http://{}", node.client_address())]).await.unwrap();
    let mut messages = client.subscribe("orders", Start::Position(position)).await.unwrap();
    let told = messages.next().await.unwrap().unwrap_err();
    assert_eq!(told.code(), "CHANNEL_RECREATED");
    assert_eq!(told.notice().unwrap().change, HistoryChange::Recreated);
    assert_eq!(messages.next().await.unwrap().unwrap().seq, 0);
    assert_eq!(messages.position().unwrap().seq, 1);
    let page = client.read("orders", messages.position().map(Start::Position).unwrap(), 0, Consistency::Local).await;
    let page = page.unwrap();
    assert_eq!((page.messages[0].seq, page.next.unwrap().seq, page.notice), (1, 2, None));
    let refused = client.subscribe("orders", Start::Position(position)).if_changed(IfChanged::Fail).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code(), "CHANNEL_RECREATED");
    let beyond = client.subscribe("orders", Start::Seq(99)).await.err().unwrap();
    assert_eq!(beyond.code(), "POSITION_BEYOND_END");
    drop((messages, client));
    node.stop().await;
}

#[tokio::test]
async fn the_command_says_it_on_stderr_and_takes_its_own_word_of_where_to_go_on() {
    let (node, position) = recreated().await;
    let server = format!("http://{}", node.client_address());
    let subscribe = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_liminal"));
        command.args(["--server", &server, "-o", "raw", "subscribe", "orders"]).args(more).stdin(Stdio::null());
        let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let place = position.to_string();
    let (code, out, told) = subscribe(&["--from", &place, "--count", "1", "--show-next"]).await;
    assert_eq!((code, out.as_str()), (0, "10\n"), "{told}");
    assert!(told.contains("notice: channel `orders` is not the one") && told.contains("CHANNEL_RECREATED"), "{told}");
    let next = told.lines().find_map(|line| line.strip_prefix("next: ")).unwrap().to_owned();
    let (code, out, told) = subscribe(&["--from", &next, "--count", "1"]).await;
    assert_eq!((code, out.as_str(), told.as_str()), (0, "11\n", ""));
    let (code, out, told) = subscribe(&["--from", &place, "--if-changed", "fail"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(told.contains("CHANNEL_RECREATED"), "{told}");
    let (code, _, told) = subscribe(&["--from", "99"]).await;
    assert_eq!(code, 1);
    assert!(told.contains("ends at 2") && told.contains("POSITION_BEYOND_END"), "{told}");
    node.stop().await;
}

#[tokio::test]
async fn a_request_counts_as_in_flight_on_its_connection_until_it_is_published() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let limits = Limits { connection_in_flight_bytes: 1, ..Limits::default() };
    let node = node_over(limits, store.clone()).await;
    let broker = client(&node).await;
    let ask = || {
        let message = v1::Message { payload: "ping".into(), ..v1::Message::default() };
        let request = v1::RequestRequest { channel: "orders".into(), message: Some(message), timeout_ms: 2_000 };
        let mut broker = broker.clone();
        async move { broker.request(request).await }
    };
    let _listening = node.broker().subscribe("orders", liminal::broker::Start::Latest).await.unwrap();
    store.stall_commits(true);
    let first = tokio::spawn(ask());
    let admitted = async {
        while node.broker().stats().in_flight_bytes == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.expect("the first one is on its way");
    let refused = ask().await.unwrap_err();
    assert_eq!(refused.metadata().get("liminal-code").unwrap(), "QUOTA_EXCEEDED");
    store.stall_commits(false);
    let answered = first.await.unwrap().unwrap_err();
    assert_eq!(answered.metadata().get("liminal-code").unwrap(), "REPLY_TIMEOUT");
    let again = ask().await.unwrap_err();
    assert_eq!(again.metadata().get("liminal-code").unwrap(), "REPLY_TIMEOUT");
    node.stop().await;
}
