//! What a node knows of the disks of others, so that an old copy is refused also where there is no leader to ask.
//!
//! Members greet each other when they start and every few seconds, and say how often their disk was started and what
//! their log certainly holds. Whoever is greeted compares that with its state and its log, which count the starts of every
//! member, with what the same member said before, and with the history that it knows.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    encoding::{decode_entry, position},
    log::{LogPosition, LogStore},
    wire::{self, from_log_id},
};
use crate::{
    codec,
    model::{Command, MemberEvent, MemberRecord, Refusal},
    proto::raft as proto,
    replica::ReplicaView,
};

/// Entries of about this many bytes are looked at, at a time.
const READ_BYTES: usize = 1 << 20;

/// What this node knows of other nodes' disks.
pub(super) struct Witness {
    view: ReplicaView,
    log: Arc<dyn LogStore>,
    /// The newest entry that each node said to hold.
    held: Mutex<BTreeMap<u64, u64>>,
    logged: Mutex<Logged>,
}

/// Starts of nodes in this node's log, also those that are not applied: after a crash the log is not known to be
/// committed to its end, but each start in it has happened.
#[derive(Default)]
struct Logged {
    /// The entry to look at next.
    next: u64,
    /// The newest start of each node, and its process.
    starts: BTreeMap<u64, (u64, u64)>,
}

impl Witness {
    pub(super) fn new(view: ReplicaView, log: Arc<dyn LogStore>) -> Self {
        Self { view, log, held: Mutex::default(), logged: Mutex::default() }
    }

    /// Takes note of what a node of the same cluster says of its disk. Gives the reason why it must not take part with
    /// it, if this node knows one.
    pub(super) fn hear(&self, request: &proto::HelloRequest) -> Option<String> {
        let node = request.from.as_ref().filter(|_| request.starts > 0)?;
        if let Some(why) = self.starts_again(node.id, request.starts, request.incarnation) {
            return Some(old_copy(&node.name, &why));
        }
        let committed = request.committed.map(|id| position(&from_log_id(id)));
        if let Some(why) = committed.and_then(|committed| self.contradicts(committed)) {
            return Some(other_history(&node.name, &why));
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
        let MemberRecord { starts: applied, incarnation: process, .. } = self.view.member(node).unwrap_or_default();
        let logged = self.logged_start(node).filter(|(logged, _)| *logged > applied);
        let (seen, process) = logged.unwrap_or((applied, process));
        let again = (seen, process) == (starts, incarnation);
        (starts <= seen && !again).then(|| Refusal::OldDisk { starts, seen }.to_string())
    }

    fn logged_start(&self, node: u64) -> Option<(u64, u64)> {
        let mut logged = self.logged.lock();
        let end = self.log.bounds().last.map_or(0, |last| last.index + 1);
        // What was cut off and written anew is looked at again.
        logged.next = logged.next.min(end).max(self.view.applied() + 1);
        while logged.next < end {
            let entries = match self.log.read(logged.next..end, READ_BYTES) {
                Ok(entries) if !entries.is_empty() => entries,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "the end of the log cannot be read: starts of nodes in it are not known");
                    break;
                }
            };
            for entry in entries {
                logged.next = entry.0.index + 1;
                let Ok(openraft::EntryPayload::Normal(command)) = decode_entry(entry).map(|entry| entry.payload) else {
                    continue;
                };
                if codec::is_no_publish(&command.0)
                    && let Ok(Command::Member { node, event: MemberEvent::Started { starts, incarnation, .. }, .. }) =
                        codec::decode_command(&command.0)
                {
                    let known = logged.starts.entry(node).or_default();
                    if starts > known.0 {
                        *known = (starts, incarnation);
                    }
                }
            }
        }
        logged.starts.get(&node).copied()
    }

    /// Why an entry that is committed elsewhere cannot be in the history that this node knows, if it cannot.
    fn contradicts(&self, theirs: LogPosition) -> Option<String> {
        let ours = self.log.committed()?;
        let (shorter, longer) = if ours.index <= theirs.index { (ours, theirs) } else { (theirs, ours) };
        // Terms never fall along a history, and what is committed is in all of them.
        let falls = shorter.term > longer.term || shorter.index == longer.index && shorter.term != longer.term;
        let kept = |at: u64| self.log.read(at..at + 1, 1).ok()?.first().map(|(position, _)| position.term);
        let differs = theirs.index <= ours.index && kept(theirs.index).is_some_and(|term| term != theirs.term);
        (falls || differs).then(|| {
            format!(
                "it holds entry {} of term {} as committed, and this cluster entry {} of term {}",
                theirs.index, theirs.term, ours.index, ours.term
            )
        })
    }
}

/// The newest entry that a node knows to be committed.
pub(super) fn committed(log: &dyn LogStore) -> Option<proto::LogId> {
    log.committed().map(wire::position_to_log_id)
}

/// Why a node whose history is not the cluster's is refused. Whichever of them is the one that was acknowledged.
fn other_history(name: &str, why: &str) -> String {
    format!(
        "node `{name}` has another history than the cluster: {why}. Some node came back on an old copy of its disk, and \
         made a majority without what `{name}` had acknowledged. Keep a copy of its data directory; to go on with what \
         the cluster has, remove `{name}` from the cluster, and start it again with an empty directory"
    )
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        env::Env,
        fanout::Fanout,
        model::Limits,
        raft::log::{SimDisk, SimLog},
        replica::Replica,
        sequencer::NodeAddress,
        store::MemoryStore,
    };

    async fn witness() -> Witness {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let replica = Replica::open(Arc::new(MemoryStore::new()), fanout, Limits::default(), Env::real().clock).await;
        Witness::new(replica.unwrap().view(), Arc::new(SimLog::open(&SimDisk::default())))
    }

    fn append(witness: &Witness, term: u64, index: u64, bytes: Bytes) {
        witness.log.append(vec![(LogPosition { term, index }, bytes)], Box::new(drop)).unwrap();
    }

    fn greeting(starts: u64, incarnation: u64, committed: Option<(u64, u64)>) -> proto::HelloRequest {
        let from = wire::to_address(&NodeAddress { id: 7, name: "n7".into(), ..NodeAddress::default() });
        let committed = committed.map(|(term, index)| proto::LogId { term, index });
        proto::HelloRequest { from: Some(from), starts, incarnation, committed, ..proto::HelloRequest::default() }
    }

    #[tokio::test]
    async fn a_start_that_is_in_the_log_and_not_applied_bars_an_older_disk() {
        let witness = witness().await;
        append(&witness, 1, 0, Bytes::new());
        assert_eq!(witness.hear(&greeting(1, 100, None)), None);
        let event = MemberEvent::Started { starts: 2, incarnation: 200, peer: "n7:7301".into() };
        let command = Command::Member { time_ms: 1, node: 7, name: "n7".into(), event };
        append(&witness, 1, 1, codec::encode_command(&command));
        assert_eq!(witness.hear(&greeting(2, 200, None)), None, "the very process");
        for (starts, incarnation) in [(1, 100), (2, 201)] {
            let why = witness.hear(&greeting(starts, incarnation, None)).expect("it is refused");
            assert!(why.contains("old copy of its disk") && why.contains("its start 2"), "{why}");
        }
        assert_eq!(witness.hear(&greeting(3, 300, None)), None);
    }

    #[tokio::test]
    async fn a_node_with_another_history_is_refused_whichever_is_longer() {
        let witness = witness().await;
        (0..5).for_each(|index| append(&witness, 1, index, Bytes::new()));
        (5..9).for_each(|index| append(&witness, 3, index, Bytes::new()));
        witness.log.save_committed(Some(LogPosition { term: 3, index: 7 })).unwrap();
        let heard = |term, index| witness.hear(&greeting(1, 100, Some((term, index))));
        for same in [(1, 0), (1, 4), (3, 5), (3, 7), (3, 20), (4, 20)] {
            assert_eq!(heard(same.0, same.1), None, "{same:?}");
        }
        for other in [(1, 20), (2, 8), (1, 5), (2, 4), (2, 7)] {
            let why = heard(other.0, other.1).unwrap_or_else(|| panic!("{other:?} is not refused"));
            assert!(why.contains("has another history than the cluster"), "{why}");
        }
    }
}
