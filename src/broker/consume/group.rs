//! The groups that are awake on the leader: one task for each consumer with members, and none for the others.
//!
//! Members announce how many messages they take, again and again; one that is not heard of for a while is forgotten.
//! The task decides who gets what as soon as there is something to get, with one proposal under way at a time: what
//! becomes free meanwhile is in the next one, so a busy consumer's log entries grow instead of becoming more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    super::{
        Broker, BrokerError, Leader, filter_of,
        forward::{Request, Response},
        groups::Word,
        leader::RETRY,
        stats::overloaded,
        submission::SubmitError,
        turns::Asker,
    },
    behind::Behind,
    member::is_pull,
    plan::Plan,
    presence::LEASE,
    seats::Seats,
};
use crate::{
    fanout::Wake,
    model::{ChannelMeta, ConsumerId, ConsumerOperation, Operation, Refusal, StoredBatch, stream_key},
};

/// Words to a group that may wait.
const QUEUE: usize = 1_024;
/// A group without members ends.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of messages that are looked at in one go.
const PAGE: usize = 256 << 10;
/// How long a member's node waits for the leader to take note of something.
const NOTED: Duration = Duration::from_secs(2);

/// A member as the leader knows it.
struct Seat {
    /// Messages that it takes, those that it has included.
    window: u32,
    /// It takes what it gets first, and is gone.
    once: bool,
    until: Instant,
}

struct Group {
    broker: Broker,
    id: ConsumerId,
    channel: ChannelMeta,
    words: mpsc::Receiver<Word>,
    seats: BTreeMap<u64, Seat>,
    turn: u64,
    wake: Wake,
    /// When to look for members that hold messages and are not heard of.
    look_for_lost: Option<Instant>,
    /// Read last, because what did not fit into one plan is in the next.
    page: Vec<StoredBatch>,
    /// What was passed over, and the page of it that was read last.
    behind: Behind,
    back: Vec<StoredBatch>,
}

/// What became of a try to hand something out.
enum Tried {
    /// There may be more.
    Again,
    /// Nothing can be done before this time, or before something happens.
    Wait(Option<Instant>),
    /// This is not the place any longer.
    Over,
}

impl Broker {
    /// On the leader: a member takes messages.
    pub(in crate::broker) async fn seat_member(
        &self,
        consumer: ConsumerId,
        member: u64,
        window: u32,
        once: bool,
    ) -> Response {
        if !self.leads() {
            return Response::NotProposed;
        }
        let (told, answer) = oneshot::channel();
        let word = Word::Join { member, window, once, told };
        if let Err(error) = self.tell_group(consumer, word) {
            return Response::Refused(error);
        }
        match tokio::time::timeout(NOTED, answer).await {
            Ok(Ok(Ok(()))) => Response::Done,
            Ok(Ok(Err(error))) => Response::Refused(error),
            Ok(Err(_)) | Err(_) => Response::NotProposed,
        }
    }

    /// On the leader: a member is gone. Nothing is handed to it once this returns.
    pub(in crate::broker) async fn unseat_member(&self, consumer: ConsumerId, member: u64) {
        let (done, forgotten) = oneshot::channel();
        let group = self.inner.groups.awake.lock().get(&consumer).cloned();
        if let Some(group) = group
            && group.try_send(Word::Forget { member, done }).is_ok()
        {
            let _ = tokio::time::timeout(NOTED, forgotten).await; // its lease ends otherwise
        }
    }

    /// From a member's node.
    pub(super) async fn forget_member(&self, consumer: ConsumerId, member: u64) {
        let request = Request::ForgetMember { consumer, member };
        let _ = self.ask(&self.leader(), &request, Instant::now() + NOTED).await; // as above
    }

    fn tell_group(&self, consumer: ConsumerId, word: Word) -> Result<(), BrokerError> {
        let mut awake = self.inner.groups.awake.lock();
        if let Some(group) = awake.get(&consumer) {
            match group.try_send(word) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(overloaded(QUEUE, QUEUE).into()),
                Err(mpsc::error::TrySendError::Closed(returned)) => {
                    return self.wake_group(&mut awake, consumer, returned);
                }
            }
        }
        self.wake_group(&mut awake, consumer, word)
    }

    fn wake_group(
        &self,
        awake: &mut HashMap<ConsumerId, mpsc::Sender<Word>>,
        id: ConsumerId,
        word: Word,
    ) -> Result<(), BrokerError> {
        let view = &self.inner.view;
        let channel = view.consumers(|all| all.get(id).map(|consumer| consumer.meta().channel));
        let gone = || BrokerError::Internal { reason: format!("consumer {} is not known here yet", id.0) };
        let meta = channel.and_then(|channel| view.meta(channel)).ok_or_else(gone)?;
        let (sender, words) = mpsc::channel(QUEUE);
        let _ = sender.try_send(word); // there is room: it is new
        awake.insert(id, sender);
        let group = Group {
            wake: view.wakes().wait_for(id, Some(meta.id)),
            broker: self.for_tasks(),
            id,
            channel: ChannelMeta::clone(&meta),
            words,
            seats: BTreeMap::new(),
            turn: 0,
            look_for_lost: None,
            page: Vec::new(),
            behind: Behind::default(),
            back: Vec::new(),
        };
        let stopping = self.inner.stopping.clone();
        self.inner.tasks.spawn(stopping.run_until_cancelled_owned(group.run()));
        Ok(())
    }
}

impl Group {
    async fn run(mut self) {
        let mut leader = self.broker.inner.sequencer.leader();
        leader.mark_changed();
        let mut deserted = Instant::now() + IDLE;
        loop {
            if leader.has_changed().unwrap_or(false) {
                // Members make themselves known to each leader.
                self.look_for_lost = Some(Instant::now() + LEASE);
                self.behind = Behind::default();
            }
            while let Ok(word) = self.words.try_recv() {
                self.heard(word);
            }
            let now = Instant::now();
            let seated = self.seats.len();
            self.seats.retain(|_, seat| seat.until > now);
            if self.seats.len() < seated {
                self.look_for_lost.get_or_insert(now);
            }
            if !self.seats.is_empty() {
                deserted = now + IDLE;
            }
            let leads = matches!(&*leader.borrow_and_update(), Leader::Local { .. });
            if leads && self.look_for_lost.is_some_and(|due| due <= now) {
                self.look_for_lost = None;
                self.take_from_lost().await;
            }
            let tried = if leads { self.try_assign().await } else { Tried::Over };
            let until = match tried {
                Tried::Again => continue,
                Tried::Wait(until) => until,
                Tried::Over => {
                    self.seats.clear();
                    deserted = now;
                    None
                }
            };
            if self.seats.is_empty() && deserted <= Instant::now() && self.retire() {
                return;
            }
            let lease = self.seats.values().map(|seat| seat.until).min().unwrap_or(deserted);
            let until = [until, self.look_for_lost].into_iter().flatten().fold(lease, Instant::min);
            tokio::select! {
                word = self.words.recv() => match word {
                    Some(word) => self.heard(word),
                    None => return,
                },
                () = self.wake.woken(), if !self.seats.is_empty() => {}
                () = tokio::time::sleep_until(until) => {}
                _ = leader.changed() => {}
            }
        }
    }

    /// Has the messages of members that went without a word, with their nodes, come again before their ack timeout.
    async fn take_from_lost(&mut self) {
        let (consumer, view) = (self.id, self.broker.inner.view.clone());
        let lost: BTreeSet<u64> = view.consumers(|all| {
            let members = all.get(consumer).into_iter().flat_map(|consumer| consumer.pending().values());
            let members = members.filter_map(|pending| pending.member);
            members.filter(|member| !self.seats.contains_key(member) && !is_pull(*member)).collect()
        });
        for member in lost {
            tracing::debug!(consumer = consumer.0, member, "a member was not heard of: its messages come again");
            let leave = Operation::Consumer(ConsumerOperation::Leave { consumer, member });
            if self.broker.submit_operation(leave).await.is_err() {
                self.look_for_lost = Some(Instant::now() + RETRY);
                return;
            }
        }
    }

    /// False when somebody has just said something.
    fn retire(&mut self) -> bool {
        let mut awake = self.broker.inner.groups.awake.lock();
        // Words are sent under the same lock.
        if !self.words.is_empty() {
            return false;
        }
        awake.remove(&self.id);
        true
    }

    fn heard(&mut self, word: Word) {
        match word {
            Word::Join { member, window, once, told } => {
                let (present, limit) = (self.seats.len(), self.broker.limits().consumer_members);
                if present >= limit && !self.seats.contains_key(&member) {
                    let (what, value) = ("the number of a consumer's members".to_owned(), present as u64 + 1);
                    let _ = told.send(Err(BrokerError::LimitExceeded { what, value, limit: limit as u64 }));
                    return;
                }
                self.seats.insert(member, Seat { window, once, until: Instant::now() + LEASE });
                let _ = told.send(Ok(())); // it may have given up
            }
            Word::Forget { member, done } => {
                self.seats.remove(&member);
                let _ = done.send(()); // as above
            }
        }
    }

    async fn try_assign(&mut self) -> Tried {
        let (operation, due) = match self.plan().await {
            Ok(Some((operation, due))) => (operation, due),
            Ok(None) => return Tried::Over,
            Err(error) => {
                tracing::warn!(%error, consumer = self.id.0, "cannot look for messages to hand out");
                return Tried::Wait(Some(Instant::now() + RETRY));
            }
        };
        let Some(operation) = operation else {
            self.behind.keep();
            return Tried::Wait(due);
        };
        let (ConsumerOperation::Assign { hands, .. } | ConsumerOperation::AssignPast { hands, .. }) = &operation else {
            return Tried::Over;
        };
        let members: Vec<u64> = hands.iter().map(|hand| hand.member).collect();
        match self.broker.submit_operation(Operation::Consumer(operation)).await {
            Ok(operated) => match operated.reply {
                Ok(_) => {
                    self.behind.keep();
                    self.seats.retain(|member, seat| !seat.once || !members.contains(member));
                    self.broker.inner.groups.scheduled.notify_one();
                    Tried::Again
                }
                Err(Refusal::NoSuchConsumer | Refusal::NoSuchChannel) => Tried::Over,
                // Something else changed the consumer first.
                Err(_) => Tried::Wait(Some(Instant::now() + RETRY)),
            },
            Err(SubmitError::NotLeader) => Tried::Over,
            Err(SubmitError::Unknown(_) | SubmitError::Refused(_)) => Tried::Wait(Some(Instant::now() + RETRY)),
        }
    }

    /// What to hand out now, and when to look again; none when the consumer is gone.
    async fn plan(&mut self) -> Result<Option<(Option<ConsumerOperation>, Option<Instant>)>, BrokerError> {
        let broker = self.broker.clone();
        let view = &broker.inner.view;
        let now_ms = view.clock().now_ms();
        let Some(end) = view.stats(self.channel.id).map(|stats| stats.next_seq) else { return Ok(None) };
        let pending = broker.limits().consumer_pending;
        let planned = view.consumers(|all| {
            let consumer = all.get(self.id)?;
            // Who has a message for the last time gets nothing beside it.
            let seats = self.seats.iter().filter(|(member, _)| !consumer.has_last_attempt(**member));
            let seats = seats.map(|(member, seat)| {
                let held = consumer.count_held_by(*member);
                (*member, (seat.window as usize).saturating_sub(held), held)
            });
            let mut seats = Seats::new(seats, self.turn);
            let settled = all.settled_from(self.channel.id, consumer.cursor().next);
            let plan = Plan::again(consumer, &mut seats, pending, now_ms).without(settled);
            let (config, next) = (consumer.meta().config.clone(), consumer.cursor().next);
            self.behind.begin(&config.order, next, consumer.deferred());
            let look = self.behind.look(consumer.deferred(), next, &seats, |key| plan.holder(key));
            Some((plan, seats, config, next, look))
        });
        let Some((mut plan, mut seats, config, next, look)) = planned else { return Ok(None) };
        let mut moved = false;
        if let Some(look) = look {
            let from = look.from;
            let page = std::mem::take(&mut self.back);
            self.back = read(&broker, &self.channel, page, from).await?;
            let until = self.back.last().map_or(next, StoredBatch::end_seq).clamp(from + 1, next);
            let there = view.consumers(|all| all.get(self.id).map(|consumer| consumer.deferred().within(from..until)));
            let there = there.unwrap_or_default();
            let looked = plan.looked_back(&self.back, there, look, until, &mut seats, &mut self.behind);
            moved = looked.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
        }
        let compacted = view.compaction(self.channel.id).is_some_and(|compaction| compaction.removed > 0);
        if !Plan::looks_inside(&config) && !compacted {
            if plan.has_room(&seats) {
                plan.unseen(end, &mut seats);
            }
        } else if next < end && plan.has_room(&seats) && self.behind.knows_all(next) {
            let page = std::mem::take(&mut self.page);
            self.page = read(&broker, &self.channel, page, next).await?;
            let filter = filter_of(config.filter.as_deref().unwrap_or_default())?;
            let _turn = match &filter {
                Some(_) => Some(self.broker.inner.verdicts.turn(&Asker::Consumers).await?),
                None => None,
            };
            for batch in &self.page {
                let more = plan.seen(batch, filter.as_ref(), &mut seats, &mut self.behind);
                if !more.map_err(|error| BrokerError::Internal { reason: error.to_string() })? {
                    break;
                }
            }
        }
        if self.behind.knows_all(next) {
            self.behind.goes_to(plan.until());
        }
        self.turn = seats.turn();
        let due = plan.due_ms.map(|due| Instant::now() + Duration::from_millis(due.saturating_sub(now_ms).max(1)));
        let operation = plan.finish();
        // There may be more behind the page that was looked through.
        let due = if moved && operation.is_none() { Some(Instant::now()) } else { due };
        Ok(Some((operation, due)))
    }
}

/// A page that begins with, or before, a message: the present one, as far as it does.
async fn read(
    broker: &Broker,
    channel: &ChannelMeta,
    mut page: Vec<StoredBatch>,
    next: u64,
) -> Result<Vec<StoredBatch>, BrokerError> {
    let there = |batch: &StoredBatch| batch.first_seq <= next && next < batch.end_seq();
    page.drain(..page.iter().position(there).unwrap_or(page.len()));
    if page.is_empty() {
        let key = stream_key(channel.name.as_str());
        let read = broker.store().read_batches(&key, next, PAGE).await;
        page = read.map_err(|error| broker.store_error(&error))?;
    }
    Ok(page)
}
