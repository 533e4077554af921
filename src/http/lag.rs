//! Consumers in the metrics: all of them summed up, a bounded number by name, and the others in one series, so that an
//! alarm on any of them sees them all.

use super::{Labels, Metric, MetricKind};
use crate::{broker::Broker, model::ConsumerStatus};

/// Consumers that have values of their own: those that are furthest behind.
const CONSUMERS_SHOWN: usize = 100;
/// No channel and no consumer can have this name.
const OTHERS: &str = "(others)";

/// Figures of the cluster's consumers, as this node has applied them.
pub fn consumer_metrics(broker: &Broker) -> [Metric; 9] {
    let laggards = broker.view().laggards(CONSUMERS_SHOWN);
    let labels = |channel: &str, consumer: &str| -> Labels {
        vec![("channel", channel.to_owned()), ("consumer", consumer.to_owned())]
    };
    let each = |name, help, kind, others: Option<u64>, value: fn(&ConsumerStatus) -> u64| {
        let shown = laggards.shown.iter();
        let mut values: Vec<_> = shown
            .map(|(channel, status)| (labels(channel.as_str(), status.meta.name.as_str()), value(status)))
            .collect();
        let others = others.filter(|_| laggards.count > laggards.shown.len() as u64);
        values.extend(others.map(|others| (labels(OTHERS, OTHERS), others)));
        Metric { name, help, kind, values }
    };
    let lag_of_shown: u64 = laggards.shown.iter().map(|(_, status)| status.lag).sum();
    let (lag, pending) = (laggards.lag.saturating_sub(lag_of_shown), laggards.pending_of_others);
    let (gauge, counter) = (MetricKind::Gauge, MetricKind::Counter);
    [
        Metric::gauge("consumers", "Consumers of all channels", laggards.count),
        Metric::gauge(
            "consumers_not_shown",
            "Consumers without series of their own: (others) sums them up",
            laggards.count.saturating_sub(laggards.shown.len() as u64),
        ),
        Metric::gauge("consumers_lag", "Messages that some consumer has not settled, of all consumers", laggards.lag),
        each("consumer_lag", "Messages not settled, of the consumers furthest behind", gauge, Some(lag), |c| c.lag),
        each("consumer_pending", "Messages handed out or waiting to be again", gauge, Some(pending), |c| {
            c.in_flight + c.waiting + c.dying
        }),
        each("consumer_dying", "Messages given up that wait for their dead-letter channel", gauge, None, |c| c.dying),
        each("consumer_redeliveries", "Messages handed out again", counter, None, |c| c.cursor.redelivered),
        each("consumer_dead_letters", "Messages given up", counter, None, |c| c.cursor.dead),
        each("consumer_lost_messages", "Messages removed before they were settled", counter, None, |c| c.lost),
    ]
}
