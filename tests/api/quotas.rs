//! How much a token may take, seen from outside: what is refused, in which words, and who is not kept back by it.

use std::time::Duration;

use futures::StreamExt as _;
use liminal::{
    client::RoleQuota,
    model::SecurityMode,
    proto::v1::{self, broker_client::BrokerClient},
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message as Frame, client::IntoClientRequest as _, http::HeaderValue},
};
use tonic::Code;

use super::{
    PATIENCE,
    http::{Answer, open, until},
    security::{Closed, with},
};

const GRANTS: &[&str] = &["channel:*=publish,read,manage", "claim:*=claim"];

/// A node, and a token of a role with this quota.
async fn limited(quota: RoleQuota) -> (Closed, String) {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let text = closed.token("shop", GRANTS).await.text;
    closed.admin.set_role_quota("shop", quota).await.unwrap();
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/orders", "").await.status, 200);
    (closed, text)
}

fn retry_after(answer: &Answer) -> u64 {
    let head = answer.head.to_lowercase();
    let line = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("it says when to come again");
    line.trim().parse().unwrap()
}

/// Over HTTP: the status, the code, and the numbers and the role in the words.
fn refused(answer: &Answer, words: &str) {
    assert_eq!(answer.code(), (429, "QUOTA_EXCEEDED".into()), "{}", answer.body);
    assert!(answer.body.contains(words), "{}", answer.body);
    assert!(retry_after(answer) >= 1);
}

#[tokio::test]
async fn a_token_publishes_as_much_in_a_second_as_its_role_allows_and_another_one_is_not_kept_back() {
    let (closed, text) = limited(RoleQuota::new().messages_per_second(5)).await;
    let other = closed.token("other", GRANTS).await.text;
    let publish = async |token: &str| closed.ask(token, "POST", "/v1/channels/orders/messages", "1").await;
    for number in 0..5 {
        assert_eq!(publish(&text).await.status, 200, "{number}");
    }
    let mut answer = publish(&text).await;
    for _ in 0..20 {
        if answer.status != 200 {
            break;
        }
        answer = publish(&text).await; // a slow machine has let the bucket fill
    }
    refused(&answer, "the token would have 6 messages a second, and role `shop` allows 5");
    for _ in 0..20 {
        assert_eq!(publish(&other).await.status, 200);
    }
    let mut client = BrokerClient::new(closed.channel().await);
    let message = Some(v1::Message { payload: "1".into(), ..Default::default() });
    let request = v1::PublishRequest { channel: "orders".into(), message, ..Default::default() };
    let mut refusal = None;
    for _ in 0..20 {
        refusal = refusal.or(client.publish(with(&text, request.clone())).await.err());
    }
    let status = refusal.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.metadata().get("liminal-code").unwrap(), "QUOTA_EXCEEDED");
    closed.admin.set_role_quota("shop", RoleQuota::new()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(publish(&text).await.status, 200, "the change holds at once on the node that was asked");
    }
    closed.node.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_another_reason_costs_nothing_of_the_rate() {
    let (closed, text) = limited(RoleQuota::new().bytes_per_second(100_000).in_flight_bytes(10)).await;
    let large = "7".repeat(50_000);
    // One alone is never too large, and each is answered before the next one.
    for _ in 0..2 {
        let answer = closed.ask(&text, "POST", "/v1/channels/orders/messages", &large).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let answer = closed.ask(&text, "POST", "/v1/channels/orders/messages", &large).await;
    refused(&answer, "role `shop` allows 100000");
    closed.node.stop().await;
}

#[tokio::test]
async fn a_token_has_as_many_streams_open_as_its_role_allows_on_whatever_connections() {
    let (closed, text) = limited(RoleQuota::new().streams(2)).await;
    let bearer = format!("Bearer {text}");
    let http = closed.node.http_address();
    let mut first = open(http, "GET", "/v1/channels/orders/events", &[("Authorization", &bearer)], b"").await;
    until(&mut first, "following").await;
    let subscribe = v1::SubscribeRequest { channel: "orders".into(), ..Default::default() };
    let mut client = BrokerClient::new(closed.channel().await);
    let second = client.subscribe(with(&text, subscribe.clone())).await.unwrap();
    let status = client.subscribe(with(&text, subscribe)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("3 open requests and streams, and role `shop` allows 2"), "{status}");
    refused(&closed.ask(&text, "GET", "/v1/channels", "").await, "role `shop` allows 2");
    let metrics = closed.admin_metrics().await;
    assert!(metrics.contains(r#"what="streams"} 2"#), "{metrics}");
    drop(second);
    let mut again = closed.ask(&text, "GET", "/v1/channels", "").await;
    for _ in 0..200 {
        if again.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = closed.ask(&text, "GET", "/v1/channels", "").await;
    }
    assert_eq!(again.status, 200, "a stream that has ended counts no more: {}", again.body);
    closed.node.stop().await;
}

#[tokio::test]
async fn the_subscriptions_of_a_websocket_are_streams_too() {
    let (closed, text) = limited(RoleQuota::new().streams(2)).await;
    let mut request = format!("ws://{}/v1/ws", closed.node.http_address()).into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {text}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = connect_async(request).await.unwrap();
    let mut said = Vec::new();
    for id in [1, 2] {
        let subscribe = format!(r#"{{"id":{id},"subscribe":{{"channel":"orders"}}}}"#);
        futures::SinkExt::send(&mut socket, Frame::text(subscribe)).await.unwrap();
        said.push(socket.next().await.unwrap().unwrap().into_text().unwrap().to_string());
    }
    assert!(said[0].contains("ok"), "{said:?}");
    assert!(said[1].contains("QUOTA_EXCEEDED") && said[1].contains("allows 2"), "{said:?}");
    closed.node.stop().await;
}

async fn reads_at_last(client: &mut BrokerClient<tonic::transport::Channel>, text: &str) {
    let read = async {
        let request = || v1::ReadRequest { channel: "orders".into(), ..Default::default() };
        while client.read(with(text, request())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("there is room for it");
}

#[tokio::test]
async fn a_token_has_as_many_connections_as_its_role_allows() {
    let (closed, text) = limited(RoleQuota::new().connections(1)).await;
    let get = || v1::ReadRequest { channel: "orders".into(), ..Default::default() };
    let mut first = BrokerClient::new(closed.channel().await);
    // The connection that made the channel may take a moment to be closed.
    reads_at_last(&mut first, &text).await;
    let mut second = BrokerClient::new(closed.channel().await);
    let status = second.read(with(&text, get())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("2 connections, and role `shop` allows 1"), "{status}");
    first.read(with(&text, get())).await.expect("the first one goes on");
    drop(first);
    reads_at_last(&mut second, &text).await;
    closed.node.stop().await;
}

#[tokio::test]
async fn channels_consumers_and_claims_of_a_token_are_counted_by_the_cluster() {
    let (closed, text) = limited(RoleQuota::new().channels(1).consumers(1).claims(1)).await;
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/more", "").await.status, 200);
    let answer = closed.ask(&text, "PUT", "/v1/channels/most", "").await;
    refused(&answer, "the token would have 2 channels, and role `shop` allows 1");
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/more", "").await.status, 200, "it is there already");
    let consumer = async |name: &str| {
        closed.ask(&text, "POST", "/v1/channels/orders/consumers", &format!(r#"{{"name":"{name}"}}"#)).await
    };
    assert_eq!(consumer("a").await.status, 200);
    refused(&consumer("b").await, "the token would have 2 consumers, and role `shop` allows 1");
    let claim =
        async |key: &str| closed.ask(&text, "POST", &format!("/v1/claims/jobs/{key}"), r#"{"lease_ms":60000}"#).await;
    assert_eq!(claim("1").await.status, 201);
    refused(&claim("2").await, "the token would have 2 claims, and role `shop` allows 1");
    assert_eq!(closed.ask(&text, "DELETE", "/v1/channels/more", "").await.status, 204);
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/most", "").await.status, 200);
    closed.admin.create_channel("of-the-administrator", Default::default()).await.expect("it has no quota");
    closed.node.stop().await;
}

#[tokio::test]
async fn a_filter_that_takes_too_long_waits_and_a_new_one_is_refused() {
    let (closed, text) = limited(RoleQuota::new().filter_ms_per_second(1)).await;
    let lines: Vec<String> = (0..4_000).map(|number| format!("{{\"n\":{number}}}")).collect();
    let bearer = format!("Bearer {text}");
    for _ in 0..5 {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-ndjson")];
        let target = "/v1/channels/orders/messages";
        let published =
            super::http::request(closed.node.http_address(), "POST", target, &headers, &lines.join("\n")).await;
        assert_eq!(published.status, 200, "{}", published.body);
    }
    let target = "/v1/channels/orders/messages?from=earliest&filter=n%20%3D%3D%20100000";
    let mut answer = closed.ask(&text, "GET", target, "").await;
    for _ in 0..50 {
        if answer.status != 200 {
            break;
        }
        answer = closed.ask(&text, "GET", target, "").await;
    }
    refused(&answer, "milliseconds of filters a second, and role `shop` allows 1");
    let without = closed.ask(&text, "GET", "/v1/channels/orders/messages?from=earliest&limit=1", "").await;
    assert_eq!(without.status, 200, "without a filter it may read: {}", without.body);
    closed.node.stop().await;
}

#[tokio::test]
async fn a_quota_is_shown_changed_and_removed_and_makes_no_sense_as_a_rate_of_nothing() {
    let (closed, _) = limited(RoleQuota::new().streams(9)).await;
    let admin = closed.admin_token().await;
    let ask = async |method: &str, target: &str, body: &str| closed.ask(&admin, method, target, body).await;
    assert_eq!(ask("GET", "/v1/roles/shop", "").await.json()["quota"], serde_json::json!({ "streams": 9 }));
    let set = ask("PUT", "/v1/roles/shop/quota", r#"{"connections":0,"messages_per_second":7}"#).await;
    assert_eq!(set.json()["quota"], serde_json::json!({ "connections": 0, "messages_per_second": 7 }), "{}", set.body);
    assert_eq!(closed.admin.role("shop").await.unwrap().quota, RoleQuota::new().connections(0).messages_per_second(7));
    // What a role grants and what it limits are apart.
    let role = closed.admin.role("shop").await.unwrap();
    closed.admin.update_role(role.clone().description("changed")).await.unwrap();
    assert_eq!(closed.admin.role("shop").await.unwrap().quota, role.quota);
    for (body, why) in [(r#"{"messages_per_second":0}"#, "is 0"), (r#"{"keys":1}"#, "unknown field")] {
        let wrong = ask("PUT", "/v1/roles/shop/quota", body).await;
        assert_eq!(wrong.code(), (400, "INVALID_ARGUMENT".into()), "{body}");
        assert!(wrong.body.contains(why), "{}", wrong.body);
    }
    let gone = ask("DELETE", "/v1/roles/shop/quota", "").await;
    assert_eq!(gone.json()["quota"], serde_json::json!({}), "{}", gone.body);
    assert_eq!(ask("PUT", "/v1/roles/none/quota", "{}").await.code(), (404, "ROLE_NOT_FOUND".into()));
    let built_in = ask("PUT", "/v1/roles/admin/quota", r#"{"streams":1}"#).await;
    assert_eq!(built_in.code(), (400, "INVALID_ARGUMENT".into()), "{}", built_in.body);
    closed.node.stop().await;
}

#[tokio::test]
async fn where_the_mode_only_counts_a_quota_refuses_nothing() {
    let closed = Closed::start(SecurityMode::Permissive).await;
    let text = closed.token("shop", GRANTS).await.text;
    closed.admin.set_role_quota("shop", RoleQuota::new().channels(0).messages_per_second(1)).await.unwrap();
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/orders", "").await.status, 200);
    for _ in 0..5 {
        assert_eq!(closed.ask(&text, "POST", "/v1/channels/orders/messages", "1").await.status, 200);
    }
    let metrics = closed.admin_metrics().await;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("liminal_access_would_refuse_total ")).unwrap();
    assert!(counted.parse::<u64>().unwrap() >= 3, "{counted}");
    closed.node.stop().await;
}
