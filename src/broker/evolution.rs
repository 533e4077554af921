//! What a new schema would mean for a channel, before it is given one: whether it takes all that the old one takes,
//! and whether the messages that are stored fit it. The first is a proof about every payload that could be there, the
//! second looks at those that are.

use std::time::{Duration, Instant};

use liminal_schema::{Mode, check};

use super::{
    Broker, BrokerError, ChannelInfo, CompiledSchema, Consistency, Start, Violation, blocking::blocking,
    listing::most_items, schema,
};
use crate::{
    codec,
    machine::{schema_key, schemas_prefix},
    model::{ChannelMeta, Compatibility, Durability, Limits, SchemaVersion, StoredBatch},
};

/// Messages that a report shows.
const SAMPLES: usize = 20;
/// Places that it shows of each.
const SAMPLE_VIOLATIONS: usize = 10;
/// Schemas that are read in one go.
const SCHEMAS: usize = 16;
/// How long one call may look at messages: the rest is for the next call, so that no request outlives its client.
const SLICE: Duration = Duration::from_secs(1);

/// How the stored messages of a channel fit a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryReport {
    /// Messages looked at.
    pub checked: u64,
    /// Those that do not fit.
    pub invalid: u64,
    /// Where it began.
    pub first_seq: u64,
    /// Where the next call goes on.
    pub next_seq: u64,
    /// The sequence number after the last message when the call began: all is checked when `next_seq` is there.
    pub end_seq: u64,
    /// The first messages that do not fit, with the first places of each.
    pub samples: Vec<(u64, Vec<Violation>)>,
}

impl HistoryReport {
    fn merge(&mut self, page: Self) {
        self.checked += page.checked;
        self.invalid += page.invalid;
        self.next_seq = page.next_seq;
        self.samples.extend(page.samples);
        self.samples.truncate(SAMPLES);
    }
}

impl Broker {
    /// Checks stored messages of a channel against a schema that it does not have, and changes nothing. Looks at
    /// `limit` messages, or all when it is 0; stops after a second, and says where to go on.
    ///
    /// # Errors
    /// `InvalidSchema`; as [`Broker::read`] otherwise.
    pub async fn validate_history(
        &self,
        channel: &str,
        schema: &str,
        from: Start,
        limit: u64,
    ) -> Result<HistoryReport, BrokerError> {
        self.check_running()?;
        let _one_at_a_time = self.inner.validations.acquire().await.map_err(|_| BrokerError::Stopping)?;
        self.catch_up().await?;
        let meta = self.find(channel)?;
        if meta.config.durability == Durability::Ephemeral {
            return Err(BrokerError::NotStored { channel: channel.into() });
        }
        let end_seq = self.inner.view.stats(meta.id).unwrap_or_default().next_seq;
        let (broker, text) = (self.clone(), schema.to_owned());
        let compiled = blocking(move || CompiledSchema::compile(&text, broker.limits())).await?;
        let mut compiled = compiled.map_err(|reason| BrokerError::InvalidSchema { reason })?;
        let first_seq = self.place_or_fail(&meta, from).await?;
        let mut report = HistoryReport { first_seq, next_seq: first_seq, end_seq, ..HistoryReport::default() };
        let started = Instant::now();
        while report.next_seq < end_seq && (limit == 0 || report.checked < limit) && started.elapsed() < SLICE {
            let left = (end_seq - report.next_seq).min(if limit == 0 { u64::MAX } else { limit - report.checked });
            let room = usize::try_from(left).unwrap_or(usize::MAX);
            let page = self.read(channel, Start::Seq(report.next_seq), room, Consistency::Local, None).await;
            let page = match page {
                // Trimmed away meanwhile.
                Err(BrokerError::OutOfRange { first, .. }) if first > report.next_seq => {
                    report.next_seq = first;
                    continue;
                }
                page => page?,
            };
            if page.batches.is_empty() {
                break;
            }
            let broker = self.clone();
            let (page, schema) = blocking(move || (broker.validate(&compiled, page.batches), compiled)).await?;
            compiled = schema;
            report.merge(page?);
        }
        Ok(report)
    }

    fn validate(&self, schema: &CompiledSchema, batches: Vec<StoredBatch>) -> Result<HistoryReport, BrokerError> {
        let mut report = HistoryReport::default();
        for batch in batches {
            report.next_seq = batch.end_seq();
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                let message = message.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
                report.checked += 1;
                if let Err(unfit) = schema.check(&message.payload, self.limits()) {
                    let mut violations = unfit.into_violations();
                    report.invalid += 1;
                    if report.samples.len() < SAMPLES {
                        violations.truncate(SAMPLE_VIOLATIONS);
                        report.samples.push((seq, violations));
                    }
                }
            }
        }
        Ok(report)
    }

    /// The schemas that a channel has, or has had, oldest first, those with ids above `after` (0 for all), as of now
    /// (linearizable): at most `limit` and about [`Limits::LIST_BYTES`] of them; as many as fit when `limit` is 0. With the
    /// id after which the next page begins; none at the end. The last 100 are kept.
    ///
    /// # Errors
    /// `ChannelNotFound`; `NoLeader` or `NotConfirmed` without a majority.
    pub async fn schemas_after(
        &self,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<SchemaVersion>, Option<u64>), BrokerError> {
        self.catch_up().await?;
        let meta = self.find(channel)?;
        let limit = most_items(limit);
        let (prefix, mut last) = (schemas_prefix(meta.id), (after > 0).then(|| schema_key(meta.id, after)));
        let (mut schemas, mut bytes) = (Vec::<SchemaVersion>::new(), 0);
        loop {
            let stored = self.store().range(&prefix, last.as_deref(), SCHEMAS).await;
            let stored = stored.map_err(|error| self.store_error(&error))?;
            if stored.is_empty() {
                return Ok((schemas, None));
            }
            for (key, value) in stored {
                bytes += value.len();
                if schemas.len() == limit || bytes > Limits::LIST_BYTES && !schemas.is_empty() {
                    let next_after = schemas.last().map(|last| last.id);
                    return Ok((schemas, next_after));
                }
                schemas.push(codec::decode_record("schema", &value).map_err(|error| self.store_error(&error))?);
                last = Some(key);
            }
        }
    }

    /// Whether a channel may be given a schema in the place of the one it has. A first schema has nothing to be
    /// compared with, and to have none breaks nothing.
    ///
    /// # Errors
    /// `SchemaIncompatible` with every place.
    pub fn check_compatible(
        &self,
        meta: &ChannelMeta,
        new_schema: &str,
        mode: Compatibility,
    ) -> Result<(), BrokerError> {
        let Some(old) = meta.config.schema.as_deref().filter(|_| !new_schema.is_empty()) else { return Ok(()) };
        let parse = |text: &str| {
            schema::read(text.as_bytes())
                .map_err(|error| BrokerError::InvalidSchema { reason: format!("it is no JSON: {error}") })
        };
        let (old, new) = (parse(old)?, parse(new_schema)?);
        let mode = match mode {
            Compatibility::Backward => Mode::Backward,
            Compatibility::Forward => Mode::Forward,
            Compatibility::Full => Mode::Full,
            Compatibility::None => return Ok(()),
        };
        let Err(places) = check(&old, &new, mode) else { return Ok(()) };
        let reasons = places.into_iter().map(|place| Violation { pointer: place.pointer, message: place.reason });
        Err(BrokerError::SchemaIncompatible { channel: meta.name.to_string(), reasons: reasons.collect() })
    }

    /// As [`Broker::check_compatible`], off the runtime's threads; `mode` is the channel's own unless given. Gives the
    /// id of the schema that the new one was compared with.
    pub(super) async fn compare_schema(
        &self,
        name: &str,
        schema: Option<&str>,
        mode: Option<Compatibility>,
    ) -> Result<Option<u64>, BrokerError> {
        let Some(schema) = schema.map(str::to_owned) else { return Ok(None) };
        let (broker, meta) = (self.clone(), self.resolve(name).await?);
        let (mode, compared_with) = (mode.unwrap_or(meta.config.compatibility), meta.schema_id);
        blocking(move || broker.check_compatible(&meta, &schema, mode)).await??;
        Ok(Some(compared_with))
    }

    /// What [`Broker::update_channel`] would be refused for because of the schema, without changing anything.
    ///
    /// # Errors
    /// `ChannelNotFound`, `InvalidSchema`.
    pub async fn try_update_channel(
        &self,
        name: &str,
        schema: Option<&str>,
        mode: Option<Compatibility>,
    ) -> Result<(ChannelInfo, Vec<Violation>), BrokerError> {
        let info = self.channel(name).await?;
        self.check_schema(schema.filter(|schema| !schema.is_empty()))?;
        match self.compare_schema(name, schema, mode).await {
            Ok(_) => Ok((info, Vec::new())),
            Err(BrokerError::SchemaIncompatible { reasons, .. }) => Ok((info, reasons)),
            Err(error) => Err(error),
        }
    }
}
