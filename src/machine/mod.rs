//! The replicated state machine: pure and deterministic.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    model::{ChannelId, ChannelMeta, ChannelStats, Command, Limits, Reply, StoredBatch},
    store::WriteBatch,
};

/// State of all channels.
#[derive(Debug)]
pub struct Machine {}

/// What a command does to the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be committed to the store before anything else happens.
    pub writes: WriteBatch,
    /// New messages for live subscribers, durable and ephemeral.
    pub deliveries: Vec<(ChannelId, StoredBatch)>,
    /// Channels that were created, changed or deleted, in order.
    pub catalog: Vec<CatalogChange>,
    /// Hash the whole state once the writes are committed.
    pub checkpoint: bool,
}

/// A change of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogChange {
    /// Created or changed.
    Put(Arc<ChannelMeta>),
    /// Deleted.
    Remove(Arc<ChannelMeta>),
}

impl Machine {
    /// From the plain keys of a store (all of them, in byte order).
    ///
    /// # Errors
    /// Names the key whose value cannot be read.
    pub fn restore(limits: &Limits, entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Self, String> {
        let _ = (limits, entries);
        todo!()
    }

    /// Takes the next command of the log.
    pub fn apply(&mut self, command: Command) -> (Reply, Effects) {
        let _ = command;
        todo!()
    }

    /// All channels with their counters, by name.
    pub fn channels(&self) -> impl Iterator<Item = (&Arc<ChannelMeta>, ChannelStats)> {
        std::iter::empty()
    }

    /// The counters of a channel.
    pub fn stats(&self, channel: ChannelId) -> Option<ChannelStats> {
        let _ = channel;
        todo!()
    }

    /// The log's time: milliseconds since the Unix epoch of the newest command.
    pub fn time_ms(&self) -> u64 {
        todo!()
    }

    /// When something will expire, in log time; `None` while nothing can.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        todo!()
    }
}
