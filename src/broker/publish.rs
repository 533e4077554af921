//! A publish from its arrival on any node to its acknowledgement.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Broker, BrokerError, Confirm, Envelope, Leader, Outcome, PublishOptions, Unserved,
    checks::Checked,
    joins::Original,
    outcomes::{Results, merge, name_keys, named, place, refusals, results},
    submission::{Committed, SubmitError},
};
use crate::model::{ChannelId, Frame, KeyHash, PublishGroup, Refusal};

/// How long to wait before a publish that was surely not proposed is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// One try's failure.
pub(super) enum Failure {
    /// Surely not proposed.
    NotProposed,
    /// May be committed.
    Unknown(String),
    /// The channel or its schema changed meanwhile.
    Stale,
    /// For every message.
    Definite(BrokerError),
}

impl From<Unserved> for Failure {
    fn from(error: Unserved) -> Self {
        Self::Definite(error.into())
    }
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
        let count = frame.count() as usize;
        let _request = self.inner.requests.token();
        let results = match self.admit_publish(channel, frame.clone(), options).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); count],
        };
        self.count(&results);
        self.sample_refused(channel, &frame, &results);
        results
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
        let mut unknown = None;
        let published = self.try_publish(channel, &frame, options, deadline, &mut unknown).await;
        published.map_err(|error| error.after_unknown(unknown))
    }

    /// Tries until it is certain what became of it. `unknown` says why it may have happened already.
    async fn try_publish(
        &self,
        channel: &str,
        frame: &Frame,
        options: PublishOptions,
        deadline: Instant,
        unknown: &mut Option<String>,
    ) -> Result<Results, BrokerError> {
        loop {
            let meta = self.resolve(channel).await?;
            let checked = self.check(meta, frame).await?;
            if !checked.later.is_empty() {
                return self.publish_apart(channel, frame, &checked.later, options, deadline).await;
            }
            if checked.frame.is_empty() {
                return Ok(merge(Vec::new(), refusals(checked.refused)));
            }
            match self.try_once(&checked, options, deadline).await {
                Ok(results) => return Ok(merge(results, refusals(checked.refused))),
                Err(Failure::Definite(error)) => match error.worth_waiting(unknown.as_deref(), deadline) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
                Err(Failure::Stale) => self.catch_up().await?,
                Err(Failure::NotProposed) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Err(Failure::NotProposed) => return Err(self.no_leader(self.limits().publish_timeout).into()),
                // The same keys make a repeated publish safe.
                Err(Failure::Unknown(reason)) if checked.keyed() && Instant::now() < deadline => {
                    *unknown = Some(reason);
                    tokio::time::sleep(RETRY).await;
                }
                Err(Failure::Unknown(reason)) => return Err(BrokerError::OutcomeUnknown { reason }),
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
            let (count, mut unknown) = (now.count() as usize, None);
            // By now they are due, and always will be.
            let published = Box::pin(self.try_publish(channel, &now, options, deadline, &mut unknown)).await;
            published.unwrap_or_else(|error| vec![Err(error.after_unknown(unknown)); count])
        };
        let scheduled = self.schedule(channel, &frame.select(later), deadline).await;
        let scheduled = scheduled.unwrap_or_else(|error| vec![Err(error); later.len()]);
        Ok(merge(results, later.iter().copied().zip(scheduled).collect()))
    }

    async fn try_once(
        &self,
        checked: &Checked,
        options: PublishOptions,
        deadline: Instant,
    ) -> Result<Results, Failure> {
        let (submission, confirm) = (checked.group(options.expected_seq), options.confirm);
        let results = match self.leader_now(deadline).await? {
            Leader::Local { .. } => self.submit(submission, confirm, deadline).await,
            Leader::Remote(node) => self.forward_publish(&node, submission, confirm, deadline).await,
            Leader::Unknown => return Err(Failure::NotProposed),
        };
        let mut results = results.map_err(|failure| match failure {
            Failure::Definite(error) => Failure::Definite(named(error, checked.meta.name.as_str(), "")),
            other => other,
        })?;
        name_keys(&mut results, checked);
        Ok(results)
    }

    /// On the leader: into the log, and the answer with its delivery.
    pub(super) async fn submit(
        &self,
        submission: PublishGroup,
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Results, Failure> {
        if let Some(error) = self.refusal() {
            return Err(error.into());
        }
        let (channel, count) = (submission.channel, submission.frame.count());
        self.charge(&[(channel, u64::from(count), submission.frame.len())])?;
        let keys = submission.keys.clone();
        let next_seq = || self.inner.view.stats(channel).unwrap_or_default().next_seq;
        let taken = self.inner.flights.take_off(submission, &self.inner.batcher, next_seq);
        let (mut flight, answer) = taken?;
        let committed = match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Ok(committed))) => committed,
            Ok(Ok(Err(SubmitError::NotLeader))) => return Err(Failure::NotProposed),
            Ok(Ok(Err(SubmitError::Unknown(reason)))) => return Err(Failure::Unknown(reason)),
            Ok(Ok(Err(SubmitError::Refused(error)))) => return Err(error.into()),
            Ok(Err(_)) => return Err(Failure::Unknown("this node is stopping".into())),
            Err(_) => return Err(Failure::Unknown("no outcome in time".into())),
        };
        let Committed { term, reply } = committed;
        let assigned = match reply {
            Ok(assigned) => assigned,
            Err(Refusal::NoSuchChannel | Refusal::StaleSchema { .. } | Refusal::StaleRules { .. }) => {
                return Err(Failure::Stale);
            }
            Err(Refusal::WrongSeq { expected, actual }) => {
                let error = BrokerError::WrongSeq { channel: String::new(), expected, actual };
                return Err(Failure::Definite(error));
            }
            Err(other) => {
                let internal = || BrokerError::Internal { reason: other.to_string() };
                let error = self.copy_refused(&other).map_or_else(internal, |(_, error)| error);
                return Err(Failure::Definite(error));
            }
        };
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
