//! Very many of what is allowed.

use futures::stream::{self, StreamExt as _};
use liminal::proto::v1::{self, broker_client::BrokerClient, start::From};
use tokio::time::Instant;

use super::Target;
use crate::raw::{code, http};

const CHANNELS: usize = 2_000;

pub async fn filters(target: Target) -> String {
    let comparisons: Vec<String> = (0..250).map(|number| format!("well == \"{number}\"")).collect();
    let filter = comparisons.join(" or ");
    let mut open = Vec::new();
    for _ in 0..30 {
        let broker = BrokerClient::connect(format!("http://{}", target.grpc())).await.unwrap();
        let subscribed = stream::iter(0..100).map(|_| {
            let mut broker = broker.clone();
            let request = v1::SubscribeRequest {
                channel: "orders".into(),
                start: Some(v1::Start { from: Some(From::Latest(true)), ..v1::Start::default() }),
                filter: filter.clone(),
                ..v1::SubscribeRequest::default()
            };
            async move { broker.subscribe(request).await.ok() }
        });
        let subscribed: Vec<_> = subscribed.buffer_unordered(16).collect().await;
        open.extend(subscribed.into_iter().flatten());
    }
    tokio::time::sleep(target.time).await;
    format!("{} subscriptions", open.len())
}

async fn make(target: &Target) -> Vec<String> {
    let made = stream::iter(0..CHANNELS).map(|number| {
        let target = target.clone();
        async move { code(&http(target.http(), "PUT", &format!("/v1/channels/many{number}"), "", b"").await) }
    });
    made.buffer_unordered(128).collect().await
}

pub async fn channels(target: Target) -> String {
    let begun = Instant::now();
    let made = make(&target).await;
    let right = made.iter().filter(|code| *code == "200").count();
    format!("{right} made in {:.1} s", begun.elapsed().as_secs_f64())
}

pub async fn many_channels(target: Target) {
    make(&target).await;
}

pub async fn listings(target: Target) -> String {
    let asked = (0..16).map(|_| async {
        let (begun, mut answers) = (Instant::now(), 0);
        while begun.elapsed() < target.time {
            let (status, _) = http(target.http(), "GET", "/v1/channels", "", b"").await;
            answers += usize::from(status == 200);
        }
        answers
    });
    let answers: usize = futures::future::join_all(asked).await.into_iter().sum();
    format!("{answers} lists")
}
