//! What a command does to the outside of the machine: writes, messages for subscribers, and what others have to look at.

use std::sync::Arc;

use serde::Serialize;

use super::{channel::Channel, keys::Key};
use crate::{
    codec,
    model::{ChannelId, ChannelMeta, ConsumerId, Frame, RuleSet, SecurityState, StoredBatch},
    store::WriteBatch,
};

/// Bytes of parts of batches that a command's effects hold copies of, about: see [`Effects::copy`].
const COPIED_AT_ONCE: usize = 8 << 20;

/// What a command does to the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be committed to the store before anything else happens.
    pub writes: WriteBatch,
    /// New messages for live subscribers, durable and ephemeral.
    pub deliveries: Vec<(ChannelId, StoredBatch)>,
    /// Channels that were created, changed or deleted, in order.
    pub catalog: Vec<CatalogChange>,
    /// Consumers that changed in any way, or are gone.
    pub consumers: Vec<ConsumerId>,
    /// All tokens and roles, where any of them changed.
    pub security: Option<Arc<SecurityState>>,
    /// Hash the whole state once the writes are committed.
    pub checkpoint: bool,
    /// Bytes of the copies of parts of batches.
    copied: usize,
}

/// A change of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogChange {
    /// Created or changed.
    Put(Arc<ChannelMeta>),
    /// Deleted.
    Remove(Arc<ChannelMeta>),
    /// All rules between channels as they are now.
    Rules(Arc<RuleSet>),
}

impl Effects {
    pub(super) fn put<T: Serialize>(&mut self, key: Key, record: &T) {
        self.writes.puts.push((key.encode(), Some(codec::encode_record(record))));
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.writes.puts.push((key.encode(), None));
    }

    /// Some messages of a batch. The first ones of a command are copied: they soon share nothing with the whole any more.
    /// There is no room in memory for however many more a command asks for, so all others share the batch's bytes.
    pub(super) fn copy(&mut self, frame: &Frame, positions: &[u32]) -> Frame {
        if self.copied > COPIED_AT_ONCE {
            return frame.pick(positions);
        }
        let copy = frame.select(positions);
        if copy.count() < frame.count() {
            self.copied += copy.len();
        }
        copy
    }

    /// New messages at the end of a channel.
    pub(super) fn appended(&mut self, channel: &Channel, batch: StoredBatch) {
        self.put(Key::Stats(channel.meta.id), &channel.stats);
        if channel.is_durable() {
            self.writes.appends.push((channel.stream.clone(), batch.clone()));
        }
        self.deliveries.push((channel.meta.id, batch));
    }
}
