//! Consumers over gRPC and HTTP.

use liminal::{
    model::Limits,
    node::Node,
    proto::v1::{self, consumers_client::ConsumersClient},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{batch, client, http::request, node};

async fn consumers(node: &Node) -> ConsumersClient<Channel> {
    ConsumersClient::connect(format!("http://{}", node.client_address())).await.unwrap()
}

async fn publish(node: &Node, payloads: &[&str]) {
    let mut client = client(node).await;
    let batches = futures::stream::iter([batch(payloads)]);
    let mut acks = client.publish_stream(batches).await.unwrap().into_inner();
    while acks.message().await.unwrap().is_some() {}
}

fn create(name: &str) -> v1::CreateConsumerRequest {
    v1::CreateConsumerRequest { channel: "orders".into(), name: name.into(), ..Default::default() }
}

fn settlement(token: &str, verdict: v1::Verdict) -> v1::Settlement {
    v1::Settlement { token: token.into(), verdict: verdict.into(), ..Default::default() }
}

#[tokio::test]
async fn a_stream_hands_on_as_much_as_it_has_credit_for_and_answers_each_settlement_in_order() {
    let node = node(Limits::default()).await;
    let mut client = consumers(&node).await;
    client.create_consumer(create("w")).await.unwrap();
    publish(&node, &["a", "b", "c"]).await;
    let (requests, receiver) = mpsc::channel(4);
    let open = v1::ConsumeOpen { channel: "orders".into(), consumer: "w".into(), credit: 2, ..Default::default() };
    requests.send(v1::ConsumeRequest { open: Some(open), ..Default::default() }).await.unwrap();
    let mut responses = client.consume(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap(), Some(v1::ConsumeResponse::default()), "it is a member");
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(responses.message().await.unwrap().unwrap().deliveries);
    }
    let payloads: Vec<_> = got.iter().map(|delivery| delivery.message.as_ref().unwrap().payload.clone()).collect();
    assert_eq!((payloads, got[0].attempt), (vec!["a".into(), "b".into()], 1));
    let places: Vec<_> =
        got.iter().map(|delivery| delivery.position.map(|position| (position.epoch, position.seq))).collect();
    assert_eq!(places, [Some((1, 0)), Some((1, 1))]);
    let settlements = vec![
        settlement(&got[0].token, v1::Verdict::Ack),
        settlement("nonsense", v1::Verdict::Ack),
        settlement("1.7.9", v1::Verdict::Ack),
        settlement(&got[1].token, v1::Verdict::Ack),
    ];
    requests.send(v1::ConsumeRequest { settlements, ..Default::default() }).await.unwrap();
    let (mut results, mut more) = (Vec::new(), Vec::new());
    while results.len() < 4 || more.is_empty() {
        let response = responses.message().await.unwrap().unwrap();
        results.extend(response.results);
        more.extend(response.deliveries);
    }
    let codes: Vec<_> = results.iter().map(|result| result.error.as_ref().map(|error| error.code.as_str())).collect();
    assert_eq!(codes, [None, Some("INVALID_ARGUMENT"), Some("STALE_DELIVERY"), None]);
    assert_eq!(more[0].seq, 2, "an ack makes room for the next");
    // A client that is done gets its answers, and then the end.
    let settlements = vec![settlement(&more[0].token, v1::Verdict::Ack)];
    requests.send(v1::ConsumeRequest { settlements, ..Default::default() }).await.unwrap();
    drop(requests);
    let mut left = 0;
    while let Some(response) = responses.message().await.unwrap() {
        left += response.results.len();
    }
    assert_eq!(left, 1);
    let get = v1::GetConsumerRequest { channel: "orders".into(), name: "w".into() };
    let shown = client.get_consumer(get).await.unwrap().into_inner().consumer.unwrap();
    assert_eq!((shown.lag, shown.next_seq, shown.in_flight), (0, 3, 0));
    node.stop().await;
}

#[tokio::test]
async fn what_a_client_had_not_begun_when_its_stream_broke_off_has_cost_no_attempt() {
    let node = node(Limits::default()).await;
    let mut client = consumers(&node).await;
    let config = Some(v1::ConsumerConfig { max_attempts: 3, ..Default::default() });
    let made = client.create_consumer(v1::CreateConsumerRequest { config, ..create("w") }).await.unwrap().into_inner();
    let config = made.consumer.unwrap().config.unwrap();
    assert_eq!((config.dead_letter.as_str(), config.drop_dead), ("orders.dead", false));
    publish(&node, &["a", "b", "c"]).await;
    let (requests, receiver) = mpsc::channel(4);
    let open = v1::ConsumeOpen { channel: "orders".into(), consumer: "w".into(), credit: 3, reports_begun: true };
    requests.send(v1::ConsumeRequest { open: Some(open), ..Default::default() }).await.unwrap();
    let mut responses = client.consume(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().report_begun);
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(responses.message().await.unwrap().unwrap().deliveries);
    }
    let settlements = vec![settlement(&got[1].token, v1::Verdict::Begun)];
    requests.send(v1::ConsumeRequest { settlements, ..Default::default() }).await.unwrap();
    let answer = responses.message().await.unwrap().unwrap();
    assert_eq!((answer.results.len(), &answer.results[0].error), (1, &None));
    // Gone without having said that nothing else was begun.
    drop((responses, requests));
    let mut client = consumers(&node).await;
    let mut again = std::collections::BTreeMap::new();
    while again.len() < 3 {
        let pull = v1::PullRequest { channel: "orders".into(), consumer: "w".into(), max: 3, wait_ms: 1_000 };
        let pulled = client.pull(pull).await.unwrap().into_inner().deliveries;
        again.extend(pulled.into_iter().map(|delivery| (delivery.seq, delivery.attempt)));
    }
    // `a` was the first of which nothing was said: work on it may have begun.
    assert_eq!(again.into_iter().collect::<Vec<_>>(), [(0, 2), (1, 2), (2, 1)]);
    node.stop().await;
}

#[tokio::test]
async fn errors_have_their_codes_and_a_stream_without_a_consumer_says_so() {
    let node = node(Limits { consumers_per_channel: 1, ..Limits::default() }).await;
    let mut client = consumers(&node).await;
    client.create_consumer(create("w")).await.unwrap();
    let code = |status: tonic::Status| {
        (status.code(), status.metadata().get("liminal-code").unwrap().to_str().unwrap().to_owned())
    };
    let config = Some(v1::ConsumerConfig { max_attempts: 3, ..Default::default() });
    let exists = client.create_consumer(v1::CreateConsumerRequest { config, ..create("w") }).await.unwrap_err();
    assert_eq!(code(exists), (tonic::Code::AlreadyExists, "CONSUMER_EXISTS".into()));
    let many = client.create_consumer(create("v")).await.unwrap_err();
    assert_eq!(code(many), (tonic::Code::InvalidArgument, "LIMIT_EXCEEDED".into()));
    let name = client.create_consumer(create("a/b")).await.unwrap_err();
    assert_eq!(code(name), (tonic::Code::InvalidArgument, "INVALID_CONSUMER_NAME".into()));
    let open = v1::ConsumeOpen { channel: "orders".into(), consumer: "none".into(), credit: 1, ..Default::default() };
    let requests = futures::stream::iter([v1::ConsumeRequest { open: Some(open), ..Default::default() }]);
    let mut responses = client.consume(requests).await.unwrap().into_inner();
    let missing = responses.message().await.unwrap_err();
    assert_eq!(code(missing), (tonic::Code::NotFound, "CONSUMER_NOT_FOUND".into()));
    node.stop().await;
}

#[tokio::test]
async fn a_token_of_a_consumer_that_was_made_again_settles_nothing_of_the_new_one() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let base = "/v1/channels/orders/consumers";
    publish(&node, &["1"]).await;
    let mut tokens = Vec::new();
    for round in 0..2 {
        assert_eq!(request(http, "POST", base, &[], r#"{"name":"w"}"#).await.status, 200);
        let pulled = request(http, "POST", &format!("{base}/w/pull?wait=30s"), &[], "").await.json();
        let message = &pulled["messages"][0];
        assert!(message["position"].as_str().unwrap().ends_with(".0"), "{message}");
        tokens.push(message["token"].as_str().unwrap().to_owned());
        if round == 0 {
            request(http, "DELETE", &format!("{base}/w"), &[], "").await;
        }
    }
    // It waits with nobody, so that a late ack would be taken for it.
    let nack = json!({"nack": [{"token": tokens[1], "delay_ms": 600_000}]}).to_string();
    request(http, "POST", &format!("{base}/w/settle"), &[], nack).await;
    let ack = json!({"ack": [tokens[0]]}).to_string();
    let stale = request(http, "POST", &format!("{base}/w/settle"), &[], ack).await.json();
    let error = &stale["stale"][0]["error"];
    assert_eq!((&stale["settled"], &error["code"]), (&json!(0), &json!("STALE_DELIVERY")));
    assert!(error["detail"].as_str().unwrap().contains("another consumer"), "{error}");
    let mut client = consumers(&node).await;
    let settlements = tokens.iter().map(|token| settlement(token, v1::Verdict::Ack)).collect();
    let request = v1::SettleRequest { channel: "orders".into(), consumer: "w".into(), settlements };
    let results = client.settle(request).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| result.error.as_ref().map(|error| error.code.as_str())).collect();
    assert_eq!(codes, [Some("STALE_DELIVERY"), None]);
    node.stop().await;
}

#[tokio::test]
async fn what_a_consumer_gives_up_is_in_the_metrics_however_many_consumers_are_further_behind() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let base = "/v1/channels/orders/consumers";
    for number in 0..100 {
        let create = json!({"name": format!("behind{number}")}).to_string();
        assert_eq!(request(http, "POST", base, &[], create).await.status, 200);
    }
    let mortal = json!({"name": "z", "max_attempts": 1, "start": "earliest"}).to_string();
    assert_eq!(request(http, "POST", base, &[], mortal).await.status, 200);
    // The leader looks at them before there is anything to tell, as it does in a running cluster.
    request(http, "GET", "/metrics", &[], "").await;
    publish(&node, &["poison"]).await;
    let pulled = request(http, "POST", &format!("{base}/z/pull?wait=30s"), &[], "").await.json();
    let nack = json!({"nack": [{"token": pulled["messages"][0]["token"]}]});
    request(http, "POST", &format!("{base}/z/settle"), &[], nack.to_string()).await;
    let others = r#"{channel="(others)",consumer="(others)"}"#;
    let told = async {
        loop {
            let metrics = request(http, "GET", "/metrics", &[], "").await.body;
            if metrics.contains(&format!("liminal_consumer_dead_letters_total{others} 1")) {
                return metrics;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let metrics = tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("it is told");
    for name in ["dying", "lag", "pending", "redeliveries_total", "lost_messages_total"] {
        assert!(metrics.contains(&format!("liminal_consumer_{name}{others} 0")), "{name}: {metrics}");
    }
    node.stop().await;
}

#[tokio::test]
async fn over_http_messages_are_pulled_and_settled_by_their_tokens() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let base = "/v1/channels/orders/consumers";
    let made =
        request(http, "POST", base, &[], r#"{"name":"w","max_attempts":3,"order":"key","order_header":"user"}"#).await;
    assert_eq!((made.status, &made.json()["order_header"]), (200, &json!("user")));
    publish(&node, &["1", "2"]).await;
    let pulled = request(http, "POST", &format!("{base}/w/pull?max=5&wait=30s"), &[], "").await.json();
    let messages = pulled["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[0]["payload"], &messages[0]["attempt"]), (2, &json!(1), &json!(1)));
    let settle = json!({"ack": [messages[0]["token"]], "nack": [{"token": messages[1]["token"], "reason": "busy"}]});
    let settled = request(http, "POST", &format!("{base}/w/settle"), &[], settle.to_string()).await;
    assert_eq!(settled.json(), json!({"settled": 2, "stale": []}));
    let again = request(http, "POST", &format!("{base}/w/pull?wait=30s"), &[], "").await.json();
    assert_eq!((&again["messages"][0]["seq"], &again["messages"][0]["attempt"]), (&json!(1), &json!(2)));
    let late = json!({"ack": [messages[1]["token"]]});
    let late = request(http, "POST", &format!("{base}/w/settle"), &[], late.to_string()).await.json();
    assert_eq!((&late["settled"], &late["stale"][0]["error"]["code"]), (&json!(0), &json!("STALE_DELIVERY")));
    let none = request(http, "POST", &format!("{base}/w/pull"), &[], "").await.json();
    assert_eq!(none, json!({"messages": []}));
    let patched = request(http, "PATCH", &format!("{base}/w"), &[], r#"{"max_in_flight":9}"#).await.json();
    assert_eq!((&patched["max_in_flight"], &patched["max_attempts"]), (&json!(9), &json!(3)));
    let mail = request(http, "POST", "/v1/claims/mails/1", &[], r#"{"lease_ms":600000}"#).await.json();
    let whole = json!({
        "messages": [{"channel": "orders", "payload": "done"}],
        "ack": [{"channel": "orders", "consumer": "w", "token": again["messages"][0]["token"]}],
        "complete": [{"namespace": "mails", "key": "1", "token": mail["token"], "receipt": {"sent": true}}],
    });
    let done = request(http, "POST", "/v1/transactions", &[], whole.to_string()).await.json();
    assert_eq!(done["messages"][0]["seq"], 2);
    let receipt = request(http, "GET", "/v1/claims/mails/1", &[], "").await.json();
    assert_eq!(receipt["receipt"], json!({"sent": true}));
    let twice = request(http, "POST", "/v1/transactions", &[], whole.to_string()).await;
    assert_eq!(twice.code(), (409, "STALE_DELIVERY".into()));
    assert!(twice.json()["detail"].as_str().unwrap().starts_with("ack 0 of the transaction: "), "{}", twice.body);
    let tokenless = json!({"ack": [{"channel": "orders", "consumer": "w"}]});
    assert_eq!(request(http, "POST", "/v1/transactions", &[], tokenless.to_string()).await.code().0, 400);
    let reset = request(http, "POST", &format!("{base}/w/reset"), &[], r#"{"start":"earliest"}"#).await.json();
    assert_eq!(reset["lag"], 3);
    let listed = request(http, "GET", base, &[], "").await.json();
    assert_eq!(listed["consumers"][0]["name"], "w");
    let many = json!({"ack": vec!["1.1.1"; Limits::SETTLEMENTS + 1]}).to_string();
    let refused = request(http, "POST", &format!("{base}/w/settle"), &[], many).await;
    assert_eq!(refused.code(), (413, "LIMIT_EXCEEDED".into()), "{}", refused.body);
    let metrics = request(http, "GET", "/metrics", &[], "").await.body;
    assert!(metrics.contains(r#"liminal_consumer_lag{channel="orders",consumer="w"} 3"#), "{metrics}");
    assert_eq!(request(http, "DELETE", &format!("{base}/w"), &[], "").await.status, 204);
    assert_eq!(request(http, "GET", &format!("{base}/w"), &[], "").await.code(), (404, "CONSUMER_NOT_FOUND".into()));
    assert_eq!(request(http, "POST", &format!("{base}/w/settle"), &[], "{}").await.code().0, 400);
    node.stop().await;
}
