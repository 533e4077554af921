//! What is settled behind an unsettled message gives its space back, and nothing else does.

use proptest::prelude::*;

use super::*;
use crate::model::{Gone, Reclaim};

/// A message of a test takes so many bytes.
const BYTES: u64 = 5;

fn gone(first_seq: u64, count: u64) -> Gone {
    Gone { first_seq, count, bytes: BYTES.saturating_mul(count) }
}

impl Node {
    fn reclaim(&mut self, step: u64, gone: &[Gone]) -> Result<OperationReply, Refusal> {
        self.operate(4, Operation::Reclaim(Reclaim { channel: QUEUE, step, gone: gone.to_vec() })).0
    }

    /// As the leader does it: everything that may go.
    fn reclaim_all(&mut self) {
        let step = self.machine.compaction(QUEUE).unwrap().step;
        let runs = self.machine.reclaimable(QUEUE);
        let runs: Vec<Gone> = runs.into_iter().map(|run| gone(run.start, run.end - run.start)).collect();
        self.reclaim(step, &runs).unwrap();
    }

    /// What the leader may take out, each run as its first message and the one after it.
    fn may_go(&self) -> Vec<(u64, u64)> {
        self.machine.reclaimable(QUEUE).into_iter().map(|run| (run.start, run.end)).collect()
    }

    fn left_in_store(&self) -> Vec<u64> {
        self.streams.values().flatten().flat_map(|batch| batch.first_seq..batch.end_seq()).collect()
    }

    fn lag_of(&self, consumer: ConsumerId) -> u64 {
        self.machine.consumer_status(consumer).unwrap().lag
    }

    /// Messages that the channel says it has.
    fn counted(&self) -> u64 {
        let (stats, removed) = (self.machine.stats(QUEUE).unwrap(), self.machine.compaction(QUEUE).unwrap().removed);
        stats.next_seq - stats.first_seq - removed
    }

    fn restarts_alike(&mut self) {
        let shown = |node: &Self| {
            let channel = &node.machine.channels[&QUEUE];
            (channel.stats, channel.compaction, channel.reclaimed.clone(), node.machine.reclaimable(QUEUE))
        };
        let before = shown(self);
        self.restart();
        assert_eq!(shown(self), before);
    }
}

#[test]
fn settled_work_behind_an_old_job_goes_and_all_else_stays_where_it_was() {
    let mut node = queue();
    let worker = node.begin("w", Begin::Earliest);
    node.work_on(worker, 4, &[1, 2]);
    assert_eq!(node.may_go(), [(1, 3)]);
    assert_eq!(node.reclaim(0, &[gone(1, 1)]), Ok(OperationReply::Compacted { step: 1 }));
    assert_eq!(node.may_go(), [(2, 3)]);
    assert_eq!(node.reclaim(1, &[gone(2, 1)]), Ok(OperationReply::Compacted { step: 2 }));
    assert_eq!(
        (node.left_in_store(), node.counted(), node.machine.stats(QUEUE).unwrap().bytes),
        (vec![0, 3, 4], 3, 3 * BYTES)
    );
    assert_eq!((node.lag_of(worker), node.open(worker)), (3, vec![0, 3, 4]));
    node.restarts_alike();
    // The old job is done: the beginning passes what went before.
    node.settle(5, &[(token(0, 1, 7), Verdict::Ack)]);
    assert_eq!((node.first(), node.counted()), (3, 2));
    assert!(!node.stored.contains_key(&Key::Reclaimed(QUEUE).encode()));
    node.restarts_alike();
}

#[test]
fn a_step_is_refused_for_what_somebody_has_yet_to_settle_and_for_what_is_gone_already() {
    let mut node = queue();
    let worker = node.begin("w", Begin::Earliest);
    node.work_on(worker, 5, &[1, 2, 4]);
    node.reclaim(0, &[gone(1, 1)]).unwrap();
    let before = node.stored.clone();
    for (step, runs) in [
        (0, vec![gone(2, 1)]),
        (1, vec![gone(0, 1)]),
        (1, vec![gone(1, 1)]),
        (1, vec![gone(1, 2)]),
        (1, vec![gone(2, 2)]),
        (1, vec![gone(4, 1)]),
        (1, vec![gone(2, 0)]),
        (1, vec![gone(2, u64::MAX)]),
    ] {
        assert_eq!(node.reclaim(step, &runs), Err(Refusal::StaleCompaction { step: 1 }), "{step} {runs:?}");
    }
    node.stored.remove(&Key::Machine.encode());
    assert!(node.stored.iter().all(|(key, value)| before.get(key) == Some(value)), "a refused step changes nothing");
    // A second consumer that begins at the beginning gets what the first has yet to settle, and nothing again.
    let second = ConsumerId(worker.0 + 1);
    node.judged(judged_create("second", Begin::Earliest)).unwrap();
    assert_eq!((node.open(second), node.lag_of(second)), (vec![0, 3], 2));
    assert_eq!(node.may_go(), [(2, 3)]);
}

#[test]
fn a_channel_that_is_no_work_queue_gives_nothing_back() {
    let mut node = Node::consuming(4, config());
    node.assign(2, 3, vec![hand(0, 7)]).unwrap();
    assert!(node.machine.reclaimable(QUEUE).is_empty());
    assert_eq!(node.reclaim(0, &[gone(1, 1)]), Err(Refusal::StaleCompaction { step: 0 }));
}

#[test]
fn what_nobody_answers_for_is_not_given_back() {
    let mut node = queue();
    let late = node.begin("late", Begin::Seq(3));
    node.work(late, 4);
    assert_eq!(node.may_go(), [(3, 4)]);
    node.reclaim_all();
    assert_eq!(node.left_in_store(), [0, 1, 2, 4]);
    let early = node.begin("early", Begin::Earliest);
    assert_eq!(node.lag_of(early), 4);
}

#[test]
fn a_record_of_what_was_not_there_is_refused_at_a_restart() {
    let mut node = queue();
    let worker = node.begin("w", Begin::Earliest);
    node.work_on(worker, 5, &[1, 2]);
    node.reclaim_all();
    let key = Key::Reclaimed(QUEUE).encode();
    for wrong in [vec![(1_u64, 5_u64)], vec![(1, 4)], vec![(2, 2)], vec![(2, 3), (1, 2)]] {
        let mut stored = node.stored.clone();
        stored.insert(key.clone(), codec::encode_record(&wrong));
        assert!(Machine::restore(stored).is_err(), "{wrong:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Work { until: u64, done: Vec<bool> },
    Settle(Vec<bool>),
    Reclaim,
    Trim(u64),
    Begin,
}

fn step() -> impl Strategy<Value = Step> {
    let verdicts = || prop::collection::vec(any::<bool>(), 0..12);
    prop_oneof![
        3 => (1_usize..8).prop_map(Step::Publish),
        3 => (0_u64..8, verdicts()).prop_map(|(until, done)| Step::Work { until, done }),
        2 => verdicts().prop_map(Step::Settle),
        3 => Just(Step::Reclaim),
        1 => (0_u64..4).prop_map(Step::Trim),
        1 => Just(Step::Begin),
    ]
}

proptest! {
    /// Against the list of what is settled: what is left in the store is what somebody has yet to settle, and the newest.
    #[test]
    fn whatever_is_settled_and_given_back_the_counters_are_exact(steps in prop::collection::vec(step(), 1..40)) {
        let mut node = queue();
        let worker = node.begin("w", Begin::Earliest);
        for step in steps {
            let stats = node.machine.stats(QUEUE).unwrap();
            match step {
                Step::Publish(count) => {
                    node.publish(3, group(QUEUE, 0, &vec![("m", None); count])).0.unwrap();
                }
                Step::Work { until, done } => {
                    let next = node.machine.consumers().get(worker).unwrap().cursor().next;
                    let until = (next + until).min(stats.next_seq);
                    let open: Vec<u64> = node.open(worker).into_iter().filter(|seq| (next..until).contains(seq)).collect();
                    let done = open.into_iter().zip(done).filter(|(_, done)| *done).map(|(seq, _)| seq);
                    let done: Vec<u64> = done.collect();
                    if next < until {
                        node.work_on(worker, until, &done);
                    }
                }
                Step::Settle(done) => {
                    let pending = node.machine.consumers().get(worker).unwrap().pending().clone();
                    let done = pending.into_iter().zip(done).filter(|(_, done)| *done);
                    let acks: Vec<_> = done.map(|((seq, pending), _)| (token(seq, pending.attempts, 7), Verdict::Ack)).collect();
                    node.settle(3, &acks);
                }
                Step::Reclaim => node.reclaim_all(),
                Step::Trim(some) => {
                    let up_to = stats.first_seq + some;
                    node.operate(3, Operation::Trim { channel: "c".parse().unwrap(), up_to }).0.unwrap();
                }
                // All that is open comes again, and nothing else.
                Step::Begin => {
                    let open = node.open(worker);
                    node.judged(ConsumerOperation::Reset { consumer: worker, begin: Begin::Earliest }).unwrap();
                    prop_assert_eq!(node.open(worker), open);
                }
            }
            node.restarts_alike();
            let stats = node.machine.stats(QUEUE).unwrap();
            let left: Vec<u64> = node.left_in_store().into_iter().filter(|seq| *seq >= stats.first_seq).collect();
            let open = node.open(worker);
            prop_assert!(open.iter().all(|seq| left.contains(seq)), "{:?} of {:?}", open, left);
            prop_assert_eq!(node.counted(), left.len() as u64);
            prop_assert_eq!(node.lag_of(worker), open.len() as u64);
        }
        node.reclaim_all();
        let stats = node.machine.stats(QUEUE).unwrap();
        let open = node.open(worker);
        let stays = |seq: &u64| *seq >= stats.first_seq && seq + 1 < stats.next_seq;
        let left: Vec<u64> = node.left_in_store().into_iter().filter(stays).collect();
        prop_assert_eq!(left, open.into_iter().filter(stays).collect::<Vec<_>>());
    }
}
