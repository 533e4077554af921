//! Creating, showing, changing, resetting and deleting consumers.

use std::{ops::Bound, sync::Arc};

use super::{
    super::{Broker, BrokerError, Start, filter_of},
    named::Named,
};
use crate::{
    model::{
        Begin, ChannelConfig, ChannelMeta, ChannelName, ConsumeOrder, ConsumerConfig, ConsumerId, ConsumerOperation,
        ConsumerReply, ConsumerStatus, InvalidName, Made, OnBehalf, OperationReply, OrderingKey, Refusal, StoredBatch,
        TokenId, stream_key,
    },
    proto::v1,
};

/// The shortest ack timeout: below it the log's time is too coarse.
const MIN_ACK_TIMEOUT_MS: u64 = 100;
/// Bytes that are read at most to count what a consumer has not read, and in one go.
const COUNTED: usize = 4 << 20;
const COUNTED_PAGE: usize = 256 << 10;
/// What comes after a channel's name in that of its usual dead-letter channel.
pub(in crate::broker) const DEAD: &str = ".dead";
/// The longest name of a header that messages are ordered by.
const MAX_HEADER: usize = 200;

/// A consumer as a caller sees it.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// The channel that it consumes.
    pub channel: String,
    /// What it is and how far.
    pub status: ConsumerStatus,
}

/// What becomes of messages whose last attempt came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeadLetters {
    /// They go to the channel's own dead-letter channel, `<channel>.dead`, which is made when it is needed.
    #[default]
    Usual,
    /// They go to this channel.
    To(ChannelName),
    /// They are dropped.
    Drop,
}

/// What to change of a consumer's configuration. Absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct ConsumerUpdate {
    /// The new timeout.
    pub ack_timeout_ms: Option<u64>,
    /// The new number; 0: for ever.
    pub max_attempts: Option<u32>,
    /// What becomes of dead messages.
    pub dead_letters: Option<DeadLetters>,
    /// The new number.
    pub max_in_flight: Option<u32>,
    /// The new order, for messages that have not been handed out.
    pub order: Option<ConsumeOrder>,
    /// The new filter, for messages that have not been handed out; none removes it.
    pub filter: Option<Option<String>>,
    /// What the filter keeps back counts as settled in a work queue, and goes if no other consumer wants it. Without this
    /// word a work queue takes no filter. It is not kept.
    pub settle_skipped: bool,
}

impl DeadLetters {
    /// As callers say it: by the name of a channel, of which the empty text stands for the usual one, or that they are to be
    /// dropped; none where nothing is said.
    ///
    /// # Errors
    /// `InvalidArgument` when both are said; `InvalidChannelName`.
    pub fn of(name: Option<&str>, drop: bool) -> Result<Option<Self>, BrokerError> {
        let invalid = |error: InvalidName| BrokerError::InvalidChannelName { reason: error.to_string() };
        match (name, drop) {
            (None, false) => Ok(None),
            (None, true) => Ok(Some(Self::Drop)),
            (Some(""), false) => Ok(Some(Self::Usual)),
            (Some(name), false) => Ok(Some(Self::To(name.parse().map_err(invalid)?))),
            (Some(_), true) => {
                let reason = "dead_letter and drop_dead are two things to do with dead messages: give one".to_owned();
                Err(BrokerError::InvalidArgument { reason })
            }
        }
    }
}

/// What a whole configuration wants. A dead-letter channel that it does not name is the usual one.
impl From<ConsumerConfig> for ConsumerUpdate {
    fn from(config: ConsumerConfig) -> Self {
        let ConsumerConfig { ack_timeout_ms, max_attempts, dead_letter, max_in_flight, order, filter } = config;
        Self {
            ack_timeout_ms: Some(ack_timeout_ms),
            max_attempts: Some(max_attempts),
            dead_letters: dead_letter.map(DeadLetters::To),
            max_in_flight: Some(max_in_flight),
            order: Some(order),
            filter: Some(filter),
            settle_skipped: false,
        }
    }
}

impl ConsumerUpdate {
    /// The configuration that comes of it, but for the dead-letter channel.
    fn of(self, before: &ConsumerConfig) -> ConsumerConfig {
        let Self { ack_timeout_ms, max_attempts, dead_letters: _, max_in_flight, order, filter, settle_skipped: _ } =
            self;
        ConsumerConfig {
            ack_timeout_ms: ack_timeout_ms.unwrap_or(before.ack_timeout_ms),
            max_attempts: max_attempts.unwrap_or(before.max_attempts),
            dead_letter: before.dead_letter.clone(),
            max_in_flight: max_in_flight.unwrap_or(before.max_in_flight),
            order: order.unwrap_or_else(|| before.order.clone()),
            filter: filter.unwrap_or_else(|| before.filter.clone()),
        }
    }
}

impl ConsumerInfo {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::Consumer {
        let ConsumerStatus { meta, cursor, in_flight, waiting, dying, floor, lag, lost } = &self.status;
        v1::Consumer {
            channel: self.channel.clone(),
            name: meta.name.to_string(),
            id: meta.id.0,
            config: Some(config_to_proto(&meta.config)),
            created_ms: meta.created_ms,
            next_seq: cursor.next,
            floor_seq: *floor,
            lag: *lag,
            in_flight: *in_flight,
            waiting: waiting + dying,
            redelivered: cursor.redelivered,
            dead: cursor.dead,
            dying: *dying,
            lost: *lost,
        }
    }
}

fn config_to_proto(config: &ConsumerConfig) -> v1::ConsumerConfig {
    let (order, order_header) = match &config.order {
        ConsumeOrder::None => (v1::ConsumeOrder::None, ""),
        ConsumeOrder::Exclusive => (v1::ConsumeOrder::Exclusive, ""),
        ConsumeOrder::Key(OrderingKey::MessageKey) => (v1::ConsumeOrder::Key, ""),
        ConsumeOrder::Key(OrderingKey::Header(name)) => (v1::ConsumeOrder::Key, name.as_str()),
    };
    v1::ConsumerConfig {
        ack_timeout_ms: config.ack_timeout_ms,
        max_attempts: config.max_attempts,
        dead_letter: config.dead_letter.as_ref().map(ToString::to_string).unwrap_or_default(),
        max_in_flight: config.max_in_flight,
        order: order.into(),
        order_header: order_header.to_owned(),
        filter: config.filter.clone().unwrap_or_default(),
        drop_dead: config.max_attempts > 0 && config.dead_letter.is_none(),
        settle_skipped: false,
    }
}

impl Broker {
    /// Creates a consumer of a channel. The same name with the same configuration is no error, and leaves the consumer
    /// where it is. With a limit of attempts it has a dead-letter channel: the usual one is made with it.
    ///
    /// # Errors
    /// `ConsumerExists` when the name is taken by a consumer with another configuration; `NotStored` for an ephemeral
    /// channel; `OutOfRange` or `HistoryChanged` for a start that is not in the channel's history.
    pub async fn create_consumer(
        &self,
        channel: &str,
        name: &str,
        wanted: impl Into<ConsumerUpdate>,
        start: Start,
    ) -> Result<ConsumerInfo, BrokerError> {
        self.create_consumer_for((channel, name), wanted.into(), start, None).await
    }

    /// The same for a token, for which it counts.
    pub(in crate::broker) async fn create_consumer_for(
        &self,
        (channel, name): (&str, &str),
        wanted: ConsumerUpdate,
        start: Start,
        token: Option<TokenId>,
    ) -> Result<ConsumerInfo, BrokerError> {
        let consumer = self.consumer_name(name)?;
        let (letters, settle_skipped) = (wanted.dead_letters.clone(), wanted.settle_skipped);
        let mut config = wanted.of(&ConsumerConfig::default());
        check(&config)?;
        let meta = self.resolve(channel).await?;
        let present = self
            .inner
            .view
            .consumers(|all| all.named(meta.id, name).map(|present| present.meta().config.dead_letter.clone()));
        config.dead_letter = match (letters, present) {
            // Whoever does not mind gets the consumer as it is.
            (None, Some(present)) => present,
            (letters, _) => self.dead_letters(&meta, letters.unwrap_or_default(), config.max_attempts).await?,
        };
        let (meta, begin) = self.begin(meta, start).await?;
        let operation = ConsumerOperation::Create { channel: meta.name.clone(), name: consumer, config, begin };
        let named = Named { id: ConsumerId(0), channel: channel.into(), name: name.into() };
        self.managed_for(token, &named, operation, settle_skipped).await
    }

    /// A consumer, as of now (linearizable).
    ///
    /// # Errors
    /// `ConsumerNotFound`, `ChannelNotFound`.
    pub async fn consumer(&self, channel: &str, name: &str) -> Result<ConsumerInfo, BrokerError> {
        self.catch_up().await?;
        let named = self.find_consumer(channel, name).await?;
        let status = self.inner.view.consumer_status(named.id).ok_or_else(|| named.not_found())?;
        let status = self.counted(status).await?;
        Ok(ConsumerInfo { channel: named.channel, status })
    }

    /// A status whose lag is counted where compaction has removed messages and little is left to read; else it is about
    /// as large.
    async fn counted(&self, status: ConsumerStatus) -> Result<ConsumerStatus, BrokerError> {
        let (view, id) = (&self.inner.view, status.meta.channel);
        let removed = view.compaction(id).unwrap_or_default().removed;
        let Some(meta) = view.meta(id).filter(|_| removed > 0) else { return Ok(status) };
        let end = view.stats(id).unwrap_or_default().next_seq;
        let settled = view.consumers(|all| all.settled_from(id, status.cursor.next));
        let key = stream_key(meta.name.as_str());
        let (mut next, mut read, mut lag) = (status.cursor.next, 0, status.in_flight + status.waiting + status.dying);
        while next < end && read < COUNTED {
            let page = self.store().read_batches(&key, next, COUNTED_PAGE).await;
            let page = page.map_err(|error| self.store_error(&error))?;
            let there = page.iter().flat_map(|batch| batch.first_seq.max(next)..batch.end_seq());
            lag += there.filter(|seq| *seq < end && !settled.iter().any(|run| run.contains(seq))).count() as u64;
            read += page.iter().map(|batch| batch.frame.len()).sum::<usize>();
            next = page.last().map_or(end, StoredBatch::end_seq);
        }
        Ok(if next < end { status } else { ConsumerStatus { lag, ..status } })
    }

    /// The consumers of a channel by name, as of now (linearizable).
    ///
    /// # Errors
    /// `ChannelNotFound`; `NoLeader` or `NotConfirmed` without a majority.
    pub async fn consumers(&self, channel: &str) -> Result<Vec<ConsumerInfo>, BrokerError> {
        self.catch_up().await?;
        let meta = self.find(channel)?;
        let statuses =
            self.inner.view.consumer_statuses(meta.id, (Bound::Unbounded, Bound::Unbounded), usize::MAX).into_iter();
        Ok(statuses.map(|status| ConsumerInfo { channel: channel.into(), status }).collect())
    }

    /// Changes a consumer; absent fields stay. What was handed out already keeps its deadline and its order.
    ///
    /// # Errors
    /// `ConsumerNotFound`, and as [`Broker::create_consumer`].
    pub async fn update_consumer(
        &self,
        channel: &str,
        name: &str,
        update: ConsumerUpdate,
    ) -> Result<ConsumerInfo, BrokerError> {
        let before = self.consumer(channel, name).await?.status.meta;
        let (letters, settle_skipped) = (update.dead_letters.clone(), update.settle_skipped);
        let mut config = update.of(&before.config);
        check(&config)?;
        // One that had no limit of attempts so far has said nothing of its dead.
        let never_died = before.config.max_attempts == 0 && before.config.dead_letter.is_none();
        if letters.is_some() || never_died {
            let meta = self.find(channel)?;
            config.dead_letter = self.dead_letters(&meta, letters.unwrap_or_default(), config.max_attempts).await?;
        }
        let named = Named { id: before.id, channel: channel.into(), name: name.into() };
        self.managed(&named, ConsumerOperation::Update { consumer: before.id, config }, settle_skipped).await
    }

    /// Deletes a consumer with its cursor. Its members' streams end. A work queue keeps what it has not settled.
    ///
    /// # Errors
    /// `ConsumerNotFound`.
    pub async fn delete_consumer(&self, channel: &str, name: &str) -> Result<(), BrokerError> {
        let named = self.find_consumer(channel, name).await?;
        self.managed(&named, ConsumerOperation::Delete { consumer: named.id }, false).await.map(drop)
    }

    /// The channel that dead messages go to; the usual one is made if there is none.
    async fn dead_letters(
        &self,
        channel: &ChannelMeta,
        wanted: DeadLetters,
        max_attempts: u32,
    ) -> Result<Option<ChannelName>, BrokerError> {
        match wanted {
            DeadLetters::To(name) => return Ok(Some(name)),
            DeadLetters::Drop => return Ok(None),
            DeadLetters::Usual if max_attempts == 0 => return Ok(None),
            DeadLetters::Usual => {}
        }
        let name = format!("{}{DEAD}", channel.name);
        let parsed: Result<ChannelName, InvalidName> = name.parse();
        let usual = parsed.map_err(|_| BrokerError::InvalidArgument {
            reason: format!("`{name}` is too long for a channel's name: name the dead-letter channel yourself"),
        })?;
        if self.find(usual.as_str()).is_err() {
            match self.create_channel(usual.as_str(), ChannelConfig::default()).await {
                // Somebody made another one meanwhile: the machine says whether it will do.
                Ok(_) | Err(BrokerError::ChannelExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(usual))
    }

    /// Has a consumer forget what is pending, and go on elsewhere. A work queue keeps what it leaves behind.
    ///
    /// # Errors
    /// `ConsumerNotFound`; `OutOfRange` or `HistoryChanged` for a start that is not in the channel's history.
    pub async fn reset_consumer(&self, channel: &str, name: &str, start: Start) -> Result<ConsumerInfo, BrokerError> {
        let named = self.find_consumer(channel, name).await?;
        let (_, begin) = self.begin(self.find(channel)?, start).await?;
        self.managed(&named, ConsumerOperation::Reset { consumer: named.id, begin }, false).await
    }

    /// The machine judges all of it: what this node knows may be of before.
    async fn managed(
        &self,
        named: &Named,
        operation: ConsumerOperation,
        settle_skipped: bool,
    ) -> Result<ConsumerInfo, BrokerError> {
        self.managed_for(None, named, operation, settle_skipped).await
    }

    async fn managed_for(
        &self,
        token: Option<TokenId>,
        named: &Named,
        operation: ConsumerOperation,
        settle_skipped: bool,
    ) -> Result<ConsumerInfo, BrokerError> {
        let operation = ConsumerOperation::Judged { operation: Box::new(operation), settle_skipped };
        match self.operate(OnBehalf::operation(token, Made::Consumer(operation))).await? {
            Ok(OperationReply::Consumer(ConsumerReply::Consumer(status))) => {
                // One that is gone is shown as it was.
                let status = self.inner.view.consumer_status(status.meta.id).unwrap_or(*status);
                Ok(ConsumerInfo { channel: named.channel.clone(), status })
            }
            Ok(other) => Err(BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") }),
            Err(Refusal::NoChannelNamed(name)) => Err(self.no_channel(name.as_str()).into()),
            Err(refusal) => Err(named.refused(refusal)),
        }
    }

    /// Earliest and latest are decided by the log; other places are looked up here, as of now.
    async fn begin(&self, meta: Arc<ChannelMeta>, start: Start) -> Result<(Arc<ChannelMeta>, Begin), BrokerError> {
        match start {
            Start::Earliest => Ok((meta, Begin::Earliest)),
            Start::Latest => Ok((meta, Begin::Latest)),
            Start::Seq(_) | Start::Position(_) | Start::Time(_) => {
                self.catch_up().await?;
                let meta = self.find(meta.name.as_str())?;
                let seq = self.place_or_fail(&meta, start).await?;
                Ok((meta, Begin::Seq(seq)))
            }
        }
    }
}

/// What the machine does not know about.
fn check(config: &ConsumerConfig) -> Result<(), BrokerError> {
    let invalid = |reason: String| Err(BrokerError::InvalidArgument { reason });
    if config.ack_timeout_ms < MIN_ACK_TIMEOUT_MS {
        let ms = config.ack_timeout_ms;
        return invalid(format!("an ack timeout of {ms} ms is too short; it is at least {MIN_ACK_TIMEOUT_MS} ms"));
    }
    if config.max_in_flight == 0 {
        return invalid("max_in_flight is 0: with nothing in flight nothing is consumed; give at least 1".into());
    }
    if let ConsumeOrder::Key(OrderingKey::Header(name)) = &config.order
        && (name.is_empty() || name.len() > MAX_HEADER)
    {
        return invalid(format!("the header to order by has {} bytes; write 1 to {MAX_HEADER}", name.len()));
    }
    filter_of(config.filter.as_deref().unwrap_or_default()).map(drop)
}
