//! The well-behaved client: publishes on schedule, whether or not acks come back, and notes how long each took from when it
//! was due.

use std::time::Duration;

use liminal::client::{Client, Message};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

pub const CHANNEL: &str = "orders";
/// Between two publishes: 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// What a client saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub p99: Duration,
    pub published: usize,
    pub errors: usize,
}

/// Publishes for a time.
pub async fn publish_for(client: &Client, time: Duration) -> Seen {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + time;
    let mut under_way = JoinSet::new();
    loop {
        let due = ticks.tick().await;
        if due >= end {
            break;
        }
        let client = client.clone();
        under_way.spawn(async move {
            let published = client.publish(CHANNEL, Message::new(r#"{"well":"behaved"}"#)).await;
            (due.elapsed(), published.is_ok())
        });
    }
    let all = under_way.join_all().await;
    let mut latencies: Vec<Duration> = all.iter().filter(|(_, ok)| *ok).map(|(latency, _)| *latency).collect();
    latencies.sort();
    Seen {
        p99: latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default(),
        published: latencies.len(),
        errors: all.len() - latencies.len(),
    }
}
