//! What rules copy many times.

use futures::stream::{self, StreamExt as _};
use liminal::{
    model::Frame,
    proto::v1::{self, broker_client::BrokerClient},
};

use super::Target;
use crate::raw::{code, http};

const RULES: usize = 990;
const LARGE: usize = 1_000_000;

/// Channels, and rules to all of them from one.
pub async fn rules(target: Target) {
    http(target.http(), "PUT", "/v1/channels/source", "", b"").await;
    let made = stream::iter(0..RULES).map(|number| {
        let target = target.clone();
        async move {
            let channel = http(target.http(), "PUT", &format!("/v1/channels/t{number}"), "", b"").await;
            assert_eq!(channel.0, 200, "{}", channel.1);
            http(target.http(), "PUT", &format!("/v1/rules/source/t{number}"), "", b"{}").await;
        }
    });
    made.buffer_unordered(64).collect::<Vec<_>>().await;
    let (_, rules) = http(target.http(), "GET", "/v1/rules", "", b"").await;
    assert_eq!(rules.matches(r#""source":"source""#).count(), RULES, "all rules are there");
}

/// Nothing of it may be there, at the source or elsewhere.
async fn nothing_is_stored(target: &Target) {
    for channel in ["source", "t0"] {
        let (status, shown) = http(target.http(), "GET", &format!("/v1/channels/{channel}"), "", b"").await;
        assert!(status == 200 && shown.contains("\"messages\":0"), "{channel}: {shown}");
    }
}

fn large() -> v1::Message {
    v1::Message { payload: vec![b'1'; LARGE].into(), ..v1::Message::default() }
}

pub async fn batch(target: Target) -> String {
    let mut broker = BrokerClient::connect(format!("http://{}", target.grpc())).await.unwrap();
    let batch = v1::PublishBatch {
        channel: "source".into(),
        batch: Frame::encode(&vec![large(); 4]).bytes(),
        ..v1::PublishBatch::default()
    };
    let answer = match broker.publish_stream(stream::iter([batch])).await {
        Ok(acks) => acks.into_inner().message().await,
        Err(status) => Err(status),
    };
    nothing_is_stored(&target).await;
    match answer {
        Ok(acks) => {
            acks.and_then(|acks| acks.acks.into_iter().next()?.error).map(|error| error.code).unwrap_or_default()
        }
        Err(status) => format!("{:?}", status.code()),
    }
}

pub async fn transaction(target: Target) -> String {
    let message = format!(r#"{{"channel":"source","payload":"{}"}}"#, "1".repeat(LARGE));
    let body = format!(r#"{{"messages":[{}]}}"#, vec![message; 4].join(","));
    let answer = http(target.http(), "POST", "/v1/transactions", "", body.as_bytes()).await;
    nothing_is_stored(&target).await;
    code(&answer)
}

pub async fn delayed(target: Target) -> String {
    let body = vec![b'1'; LARGE];
    let mut answers = Vec::new();
    for _ in 0..8 {
        let answer = http(target.http(), "POST", "/v1/channels/source/messages", "Liminal-Delay: 1s\r\n", &body).await;
        answers.push(code(&answer));
    }
    tokio::time::sleep(target.time).await; // they come due together
    answers.dedup();
    answers.join(", ")
}
