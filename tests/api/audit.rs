//! Who did what, and who was refused: the records of it, and who reads them.

use std::time::Duration;

use liminal::{
    client::{Client, Code, Consistency, Message, Start},
    model::{AUDIT_CHANNEL, SecurityMode},
};
use serde_json::{Value, json};

use super::{PATIENCE, http::request, security::Closed};

/// The records up to one for which something holds.
async fn records(admin: &Client, last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let reading = async {
        loop {
            let page = admin.read(AUDIT_CHANNEL, Start::Earliest, 1_000, Consistency::Linearizable).await;
            let read = page.map(|page| page.messages).unwrap_or_default();
            let all: Vec<Value> =
                read.iter().map(|one| serde_json::from_slice(&one.message.payload).unwrap()).collect();
            if all.iter().any(&last) {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the record")
}

fn one<'a>(records: &'a [Value], act: &str, on: &str) -> &'a Value {
    let found = records.iter().find(|record| record["act"] == act && record["on"] == on);
    found.unwrap_or_else(|| panic!("no {act} of {on} in {records:?}"))
}

#[tokio::test]
async fn what_is_done_is_recorded_with_who_did_it_and_without_secrets() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let manager = closed.token("manager", &["channel:*=manage,publish"]).await;
    let (text, id) = (manager.text, manager.token.unwrap().id);
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/made", "").await.status, 200);
    assert_eq!(closed.ask(&text, "PUT", "/v1/channels/orders", r#"{"durability":"ephemeral"}"#).await.status, 409);
    assert_eq!(closed.ask(&text, "POST", "/v1/channels/made/messages", "\"what was said\"").await.status, 200);
    closed.admin.revoke_token(&id).await.unwrap();
    let revoked = format!("token:{id}");
    let all = records(&closed.admin, |record| record["act"] == "token.revoke").await;
    let bootstrap = |record: &&Value| record["token"] == "bootstrap" && record["act"] == "token.create";
    assert_eq!(all.iter().find(bootstrap).expect("the first act")["detail"], "roles admin");
    let role = one(&all, "role.create", "role:manager");
    assert_eq!((&role["result"], &role["description"]), (&json!("done"), &json!("first")));
    let made = one(&all, "channel.create", "channel:made");
    assert_eq!(
        [&made["result"], &made["token"], &made["description"], &made["from"], &made["node"]],
        [&json!("done"), &json!(id), &json!("manager"), &json!("127.0.0.1"), &json!("n1")]
    );
    let refused = one(&all, "channel.create", "channel:orders");
    assert_eq!([&refused["result"], &refused["code"]], [&json!("refused"), &json!("CHANNEL_EXISTS")]);
    assert_eq!(one(&all, "token.revoke", &revoked)["result"], "done");
    let said = serde_json::to_string(&all).unwrap();
    assert!(!said.contains("lim_") && !said.contains("what was said"), "{said}");
    closed.node.stop().await;
}

#[tokio::test]
async fn refusals_and_wrong_tokens_are_recorded() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let reader = closed.token("reader", &["channel:orders=read"]).await.text;
    let denied = |record: &Value| record["result"] == "denied" && record["description"] == "reader";
    let asking = async {
        loop {
            assert_eq!(closed.ask(&reader, "DELETE", "/v1/channels/orders", "").await.status, 403);
        }
    };
    // Of one address not each refusal has a record.
    let all = tokio::select! {
        all = records(&closed.admin, denied) => all,
        () = asking => unreachable!(),
    };
    let found = all.iter().find(|record| denied(record)).unwrap();
    assert_eq!(found["code"], "PERMISSION_DENIED");
    let wrong = format!("Bearer lim_00000000000000ff_{}", "A".repeat(43));
    let login = |record: &Value| record["act"] == "login" && record["on"] == "token:00000000000000ff";
    let trying = async {
        loop {
            let headers = [("Authorization", wrong.as_str())];
            assert_eq!(request(closed.node.http_address(), "GET", "/v1/channels", &headers, "").await.status, 401);
        }
    };
    let all = tokio::select! {
        all = records(&closed.admin, login) => all,
        () = trying => unreachable!(),
    };
    let found = all.iter().find(|record| login(record)).unwrap();
    assert_eq!((&found["result"], &found["code"]), (&json!("denied"), &json!("UNAUTHENTICATED")));
    closed.node.stop().await;
}

#[tokio::test]
async fn nobody_changes_the_audit_and_only_administrators_read_it() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let other = closed.token("other", &["channel:*=publish,read,consume,manage", "cluster=manage"]).await.text;
    records(&closed.admin, |record| record["act"] == "token.create").await;
    let messages = format!("/v1/channels/{AUDIT_CHANNEL}/messages");
    assert_eq!(closed.ask(&other, "GET", &messages, "").await.code(), (403, "PERMISSION_DENIED".into()));
    let listed = closed.ask(&other, "GET", "/v1/channels", "").await.body;
    assert!(!listed.contains(AUDIT_CHANNEL), "{listed}");
    let published = closed.admin.publish(AUDIT_CHANNEL, Message::new("1")).await;
    assert_eq!(*published.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(*closed.admin.delete_channel(AUDIT_CHANNEL).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(closed.admin.channel(AUDIT_CHANNEL).await.unwrap().name, AUDIT_CHANNEL);
    closed.node.stop().await;
}

#[tokio::test]
async fn without_tokens_nobody_publishes_to_the_audit_either() {
    let node = super::node(liminal::model::Limits::default()).await;
    let target = format!("/v1/channels/{AUDIT_CHANNEL}");
    let publish = request(node.http_address(), "POST", &format!("{target}/messages"), &[], "1").await;
    assert_eq!(publish.code(), (403, "PERMISSION_DENIED".into()));
    assert_eq!(request(node.http_address(), "PUT", &target, &[], "").await.code(), (403, "PERMISSION_DENIED".into()));
    node.stop().await;
}

#[tokio::test]
async fn the_last_administrator_is_revoked_by_force_only() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let tokens = closed.admin.tokens().await.unwrap();
    let last = &tokens[0].id;
    let refused = closed.admin.revoke_token(last).await.unwrap_err();
    assert_eq!(refused.code(), "LAST_ADMINISTRATOR");
    assert!(refused.to_string().contains(last), "{refused}");
    let second = closed.admin.create_token("second", vec!["admin".into()], None).await.unwrap();
    let path = format!("/v1/tokens/{last}");
    assert_eq!(closed.ask(&second.text, "DELETE", &path, "").await.status, 204);
    let path = format!("/v1/tokens/{}", second.token.id);
    assert_eq!(closed.ask(&second.text, "DELETE", &path, "").await.code(), (409, "LAST_ADMINISTRATOR".into()));
    assert_eq!(closed.ask(&second.text, "DELETE", &format!("{path}?force=true"), "").await.status, 204);
    closed.node.stop().await;
}

#[tokio::test]
async fn browsers_are_told_not_to_guess_frame_or_keep_answers() {
    let node = super::node(liminal::model::Limits::default()).await;
    for (target, is_kept) in
        [("/v1/channels", false), ("/v1/channels/none", false), ("/nothing", true), ("/health", true)]
    {
        let head = request(node.http_address(), "GET", target, &[], "").await.head.to_lowercase();
        let told = ["x-content-type-options: nosniff", "frame-ancestors 'none'", "referrer-policy: no-referrer"];
        assert!(told.iter().all(|header| head.contains(header)), "{target}: {head}");
        assert_eq!(!head.contains("cache-control: no-store"), is_kept, "{target}: {head}");
    }
    node.stop().await;
}
