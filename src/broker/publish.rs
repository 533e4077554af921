//! A publish from its arrival on any node to its acknowledgement.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Broker, BrokerError, CompiledSchema, Confirm, Leader, Outcome,
    batcher::{Committed, SubmitError},
    joins::Original,
};
use crate::{
    model::{
        Assigned, ChannelId, ChannelMeta, Digest, Frame, Full, KeyClaim, KeyHash, KeyOutcome, PublishGroup, Refusal,
        Route,
    },
    proto::v1::Message,
    replica::StoreHealth,
};

/// How long to wait before a publish that was surely not proposed is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// What became of each message of a submission that was committed.
type Results = Vec<Result<Outcome, BrokerError>>;

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

/// Messages of one channel that passed all checks.
struct Checked {
    meta: Arc<ChannelMeta>,
    rules_version: u64,
    routes: Vec<Route>,
    keys: Vec<KeyClaim>,
    /// The keys' texts, for errors.
    names: Vec<String>,
    frame: Frame,
    /// Messages that did not pass, by position.
    refused: Vec<(u32, BrokerError)>,
}

impl Broker {
    /// Publishes encoded messages of one channel; one result for each, in order. Batches are taken in the order in
    /// which the returned futures are first polled, so a caller may keep several under way and stay in order.
    pub async fn publish_frame(&self, channel: &str, frame: Frame, confirm: Confirm) -> Results {
        let count = frame.count() as usize;
        let _request = self.inner.requests.token();
        let results = match self.try_publish(channel, frame, confirm).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); count],
        };
        self.count(&results);
        results
    }

    async fn try_publish(&self, channel: &str, frame: Frame, confirm: Confirm) -> Result<Results, BrokerError> {
        self.check_running()?;
        let limit = self.limits().batch_messages;
        if frame.count() as usize > limit {
            let value = u64::from(frame.count());
            return Err(BrokerError::LimitExceeded { what: "the batch (messages)".into(), value, limit: limit as u64 });
        }
        let (bytes, limit) = (frame.bytes().len(), self.limits().batch_bytes);
        if frame.count() > 1 && bytes > limit {
            let (value, limit) = (bytes as u64, limit as u64);
            return Err(BrokerError::LimitExceeded { what: "the batch (bytes)".into(), value, limit });
        }
        let _admitted = self.admit(bytes)?;
        let deadline = Instant::now() + self.limits().publish_timeout;
        // Why an earlier try may have been committed.
        let mut unknown = None;
        loop {
            let meta = self.resolve(channel).await?;
            let checked = self.check(meta, &frame)?;
            if checked.frame.is_empty() {
                return Ok(merge(Vec::new(), checked.refused));
            }
            let keyed = checked.keys.len() == checked.frame.count() as usize;
            match self.try_once(&checked, confirm, deadline).await {
                Ok(results) => return Ok(merge(results, checked.refused)),
                Err(Failure::Definite(error)) => {
                    let Some(reason) = &unknown else { return Err(error) };
                    let wait = error.retry_after().filter(|wait| Instant::now() + *wait < deadline);
                    let Some(wait) = wait else {
                        return Err(BrokerError::OutcomeUnknown { reason: format!("{reason}; then {error}") });
                    };
                    tokio::time::sleep(wait).await;
                }
                Err(Failure::Stale) => self.catch_up().await?,
                Err(Failure::NotProposed) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Err(Failure::NotProposed) => return Err(self.no_leader(self.limits().publish_timeout)),
                // The same keys make a repeated publish safe.
                Err(Failure::Unknown(reason)) if keyed && Instant::now() < deadline => {
                    unknown = Some(reason);
                    tokio::time::sleep(RETRY).await;
                }
                Err(Failure::Unknown(reason)) => return Err(BrokerError::OutcomeUnknown { reason }),
            }
        }
    }

    async fn try_once(&self, checked: &Checked, confirm: Confirm, deadline: Instant) -> Result<Results, Failure> {
        let submission = PublishGroup {
            channel: checked.meta.id,
            schema_id: checked.meta.schema_id,
            rules_version: checked.rules_version,
            routes: checked.routes.clone(),
            keys: checked.keys.clone(),
            frame: checked.frame.clone(),
            ..PublishGroup::default()
        };
        let results = match self.leader_now(deadline).await.map_err(Failure::Definite)? {
            Leader::Local { .. } => self.submit(submission, confirm, deadline).await?,
            Leader::Remote(node) => self.forward_publish(&node, submission, confirm, deadline).await?,
            Leader::Unknown => return Err(Failure::NotProposed),
        };
        Ok(self.name_keys(results, checked))
    }

    /// On the leader: into the log, and the answer with its delivery.
    pub(super) async fn submit(
        &self,
        submission: PublishGroup,
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Results, Failure> {
        if let StoreHealth::Failing(reason) = &*self.inner.view.health().borrow() {
            return Err(Failure::Definite(BrokerError::StoreFailed { reason: reason.clone(), proposed: false }));
        }
        let (channel, count) = (submission.channel, submission.frame.count());
        self.charge(channel, &submission.frame).map_err(Failure::Definite)?;
        let keys = submission.keys.clone();
        let (mut flight, answer) = self.take_off(submission).map_err(Failure::Definite)?;
        let committed = match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Ok(committed))) => committed,
            Ok(Ok(Err(SubmitError::NotLeader))) => return Err(Failure::NotProposed),
            Ok(Ok(Err(SubmitError::Unknown(reason)))) => return Err(Failure::Unknown(reason)),
            Ok(Ok(Err(SubmitError::Refused(error)))) => return Err(Failure::Definite(error)),
            Ok(Err(_)) => return Err(Failure::Unknown("this node is stopping".into())),
            Err(_) => return Err(Failure::Unknown("no outcome in time".into())),
        };
        let Committed { term, reply } = committed;
        let assigned = match reply {
            Ok(assigned) => assigned,
            Err(Refusal::NoSuchChannel | Refusal::StaleSchema { .. } | Refusal::StaleRules { .. }) => {
                return Err(Failure::Stale);
            }
            Err(Refusal::TargetFull { channel, full }) => {
                let name = self.inner.view.meta(channel).map(|meta| meta.name.to_string()).unwrap_or_default();
                return Err(Failure::Definite(channel_full(name, full)));
            }
            Err(other) => return Err(Failure::Definite(BrokerError::Internal { reason: other.to_string() })),
        };
        let new = u64::from(count) - assigned.except.len() as u64;
        let end = assigned.first_seq + new;
        let delivered = match confirm {
            Confirm::Commit => Vec::new(),
            Confirm::Delivery => {
                let limit = self.limits().delivery_timeout;
                self.inner.delivery.wait(self.inner.view.fanout(), channel, assigned.first_seq..end, limit).await
            }
        };
        let mut results = results(&assigned, count, term, &delivered, confirm);
        for claim in &keys {
            let Some(Ok(outcome)) = results.get_mut(claim.position as usize) else { continue };
            if outcome.duplicate && self.was_missed(channel, claim.key, outcome.seq) {
                // The first to hear of it: this is the outcome of the publish itself.
                *outcome = self.original(channel, *outcome, confirm).await;
            }
        }
        for joined in flight.land(&results) {
            let Some(Ok(outcome)) = results.get_mut(joined.position as usize) else { continue };
            if !outcome.duplicate {
                continue;
            }
            match tokio::time::timeout_at(deadline, joined.original(outcome.seq)).await {
                Ok(Original::Known(original)) => {
                    let delivered = if confirm == Confirm::Delivery { original.delivered } else { None };
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
            Confirm::Delivery => {
                let range = outcome.seq..outcome.seq + 1;
                self.inner.delivery.wait(fanout, channel, range, limit).await.pop().flatten()
            }
        };
        Outcome { duplicate: false, delivered, ..outcome }
    }

    fn check(&self, meta: Arc<ChannelMeta>, frame: &Frame) -> Result<Checked, BrokerError> {
        let mut routing = self.routing(meta.id);
        let schema = self.schema_of(&meta)?;
        let (mut keys, mut names, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut accepted: u32 = 0;
        for (position, message) in (0u32..).zip(frame.messages()) {
            match message
                .map_err(|error| BrokerError::InvalidArgument { reason: format!("a message cannot be read: {error}") })
                .and_then(|message| self.check_message(&meta, schema.as_deref(), &message).map(|()| message))
            {
                Ok(message) => {
                    routing.add(self, accepted, &message)?;
                    if !message.key.is_empty() {
                        let (key, digest) = (KeyHash::of(&message.key), Digest::of(&message.payload));
                        keys.push(KeyClaim { position: accepted, key, digest });
                        names.push(message.key);
                    }
                    accepted += 1;
                }
                Err(error) => refused.push((position, error)),
            }
        }
        let dropped: Vec<u32> = refused.iter().map(|(position, _)| *position).collect();
        let (rules_version, routes) = (routing.version(), routing.finish());
        Ok(Checked { meta, rules_version, routes, keys, names, frame: frame.without(&dropped), refused })
    }

    fn check_message(
        &self,
        meta: &ChannelMeta,
        schema: Option<&CompiledSchema>,
        message: &Message,
    ) -> Result<(), BrokerError> {
        let limits = self.limits();
        let within = |what: &str, value: usize, limit: usize| {
            if value <= limit {
                return Ok(());
            }
            Err(BrokerError::LimitExceeded { what: what.into(), value: value as u64, limit: limit as u64 })
        };
        within("the payload (bytes)", message.payload.len(), limits.message_bytes)?;
        within("the idempotency key (bytes)", message.key.len(), limits.key_bytes)?;
        within("the number of headers", message.headers.len(), limits.headers)?;
        let headers: usize = message.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        let causal = message.causal_context.as_ref().map_or(0, prost::Message::encoded_len);
        let trace = message.trace_context.as_ref().map_or(0, prost::Message::encoded_len);
        within("the headers with causal and trace context (bytes)", headers + causal + trace, limits.header_bytes)?;
        let Some(schema) = schema else { return Ok(()) };
        schema
            .check(&message.payload, limits)
            .map_err(|violations| BrokerError::SchemaViolation { channel: meta.name.to_string(), violations })
    }

    pub(super) fn schema_of(&self, meta: &ChannelMeta) -> Result<Option<Arc<CompiledSchema>>, BrokerError> {
        let Some(text) = &meta.config.schema else { return Ok(None) };
        if let Some(schema) = self.inner.schemas.lock().get(&meta.schema_id) {
            return Ok(Some(schema.clone()));
        }
        let schema = CompiledSchema::compile(text, self.limits())
            .map_err(|reason| BrokerError::InvalidSchema { reason: format!("channel `{}`: {reason}", meta.name) })?;
        let schema = Arc::new(schema);
        let mut schemas = self.inner.schemas.lock();
        // Schemas that were replaced go when there are many; those in use come back by themselves.
        if schemas.len() > self.inner.view.catalog().len() + 64 {
            schemas.clear();
        }
        schemas.insert(meta.schema_id, schema.clone());
        Ok(Some(schema))
    }

    /// Conflicts come back from the log without the text of the key, and all without the name of the channel.
    fn name_keys(&self, mut results: Results, checked: &Checked) -> Results {
        for error in results.iter_mut().filter_map(|result| result.as_mut().err()) {
            if let BrokerError::ChannelFull { channel, .. } = error {
                *channel = checked.meta.name.to_string();
            }
        }
        for (claim, name) in checked.keys.iter().zip(&checked.names) {
            if let Some(Err(error)) = results.get_mut(claim.position as usize) {
                match error {
                    BrokerError::KeyConflict { channel, key, .. } => {
                        *channel = checked.meta.name.to_string();
                        key.clone_from(name);
                    }
                    BrokerError::TooManyKeys { channel, .. } => *channel = checked.meta.name.to_string(),
                    _ => {}
                }
            }
        }
        results
    }
}

/// `delivered` has the new messages in order, or nothing.
fn results(assigned: &Assigned, count: u32, term: u64, delivered: &[Option<bool>], confirm: Confirm) -> Results {
    let mut except = assigned.except.iter().peekable();
    let mut seq = assigned.first_seq;
    let mut delivered = delivered.iter().copied();
    (0..count)
        .map(|position| match except.next_if(|(at, _)| *at == position) {
            None => {
                seq += 1;
                Ok(Outcome { seq: seq - 1, duplicate: false, delivered: delivered.next().flatten(), term })
            }
            Some((_, KeyOutcome::Duplicate { seq })) => {
                let delivered = (confirm == Confirm::Delivery).then_some(false);
                Ok(Outcome { seq: *seq, duplicate: true, delivered, term })
            }
            Some((_, KeyOutcome::Conflict { seq })) => {
                Err(BrokerError::KeyConflict { channel: String::new(), key: String::new(), seq: *seq })
            }
            Some((_, KeyOutcome::TooManyKeys { limit })) => {
                Err(BrokerError::TooManyKeys { channel: String::new(), limit: *limit })
            }
            Some((_, KeyOutcome::Full(full))) => Err(channel_full(String::new(), *full)),
            Some((_, KeyOutcome::TooLarge { bytes, limit })) => {
                let what = "the message (bytes) for what the channel may hold".to_owned();
                Err(BrokerError::LimitExceeded { what, value: *bytes, limit: *limit })
            }
        })
        .collect()
}

fn channel_full(channel: String, full: Full) -> BrokerError {
    let (what, limit) = match full {
        Full::Messages(limit) => ("messages", limit),
        Full::Bytes(limit) => ("bytes", limit),
    };
    BrokerError::ChannelFull { channel, what: what.into(), limit }
}

/// Puts the refused messages back between the results of the others.
fn merge(results: Results, refused: Vec<(u32, BrokerError)>) -> Results {
    let mut merged = Vec::with_capacity(results.len() + refused.len());
    let mut results = results.into_iter();
    for (position, error) in refused {
        merged.extend(results.by_ref().take(position as usize - merged.len()));
        merged.push(Err(error));
    }
    merged.extend(results);
    merged
}
