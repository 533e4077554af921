//! Consumers against the least that their rules say: a list of messages, looked through from the start each time.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::machine::consumers::PendingBlock;

#[derive(Clone, Debug)]
struct NaiveConsumer {
    meta: crate::model::ConsumerMeta,
    cursor: Cursor,
    pending: Vec<(u64, Pending)>,
}

#[derive(Debug, Default)]
struct Naive {
    now: u64,
    end: u64,
    letters: u64,
    last_id: u64,
    consumers: Vec<NaiveConsumer>,
}

impl NaiveConsumer {
    fn is_dead(&self, pending: &Pending) -> bool {
        let most = self.meta.config.max_attempts;
        pending.member.is_none() && most > 0 && pending.attempts >= most
    }

    /// Drops the dead where there is nowhere to put them.
    fn drop_dead(&mut self) {
        if self.meta.config.dead_letter.is_none() {
            let (before, this) = (self.pending.len(), self.clone());
            self.pending.retain(|(_, pending)| !this.is_dead(pending));
            self.cursor.dead += (before - self.pending.len()) as u64;
        }
    }

    fn find(&mut self, seq: u64) -> Option<&mut Pending> {
        self.pending.iter_mut().find(|(other, _)| *other == seq).map(|(_, pending)| pending)
    }

    fn fail(&mut self, seq: u64, failure: Failure, due_ms: u64) {
        if let Some(pending) = self.find(seq) {
            (pending.member, pending.failure, pending.due_ms) = (None, Some(failure), due_ms);
        }
        self.drop_dead();
    }

    fn key(&self, key: Option<u64>) -> Option<u64> {
        match self.meta.config.order {
            ConsumeOrder::None => None,
            ConsumeOrder::Exclusive => Some(0),
            ConsumeOrder::Key(_) => key,
        }
    }

    fn assign(&mut self, now: u64, end: u64, next: u64, until: u64, hands: &[Hand], parked: &[(u64, u64)]) -> bool {
        let mut after = self.clone();
        if next != self.cursor.next || until < next || until > end {
            return false;
        }
        let range = next..until;
        let mut given = Vec::new();
        for (seq, key) in parked {
            if self.meta.config.order == ConsumeOrder::None || !range.contains(seq) || given.contains(seq) {
                return false;
            }
            given.push(*seq);
            let key = self.key(Some(*key));
            after.pending.push((*seq, Pending { key, due_ms: now, ..Pending::default() }));
        }
        for Hand { seq, member, key } in hands {
            if given.contains(seq) {
                return false;
            }
            given.push(*seq);
            let before = self.pending.iter().find(|(other, _)| other == seq).map(|(_, pending)| pending.clone());
            let before = match before {
                Some(before) if before.member.is_some() || before.due_ms > now || self.is_dead(&before) => {
                    return false;
                }
                Some(before) => before,
                None if range.contains(seq) => Pending { key: self.key(*key), ..Pending::default() },
                None => return false,
            };
            after.cursor.redelivered += u64::from(before.attempts > 0);
            let due_ms = now + self.meta.config.ack_timeout_ms;
            let handed = Pending { member: Some(*member), attempts: before.attempts + 1, due_ms, ..before };
            after.pending.retain(|(other, _)| other != seq);
            after.pending.push((*seq, handed));
        }
        let held = |consumer: &Self| consumer.pending.iter().filter(|(_, pending)| pending.member.is_some()).count();
        let new = hands.iter().filter(|hand| !self.pending.iter().any(|(seq, _)| *seq == hand.seq)).count();
        if held(self) + new > (self.meta.config.max_in_flight as usize).max(held(self)) {
            return false;
        }
        for Hand { seq, member, .. } in hands {
            let key = after.find(*seq).unwrap().key;
            let earlier = after.pending.iter().filter(|(other, pending)| {
                let concerns = other < seq || pending.member.is_some();
                concerns && key.is_some() && pending.key == key && !after.is_dead(pending)
            });
            if !earlier.into_iter().all(|(_, pending)| pending.member == Some(*member)) {
                return false;
            }
        }
        after.cursor.next = until;
        after.pending.sort_by_key(|(seq, _)| *seq);
        *self = after;
        true
    }

    /// False when it is stale.
    fn settle(&mut self, now: u64, Settlement { token, verdict }: &Settlement) -> bool {
        let timeout = self.meta.config.ack_timeout_ms;
        let found = self.find(token.seq).cloned();
        let ours = match &found {
            None => token.seq < self.cursor.next,
            Some(pending) => {
                pending.attempts == token.attempt
                    && token.attempt > 0
                    && pending.member.is_none_or(|member| member == token.member)
            }
        };
        if !ours {
            return false;
        }
        let held = found.as_ref().is_some_and(|pending| pending.member.is_some());
        match verdict {
            Verdict::Ack => self.pending.retain(|(seq, _)| *seq != token.seq),
            Verdict::AckUpTo => self.pending.retain(|(seq, pending)| {
                *seq != token.seq && !(*seq < token.seq && pending.member == Some(token.member))
            }),
            Verdict::Nack { delay_ms, reason } if held => {
                self.fail(token.seq, Failure::Nacked(reason.clone()), now + delay_ms);
            }
            Verdict::Nack { .. } => return found.is_some(),
            Verdict::Extend if held => self.find(token.seq).unwrap().due_ms = now + timeout,
            Verdict::Extend => return false,
            Verdict::Return if held => {
                let pending = self.find(token.seq).unwrap();
                (pending.member, pending.due_ms, pending.attempts) = (None, now, pending.attempts - 1);
            }
            Verdict::Return => return found.is_some(),
        }
        true
    }

    fn status(&self, end: u64) -> ConsumerStatus {
        let count = |wanted: &dyn Fn(&Pending) -> bool| self.pending.iter().filter(|(_, p)| wanted(p)).count() as u64;
        ConsumerStatus {
            meta: self.meta.clone(),
            cursor: self.cursor,
            in_flight: count(&|pending| pending.member.is_some()),
            waiting: count(&|pending| pending.member.is_none() && !self.is_dead(pending)),
            dying: count(&|pending| self.is_dead(pending)),
            floor: self.pending.first().map_or(self.cursor.next, |(seq, _)| *seq),
            lag: end.saturating_sub(self.cursor.next) + self.pending.len() as u64,
            lost: 0,
        }
    }
}

impl Naive {
    fn at(&mut self, time_ms: u64) {
        self.now = self.now.max(time_ms);
        // One after the other, by time: each may die.
        while let Some((due, at, seq)) = self.due().into_iter().min().filter(|(due, _, _)| *due <= self.now) {
            self.consumers[at].fail(seq, Failure::Timeout, due);
        }
    }

    fn due(&self) -> Vec<(u64, usize, u64)> {
        let held = |(at, consumer): (usize, &NaiveConsumer)| {
            let held = consumer.pending.iter().filter(|(_, pending)| pending.member.is_some());
            held.map(move |(seq, pending)| (pending.due_ms, at, *seq)).collect::<Vec<_>>()
        };
        self.consumers.iter().enumerate().flat_map(held).collect()
    }

    fn begin(&self, begin: Begin) -> u64 {
        match begin {
            Begin::Earliest => 0,
            Begin::Latest => self.end,
            Begin::Seq(seq) => seq.min(self.end),
        }
    }

    fn operate(&mut self, operation: &ConsumerOperation) -> Result<ConsumerReply, Refusal> {
        let (now, end) = (self.now, self.end);
        let (operation, keeping) = match operation {
            ConsumerOperation::Keeping(operation) | ConsumerOperation::Judged { operation, .. } => (&**operation, true),
            operation => (operation, false),
        };
        let begin = match operation {
            ConsumerOperation::Create { begin, .. } | ConsumerOperation::Reset { begin, .. } => self.begin(*begin),
            _ => 0,
        };
        if let ConsumerOperation::Create { name, config, .. } = operation {
            let present = self.consumers.iter().find(|consumer| consumer.meta.name == *name);
            if let Some(present) = present {
                let same = present.meta.config == *config;
                let reply = ConsumerReply::Consumer(Box::new(present.status(end)));
                return if same { Ok(reply) } else { Err(Refusal::ConsumerExists) };
            }
            self.last_id += 1;
            let id = ConsumerId(self.last_id);
            let (name, config, channel) = (name.clone(), config.clone(), ChannelId(1));
            let meta = crate::model::ConsumerMeta { id, channel, name, config, created_ms: now };
            let cursor = Cursor { next: begin, ..Cursor::default() };
            self.consumers.push(NaiveConsumer { meta, cursor, pending: vec![] });
            return Ok(ConsumerReply::Consumer(Box::new(self.consumers.last().unwrap().status(end))));
        }
        let id = match operation {
            ConsumerOperation::Create { .. } | ConsumerOperation::Keeping(_) | ConsumerOperation::Judged { .. } => {
                unreachable!("done above")
            }
            ConsumerOperation::Update { consumer, .. }
            | ConsumerOperation::Delete { consumer }
            | ConsumerOperation::Reset { consumer, .. }
            | ConsumerOperation::Assign { consumer, .. }
            | ConsumerOperation::AssignPast { consumer, .. }
            | ConsumerOperation::Settle { consumer, .. }
            | ConsumerOperation::Leave { consumer, .. }
            | ConsumerOperation::DeadLetter { consumer, .. } => *consumer,
        };
        let at = self.consumers.iter().position(|consumer| consumer.meta.id == id).ok_or(Refusal::NoSuchConsumer)?;
        let consumer = &mut self.consumers[at];
        match operation {
            ConsumerOperation::Create { .. } | ConsumerOperation::Keeping(_) | ConsumerOperation::Judged { .. } => {
                unreachable!("done above")
            }
            ConsumerOperation::Update { config, .. } => {
                let before = consumer.clone();
                for (_, pending) in consumer.pending.iter_mut().filter(|(_, pending)| !before.is_dead(pending)) {
                    if keeping && pending.member.is_none() && config.max_attempts > 0 {
                        pending.attempts = pending.attempts.min(config.max_attempts - 1);
                    }
                }
                consumer.meta.config = config.clone();
                consumer.drop_dead();
            }
            ConsumerOperation::Delete { .. } => {
                return Ok(ConsumerReply::Consumer(Box::new(self.consumers.remove(at).status(0))));
            }
            ConsumerOperation::Reset { .. } => {
                consumer.pending.clear();
                consumer.cursor.next = begin;
            }
            ConsumerOperation::AssignPast { .. } => unreachable!("its promises have tests of their own"),
            ConsumerOperation::Assign { next, until, hands, parked, .. } => {
                let done = consumer.assign(now, end, *next, *until, hands, parked);
                return if done { Ok(ConsumerReply::Done) } else { Err(Refusal::StaleAssignment) };
            }
            ConsumerOperation::Settle { settlements, .. } => {
                let stale = (0u32..).zip(settlements).filter(|(_, one)| !consumer.settle(now, one));
                return Ok(ConsumerReply::Settled { stale: stale.map(|(position, _)| position).collect() });
            }
            ConsumerOperation::Leave { member, .. } => {
                let held: Vec<u64> =
                    consumer.pending.iter().filter(|(_, p)| p.member == Some(*member)).map(|(seq, _)| *seq).collect();
                held.into_iter().for_each(|seq| consumer.fail(seq, Failure::Left, now));
                return Ok(ConsumerReply::Done);
            }
            ConsumerOperation::DeadLetter { seq, letter, .. } => {
                let dead = consumer.find(*seq).cloned().filter(|pending| consumer.is_dead(pending));
                if dead.is_none() {
                    return Err(Refusal::NotDead);
                }
                consumer.pending.retain(|(other, _)| other != seq);
                consumer.cursor.dead += 1;
                self.letters += u64::from(letter.is_some());
                return Ok(ConsumerReply::Done);
            }
        }
        Ok(ConsumerReply::Consumer(Box::new(self.consumers[at].status(end))))
    }

    /// All plain keys of consumers that a machine in this state has stored.
    fn stored(&self) -> BTreeMap<Bytes, Bytes> {
        let mut stored = BTreeMap::new();
        if self.last_id > 0 {
            stored.insert(Key::Consumers.encode(), codec::encode_record(&self.last_id));
        }
        for NaiveConsumer { meta, cursor, pending } in &self.consumers {
            stored.insert(Key::Consumer(meta.id).encode(), codec::encode_record(meta));
            stored.insert(Key::Cursor(meta.id).encode(), codec::encode_record(cursor));
            for (seq, _) in pending {
                let block = seq / 64;
                let within: Vec<(u8, Pending)> = pending
                    .iter()
                    .filter(|(seq, _)| seq / 64 == block)
                    .map(|(seq, pending)| (u8::try_from(seq % 64).unwrap(), pending.clone()))
                    .collect();
                stored.insert(Key::Pending(meta.id, block).encode(), codec::encode_record(&PendingBlock(within)));
            }
        }
        stored
    }
}

fn any_config() -> impl Strategy<Value = ConsumerConfig> {
    let order = prop_oneof![
        2 => Just(ConsumeOrder::None),
        1 => Just(ConsumeOrder::Exclusive),
        2 => Just(ConsumeOrder::Key(OrderingKey::MessageKey)),
    ];
    (order, 0u32..3, prop::bool::ANY, 2u32..80).prop_map(|(order, max_attempts, letters, max_in_flight)| {
        ConsumerConfig {
            ack_timeout_ms: 40,
            max_attempts,
            dead_letter: letters.then(|| "dead".parse().unwrap()),
            max_in_flight,
            order,
            filter: None,
        }
    })
}

fn any_begin() -> impl Strategy<Value = Begin> {
    prop_oneof![Just(Begin::Earliest), Just(Begin::Latest), (0u64..100).prop_map(Begin::Seq)]
}

/// What to do next. Where to assign from is known only then.
#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Operate(Vec<ConsumerOperation>),
    /// For a consumer: how far beyond its next, whether it is told wrong, and to whom what is handed.
    Assign(u64, u64, bool, Vec<(u64, u64, Option<u64>)>, Vec<(u64, u64)>),
    Tick,
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = || (1u64..5).prop_map(ConsumerId);
    let member = || 7u64..9;
    let create = ("[vw]", any_config(), any_begin()).prop_map(|(name, config, begin)| ConsumerOperation::Create {
        channel: "c".parse().unwrap(),
        name: name.parse().unwrap(),
        config,
        begin,
    });
    let verdict = prop_oneof![
        4 => Just(Verdict::Ack),
        1 => Just(Verdict::AckUpTo),
        2 => (0u64..50).prop_map(|delay_ms| nack(delay_ms, "n")),
        1 => Just(Verdict::Extend),
        1 => Just(Verdict::Return),
    ];
    let settlement = (0u64..90, 0u32..3, member(), verdict)
        .prop_map(|(seq, attempt, member, verdict)| Settlement { token: token(seq, attempt, member), verdict });
    let operation = prop_oneof![
        2 => create,
        1 => (id(), any_config()).prop_map(|(consumer, config)| ConsumerOperation::Update { consumer, config }),
        1 => id().prop_map(|consumer| ConsumerOperation::Delete { consumer }),
        1 => (id(), any_begin()).prop_map(|(consumer, begin)| ConsumerOperation::Reset { consumer, begin }),
        8 => (id(), vec(settlement, 0..20))
            .prop_map(|(consumer, settlements)| ConsumerOperation::Settle { consumer, settlements }),
        1 => (id(), member()).prop_map(|(consumer, member)| ConsumerOperation::Leave { consumer, member }),
        4 => (id(), 0u64..90, prop::bool::ANY).prop_map(|(consumer, seq, some)| ConsumerOperation::DeadLetter {
            consumer,
            seq,
            letter: some.then(|| group(ChannelId(2), 0, &[("letter", None)])),
        }),
    ];
    let operation = (operation, 0..3).prop_map(|(one, rule)| match rule {
        0 => one,
        1 => ConsumerOperation::Keeping(Box::new(one)),
        _ => ConsumerOperation::Judged { operation: Box::new(one), settle_skipped: false },
    });
    let hands = vec((0u64..12, member(), prop::option::of(0u64..3)), 0..8);
    let parked = vec((0u64..12, 0u64..3), 0..2);
    prop_oneof![
        2 => (1usize..30).prop_map(Step::Publish),
        6 => vec(operation, 1..5).prop_map(Step::Operate),
        12 => (1u64..5, 0u64..12, prop::bool::weighted(0.05), hands, parked)
            .prop_map(|(id, ahead, wrong, hands, parked)| Step::Assign(id, ahead, wrong, hands, parked)),
        2 => Just(Step::Tick),
    ]
}

impl Step {
    fn command(self, time_ms: u64, naive: &Naive) -> Command {
        match self {
            Self::Tick => Command::Tick { time_ms },
            Self::Publish(count) => {
                Command::Publish { time_ms, groups: vec![group(ChannelId(1), 0, &vec![("m", None); count])] }
            }
            Self::Operate(operations) => {
                // A letter goes to a channel that the consumer names, or nowhere.
                Command::Operations { time_ms, operations: operations.into_iter().map(Operation::Consumer).collect() }
            }
            Self::Assign(id, ahead, wrong, hands, parked) => {
                let known = naive.consumers.iter().find(|consumer| consumer.meta.id.0 == id);
                let next = known.map_or(0, |consumer| consumer.cursor.next);
                // From what is pending on: some of it waits.
                let from = known.and_then(|consumer| consumer.pending.first()).map_or(next, |(seq, _)| *seq);
                let mut hands: Vec<Hand> =
                    hands.into_iter().map(|(seq, member, key)| Hand { seq: from + seq, member, key }).collect();
                hands.sort_by_key(|hand| hand.seq);
                let parked: BTreeMap<u64, u64> = parked.into_iter().map(|(seq, key)| (from + seq, key)).collect();
                let (until, next) = ((next + ahead).min(naive.end), next + u64::from(wrong));
                let parked = parked.into_iter().filter(|(seq, _)| (next..until).contains(seq)).collect();
                let consumer = ConsumerId(id);
                let assign = ConsumerOperation::Assign { consumer, next, until, hands, parked };
                Command::Operations { time_ms, operations: vec![Operation::Consumer(assign)] }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_operations_and_restarts_agree_with_naive_consumers(
        steps in vec((any_step(), 0u64..30, prop::bool::weighted(0.2)), 1..80)
    ) {
        let mut naive = Naive { now: 1, ..Naive::default() };
        let mut steady = Node::new();
        let mut restarted = Node::new();
        for node in [&mut steady, &mut restarted] {
            node.create("c", window(1));
            node.create("dead", window(1));
        }
        for (step, advance, restart) in steps {
            let command = step.command(naive.now + advance, &naive);
            if restart {
                restarted.restart();
            }
            let (reply, effects) = steady.apply(command.clone());
            prop_assert_eq!(&restarted.apply(command.clone()), &(reply.clone(), effects));
            naive.at(command.time_ms());
            if let Command::Publish { groups, .. } = &command {
                naive.end += u64::from(groups[0].frame.count());
            }
            if let Command::Operations { operations, .. } = &command {
                let Reply::Operations(replies) = reply else { panic!("{reply:?}") };
                for (operation, reply) in operations.iter().zip(replies) {
                    let Operation::Consumer(operation) = operation else { continue };
                    prop_assert_eq!(reply, naive.operate(operation).map(OperationReply::Consumer), "{:?}", operation);
                }
            }
            let of_consumers = |key: &Bytes| [&b"consumer"[..], b"cursor/", b"pending/"].iter().any(|p| key.starts_with(p));
            let stored: BTreeMap<_, _> = steady.stored.clone().into_iter().filter(|(key, _)| of_consumers(key)).collect();
            prop_assert_eq!(stored, naive.stored());
            prop_assert_eq!(steady.machine.next_expiry_ms(), naive.due().iter().map(|(due, _, _)| *due).min());
            prop_assert_eq!(steady.machine.stats(ChannelId(2)).unwrap().next_seq, naive.letters);
            let floors = naive.consumers.iter().map(|consumer| consumer.status(0).floor);
            prop_assert_eq!(steady.machine.settled_floor(ChannelId(1)), floors.min());
        }
    }
}
