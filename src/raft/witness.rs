//! What a node knows of the disks of others, so that an old copy is refused also where there is no leader to ask.
//!
//! Members greet each other when they start and every few seconds, and say how often their disk was started and what
//! their log certainly holds. Whoever is greeted compares that with what is applied, which counts the starts of every
//! member, and with what the same member said before.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::{model::Refusal, proto::raft as proto, replica::ReplicaView};

/// What this node knows of other nodes' disks.
pub(super) struct Witness {
    view: ReplicaView,
    /// The newest entry that each node said to hold.
    held: Mutex<BTreeMap<u64, u64>>,
}

impl Witness {
    pub(super) fn new(view: ReplicaView) -> Self {
        Self { view, held: Mutex::default() }
    }

    /// Takes note of what a node of the same cluster says of its disk. Gives the reason why it must not take part with
    /// it, if this node knows one.
    pub(super) fn hear(&self, request: &proto::HelloRequest) -> Option<String> {
        let node = request.from.as_ref().filter(|_| request.starts > 0)?;
        if let Some(why) = self.starts_again(node.id, request.starts, request.incarnation) {
            return Some(old_copy(&node.name, &why));
        }
        let (held, last) = [request.held, request.last_log_id].map(|id| id.map_or(0, |id| id.index)).into();
        let mut known = self.held.lock();
        let known = known.entry(node.id).or_default();
        if last < *known {
            return Some(old_copy(&node.name, &ends_early(last, *known)));
        }
        *known = held.max(*known);
        None
    }

    /// Why a start is one of a disk that is older than the node's own, if it is.
    pub(super) fn starts_again(&self, node: u64, starts: u64, incarnation: u64) -> Option<String> {
        let record = self.view.member(node).unwrap_or_default();
        let again = (record.starts, record.incarnation) == (starts, incarnation);
        (starts <= record.starts && !again).then(|| Refusal::OldDisk { starts, seen: record.starts }.to_string())
    }
}

/// How it shows that a log lacks what its node had acknowledged.
pub(super) fn ends_early(last: u64, acknowledged: u64) -> String {
    format!("it ends at log entry {last}, but the node had acknowledged entry {acknowledged}")
}

/// Why a node that runs on an old copy of its disk is refused.
pub(super) fn old_copy(name: &str, why: &str) -> String {
    format!(
        "node `{name}` runs on an old copy of its disk: {why}. Remove `{name}` from the cluster, and start it again with \
         an empty directory"
    )
}
