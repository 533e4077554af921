//! `delivered` on three nodes, for subscribers that do not look before all publishes are answered.

use std::time::Duration;

use liminal::{
    broker::{Start, Subscription},
    model::{ChannelConfig, Durability},
};

use super::support::in_process::{Cluster, envelope};

fn received(subscription: &mut Subscription) -> Vec<String> {
    let next = || subscription.try_next().unwrap().map(|(_, message)| message.payload);
    std::iter::from_fn(next).map(|payload| String::from_utf8(payload.to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_of_any_node_that_never_looked_were_handed_what_any_node_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::prepare(dir.path());
    for config in &mut cluster.configs {
        // A publisher that waited for a subscriber to look would never be answered.
        config.limits.delivery_timeout = Duration::from_secs(3600);
    }
    cluster.start_nodes().await;
    cluster.create("orders").await;
    let ephemeral = ChannelConfig { durability: Durability::Ephemeral, ..ChannelConfig::default() };
    cluster.broker(0).create_channel("ticks", ephemeral).await.unwrap();
    for channel in ["orders", "ticks"] {
        let mut seqs = 0..;
        for serving in 0..3 {
            let filter = || Some("$payload == \"1\" or $payload == 1".parse().unwrap());
            let broker = cluster.broker(serving);
            let mut plain = broker.subscribe(channel, Start::Latest).await.unwrap();
            let mut expected = Vec::new();
            for through in 0..3 {
                let publish = || async {
                    let key = format!("{serving}-{through}");
                    cluster.broker(through).publish(channel, envelope("0"), Some(&key)).await.unwrap()
                };
                let first = publish().await;
                assert_eq!((Some(first.seq), first.duplicate, first.delivered), (seqs.next(), false, Some(true)));
                let again = publish().await;
                assert_eq!((again.seq, again.duplicate, again.delivered), (first.seq, true, Some(false)));
                expected.push("0".to_owned());
            }
            assert_eq!(received(&mut plain), expected);
            drop(plain);
            let mut filtered = broker.subscribe_filtered(channel, Start::Latest, filter()).await.unwrap();
            for (through, (payload, passes)) in [("1", true), ("2", false), ("1", true)].into_iter().enumerate() {
                let outcome = cluster.broker(through).publish(channel, envelope(payload), None).await.unwrap();
                assert_eq!((Some(outcome.seq), outcome.delivered), (seqs.next(), Some(passes)), "{payload}");
            }
            assert_eq!(received(&mut filtered), ["1", "1"]);
        }
    }
    cluster.stop().await;
}
