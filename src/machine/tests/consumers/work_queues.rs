//! A work queue loses nothing that nobody has settled, wherever its consumers begin, go and end.

mod reclaim;

use super::*;
use crate::model::Orphans;

const QUEUE: ChannelId = ChannelId(1);

/// A work queue with five messages.
fn queue() -> Node {
    let mut node = Node::new();
    let retention = Retention { work_queue: true, ..Retention::default() };
    node.create("c", ChannelConfig { retention, ..window(100) });
    node.publish(1, group(QUEUE, 0, &[("m", None); 5])).0.unwrap();
    node
}

impl Node {
    fn begin(&mut self, name: &str, begin: Begin) -> ConsumerId {
        let (channel, name) = ("c".parse().unwrap(), name.parse().unwrap());
        let create = keeping(ConsumerOperation::Create { channel, name, config: config(), begin });
        match self.operation(1, create) {
            Ok(OperationReply::Consumer(ConsumerReply::Consumer(status))) => status.meta.id,
            other => panic!("{other:?}"),
        }
    }

    /// Works on everything up to a message.
    fn work(&mut self, consumer: ConsumerId, until: u64) {
        let next = self.machine.consumers().get(consumer).unwrap().cursor().next;
        let hands: Vec<Hand> = (next..until).map(|seq| hand(seq, 7)).collect();
        let settled = |seq| Settlement { token: token(seq, 1, 7), verdict: Verdict::Ack };
        let settlements = (next..until).map(settled).collect();
        self.operation(2, ConsumerOperation::Assign { consumer, next, until, hands, parked: vec![] }).unwrap();
        self.operation(2, ConsumerOperation::Settle { consumer, settlements }).unwrap();
    }

    /// As the broker says it now.
    fn judged(&mut self, operation: ConsumerOperation) -> Result<OperationReply, Refusal> {
        self.operation(3, ConsumerOperation::Judged { operation: Box::new(operation), settle_skipped: false })
    }

    /// Works on some of the messages before one, all of which are handed out.
    fn work_on(&mut self, consumer: ConsumerId, until: u64, done: &[u64]) {
        let next = self.machine.consumers().get(consumer).unwrap().cursor().next;
        let open = |seq: &u64| !self.machine.consumers().is_settled(QUEUE, *seq);
        let hands: Vec<Hand> = (next..until).filter(open).map(|seq| hand(seq, 7)).collect();
        self.operation(2, ConsumerOperation::Assign { consumer, next, until, hands, parked: vec![] }).unwrap();
        let settled = |seq: &u64| Settlement { token: token(*seq, 1, 7), verdict: Verdict::Ack };
        let settlements = done.iter().map(settled).collect();
        self.operation(2, ConsumerOperation::Settle { consumer, settlements }).unwrap();
    }

    /// What a consumer has yet to get of the first messages.
    fn open(&self, consumer: ConsumerId) -> Vec<u64> {
        let all = self.machine.consumers();
        let consumer = all.get(consumer).unwrap();
        let end = self.machine.stats(QUEUE).unwrap().next_seq;
        let new = (consumer.cursor().next..end).filter(|seq| !all.is_settled(QUEUE, *seq));
        consumer.pending().keys().copied().chain(new).collect()
    }

    /// The first message that is left, after a restart as before it.
    fn first(&mut self) -> u64 {
        self.restart();
        self.machine.stats(QUEUE).unwrap().first_seq
    }

    fn orphans(&self) -> Option<Orphans> {
        self.machine.channels.get(&QUEUE).unwrap().orphans
    }
}

#[test]
fn where_a_consumer_begins_settles_nothing() {
    let mut node = queue();
    let late = node.begin("late", Begin::Latest);
    assert_eq!(node.first(), 0);
    node.publish(3, group(QUEUE, 0, &[("m", None); 2])).0.unwrap();
    node.work(late, 7);
    assert_eq!((node.first(), node.orphans()), (0, Some(Orphans { from: 0, until: 5 })));
    // Whoever begins at the first of them answers for all.
    let early = node.begin("early", Begin::Earliest);
    assert_eq!(node.orphans(), None);
    node.work(early, 5);
    assert_eq!(node.first(), 5);
}

#[test]
fn a_reset_settles_nothing() {
    let mut node = queue();
    let worker = node.begin("w", Begin::Earliest);
    node.work(worker, 2);
    assert_eq!(node.first(), 2);
    node.operation(3, keeping(ConsumerOperation::Reset { consumer: worker, begin: Begin::Latest })).unwrap();
    assert_eq!((node.first(), node.orphans()), (2, Some(Orphans { from: 2, until: 5 })));
    node.operation(3, keeping(ConsumerOperation::Reset { consumer: worker, begin: Begin::Seq(3) })).unwrap();
    assert_eq!(node.orphans(), Some(Orphans { from: 2, until: 3 }));
    node.operation(3, keeping(ConsumerOperation::Reset { consumer: worker, begin: Begin::Earliest })).unwrap();
    assert_eq!(node.orphans(), None);
    node.work(worker, 5);
    assert_eq!(node.first(), 5);
}

#[test]
fn the_end_of_a_consumer_settles_nothing() {
    let mut node = queue();
    let (slow, fast) = (node.begin("slow", Begin::Earliest), node.begin("fast", Begin::Earliest));
    node.work(slow, 1);
    node.work(fast, 5);
    node.operation(3, keeping(ConsumerOperation::Delete { consumer: slow })).unwrap();
    assert_eq!((node.first(), node.orphans()), (1, Some(Orphans { from: 1, until: 5 })));
    node.operation(3, keeping(ConsumerOperation::Delete { consumer: fast })).unwrap();
    assert_eq!(node.first(), 1);
    // An operator may let go of them.
    let trim = Operation::Trim { channel: "c".parse().unwrap(), up_to: 5 };
    node.apply(Command::Operations { time_ms: 4, operations: vec![trim] });
    assert_eq!((node.first(), node.orphans()), (5, None));
}

#[test]
fn what_another_consumer_has_yet_to_do_is_not_left_behind() {
    let mut node = queue();
    let (slow, fast) = (node.begin("slow", Begin::Earliest), node.begin("fast", Begin::Earliest));
    node.work(fast, 3);
    node.operation(3, keeping(ConsumerOperation::Delete { consumer: fast })).unwrap();
    assert_eq!(node.orphans(), None);
    node.work(slow, 5);
    assert_eq!(node.first(), 5);
}

#[test]
fn a_channel_that_becomes_a_work_queue_keeps_what_its_consumers_may_not_have_seen() {
    let mut node = Node::new();
    node.create("c", window(100));
    node.publish(1, group(QUEUE, 0, &[("m", None); 5])).0.unwrap();
    let late = node.begin("late", Begin::Latest);
    let turn = |node: &mut Node, work_queue| {
        let retention = Some(Retention { work_queue, ..Retention::default() });
        let update = ChannelUpdate { retention, ..ChannelUpdate::default() };
        node.apply(Command::UpdateChannel { time_ms: 2, name: "c".parse().unwrap(), update });
    };
    turn(&mut node, true);
    assert_eq!((node.first(), node.orphans()), (0, Some(Orphans { from: 0, until: 5 })));
    turn(&mut node, false);
    assert_eq!(node.orphans(), None);
    assert!(!node.stored.keys().any(|key| key.starts_with(b"orphans/")));
    assert_eq!(node.machine.consumers().get(late).unwrap().floor(), 5);
}

fn judged_create(name: &str, begin: Begin) -> ConsumerOperation {
    ConsumerOperation::Create { channel: "c".parse().unwrap(), name: name.parse().unwrap(), config: config(), begin }
}

#[test]
fn settled_work_does_not_come_again_to_a_consumer_that_begins_at_the_job_that_is_left() {
    let mut node = queue();
    let slow = node.begin("slow", Begin::Earliest);
    node.work_on(slow, 5, &[0, 2, 4]);
    assert_eq!(node.first(), 1);
    node.judged(judged_create("new", Begin::Earliest)).unwrap();
    let new = ConsumerId(slow.0 + 1);
    node.restart();
    assert_eq!(node.open(new), [1, 3]);
    assert_eq!(node.machine.consumer_status(new).unwrap().lag, 2);
    let again = ConsumerOperation::Assign { consumer: new, next: 1, until: 3, hands: vec![hand(2, 8)], parked: vec![] };
    assert_eq!(node.operation(4, again), Err(Refusal::StaleAssignment), "the machine hands out no settled message");
    node.work_on(new, 5, &[1, 3]);
    assert_eq!(node.first(), 1, "the slow one has not done them");
    let settlements = [1, 3].map(|seq| Settlement { token: token(seq, 1, 7), verdict: Verdict::Ack }).to_vec();
    node.operation(5, ConsumerOperation::Settle { consumer: slow, settlements }).unwrap();
    assert_eq!(node.first(), 5);
    assert!(!node.stored.keys().any(|key| key.starts_with(b"settled/")), "nothing is remembered of what is gone");
}

#[test]
fn settled_work_does_not_come_again_after_the_end_or_a_reset_of_its_consumer() {
    let mut node = queue();
    let worker = node.begin("w", Begin::Earliest);
    node.work_on(worker, 4, &[1, 2]);
    node.judged(ConsumerOperation::Reset { consumer: worker, begin: Begin::Earliest }).unwrap();
    node.restart();
    assert_eq!(node.open(worker), [0, 3, 4]);
    node.work_on(worker, 4, &[3]);
    node.judged(ConsumerOperation::Delete { consumer: worker }).unwrap();
    assert_eq!((node.first(), node.orphans()), (0, Some(Orphans { from: 0, until: 5 })));
    node.judged(judged_create("next", Begin::Seq(2))).unwrap();
    let next = ConsumerId(worker.0 + 1);
    assert_eq!(node.open(next), [4]);
    node.work_on(next, 5, &[4]);
    assert_eq!(node.first(), 0, "nobody has done the first one");
    node.judged(judged_create("last", Begin::Earliest)).unwrap();
    let last = ConsumerId(next.0 + 1);
    assert_eq!(node.open(last), [0]);
    node.work_on(last, 5, &[0]);
    assert_eq!(node.first(), 5);
}

#[test]
fn a_work_queue_takes_a_filter_only_where_that_is_said_and_the_machine_says_so() {
    let mut node = queue();
    let filtered = ConsumerConfig { filter: Some("a == 1".into()), ..config() };
    let (channel, name) = ("c".parse().unwrap(), "w".parse().unwrap());
    let create = ConsumerOperation::Create { channel, name, config: filtered.clone(), begin: Begin::Earliest };
    assert_eq!(node.judged(create.clone()), Err(Refusal::WorkWouldBeSkipped));
    let said = ConsumerOperation::Judged { operation: Box::new(create.clone()), settle_skipped: true };
    node.operation(3, said).unwrap();
    node.judged(create).unwrap();
    let other = ConsumerConfig { filter: Some("a == 2".into()), ..config() };
    let update = |config| ConsumerOperation::Update { consumer: ID, config };
    assert_eq!(node.judged(update(other)), Err(Refusal::WorkWouldBeSkipped));
    node.judged(update(ConsumerConfig { max_in_flight: 3, ..filtered })).unwrap();
    node.judged(update(config())).unwrap();
}

#[test]
fn a_channel_with_a_filtered_consumer_does_not_become_a_work_queue() {
    let mut node = Node::new();
    node.create("c", window(100));
    let filtered = ConsumerConfig { filter: Some("a == 1".into()), ..config() };
    node.consumer("w", filtered).unwrap();
    let change = |node: &mut Node, work_queue| {
        let retention = Some(Retention { work_queue, ..Retention::default() });
        let update = ChannelUpdate { retention, ..ChannelUpdate::default() };
        match node.apply(Command::ChangeChannel { time_ms: 2, name: "c".parse().unwrap(), update }).0 {
            Reply::Channel(reply) => reply.map(|reply| reply.meta.config.retention.work_queue),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(change(&mut node, false), Ok(false));
    assert_eq!(change(&mut node, true), Err(Refusal::FilteredConsumer("w".parse().unwrap())));
    node.operation(3, ConsumerOperation::Delete { consumer: ID }).unwrap();
    assert_eq!(change(&mut node, true), Ok(true));
}

#[test]
fn what_is_removed_before_a_consumer_has_settled_it_is_counted_and_is_one_gap_until_it_gets_something() {
    let mut node = queue();
    node.judged(judged_create("w", Begin::Earliest)).unwrap();
    let worker = ID;
    let trim = |node: &mut Node, up_to| {
        let trim = Operation::Trim { channel: "c".parse().unwrap(), up_to };
        node.apply(Command::Operations { time_ms: 4, operations: vec![trim] });
        node.restart();
        node.machine.consumers().get(worker).unwrap().lost()
    };
    let lost = |messages, from_seq, to_seq| crate::model::Lost { messages, from_seq, to_seq };
    // One is done, one is in hand, and one has not been read.
    node.work_on(worker, 2, &[0]);
    assert_eq!(trim(&mut node, 3), lost(2, 1, 3));
    assert_eq!(trim(&mut node, 4), lost(3, 1, 4));
    assert_eq!(node.machine.consumer_status(worker).unwrap().lost, 3);
    node.work_on(worker, 5, &[4]);
    node.publish(5, group(QUEUE, 0, &[("m", None); 2])).0.unwrap();
    assert_eq!(trim(&mut node, 6), lost(4, 5, 6));
    // What is settled for good is not lost to who has yet to pass it.
    node.work_on(worker, 7, &[]);
    node.publish(5, group(QUEUE, 0, &[("m", None); 2])).0.unwrap();
    node.work_on(worker, 9, &[7]);
    node.judged(ConsumerOperation::Reset { consumer: worker, begin: Begin::Earliest }).unwrap();
    assert_eq!(trim(&mut node, 8), lost(5, 5, 8));
    node.judged(ConsumerOperation::Delete { consumer: worker }).unwrap();
    assert!(!node.stored.keys().any(|key| key.starts_with(b"lost/")));
}

#[test]
fn what_is_remembered_of_settled_work_has_to_be_there_at_a_restart() {
    let mut node = queue();
    let worker = node.begin("w", Begin::Earliest);
    node.work_on(worker, 5, &[1, 2]);
    node.judged(ConsumerOperation::Reset { consumer: worker, begin: Begin::Earliest }).unwrap();
    let key = Key::Settled(QUEUE).encode();
    for wrong in [vec![(1u64, 9u64)], vec![], vec![(2, 2)], vec![(3, 4), (1, 2)]] {
        let mut stored = node.stored.clone();
        stored.insert(key.clone(), codec::encode_record(&wrong)).unwrap();
        assert!(Machine::restore(stored).is_err(), "{wrong:?}");
    }
}

#[test]
fn operations_of_earlier_versions_do_what_they_did() {
    let mut node = queue();
    let (channel, name) = ("c".parse().unwrap(), "w".parse().unwrap());
    node.operation(1, ConsumerOperation::Create { channel, name, config: config(), begin: Begin::Latest }).unwrap();
    assert_eq!((node.first(), node.orphans()), (5, None));
    let mut node = queue();
    let slow = node.begin("slow", Begin::Earliest);
    node.work_on(slow, 5, &[2, 4]);
    let new = node.begin("new", Begin::Earliest);
    assert_eq!(node.open(new), [0, 1, 2, 3, 4]);
}
