//! What a fresh node has seen of the others, and whether that is enough to found a cluster.
//!
//! Who founds must be sure that nobody else does. Two ways lead there, and both rest on this: each node promises itself to
//! one cluster at a time.
//!
//! - **All.** Everybody that anybody looks at has answered, and everybody that anybody has met. Then all of them are asked
//!   to agree, not only those that will vote. Where the seeds of all nodes hang together, any two such rounds have a node
//!   in common.
//! - **More than half of the seeds**, where all nodes look at the same ones. Seeds that did not answer are the same for all
//!   then, which shows it. Two halves that do not see each other are never both more than a half.
//!
//! Anything else waits, and says for what.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::from_address;
use crate::{proto::raft as proto, sequencer::NodeAddress};

/// Fresh nodes, by name and id.
pub(super) type Nodes = BTreeMap<(String, u64), NodeAddress>;

/// What all who were greeted answered.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) answers: Vec<proto::HelloResponse>,
    /// Every address at which somebody answered.
    pub(super) answered: BTreeSet<String>,
    /// This node's seeds at which nobody did.
    pub(super) unanswered: BTreeSet<String>,
    /// Who answered at the others; this node too, where it is a seed of its own.
    pub(super) at_seeds: BTreeSet<u64>,
    /// How many nodes this one and its seeds are: see [`count_nodes`].
    pub(super) nodes: usize,
    /// A running cluster is in sight.
    pub(super) cluster_in_sight: bool,
}

/// The newest round, as far as it matters for founding.
#[derive(Default)]
pub(super) struct Survey {
    /// Those that are free to belong to a new cluster: this node and those that said so.
    pub(super) free: Nodes,
    /// Also those that another has met.
    pub(super) heard_of: Nodes,
    /// See [`Round::unanswered`].
    pub(super) unanswered: BTreeSet<String>,
    /// Whether a running cluster is in sight, which this node joins instead of promising itself to another.
    pub(super) cluster_in_sight: bool,
    /// Seeds of others at which nobody answered this node, and who looks there.
    elsewhere: BTreeMap<String, String>,
    /// Nodes that belong to something already, and to what.
    bound: BTreeMap<String, String>,
    /// Two nodes of one name.
    namesakes: Option<String>,
    /// How many each of them expects.
    expect: BTreeMap<String, u64>,
    /// All look in vain at the same seeds.
    alike: bool,
    at_seeds: usize,
    /// See [`Round::nodes`]; none before the first round.
    nodes: Option<usize>,
}

impl Survey {
    /// Before the first round: nobody is known, and no seed has answered.
    pub(super) fn begin(local: &NodeAddress, seeds: &[String]) -> Self {
        let nodes = Nodes::from([(rank(local), local.clone())]);
        let unanswered = seeds.iter().filter(|seed| **seed != local.peer).cloned().collect();
        Self { free: nodes.clone(), heard_of: nodes, unanswered, ..Self::default() }
    }

    /// Who does not answer any more is forgotten, except as a seed.
    pub(super) fn of(local: &NodeAddress, expect: u64, round: &Round) -> Self {
        let mut survey = Self {
            expect: BTreeMap::from([(local.name.clone(), expect)]),
            unanswered: round.unanswered.clone(),
            cluster_in_sight: round.cluster_in_sight,
            alike: true,
            nodes: Some(round.nodes),
            ..Self::begin(local, &[])
        };
        for answer in round.answers.iter().filter(|answer| answer.members.is_empty()) {
            let Some(node) = answer.node.clone().map(from_address) else { continue };
            if node.name == local.name && node.id != local.id {
                tracing::error!(address = node.peer, "another node is called `{}` too: names must differ", node.name);
                survey.namesakes = Some(format!(
                    "another node is called `{}` too, at {}: names must differ, so set `cluster.node_name`",
                    node.name, node.peer
                ));
                continue;
            }
            survey.heard_of.extend(answer.met.iter().cloned().map(from_address).map(|node| (rank(&node), node)));
            survey.expect.insert(node.name.clone(), answer.expect);
            let theirs: BTreeSet<String> = answer.unanswered.iter().cloned().collect();
            survey.alike &= theirs == round.unanswered;
            for seed in theirs.difference(&round.unanswered).filter(|seed| !round.answered.contains(*seed)) {
                survey.elsewhere.insert(seed.clone(), node.name.clone());
            }
            if answer.cluster_id.is_empty() {
                survey.heard_of.insert(rank(&node), node.clone());
                survey.free.insert(rank(&node), node);
            } else {
                survey.bound.insert(node.name, answer.cluster_id.clone());
            }
        }
        let free: BTreeSet<u64> = survey.free.values().map(|node| node.id).collect();
        survey.at_seeds = round.at_seeds.intersection(&free).count();
        survey
    }

    /// Where the fresh nodes may be that this one should ask next.
    pub(super) fn places(&self) -> impl Iterator<Item = String> {
        self.heard_of.values().map(|node| node.peer.clone()).chain(self.elsewhere.keys().cloned())
    }

    /// What is wrong and has to be put right by a person.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.expect.values().collect::<BTreeSet<_>>().len() > 1 {
            let each: Vec<String> =
                self.expect.iter().map(|(name, expect)| format!("{name} expects {expect}")).collect();
            return Some(format!(
                "`cluster.expect` differs: {}. Set it to the same number on all of them",
                each.join(", ")
            ));
        }
        self.namesakes.clone()
    }

    /// How many nodes to wait for where as many were counted as there are seeds: seeds that turned out to be one node are one.
    pub(super) fn nodes(&self, counted: usize) -> usize {
        self.nodes.map_or(counted, |nodes| nodes.min(counted))
    }

    /// Nothing when this node may propose a cluster; else what it waits for.
    pub(super) fn lacks(&self, expect: usize) -> Option<String> {
        if self.cluster_in_sight {
            return Some("a running cluster is in sight; its leader has to let this node in".to_owned());
        }
        if let Some(trouble) = self.trouble() {
            return Some(trouble);
        }
        let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        let met = list(&mut self.free.keys().map(|(name, _)| name.clone()));
        if self.free.len() < expect {
            return Some(format!("{} of the {expect} nodes that found a cluster are here: {met}", self.free.len()));
        }
        if !self.bound.is_empty() {
            let bound = list(&mut self.bound.iter().map(|(name, cluster)| format!("{name} to cluster {cluster}")));
            return Some(format!("others have promised themselves: {bound}"));
        }
        if let Some(unmet) = self.heard_of.iter().find(|(rank, _)| !self.free.contains_key(*rank)) {
            let (name, peer) = (&unmet.1.name, &unmet.1.peer);
            return Some(format!("{name} at {peer}, which another node has met, does not answer this one"));
        }
        if self.unanswered.is_empty() && self.elsewhere.is_empty() {
            return None;
        }
        if self.alike && self.elsewhere.is_empty() {
            let (here, all) = (self.at_seeds, self.at_seeds + self.unanswered.len());
            if 2 * here > all {
                return None;
            }
            let missing = list(&mut self.unanswered.iter().cloned());
            return Some(format!(
                "fresh nodes answer at {here} of {all} seeds, and more than half have to, for else the others could \
                 found a cluster of their own; no fresh node answers at {missing}"
            ));
        }
        let own = self.unanswered.iter().map(|seed| format!("{seed} (a seed of this node)"));
        let theirs = self.elsewhere.iter().map(|(seed, name)| format!("{seed} (a seed of {name})"));
        let missing = list(&mut own.chain(theirs));
        Some(format!(
            "the nodes look at different seeds, so all of these have to answer, and some do not: {missing}. Start \
             them, or take them out of `cluster.seed_nodes`"
        ))
    }
}

/// How many nodes this one and its seeds are, by who answered at each of these: none, where somebody is still missing there.
/// Only a seed that leads to one node is known to be that node, so all others count as one more each.
pub(super) fn count_nodes(local: u64, at_each: impl Iterator<Item = BTreeSet<u64>>) -> usize {
    let (known, others): (Vec<_>, Vec<_>) = at_each.partition(|nodes| nodes.len() == 1);
    let known: BTreeSet<u64> = known.into_iter().flatten().chain([local]).collect();
    known.len() + others.len()
}

pub(super) fn rank(node: &NodeAddress) -> (String, u64) {
    (node.name.clone(), node.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::wire::to_address;

    fn node(number: u64) -> NodeAddress {
        let name = format!("n{number}");
        NodeAddress { id: number, peer: peer(number), name, ..NodeAddress::default() }
    }

    fn peer(number: u64) -> String {
        format!("n{number}:7301")
    }

    fn peers(numbers: &[u64]) -> BTreeSet<String> {
        numbers.iter().map(|number| peer(*number)).collect()
    }

    /// What n1 sees, whose seeds are `answering` and `silent`, when each of the others has met all that answer and looks
    /// in vain at the seeds given with it.
    fn seen(answering: &[u64], silent: &[u64], others: &[(u64, &[u64])]) -> Survey {
        let met: Vec<_> = answering.iter().map(|number| to_address(&node(*number))).collect();
        let answer = |(number, unanswered): &(u64, &[u64])| proto::HelloResponse {
            node: Some(to_address(&node(*number))),
            met: met.clone(),
            unanswered: peers(unanswered).into_iter().collect(),
            expect: 3,
            ..proto::HelloResponse::default()
        };
        let round = Round {
            answers: others.iter().map(answer).collect(),
            answered: peers(answering),
            unanswered: peers(silent),
            at_seeds: answering.iter().copied().collect(),
            nodes: answering.len() + silent.len(),
            cluster_in_sight: false,
        };
        Survey::of(&node(1), 3, &round)
    }

    #[test]
    fn a_cluster_may_be_founded_once_everybody_that_anybody_looks_at_has_answered() {
        assert_eq!(seen(&[1, 2, 3], &[], &[(2, &[]), (3, &[])]).lacks(3), None);
        let why = seen(&[1, 2, 3], &[], &[(2, &[]), (3, &[4])]).lacks(3).unwrap();
        assert!(why.contains("n4:7301 (a seed of n3)"), "{why}");
        // A node that has just begun has looked nowhere yet; where it will look, this one has looked.
        assert_eq!(seen(&[1, 2, 3], &[], &[(2, &[]), (3, &[1, 2])]).lacks(3), None);
        assert!(seen(&[1, 2], &[], &[(2, &[])]).lacks(3).is_some(), "two are not enough");
        let early = Survey::begin(&node(1), &[peer(1), peer(2)]);
        assert_eq!(early.unanswered, peers(&[2]));
    }

    #[test]
    fn more_than_half_are_enough_where_all_look_at_the_same_seeds() {
        assert_eq!(seen(&[1, 2, 3], &[4, 5], &[(2, &[4, 5]), (3, &[4, 5])]).lacks(3), None);
        let why = seen(&[1, 2, 3], &[4, 5, 6], &[(2, &[4, 5, 6]), (3, &[4, 5, 6])]).lacks(3).unwrap();
        assert!(why.contains("3 of 6 seeds"), "{why}");
        let why = seen(&[1, 2, 3], &[4, 5], &[(2, &[4, 5]), (3, &[])]).lacks(3).unwrap();
        assert!(why.contains("look at different seeds"), "{why}");
    }

    #[test]
    fn nodes_that_are_nobodys_seed_do_not_make_a_half_more_than_it_is() {
        let mut survey = seen(&[1, 2], &[3, 4], &[(2, &[3, 4]), (7, &[3, 4]), (8, &[3, 4])]);
        survey.heard_of.clear();
        assert_eq!(survey.free.len(), 4);
        assert!(survey.lacks(3).unwrap().contains("2 of 4 seeds"));
    }

    #[test]
    fn seeds_that_lead_to_one_node_count_once_and_those_of_which_nothing_is_known_each() {
        let count = |seeds: &[&[u64]]| count_nodes(1, seeds.iter().map(|nodes| nodes.iter().copied().collect()));
        assert_eq!(count(&[]), 1);
        assert_eq!(count(&[&[1]]), 1, "a name of this very node");
        assert_eq!(count(&[&[1], &[1], &[2]]), 2);
        assert_eq!(count(&[&[1], &[], &[2]]), 3, "who is silent may be anybody");
        assert_eq!(count(&[&[1], &[], &[]]), 3);
        assert_eq!(count(&[&[1], &[1, 2]]), 2, "a name that stands for several is as many as were counted for it");
        assert_eq!(count(&[&[2], &[3]]), 3, "this node is one more");
    }

    #[test]
    fn nodes_that_expect_different_numbers_say_so_and_found_nothing() {
        let mut survey = seen(&[1, 2, 3], &[], &[(2, &[]), (3, &[])]);
        survey.expect.insert("n3".into(), 5);
        let why = survey.lacks(3).unwrap();
        assert!(why.contains("n1 expects 3, n2 expects 3, n3 expects 5"), "{why}");
    }
}
