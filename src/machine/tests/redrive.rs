//! Letters that go from one channel to another: what a step does, and what it may not do.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::{ChannelUpdate, Compaction, Gone, Redrive, Retention, WhenFull};

/// A message of one byte takes five, tag and length included.
fn gone(first_seq: u64, count: u64) -> Gone {
    Gone { first_seq, count, bytes: count * 5 }
}

struct Scene {
    node: Node,
    letters: ChannelId,
    target: ChannelId,
}

impl Scene {
    fn new(letters: usize, target: ChannelConfig) -> Self {
        let mut node = Node::new();
        let dead = node.create("dead", window(100)).meta.id;
        let target = node.create("c", target).meta.id;
        node.publish(1, group(dead, 0, &vec![("a", None); letters])).0.unwrap();
        Self { node, letters: dead, target }
    }

    fn redrive(&mut self, step: u64, gone: &[Gone], begin: Option<u64>) -> Result<OperationReply, Refusal> {
        let count: u64 = gone.iter().map(|gone| gone.count).sum();
        let group = group(self.target, 0, &vec![("b", None); count as usize]);
        let redrive = Redrive { letters: self.letters, step, gone: gone.to_vec(), begin, group };
        self.node.operate(2, Operation::Redrive(redrive)).0
    }

    /// The places of what the two channels hold: letters, and messages of the target.
    fn seqs(&self) -> (Vec<u64>, Vec<u64>) {
        let of = |name: &str, id: ChannelId| {
            let first = self.node.machine.stats(id).unwrap().first_seq;
            let batches = self.node.streams.get(&*crate::model::stream_key(name)).into_iter().flatten();
            batches.flat_map(|batch| batch.first_seq..batch.end_seq()).filter(|seq| *seq >= first).collect()
        };
        let letters: Vec<u64> = of("dead", self.letters);
        let redriven = self.node.machine.redriven(self.letters);
        (letters.into_iter().filter(|seq| Some(*seq) != redriven).collect(), of("c", self.target))
    }

    fn comes_back(&mut self) {
        let state = |node: &Node, id| (node.machine.stats(id), node.machine.compaction(id), node.machine.redriven(id));
        let before = (state(&self.node, self.letters), state(&self.node, self.target));
        self.node.restart();
        assert_eq!((state(&self.node, self.letters), state(&self.node, self.target)), before);
    }
}

#[test]
fn a_step_moves_letters_once_and_only_in_its_turn() {
    let mut scene = Scene::new(6, window(100));
    let moved = scene.redrive(0, &[gone(1, 2), gone(4, 1)], None);
    assert_eq!(moved, Ok(OperationReply::Redriven { step: 1, first_seq: 0 }));
    assert_eq!(scene.seqs(), (vec![0, 3, 5], vec![0, 1, 2]));
    scene.comes_back();
    let before = scene.node.stored.clone();
    // The same step again, and another one that was made up before it.
    assert_eq!(scene.redrive(0, &[gone(1, 2), gone(4, 1)], None), Err(Refusal::StaleRedrive { step: 1 }));
    assert_eq!(scene.redrive(0, &[gone(3, 1)], None), Err(Refusal::StaleRedrive { step: 1 }));
    assert_eq!(scene.node.stored, before);
    // A turn without letters makes those before it stale.
    assert_eq!(scene.redrive(1, &[], None), Ok(OperationReply::Redriven { step: 2, first_seq: 0 }));
    assert_eq!(scene.redrive(1, &[gone(3, 1)], None), Err(Refusal::StaleRedrive { step: 2 }));
    assert_eq!(scene.seqs(), (vec![0, 3, 5], vec![0, 1, 2]));
}

#[test]
fn the_newest_letter_leaves_with_all_others_or_as_soon_as_a_newer_one_is_there() {
    let mut scene = Scene::new(3, window(100));
    scene.redrive(0, &[gone(2, 1)], None).unwrap();
    assert_eq!((scene.seqs(), scene.node.machine.redriven(scene.letters)), ((vec![0, 1], vec![0]), Some(2)));
    scene.comes_back();
    assert_eq!(scene.redrive(1, &[gone(2, 1)], None), Err(Refusal::StaleRedrive { step: 1 }), "it went already");
    let one = group(scene.letters, 0, &[("a", None)]);
    scene.node.publish(3, one).0.unwrap();
    scene.redrive(1, &[gone(0, 1)], Some(1)).unwrap();
    assert_eq!((scene.seqs(), scene.node.machine.redriven(scene.letters)), ((vec![1, 3], vec![0, 1]), None));
    let stored = &scene.node.streams[&*crate::model::stream_key("dead")];
    assert!(!stored.iter().any(|batch| (batch.first_seq..batch.end_seq()).contains(&2)), "it is not stored any more");
    scene.comes_back();
    scene.redrive(2, &[gone(1, 1), gone(3, 1)], Some(4)).unwrap();
    let stats = scene.node.machine.stats(scene.letters).unwrap();
    assert_eq!((stats.first_seq, stats.next_seq, stats.bytes), (4, 4, 0));
    let compaction = scene.node.machine.compaction(scene.letters).unwrap();
    assert_eq!(compaction, Compaction { step: 3, clean_to: 0, removed: 0 });
    scene.comes_back();
}

#[test]
fn a_letter_that_its_target_refuses_stays_with_all_of_its_step() {
    let retention = Retention { max_messages: Some(2), when_full: WhenFull::RefuseNew, ..Retention::default() };
    let mut scene = Scene::new(3, ChannelConfig { retention, ..window(100) });
    let full = KeyOutcome::Full(crate::model::Full::Messages(2));
    let refused = Err(Refusal::RedriveRefused { position: 2, outcome: full });
    assert_eq!(scene.redrive(0, &[gone(0, 3)], Some(3)), refused);
    assert_eq!(scene.seqs(), (vec![0, 1, 2], vec![]));
    scene.redrive(0, &[gone(0, 2)], Some(2)).unwrap();
    assert_eq!(scene.seqs(), (vec![2], vec![0, 1]));
    // What is below the channel's beginning is no letter any more.
    assert_eq!(scene.redrive(1, &[gone(1, 1)], None), Err(Refusal::StaleRedrive { step: 1 }));
    let schema = PublishGroup { schema_id: 7, ..group(scene.target, 0, &[("b", None)]) };
    let redrive = Redrive { letters: scene.letters, step: 1, gone: vec![gone(2, 1)], begin: None, group: schema };
    let stale = scene.node.operate(2, Operation::Redrive(redrive)).0;
    assert_eq!(stale, Err(Refusal::StaleSchema { current: 0 }));
    let itself = Redrive {
        letters: scene.letters,
        step: 1,
        gone: vec![gone(2, 1)],
        begin: None,
        group: group(scene.letters, 0, &[("b", None)]),
    };
    assert_eq!(scene.node.operate(2, Operation::Redrive(itself)).0, Err(Refusal::NotStored));
}

#[test]
fn a_redriven_message_is_new_whatever_became_of_its_key() {
    let mut scene = Scene::new(1, window(100));
    let keyed = group(scene.target, 0, &[("b", Some("k"))]);
    scene.node.publish(1, keyed.clone()).0.unwrap();
    let letter = PublishGroup { keys: Vec::new(), ..keyed.clone() };
    let redrive = Redrive { letters: scene.letters, step: 0, gone: vec![gone(0, 1)], begin: Some(1), group: letter };
    let moved = scene.node.operate(2, Operation::Redrive(redrive)).0;
    assert_eq!(moved, Ok(OperationReply::Redriven { step: 1, first_seq: 1 }));
    // The publisher's retry still gets the first one.
    let again = scene.node.publish(3, keyed).0.unwrap();
    assert_eq!(again.except, [(0, KeyOutcome::Duplicate { seq: 0 })]);
}

/// What may happen to a channel of dead letters.
#[derive(Clone, Debug)]
enum Step {
    /// So many letters come, each a batch of its own or all in one.
    Letters(usize, bool),
    /// Those of the letters go whose place is chosen, moving the channel's beginning where that is possible.
    Redrive(Vec<bool>, bool),
    Trim(u64),
    Keep(Option<u64>, Option<u64>),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..6usize, any::<bool>()).prop_map(|(count, apart)| Step::Letters(count, apart)),
        5 => (vec(any::<bool>(), 12), any::<bool>()).prop_map(|(chosen, begins)| Step::Redrive(chosen, begins)),
        1 => Just(Step::Redrive(vec![true; 60], true)),
        1 => (0..20u64).prop_map(Step::Trim),
        1 => (proptest::option::of(1..20u64), proptest::option::of(5..80u64)).prop_map(|(most, bytes)| Step::Keep(most, bytes)),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn whatever_is_redriven_the_rest_is_there_and_the_machine_comes_back(steps in vec(step(), 1..40)) {
        let mut scene = Scene::new(0, window(100));
        let (mut live, mut moved) = (Vec::<u64>::new(), 0);
        for step in steps {
            let stats = scene.node.machine.stats(scene.letters).unwrap();
            match step {
                Step::Letters(count, apart) => {
                    let (batches, each) = if apart { (count, 1) } else { (1, count) };
                    for _ in 0..batches {
                        let letters = group(scene.letters, 0, &vec![("a", None); each]);
                        scene.node.publish(3, letters).0.unwrap();
                    }
                    live.extend(stats.next_seq..stats.next_seq + count as u64);
                }
                Step::Redrive(chosen, begins) => {
                    let chosen = chosen.into_iter().chain(std::iter::repeat(false));
                    let (going, staying): (Vec<_>, Vec<_>) = live.iter().copied().zip(chosen).partition(|(_, goes)| *goes);
                    let (going, staying): (Vec<u64>, Vec<u64>) =
                        (going.into_iter().map(|(seq, _)| seq).collect(), staying.into_iter().map(|(seq, _)| seq).collect());
                    let begin = begins.then(|| staying.first().copied().unwrap_or(stats.next_seq));
                    let runs: Vec<Gone> = going.iter().map(|seq| gone(*seq, 1)).collect();
                    let at = scene.node.machine.compaction(scene.letters).unwrap().step;
                    scene.redrive(at, &runs, begin).unwrap();
                    (live, moved) = (staying, moved + going.len() as u64);
                    // Nothing of it can go again for whoever has not seen that it is gone.
                    for run in runs {
                        prop_assert!(scene.redrive(at, &[run], None).is_err());
                    }
                }
                Step::Trim(up_to) => {
                    let channel = "dead".parse().unwrap();
                    scene.node.operate(3, Operation::Trim { channel, up_to }).0.unwrap();
                }
                Step::Keep(max_messages, max_bytes) => {
                    let retention = Retention { max_messages, max_bytes, ..Retention::default() };
                    let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
                    scene.node.apply(Command::UpdateChannel { time_ms: 3, name: "dead".parse().unwrap(), update });
                }
                Step::Restart => scene.node.restart(),
            }
            let first_seq = scene.node.machine.stats(scene.letters).unwrap().first_seq;
            live.retain(|seq| *seq >= first_seq);
            prop_assert_eq!(scene.seqs(), (live.clone(), (0..moved).collect()));
        }
        scene.comes_back();
    }
}
