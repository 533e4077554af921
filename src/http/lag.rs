//! Consumers in the metrics: all of them summed up, a bounded number by name, and the others in one series, so that an
//! alarm on any of them sees them all.
//!
//! What goes up and down is told of those that are furthest behind at the moment. What counts up must never go down, so a
//! consumer that has once had series of its own keeps them for as long as it exists, and what the others count is added up
//! here, where it stays when one of them gets its own series or is deleted.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::metrics::{self, Declared, Labels, Metric};
use crate::{
    broker::Broker,
    machine::Laggards,
    model::{ConsumerId, ConsumerStatus},
};

/// Consumers that have values of their own.
const CONSUMERS_SHOWN: usize = 100;
/// No channel and no consumer can have this name.
const OTHERS: &str = "(others)";

/// How often messages were handed out again, given up and lost.
pub type ConsumerCounts = [u64; 3];

/// Figures of the cluster's consumers, and what has to be remembered between two looks at them.
#[derive(Debug, Default)]
pub struct ConsumerMetrics(Mutex<Counted>);

/// What counts up.
#[derive(Debug, Default)]
struct Counted {
    /// Those that have series of their own.
    shown: BTreeSet<ConsumerId>,
    /// The others as they were seen last.
    others: BTreeMap<ConsumerId, ConsumerCounts>,
    /// What all that were among the others have counted meanwhile.
    sums: ConsumerCounts,
}

impl Counted {
    /// Takes note of all consumers, by id; those of `behind` get series of their own first.
    fn see(&mut self, behind: impl Iterator<Item = ConsumerId>, all: &[(ConsumerId, ConsumerCounts)]) {
        let exists = |id: &ConsumerId| all.binary_search_by_key(id, |(one, _)| *one).is_ok();
        self.shown.retain(exists);
        self.others.retain(|id, _| exists(id));
        for id in behind.chain(all.iter().map(|(id, _)| *id)) {
            if self.shown.len() >= CONSUMERS_SHOWN {
                break;
            }
            // What it counted among the others stays there.
            self.shown.insert(id);
            self.others.remove(&id);
        }
        for (id, counts) in all.iter().filter(|(id, _)| !self.shown.contains(id)) {
            let before = self.others.entry(*id).or_default();
            for ((sum, now), before) in self.sums.iter_mut().zip(counts).zip(before.iter()) {
                *sum += now.saturating_sub(*before);
            }
            *before = *counts;
        }
    }
}

impl ConsumerMetrics {
    /// As this node has applied them.
    pub fn of(&self, broker: &Broker) -> [Metric; 9] {
        let view = broker.view();
        let laggards = view.laggards(CONSUMERS_SHOWN);
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
        let [redelivered, dead, lost] = self.counters(broker, &laggards);
        [
            metrics::CONSUMERS.of(laggards.count),
            metrics::CONSUMERS_NOT_SHOWN.of(laggards.count.saturating_sub(laggards.shown.len() as u64)),
            metrics::CONSUMERS_LAG.of(laggards.lag),
            each(&metrics::CONSUMER_LAG, lag, |c| c.lag),
            each(&metrics::CONSUMER_PENDING, pending, |c| c.in_flight + c.waiting + c.dying),
            each(&metrics::CONSUMER_DYING, dying, |c| c.dying),
            metrics::CONSUMER_REDELIVERIES.each(redelivered),
            metrics::CONSUMER_DEAD_LETTERS.each(dead),
            metrics::CONSUMER_LOST_MESSAGES.each(lost),
        ]
    }

    /// The series of each counter.
    fn counters(&self, broker: &Broker, laggards: &Laggards) -> [Vec<(Labels, u64)>; 3] {
        let mut counted = self.0.lock();
        counted.see(laggards.shown.iter().map(|(_, status)| status.meta.id), &laggards.counts);
        let mut series: [Vec<(Labels, u64)>; 3] = std::array::from_fn(|_| Vec::new());
        let mut add = |labels: &Labels, counts: &ConsumerCounts| {
            series.iter_mut().zip(counts).for_each(|(values, count)| values.push((labels.clone(), *count)));
        };
        let view = broker.view();
        for (id, counts) in laggards.counts.iter().filter(|(id, _)| counted.shown.contains(id)) {
            let meta = view.consumers(|all| all.get(*id).map(|consumer| consumer.meta().clone()));
            // It may be gone by now.
            let Some(meta) = meta else { continue };
            let Some(channel) = view.meta(meta.channel) else { continue };
            add(&labels(channel.name.as_str(), meta.name.as_str()), counts);
        }
        // Once there, it stays.
        if laggards.count > CONSUMERS_SHOWN as u64 || counted.sums != ConsumerCounts::default() {
            add(&labels(OTHERS, OTHERS), &counted.sums);
        }
        series
    }
}

fn labels(channel: &str, consumer: &str) -> Labels {
    vec![("channel", channel.to_owned()), ("consumer", consumer.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(redelivered: u64) -> ConsumerCounts {
        [redelivered, 0, 0]
    }

    #[test]
    fn what_the_others_count_never_goes_down_and_nothing_is_left_out() {
        let (mut counted, behind) = (Counted::default(), (1..=100).map(ConsumerId));
        let mut all: Vec<_> = (1..=110).map(|id| (ConsumerId(id), counts(1))).collect();
        counted.see(behind.clone(), &all);
        assert_eq!((counted.shown.len(), counted.sums), (100, counts(10)));
        all[109].1 = counts(5);
        counted.see((11..=110).map(ConsumerId), &all);
        assert_eq!((counted.shown.first(), counted.sums), (Some(&ConsumerId(1)), counts(14)), "who is shown stays");

        // One of those that are shown is deleted, and one of the others takes its place.
        all.remove(0);
        counted.see((110..=110).map(ConsumerId), &all);
        assert!(counted.shown.contains(&ConsumerId(110)));
        assert_eq!(counted.sums, counts(14));
        all[108].1 = counts(9);
        counted.see(behind.clone(), &all);
        assert_eq!(counted.sums, counts(14), "its own series counts now");

        // One of the others is deleted.
        assert_eq!(all.remove(107).0, ConsumerId(109));
        all[106].1 = counts(3);
        counted.see(behind, &all);
        assert_eq!((counted.sums, counted.others.len()), (counts(16), 8));
    }
}
