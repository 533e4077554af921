//! What a node says of its search for damage: its figures, and what all nodes found when an operator asked for it.

use std::time::Duration;

use futures::{
    future::join_all,
    stream::{BoxStream, StreamExt as _},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    broker::NodeAddress,
    http::{Metric, metrics},
    proto::v1::{NodeScrub, VerifyDeepResponse},
    raft::{RaftGroup, ScrubReport},
};

/// What each node reads in a second where nobody says it.
const RATE: u64 = 64 << 20;
/// How often the nodes are asked how far they are.
const POLL: Duration = Duration::from_millis(500);
/// A node that did not answer so often in a row is not waited for.
const MISSED: u32 = 20;

/// The figures.
pub(super) fn metrics(report: &ScrubReport) -> Vec<Metric> {
    vec![
        metrics::SCRUB_BYTES.of(report.total_bytes),
        metrics::SCRUB_DAMAGED_FILES.of(report.total_found),
        metrics::SCRUB_HEALED_FILES.of(report.total_healed),
        metrics::SCRUB_UNHEALED_FILES.of(report.left.len() as u64),
        metrics::SCRUB_COMPLETED_TIMESTAMP_SECONDS.of(report.completed_ms / 1000),
    ]
}

/// One of the nodes that read everything.
struct Node {
    address: NodeAddress,
    /// What it was asked for; none until it has answered.
    pass: Option<u64>,
    missed: u32,
    newest: NodeScrub,
}

impl Node {
    fn new(address: NodeAddress) -> Self {
        let newest = NodeScrub { name: address.name.clone(), ..NodeScrub::default() };
        Self { address, pass: None, missed: 0, newest }
    }

    fn is_over(&self) -> bool {
        self.newest.done || self.missed >= MISSED
    }

    async fn look(&mut self, group: &RaftGroup, rate: u64) {
        if self.is_over() {
            return;
        }
        let Some(pass) = self.pass else {
            self.pass = group.scrub(&self.address, rate).await;
            self.missed = if self.pass.is_some() { 0 } else { self.missed + 1 };
            return;
        };
        let Some(found) = group.scrub_of(&self.address).await else {
            self.missed += 1;
            self.newest.answered = self.missed < MISSED;
            return;
        };
        self.missed = 0;
        if found.pass < pass {
            // It has not begun yet, or was started again meanwhile.
            if found.pass + 1 < pass || !found.running {
                self.pass = None;
            }
            return;
        }
        self.newest = NodeScrub {
            name: std::mem::take(&mut self.newest.name),
            answered: true,
            done: found.pass > pass || !found.running,
            state_bytes: found.state_bytes,
            expected_state_bytes: found.expected_state_bytes,
            log_bytes: found.log_bytes,
            found: found.found,
            healed: found.healed,
            left: found.left,
        };
    }
}

/// Has all nodes read everything, and says how far they are until they are done or do not answer. `rate`: bytes that
/// each reads in a second; 0: the default. Ends early when nobody listens; the nodes go on.
pub(super) fn verify_deep(group: RaftGroup, rate: u64) -> BoxStream<'static, VerifyDeepResponse> {
    let rate = if rate == 0 { RATE } else { rate };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut nodes: Vec<Node> = group.members().into_iter().map(|(address, _)| Node::new(address)).collect();
        nodes.sort_by(|a, b| a.address.name.cmp(&b.address.name));
        loop {
            join_all(nodes.iter_mut().map(|node| node.look(&group, rate))).await;
            let done = nodes.iter().all(Node::is_over);
            let nodes = nodes.iter().map(|node| node.newest.clone()).collect();
            if sender.send(VerifyDeepResponse { nodes, done }).await.is_err() || done {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    ReceiverStream::new(receiver).boxed()
}
