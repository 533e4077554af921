//! Channels in the metrics: a bounded number by name, and the others in one series. Which ones have series of their own
//! changes only when one of them is deleted, so that no series comes and goes with the load: those that had taken most when
//! this node began to lead, or was asked first.

use std::cmp::Reverse;

use parking_lot::Mutex;

use super::{
    metrics::{self, Declared, Labels, Metric},
    shown::{OTHERS, Shown},
};
use crate::{broker::Broker, machine::ChannelFigures, model::ChannelId};

/// Figures of the cluster's channels, and what has to be remembered between two looks at them.
#[derive(Debug, Default)]
pub struct ChannelMetrics(Mutex<Shown<ChannelId, 2>>);

/// What this node refused because of the schemas of channels.
#[derive(Debug, Default)]
pub struct RejectedMetrics(Mutex<Shown<String, 1>>);

impl ChannelMetrics {
    /// As this node has applied them.
    pub fn of(&self, broker: &Broker) -> [Metric; 8] {
        let mut all = broker.view().channel_figures();
        all.sort_unstable_by_key(|channel| channel.id);
        self.figures(&all, broker.limits().metric_series, broker.limits().most_keys().0)
    }

    /// `all` by id, of which `most` are shown; each may have so many idempotency keys.
    fn figures(&self, all: &[ChannelFigures], most: usize, most_keys: u64) -> [Metric; 8] {
        let counts: Vec<_> =
            all.iter().map(|channel| (channel.id, [channel.published, channel.published_bytes])).collect();
        let mut busiest: Vec<_> = all.iter().map(|channel| (Reverse(channel.published), channel.id)).collect();
        busiest.sort_unstable();
        let mut counted = self.0.lock();
        counted.see(most, busiest.into_iter().map(|(_, id)| id), &counts);
        let (shown, others): (Vec<&ChannelFigures>, Vec<_>) = all.iter().partition(|one| counted.contains(&one.id));
        let sums = counted.others();
        drop(counted);
        let each = |declared: &'static Declared, value: &dyn Fn(&ChannelFigures) -> u64, sum: Option<u64>| {
            let mut values: Vec<_> = shown.iter().map(|one| (label(one.name.as_str()), value(one))).collect();
            values.extend(sum.map(|sum| (label(OTHERS), sum)));
            declared.each(values)
        };
        let gauge = |declared, value: &dyn Fn(&ChannelFigures) -> u64| {
            let sum = others.iter().fold(0_u64, |sum, one| sum.saturating_add(value(one)));
            each(declared, value, (!others.is_empty()).then_some(sum))
        };
        [
            metrics::CHANNELS.of(all.len() as u64),
            metrics::CHANNELS_NOT_SHOWN.of(others.len() as u64),
            gauge(&metrics::CHANNEL_MESSAGES, &|one| one.messages),
            gauge(&metrics::CHANNEL_BYTES, &|one| one.bytes),
            gauge(&metrics::CHANNEL_LIVE_KEYS, &|one| one.live_keys),
            gauge(&metrics::CHANNEL_LIVE_KEYS_LIMIT, &|_| most_keys),
            each(&metrics::CHANNEL_PUBLISHED_MESSAGES, &|one| one.published, sums.map(|[messages, _]| messages)),
            each(&metrics::CHANNEL_PUBLISHED_BYTES, &|one| one.published_bytes, sums.map(|[_, bytes]| bytes)),
        ]
    }
}

impl RejectedMetrics {
    /// Counts by the names of channels, of which at most `most` have series of their own.
    pub fn of(&self, rejected: impl IntoIterator<Item = (String, u64)>, most: usize) -> Metric {
        let mut counts: Vec<_> = rejected.into_iter().map(|(name, count)| (name, [count])).collect();
        counts.sort_unstable();
        let mut counted = self.0.lock();
        counted.see(most, std::iter::empty(), &counts);
        let shown = counts.iter().filter(|(name, _)| counted.contains(name));
        let mut values: Vec<_> = shown.map(|(name, [count])| (label(name), *count)).collect();
        values.extend(counted.others().map(|[sum]| (label(OTHERS), sum)));
        metrics::REJECTED_MESSAGES.each(values)
    }
}

fn label(channel: &str) -> Labels {
    vec![("channel", channel.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::{super::metrics::Value, *};

    fn channel(id: u64, published: u64) -> ChannelFigures {
        ChannelFigures {
            id: ChannelId(id),
            name: format!("c{id}").parse().unwrap(),
            messages: published / 2,
            bytes: 10 * published,
            published,
            published_bytes: 100 * published,
            live_keys: id,
        }
    }

    /// The values of one metric by channel.
    fn values(metrics: &[Metric], declared: &Declared) -> Vec<(String, u64)> {
        let metric = metrics.iter().find(|metric| metric.declared.name == declared.name).unwrap();
        let value = |(labels, value): &(Labels, Value)| match value {
            Value::Number(number) => (labels.first().map_or_else(String::new, |(_, name)| name.clone()), *number),
            other => panic!("{other:?}"),
        };
        metric.values.iter().map(value).collect()
    }

    fn named(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn channels_beyond_the_limit_are_summed_up_and_no_message_is_left_out() {
        let series = ChannelMetrics::default();
        let all = [channel(1, 2), channel(2, 8), channel(3, 6), channel(4, 4)];
        let told = series.figures(&all, 2, 1000);
        assert_eq!(values(&told, &metrics::CHANNEL_MESSAGES), named(&[("c2", 4), ("c3", 3), (OTHERS, 3)]));
        assert_eq!(values(&told, &metrics::CHANNEL_BYTES), named(&[("c2", 80), ("c3", 60), (OTHERS, 60)]));
        assert_eq!(values(&told, &metrics::CHANNEL_PUBLISHED_BYTES), named(&[("c2", 800), ("c3", 600), (OTHERS, 600)]));
        assert_eq!(
            values(&told, &metrics::CHANNEL_LIVE_KEYS_LIMIT),
            named(&[("c2", 1000), ("c3", 1000), (OTHERS, 2000)])
        );
        assert_eq!(values(&told, &metrics::CHANNELS), named(&[("", 4)]));
        assert_eq!(values(&told, &metrics::CHANNELS_NOT_SHOWN), named(&[("", 2)]));
    }

    #[test]
    fn a_channel_keeps_its_series_when_another_one_overtakes_it_and_leaves_them_when_it_is_deleted() {
        let series = ChannelMetrics::default();
        series.figures(&[channel(1, 9), channel(2, 1)], 1, 1);
        let told = series.figures(&[channel(1, 9), channel(2, 100)], 1, 1);
        assert_eq!(values(&told, &metrics::CHANNEL_PUBLISHED_MESSAGES), named(&[("c1", 9), (OTHERS, 100)]));
        let told = series.figures(&[channel(2, 105)], 1, 1);
        let counted = values(&told, &metrics::CHANNEL_PUBLISHED_MESSAGES);
        assert_eq!(counted, named(&[("c2", 105), (OTHERS, 100)]), "what was counted does not go down");
        assert_eq!(values(&told, &metrics::CHANNEL_MESSAGES), named(&[("c2", 52)]), "there are no others now");
    }

    #[test]
    fn rejections_of_channels_beyond_the_limit_are_summed_up() {
        let series = RejectedMetrics::default();
        let counts = |list: &[(&str, u64)]| named(list);
        series.of(counts(&[("b", 1)]), 1);
        let told = series.of(counts(&[("a", 2), ("b", 3), ("c", 4)]), 1);
        assert_eq!(values(&[told], &metrics::REJECTED_MESSAGES), named(&[("b", 3), (OTHERS, 6)]));
    }
}
