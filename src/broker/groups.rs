//! The way to the groups of consumers that are awake on this node, while it leads: see `consume/group.rs`.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::error::BrokerError;
use crate::model::ConsumerId;

/// All groups of this node.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) awake: Mutex<HashMap<ConsumerId, mpsc::Sender<Word>>>,
    /// Something has got a deadline: whoever lets the log's time pass should look.
    pub(super) scheduled: Notify,
}

/// What a group is told.
pub(super) enum Word {
    Join { member: u64, window: u32, once: bool, told: oneshot::Sender<Result<(), BrokerError>> },
    Forget { member: u64, done: oneshot::Sender<()> },
}
