//! Where requests wait for their replies.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::model::Frame;

/// Requests that wait on this node, by their tokens. One takes the first reply only.
#[derive(Default)]
pub(super) struct Inboxes {
    pub(super) open: Mutex<HashMap<u128, oneshot::Sender<Frame>>>,
}

impl Inboxes {
    /// Whether somebody waited for the reply.
    pub(super) fn deliver(&self, token: u128, reply: Frame) -> bool {
        let waiting = self.open.lock().remove(&token);
        waiting.is_some_and(|waiting| waiting.send(reply).is_ok())
    }
}

/// An inbox that goes when it is dropped.
pub(super) struct Inbox {
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) token: u128,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.inboxes.open.lock().remove(&self.token);
    }
}
