//! What has happened between two moments, in a second.

use std::{collections::HashMap, time::Instant};

use serde_json::{Value, json};

use crate::{
    model::{ChannelJson, ConsumerJson},
    proto::v1::{Channel, ClusterStatusResponse, Consumer, NodeStatus},
};

/// A cluster as it was at some time.
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) status: ClusterStatusResponse,
    pub(super) channels: Vec<Channel>,
    pub(super) consumers: Vec<Consumer>,
}

/// The difference of two moments. What was made between them has no rate yet.
pub(super) struct Rates<'a> {
    pub(super) now: &'a Moment,
    seconds: f64,
    nodes: HashMap<u64, &'a NodeStatus>,
    channels: HashMap<u64, &'a Channel>,
    /// By channel and id: a consumer of another channel may have the same.
    consumers: HashMap<(&'a str, u64), &'a Consumer>,
}

impl<'a> Rates<'a> {
    pub(super) fn between(before: &'a Moment, now: &'a Moment) -> Self {
        Self {
            now,
            seconds: now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001),
            nodes: before.status.nodes.iter().map(|node| (node.id, node)).collect(),
            channels: before.channels.iter().map(|channel| (channel.id, channel)).collect(),
            consumers: before.consumers.iter().map(|it| ((it.channel.as_str(), it.id), it)).collect(),
        }
    }

    fn rate(&self, before: u64, now: u64) -> f64 {
        // What has gone back was restored or reset: nothing was done then.
        now.saturating_sub(before) as f64 / self.seconds
    }

    /// Log entries that a node has applied.
    pub(super) fn commits(&self, node: &NodeStatus) -> f64 {
        self.nodes.get(&node.id).map_or(0.0, |before| self.rate(before.applied, node.applied))
    }

    /// Channels with the messages that were published, and about as many bytes as those have: what is removed at the same time
    /// does not count.
    pub(super) fn channels(&self) -> impl Iterator<Item = (&'a Channel, f64, f64)> {
        self.now.channels.iter().map(|channel| match self.channels.get(&channel.id) {
            None => (channel, 0.0, 0.0),
            Some(before) => {
                (channel, self.rate(before.next_seq, channel.next_seq), self.rate(before.bytes, channel.bytes))
            }
        })
    }

    /// Consumers with the messages that they settled and those that were handed out again. What is settled is what has come and
    /// is not behind any longer.
    pub(super) fn consumers(&self) -> impl Iterator<Item = (&'a Consumer, f64, f64)> {
        self.now.consumers.iter().map(|consumer| {
            let Some(before) = self.consumers.get(&(consumer.channel.as_str(), consumer.id)) else {
                return (consumer, 0.0, 0.0);
            };
            let came = self.published_to(&consumer.channel);
            let settled = (before.lag + came).saturating_sub(consumer.lag) as f64 / self.seconds;
            (consumer, settled, self.rate(before.redelivered, consumer.redelivered))
        })
    }

    fn published_to(&self, name: &str) -> u64 {
        let now = self.now.channels.iter().find(|channel| channel.name == name);
        let before = now.and_then(|now| self.channels.get(&now.id));
        now.zip(before).map_or(0, |(now, before)| now.next_seq.saturating_sub(before.next_seq))
    }

    /// Messages that were published to all channels.
    pub(super) fn published(&self) -> f64 {
        self.channels().map(|(_, messages, _)| messages).sum()
    }

    /// As `-o json` says it.
    pub(super) fn json(&self) -> Value {
        let with = |mut value: Value, rates: &[(&str, f64)]| {
            for (name, rate) in rates {
                value[*name] = json!(rate);
            }
            value
        };
        let nodes = self.now.status.nodes.iter().map(|node| {
            json!({ "name": node.name, "applied": node.applied, "lag": node.lag, "commits_per_second": self.commits(node) })
        });
        let channels = self.channels().map(|(channel, messages, bytes)| {
            let value = json!(ChannelJson::of(channel));
            with(value, &[("messages_per_second", messages), ("bytes_per_second", bytes)])
        });
        let consumers = self.consumers().map(|(consumer, settled, redelivered)| {
            let value = json!(ConsumerJson::of(consumer));
            with(value, &[("settled_per_second", settled), ("redelivered_per_second", redelivered)])
        });
        json!({
            "leader": self.now.status.leader,
            "nodes": nodes.collect::<Vec<_>>(),
            "channels": channels.collect::<Vec<_>>(),
            "consumers": consumers.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_differences_over_the_time_and_never_below_nothing() {
        let at = Instant::now();
        let moment = |at, next_seq, lag, applied| Moment {
            at,
            status: ClusterStatusResponse {
                nodes: vec![NodeStatus { id: 1, applied, ..NodeStatus::default() }],
                ..ClusterStatusResponse::default()
            },
            channels: vec![Channel { id: 7, name: "c".into(), next_seq, ..Channel::default() }],
            consumers: vec![Consumer { id: 3, channel: "c".into(), lag, ..Consumer::default() }],
        };
        let (before, now) = (moment(at, 1, 10, 5), moment(at + Duration::from_secs(2), 101, 50, 25));
        let rates = Rates::between(&before, &now);
        assert_eq!(rates.published(), 50.0);
        assert_eq!(rates.commits(&now.status.nodes[0]), 10.0);
        let (_, settled, _) = rates.consumers().next().unwrap();
        assert_eq!(settled, 30.0, "100 came, and it is 40 further behind");
        let back = Rates::between(&now, &before);
        assert_eq!((back.published(), back.commits(&before.status.nodes[0])), (0.0, 0.0));
    }
}
