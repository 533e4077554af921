//! What every response carries, reflection, health, readiness, metrics and limits of connections.

use std::sync::Arc;

use liminal::{
    model::Limits,
    proto::v1,
    store::{FaultyStore, MemoryStore},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{PATIENCE, client, node, node_over};

/// Status line and body of a GET.
async fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_node_that_stops_says_whether_its_state_is_durable() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let node = node_over(Limits::default(), store.clone()).await;
    store.fail_flushes(true);
    let error = node.finish().await.unwrap_err();
    assert!(error.to_string().contains("injected fault"), "{error}");
    node_over(Limits::default(), Arc::new(MemoryStore::new())).await.finish().await.unwrap();
}

#[tokio::test]
async fn every_response_names_the_leader_and_every_error_has_a_stable_code() {
    let node = node(Limits::default()).await;
    let mut client = client(&node).await;
    let leader = format!("n1;{}", node.client_address());
    let message = Some(v1::Message { payload: "a".into(), ..v1::Message::default() });
    let request = v1::PublishRequest { channel: "orders".into(), message, confirm: 0, expected_seq: None };
    let response = client.publish(request.clone()).await.unwrap();
    assert_eq!(response.metadata().get("liminal-leader").unwrap(), leader.as_str());
    for (channel, code) in
        [("ordres", "CHANNEL_NOT_FOUND"), ("", "INVALID_CHANNEL_NAME"), ("a b", "INVALID_CHANNEL_NAME")]
    {
        let error =
            client.publish(v1::PublishRequest { channel: channel.into(), ..request.clone() }).await.unwrap_err();
        assert_eq!(error.metadata().get("liminal-code").unwrap(), code);
        assert_eq!(error.metadata().get("liminal-leader").unwrap(), leader.as_str());
    }
    // Refused by the gRPC library before the service sees it.
    let large = Some(v1::Message { payload: vec![0; 8 << 20].into(), ..v1::Message::default() });
    let error = client.publish(v1::PublishRequest { message: large, ..request }).await.unwrap_err();
    assert_eq!(error.metadata().get("liminal-code").unwrap(), "LIMIT_EXCEEDED");
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_first_says_where_it_begins() {
    let node = node(Limits { subscriptions_per_connection: 1, ..Limits::default() }).await;
    let mut client = client(&node).await;
    let request = v1::SubscribeRequest { channel: "orders".into(), ..v1::SubscribeRequest::default() };
    let mut stream = client.subscribe(request.clone()).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.first_seq, first.count), (0, 0));
    let error = client.subscribe(request.clone()).await.unwrap_err();
    assert_eq!(error.metadata().get("liminal-code").unwrap(), "LIMIT_EXCEEDED");
    drop(stream);
    let again = async { while client.subscribe(request.clone()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("an ended subscription makes room");
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services_and_the_standard_health_service_follows_readiness() {
    let node = node(Limits::default()).await;
    let endpoint = tonic::transport::Endpoint::new(format!("http://{}", node.client_address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("no list") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["liminal.v1.Broker", "liminal.v1.Channels", "liminal.v1.Admin"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    let mut health = HealthClient::new(channel);
    for service in ["", "liminal.v1.Broker"] {
        let mut watch = health.watch(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        let serving = async { while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {} };
        tokio::time::timeout(PATIENCE, serving).await.expect("it serves");
    }
    let error = health.check(HealthCheckRequest { service: "other".into() }).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    drop((health, reflection));
    node.stop().await;
}

#[tokio::test]
async fn http_tells_health_readiness_and_metrics() {
    let node = node(Limits::default()).await;
    client(&node)
        .await
        .read(v1::ReadRequest { channel: "nowhere".into(), ..v1::ReadRequest::default() })
        .await
        .unwrap_err();
    let message = liminal::broker::Envelope { payload: "a".into(), ..Default::default() };
    node.broker().publish("orders", message.clone(), Some("k")).await.unwrap();
    node.broker().publish("orders", message.clone(), Some("k")).await.unwrap();
    node.broker().publish("nowhere", message, None).await.unwrap_err();
    let http = node.http_address();
    assert_eq!(get(http, "/health").await, ("HTTP/1.1 200 OK".into(), r#"{"status":"ok"}"#.into()));
    assert_eq!(get(http, "/ready").await, ("HTTP/1.1 200 OK".into(), r#"{"status":"ready"}"#.into()));
    let (status, metrics) = get(http, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "# TYPE liminal_published_messages_total counter",
        "liminal_published_messages_total 1",
        "liminal_duplicate_messages_total 1",
        r#"liminal_failed_messages_total{code="CHANNEL_NOT_FOUND"} 1"#,
        "liminal_in_flight_bytes 0",
        "liminal_raft_leader 1",
        "liminal_ready 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("# EOF"), "nobody asked for OpenMetrics");
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")];
    let open = super::http::request(http, "GET", "/metrics", &accept, "").await;
    assert!(open.head.to_lowercase().contains("content-type: application/openmetrics-text"), "{}", open.head);
    assert!(open.body.contains("# TYPE liminal_published_messages counter\n") && open.body.ends_with("# EOF\n"));
    assert_eq!(get(http, "/nowhere").await.0, "HTTP/1.1 404 Not Found");
    node.stop().await;
}
