//! A work queue loses nothing that nobody has settled, wherever its consumers begin, go and end.

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

#[test]
fn operations_of_earlier_versions_do_what_they_did() {
    let mut node = queue();
    let (channel, name) = ("c".parse().unwrap(), "w".parse().unwrap());
    node.operation(1, ConsumerOperation::Create { channel, name, config: config(), begin: Begin::Latest }).unwrap();
    assert_eq!((node.first(), node.orphans()), (5, None));
}
