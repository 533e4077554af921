//! Who leads, as the broker is told it: openraft's view of the cluster in our own words.

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tokio::sync::watch;

use super::{standing::Standing, types::Raft};
use crate::sequencer::{Leader, NodeAddress};

/// Tells `sender` of every change, until Raft's core ends.
pub(super) async fn watch_leader(raft: Raft, mut standing: watch::Receiver<Standing>, sender: watch::Sender<Leader>) {
    let mut metrics = raft.server_metrics();
    loop {
        let leader = {
            let now = metrics.borrow_watched();
            match now.current_leader {
                Some(id) if id == now.id && now.state == ServerState::Leader => {
                    Leader::Local { term: now.vote.leader_id().term }
                }
                // What a node that is not let in knows of the leader is old.
                Some(_) if !standing.borrow().failure().is_empty() => Leader::Unknown,
                Some(id) if id != now.id => {
                    let node = now.membership_config.get_node(&id).cloned();
                    node.map_or(Leader::Unknown, |node| Leader::Remote(NodeAddress::clone(&node)))
                }
                _ => Leader::Unknown,
            }
        };
        sender.send_if_modified(|present| {
            let changed = *present != leader;
            if changed {
                tracing::info!(leader = ?leader, "leadership");
                *present = leader;
            }
            changed
        });
        let changed = tokio::select! {
            changed = metrics.changed() => changed.is_ok(),
            Ok(()) = standing.changed() => true,
        };
        if !changed {
            sender.send_replace(Leader::Unknown);
            return;
        }
    }
}
