//! How many idempotency keys there may be: in a channel's window, and in those of all channels together, whose memory is
//! that of the node.
//!
//! Whether a key is refused is part of what the log means, so the limit has to be the same for every node that applies an
//! entry, whenever it does: it is in the log. The leader writes its own configuration down, at once where it differs from
//! the defaults and so perhaps from that of another node, else as soon as that matters. Until then holds what held before
//! limits were written down.

use serde::{Deserialize, Serialize};

use super::{
    Effects, Machine,
    keys::{Key, record},
};
use crate::model::{KeyOutcome, Limits, OperationReply};

/// Where no limit was configured, earlier builds had this one.
const FORMER_DEFAULT: u64 = 1_000_000;

/// The limit, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimit {
    /// Of a channel.
    pub live_keys: u64,
    /// Of all channels together.
    pub all_keys: u64,
}

/// The limit as one channel feels it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRoom {
    limit: KeyLimit,
    /// Keys of the other channels.
    others: u64,
}

/// The idempotency keys of all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveKeys {
    /// Of all channels together.
    pub all: u64,
    /// Of the channel that has most.
    pub most: u64,
    /// What there may be now.
    pub limit: KeyLimit,
    /// Whether the log says so.
    pub written: bool,
}

impl KeyLimit {
    /// What holds before the log says anything: the former default, whatever a node's configuration says. Earlier builds
    /// counted each channel's keys only.
    pub(super) const BEFORE_ANY: Self = Self { live_keys: FORMER_DEFAULT, all_keys: u64::MAX };

    /// For a channel beside others that have so many keys.
    pub(super) fn beside(self, others: u64) -> KeyRoom {
        KeyRoom { limit: self, others }
    }
}

impl KeyRoom {
    /// Why a channel with so many keys may not have another one; none when it may.
    pub(super) fn refuses(self, live: u64) -> Option<KeyOutcome> {
        let KeyLimit { live_keys, all_keys } = self.limit;
        if live >= live_keys {
            Some(KeyOutcome::TooManyKeys { limit: live_keys })
        } else if self.others + live >= all_keys {
            Some(KeyOutcome::TooManyKeysInAll { limit: all_keys })
        } else {
            None
        }
    }
}

impl Machine {
    /// How many idempotency keys there are. Looks at every channel.
    pub fn live_keys(&self) -> LiveKeys {
        let most = self.channels.values().map(|channel| channel.dedup.len()).max().unwrap_or(0);
        LiveKeys { all: self.keys, most, limit: self.key_limit, written: self.key_limit_written }
    }

    pub(super) fn restore_key_limit(&mut self, value: &[u8]) -> Result<(), String> {
        self.key_limit = record("limit of keys", value)?;
        self.key_limit_written = true;
        Ok(())
    }

    /// Keys that live stay, however many there are.
    pub(super) fn limit_keys(&mut self, limit: KeyLimit, effects: &mut Effects) -> OperationReply {
        // Keys of a channel are told apart by numbers that end there.
        let limit = KeyLimit { live_keys: limit.live_keys.min(Limits::MOST_LIVE_KEYS), ..limit };
        if limit != self.key_limit || !self.key_limit_written {
            (self.key_limit, self.key_limit_written) = (limit, true);
            effects.put(Key::MostKeys, &limit);
        }
        OperationReply::KeysLimited
    }
}
