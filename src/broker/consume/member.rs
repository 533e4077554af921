//! A member of a consumer's group, on the node that its client is connected to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{
    super::{Broker, BrokerError, Standing, leader::RETRY},
    named::Named,
    presence::Presence,
};
use crate::{
    fanout::Wake,
    machine::Consumer,
    model::{
        ChannelMeta, DeliveryOrigin, DeliveryToken, IfChanged, Lost, Notice, Place, StoredBatch, Verdict, has_expired,
        stream_key,
    },
    proto::v1::Message,
};

/// How long it may take to be handed what is there.
const ORDERED: Duration = Duration::from_secs(1);

/// The longest time between two looks at what is buffered, times three; milliseconds.
const LONGEST_MS: u64 = 3_600_000;

/// Set in the ids of members that pull once: they are not heard of again, and keep what they got.
const PULL: u64 = 1;

/// Whether a member with this id pulled once.
pub(super) fn is_pull(member: u64) -> bool {
    member & PULL != 0
}

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerDelivery {
    /// By this it is settled.
    pub token: DeliveryToken,
    /// When the leader sequenced it, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The version of the channel's schema that the payload was checked against; 0 means none.
    pub schema_id: u64,
    /// The message.
    pub message: Message,
}

/// See the module's description. Dropping it gives back what it has, at once.
pub struct Member {
    broker: Broker,
    named: Named,
    channel: Arc<ChannelMeta>,
    id: u64,
    presence: Option<Presence>,
    /// What was handed on, by sequence number.
    in_hand: BTreeMap<u64, InHand>,
    /// How many messages were handed on so far.
    handed: u64,
    /// Whether whoever gets the messages says of each that work on it begins. Otherwise it begins when it is handed on.
    reports: bool,
    /// Whether all that was to be reported has been.
    in_order: bool,
    /// When whoever gets the messages last said something of one.
    progress: Instant,
    /// How many messages it takes; none while it makes no progress.
    window: u32,
    wake: Wake,
    stays: bool,
    /// What is lost below this sequence number was told.
    told_to: u64,
    /// Where it says goodbye: it may be dropped by a thread that serves no tasks.
    runtime: Handle,
    /// It ends with the right by which it joined; none where that does not end.
    standing: Option<Standing>,
}

/// A message that was handed on.
#[derive(Clone, Copy, Debug)]
struct InHand {
    attempt: u32,
    /// Its place among all that were handed on.
    place: u64,
    /// Somebody works on it, or has.
    begun: bool,
}

impl Broker {
    /// Joins a consumer's group as a member that has at most `window` messages at once that are not settled.
    ///
    /// # Errors
    /// `ConsumerNotFound`, `ChannelNotFound`.
    pub async fn join_consumer(&self, channel: &str, name: &str, window: u32) -> Result<Member, BrokerError> {
        let id = self.inner.env.random.next_u64() & !PULL;
        self.join_as(channel, name, id, window).await
    }

    async fn join_as(&self, channel: &str, name: &str, id: u64, window: u32) -> Result<Member, BrokerError> {
        self.check_running()?;
        let named = self.find_consumer(channel, name).await?;
        let meta = self.find(channel)?;
        let wake = self.inner.view.wakes().wait_for(named.id, None);
        // Who has got something since is told already.
        let told = |consumer: &Consumer| Some(consumer.lost().to_seq).filter(|to_seq| consumer.cursor().next > *to_seq);
        let told_to = self.inner.view.consumers(|all| all.get(named.id).and_then(told)).unwrap_or(0);
        let presence = Some(Presence::begin(self, named.id, id, window, is_pull(id)));
        Ok(Member {
            broker: self.clone(),
            named,
            channel: meta,
            id,
            presence,
            in_hand: BTreeMap::new(),
            handed: 0,
            reports: false,
            in_order: false,
            progress: Instant::now(),
            window,
            wake,
            stays: false,
            told_to,
            runtime: Handle::current(),
            standing: None,
        })
    }

    /// At most `max` messages of a consumer, for who has no stream; waits for the first one, at most for `wait`. They
    /// come again after the consumer's ack timeout unless they are settled by their tokens.
    ///
    /// # Errors
    /// As [`Broker::join_consumer`].
    pub async fn pull(
        &self,
        channel: &str,
        name: &str,
        max: u32,
        wait: Duration,
    ) -> Result<Vec<ConsumerDelivery>, BrokerError> {
        self.pull_told(channel, name, max, wait).await.map(|(deliveries, _)| deliveries)
    }

    /// The same, with what was removed before them that the consumer had not settled.
    ///
    /// # Errors
    /// As [`Broker::pull`].
    pub async fn pull_told(
        &self,
        channel: &str,
        name: &str,
        max: u32,
        wait: Duration,
    ) -> Result<(Vec<ConsumerDelivery>, Option<Notice>), BrokerError> {
        let id = self.inner.env.random.next_u64() | PULL;
        let mut member = self.join_as(channel, name, id, max).await?;
        // What is there already is worth the way to the leader and through the log.
        let least = if member.could_get_something() { ORDERED } else { RETRY };
        let deliveries = match timeout(wait.max(least), member.next()).await {
            Ok(deliveries) => deliveries?,
            Err(_) => member.last().await?,
        };
        // What was handed to it beyond the bytes of an answer is for whoever comes next.
        let rest: Vec<(u64, u32)> = member.fresh()?.into_iter().collect();
        if !rest.is_empty() {
            let _ = self.say_of_all(member.named.id, member.id, rest, &Verdict::Return).await; // or its time passes
        }
        member.stays = true;
        let notice = if deliveries.is_empty() { None } else { member.take_notice() };
        Ok((deliveries, notice))
    }
}

impl InHand {
    fn begun(attempt: u32) -> Self {
        Self { attempt, place: 0, begun: true }
    }
}

impl Member {
    /// How many messages it takes from now on, those that it has included.
    pub fn set_window(&mut self, window: u32) {
        self.window = window;
        if let Some(presence) = &self.presence {
            presence.set_window(window);
        }
    }

    /// It ends with a right.
    pub(in crate::broker) fn while_standing(&mut self, standing: Option<Standing>) {
        self.standing = standing;
    }

    /// The next messages, never none; waits for them. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// `ConsumerNotFound` when the consumer is gone; `LimitExceeded` when it has too many members; `Stopping`;
    /// `Unauthenticated` and `PermissionDenied` when the right to consume the channel has ended.
    pub async fn next(&mut self) -> Result<Vec<ConsumerDelivery>, BrokerError> {
        loop {
            self.broker.check_shown()?;
            Standing::holds(self.standing.as_ref())?;
            let fresh = self.fresh()?;
            if !fresh.is_empty() {
                let (deliveries, gone) = self.read(&fresh).await?;
                self.hand_on(&deliveries, &gone);
                if !gone.is_empty() {
                    self.broker.settle_gone(&self.named, gone).await?;
                }
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                continue;
            }
            let broker = self.broker.clone();
            let refused = async {
                match &mut self.presence {
                    Some(presence) => presence.refused().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.woken() => {}
                error = refused => return Err(error),
                error = broker.unserved() => return Err(error.into()),
                error = Standing::ended_of(&mut self.standing) => return Err(error),
            }
        }
    }

    /// To be asked when there are messages: what was removed before them that the consumer had not settled, once.
    pub fn take_notice(&mut self) -> Option<Notice> {
        let Lost { messages, from_seq, to_seq } = self.look(Consumer::lost)?;
        if messages == 0 || to_seq <= self.told_to {
            return None;
        }
        let from_seq = from_seq.max(self.told_to);
        self.told_to = to_seq;
        let history = self.broker.inner.view.history(self.channel.id)?;
        history.judge(Place::Seq(from_seq), IfChanged::Notice)
    }

    /// From now on work on a message begins when [`Member::begin`] says so. What was not begun when the member goes comes
    /// again and has cost no attempt.
    pub fn report_begun(&mut self) {
        self.reports = true;
    }

    /// Somebody begins to work on a message.
    pub fn begin(&mut self, token: DeliveryToken) {
        if let Some(in_hand) = self.in_hand.get_mut(&token.seq).filter(|in_hand| in_hand.attempt == token.attempt) {
            in_hand.begun = true;
        }
        self.goes_on();
    }

    /// Whoever gets the messages has said something.
    pub fn goes_on(&mut self) {
        self.progress = Instant::now();
        if let Some(presence) = &self.presence {
            presence.set_window(self.window);
        }
    }

    /// Whoever gets the messages is done, and has said of all of them whether work on them began. Otherwise one more may
    /// have been begun: the first of which nothing was said.
    pub fn leave_in_order(&mut self) {
        self.in_order = true;
    }

    /// Whether attempts of the consumer are counted, so that it matters what was begun.
    pub fn counts_attempts(&self) -> bool {
        self.look(|consumer| consumer.meta().config.max_attempts > 0).unwrap_or(false)
    }

    /// How often to call [`Member::keep_buffered`].
    pub fn look_after(&self) -> Duration {
        self.ack_timeout() / 3
    }

    fn ack_timeout(&self) -> Duration {
        let timeout = self.look(|consumer| consumer.meta().config.ack_timeout_ms).unwrap_or_default();
        Duration::from_millis(timeout.clamp(100, LONGEST_MS))
    }

    /// Sees to it that no ack timeout passes as an attempt of what nobody has begun. While whoever gets the messages makes
    /// progress, what waits for it stays with it; after an ack timeout without any it is given back, and no more is taken
    /// until there is some.
    ///
    /// # Errors
    /// As [`Broker::settle`].
    pub async fn keep_buffered(&mut self) -> Result<(), BrokerError> {
        // What is to be read yet waits as well.
        let unread = self.fresh()?;
        let buffered = self.in_hand.iter().filter(|(_, in_hand)| !in_hand.begun);
        let buffered = buffered.map(|(seq, in_hand)| (*seq, in_hand.attempt));
        let buffered: Vec<(u64, u32)> = buffered.chain(unread).collect();
        if buffered.is_empty() {
            return Ok(());
        }
        let goes_on = self.progress.elapsed() < self.ack_timeout();
        if !goes_on && let Some(presence) = &self.presence {
            presence.set_window(0);
        }
        let verdict = if goes_on { Verdict::Extend } else { Verdict::Return };
        self.broker.say_of_all(self.named.id, self.id, buffered, &verdict).await
    }

    fn look<T>(&self, at: impl FnOnce(&Consumer) -> T) -> Option<T> {
        self.broker.inner.view.consumers(|all| all.get(self.named.id).map(at))
    }

    fn hand_on(&mut self, deliveries: &[ConsumerDelivery], gone: &[DeliveryToken]) {
        for DeliveryToken { seq, attempt, .. } in deliveries.iter().map(|delivery| delivery.token) {
            let in_hand = InHand { place: self.handed, begun: !self.reports, ..InHand::begun(attempt) };
            self.in_hand.insert(seq, in_hand);
            self.handed += 1;
        }
        // What is gone is not looked for again.
        let gone = gone.iter().map(|token| (token.seq, token.attempt));
        self.in_hand.extend(gone.map(|(seq, attempt)| (seq, InHand::begun(attempt))));
    }

    /// What may have been begun, by sequence number, with its attempt.
    fn begun(&self) -> BTreeMap<u64, u32> {
        let open = self.in_hand.iter().filter(|(_, in_hand)| !in_hand.begun);
        let next = open.min_by_key(|(_, in_hand)| in_hand.place).map(|(seq, _)| *seq).filter(|_| !self.in_order);
        let begun = self.in_hand.iter().filter(|(seq, in_hand)| in_hand.begun || Some(**seq) == next);
        begun.map(|(seq, in_hand)| (*seq, in_hand.attempt)).collect()
    }

    /// Whether there is something that no member has.
    fn could_get_something(&self) -> bool {
        let end = self.broker.inner.view.stats(self.channel.id).unwrap_or_default().next_seq;
        let status =
            self.broker.inner.view.consumers(|all| all.get(self.named.id).map(|consumer| consumer.status(end)));
        status.is_some_and(|status| status.lag > status.in_flight + status.dying)
    }

    /// Ends it: what was handed to it at the last moment, mostly nothing.
    async fn last(&mut self) -> Result<Vec<ConsumerDelivery>, BrokerError> {
        self.presence = None;
        self.broker.forget_member(self.named.id, self.id).await;
        self.broker.catch_up().await?;
        let fresh = self.fresh()?;
        let (deliveries, gone) = self.read(&fresh).await?;
        self.hand_on(&deliveries, &gone);
        if !gone.is_empty() {
            self.broker.settle_gone(&self.named, gone).await?;
        }
        Ok(deliveries)
    }

    /// What has been handed to the member, and not by it.
    fn fresh(&mut self) -> Result<BTreeMap<u64, u32>, BrokerError> {
        let held: Option<BTreeMap<u64, u32>> = self
            .broker
            .inner
            .view
            .consumers(|all| all.get(self.named.id).map(|consumer| consumer.held_by(self.id).collect()));
        let mut held = held.ok_or_else(|| self.named.not_found())?;
        self.in_hand.retain(|seq, in_hand| held.get(seq) == Some(&in_hand.attempt));
        held.retain(|seq, _| !self.in_hand.contains_key(seq));
        Ok(held)
    }

    /// Messages from this node's store, about as many bytes as a page has, and those that are gone from there or too old to
    /// be handed on. What is left is wanted again: a member may hold ten thousand messages of a megabyte.
    async fn read(
        &self,
        wanted: &BTreeMap<u64, u32>,
    ) -> Result<(Vec<ConsumerDelivery>, Vec<DeliveryToken>), BrokerError> {
        let (key, bytes) = (stream_key(self.channel.name.as_str()), self.broker.limits().page_bytes);
        let now_ms = self.broker.inner.view.time_ms();
        let token = |seq: u64, attempt: u32| DeliveryToken { seq, attempt, member: self.id, of: None };
        let (mut deliveries, mut gone) = (Vec::new(), Vec::new());
        let (mut left, mut read) = (wanted.clone(), 0);
        while let Some((first, _)) = left.first_key_value().filter(|_| read < bytes) {
            let first = *first;
            let view = &self.broker.inner.view;
            let (page, history) = {
                let _whole = view.whole().await;
                let page = self.broker.store().read_batches(&key, first, bytes).await;
                let page = page.map_err(|error| self.broker.store_error(&error))?;
                // It is read by name: what is there may be another channel's.
                let history = view.history(self.channel.id).ok_or_else(|| self.named.not_found())?;
                (page, history)
            };
            let end = page.last().map_or(first, StoredBatch::end_seq);
            for batch in &page {
                if left.range(batch.first_seq..batch.end_seq()).next().is_none() {
                    continue;
                }
                for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                    let Some(attempt) = left.remove(&seq) else { continue };
                    let unreadable = |error: prost::DecodeError| BrokerError::Internal { reason: error.to_string() };
                    let message = message.map_err(unreadable)?;
                    if has_expired(&message, batch.time_ms, now_ms) {
                        gone.push(token(seq, attempt));
                    } else {
                        let time_ms = self.broker.inner.view.time_of_day(batch.time_ms);
                        let schema_id = batch.schema_id;
                        read += prost::Message::encoded_len(&message);
                        let of = DeliveryOrigin { consumer: self.named.id, position: history.position(seq) };
                        let token = DeliveryToken { of: Some(of), ..token(seq, attempt) };
                        deliveries.push(ConsumerDelivery { token, time_ms, schema_id, message });
                    }
                }
            }
            // What a page passed over, or an empty one did not find, is not there.
            let after = left.split_off(&end.max(first + 1));
            gone.extend(left.into_iter().map(|(seq, attempt)| token(seq, attempt)));
            left = after;
        }
        Ok((deliveries, gone))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Before the leader is told that the member is gone.
        self.presence = None;
        if self.stays {
            return;
        }
        let (broker, consumer, member, begun) = (self.broker.clone(), self.named.id, self.id, self.begun());
        // Counted as a request, so that a node that stops does it first.
        let request = self.broker.inner.requests.token();
        let leave = async move {
            broker.leave(consumer, member, &begun).await;
            drop(request);
        };
        self.broker.inner.tasks.spawn_on(leave, &self.runtime);
    }
}
