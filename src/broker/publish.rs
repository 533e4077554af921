//! A publish from its arrival on any node to its acknowledgement.

use std::time;

use tokio::time::Instant;

use super::{
    Broker, BrokerError, Confirm, Envelope, Outcome, PublishOptions, Unserved,
    forward::{Request, Response, not_submitted},
    joins::Original,
    leader::Asking,
    outcomes::{Results, merge, name_keys, named, place, refusals, results},
    submission::Committed,
};
use crate::model::{ChannelId, Frame, KeyHash, PublishGroup, Refusal};

/// The trace that the first message of a frame belongs to; none where it says none, or not as W3C Trace Context has it.
fn trace_id(frame: &Frame) -> Option<String> {
    let message = frame.messages().next()?.ok()?;
    let context = message.trace_context?;
    let mut parts = context.traceparent.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_whole = is_hex(version, 2) && is_hex(id, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    // Later versions may have more parts; an id of zeros is none.
    let is_valid = is_whole && version != "ff" && id.bytes().any(|byte| byte != b'0');
    is_valid.then(|| id.to_owned())
}

impl Broker {
    /// Publishes one message and waits until it is acknowledged and its delivery is known. An empty key is refused: a
    /// message without a key has none.
    ///
    /// # Errors
    /// See [`BrokerError`]; only those with [`BrokerError::outcome_unknown`] may have been stored.
    pub async fn publish(&self, channel: &str, envelope: Envelope, key: Option<&str>) -> Result<Outcome, BrokerError> {
        self.publish_with(channel, envelope, key, PublishOptions::default()).await
    }

    /// The same with more choices.
    ///
    /// # Errors
    /// As [`Broker::publish`]; `WrongSeq` when the channel does not end where the options say.
    pub async fn publish_with(
        &self,
        channel: &str,
        envelope: Envelope,
        key: Option<&str>,
        options: PublishOptions,
    ) -> Result<Outcome, BrokerError> {
        let frame = Frame::encode([&envelope.into_message(key)]);
        let mut results = self.publish_frame_with(channel, frame, options).await;
        results.pop().unwrap_or_else(|| Err(BrokerError::Internal { reason: "a publish without a result".into() }))
    }

    /// Publishes encoded messages of one channel; one result for each, in order. Batches are taken in the order in
    /// which the returned futures are first polled, so a caller may keep several under way and stay in order.
    pub async fn publish_frame(&self, channel: &str, frame: Frame, confirm: Confirm) -> Results {
        self.publish_frame_with(channel, frame, PublishOptions::new().confirm(confirm)).await
    }

    /// The same with more choices.
    pub async fn publish_frame_with(&self, channel: &str, frame: Frame, options: PublishOptions) -> Results {
        let (count, begun) = (frame.count() as usize, time::Instant::now());
        let _request = self.inner.requests.token();
        let results = match self.admit_publish(channel, frame.clone(), options).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); count],
        };
        self.count(&results);
        if results.iter().any(Result::is_ok) {
            let meters = self.inner.view.meters();
            let to = match options.confirm {
                Confirm::Commit => &meters.publish_to_commit,
                Confirm::Delivery | Confirm::Certainty => &meters.publish_to_delivery,
            };
            to.since(begun, || Some((trace_id(&frame)?, self.inner.view.clock().wall_ms())));
        }
        self.sample_refused(channel, &frame, &results);
        results
    }

    /// Whether messages would be taken: their sizes, and the schemas of the channel and of those that rules copy them to. The
    /// first thing that stands in the way is told; nothing is stored, counted or put into quarantine.
    ///
    /// # Errors
    /// As [`Broker::publish`], for what is known before anything is stored.
    pub async fn check_frame(&self, channel: &str, frame: &Frame) -> Result<(), BrokerError> {
        self.check_running()?;
        let _admitted = self.admit(frame.len())?;
        let checked = self.check(self.resolve(channel).await?, frame).await?;
        checked.refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Neither counted nor sampled.
    pub(super) async fn admit_publish(
        &self,
        channel: &str,
        frame: Frame,
        options: PublishOptions,
    ) -> Result<Results, BrokerError> {
        self.check_running()?;
        let limit = self.limits().batch_messages;
        if frame.count() as usize > limit {
            let value = u64::from(frame.count());
            return Err(BrokerError::LimitExceeded { what: "the batch (messages)".into(), value, limit: limit as u64 });
        }
        let (bytes, limit) = (frame.len(), self.limits().batch_bytes);
        if frame.count() > 1 && bytes > limit {
            let (value, limit) = (bytes as u64, limit as u64);
            return Err(BrokerError::LimitExceeded { what: "the batch (bytes)".into(), value, limit });
        }
        let _admitted = self.admit(bytes)?;
        let deadline = Instant::now() + self.limits().publish_timeout;
        let mut asking = Asking::until(deadline);
        let published = self.try_publish(channel, &frame, options, &mut asking).await;
        published.map_err(|error| asking.conclude(error))
    }

    /// Checks it and has it published by the leader, again where what it was checked against has changed meanwhile.
    async fn try_publish(
        &self,
        channel: &str,
        frame: &Frame,
        options: PublishOptions,
        asking: &mut Asking,
    ) -> Result<Results, BrokerError> {
        loop {
            let meta = self.resolve(channel).await?;
            let checked = self.check(meta, frame).await?;
            if !checked.later.is_empty() {
                return self.publish_apart(channel, frame, &checked.later, options, asking.deadline()).await;
            }
            if checked.frame.is_empty() {
                return Ok(merge(Vec::new(), refusals(checked.refused)));
            }
            let request = Request::Publish { group: checked.group(options.expected_seq), confirm: options.confirm };
            match self.ask_leader(&request, asking).await {
                Ok(Response::Published(mut results)) => {
                    name_keys(&mut results, &checked);
                    return Ok(merge(results, refusals(checked.refused)));
                }
                Ok(Response::Stale) => self.catch_up().await?,
                Ok(other) => return Err(other.unexpected().into()),
                Err(error) => return Err(named(error, checked.meta.name.as_str(), "")),
            }
        }
    }

    /// A batch of which some messages, at the positions `later`, are to wait for their time.
    async fn publish_apart(
        &self,
        channel: &str,
        frame: &Frame,
        later: &[u32],
        options: PublishOptions,
        deadline: Instant,
    ) -> Result<Results, BrokerError> {
        if options.expected_seq.is_some() {
            let reason = "a message that waits for its time has no sequence number to expect: leave one of the two out";
            return Err(BrokerError::InvalidArgument { reason: reason.into() });
        }
        let now = frame.without(later);
        let results = if now.is_empty() {
            Vec::new()
        } else {
            let (count, mut asking) = (now.count() as usize, Asking::until(deadline));
            // By now they are due, and always will be.
            let published = Box::pin(self.try_publish(channel, &now, options, &mut asking)).await;
            published.unwrap_or_else(|error| vec![Err(asking.conclude(error)); count])
        };
        let scheduled = self.schedule(channel, &frame.select(later), deadline).await;
        let scheduled = scheduled.unwrap_or_else(|error| vec![Err(error); later.len()]);
        Ok(merge(results, later.iter().copied().zip(scheduled).collect()))
    }

    /// On the leader: into the log, and the result of each message with its delivery.
    ///
    /// # Errors
    /// The answer where there are no results.
    pub(super) async fn submit(
        &self,
        submission: PublishGroup,
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Results, Response> {
        let refused = |error: Unserved| Response::Refused(error.into());
        if let Some(error) = self.refusal() {
            return Err(refused(error));
        }
        let (channel, count) = (submission.channel, submission.frame.count());
        self.charge(&[(channel, u64::from(count), submission.frame.len())]).map_err(refused)?;
        let keys = submission.keys.clone();
        let next_seq = || self.inner.view.stats(channel).unwrap_or_default().next_seq;
        let taken = self.inner.flights.take_off(submission, &self.inner.batcher, next_seq);
        let (mut flight, answer) = taken.map_err(refused)?;
        let Committed { term, reply } = match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer.map_err(not_submitted)?,
            Ok(Err(_)) => return Err(Response::Unknown("this node is stopping".into())),
            Err(_) => return Err(Response::Unknown("no outcome in time".into())),
        };
        let assigned = reply.map_err(|refusal| match refusal {
            Refusal::NoSuchChannel | Refusal::StaleSchema { .. } | Refusal::StaleRules { .. } => Response::Stale,
            Refusal::WrongSeq { expected, actual } => {
                Response::Refused(BrokerError::WrongSeq { channel: String::new(), expected, actual })
            }
            other => {
                let internal = || BrokerError::Internal { reason: other.to_string() };
                Response::Refused(self.copy_refused(&other).map_or_else(internal, |(_, error)| error))
            }
        })?;
        let delivered = self.delivered(channel, &assigned, count, confirm, term).await;
        let mut results = results(&assigned, count, term, &delivered, confirm);
        for claim in &keys {
            let Some(Ok(outcome)) = results.get_mut(claim.position as usize) else { continue };
            if outcome.repeats() && self.was_missed(channel, claim.key, outcome.seq) {
                // The first to hear of it: this is the outcome of the publish itself.
                *outcome = self.original(channel, *outcome, confirm).await;
            }
        }
        for joined in flight.land(&results) {
            let Some(Ok(outcome)) = results.get_mut(joined.position as usize) else { continue };
            if !outcome.repeats() {
                continue;
            }
            match tokio::time::timeout_at(deadline, joined.original(outcome.seq)).await {
                Ok(Original::Known(original)) => {
                    let delivered = if confirm == Confirm::Commit { None } else { original.delivered };
                    *outcome = Outcome { delivered, ..original };
                }
                // This publish is told instead of the one that it joined.
                Ok(Original::Nobody) => *outcome = self.original(channel, *outcome, confirm).await,
                Ok(Original::Unrelated) | Err(_) => {}
            }
        }
        place(results.iter_mut().flatten(), self.inner.view.history(channel).as_ref());
        Ok(results)
    }

    /// Whether a publish of this key was committed, but its publisher told that the outcome is unknown.
    fn was_missed(&self, channel: ChannelId, key: KeyHash, seq: u64) -> bool {
        self.inner.missed.lock().remove(&(channel, key)).is_some_and(|(missed, _)| missed == seq)
    }

    /// What the first publish of a key was answered, or would have been.
    async fn original(&self, channel: ChannelId, outcome: Outcome, confirm: Confirm) -> Outcome {
        let (fanout, limit) = (self.inner.view.fanout(), self.limits().delivery_timeout);
        let delivered = match confirm {
            Confirm::Commit => None,
            Confirm::Delivery | Confirm::Certainty => {
                let range = outcome.seq..outcome.seq + 1;
                self.inner.delivery.wait(fanout, channel, range, limit).await.pop().flatten()
            }
        };
        Outcome { duplicate: false, delivered, ..outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Message, TraceContext};

    #[test]
    fn a_trace_id_is_taken_from_a_traceparent_and_from_nothing_else() {
        let of = |traceparent: &str| {
            let trace = TraceContext { traceparent: traceparent.into(), tracestate: String::new() };
            trace_id(&Frame::encode([&Message { trace_context: Some(trace), ..Message::default() }]))
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(of(&format!("01-{id}-00f067aa0ba902b7-01-more")).as_deref(), Some(id), "a later version");
        for other in [
            String::new(),
            id.to_owned(),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}\"-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(of(&other), None, "{other}");
        }
        assert_eq!(trace_id(&Frame::encode([&Message::default()])), None);
    }
}
