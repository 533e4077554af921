//! What a message has to be before anything is proposed: within the limits, and as its channel's schema says.

use std::{
    sync::Arc,
    time::{self, Duration},
};

use tokio::time::Instant;

use super::{Broker, BrokerError, CompiledSchema, blocking::blocking, routing::Judged, stats::overloaded};
use crate::{
    model::{ChannelMeta, Frame, KeyClaim, KeyHash, PublishGroup, Route},
    proto::v1::Message,
};

/// Checks of payloads that may take long at once; others wait for their turn. Half of what small machines have.
pub(super) const LONG_CHECKS: usize = 2;
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
    /// Looks at all messages of a frame. What may take long is done on a thread that serves nobody else.
    pub(super) async fn check(&self, meta: Arc<ChannelMeta>, frame: &Frame) -> Result<Checked, BrokerError> {
        let begun = meta.config.schema.is_some().then(time::Instant::now);
        let checked = if self.is_checked_quickly(&meta, frame.len()) {
            self.check_now(meta, frame)
        } else {
            let (broker, frame) = (self.clone(), frame.clone());
            self.in_turn(move || broker.check_now(meta, &frame)).await.flatten()
        };
        if let Some(begun) = begun {
            self.inner.view.meters().check.since(begun);
        }
        checked
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
