//! Messages that go from the middle of a channel: what a step does, and what it may not do.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::{Clean, Compact, Compaction, Gone, Retention};

const BY: &str = "user";

fn compacted() -> ChannelConfig {
    let retention = Retention { compact_by: Some(BY.into()), ..Retention::default() };
    ChannelConfig { retention, ..ChannelConfig::default() }
}

/// A message of three bytes, tag and length included, takes five.
fn gone(first_seq: u64, count: u64) -> Gone {
    Gone { first_seq, count, bytes: count.saturating_mul(5) }
}

impl Node {
    fn compacting() -> (Self, ChannelId) {
        let mut node = Self::new();
        let id = node.create("c", compacted()).meta.id;
        (node, id)
    }

    fn add(&mut self, id: ChannelId, count: usize) {
        self.publish(1, group(id, 0, &vec![("a", None); count])).0.unwrap();
    }

    fn step(
        &mut self,
        id: ChannelId,
        step: u64,
        gone: &[Gone],
        clean: Option<Clean>,
    ) -> Result<OperationReply, Refusal> {
        let compact = Compact { channel: id, by: BY.into(), step, gone: gone.to_vec(), clean };
        self.operate(2, Operation::Compact(compact)).0
    }

    fn state(&self, id: ChannelId) -> (Compaction, u64) {
        (self.machine.compaction(id).unwrap(), self.machine.stats(id).unwrap().bytes)
    }

    fn seqs(&self) -> Vec<u64> {
        self.streams.values().flatten().flat_map(|batch| batch.first_seq..batch.end_seq()).collect()
    }

    fn comes_back(&mut self, id: ChannelId) {
        let before = self.state(id);
        self.restart();
        assert_eq!(self.state(id), before);
    }
}

#[test]
fn a_step_takes_messages_from_the_middle_and_the_others_keep_their_numbers() {
    let (mut node, id) = Node::compacting();
    node.add(id, 4);
    node.add(id, 4);
    assert_eq!(node.state(id).1, 40);
    node.step(id, 0, &[gone(0, 1), gone(3, 2)], None).unwrap();
    assert_eq!(node.seqs(), [1, 2, 5, 6, 7]);
    assert_eq!(node.state(id), (Compaction { step: 1, clean_to: 0, removed: 3 }, 25));
    node.comes_back(id);
    let clean = Clean { first_seq: 0, to: 8, removed: 4 };
    assert_eq!(node.step(id, 1, &[gone(5, 1)], Some(clean)), Ok(OperationReply::Compacted { step: 2 }));
    assert_eq!(node.state(id), (Compaction { step: 2, clean_to: 8, removed: 4 }, 20));
    node.add(id, 1);
    assert_eq!(node.seqs(), [1, 2, 6, 7, 8]);
    node.comes_back(id);
}

#[test]
fn a_step_is_taken_once_in_its_turn_and_only_as_the_channel_is_configured() {
    let (mut node, id) = Node::compacting();
    node.add(id, 4);
    node.step(id, 0, &[gone(1, 1)], None).unwrap();
    let before = node.stored.clone();
    let stale = Err(Refusal::StaleCompaction { step: 1 });
    for (step, runs) in [
        (0, vec![gone(1, 1)]),
        (2, vec![gone(2, 1)]),
        (1, vec![gone(3, 1)]),
        (1, vec![gone(2, 0)]),
        (1, vec![gone(2, 1), gone(1, 1)]),
        (1, vec![gone(2, u64::MAX)]),
    ] {
        assert_eq!(node.step(id, step, &runs, None), stale, "{step} {runs:?}");
    }
    assert_eq!(node.step(ChannelId(99), 1, &[], None), Err(Refusal::NoSuchChannel));
    node.stored.remove(&Key::Machine.encode());
    assert!(node.stored.iter().all(|(key, value)| before.get(key) == Some(value)), "a refused step changes nothing");

    let retention = Retention { compact_by: Some("other".into()), ..Retention::default() };
    let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
    node.apply(Command::UpdateChannel { time_ms: 3, name: "c".parse().unwrap(), update });
    assert_eq!(node.step(id, 2, &[gone(2, 1)], None), Err(Refusal::StaleCompaction { step: 2 }));
    assert_eq!(node.state(id).0.clean_to, 0, "nothing was looked at by this header");
}

#[test]
fn what_has_gone_with_the_oldest_messages_is_not_counted_as_missing() {
    let (mut node, id) = Node::compacting();
    node.add(id, 100);
    let runs: Vec<Gone> = (0..99).step_by(2).map(|seq| gone(seq, 1)).collect();
    node.step(id, 0, &runs, None).unwrap();
    let trim = |up_to| Operation::Trim { channel: "c".parse().unwrap(), up_to };
    node.operate(2, trim(50)).0.unwrap();
    assert_eq!(node.state(id).0.removed, 25);
    node.comes_back(id);
    // Below the beginning there is nothing to remove.
    node.step(id, 1, &[gone(20, 1), gone(48, 4)], None).unwrap();
    assert!(!node.seqs().contains(&51), "but what reaches beyond it goes");
    assert_eq!(node.state(id).0.removed, 27);
    node.operate(2, trim(100)).0.unwrap();
    assert_eq!(node.state(id), (Compaction { step: 2, clean_to: 0, removed: 0 }, 0));
    node.comes_back(id);
    node.apply(Command::DeleteChannel { time_ms: 4, name: "c".parse().unwrap() });
    assert!(!node.stored.keys().any(|key| matches!(Key::decode(key), Some(Key::Compaction(_) | Key::Mark(..)))));
}

#[test]
fn a_record_that_the_channel_cannot_have_is_refused_by_name() {
    let (mut node, id) = Node::compacting();
    node.add(id, 3);
    node.step(id, 0, &[gone(0, 1)], None).unwrap();
    for wrong in [Compaction { step: 1, clean_to: 4, removed: 0 }, Compaction { step: 1, clean_to: 0, removed: 3 }] {
        let mut stored = node.stored.clone();
        stored.insert(Key::Compaction(id).encode(), codec::encode_record(&wrong));
        let error = Machine::restore(stored).unwrap_err();
        assert!(error.contains("may have lost"), "{error}");
    }
    let mut stored = node.stored.clone();
    stored.insert(Key::Compaction(ChannelId(9)).encode(), codec::encode_record(&Compaction::default()));
    assert!(Machine::restore(stored).unwrap_err().contains("there is no channel 9"));
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    /// Those at these places, of what is there.
    Remove(Vec<bool>),
    Trim(u64),
    Limit(u64),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..40).prop_map(Step::Add),
        3 => vec(any::<bool>(), 1..80).prop_map(Step::Remove),
        1 => (0u64..20).prop_map(Step::Trim),
        1 => (5u64..400).prop_map(Step::Limit),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn whatever_goes_the_store_and_the_counters_agree(steps in vec(any_step(), 1..40)) {
        let (mut node, id) = Node::compacting();
        let (mut left, mut trimmed): (BTreeSet<u64>, bool) = (BTreeSet::new(), false);
        for step in steps {
            let stats = node.machine.stats(id).unwrap();
            match step {
                Step::Add(count) => {
                    node.add(id, count);
                    left.extend(stats.next_seq..stats.next_seq + count as u64);
                }
                Step::Remove(verdicts) => {
                    let there: Vec<u64> = left.iter().copied().filter(|seq| seq + 1 < stats.next_seq).collect();
                    let chosen = there.into_iter().zip(verdicts).filter(|(_, goes)| *goes).map(|(seq, _)| seq);
                    let runs: Vec<Gone> = chosen.map(|seq| gone(seq, 1)).collect();
                    runs.iter().for_each(|run| { left.remove(&run.first_seq); });
                    node.step(id, node.machine.compaction(id).unwrap().step, &runs, None).unwrap();
                }
                Step::Trim(some) => {
                    let up_to = (stats.first_seq + some).min(stats.next_seq);
                    node.operate(2, Operation::Trim { channel: "c".parse().unwrap(), up_to }).0.unwrap();
                    trimmed |= some > 0;
                }
                Step::Limit(max_bytes) => {
                    let retention = Retention { compact_by: Some(BY.into()), max_bytes: Some(max_bytes), ..Retention::default() };
                    let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
                    node.apply(Command::UpdateChannel { time_ms: 1, name: "c".parse().unwrap(), update });
                    trimmed = true;
                }
                Step::Restart => node.comes_back(id),
            }
            let stats = node.machine.stats(id).unwrap();
            left = left.split_off(&stats.first_seq);
            let stored: Vec<u64> = node.seqs().into_iter().filter(|seq| *seq >= stats.first_seq).collect();
            prop_assert_eq!(&stored, &left.iter().copied().collect::<Vec<_>>());
            let (Compaction { removed, .. }, bytes) = node.state(id);
            if !trimmed {
                prop_assert_eq!(stats.next_seq - stats.first_seq - removed, left.len() as u64);
                // A stretch of which everything is gone keeps a byte.
                let exact = 5 * left.len() as u64;
                prop_assert!((exact..=exact + marks::MOST as u64).contains(&bytes), "{} for {}", bytes, exact);
            }
            prop_assert!(removed < (stats.next_seq - stats.first_seq).max(1));
        }
        node.comes_back(id);
    }
}
