//! Tokens and roles, seen from outside: who is let in, what each role may do, and what ends when a token does.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use liminal::{
    broker::TokenText,
    client::{Client, Grant, Role},
    config::{SecurityConfig, ServerConfig},
    env::Env,
    model::{Action, SecurityMode},
    node::Node,
    proto::v1::{self, broker_client::BrokerClient, consumers_client::ConsumersClient},
    store::MemoryStore,
};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message as Frame, client::IntoClientRequest as _, http::HeaderValue},
};
use tonic::{Code, Request, transport::Channel};

use super::{
    PATIENCE, batch,
    http::{Answer, open, request, until},
    rights::call,
    start,
};

/// A node that asks for tokens, and its first administrator.
pub struct Closed {
    pub node: Node,
    /// The text of the token that the configuration knows.
    bootstrap: String,
    pub admin: Client,
}

impl Closed {
    pub async fn start(mode: SecurityMode) -> Self {
        let bootstrap = TokenText::random(&*Env::real().random);
        let security = SecurityConfig {
            mode,
            insecure: false,
            bootstrap_token_hash: Some(bootstrap.hash()),
            ..SecurityConfig::default()
        };
        let config = ServerConfig { security, ..ServerConfig::default() };
        let node = start(config, Arc::new(MemoryStore::new())).await;
        let first = connect(&node, bootstrap.reveal()).await;
        let admin = first.create_token("first", vec!["admin".into()], None).await.unwrap();
        let admin = connect(&node, &admin.text).await;
        Self { node, bootstrap: bootstrap.reveal().to_owned(), admin }
    }

    /// A token of a role that grants this.
    pub async fn token(&self, name: &str, grants: &[&str]) -> v1::CreateTokenResponse {
        self.admin.create_role(role(name, grants)).await.unwrap();
        let made = self.admin.create_token(name, vec![name.into()], None).await.unwrap();
        v1::CreateTokenResponse { token: Some(made.token.into()), text: made.text }
    }

    /// A token of an administrator.
    pub async fn admin_token(&self) -> String {
        self.admin.create_token("second", vec!["admin".into()], None).await.unwrap().text
    }

    pub async fn admin_metrics(&self) -> String {
        let token = self.admin_token().await;
        self.ask(&token, "GET", "/metrics", "").await.body
    }

    pub async fn ask(&self, token: &str, method: &str, target: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        request(self.node.http_address(), method, target, &[("Authorization", &bearer)], body).await
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.node.client_address())).unwrap().connect().await.unwrap()
    }
}

fn role(name: &str, grants: &[&str]) -> Role {
    let grant = |text: &&str| {
        let (scope, actions) = text.split_once('=').unwrap();
        Grant::new().scope(scope).actions(actions.split(',').map(str::to_owned).collect())
    };
    Role::new().name(name).grants(grants.iter().map(grant).collect())
}

fn id(made: &v1::CreateTokenResponse) -> &str {
    &made.token.as_ref().unwrap().id
}

async fn connect(node: &Node, token: &str) -> Client {
    let builder = Client::builder().servers([format!("http://{}", node.client_address())]).token(token);
    builder.retry_for(Duration::from_secs(1)).connect().await.unwrap()
}

pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn a_closed_node_answers_its_monitoring_and_nobody_else() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let http = closed.node.http_address();
    for open in ["/health", "/v1/openapi.json", "/"] {
        assert_eq!(request(http, "GET", open, &[], "").await.status, 200, "{open}");
    }
    assert!([200, 503].contains(&request(http, "GET", "/ready", &[], "").await.status));
    let wrong = format!("Bearer lim_00000000000000ff_{}", "A".repeat(43));
    let closed_to = async |target: &str, headers: &[(&str, &str)]| {
        let answer = request(http, "GET", target, headers, "").await;
        assert_eq!(answer.code(), (401, "UNAUTHENTICATED".into()), "{target}");
        assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{}", answer.head);
    };
    for target in ["/metrics", "/v1/channels", "/v1/channels/orders/messages", "/v1/nothing"] {
        closed_to(target, &[]).await;
    }
    for token in [wrong.as_str(), "Bearer nonsense"] {
        closed_to("/v1/channels", &[("Authorization", token)]).await;
    }
    let stranger = Client::connect([format!("http://{}", closed.node.client_address())]).await.unwrap();
    assert_eq!(stranger.list_channels().await.unwrap_err().code(), "UNAUTHENTICATED");
    closed.node.stop().await;
}

/// Waits for the end of something, which has to be that nobody knows the caller any more.
async fn ends(what: &str, end: impl Future<Output = Code>) {
    let code = tokio::time::timeout(PATIENCE, end).await;
    assert_eq!(code.unwrap_or_else(|_| panic!("{what} goes on")), Code::Unauthenticated, "{what}");
}

#[tokio::test]
async fn a_revoked_token_ends_with_all_that_is_open_by_it() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let made = closed.token("holder", &["channel:orders=publish,read,consume,manage"]).await;
    let (text, channel) = (made.text.clone(), closed.channel().await);
    let create = closed.ask(&text, "POST", "/v1/channels/orders/consumers", r#"{"name":"w"}"#).await;
    assert_eq!(create.status, 200, "{}", create.body);

    let bearer = format!("Bearer {text}");
    let http = closed.node.http_address();
    let mut events = open(http, "GET", "/v1/channels/orders/events", &[("Authorization", &bearer)], b"").await;
    until(&mut events, "following").await;
    let subscribe = v1::SubscribeRequest { channel: "orders".into(), ..Default::default() };
    let subscribed = BrokerClient::new(channel.clone()).subscribe(with(&text, subscribe)).await;
    let mut deliveries = subscribed.unwrap().into_inner();
    deliveries.message().await.unwrap().unwrap();
    let opened = v1::ConsumeOpen { channel: "orders".into(), consumer: "w".into(), credit: 1, ..Default::default() };
    let opened = v1::ConsumeRequest { open: Some(opened), ..Default::default() };
    let requests = futures::stream::iter([opened]).chain(futures::stream::pending());
    let consumed = ConsumersClient::new(channel.clone()).consume(with(&text, requests)).await;
    let mut consumed = consumed.unwrap().into_inner();
    consumed.message().await.unwrap().unwrap();
    let batches = futures::stream::iter([batch(&["1"])]).chain(futures::stream::pending());
    let published = BrokerClient::new(channel.clone()).publish_stream(with(&text, batches)).await;
    let mut acks = published.unwrap().into_inner();
    assert!(acks.message().await.unwrap().unwrap().acks[0].ok.is_some());
    let mut upgrade = format!("ws://{http}/v1/ws").into_client_request().unwrap();
    let offered = HeaderValue::from_str(&format!("liminal.v1, liminal.bearer.{text}")).unwrap();
    upgrade.headers_mut().insert("sec-websocket-protocol", offered);
    let (mut socket, answer) = connect_async(upgrade).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "liminal.v1", "the token is not sent back");

    closed.admin.revoke_token(id(&made)).await.unwrap();
    let subscription = async {
        loop {
            match deliveries.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    };
    ends("the subscription", subscription).await;
    let member = async {
        loop {
            match consumed.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    };
    ends("the consumer's member", member).await;
    ends("the publisher", async { acks.message().await.unwrap_err().code() }).await;
    until(&mut events, "UNAUTHENTICATED").await;
    let closing = async {
        loop {
            match socket.next().await {
                Some(Ok(Frame::Close(Some(frame)))) => return frame.code,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(u16::from(tokio::time::timeout(PATIENCE, closing).await.unwrap()), 1008);
    assert_eq!(closed.ask(&text, "GET", "/v1/channels", "").await.code(), (401, "UNAUTHENTICATED".into()));
    closed.node.stop().await;
}

#[tokio::test]
async fn a_role_that_is_changed_holds_at_once_for_what_is_open() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let made = closed.token("holder", &["channel:orders=publish,read"]).await;
    let holder = connect(&closed.node, &made.text).await;
    let (http, bearer) = (closed.node.http_address(), format!("Bearer {}", made.text));
    let mut events = open(http, "GET", "/v1/channels/orders/events", &[("Authorization", &bearer)], b"").await;
    until(&mut events, "following").await;
    closed.admin.update_role(role("holder", &["channel:orders=publish"])).await.unwrap();
    until(&mut events, "PERMISSION_DENIED").await;
    let message = liminal::client::Message::new("1");
    holder.publish("orders", message).await.expect("what the role still grants goes on");
    let rotated = closed.admin.rotate_token(id(&made)).await.unwrap();
    assert_eq!(closed.ask(&made.text, "GET", "/v1/channels", "").await.status, 401, "the former text");
    assert_eq!(closed.ask(&rotated.text, "GET", "/v1/channels", "").await.status, 200);
    closed.node.stop().await;
}

#[tokio::test]
async fn nobody_learns_of_a_channel_that_is_not_theirs() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    for channel in ["secret", "mine"] {
        closed.admin.create_channel(channel, liminal::client::ChannelConfig::default()).await.unwrap();
    }
    closed.admin.put_rule(liminal::client::Rule::new().source("secret").target("mine")).await.unwrap();
    let text = closed.token("holder", &["channel:mine=read", "channel:secre=read"]).await.text;
    let listed = closed.ask(&text, "GET", "/v1/channels", "").await.json();
    let names: Vec<&Value> = listed["channels"].as_array().unwrap().iter().map(|channel| &channel["name"]).collect();
    assert_eq!(names, ["mine"]);
    assert_eq!(closed.ask(&text, "GET", "/v1/rules", "").await.json()["rules"], json!([]));
    let said = async |name: &str| {
        let answer = closed.ask(&text, "GET", &format!("/v1/channels/{name}/messages"), "").await;
        (answer.status, answer.body.replace(name, "NAME"))
    };
    assert_eq!(said("secret").await, said("nothing").await, "what is forbidden answers as what is not there");
    // A name that it may use, and that is almost the one that it may not know.
    let similar = closed.ask(&text, "GET", "/v1/channels/secre/messages", "").await;
    assert_eq!(similar.code(), (404, "CHANNEL_NOT_FOUND".into()));
    assert!(!similar.body.contains("secret"), "{}", similar.body);
    closed.node.stop().await;
}

#[tokio::test]
async fn the_token_of_the_configuration_makes_administrators_and_does_nothing_else() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let first = connect(&closed.node, &closed.bootstrap).await;
    assert_eq!(first.tokens().await.unwrap().len(), 1, "it is none of the state's tokens itself");
    assert_eq!(first.cluster_status().await.unwrap_err().code(), "PERMISSION_DENIED");
    assert_eq!(first.channel("orders").await.unwrap_err().code(), "PERMISSION_DENIED");
    let publish = first.publish("orders", liminal::client::Message::new("1")).await;
    assert_eq!(publish.unwrap_err().code(), "PERMISSION_DENIED");
    let backup = call(&closed.channel().await, "/liminal.v1.Admin/Backup", Some(&closed.bootstrap)).await;
    assert_eq!(backup, Some(Code::PermissionDenied), "a backup holds every message");
    closed.node.stop().await;
}

#[tokio::test]
async fn a_token_is_told_what_it_may_do_and_of_others_only_an_administrator() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let made = closed.token("holder", &["channel:orders.*=publish"]).await;
    let holder = connect(&closed.node, &made.text).await;
    for (action, scope, allowed) in [
        (Action::Publish, "channel:orders.eu", true),
        (Action::Read, "channel:orders.eu", false),
        (Action::Publish, "channel:orders", false),
        (Action::Claim, "claim:jobs", false),
        (Action::Admin, "cluster", false),
    ] {
        let own = holder.can_i(action.name(), scope, None).await.unwrap();
        let asked = closed.admin.can_i(action.name(), scope, Some(id(&made))).await.unwrap();
        assert_eq!((own.allowed, asked.allowed, own.reason.is_none()), (allowed, allowed, allowed), "{action} {scope}");
    }
    let admin = closed.admin.tokens().await.unwrap().into_iter().find(|token| token.roles == ["admin"]).unwrap();
    assert!(admin.used.is_some());
    let denied = holder.can_i("read", "cluster", Some(&admin.id)).await.unwrap_err();
    assert_eq!(denied.code(), "PERMISSION_DENIED");
    assert_eq!(holder.can_i("read", "channel:*", None).await.unwrap_err().code(), "INVALID_ARGUMENT");
    closed.node.stop().await;
}

#[tokio::test]
async fn a_rule_and_letters_need_the_rights_of_both_their_channels() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let text = closed.token("one", &["channel:orders=publish,read,consume,manage"]).await.text;
    let denied = (403, "PERMISSION_DENIED".to_owned());
    assert_eq!(closed.ask(&text, "PUT", "/v1/rules/orders/other", "").await.code(), denied);
    let consumers = "/v1/channels/orders/consumers";
    let elsewhere = r#"{"name":"w","dead_letter":"other"}"#;
    assert_eq!(closed.ask(&text, "POST", consumers, elsewhere).await.code(), denied);
    assert_eq!(closed.ask(&text, "POST", consumers, r#"{"name":"w"}"#).await.status, 200, "its own dead letters");
    assert_eq!(
        closed.ask(&text, "GET", &format!("{consumers}/w/dead-letters?dead_letter=other"), "").await.code(),
        denied
    );
    assert_eq!(closed.ask(&text, "POST", &format!("{consumers}/w/redrive"), r#"{"to":"other"}"#).await.code(), denied);
    assert_eq!(closed.ask(&text, "PATCH", "/v1/channels/orders", r#"{"quarantine":"other"}"#).await.code(), denied);
    let transaction = r#"{"messages":[{"channel":"orders","payload":1},{"channel":"other","payload":1}]}"#;
    assert_eq!(closed.ask(&text, "POST", "/v1/transactions", transaction).await.code(), denied);
    let page = closed.ask(&text, "GET", "/v1/channels/orders/messages", "").await.json();
    assert_eq!(page["messages"], json!([]), "nothing of the transaction was done");
    closed.node.stop().await;
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused_though_it_is_still_listed() {
    let closed = Closed::start(SecurityMode::Enforce).await;
    let lifetime = Some(Duration::from_millis(200));
    let made = closed.admin.create_token("short", vec!["admin".into()], lifetime).await.unwrap();
    let refused = async { while closed.ask(&made.text, "GET", "/v1/channels", "").await.status != 401 {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("it is refused");
    let answer = closed.ask(&made.text, "GET", "/v1/channels", "").await;
    assert!(answer.body.contains("has expired"), "{}", answer.body);
    assert!(closed.admin.token(&made.token.id).await.is_ok());
    closed.node.stop().await;
}

#[tokio::test]
async fn a_permissive_node_lets_everything_through_and_counts_what_it_would_refuse() {
    let closed = Closed::start(SecurityMode::Permissive).await;
    let http = closed.node.http_address();
    let counted = async |line: &str| {
        let metrics = request(http, "GET", "/metrics", &[], "").await.body;
        let found = metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse::<u64>().ok());
        found.unwrap_or_else(|| panic!("{line} is not in {metrics}"))
    };
    let before = counted("liminal_access_would_refuse_total").await;
    assert_eq!(request(http, "POST", "/v1/channels/orders/messages", &[], "1").await.status, 200);
    let wrong = [("Authorization", "Bearer nonsense")];
    assert_eq!(request(http, "GET", "/v1/channels/orders/messages", &wrong, "").await.status, 200);
    assert!(counted("liminal_access_would_refuse_total").await >= before + 2);
    assert_eq!(counted("liminal_access_refused_total{reason=\"wrong_token\"}").await, 1);
    assert_eq!(counted("liminal_access_refused_total{reason=\"denied\"}").await, 0);
    closed.node.stop().await;
}
