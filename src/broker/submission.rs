//! What is submitted to the log on this node, and what becomes of it: the queue before the batcher.

use tokio::sync::{mpsc, oneshot, watch};

use super::{SequencerError, error::Unserved, stats::overloaded};
use crate::{
    model::{GroupReply, PublishGroup},
    replica::StoreHealth,
};

/// Proposals under way: while one is synced, others travel, are applied and answered.
pub(super) const PROPOSALS: usize = 4;
/// Submissions that may wait; their bytes are bounded by admission.
const QUEUE: usize = 65_536;

/// A committed submission.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) term: u64,
    pub(super) reply: GroupReply,
}

/// Why a submission has no reply.
#[derive(Clone, Debug)]
pub(super) enum SubmitError {
    /// Surely not proposed.
    NotLeader,
    /// May be committed.
    Unknown(String),
    /// Definite, or as the error says.
    Refused(Unserved),
}

impl From<SequencerError> for SubmitError {
    fn from(error: SequencerError) -> Self {
        match error {
            SequencerError::NotLeader | SequencerError::Stopped => Self::NotLeader,
            SequencerError::TooLarge { bytes, limit } => Self::Refused(Unserved::entry_too_large(bytes, limit)),
            SequencerError::NotUpgraded { needs, cluster } => Self::Refused(Unserved::NotUpgraded {
                needs: needs.0.into(),
                cluster: cluster.0.into(),
                node: String::new(),
                speaks: 0,
            }),
            SequencerError::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

pub(super) type Answer = Result<Committed, SubmitError>;

pub(super) struct Queued {
    pub(super) submission: PublishGroup,
    /// Bytes of the copies that it makes.
    pub(super) copied: u64,
    /// None once it is answered.
    pub(super) answer: Option<oneshot::Sender<Answer>>,
}

/// The way into the batcher.
pub(super) struct Batcher {
    queue: mpsc::Sender<Queued>,
}

impl Batcher {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue }, receiver)
    }

    /// Takes a submission at once, in the order of calls; the receiver gets what became of it.
    pub(super) fn submit(&self, submission: PublishGroup) -> Result<oneshot::Receiver<Answer>, Unserved> {
        let (answer, receiver) = oneshot::channel();
        let queued = Queued { copied: submission.copied_bytes(), submission, answer: Some(answer) };
        match self.queue.try_send(queued) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(overloaded(QUEUE, QUEUE)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unserved::Stopping),
        }
    }
}

/// Resolves when the store refuses a commit, or one waits for what does not come.
pub(super) async fn failing(health: &mut watch::Receiver<StoreHealth>) -> String {
    let failing = health.wait_for(|health| health.failure().is_some()).await;
    match failing.ok().and_then(|health| health.failure().map(str::to_owned)) {
        Some(reason) => reason,
        None => std::future::pending().await, // the node is gone
    }
}
