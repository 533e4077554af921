//! Answers are bounded by their bytes: what a member of a consumer is sent at once, however many messages it may hold, and
//! the list of a channel's schemas.

use std::{sync::Arc, time::Duration};

use liminal::{
    broker::{Broker, Start},
    model::{ChannelUpdate, Compatibility, ConsumerConfig, Limits},
    store::MemoryStore,
};

use super::{broker, envelope};

const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGES: usize = 12;
const BYTES: usize = 400 << 10;

/// A node with a consumer of messages of which a few fill a page.
async fn consuming() -> Broker {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let config = ConsumerConfig { ack_timeout_ms: 600_000, ..ConsumerConfig::default() };
    broker.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
    let payload = format!("\"{}\"", "x".repeat(BYTES));
    for _ in 0..MESSAGES {
        broker.publish("orders", envelope(&payload), None).await.unwrap();
    }
    broker
}

fn most() -> usize {
    2 * Limits::default().page_bytes / BYTES + 1
}

#[tokio::test]
async fn a_pull_is_about_a_page_and_what_is_left_is_there_for_the_next_one_and_has_cost_no_attempt() {
    let broker = consuming().await;
    let mut got = Vec::new();
    while got.len() < MESSAGES {
        let pulled = broker.pull("orders", "w", MESSAGES as u32, PATIENCE).await.unwrap();
        assert!((1..=most()).contains(&pulled.len()), "{} messages", pulled.len());
        got.extend(pulled.into_iter().map(|delivery| (delivery.token.seq, delivery.token.attempt)));
    }
    got.sort_unstable();
    assert_eq!(got, (0..MESSAGES as u64).map(|seq| (seq, 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_member_is_sent_what_it_may_hold_a_page_at_a_time() {
    let broker = consuming().await;
    let mut member = broker.join_consumer("orders", "w", MESSAGES as u32).await.unwrap();
    let mut got = Vec::new();
    while got.len() < MESSAGES {
        let sent = tokio::time::timeout(PATIENCE, member.next()).await.unwrap().unwrap();
        assert!((1..=most()).contains(&sent.len()), "{} messages", sent.len());
        got.extend(sent.into_iter().map(|delivery| delivery.token.seq));
    }
    assert_eq!(got, (0..MESSAGES as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_schemas_of_a_channel_come_in_pages() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    // A score of them is more than a page.
    const SCHEMAS: usize = 20;
    for number in 0..SCHEMAS {
        let title = format!("{number}{}", "x".repeat(60 << 10));
        let schema = Some(format!(r#"{{"title":"{title}"}}"#));
        let compatibility = Some(Compatibility::None);
        let update = ChannelUpdate { schema, compatibility, ..ChannelUpdate::default() };
        broker.update_channel("orders", update).await.unwrap();
    }
    let (mut versions, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let (page, next_after) = broker.schemas_after("orders", after, 0).await.unwrap();
        assert!(page.iter().map(|schema| schema.text.len()).sum::<usize>() <= Limits::LIST_BYTES);
        versions.extend(page.iter().map(|schema| schema.version));
        pages += 1;
        match next_after {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(versions, (1..=SCHEMAS as u64).collect::<Vec<_>>());
    assert_eq!(pages, 2);
    let (two, next_after) = broker.schemas_after("orders", 0, 2).await.unwrap();
    assert_eq!((two.len(), next_after), (2, Some(two[1].id)));
}
