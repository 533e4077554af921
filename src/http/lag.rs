//! Consumers in the metrics: all of them summed up, a bounded number by name, and the others in one series, so that an
//! alarm on any of them sees them all.
//!
//! What goes up and down is told of those that are furthest behind at the moment, and what counts up of those that
//! [`Shown`] chooses.

use std::future;

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::{
    metrics::{self, Declared, Labels, Metric},
    shown::{OTHERS, Shown},
};
use crate::{
    broker::Broker,
    machine::Laggards,
    model::{ChannelName, ConsumerId, ConsumerStatus},
};

/// Consumers whose oldest messages are looked up at once.
const LOOK_UPS: usize = 16;

/// How often messages were handed out again, given up and lost.
type Counts = [u64; 3];

/// Figures of the cluster's consumers, and what has to be remembered between two looks at them.
#[derive(Debug, Default)]
pub struct ConsumerMetrics(Mutex<Shown<ConsumerId, 3>>);

impl ConsumerMetrics {
    /// As this node has applied them.
    pub async fn of(&self, broker: &Broker) -> [Metric; 10] {
        let most = broker.limits().metric_series;
        let laggards = broker.view().laggards(most);
        let ages = ages(broker, &laggards).await;
        let more = laggards.count > laggards.shown.len() as u64;
        let each = |declared: &'static Declared, others: u64, value: fn(&ConsumerStatus) -> u64| {
            let shown = laggards.shown.iter();
            let mut values: Vec<_> = shown
                .map(|(channel, status)| (labels(channel.as_str(), status.meta.name.as_str()), value(status)))
                .collect();
            values.extend(more.then(|| (labels(OTHERS, OTHERS), others)));
            declared.each(values)
        };
        let lag_of_shown: u64 = laggards.shown.iter().map(|(_, status)| status.lag).sum();
        let lag = laggards.lag.saturating_sub(lag_of_shown);
        let (pending, dying) = (laggards.pending_of_others, laggards.dying_of_others);
        let [redelivered, dead, lost] = self.counters(broker, most, &laggards);
        [
            metrics::CONSUMERS.of(laggards.count),
            metrics::CONSUMERS_NOT_SHOWN.of(laggards.count.saturating_sub(laggards.shown.len() as u64)),
            metrics::CONSUMERS_LAG.of(laggards.lag),
            each(&metrics::CONSUMER_LAG, lag, |c| c.lag),
            each(&metrics::CONSUMER_PENDING, pending, |c| c.in_flight + c.waiting + c.dying),
            metrics::CONSUMER_OLDEST_AGE_SECONDS.each(ages),
            each(&metrics::CONSUMER_DYING, dying, |c| c.dying),
            metrics::CONSUMER_REDELIVERIES.each(redelivered),
            metrics::CONSUMER_DEAD_LETTERS.each(dead),
            metrics::CONSUMER_LOST_MESSAGES.each(lost),
        ]
    }

    /// The series of each counter.
    fn counters(&self, broker: &Broker, most: usize, laggards: &Laggards) -> [Vec<(Labels, u64)>; 3] {
        let mut counted = self.0.lock();
        counted.see(most, laggards.shown.iter().map(|(_, status)| status.meta.id), &laggards.counts);
        let mut series: [Vec<(Labels, u64)>; 3] = std::array::from_fn(|_| Vec::new());
        let mut add = |labels: &Labels, counts: &Counts| {
            series.iter_mut().zip(counts).for_each(|(values, count)| values.push((labels.clone(), *count)));
        };
        let view = broker.view();
        for (id, counts) in laggards.counts.iter().filter(|(id, _)| counted.contains(id)) {
            let meta = view.consumers(|all| all.get(*id).map(|consumer| consumer.meta().clone()));
            // It may be gone by now.
            let Some(meta) = meta else { continue };
            let Some(channel) = view.meta(meta.channel) else { continue };
            add(&labels(channel.name.as_str(), meta.name.as_str()), counts);
        }
        if let Some(sums) = counted.others() {
            add(&labels(OTHERS, OTHERS), &sums);
        }
        series
    }
}

/// The age in seconds of the oldest message that each of those shown has not settled.
async fn ages(broker: &Broker, laggards: &Laggards) -> Vec<(Labels, u64)> {
    let now = broker.view().clock().now_ms();
    let look = |(channel, status): &(ChannelName, ConsumerStatus)| {
        let (channel, name, floor, lag) = (channel.clone(), status.meta.name.clone(), status.floor, status.lag);
        async move {
            // Of a message that cannot be read no age is known.
            let since = if lag == 0 { Some(now) } else { broker.stored_at(&channel, floor).await };
            Some((labels(channel.as_str(), name.as_str()), now.saturating_sub(since?) / 1000))
        }
    };
    let looks: Vec<_> = laggards.shown.iter().map(look).collect();
    stream::iter(looks).buffered(LOOK_UPS).filter_map(future::ready).collect().await
}

fn labels(channel: &str, consumer: &str) -> Labels {
    vec![("channel", channel.to_owned()), ("consumer", consumer.to_owned())]
}
