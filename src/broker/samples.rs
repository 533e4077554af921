//! Samples of refused messages that wait to be published, and the count of those that were lost.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    model::{ChannelId, ChannelName},
    proto::v1::Message,
    quota::Meter,
};

/// Samples of all channels that wait to be published.
const WAITING: usize = 64;

/// What of refused messages waits, and what was lost of them.
pub(super) struct Quarantine {
    pub(super) waiting: mpsc::Sender<Sample>,
    pub(super) meters: Mutex<HashMap<ChannelId, Meter>>,
    pub(super) dropped: AtomicU64,
}

pub(super) struct Sample {
    pub(super) target: ChannelName,
    pub(super) message: Message,
}

impl Quarantine {
    pub(super) fn new() -> (Self, mpsc::Receiver<Sample>) {
        let (waiting, queue) = mpsc::channel(WAITING);
        (Self { waiting, meters: Mutex::default(), dropped: AtomicU64::new(0) }, queue)
    }

    /// Refused messages that were to be sampled and were not.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn drop_samples(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}
