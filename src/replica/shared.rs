//! What the two sides of a replica share: the writing side changes it, the readers look at it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::sync::{RwLock as AsyncRwLock, watch};

use super::{checkpoint::Checkpoint, health::StoreHealth};
use crate::{
    fanout::{Fanout, Wakes},
    health::Health,
    keys::ColdKeys,
    log_clock::LogClock,
    machine::Machine,
    meter::Meters,
    model::{Catalog, Limits, SecurityState},
    store::{DurableStore, WatchedStore},
};

pub(super) struct Shared {
    pub(super) store: Arc<dyn DurableStore>,
    /// The same.
    pub(super) watched: Arc<WatchedStore>,
    pub(super) fanout: Arc<Fanout>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) limits: Limits,
    pub(super) machine: Arc<RwLock<Machine>>,
    /// The idempotency keys that the machine does not hold.
    pub(super) keys: Arc<ColdKeys>,
    pub(super) clock: LogClock,
    /// Whether the log's time ever was anything else than the time of day.
    pub(super) has_calendar: AtomicBool,
    pub(super) catalog: RwLock<Arc<Catalog>>,
    pub(super) applied: watch::Sender<u64>,
    /// Held for writing while another state takes the place of this one, in the store first and then in the machine.
    pub(super) replacing: AsyncRwLock<()>,
    /// What will wait for an index that is not known yet.
    pub(super) expecting: AtomicUsize,
    pub(super) commits: watch::Sender<StoreHealth>,
    pub(super) health: Health,
    pub(super) meters: Arc<Meters>,
    pub(super) checkpoints: watch::Sender<VecDeque<Checkpoint>>,
    /// All tokens and roles, as they are from the newest entry on that changed them.
    pub(super) security: watch::Sender<Arc<SecurityState>>,
    /// When the first message that waits is due.
    pub(super) due: watch::Sender<Option<u64>>,
}

impl Shared {
    /// Time has passed as far as the machine has come.
    pub(super) fn pass_time(&self, machine: &Machine) {
        self.clock.applied(machine.time_ms(), machine.ahead_ms());
        self.has_calendar.store(machine.has_calendar(), Ordering::Release);
    }

    pub(super) fn announce_due(&self, due: Option<u64>) {
        self.due.send_if_modified(|known| std::mem::replace(known, due) != due);
    }
}
