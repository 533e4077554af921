//! Lists of names come in pages, so that no answer is as long as its list.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use liminal::{
    client::Client,
    config::ServerConfig,
    env::Env,
    model::Limits,
    node::{Node, Storage},
    raft::{
        Identity,
        log::{SimDisk, SimLog},
    },
    store::MemoryStore,
};
use serde_json::{Value, json};

use super::{http::request, node};

/// More than one page holds.
const MANY: usize = Limits::LIST_ITEMS + 5;

fn names(page: &Value, of: &str) -> Vec<String> {
    page[of].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn channels_come_in_pages_by_name() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let made = stream::iter(0..MANY).map(|number| {
        let broker = node.broker().clone();
        async move { broker.create_channel(&format!("c{number:05}"), Default::default()).await }
    });
    made.buffer_unordered(128).try_collect::<Vec<_>>().await.unwrap();
    let first = request(http, "GET", "/v1/channels", &[], "").await.json();
    assert_eq!(names(&first, "channels").len(), Limits::LIST_ITEMS);
    let after = first["next_after"].as_str().unwrap();
    let rest = request(http, "GET", &format!("/v1/channels?after={after}"), &[], "").await.json();
    assert_eq!((names(&rest, "channels").len(), &rest["next_after"]), (MANY + 1 - Limits::LIST_ITEMS, &Value::Null));
    let two = request(http, "GET", "/v1/channels?after=c00007&limit=2", &[], "").await.json();
    assert_eq!(
        (names(&two, "channels"), &two["next_after"]),
        (vec!["c00008".into(), "c00009".into()], &json!("c00009"))
    );
    let beyond = request(http, "GET", "/v1/channels?after=zzz", &[], "").await.json();
    assert_eq!((names(&beyond, "channels").len(), &beyond["next_after"]), (0, &Value::Null));
    let client = Client::connect([format!("http://{}", node.client_address())]).await.unwrap();
    let all = client.list_channels().await.unwrap();
    assert_eq!(all.len(), MANY + 1, "`orders` is there too");
    assert!(all.is_sorted_by_key(|channel| channel.name.clone()));
    node.stop().await;
}

#[tokio::test]
async fn a_page_ends_early_where_schemas_are_long() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let long = format!(r#"{{"schema":{{"description":"{}"}}}}"#, "x".repeat(60_000));
    for number in 0..20 {
        let made = request(http, "PUT", &format!("/v1/channels/long{number:02}"), &[], &long).await;
        assert_eq!(made.status, 200, "{}", made.body);
    }
    let first = request(http, "GET", "/v1/channels", &[], "").await.json();
    let listed = names(&first, "channels").len();
    assert!((2..20).contains(&listed), "{listed}");
    assert_eq!(first["next_after"], json!(names(&first, "channels")[listed - 1]));
    node.stop().await;
}

#[tokio::test]
async fn consumers_come_in_pages_by_name() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let base = "/v1/channels/orders/consumers";
    for name in ["a", "b", "c"] {
        request(http, "POST", base, &[], json!({ "name": name }).to_string()).await;
    }
    let two = request(http, "GET", &format!("{base}?limit=2"), &[], "").await.json();
    assert_eq!((names(&two, "consumers"), &two["next_after"]), (vec!["a".into(), "b".into()], &json!("b")));
    let rest = request(http, "GET", &format!("{base}?limit=2&after=b"), &[], "").await.json();
    assert_eq!((names(&rest, "consumers"), &rest["next_after"]), (vec!["c".into()], &Value::Null));
    let wrong = request(http, "GET", &format!("{base}?limit=x"), &[], "").await;
    assert_eq!(wrong.status, 400);
    let client = Client::connect([format!("http://{}", node.client_address())]).await.unwrap();
    assert_eq!(client.list_consumers("orders").await.unwrap().len(), 3);
    node.stop().await;
}

#[tokio::test]
async fn all_schemas_together_have_a_limit() {
    let limits = Limits { all_schemas_bytes: 3_000, ..Limits::default() };
    let node = node(limits).await;
    let http = node.http_address();
    let schema = |bytes: usize| format!(r#"{{"schema":{{"description":"{}"}}}}"#, "x".repeat(bytes));
    assert_eq!(request(http, "PUT", "/v1/channels/a", &[], schema(1_400)).await.status, 200);
    assert_eq!(request(http, "PUT", "/v1/channels/b", &[], schema(1_400)).await.status, 200);
    let third = request(http, "PUT", "/v1/channels/c", &[], schema(1_400)).await;
    assert_eq!(third.code(), (413, "LIMIT_EXCEEDED".into()));
    assert!(third.body.contains("the schemas of all channels together"), "{}", third.body);
    assert_eq!(request(http, "PATCH", "/v1/channels/b", &[], schema(1_500)).await.status, 200, "its own goes");
    assert_eq!(request(http, "DELETE", "/v1/channels/a", &[], "").await.status, 204);
    assert_eq!(request(http, "PUT", "/v1/channels/c", &[], schema(1_400)).await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn what_adds_nothing_to_the_schemas_is_taken_whatever_the_limit_has_become() {
    let (disk, store) = (SimDisk::default(), Arc::new(MemoryStore::new()));
    let env = Env::real();
    let identity = Identity::in_memory("n1", &env);
    let start = |all_schemas_bytes: usize| {
        let config = ServerConfig {
            listen_address: "127.0.0.1:0".into(),
            health_listen_address: "127.0.0.1:0".into(),
            limits: Limits { all_schemas_bytes, ..Limits::default() },
            ..ServerConfig::default()
        };
        let storage = Storage::of(Arc::new(SimLog::open(&disk)), store.clone(), identity.clone());
        Node::start(config, env.clone(), storage)
    };
    let schema = |bytes: usize| format!(r#"{{"schema":{{"description":"{}"}}}}"#, "x".repeat(bytes));
    let node = start(10_000).await.unwrap();
    for name in ["a", "b"] {
        let made = request(node.http_address(), "PUT", &format!("/v1/channels/{name}"), &[], schema(1_400)).await;
        assert_eq!(made.status, 200, "{}", made.body);
    }
    node.stop().await;
    let node = start(2_000).await.unwrap();
    let http = node.http_address();
    let ask = |method: &'static str, name: &str, bytes: usize| {
        let (target, body) = (format!("/v1/channels/{name}"), schema(bytes));
        async move { request(http, method, &target, &[], body).await }
    };
    assert_eq!(ask("PUT", "a", 1_400).await.status, 200, "it is there already");
    assert_eq!(ask("PUT", "a", 1_500).await.code(), (409, "CHANNEL_EXISTS".into()));
    assert_eq!(ask("PATCH", "a", 1_401).await.code(), (413, "LIMIT_EXCEEDED".into()));
    assert_eq!(ask("PUT", "c", 1).await.code(), (413, "LIMIT_EXCEEDED".into()));
    assert_eq!(ask("PATCH", "a", 1_399).await.status, 200, "it becomes less");
    let plain = request(http, "PATCH", "/v1/channels/b", &[], r#"{"compatibility":"none"}"#).await;
    assert_eq!(plain.status, 200, "{}", plain.body);
    node.stop().await;
}
