//! Consumers in the metrics: all of them summed up, and a bounded number by name, however many there are.

use super::{Metric, MetricKind};
use crate::{broker::Broker, model::ConsumerStatus};

/// Consumers that have values of their own: those that are furthest behind.
const CONSUMERS_SHOWN: usize = 100;

/// Figures of this node's consumers, as it has applied them.
pub fn consumer_metrics(broker: &Broker) -> [Metric; 7] {
    let laggards = broker.view().laggards(CONSUMERS_SHOWN);
    let each = |name, help, kind, value: fn(&ConsumerStatus) -> u64| {
        let labels = |channel: &str, status: &ConsumerStatus| {
            vec![("channel", channel.to_owned()), ("consumer", status.meta.name.to_string())]
        };
        let values = laggards.shown.iter().map(|(channel, status)| (labels(channel.as_str(), status), value(status)));
        Metric { name, help, kind, values: values.collect() }
    };
    [
        Metric::gauge("consumers", "Consumers of all channels", laggards.count),
        Metric::gauge("consumers_lag", "Messages that some consumer has not settled, of all consumers", laggards.lag),
        each("consumer_lag", "Messages not settled, of the consumers furthest behind", MetricKind::Gauge, |c| c.lag),
        each("consumer_pending", "Messages handed out or waiting to be again", MetricKind::Gauge, |c| {
            c.in_flight + c.waiting + c.dying
        }),
        each("consumer_dying", "Messages given up that wait for their dead-letter channel", MetricKind::Gauge, |c| {
            c.dying
        }),
        each("consumer_redeliveries", "Messages handed out again", MetricKind::Gauge, |c| c.cursor.redelivered),
        each("consumer_dead_letters", "Messages given up", MetricKind::Gauge, |c| c.cursor.dead),
    ]
}
