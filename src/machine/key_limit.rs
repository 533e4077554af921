//! How many idempotency keys a channel's window may hold.
//!
//! Whether a key is refused is part of what the log means, so the limit has to be the same for every node that applies an
//! entry, whenever it does: it is in the log. The leader writes its own configuration down, as soon as that matters. Until
//! then holds what held before limits were written down.

use super::{Effects, Machine, keys::Key};
use crate::model::{Limits, OperationReply};

/// Where no limit was configured, earlier builds had this one.
const FORMER_DEFAULT: u64 = 1_000_000;

/// The idempotency keys of all channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveKeys {
    /// Of all channels together.
    pub all: u64,
    /// Of the channel that has most.
    pub most: u64,
    /// What a channel may have now.
    pub limit: u64,
}

/// What holds before the log says anything: what the configuration says, as earlier builds took it.
pub(super) fn before_any(limits: &Limits) -> u64 {
    let unchosen = limits.live_keys == Limits::default().live_keys;
    if unchosen { FORMER_DEFAULT } else { limits.live_keys.min(Limits::MOST_LIVE_KEYS) }
}

impl Machine {
    /// How many idempotency keys there are. Looks at every channel.
    pub fn live_keys(&self) -> LiveKeys {
        let counts = self.channels.values().map(|channel| channel.dedup.len());
        let (all, most) = counts.fold((0, 0), |(all, most), count| (all + count, count.max(most)));
        LiveKeys { all, most, limit: self.live_keys }
    }

    /// Keys that live stay, however many there are.
    pub(super) fn limit_keys(&mut self, live_keys: u64, effects: &mut Effects) -> OperationReply {
        let live_keys = live_keys.min(Limits::MOST_LIVE_KEYS);
        if live_keys != self.live_keys {
            self.live_keys = live_keys;
            effects.put(Key::KeyLimit, &live_keys);
        }
        OperationReply::KeysLimited
    }
}
