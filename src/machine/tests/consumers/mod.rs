//! What consumers promise, one promise at a time.

mod naive;
mod stored;
mod together;
mod work_queues;

use super::*;
use crate::model::{
    Begin, ChannelUpdate, ConsumeOrder, ConsumerConfig, ConsumerOperation, ConsumerReply, ConsumerStatus, Cursor,
    DeliveryToken, Failure, Hand, OrderingKey, Pending, Retention, Settlement, Verdict, WhenFull,
};

const ID: ConsumerId = ConsumerId(1);
const NONE: &[u32] = &[];

fn config() -> ConsumerConfig {
    ConsumerConfig { ack_timeout_ms: 100, ..ConsumerConfig::default() }
}

fn mortal(max_attempts: u32) -> ConsumerConfig {
    ConsumerConfig { max_attempts, dead_letter: Some("dead".parse().unwrap()), ..config() }
}

fn keyed() -> ConsumerConfig {
    ConsumerConfig { order: ConsumeOrder::Key(OrderingKey::MessageKey), ..config() }
}

fn hand(seq: u64, member: u64) -> Hand {
    Hand { seq, member, key: None }
}

fn token(seq: u64, attempt: u32, member: u64) -> DeliveryToken {
    DeliveryToken { seq, attempt, member, of: None }
}

fn nack(delay_ms: u64, reason: &str) -> Verdict {
    Verdict::Nack { delay_ms, reason: reason.into() }
}

impl Node {
    /// With messages in `c`, a dead-letter channel, and one consumer.
    fn consuming(messages: usize, config: ConsumerConfig) -> Self {
        let mut node = Self::new();
        let id = node.create("c", window(100)).meta.id;
        node.create("dead", window(100));
        if messages > 0 {
            node.publish(1, group(id, 0, &vec![("m", None); messages])).0.unwrap();
        }
        node.consumer("w", config).unwrap();
        node
    }

    fn consumer(&mut self, name: &str, config: ConsumerConfig) -> Result<OperationReply, Refusal> {
        let (channel, name) = ("c".parse().unwrap(), name.parse().unwrap());
        self.operation(1, ConsumerOperation::Create { channel, name, config, begin: Begin::Earliest })
    }

    fn operation(&mut self, time_ms: u64, operation: ConsumerOperation) -> Result<OperationReply, Refusal> {
        let operations = vec![Operation::Consumer(operation)];
        match self.apply(Command::Operations { time_ms, operations }).0 {
            Reply::Operations(mut replies) => replies.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn assign(&mut self, time_ms: u64, until: u64, hands: Vec<Hand>) -> Result<OperationReply, Refusal> {
        self.assign_parked(time_ms, until, hands, vec![])
    }

    fn assign_parked(
        &mut self,
        time_ms: u64,
        until: u64,
        hands: Vec<Hand>,
        parked: Vec<(u64, u64)>,
    ) -> Result<OperationReply, Refusal> {
        let next = self.status().cursor.next;
        self.operation(time_ms, ConsumerOperation::Assign { consumer: ID, next, until, hands, parked })
    }

    /// Which of the settlements came too late.
    fn settle(&mut self, time_ms: u64, settlements: &[(DeliveryToken, Verdict)]) -> Vec<u32> {
        let settlement =
            |(token, verdict): &(DeliveryToken, Verdict)| Settlement { token: *token, verdict: verdict.clone() };
        let settlements = settlements.iter().map(settlement).collect();
        match self.operation(time_ms, ConsumerOperation::Settle { consumer: ID, settlements }) {
            Ok(OperationReply::Consumer(ConsumerReply::Settled { stale })) => stale,
            other => panic!("{other:?}"),
        }
    }

    fn status(&self) -> ConsumerStatus {
        let end = self.machine.stats(ChannelId(1)).unwrap().next_seq;
        self.machine.consumers().get(ID).unwrap().status(end)
    }

    fn pending(&self) -> BTreeMap<u64, Pending> {
        self.machine.consumers().get(ID).unwrap().pending().clone()
    }

    /// Sequence number, member and attempts of what is pending.
    fn shown(&self) -> Vec<(u64, Option<u64>, u32)> {
        self.pending().iter().map(|(seq, pending)| (*seq, pending.member, pending.attempts)).collect()
    }
}

#[test]
fn what_is_acknowledged_is_forgotten_and_what_is_not_stays() {
    let mut node = Node::consuming(3, config());
    node.assign(5, 3, vec![hand(0, 7), hand(1, 7), hand(2, 8)]).unwrap();
    assert_eq!(node.settle(6, &[(token(1, 1, 7), Verdict::Ack)]), NONE);
    assert_eq!(node.shown(), [(0, Some(7), 1), (2, Some(8), 1)]);
    let status = node.status();
    assert_eq!((status.floor, status.lag, status.in_flight), (0, 2, 2));
    assert_eq!(node.machine.settled_floor(ChannelId(1)), Some(0));
    assert_eq!(node.settle(6, &[(token(0, 1, 7), Verdict::Ack), (token(2, 1, 8), Verdict::Ack)]), NONE);
    assert_eq!(node.machine.settled_floor(ChannelId(1)), Some(3));
    assert!(!node.stored.keys().any(|key| key.starts_with(b"pending/")), "nothing grows with what was acknowledged");
}

#[test]
fn a_message_comes_back_when_its_ack_timeout_has_passed_in_log_time() {
    let mut node = Node::consuming(1, config());
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    assert_eq!(node.machine.next_expiry_ms(), Some(105));
    node.apply(Command::Tick { time_ms: 104 });
    assert_eq!(node.shown(), [(0, Some(7), 1)]);
    node.apply(Command::Tick { time_ms: 105 });
    assert_eq!(node.shown(), [(0, None, 1)]);
    node.assign(106, 1, vec![hand(0, 8)]).unwrap();
    assert_eq!((node.shown(), node.status().cursor.redelivered), (vec![(0, Some(8), 2)], 1));
}

#[test]
fn messages_that_come_back_together_do_so_in_bounded_steps_once_all_nodes_know_that_rule() {
    const MANY: u64 = 10_000;
    for (version, at_once) in [(3, MANY), (4, 8_192)] {
        let mut node = Node::consuming(MANY as usize, ConsumerConfig { max_in_flight: 10_000, ..config() });
        node.apply(Command::RaiseVersion { time_ms: 1, version: PeerVersion(version) });
        node.assign(5, MANY, (0..MANY).map(|seq| hand(seq, 7)).collect()).unwrap();
        let held = |node: &Node| node.pending().values().filter(|pending| pending.member.is_some()).count() as u64;
        node.apply(Command::Tick { time_ms: 200 });
        assert_eq!(held(&node), MANY - at_once, "version {version}");
        node.restart();
        if held(&node) > 0 {
            assert_eq!(node.machine.next_expiry_ms(), Some(105), "the leader orders the next step");
            let last = token(MANY - 1, 1, 7);
            assert_eq!(
                node.settle(200, &[(last, Verdict::Ack)]),
                NONE,
                "its turn has come, and nobody has got it since"
            );
        }
        assert_eq!(held(&node), 0);
    }
}

#[test]
fn an_ack_of_what_was_handed_out_again_is_stale_and_a_late_one_counts_before_that() {
    let mut node = Node::consuming(2, config());
    node.assign(5, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
    node.apply(Command::Tick { time_ms: 200 });
    assert_eq!(node.settle(201, &[(token(0, 1, 7), Verdict::Ack)]), NONE, "nobody has got it since");
    node.assign(202, 2, vec![hand(1, 8)]).unwrap();
    assert_eq!(node.settle(203, &[(token(1, 1, 7), Verdict::Ack), (token(0, 1, 7), Verdict::Ack)]), [0]);
    assert_eq!(node.settle(203, &[(token(1, 2, 7), Verdict::Ack)]), [0], "another member has it");
    assert_eq!(node.settle(203, &[(token(1, 2, 8), Verdict::Ack), (token(1, 2, 8), Verdict::Ack)]), NONE);
}

#[test]
fn what_was_never_handed_out_cannot_be_settled() {
    let mut node = Node::consuming(2, keyed());
    assert_eq!(node.settle(5, &[(token(0, 1, 7), Verdict::Ack)]), [0]);
    node.assign_parked(5, 2, vec![Hand { seq: 0, member: 7, key: Some(1) }], vec![(1, 1)]).unwrap();
    assert_eq!(node.settle(5, &[(token(1, 0, 7), Verdict::Ack)]), [0], "it waits for the first one");
}

#[test]
fn an_ack_up_to_takes_what_the_same_member_has_before_it() {
    let mut node = Node::consuming(4, config());
    node.assign(5, 4, vec![hand(0, 7), hand(1, 8), hand(2, 7), hand(3, 7)]).unwrap();
    assert_eq!(node.settle(6, &[(token(2, 1, 7), Verdict::AckUpTo)]), NONE);
    assert_eq!(node.shown(), [(1, Some(8), 1), (3, Some(7), 1)]);
}

#[test]
fn a_nack_waits_for_its_delay_and_a_sign_of_life_moves_the_deadline() {
    let mut node = Node::consuming(2, config());
    node.assign(5, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
    assert_eq!(node.settle(50, &[(token(0, 1, 7), nack(500, "busy")), (token(1, 1, 7), Verdict::Extend)]), NONE);
    assert_eq!(node.machine.next_expiry_ms(), Some(150));
    assert_eq!(node.assign(549, 2, vec![hand(0, 8)]), Err(Refusal::StaleAssignment), "not yet");
    node.assign(550, 2, vec![hand(0, 8)]).unwrap();
    assert_eq!(node.pending()[&0].failure, Some(Failure::Nacked("busy".into())));
    assert_eq!(node.settle(551, &[(token(1, 1, 7), Verdict::Extend)]), [0], "it came too late");
}

#[test]
fn what_a_member_has_comes_back_when_it_leaves() {
    let mut node = Node::consuming(2, config());
    node.assign(5, 2, vec![hand(0, 7), hand(1, 8)]).unwrap();
    node.operation(6, ConsumerOperation::Leave { consumer: ID, member: 7 }).unwrap();
    assert_eq!(node.shown(), [(0, None, 1), (1, Some(8), 1)]);
    node.assign(6, 2, vec![hand(0, 8)]).unwrap();
}

#[test]
fn an_assignment_is_refused_when_the_state_is_another_one() {
    let mut node = Node::consuming(3, config());
    let assign =
        |next, until, hands: Vec<Hand>| ConsumerOperation::Assign { consumer: ID, next, until, hands, parked: vec![] };
    node.operation(5, assign(0, 1, vec![hand(0, 7)])).unwrap();
    let before = node.stored.clone();
    for (what, wrong) in [
        ("another start", assign(0, 2, vec![hand(1, 7)])),
        ("beyond the end", assign(1, 4, vec![])),
        ("backwards", assign(1, 0, vec![])),
        ("a message that is held", assign(1, 1, vec![hand(0, 8)])),
        ("a message beyond what is new", assign(1, 2, vec![hand(2, 8)])),
        ("a message twice", assign(1, 2, vec![hand(1, 8), hand(1, 7)])),
    ] {
        assert_eq!(node.operation(5, wrong), Err(Refusal::StaleAssignment), "{what}");
    }
    node.stored.insert(Key::Machine.encode(), before[&Key::Machine.encode()].clone());
    assert_eq!(node.stored, before, "a refused one changes nothing");
    assert_eq!(node.operation(5, assign(1, 3, vec![hand(2, 7)])), Ok(OperationReply::Consumer(ConsumerReply::Done)));
    assert_eq!(node.shown(), [(0, Some(7), 1), (2, Some(7), 1)], "message 1 was not for this consumer");
}

#[test]
fn members_have_no_more_than_may_be_in_flight_and_what_waits_takes_no_place_of_theirs() {
    let mut node = Node::consuming(3, ConsumerConfig { max_in_flight: 2, ..config() });
    assert_eq!(node.assign(5, 3, vec![hand(0, 7), hand(1, 7), hand(2, 7)]), Err(Refusal::StaleAssignment));
    node.assign(5, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
    assert_eq!(node.assign(5, 3, vec![hand(2, 8)]), Err(Refusal::StaleAssignment));
    node.settle(6, &[(token(0, 1, 7), nack(1_000, ""))]);
    node.assign(6, 3, vec![hand(2, 8)]).unwrap();
    assert_eq!(node.shown(), [(0, None, 1), (1, Some(7), 1), (2, Some(8), 1)]);
}

#[test]
fn no_more_messages_wait_than_the_node_allows() {
    let mut node = Node::with(Limits { consumer_pending: 2, ..Limits::default() });
    let id = node.create("c", window(100)).meta.id;
    node.publish(1, group(id, 0, &[("m", None); 4])).0.unwrap();
    node.consumer("w", ConsumerConfig { max_in_flight: 2, ..keyed() }).unwrap();
    let hand = |seq, member, key| Hand { seq, member, key: Some(key) };
    node.assign_parked(5, 2, vec![hand(0, 7, 1)], vec![(1, 1)]).unwrap();
    assert_eq!(node.assign_parked(5, 3, vec![], vec![(2, 1)]), Err(Refusal::StaleAssignment));
    assert_eq!(node.assign(5, 3, vec![hand(2, 8, 2)]), Err(Refusal::StaleAssignment));
}

#[test]
fn messages_that_are_passed_over_take_no_place_of_others_and_stay_until_they_are_settled() {
    let mut node = Node::with(Limits { consumer_pending: 2, ..Limits::default() });
    let id = node.create("c", window(100)).meta.id;
    node.publish(1, group(id, 0, &[("m", None); 70])).0.unwrap();
    node.consumer("w", ConsumerConfig { max_in_flight: 2, ..keyed() }).unwrap();
    let hand = |seq, member, key| Hand { seq, member, key: Some(key) };
    let past = |next, until, hands, deferred| ConsumerOperation::AssignPast {
        consumer: ID,
        next,
        until,
        hands,
        parked: vec![],
        deferred,
    };
    node.operation(5, past(0, 70, vec![hand(0, 7, 1), hand(69, 8, 2)], vec![(0, 0b110), (1, 1)])).unwrap();
    assert_eq!((node.status().waiting, node.status().lag, node.status().floor), (3, 5, 0));
    assert_eq!(node.settle(6, &[(token(0, 1, 7), Verdict::Ack), (token(1, 1, 7), Verdict::Ack)]), [1]);
    assert_eq!(node.status().floor, 1, "nobody has had it");
    assert_eq!(node.assign(7, 70, vec![hand(3, 7, 1)]), Err(Refusal::StaleAssignment), "that one is settled");
    for wrong in [vec![(0, 1)], vec![(2, 1)], vec![(u64::MAX, 1)]] {
        assert_eq!(node.operation(7, past(70, 70, vec![], wrong)), Err(Refusal::StaleAssignment), "they are not new");
    }
    node.assign(7, 70, vec![hand(1, 7, 1)]).unwrap();
    assert_eq!((node.status().waiting, node.shown()), (2, vec![(1, Some(7), 1), (69, Some(8), 1)]));

    // As it is stored, so it comes back.
    assert_eq!(node.stored.get(&Key::Deferred(ID, 0).encode()), Some(&codec::encode_record(&0b100u64)));
    let again = Machine::restore(node.stored.clone()).unwrap();
    assert_eq!(again.consumers().get(ID).unwrap().deferred().within(0..70), [2, 64]);
    let mut wrong = node.stored.clone();
    wrong.insert(Key::Deferred(ID, 1).encode(), codec::encode_record(&u64::MAX));
    assert!(Machine::restore(wrong).is_err(), "beyond the consumer's `next`");

    node.operation(8, ConsumerOperation::Delete { consumer: ID }).unwrap();
    assert!(!node.stored.keys().any(|key| key.starts_with(b"deferred/")));
}

#[test]
fn what_nobody_began_to_work_on_comes_back_as_if_it_had_not_been_handed_out() {
    let mut node = Node::consuming(2, mortal(1));
    node.assign(5, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
    assert_eq!(node.settle(6, &[(token(1, 1, 7), Verdict::Return)]), NONE);
    node.operation(6, ConsumerOperation::Leave { consumer: ID, member: 7 }).unwrap();
    assert_eq!(node.shown(), [(0, None, 1), (1, None, 0)]);
    assert_eq!(node.machine.consumers().dying().collect::<Vec<_>>(), [(ID, 0)], "only what was begun is dead");
    assert_eq!(node.settle(6, &[(token(1, 1, 7), Verdict::Ack)]), [0], "nobody can have worked on it");
    node.assign(7, 2, vec![hand(1, 8)]).unwrap();
    assert_eq!(node.shown()[1], (1, Some(8), 1));
    assert_eq!(node.status().cursor.redelivered, 0);
}

#[test]
fn messages_of_one_key_are_with_one_member_at_a_time_and_in_order() {
    let mut node = Node::consuming(4, keyed());
    let hand = |seq, member, key| Hand { seq, member, key: Some(key) };
    assert_eq!(node.assign(5, 2, vec![hand(0, 7, 1), hand(1, 8, 1)]), Err(Refusal::StaleAssignment));
    node.assign_parked(5, 3, vec![hand(0, 7, 1), hand(1, 8, 2)], vec![(2, 1)]).unwrap();
    assert_eq!(node.assign(5, 3, vec![hand(2, 8, 1)]), Err(Refusal::StaleAssignment), "7 has the first one");
    node.assign(5, 3, vec![hand(2, 7, 1)]).unwrap();
    node.settle(6, &[(token(0, 1, 7), nack(0, ""))]);
    assert_eq!(node.assign(6, 4, vec![hand(3, 7, 1)]), Err(Refusal::StaleAssignment), "the first one comes first");
    assert_eq!(node.assign(6, 3, vec![hand(0, 8, 1)]), Err(Refusal::StaleAssignment), "7 has a later one");
    node.assign(6, 3, vec![hand(0, 7, 1)]).unwrap();
}

#[test]
fn an_exclusive_consumer_has_one_member_at_a_time() {
    let mut node = Node::consuming(3, ConsumerConfig { order: ConsumeOrder::Exclusive, ..config() });
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    assert_eq!(node.assign(5, 2, vec![hand(1, 8)]), Err(Refusal::StaleAssignment));
    node.assign(5, 2, vec![hand(1, 7)]).unwrap();
    node.settle(6, &[(token(0, 1, 7), nack(0, ""))]);
    assert_eq!(node.assign(6, 2, vec![hand(0, 8)]), Err(Refusal::StaleAssignment), "7 has the second one");
    node.settle(6, &[(token(0, 1, 7), Verdict::Ack), (token(1, 1, 7), Verdict::Ack)]);
    node.assign(6, 3, vec![hand(2, 8)]).unwrap();
}

#[test]
fn a_dead_message_is_appended_and_settled_in_one_step_and_only_once() {
    let mut node = Node::consuming(1, mortal(2));
    let dead = node.machine.names.get("dead").copied().unwrap();
    let bury =
        || ConsumerOperation::DeadLetter { consumer: ID, seq: 0, letter: Some(group(dead, 0, &[("letter", None)])) };
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    node.settle(6, &[(token(0, 1, 7), nack(0, ""))]);
    assert_eq!(node.operation(6, bury()), Err(Refusal::NotDead), "it has an attempt left");
    node.assign(7, 1, vec![hand(0, 7)]).unwrap();
    node.apply(Command::Tick { time_ms: 200 });
    assert_eq!(node.assign(201, 1, vec![hand(0, 8)]), Err(Refusal::StaleAssignment));
    assert_eq!(node.machine.consumers().dying().collect::<Vec<_>>(), [(ID, 0)]);
    let stale = ConsumerOperation::DeadLetter { consumer: ID, seq: 0, letter: Some(group(dead, 9, &[("l", None)])) };
    assert_eq!(node.operation(201, stale), Err(Refusal::StaleSchema { current: 0 }));
    node.operation(201, bury()).unwrap();
    assert_eq!(node.operation(201, bury()), Err(Refusal::NotDead));
    assert_eq!((node.machine.stats(dead).unwrap().next_seq, node.status().cursor.dead), (1, 1));
    assert_eq!(node.machine.consumers().dying().count(), 0);
}

#[test]
fn a_dead_message_that_is_acknowledged_at_the_last_moment_is_not_buried() {
    let mut node = Node::consuming(1, mortal(1));
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    node.apply(Command::Tick { time_ms: 200 });
    assert_eq!(node.settle(201, &[(token(0, 1, 7), Verdict::Ack)]), NONE);
    let bury = ConsumerOperation::DeadLetter { consumer: ID, seq: 0, letter: None };
    assert_eq!(node.operation(202, bury), Err(Refusal::NotDead));
}

#[test]
fn without_a_dead_letter_channel_the_dead_are_dropped_and_counted() {
    let mut node = Node::consuming(1, ConsumerConfig { dead_letter: None, ..mortal(1) });
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    node.apply(Command::Tick { time_ms: 200 });
    assert_eq!((node.shown(), node.status().cursor.dead), (vec![], 1));
}

#[test]
fn a_reset_forgets_what_is_pending_and_stays_within_the_channel() {
    let mut node = Node::consuming(3, config());
    node.assign(5, 3, vec![hand(0, 7), hand(2, 7)]).unwrap();
    node.operation(6, ConsumerOperation::Reset { consumer: ID, begin: Begin::Seq(1) }).unwrap();
    assert_eq!((node.shown(), node.status().cursor.next, node.machine.next_expiry_ms()), (vec![], 1, None));
    node.operation(6, ConsumerOperation::Reset { consumer: ID, begin: Begin::Seq(99) }).unwrap();
    assert_eq!(node.status().cursor.next, 3);
}

#[test]
fn messages_that_are_gone_from_the_channel_are_gone_for_its_consumers() {
    let mut node = Node::consuming(4, config());
    node.consumer("idle", config()).unwrap();
    node.assign(5, 3, vec![hand(0, 7), hand(2, 7)]).unwrap();
    node.machine.trimmed(ChannelId(1), 2, true);
    node.apply(Command::Tick { time_ms: 6 });
    assert_eq!(node.shown(), [(2, Some(7), 1)]);
    assert_eq!(node.machine.settled_floor(ChannelId(1)), Some(2));
    assert_eq!(node.machine.consumers().named(ChannelId(1), "idle").unwrap().cursor().next, 2);
    node.restart();
    assert_eq!(node.shown(), [(2, Some(7), 1)]);
}

#[test]
fn a_consumer_is_created_once_and_goes_with_its_channel() {
    let mut node = Node::consuming(1, config());
    assert!(node.consumer("w", config()).is_ok(), "the same again");
    assert_eq!(node.consumer("w", mortal(3)), Err(Refusal::ConsumerExists));
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    node.apply(Command::DeleteChannel { time_ms: 6, name: "c".parse().unwrap() });
    assert!(node.machine.consumers().is_empty() && node.machine.next_expiry_ms().is_none());
    let left = node
        .stored
        .keys()
        .filter(|key| [&b"consumer/"[..], b"cursor/", b"pending/"].iter().any(|p| key.starts_with(p)));
    assert_eq!(left.count(), 0);
}

#[test]
fn what_cannot_work_is_refused() {
    let mut node = Node::consuming(0, config());
    node.create("ticks", ChannelConfig { durability: Durability::Ephemeral, ..window(1) });
    let create = |channel: &str, config| ConsumerOperation::Create {
        channel: channel.parse().unwrap(),
        name: "x".parse().unwrap(),
        config,
        begin: Begin::Latest,
    };
    let letters = |name: &str| ConsumerConfig { dead_letter: Some(name.parse().unwrap()), ..config() };
    assert_eq!(node.operation(5, create("ticks", config())), Err(Refusal::NotStored));
    for own in ["c", "ticks"] {
        assert_eq!(
            node.operation(5, create("c", letters(own))),
            Err(Refusal::NoDeadLetterChannel(own.parse().unwrap()))
        );
    }
    assert_eq!(node.operation(5, create("c", letters("no"))), Err(Refusal::NoChannelNamed("no".parse().unwrap())));
    let huge = ConsumerConfig { max_in_flight: u32::MAX, ..config() };
    assert_eq!(node.operation(5, create("c", huge)), Err(Refusal::TooMuchInFlight { limit: 10_000 }));
}

#[test]
fn there_is_a_limit_of_consumers_of_a_channel_and_in_all() {
    let mut node = Node::with(Limits { consumers: 3, consumers_per_channel: 2, ..Limits::default() });
    node.create("c", window(1));
    node.create("d", window(1));
    let mut create = |channel: &str, name: &str| {
        let (channel, name) = (channel.parse().unwrap(), name.parse().unwrap());
        let create = ConsumerOperation::Create { channel, name, config: config(), begin: Begin::Earliest };
        node.operation(1, create).map(drop)
    };
    assert_eq!([create("c", "a"), create("c", "b"), create("d", "a")], [Ok(()), Ok(()), Ok(())]);
    assert_eq!(create("d", "b"), Err(Refusal::TooManyConsumers { limit: 3 }));
    let mut node = Node::with(Limits { consumers_per_channel: 1, ..Limits::default() });
    node.create("c", window(1));
    node.consumer("a", config()).unwrap();
    assert_eq!(node.consumer("b", config()), Err(Refusal::TooManyConsumers { limit: 1 }));
}

#[test]
fn an_update_counts_for_what_is_pending_too() {
    let mut node = Node::consuming(1, mortal(3));
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    node.settle(6, &[(token(0, 1, 7), nack(0, ""))]);
    node.operation(7, ConsumerOperation::Update { consumer: ID, config: mortal(1) }).unwrap();
    assert_eq!(node.machine.consumers().dying().collect::<Vec<_>>(), [(ID, 0)]);
    node.operation(7, ConsumerOperation::Update { consumer: ID, config: mortal(9) }).unwrap();
    assert_eq!(node.machine.consumers().dying().count(), 0);
    node.assign(8, 1, vec![hand(0, 7)]).unwrap();
}

#[test]
fn a_new_limit_of_attempts_counts_from_the_next_attempt_on() {
    let mut node = Node::consuming(2, mortal(0));
    for time in 5..10 {
        node.assign(time, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
        let attempt = node.shown()[0].2;
        node.settle(time, &[(token(0, attempt, 7), nack(0, "")), (token(1, attempt, 7), nack(0, ""))]);
    }
    let update = keeping(ConsumerOperation::Update { consumer: ID, config: mortal(3) });
    node.operation(10, update).unwrap();
    assert_eq!((node.machine.consumers().dying().count(), node.shown().len()), (0, 2));
    node.assign(11, 2, vec![hand(0, 7)]).unwrap();
    node.settle(12, &[(token(0, 3, 7), nack(0, ""))]);
    assert_eq!(node.machine.consumers().dying().collect::<Vec<_>>(), [(ID, 0)]);
}

#[test]
fn a_letter_that_its_channel_refuses_settles_nothing() {
    let full = Retention { max_messages: Some(1), when_full: WhenFull::RefuseNew, ..Retention::default() };
    let small = Retention { max_bytes: Some(1), when_full: WhenFull::RefuseNew, ..Retention::default() };
    for (why, retention) in [("full", full), ("too small", small)] {
        let mut node = Node::consuming(2, mortal(1));
        let dead = node.machine.names.get("dead").copied().unwrap();
        let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
        node.apply(Command::UpdateChannel { time_ms: 1, name: "dead".parse().unwrap(), update });
        node.assign(5, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
        node.operation(6, ConsumerOperation::Leave { consumer: ID, member: 7 }).unwrap();
        let bury = |seq| {
            let letter = Some(group(dead, 0, &[("letter", None)]));
            keeping(ConsumerOperation::DeadLetter { consumer: ID, seq, letter })
        };
        let buried = [0, 1].map(|seq| node.operation(7, bury(seq)).is_ok());
        let letters = node.machine.stats(dead).unwrap().next_seq;
        assert_eq!(buried.iter().filter(|buried| **buried).count() as u64, letters, "{why}");
        assert!(letters < 2, "{why}");
        let status = node.status();
        assert_eq!((status.dying, status.cursor.dead, status.floor), (2 - letters, letters, letters), "{why}");
    }
    // Made again as an ephemeral one since.
    let mut node = Node::consuming(1, mortal(1));
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    node.operation(6, ConsumerOperation::Leave { consumer: ID, member: 7 }).unwrap();
    node.apply(Command::DeleteChannel { time_ms: 6, name: "dead".parse().unwrap() });
    let dead = node.create("dead", ChannelConfig { durability: Durability::Ephemeral, ..window(1) }).meta.id;
    let letter = Some(group(dead, 0, &[("letter", None)]));
    let bury = keeping(ConsumerOperation::DeadLetter { consumer: ID, seq: 0, letter });
    assert_eq!(node.operation(7, bury), Err(Refusal::NoDeadLetterChannel("dead".parse().unwrap())));
    assert_eq!(node.status().dying, 1);
}

#[test]
fn dead_letters_that_would_go_round_are_refused() {
    let mut node = Node::consuming(0, mortal(1));
    let create = |channel: &str, letters: &str| {
        let config = ConsumerConfig { dead_letter: Some(letters.parse().unwrap()), ..config() };
        let (channel, name) = (channel.parse().unwrap(), "x".parse().unwrap());
        keeping(ConsumerOperation::Create { channel, name, config, begin: Begin::Earliest })
    };
    node.create("far", window(1));
    node.operation(5, create("dead", "far")).unwrap();
    assert_eq!(node.operation(5, create("far", "c")), Err(Refusal::DeadLetterCycle("c".parse().unwrap())));
    node.create("end", window(1));
    node.operation(5, create("far", "end")).unwrap();
}

fn keeping(operation: ConsumerOperation) -> ConsumerOperation {
    ConsumerOperation::Keeping(Box::new(operation))
}

#[test]
fn a_consumer_that_loses_very_much_that_it_had_passed_over_loses_it_by_one_range() {
    const BLOCKS: u64 = 2_000;
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    for _ in 0..BLOCKS / 50 {
        node.publish(1, group(id, 0, &vec![("m", None); 50 * 64])).0.unwrap();
    }
    let stored = |node: &Node| node.stored.keys().filter(|key| key.starts_with(b"deferred/")).count() as u64;
    for name in ["w", "other"] {
        node.consumer(name, keyed()).unwrap();
    }
    for consumer in [ID, ConsumerId(2)] {
        let (hands, deferred) = (vec![], (0..BLOCKS).map(|block| (block, u64::MAX)).collect());
        let until = BLOCKS * 64;
        let past = ConsumerOperation::AssignPast { consumer, next: 0, until, hands, parked: vec![], deferred };
        node.operation(5, past).unwrap();
    }
    assert_eq!(stored(&node), 2 * BLOCKS);
    let trim = Operation::Trim { channel: "c".parse().unwrap(), up_to: 1_000 * 64 + 3 };
    let (_, effects) = node.operate(6, trim);
    assert!(effects.writes.cuts.len() == 2 && effects.writes.puts.len() < 20, "{:?}", effects.writes);
    node.restart();
    assert_eq!((stored(&node), node.status().waiting), (2 * (BLOCKS - 1_000), (BLOCKS - 1_000) * 64 - 3));
    let effects = node.apply(Command::DeleteChannel { time_ms: 7, name: "c".parse().unwrap() }).1;
    assert!(effects.writes.cuts.len() == 2 && effects.writes.puts.len() < 40, "{:?}", effects.writes);
    assert_eq!(stored(&node), 0);
    node.restart();
}

#[test]
fn acks_of_one_log_entry_are_written_once() {
    let mut node = Node::consuming(64, config());
    node.assign(5, 64, (0..64).map(|seq| hand(seq, 7)).collect()).unwrap();
    let settle = |seq| {
        let settlements = vec![Settlement { token: token(seq, 1, 7), verdict: Verdict::Ack }];
        Operation::Consumer(ConsumerOperation::Settle { consumer: ID, settlements })
    };
    let (_, effects) = node.apply(Command::Operations { time_ms: 5, operations: (0..60).map(settle).collect() });
    assert_eq!(effects.writes.puts.len(), 2, "the block and the cursor: {:?}", effects.writes.puts);
    assert_eq!(effects.consumers, [ID]);
}

#[test]
fn twenty_thousand_idle_consumers_are_two_small_records_each_and_nothing_looks_at_them() {
    let mut node = Node::consuming(1, config());
    for number in 0..20_000 {
        node.consumer(&format!("c{number}"), config()).unwrap();
    }
    let bytes: usize = node.stored.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes < 20_000 * 256, "{bytes}");
    let (_, effects) = node.publish(2, group(ChannelId(1), 0, &[("m", None)]));
    assert!(effects.consumers.is_empty() && effects.writes.puts.len() <= 2, "one stored copy and no cursor is touched");
    // The idempotency keys' window aside, nothing of theirs is ever due.
    assert_eq!(node.machine.consumers().next_due_ms(), None);
}

#[test]
fn an_ack_can_be_checked_before_it_is_done() {
    let mut node = Node::consuming(1, config());
    node.assign(5, 1, vec![hand(0, 7)]).unwrap();
    assert_eq!(node.machine.check_ack(ID, token(0, 1, 7)), Ok(Held::Yes));
    assert_eq!(node.machine.check_ack(ID, token(0, 1, 8)), Err(Refusal::StaleDelivery { seq: 0 }));
    assert_eq!(node.machine.ack(ID, token(0, 1, 7)), Ok(Held::Yes));
    assert_eq!(node.machine.ack(ID, token(0, 1, 7)), Ok(Held::Settled));
    assert_eq!(node.machine.check_ack(ConsumerId(9), token(0, 1, 7)), Err(Refusal::NoSuchConsumer));
}

type Change<'a> = dyn Fn(&mut BTreeMap<Bytes, Bytes>) + 'a;

#[test]
fn what_does_not_fit_is_refused_at_the_start() {
    let restored = |change: &Change<'_>| {
        let mut node = Node::consuming(2, mortal(3));
        node.assign(5, 2, vec![hand(0, 7), hand(1, 7)]).unwrap();
        change(&mut node.stored);
        Machine::restore(node.stored).map(drop)
    };
    restored(&|_| {}).unwrap();
    let block = Key::Pending(ID, 0).encode();
    for (what, change) in [
        (
            "a missing cursor",
            &(|stored: &mut BTreeMap<Bytes, Bytes>| drop(stored.remove(&Key::Cursor(ID).encode()))) as &Change<'_>,
        ),
        ("a missing consumer", &|stored| drop(stored.remove(&Key::Consumer(ID).encode()))),
        ("a missing counter", &|stored| drop(stored.remove(&Key::Consumers.encode()))),
        ("a cursor beyond the end", &|stored| {
            let cursor = Cursor { next: 3, ..Cursor::default() };
            stored.insert(Key::Cursor(ID).encode(), codec::encode_record(&cursor));
        }),
        ("a cursor before what is pending", &|stored| {
            stored.insert(Key::Cursor(ID).encode(), codec::encode_record(&Cursor::default()));
        }),
        ("a block under another number", &|stored| {
            let value = stored.remove(&block).unwrap();
            stored.insert(Key::Pending(ID, 1).encode(), value);
        }),
        ("a block that is none", &|stored| {
            stored.insert(block.clone(), Bytes::from_static(b"?"));
        }),
    ] {
        assert!(restored(change).is_err(), "{what}");
    }
}
