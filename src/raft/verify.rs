//! Replicas that prove that they are equal. Every node hashes its whole state at the same log indexes; here it compares
//! its hash with those of the other voters. A node that finds a majority against it has a damaged disk or memory: it
//! says so, for good, and serves no longer. The others go on. Where states differ and no majority is of one mind, nobody
//! can tell who is right: none of them serves until a later comparison finds a majority, or an operator decides by
//! removing nodes. They go on to replicate the log, so that a node that was away can decide it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    identity::Identity,
    membership::Membership,
    standing::Standing,
    transport::{Lane, Transport},
    types::Raft,
};
use crate::{
    proto::raft as proto,
    replica::{Checkpoint, ReplicaView},
    sequencer::NodeAddress,
    store::StateHash,
};

/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often the others are asked about one index; they fold at their own pace.
const ROUNDS: u32 = 30;
/// Between two of those.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the others are asked before states that differ are doubted without those that do not answer.
const DOUBT_AFTER: u32 = 5;

/// What the newest comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The log index of the newest state that was compared; 0: none yet.
    pub index: u64,
    /// Nodes whose state at that index was not that of the majority, or where there is none, not that of this node.
    pub differing: Vec<String>,
}

/// One node's comparisons.
pub(super) struct Verify {
    pub(super) local: NodeAddress,
    pub(super) identity: Identity,
    pub(super) raft: Raft,
    pub(super) view: ReplicaView,
    pub(super) transport: Transport,
    pub(super) membership: Arc<Membership>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) verified: Arc<Mutex<Verified>>,
}

impl Verify {
    /// Runs as long as the node does.
    pub(super) async fn run(self) {
        let mut compared = 0;
        loop {
            self.view.wait_checkpoint(compared + 1).await;
            let Some(own) = self.view.checkpoint() else { continue };
            compared = own.index;
            let hashes = self.gather(&own).await;
            let voters = self.other_voters().len() + 1;
            self.judge(&own, &hashes, voters).await;
        }
    }

    /// The hashes of all voters at this node's index, by name; without those that have none even after a while.
    async fn gather(&self, own: &Checkpoint) -> BTreeMap<String, StateHash> {
        let mut hashes = BTreeMap::from([(self.local.name.clone(), own.hash)]);
        for round in 0..ROUNDS {
            let others = self.other_voters();
            let missing: Vec<&NodeAddress> = others.iter().filter(|node| !hashes.contains_key(&node.name)).collect();
            let answers = futures::future::join_all(missing.iter().map(|node| self.ask(node, own.index))).await;
            let found = missing.iter().zip(answers).filter_map(|(node, hash)| Some((node.name.clone(), hash?)));
            hashes.extend(found.collect::<Vec<_>>());
            if hashes.len() > others.len() {
                break;
            }
            if round == DOUBT_AFTER {
                self.judge(own, &hashes, others.len() + 1).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
        hashes
    }

    fn other_voters(&self) -> Vec<NodeAddress> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let nodes = metrics.membership_config.nodes();
        nodes
            .filter(|(id, _)| **id != self.local.id && voters.contains(id))
            .map(|(_, node)| NodeAddress::clone(node))
            .collect()
    }

    async fn ask(&self, node: &NodeAddress, index: u64) -> Option<StateHash> {
        let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
        let answer = tokio::time::timeout(TIMEOUT, client.status(proto::StatusRequest {})).await.ok()?.ok()?;
        let checkpoints = answer.into_inner().checkpoints;
        let found = checkpoints.iter().find(|checkpoint| checkpoint.index == index)?;
        <[u8; 32]>::try_from(found.hash.as_ref()).ok().map(StateHash)
    }

    async fn judge(&self, own: &Checkpoint, hashes: &BTreeMap<String, StateHash>, voters: usize) {
        let Some(right) = majority(hashes, voters) else {
            if hashes.values().any(|hash| *hash != own.hash) {
                self.doubt(own, hashes, voters);
            }
            return;
        };
        let differing: Vec<String> =
            hashes.iter().filter(|(_, hash)| **hash != right).map(|(name, _)| name.clone()).collect();
        if !differing.is_empty() {
            tracing::error!(index = own.index, nodes = ?differing, "a node's state is not that of the majority");
        }
        *self.verified.lock() = Verified { index: own.index, differing };
        if own.hash == right {
            self.note_doubt(None);
            return;
        }
        let reason = format!(
            "this node's state at log index {} has the hash {}, that of a majority {right}: its disk or memory is \
             damaged. Run `liminal cluster remove {}`, and start it again with an empty directory",
            own.index, own.hash, self.local.name
        );
        self.membership.step_down().await;
        if let Err(error) = self.identity.condemn(&reason) {
            tracing::error!(%error, "cannot write down that the disk is damaged");
        }
        self.raft.runtime_config().elect(false);
        self.standing.send_replace(Standing::Diverged(reason));
    }

    /// Nobody can tell who is right.
    fn doubt(&self, own: &Checkpoint, hashes: &BTreeMap<String, StateHash>, voters: usize) {
        let found: Vec<String> = hashes.iter().map(|(name, hash)| format!("{name} {hash}")).collect();
        let reason = format!(
            "the nodes' states differ at log index {}, and no majority of the {voters} voters is of one mind ({}): nobody \
             serves. Start the nodes that are away: the next comparison may find a majority. Else find out whose disk or \
             memory is damaged, `liminal cluster remove` that node, and start it again with an empty directory; or \
             restore a backup",
            own.index,
            found.join(", ")
        );
        let differing = hashes.iter().filter(|(_, hash)| **hash != own.hash).map(|(name, _)| name.clone()).collect();
        *self.verified.lock() = Verified { index: own.index, differing };
        self.note_doubt(Some(reason));
    }

    /// Writes down whether this node's state is in doubt: it is after a restart, too.
    fn note_doubt(&self, reason: Option<String>) {
        match &reason {
            Some(reason) => tracing::error!(reason, "this node does not serve"),
            None if self.identity.doubt().is_some() => {
                tracing::info!("a majority has the state of this node: it serves again");
            }
            None => return,
        }
        if let Err(error) = self.identity.set_doubt(reason) {
            tracing::error!(%error, "cannot write down whether this node's state is in doubt");
        }
    }
}

/// The hash that more than half of all voters have.
fn majority(hashes: &BTreeMap<String, StateHash>, voters: usize) -> Option<StateHash> {
    hashes.values().copied().find(|hash| hashes.values().filter(|other| *other == hash).count() > voters / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_half_of_all_voters_can_tell_who_is_wrong() {
        let [a, b] = [1, 2].map(|byte| StateHash([byte; 32]));
        let of = |hashes: &[StateHash]| {
            hashes.iter().enumerate().map(|(number, hash)| (format!("n{number}"), *hash)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(majority(&of(&[a, a, b]), 3), Some(a));
        assert_eq!(majority(&of(&[a, b]), 3), None, "one voter did not answer");
        assert_eq!(majority(&of(&[a, a]), 3), Some(a));
        assert_eq!(majority(&of(&[a, a, b, b]), 4), None);
    }
}
