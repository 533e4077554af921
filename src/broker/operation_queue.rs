//! Operations that wait on this node for the next log entry, and what becomes of them.

use tokio::sync::{mpsc, oneshot};

use super::submission::SubmitError;
use crate::model::{Operation, OperationReply, Refusal};

/// Operations that may wait.
pub(super) const QUEUE: usize = 16_384;

/// An operation that was committed and applied by the leader.
#[derive(Clone, Debug)]
pub(super) struct Operated {
    /// Log index of its entry.
    pub(super) index: u64,
    /// Raft term of its entry.
    pub(super) term: u64,
    pub(super) reply: Result<OperationReply, Refusal>,
}

pub(super) type Answer = Result<Operated, SubmitError>;

pub(super) struct Queued {
    pub(super) operation: Operation,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The way in.
pub(super) struct Operations {
    pub(super) queue: mpsc::Sender<Queued>,
}

impl Operations {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue }, receiver)
    }
}
