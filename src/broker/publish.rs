//! A publish from its arrival on any node to its acknowledgement.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Broker, BrokerError, CompiledSchema, Confirm, LONG_CHECKS, Outcome, PublishOptions,
    batcher::Committed,
    evolution::blocking,
    forward::{Request, Response, not_submitted},
    joins::Original,
    leader::Asking,
    outcomes::{Results, merge, name_keys, named, refusals, results},
    rules::Judged,
    stats::overloaded,
};
use crate::{
    model::{ChannelId, ChannelMeta, Frame, KeyClaim, KeyHash, PublishGroup, Refusal, Route},
    proto::v1::Message,
};

/// How long the checks of one request may take, beyond the first message's: the rest is refused.
pub(super) const CHECK_TIME: Duration = Duration::from_secs(1);

/// How long a request may wait for others' checks that take long.
const TURN: Duration = Duration::from_secs(5);

/// Messages of one channel that passed all checks.
pub(super) struct Checked {
    pub(super) meta: Arc<ChannelMeta>,
    rules_version: u64,
    routes: Vec<Route>,
    pub(super) keys: Vec<KeyClaim>,
    /// The keys' texts, for errors.
    pub(super) names: Vec<String>,
    pub(super) frame: Frame,
    /// Whether a message has a time to live.
    expires: bool,
    /// Messages that did not pass, by position.
    pub(super) refused: Vec<(u32, BrokerError)>,
    /// Messages that passed and are to wait for their time, by position.
    pub(super) later: Vec<u32>,
}

impl Checked {
    /// As the machine takes it.
    pub(super) fn group(&self, expected_seq: Option<u64>) -> PublishGroup {
        PublishGroup {
            channel: self.meta.id,
            schema_id: self.meta.schema_id,
            rules_version: self.rules_version,
            expected_seq,
            expires: self.expires,
            routes: self.routes.clone(),
            keys: self.keys.clone(),
            frame: self.frame.clone(),
        }
    }
}

impl Broker {
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
                Ok(other) => return Err(other.unexpected()),
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
        if let Some(error) = self.refusal() {
            return Err(Response::Refused(error));
        }
        let (channel, count) = (submission.channel, submission.frame.count());
        self.charge(&[(channel, u64::from(count), submission.frame.len())]).map_err(Response::Refused)?;
        let keys = submission.keys.clone();
        let (mut flight, answer) = self.take_off(submission).map_err(Response::Refused)?;
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

    /// Looks at all messages of a frame. What may take long is done on a thread that serves nobody else.
    pub(super) async fn check(&self, meta: Arc<ChannelMeta>, frame: &Frame) -> Result<Checked, BrokerError> {
        if self.is_checked_quickly(&meta, frame.len()) {
            return self.check_now(meta, frame);
        }
        let (broker, frame) = (self.clone(), frame.clone());
        self.in_turn(move || broker.check_now(meta, &frame)).await?
    }

    /// Does what may take long on a thread that serves nobody else, when it is its turn.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokerError> {
        let turn = tokio::time::timeout(TURN, self.inner.checks.acquire()).await;
        let _turn = turn.map_err(|_| overloaded(LONG_CHECKS, LONG_CHECKS))?.map_err(|_| BrokerError::Stopping)?;
        blocking(work).await
    }

    /// Whether the channel's schema, and those of the channels to which its messages are copied, are ready and cheap.
    pub(super) fn is_checked_quickly(&self, meta: &ChannelMeta, bytes: usize) -> bool {
        let routing = self.routing(meta.id);
        let schemas = self.inner.schemas.lock();
        std::iter::once(meta).chain(routing.targets()).all(|meta| {
            let quick = |schema: &Arc<CompiledSchema>| schema.is_quick(bytes);
            meta.config.schema.is_none() || schemas.get(meta.schema_id).is_some_and(quick)
        })
    }

    fn check_now(&self, meta: Arc<ChannelMeta>, frame: &Frame) -> Result<Checked, BrokerError> {
        let give_up = Instant::now() + CHECK_TIME;
        let mut routing = self.routing(meta.id);
        let schema = self.schema_of(&meta)?;
        let (mut keys, mut names, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let (mut accepted, mut expires, mut later): (u32, bool, Vec<u32>) = (0, false, Vec::new());
        for (position, message) in (0u32..).zip(frame.messages()) {
            match message
                .map_err(|error| BrokerError::InvalidArgument { reason: format!("a message cannot be read: {error}") })
                .and_then(|message| {
                    if position > 0 && Instant::now() >= give_up {
                        let reason = format!("the messages before it in its request took longer than {CHECK_TIME:?}");
                        return Err(BrokerError::SchemaTooExpensive { channel: meta.name.to_string(), reason });
                    }
                    self.check_message(&meta, schema.as_deref(), &message)?;
                    let judged = if message.key.is_some() { Judged::Later } else { Judged::Here };
                    routing.add(self, accepted, &message, judged)?;
                    Ok(message)
                }) {
                Ok(message) => {
                    expires |= message.ttl_ms > 0;
                    if message.deliver_at_ms > 0 && message.deliver_at_ms > self.now_ms() {
                        later.push(position);
                    }
                    if let Some(name) = message.key {
                        let (key, digest) = (KeyHash::of(&name), meta.config.comparison.digest(&message.payload));
                        keys.push(KeyClaim { position: accepted, key, digest });
                        names.push(name);
                    }
                    accepted += 1;
                }
                Err(error) => refused.push((position, error)),
            }
        }
        let dropped: Vec<u32> = refused.iter().map(|(position, _)| *position).collect();
        let frame = frame.without(&dropped);
        self.check_copied(routing.copied())?;
        let (rules_version, routes) = (routing.version(), routing.finish());
        Ok(Checked { meta, rules_version, routes, keys, names, frame, expires, refused, later })
    }

    /// Refuses what rules would copy too often. An entry is bounded by what it makes, not only by what it says.
    pub(super) fn check_copied(&self, value: u64) -> Result<(), BrokerError> {
        let limit = self.limits().copied_bytes as u64;
        if value > limit {
            let what = "all copies that rules make of the request (bytes)".into();
            return Err(BrokerError::LimitExceeded { what, value, limit });
        }
        Ok(())
    }

    fn check_message(
        &self,
        meta: &ChannelMeta,
        schema: Option<&CompiledSchema>,
        message: &Message,
    ) -> Result<(), BrokerError> {
        self.check_size(message)?;
        let Some(schema) = schema else { return Ok(()) };
        schema.check(&message.payload, self.limits()).map_err(|unfit| unfit.of_channel(meta.name.as_str()))
    }

    /// What holds for every message, wherever it goes.
    ///
    /// # Errors
    /// `LimitExceeded`, which names the limit; `InvalidArgument` for an empty key.
    pub fn check_size(&self, message: &Message) -> Result<(), BrokerError> {
        let limits = self.limits();
        let within = |what: &str, value: usize, limit: usize| {
            if value <= limit {
                return Ok(());
            }
            Err(BrokerError::LimitExceeded { what: what.into(), value: value as u64, limit: limit as u64 })
        };
        within("the payload (bytes)", message.payload.len(), limits.message_bytes)?;
        if message.key.as_deref() == Some("") {
            let reason = "the idempotency key is empty: give one, or leave it out".into();
            return Err(BrokerError::InvalidArgument { reason });
        }
        within("the idempotency key (bytes)", message.key().len(), limits.key_bytes)?;
        within("the number of headers", message.headers.len(), limits.headers)?;
        let headers: usize = message.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        let causal = message.causal_context.as_ref().map_or(0, prost::Message::encoded_len);
        let trace = message.trace_context.as_ref().map_or(0, prost::Message::encoded_len);
        within("the headers with causal and trace context (bytes)", headers + causal + trace, limits.header_bytes)?;
        let delay = if message.deliver_at_ms == 0 { 0 } else { message.deliver_at_ms.saturating_sub(self.now_ms()) };
        let milliseconds = |time: u64| usize::try_from(time).unwrap_or(usize::MAX);
        within(
            "the delay (ms)",
            milliseconds(delay),
            usize::try_from(limits.max_delay.as_millis()).unwrap_or(usize::MAX),
        )
    }

    pub(super) fn schema_of(&self, meta: &ChannelMeta) -> Result<Option<Arc<CompiledSchema>>, BrokerError> {
        let Some(text) = &meta.config.schema else { return Ok(None) };
        if let Some(schema) = self.inner.schemas.lock().get(meta.schema_id) {
            return Ok(Some(schema.clone()));
        }
        let schema = CompiledSchema::compile(text, self.limits())
            .map_err(|reason| BrokerError::InvalidSchema { reason: format!("channel `{}`: {reason}", meta.name) })?;
        let schema = Arc::new(schema);
        self.inner.schemas.lock().keep(meta.schema_id, text.len(), schema.clone());
        Ok(Some(schema))
    }
}
