//! What a reader is told whose place is not, or no longer, in the channel's history, and where it goes on.

use std::{sync::Arc, time::Duration};

use liminal::{
    broker::{
        Broker, BrokerError, Confirm, ConsumerDelivery, Page, ReadOptions, Start, SubscribeOptions, Subscription,
        TransactionAck, TransactionRequest, Trim,
    },
    machine,
    model::{
        ChannelConfig, ConsumerConfig, DeliveryToken, HistoryChange, IfChanged, Notice, Position, Settlement, Verdict,
    },
    store::{DurableStore, MemoryStore, WriteBatch},
};

use super::{broker, config, envelope};

/// Lets everything through, but looks at it.
const ALL: &str = "not $key == \"x\"";

async fn publish(broker: &Broker, payloads: impl IntoIterator<Item = u64>) {
    for payload in payloads {
        broker.publish("orders", envelope(&payload.to_string()), None).await.unwrap();
    }
}

async fn read(broker: &Broker, start: Start, if_changed: Option<IfChanged>) -> Result<Page, BrokerError> {
    broker.read_with("orders", start, ReadOptions { if_changed, ..ReadOptions::default() }).await
}

/// Where a reader stands that has read the channel to its end.
async fn end(broker: &Broker) -> Position {
    read(broker, Start::Latest, None).await.unwrap().next
}

async fn subscribe(broker: &Broker, start: Start, if_changed: Option<IfChanged>, filter: &str) -> Subscription {
    let filter = (!filter.is_empty()).then(|| filter.parse().unwrap());
    broker
        .subscribe_with("orders", start, SubscribeOptions { filter, if_changed, ..SubscribeOptions::default() })
        .await
        .unwrap()
}

async fn told(subscription: &mut Subscription) -> Notice {
    match subscription.next().await {
        Err(BrokerError::HistoryChanged(notice)) => *notice,
        other => panic!("{other:?}"),
    }
}

fn brief(notice: &Notice) -> (HistoryChange, u64, u64) {
    (notice.change, notice.from_seq, notice.next.seq)
}

/// A state that was restored from a backup of what is in a store: the next epoch has begun.
async fn restored(store: &Arc<dyn DurableStore>, epoch: u64, history: u32) {
    let mut entries = Vec::new();
    for prefix in machine::HISTORY_PREFIXES {
        entries.extend(store.range(prefix, None, 1000).await.unwrap());
    }
    let begun = machine::begin_epoch(epoch, history, entries).unwrap();
    let puts = begun.into_iter().map(|(key, value)| (key, Some(value))).collect();
    store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
}

#[tokio::test]
async fn a_number_beyond_the_end_is_refused_with_the_end_and_an_answer_never_says_a_later_one() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    publish(&broker, 0..7).await;
    let at_end = read(&broker, Start::Seq(7), None).await.unwrap();
    assert_eq!((at_end.next_seq, at_end.end_seq, at_end.notice), (7, 7, None));
    broker.create_consumer("orders", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    let refused = [
        read(&broker, Start::Seq(100), None).await.err(),
        broker.subscribe("orders", Start::Seq(100)).await.err(),
        broker.reset_consumer("orders", "w", Start::Seq(100)).await.err(),
        broker.create_consumer("orders", "v", ConsumerConfig::default(), Start::Seq(100)).await.err(),
        broker.validate_history("orders", "{}", Start::Seq(100), 0).await.err(),
    ];
    for error in refused.map(Option::unwrap) {
        assert_eq!(error.code().as_str(), "POSITION_BEYOND_END");
        assert_eq!(error.to_string(), "channel `orders` ends at 7: 100 is beyond its end");
        let help = error.help();
        assert!(help.starts_with(&format!("go on at `{}`", at_end.next)), "{help}");
    }
    // Who asks for it goes on at the end, and is told.
    let page = read(&broker, Start::Seq(100), Some(IfChanged::Notice)).await.unwrap();
    assert_eq!(brief(&page.notice.unwrap()), (HistoryChange::BeyondEnd, 100, 7));
    assert_eq!((page.next_seq, page.end_seq), (7, 7));
}

#[tokio::test]
async fn a_position_of_a_channel_that_was_created_again_is_told_so_and_misses_nothing_of_the_new_one() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    publish(&broker, 0..5).await;
    let before = end(&broker).await;
    broker.delete_channel("orders").await.unwrap();
    broker.create_channel("orders", ChannelConfig::default()).await.unwrap();
    publish(&broker, 10..12).await;
    for filter in ["", ALL] {
        let mut subscription = subscribe(&broker, Start::Position(before), None, filter).await;
        let notice = told(&mut subscription).await;
        assert_eq!(brief(&notice), (HistoryChange::Recreated, 5, 0));
        assert_eq!((notice.first_seq, notice.end_seq), (0, 2));
        assert_eq!(subscription.next().await.unwrap().first_seq, 0);
        assert_eq!(subscription.next_position().channel, notice.next.channel);
    }
    let page = read(&broker, Start::Position(before), None).await.unwrap();
    assert_eq!((page.batches[0].first_seq, page.next_seq), (0, 2));
    assert_eq!(page.notice.unwrap().change, HistoryChange::Recreated);
    let failed = read(&broker, Start::Position(before), Some(IfChanged::Fail)).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "CHANNEL_RECREATED");
    broker.create_consumer("orders", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    let reset = broker.reset_consumer("orders", "w", Start::Position(before)).await.unwrap_err();
    assert_eq!(reset.code().as_str(), "CHANNEL_RECREATED");
}

#[tokio::test]
async fn a_publish_says_where_its_message_is_and_whether_it_still_is_the_one_there_can_be_asked_for_ever() {
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let first = broker(store.clone()).await;
    let key = Some("k");
    let stored = first.publish("orders", envelope("1"), key).await.unwrap();
    let again = first.publish("orders", envelope("1"), key).await.unwrap();
    assert_eq!((stored.duplicate, again.duplicate, stored.position), (false, true, again.position));
    publish(&first, 2..4).await;
    let undone = first.publish("orders", envelope("4"), None).await.unwrap();
    assert_eq!(undone.position, stored.position.map(|position| position.at(3)));
    let page = read(&first, Start::Position(undone.position.unwrap()), None).await.unwrap();
    assert_eq!((page.batches[0].first_seq, page.notice), (3, None));
    first.stop().await;
    // The backup that is restored is of before the last message.
    restored(&store, 2, 99).await;
    let second = broker(store).await;
    let other = second.publish("orders", envelope("5"), None).await.unwrap();
    assert_ne!(other.position, undone.position.map(|position| position.at(other.seq)));
    second.delete_channel("orders").await.unwrap();
    second.create_channel("orders", ChannelConfig::default()).await.unwrap();
    let notice = read(&second, Start::Position(stored.position.unwrap()), None).await.unwrap().notice.unwrap();
    assert_eq!(notice.change, HistoryChange::Recreated);
}

#[tokio::test]
async fn after_a_restore_what_was_kept_goes_on_and_who_had_read_further_is_told_where_the_new_history_begins() {
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let first = broker(store.clone()).await;
    publish(&first, 0..7).await;
    let kept = end(&first).await;
    first.stop().await;
    restored(&store, 2, 99).await;
    let second = broker(store.clone()).await;
    // Ten messages were read before; seven of them are in the backup.
    let mut ahead = subscribe(&second, Start::Position(kept.at(10)), None, "").await;
    let mut level = subscribe(&second, Start::Position(kept), Some(IfChanged::Fail), "").await;
    publish(&second, 20..25).await;
    let notice = told(&mut ahead).await;
    assert_eq!(brief(&notice), (HistoryChange::Rewound, 10, 7));
    assert_eq!((notice.next.epoch, kept.epoch), (2, 1));
    assert!(
        notice
            .to_string()
            .contains("was restored (epoch 2) from a backup that ends before 10: what came after it is undone")
    );
    assert_eq!(ahead.next().await.unwrap().first_seq, 7);
    assert_eq!(level.next().await.unwrap().first_seq, 7);
    // Also when the channel has long grown beyond that place.
    let page = read(&second, Start::Position(kept.at(10)), None).await.unwrap();
    assert_eq!((page.batches[0].first_seq, page.next_seq), (7, 12));
    let all = read(&second, Start::Position(kept.at(10)), Some(IfChanged::Earliest)).await.unwrap();
    assert_eq!((all.batches[0].first_seq, all.notice.unwrap().next.seq), (0, 0));
    let failed = read(&second, Start::Position(kept.at(10)), Some(IfChanged::Fail)).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "HISTORY_REWOUND");
    assert_eq!(read(&second, Start::Position(kept.at(3)), None).await.unwrap().notice, None);

    // The same backup once more is another history.
    let of_second = end(&second).await;
    second.stop().await;
    restored(&store, 3, 100).await;
    let third = broker(store.clone()).await;
    let page = read(&third, Start::Position(kept.at(10)), None).await.unwrap();
    assert_eq!(brief(&page.notice.unwrap()), (HistoryChange::Rewound, 10, 7));
    assert_eq!(read(&third, Start::Position(of_second), None).await.unwrap().notice, None);
    let unknown = Position { history: 98, ..of_second };
    let page = read(&third, Start::Position(unknown), None).await.unwrap();
    assert_eq!(brief(&page.notice.unwrap()), (HistoryChange::Recreated, 12, 0));
    // A channel that is created after a restore may have an id that was given before.
    third.delete_channel("orders").await.unwrap();
    third.create_channel("orders", ChannelConfig::default()).await.unwrap();
    publish(&third, [1]).await;
    let reborn = end(&third).await;
    assert_eq!((reborn.epoch, read(&third, Start::Position(reborn), None).await.unwrap().notice), (3, None));
    // Nothing of the deleted one is left that would keep the state from being read.
    third.stop().await;
    let again = broker(store).await;
    assert_eq!(read(&again, Start::Position(reborn), None).await.unwrap().notice, None);
}

/// A backup of what is in a store.
async fn copied(store: &Arc<dyn DurableStore>) -> Arc<dyn DurableStore> {
    let (copy, snapshot) = (MemoryStore::new(), store.snapshot().await.unwrap());
    let mut install = copy.install().await.unwrap();
    install.put(snapshot.page(None, usize::MAX).await.unwrap()).await.unwrap();
    install.finish(snapshot.root_hash()).await.unwrap();
    Arc::new(copy)
}

async fn make_consumer(broker: &Broker) {
    let config = ConsumerConfig { ack_timeout_ms: 600_000, ..ConsumerConfig::default() };
    broker.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
}

async fn pull(broker: &Broker, count: usize) -> Vec<ConsumerDelivery> {
    let pulled = broker.pull("orders", "w", 10, Duration::from_secs(30)).await.unwrap();
    assert_eq!(pulled.len(), count, "{pulled:?}");
    pulled
}

async fn say(broker: &Broker, deliveries: &[ConsumerDelivery], verdict: &Verdict) -> Vec<Result<(), BrokerError>> {
    let settlement = |delivery: &ConsumerDelivery| Settlement { token: delivery.token, verdict: verdict.clone() };
    broker.settle("orders", "w", deliveries.iter().map(settlement).collect()).await.unwrap()
}

/// Hands out everything, and has it wait with nobody: an ack that came too late would be taken for it.
async fn pulled_and_nacked(broker: &Broker, count: usize) -> Vec<ConsumerDelivery> {
    let pulled = pull(broker, count).await;
    let nack = Verdict::Nack { delay_ms: 600_000, reason: String::new() };
    assert_eq!(say(broker, &pulled, &nack).await, vec![Ok(()); count]);
    pulled
}

/// That each verdict on these deliveries is refused, and why, and nothing is settled.
async fn counts_no_longer(broker: &Broker, deliveries: &[ConsumerDelivery], change: Option<HistoryChange>) {
    let lag = broker.consumer("orders", "w").await.unwrap().status.lag;
    let again = Verdict::Nack { delay_ms: 0, reason: String::new() };
    for verdict in [Verdict::Ack, Verdict::AckUpTo, again, Verdict::Extend] {
        for (delivery, result) in deliveries.iter().zip(say(broker, deliveries, &verdict).await) {
            let error = result.unwrap_err();
            assert_eq!(error, BrokerError::ForeignDelivery { seq: delivery.token.seq, change });
            assert_eq!(error.code().as_str(), "STALE_DELIVERY");
        }
    }
    let tokens = deliveries.iter().map(|delivery| delivery.token).collect();
    let acks = vec![TransactionAck { channel: "orders".into(), consumer: "w".into(), tokens }];
    let request = TransactionRequest { acks, ..TransactionRequest::default() };
    assert_eq!(broker.transact(&request, Confirm::Commit).await.unwrap_err().code().as_str(), "STALE_DELIVERY");
    assert_eq!(broker.consumer("orders", "w").await.unwrap().status.lag, lag);
}

#[tokio::test]
async fn a_delivery_of_an_older_history_settles_nothing_in_the_one_that_a_restore_began() {
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let first = broker(store.clone()).await;
    make_consumer(&first).await;
    publish(&first, [0]).await;
    first.flush().await.unwrap();
    let backup = copied(&store).await;
    publish(&first, [1]).await;
    let old = pull(&first, 2).await;
    first.stop().await;
    restored(&backup, 2, 99).await;
    let second = broker(backup).await;
    publish(&second, [100]).await;
    let new = pulled_and_nacked(&second, 2).await;
    assert_eq!((new[1].token.seq, new[1].token.attempt), (old[1].token.seq, old[1].token.attempt));
    counts_no_longer(&second, &old, Some(HistoryChange::Rewound)).await;
    // By what was handed out here they are settled, also beside one of the older history.
    let mixed = [new[0].clone(), old[1].clone(), new[1].clone()];
    let results: Vec<bool> = say(&second, &mixed, &Verdict::Ack).await.iter().map(Result::is_ok).collect();
    assert_eq!(results, [true, false, true]);
    assert_eq!(second.consumer("orders", "w").await.unwrap().status.lag, 0);
}

#[tokio::test]
async fn a_delivery_of_a_consumer_or_channel_that_was_made_again_settles_nothing_of_the_new_one() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    make_consumer(&broker).await;
    publish(&broker, [0, 1]).await;
    let old = pull(&broker, 2).await;
    broker.delete_consumer("orders", "w").await.unwrap();
    make_consumer(&broker).await;
    let new = pulled_and_nacked(&broker, 2).await;
    counts_no_longer(&broker, &old, None).await;
    broker.delete_channel("orders").await.unwrap();
    broker.create_channel("orders", ChannelConfig::default()).await.unwrap();
    make_consumer(&broker).await;
    publish(&broker, [2, 3]).await;
    let newest = pulled_and_nacked(&broker, 2).await;
    counts_no_longer(&broker, &new, Some(HistoryChange::Recreated)).await;
    // One that an earlier version handed out says nothing of what it is of.
    let token = DeliveryToken { of: None, ..newest[0].token };
    let without = ConsumerDelivery { token, ..newest[0].clone() };
    assert_eq!(say(&broker, &[without], &Verdict::Ack).await, [Ok(())]);
}

#[tokio::test]
async fn a_slow_reader_that_retention_passes_is_told_what_it_misses_and_goes_on() {
    for filter in ["", ALL] {
        let mut config = config();
        config.limits.subscriber_bytes = 100;
        config.limits.fanout_bytes = 100;
        config.limits.page_bytes = 1;
        let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
        publish(&broker, 0..2).await;
        let mut slow = subscribe(&broker, Start::Earliest, Some(IfChanged::Notice), filter).await;
        let mut strict = subscribe(&broker, Start::Earliest, None, filter).await;
        assert_eq!(slow.next().await.unwrap().first_seq, 0);
        publish(&broker, 2..100).await;
        assert_eq!(broker.trim_channel("orders", Trim::To(90)).await.unwrap(), 90);
        let mut next = 1;
        let notice = loop {
            match slow.next().await {
                // With a filter, what was judged before has been handed over.
                Ok(batch) => next = batch.end_seq(),
                Err(error) => break error.notice().expect("a notice").clone(),
            }
        };
        assert_eq!(brief(&notice), (HistoryChange::Cut, next, 90));
        let mut seen = Vec::new();
        while seen.len() < 10 {
            let batch = slow.next().await.unwrap();
            seen.extend(batch.first_seq..batch.end_seq());
        }
        assert_eq!(seen, (90..100).collect::<Vec<u64>>());
        let ended = loop {
            match strict.next().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, BrokerError::OutOfRange { first: 90, .. }), "{ended}");
    }
}

#[tokio::test]
async fn a_position_below_what_is_stored_is_told_what_was_removed() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    publish(&broker, 0..9).await;
    let end = end(&broker).await;
    broker.trim_channel("orders", Trim::To(4)).await.unwrap();
    let mut subscription = subscribe(&broker, Start::Position(end.at(1)), None, "").await;
    assert!(subscription.begins_told());
    let notice = told(&mut subscription).await;
    assert_eq!(brief(&notice), (HistoryChange::Cut, 1, 4));
    assert_eq!(notice.to_string(), "messages 1 to 3 of channel `orders` are gone; the first one stored is 4");
    assert_eq!(subscription.next().await.unwrap().first_seq, 4);
}
