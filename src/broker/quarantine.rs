//! Samples of what a channel's schema refuses, in its quarantine channel, for whoever has to find out who sends it.
//!
//! A publisher of nonsense is told at once, and must not cost more than any other: samples are few, wait in a short
//! queue, and are published by one task in the background. Whatever stands in their way, they are dropped and counted.

use bytes::Bytes;
pub use liminal_wire::headers::{REJECTED_CHANNEL, REJECTED_REASON};
use tokio::{sync::mpsc, time::Instant};

use super::{Broker, BrokerError, Confirm, Outcome, PublishOptions, Violation, samples::Sample};
use crate::{
    model::{ChannelId, ChannelName, Frame, Quota},
    proto::v1::{Header, Message},
};

/// Samples of one channel.
const RATE: Quota = Quota { messages_per_second: Some(10), bytes_per_second: None };
/// Of the reason.
const REASON_BYTES: usize = 1 << 10;
/// Meters of channels that are gone go when there are so many more meters than channels.
const SPARE: usize = 64;

impl Broker {
    /// Takes samples of what the schema refused, without waiting for anything.
    pub(super) fn sample_refused(&self, channel: &str, frame: &Frame, results: &[Result<Outcome, BrokerError>]) {
        let broken: Vec<(u32, &[Violation])> = (0..)
            .zip(results)
            .filter_map(|(position, result)| match result {
                Err(BrokerError::SchemaViolation { violations, .. }) => Some((position, violations.as_slice())),
                _ => None,
            })
            .collect();
        if broken.is_empty() {
            return;
        }
        let Some(meta) = self.inner.view.catalog().get(channel).cloned() else { return };
        let Some(target) = &meta.config.quarantine else { return };
        let quarantine = &self.inner.quarantine;
        let taken = self.take_samples(meta.id, broken.len());
        quarantine.drop_samples(broken.len() - taken);
        let positions: Vec<u32> = broken[..taken].iter().map(|(position, _)| *position).collect();
        for (message, (_, violations)) in frame.select(&positions).messages().zip(&broken) {
            let Ok(message) = message else { continue }; // it could be read when its schema refused it
            let message = sample(channel, &message, violations);
            if quarantine.waiting.try_send(Sample { target: target.clone(), message }).is_err() {
                quarantine.drop_samples(1);
            }
        }
    }

    /// How many of so many the channel's rate allows now.
    fn take_samples(&self, channel: ChannelId, count: usize) -> usize {
        let (mut meters, now) = (self.inner.quarantine.meters.lock(), Instant::now());
        if meters.len() > self.inner.view.catalog().len() + SPARE {
            meters.retain(|channel, _| self.inner.view.meta(*channel).is_some());
        }
        let meter = meters.entry(channel).or_default();
        (0..count).take_while(|_| meter.take(RATE, 1, 0, now).is_ok()).count()
    }

    /// A quarantine has to be there when it is set, and to be another channel: it would refuse the samples as well.
    pub(super) async fn check_quarantine(
        &self,
        channel: &str,
        quarantine: Option<&ChannelName>,
    ) -> Result<(), BrokerError> {
        let Some(quarantine) = quarantine.map(ChannelName::as_str) else { return Ok(()) };
        if quarantine == channel {
            let reason = format!("channel `{channel}` cannot be its own quarantine: name another channel");
            return Err(BrokerError::InvalidArgument { reason });
        }
        match self.resolve(quarantine).await {
            Err(BrokerError::ChannelNotFound { name, .. }) => {
                let reason = format!("the quarantine channel `{name}` does not exist: create it first");
                Err(BrokerError::InvalidArgument { reason })
            }
            found => found.map(drop),
        }
    }
}

/// With a payload of its own: the publish that it was part of may be large, and is not to be kept for it.
fn sample(channel: &str, message: &Message, violations: &[Violation]) -> Message {
    let header = |name: &str, value: String| Header { name: name.into(), value };
    let headers = vec![header(REJECTED_CHANNEL, channel.into()), header(REJECTED_REASON, reason(violations))];
    Message { payload: Bytes::copy_from_slice(&message.payload), headers, ..Message::default() }
}

fn reason(violations: &[Violation]) -> String {
    let mut reason = match violations.first() {
        Some(Violation { pointer, message }) if pointer.is_empty() => message.clone(),
        Some(Violation { pointer, message }) => format!("{pointer}: {message}"),
        None => String::new(),
    };
    reason.truncate(reason.floor_char_boundary(REASON_BYTES));
    reason
}

/// Publishes samples, one after the other. One that is refused itself is not sampled again.
pub(super) async fn run(broker: Broker, mut queue: mpsc::Receiver<Sample>) {
    while let Some(Sample { target, message }) = queue.recv().await {
        let options = PublishOptions::new().confirm(Confirm::Commit);
        let published = broker.admit_publish(target.as_str(), Frame::encode([&message]), options).await;
        if let Err(error) = published.and_then(|results| results.into_iter().collect::<Result<Vec<_>, _>>()) {
            tracing::debug!(%error, %target, "a refused message did not get into quarantine");
            broker.inner.quarantine.drop_samples(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(pointer: &str, message: &str) -> Violation {
        Violation { pointer: pointer.into(), message: message.into() }
    }

    #[test]
    fn the_reason_is_the_first_place_and_what_is_wrong_there() {
        assert_eq!(reason(&[violation("/id", "is missing"), violation("/x", "is too much")]), "/id: is missing");
        assert_eq!(reason(&[violation("", "is no JSON")]), "is no JSON");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = reason(&[violation("", &"ä".repeat(REASON_BYTES))]);
        assert_eq!(long, "ä".repeat(REASON_BYTES / 2));
        assert_eq!(reason(&[violation("", &format!("x{long}"))]).len(), REASON_BYTES - 1);
    }

    #[test]
    fn a_sample_keeps_the_payload_and_claims_no_key() {
        let message = Message { payload: "bad".into(), key: Some("k".into()), ttl_ms: 5, ..Message::default() };
        let sample = sample("orders", &message, &[violation("", "is no JSON")]);
        assert_eq!((sample.payload.as_ref(), sample.key, sample.ttl_ms), (&b"bad"[..], None, 0));
        let headers: Vec<_> = sample.headers.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
        assert_eq!(headers, [(REJECTED_CHANNEL, "orders"), (REJECTED_REASON, "is no JSON")]);
    }
}
