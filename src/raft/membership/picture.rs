//! The cluster as its leader sees it at one moment: every decision about the membership is made from one picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::change::ChangeError;
use crate::sequencer::NodeAddress;

/// A learner that lacks no more entries than these has caught up.
pub(super) const CAUGHT_UP: u64 = 100;
/// A node that was heard of within this time is there.
const PRESENT: Duration = Duration::from_secs(3);

/// The cluster as its leader sees it.
pub(super) struct Picture {
    pub(super) nodes: BTreeMap<u64, NodeAddress>,
    pub(super) voters: BTreeSet<u64>,
    /// Whether the voters are changing: a majority of those before and of those after is needed for everything.
    pub(super) joint: bool,
    /// The voters that were none before the change.
    pub(super) entering: BTreeSet<u64>,
    /// Index of the newest entry that each other node is known to have.
    pub(super) matched: BTreeMap<u64, u64>,
    /// How long each other node has not been heard of; absent: never by this leader.
    pub(super) silent: BTreeMap<u64, Duration>,
    pub(super) last: u64,
}

impl Picture {
    pub(super) fn named(&self, name: &str) -> Result<&NodeAddress, ChangeError> {
        self.nodes.values().find(|node| node.name == name || node.id.to_string() == name).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.values().map(|node| node.name.as_str()).collect();
            ChangeError::Refused(format!(
                "there is no node `{name}` in the cluster; its nodes are {}",
                names.join(", ")
            ))
        })
    }

    pub(super) fn present(&self, id: u64, local: u64) -> bool {
        id == local || self.silent.get(&id).is_some_and(|silent| *silent <= PRESENT)
    }

    /// Whether a majority of the voters but this one is there.
    pub(super) fn stands_without(&self, id: u64, local: u64) -> bool {
        let rest: Vec<u64> = self.voters.iter().copied().filter(|voter| *voter != id).collect();
        let present = rest.iter().filter(|voter| self.present(**voter, local)).count();
        present > rest.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(voters: &[u64], silent: &[(u64, u64)]) -> Picture {
        Picture {
            nodes: BTreeMap::new(),
            voters: voters.iter().copied().collect(),
            joint: false,
            entering: BTreeSet::new(),
            matched: BTreeMap::new(),
            silent: silent.iter().map(|(id, seconds)| (*id, Duration::from_secs(*seconds))).collect(),
            last: 0,
        }
    }

    #[test]
    fn a_node_may_go_only_where_a_majority_of_the_others_is_there() {
        let five = picture(&[1, 2, 3, 4, 5], &[(2, 0), (3, 0), (4, 60), (5, 60)]);
        assert!(five.stands_without(5, 1), "three of the four others are there");
        let four = picture(&[1, 2, 3, 4], &[(2, 0), (3, 60), (4, 60)]);
        assert!(four.stands_without(4, 1), "two of three");
        assert!(!four.stands_without(2, 1), "one of three");
        assert!(picture(&[1, 2], &[(2, 60)]).stands_without(2, 1));
    }
}
