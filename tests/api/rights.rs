//! Every call over HTTP and gRPC, with the roles that may make it: a new one that is not here fails a test.

use std::collections::BTreeSet;

use liminal::{model::SecurityMode, proto::v1};
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{
    http::{open, request, until},
    security::{Closed, with},
};

/// Of each role's name, what it grants: one action each.
const ROLES: [(&str, &str); 7] = [
    ("publisher", "channel:orders*=publish"),
    ("reader", "channel:orders*=read"),
    ("consumer", "channel:orders*=consume"),
    ("manager", "channel:orders*=manage"),
    ("claimer", "claim:jobs=claim"),
    ("watcher", "cluster=read"),
    ("tender", "cluster=manage"),
];
const EVERY: &[&str] = &["publisher", "reader", "consumer", "manager", "claimer", "watcher", "tender"];
/// Whoever may do anything to the channel.
const SEEING: &[&str] = &["publisher", "reader", "consumer", "manager"];
const PUBLISHER: &[&str] = &["publisher"];
const READER: &[&str] = &["reader"];
const CONSUMER: &[&str] = &["consumer"];
const MANAGER: &[&str] = &["manager"];
const CLAIMER: &[&str] = &["claimer"];
/// What needs several rights, or those of an administrator.
const NONE: &[&str] = &[];

/// Each call over HTTP: the method, the path of the document, a body that can be read, and the roles that may make it.
const CALLS: &[(&str, &str, &str, &[&str])] = &[
    ("GET", "/", "", EVERY),
    ("GET", "/console/{asset}", "", EVERY),
    ("GET", "/health", "", EVERY),
    ("GET", "/ready", "", EVERY),
    ("GET", "/metrics", "", &["watcher"]),
    ("GET", "/v1/openapi.json", "", EVERY),
    ("GET", "/v1/cluster", "", &["watcher"]),
    ("GET", "/v1/cluster/events", "", &["watcher"]),
    ("DELETE", "/v1/cluster/nodes/{node}", "", NONE),
    ("POST", "/v1/cluster/nodes/{node}/lead", "", NONE),
    ("POST", "/v1/cluster/nodes/{node}/promote", "", NONE),
    ("GET", "/v1/consumers", "", EVERY),
    ("GET", "/v1/history", "", &["watcher"]),
    ("GET", LIVE, "", &["watcher"]),
    ("GET", "/v1/node", "", &["watcher"]),
    ("GET", "/v1/channels", "", EVERY),
    ("GET", "/v1/channels/{channel}", "", SEEING),
    ("PUT", "/v1/channels/{channel}", "", MANAGER),
    ("PATCH", "/v1/channels/{channel}", "{}", MANAGER),
    ("DELETE", "/v1/channels/{channel}", "", MANAGER),
    ("GET", "/v1/channels/{channel}/schemas", "", SEEING),
    ("POST", "/v1/channels/{channel}/schema/validate", "{}", READER),
    ("POST", "/v1/channels/{channel}/trim", r#"{"keep":1}"#, MANAGER),
    ("GET", "/v1/channels/{channel}/delayed", "", READER),
    ("DELETE", "/v1/channels/{channel}/delayed/{id}", "", MANAGER),
    ("POST", "/v1/channels/{channel}/messages", "1", PUBLISHER),
    ("GET", "/v1/channels/{channel}/messages", "", READER),
    ("GET", "/v1/channels/{channel}/events", "", READER),
    ("POST", "/v1/channels/{channel}/request", "1", PUBLISHER),
    ("POST", "/v1/replies/{inbox}", "1", &["reader", "consumer"]),
    ("POST", "/v1/transactions", r#"{"messages":[{"channel":"orders.none","payload":1}]}"#, PUBLISHER),
    ("GET", "/v1/ws", "", &["publisher", "reader"]),
    ("GET", "/v1/rules", "", EVERY),
    ("PUT", "/v1/rules/{source}/{target}", "", NONE),
    ("DELETE", "/v1/rules/{source}/{target}", "", MANAGER),
    ("GET", "/v1/claims", "", EVERY),
    ("GET", "/v1/claims/{namespace}", "", CLAIMER),
    ("PUT", "/v1/claims/{namespace}", "", NONE),
    ("DELETE", "/v1/claims/{namespace}", "", NONE),
    ("GET", "/v1/claims/{namespace}/{key}", "", CLAIMER),
    ("POST", "/v1/claims/{namespace}/{key}", r#"{"lease_ms":60000}"#, CLAIMER),
    ("POST", "/v1/claims/{namespace}/{key}/complete", r#"{"token":1}"#, CLAIMER),
    ("POST", "/v1/claims/{namespace}/{key}/release", r#"{"token":1}"#, CLAIMER),
    ("POST", "/v1/claims/{namespace}/{key}/renew", r#"{"token":1,"lease_ms":60000}"#, CLAIMER),
    ("GET", "/v1/channels/{channel}/consumers", "", SEEING),
    ("POST", "/v1/channels/{channel}/consumers", r#"{"name":"w"}"#, MANAGER),
    ("GET", "/v1/channels/{channel}/consumers/{consumer}", "", SEEING),
    ("PATCH", "/v1/channels/{channel}/consumers/{consumer}", "{}", MANAGER),
    ("DELETE", "/v1/channels/{channel}/consumers/{consumer}", "", MANAGER),
    ("GET", "/v1/channels/{channel}/consumers/{consumer}/members", "", SEEING),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/pull", "", CONSUMER),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/settle", r#"{"ack":["1.1.1"]}"#, CONSUMER),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/reset", r#"{"start":"latest"}"#, MANAGER),
    ("GET", "/v1/channels/{channel}/consumers/{consumer}/dead-letters", "", READER),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/redrive", "", NONE),
    ("GET", "/v1/tokens", "", NONE),
    ("POST", "/v1/tokens", r#"{"roles":["admin"]}"#, NONE),
    ("GET", "/v1/tokens/{id}", "", NONE),
    ("DELETE", "/v1/tokens/{id}", "", NONE),
    ("POST", "/v1/tokens/{id}/rotate", "", NONE),
    ("GET", "/v1/roles", "", NONE),
    ("GET", "/v1/roles/{role}", "", NONE),
    ("PUT", "/v1/roles/{role}", r#"{"grants":[]}"#, NONE),
    ("PATCH", "/v1/roles/{role}", r#"{"grants":[]}"#, NONE),
    ("DELETE", "/v1/roles/{role}", "", NONE),
    ("PUT", "/v1/roles/{role}/quota", "{}", NONE),
    ("DELETE", "/v1/roles/{role}/quota", "", NONE),
    ("GET", "/v1/can-i", "", EVERY),
];

/// Its answer has no end.
const LIVE: &str = "/v1/live";

/// A path with the names of things that are not there: whether a call is refused has nothing to do with that.
fn filled(path: &str) -> String {
    let channels =
        path.replace("/{channel}", "/orders.none").replace("{source}", "orders.a").replace("{target}", "orders.b");
    channels.replace("{namespace}", "jobs").replace("{id}", "00000000000000ff").replace(['{', '}'], "")
}

#[tokio::test]
async fn each_role_may_make_the_calls_that_it_grants_and_no_others_over_http() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let document = request(closed.node.http_address(), "GET", "/v1/openapi.json", &[], "").await.json();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |m| (m.to_uppercase(), path.clone())))
        .collect();
    let called = CALLS.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, called.collect(), "every call is tried");
    for (name, grant) in ROLES {
        let text = closed.token(name, &[grant]).await.text;
        for (method, path, body, allowed) in CALLS {
            let target = filled(path);
            if *path == LIVE && allowed.contains(&name) {
                let bearer = format!("Bearer {text}");
                let http = closed.node.http_address();
                let mut events = open(http, method, path, &[("Authorization", &bearer)], b"").await;
                until(&mut events, "200 OK").await;
                continue;
            }
            let answer = closed.ask(&text, method, &target, body).await;
            let refused = answer.status == 403;
            assert_eq!(refused, !allowed.contains(&name), "{name}: {method} {target}: {}", answer.body);
            assert!(!refused || answer.code().1 == "PERMISSION_DENIED", "{}", answer.body);
            assert_ne!(answer.status, 401, "{name}: {method} {target}");
            assert_ne!(answer.status, 500, "{name}: {method} {target}: {}", answer.body);
        }
    }
    closed.node.stop().await;
}

/// The paths of all calls over gRPC.
fn grpc_calls() -> Vec<String> {
    let files: prost_types::FileDescriptorSet = prost::Message::decode(v1::DESCRIPTORS).unwrap();
    let services = files.file.iter().flat_map(|file| file.service.iter().map(move |service| (file, service)));
    let calls = services.flat_map(|(file, service)| {
        let path = |name: &str| format!("/{}.{}/{name}", file.package(), service.name());
        service.method.iter().map(move |method| path(method.name())).collect::<Vec<_>>()
    });
    calls.collect()
}

/// The code of an empty request; none where it was answered.
pub async fn call(channel: &Channel, path: &str, token: Option<&str>) -> Option<Code> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let empty = || v1::ListRulesRequest {};
    let request = token.map_or_else(|| Request::new(empty()), |token| with(token, empty()));
    let codec = ProstCodec::<v1::ListRulesRequest, v1::DeleteRoleResponse>::default();
    let answer = client.server_streaming(request, PathAndQuery::try_from(path).unwrap(), codec).await;
    answer.err().map(|status| status.code())
}

#[tokio::test]
async fn each_call_over_grpc_asks_for_a_token_and_for_a_right() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let channel = closed.channel().await;
    let watcher = closed.token("watcher", &["cluster=read"]).await.text;
    // What every token may ask, though not about every channel, and what this role grants.
    let answered = ["ClusterStatus", "ListEvents", "ListChannels", "ListRules", "ListClaimNamespaces", "CanI"];
    let mut denied = 0;
    for path in grpc_calls() {
        assert_eq!(call(&channel, &path, None).await, Some(Code::Unauthenticated), "{path}");
        let code = call(&channel, &path, Some(&watcher)).await;
        let name = path.rsplit('/').next().unwrap();
        if answered.contains(&name) {
            assert!(!matches!(code, Some(Code::Unauthenticated | Code::PermissionDenied)), "{path}: {code:?}");
        } else {
            assert_eq!(code, Some(Code::PermissionDenied), "{path}");
            denied += 1;
        }
    }
    assert!(denied > 40, "{denied}");
    assert_eq!(call(&channel, "/grpc.health.v1.Health/Check", None).await, None, "monitoring needs no token");
    closed.node.stop().await;
}
