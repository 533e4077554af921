//! Nodes that have asked the leader to be let in and were refused, for an operator to let in by name.
//!
//! The leader lets nobody in whom it has not heard itself: were it to look at an address that it is given, whoever may give
//! it one could have it look through the network.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::sequencer::NodeAddress;

/// How long a node is remembered that does not ask again; it asks every two seconds.
const MEMORY: Duration = Duration::from_secs(60);
/// How many are remembered.
const MOST: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting(Mutex<BTreeMap<u64, (NodeAddress, Instant)>>);

impl Waiting {
    /// A node asked and was refused.
    pub(super) fn refused(&self, node: &NodeAddress) {
        let mut known = self.recent();
        if known.len() < MOST || known.contains_key(&node.id) {
            known.insert(node.id, (node.clone(), Instant::now()));
        }
    }

    /// The node of a name, an id, or an address for other nodes.
    ///
    /// # Errors
    /// Which nodes there are instead, for people.
    pub(super) fn find(&self, wanted: &str) -> Result<NodeAddress, String> {
        let known = self.recent();
        let is = |node: &&NodeAddress| node.name == wanted || node.peer == wanted || node.id.to_string() == wanted;
        let mut found = known.values().map(|(node, _)| node).filter(is);
        match (found.next(), found.next()) {
            (Some(node), None) => Ok(node.clone()),
            (Some(one), Some(other)) => {
                Err(format!("the nodes {} and {} are both called `{wanted}`: name one by its id", one.id, other.id))
            }
            (None, _) => {
                let names: Vec<String> =
                    known.values().map(|(node, _)| format!("{} at {}", node.name, node.peer)).collect();
                let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                Err(format!(
                    "no node `{wanted}` has asked to be let in within a minute (waiting: {names}). A node asks by itself \
                     while it runs with a node of this cluster among its `cluster.seed_nodes`; only one that was removed \
                     has to be let in by hand"
                ))
            }
        }
    }

    fn recent(&self) -> parking_lot::MutexGuard<'_, BTreeMap<u64, (NodeAddress, Instant)>> {
        let mut known = self.0.lock();
        known.retain(|_, (_, at)| at.elapsed() < MEMORY);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, name: &str) -> NodeAddress {
        NodeAddress { id, name: name.into(), peer: format!("10.0.0.{id}:7301"), ..NodeAddress::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_asks_is_found_by_name_id_and_address_for_a_minute() {
        let waiting = Waiting::default();
        waiting.refused(&node(7, "n7"));
        for wanted in ["n7", "7", "10.0.0.7:7301"] {
            assert_eq!(waiting.find(wanted).unwrap().id, 7);
        }
        let error = waiting.find("n8").unwrap_err();
        assert!(error.contains("waiting: n7 at 10.0.0.7:7301"), "{error}");
        tokio::time::advance(MEMORY).await;
        let error = waiting.find("n7").unwrap_err();
        assert!(error.contains("waiting: nobody"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_of_one_name_are_told_apart_by_their_ids() {
        let waiting = Waiting::default();
        waiting.refused(&node(7, "n7"));
        waiting.refused(&node(8, "n7"));
        let error = waiting.find("n7").unwrap_err();
        assert!(error.contains("by its id"), "{error}");
        assert_eq!(waiting.find("8").unwrap().id, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_do_not_fill_the_memory() {
        let waiting = Waiting::default();
        (0..1000).for_each(|id| waiting.refused(&node(id, "n")));
        assert_eq!(waiting.recent().len(), MOST);
        tokio::time::advance(MEMORY).await;
        waiting.refused(&node(2000, "late"));
        assert_eq!(waiting.find("late").unwrap().id, 2000);
    }
}
