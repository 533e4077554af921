//! Messages that become visible at a time. They are written down at once, and acknowledged; when the time of
//! day comes to the first of them, the leader reads what is due back from its store and has it appended.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    Broker, BrokerError, Confirm, Leader, Outcome,
    checks::Checked,
    leader::{Asking, RETRY},
    outcomes::{Results, excepted, merge, name_keys, refusals},
    routing::{Judged, Routing},
};
use crate::{
    codec::decode_record,
    machine::delayed_key,
    model::{
        ChannelId, Delayed, Due, Frame, FrameBuilder, Operation, OperationReply, PublishGroup, Refusal, Schedule,
        Scheduled, WaitingRecord,
    },
    proto::v1::{self, Message},
};

impl From<DelayedMessage> for v1::DelayedMessage {
    fn from(waiting: DelayedMessage) -> Self {
        let DelayedMessage { id, due_ms, message } = waiting;
        Self { id, due_ms, message: Some(message) }
    }
}

/// A message that waits for its time.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayedMessage {
    /// Given in the order of publishing, never twice; no sequence number.
    pub id: u64,
    /// When it becomes visible, milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// The message.
    pub message: Message,
}

/// Some of the messages of a channel that wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DelayedPage {
    /// In the order of publishing.
    pub messages: Vec<DelayedMessage>,
    /// The id after which the next page begins; none at the end.
    pub next_after: Option<u64>,
}

/// The time of day may be corrected: the time left is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Broker {
    /// Lets the messages of a frame wait for their time.
    pub(super) async fn schedule(
        &self,
        channel: &str,
        frame: &Frame,
        deadline: Instant,
    ) -> Result<Results, BrokerError> {
        let mut asking = Asking::until(deadline);
        let scheduled = self.try_schedule(channel, frame, &mut asking).await;
        scheduled.map_err(|error| asking.conclude(error))
    }

    async fn try_schedule(&self, channel: &str, frame: &Frame, asking: &mut Asking) -> Result<Results, BrokerError> {
        loop {
            let meta = self.resolve(channel).await?;
            let checked = self.check(meta, frame).await?;
            if checked.frame.is_empty() {
                return Ok(merge(Vec::new(), refusals(checked.refused)));
            }
            let schedule = schedule_of(&checked)?;
            let due: Vec<u64> = schedule.messages.iter().map(|message| message.due_ms).collect();
            let operated = self.operate_by(Operation::Schedule(schedule), asking).await?;
            match operated.reply {
                Ok(OperationReply::Scheduled(scheduled)) => {
                    let each = due.into_iter().zip(scheduled);
                    let mut results = each.map(|(due, done)| outcome(channel, due, done, operated.term)).collect();
                    name_keys(&mut results, &checked);
                    return Ok(merge(results, refusals(checked.refused)));
                }
                Err(Refusal::NoSuchChannel | Refusal::StaleSchema { .. }) => self.catch_up().await?,
                Err(Refusal::Ephemeral) => {
                    let reason = format!(
                        "channel `{channel}` is ephemeral: it stores no messages, so none can wait; publish when the time \
                         has come"
                    );
                    return Err(BrokerError::InvalidArgument { reason });
                }
                other => return Err(BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") }),
            }
        }
    }

    /// The messages of a channel that wait for their time, those with ids above `after` (0 for all), as of now
    /// (linearizable): at most `limit` and about a page of bytes; as many as fit when `limit` is 0.
    ///
    /// # Errors
    /// `ChannelNotFound`.
    pub async fn delayed_messages(&self, name: &str, after: u64, limit: usize) -> Result<DelayedPage, BrokerError> {
        let _request = self.inner.requests.token();
        self.check_running()?;
        self.catch_up().await?;
        let (channel, limits) = (self.find(name)?.id, self.limits());
        let most = if limit == 0 { limits.batch_messages } else { limit.min(limits.batch_messages) };
        let (ids, more) = self.inner.view.delayed_ids(channel, after, most, limits.page_bytes as u64);
        let next_after = ids.last().copied().filter(|_| more);
        let mut messages = Vec::with_capacity(ids.len());
        for id in ids {
            // It became visible or was withdrawn meanwhile.
            let Some(WaitingRecord { message, .. }) = self.waiting(channel, id).await? else { continue };
            let unreadable = |reason: String| self.store_error(&reason);
            let mut held = message.frame.messages();
            let held = held.next().ok_or_else(|| unreadable("a frame without a message".into()))?;
            let held = held.map_err(|error| unreadable(error.to_string()))?;
            messages.push(DelayedMessage { id, due_ms: message.due_ms, message: held });
        }
        Ok(DelayedPage { messages, next_after })
    }

    /// Takes back a message that waits for its time: nobody will see it. Says whether it still waited; if not, it is
    /// visible by now, was withdrawn before, or never was. Its idempotency key is free from then on: a retry of its
    /// publish that comes later waits anew.
    ///
    /// # Errors
    /// `ChannelNotFound`; `OutcomeUnknown`: it may have been withdrawn.
    pub async fn withdraw_delayed(&self, name: &str, id: u64) -> Result<bool, BrokerError> {
        let channel = self.resolve(name).await?.id;
        match self.operate(Operation::Withdraw { channel, id }).await? {
            Ok(OperationReply::Withdrawn(withdrawn)) => Ok(withdrawn),
            Err(Refusal::NoSuchChannel) => Err(BrokerError::ChannelNotFound { name: name.into(), similar: None }),
            other => Err(BrokerError::Internal { reason: format!("an unexpected answer to a withdrawal: {other:?}") }),
        }
    }

    /// A message that waits, from this node's store.
    async fn waiting(&self, channel: ChannelId, id: u64) -> Result<Option<WaitingRecord>, BrokerError> {
        let stored = self.store().get(&delayed_key(channel, id)).await.map_err(|error| self.store_error(&error))?;
        let record = stored.map(|stored| decode_record("delayed message", &stored)).transpose();
        Ok(record.map_err(|error| self.store_error(&error))?)
    }

    /// On the leader: has what is due appended; false when nothing was.
    async fn release_due(&self, now_ms: u64) -> Result<bool, BrokerError> {
        let due = self.due_groups(now_ms).await?;
        // Submitted in this order: one channel's messages may be in several.
        let submitted = due.into_iter().map(|due| self.submit_operation(Operation::Due(due)));
        let answers = futures::future::join_all(submitted).await;
        let appended = |reply: &Result<OperationReply, Refusal>| matches!(reply, Ok(OperationReply::Due(1..)));
        Ok(answers.iter().any(|answer| answer.as_ref().is_ok_and(|operated| appended(&operated.reply))))
    }

    /// What is due, read back from the store: at most an entry's worth, in order within each channel. It is copied by
    /// the rules that hold now, because only now it is published.
    async fn due_groups(&self, now_ms: u64) -> Result<Vec<Due>, BrokerError> {
        let mut newest: BTreeMap<ChannelId, usize> = BTreeMap::new();
        let mut groups: Vec<(Due, FrameBuilder, Routing)> = Vec::new();
        let (mut bytes, mut copied) = (0, 0);
        for waiting in self.inner.view.due(now_ms, self.limits().batch_messages) {
            let (channel, id) = (waiting.channel, waiting.id);
            // It was appended or withdrawn meanwhile.
            let Some(WaitingRecord { schema_id, message }) = self.waiting(channel, id).await? else { continue };
            let unreadable = |reason: String| self.store_error(&reason);
            let routed =
                message.frame.messages().next().ok_or_else(|| unreadable("a frame without a message".into()))?;
            let routed = routed.map_err(|error| unreadable(error.to_string()))?;
            bytes += message.frame.len();
            if bytes > self.limits().entry_bytes && !groups.is_empty() {
                break;
            }
            let at = match newest.get(&channel) {
                Some(at) if groups[*at].0.group.schema_id == schema_id => *at,
                _ => {
                    let routing = self.routing(channel);
                    let rules_version = routing.version();
                    let group = PublishGroup { channel, schema_id, rules_version, ..PublishGroup::default() };
                    groups.push((Due { ids: Vec::new(), group }, FrameBuilder::default(), routing));
                    newest.insert(channel, groups.len() - 1);
                    groups.len() - 1
                }
            };
            let (due, frame, routing) = &mut groups[at];
            let before = routing.copied();
            routing.add(self, u32::try_from(due.ids.len()).unwrap_or(u32::MAX), &routed, Judged::Later)?;
            copied += routing.copied() - before;
            due.ids.push(id);
            due.group.expires |= message.expires;
            frame.push_frame(&message.frame);
            if copied > self.limits().copied_bytes as u64 {
                break;
            }
        }
        let whole = |(due, frame, routing): (Due, FrameBuilder, Routing)| {
            let group = PublishGroup { frame: frame.finish(), routes: routing.finish(), ..due.group };
            Due { group, ..due }
        };
        Ok(groups.into_iter().map(whole).collect())
    }
}

fn schedule_of(checked: &Checked) -> Result<Schedule, BrokerError> {
    let mut claims = checked.keys.iter().peekable();
    let mut messages = Vec::with_capacity(checked.frame.count() as usize);
    for (position, message) in (0u32..).zip(checked.frame.messages()) {
        let message = message.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
        let claim = claims.next_if(|claim| claim.position == position).map(|claim| (claim.key, claim.digest));
        messages.push(Delayed {
            due_ms: message.deliver_at_ms,
            claim,
            expires: message.ttl_ms > 0,
            frame: Frame::encode([&message]),
        });
    }
    Ok(Schedule { channel: checked.meta.id, schema_id: checked.meta.schema_id, messages })
}

fn outcome(channel: &str, due_ms: u64, scheduled: Scheduled, term: u64) -> Result<Outcome, BrokerError> {
    match scheduled {
        Scheduled::New => Ok(Outcome::waiting(due_ms, false, term)),
        Scheduled::Known(known) => excepted(known, term, Confirm::Delivery),
        Scheduled::TooMany { limit } => {
            let what = format!("the number of messages that wait in channel `{channel}`");
            Err(BrokerError::LimitExceeded { what, value: limit + 1, limit })
        }
        Scheduled::TooManyBytes { value, limit } => {
            let what = "the messages that wait in all channels (bytes)".into();
            Err(BrokerError::LimitExceeded { what, value, limit })
        }
    }
}

/// On the leader: waits for the next message to be due. Costs nothing while none waits.
pub(super) async fn release(broker: Broker) {
    let inner = &broker.inner;
    let mut due = inner.view.next_due();
    let mut leader = inner.sequencer.leader();
    loop {
        let next = *due.borrow_and_update();
        let leads = matches!(*leader.borrow_and_update(), Leader::Local { .. });
        let left = match next.filter(|_| leads) {
            Some(next) => {
                let now_ms = broker.now_ms();
                if next <= now_ms {
                    match broker.release_due(now_ms).await {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) => tracing::warn!(%error, "messages that are due were not appended"),
                    }
                    RETRY
                } else {
                    Duration::from_millis(next - now_ms).min(LOOK_AGAIN)
                }
            }
            None => Duration::MAX,
        };
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            changed = due.changed() => if changed.is_err() { return },
            changed = leader.changed() => if changed.is_err() { return },
        }
    }
}
