//! One job that takes long does not keep the space of those that were done after it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use liminal::{
    broker::{Broker, Confirm, Consistency, Start},
    model::{ChannelConfig, ConsumerConfig, Frame, Retention, Settlement, Verdict},
    proto::v1::Message,
    store::{HaematiteConfig, HaematiteStore},
};

use super::broker;

const PATIENCE: Duration = Duration::from_secs(60);
const JOBS: u64 = 4_000;
/// What is settled behind an open job is given back once it is so much.
const LEFT: u64 = (1 << 20) + 10_000;

fn job(number: u64) -> Message {
    Message { payload: Bytes::from(format!("{number:01000}")), ..Message::default() }
}

/// All messages from the beginning on, by sequence number.
async fn stored(broker: &Broker) -> Vec<u64> {
    let (mut seqs, mut from) = (Vec::new(), Start::Earliest);
    loop {
        let page = broker.read("jobs", from, 0, Consistency::Linearizable, None).await.unwrap();
        for batch in &page.batches {
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                assert_eq!(message.unwrap(), job(seq), "each message is where it was");
                seqs.push(seq);
            }
        }
        if page.next_seq >= page.end_seq {
            return seqs;
        }
        from = Start::Seq(page.next_seq);
    }
}

/// How many messages the channel says that it has.
async fn counted(broker: &Broker) -> u64 {
    let info = broker.channel("jobs").await.unwrap();
    info.stats.next_seq - info.stats.first_seq - info.compacted
}

#[tokio::test]
async fn one_old_job_does_not_keep_the_space_of_those_that_were_done_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(HaematiteStore::open(dir.path(), HaematiteConfig::default()).unwrap());
    let running = broker(open()).await;
    let retention = Retention { work_queue: true, ..Retention::default() };
    running.create_channel("jobs", ChannelConfig { retention, ..ChannelConfig::default() }).await.unwrap();
    let config = ConsumerConfig { ack_timeout_ms: 600_000, ..ConsumerConfig::default() };
    running.create_consumer("jobs", "w", config, Start::Earliest).await.unwrap();
    for first in (0..JOBS).step_by(400) {
        let frame = Frame::encode(&(first..first + 400).map(job).collect::<Vec<_>>());
        for published in running.publish_frame("jobs", frame, Confirm::Commit).await {
            published.unwrap();
        }
    }
    let (mut old, mut done) = (None, 0);
    while done < JOBS - 1 {
        let got = running.pull("jobs", "w", 300, PATIENCE).await.unwrap();
        let mut tokens: Vec<_> = got.iter().map(|delivery| delivery.token).collect();
        if old.is_none() {
            old = Some(tokens.remove(0));
        }
        done += tokens.len() as u64;
        let acks = tokens.into_iter().map(|token| Settlement { token, verdict: Verdict::Ack }).collect();
        running.settle("jobs", "w", acks).await.unwrap().into_iter().for_each(|settled| settled.unwrap());
    }
    let small = async {
        while running.channel("jobs").await.unwrap().stats.bytes > LEFT {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, small).await.expect("the space comes back");

    // A pass may still go on.
    let (seqs, counted) = loop {
        let (before, seqs, after) = (counted(&running).await, stored(&running).await, counted(&running).await);
        if before == after {
            break (seqs, after);
        }
    };
    assert_eq!((seqs.first(), seqs.last()), (Some(&0), Some(&(JOBS - 1))), "readers pass over what is gone");
    assert!(seqs.len() < 1_100, "{} messages are left", seqs.len());
    assert_eq!(counted, seqs.len() as u64);
    let mut subscription = running.subscribe("jobs", Start::Earliest).await.unwrap();
    let mut next = 0;
    while next < JOBS {
        next = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("it goes on").unwrap().end_seq();
    }
    drop(subscription);
    running.stop().await;
    running.store().close().await.unwrap();

    let again = broker(open()).await;
    assert_eq!(again.consumer("jobs", "w").await.unwrap().status.lag, 1);
    let info = again.reset_consumer("jobs", "w", Start::Earliest).await.unwrap();
    assert_eq!(info.status.lag, 1, "from the beginning on there is one job that is not done");
    let got = again.pull("jobs", "w", 300, PATIENCE).await.unwrap();
    assert_eq!(got.iter().map(|got| &got.message.payload).collect::<Vec<_>>(), [&job(0).payload]);
    let settlement = Settlement { token: got[0].token, verdict: Verdict::Ack };
    again.settle("jobs", "w", vec![settlement]).await.unwrap().remove(0).unwrap();
    let info = again.channel("jobs").await.unwrap();
    assert_eq!((info.stats.first_seq, info.stats.bytes, info.compacted), (JOBS, 0, 0));
}
