//! Recent messages of each channel, for live subscribers. (Interface first.)

use crate::model::{ChannelId, StoredBatch};

/// The tails of all channels.
#[derive(Debug, Default)]
pub struct Fanout {}

impl Fanout {
    /// New messages; never blocks.
    pub fn publish(&self, channel: ChannelId, batch: StoredBatch) {
        let _ = (channel, batch);
        todo!()
    }

    /// The channel is gone: its followers end.
    pub fn close(&self, channel: ChannelId) {
        let _ = channel;
        todo!()
    }

    /// Forget all recent messages: followers read what they miss from the store.
    pub fn reset(&self) {
        todo!()
    }
}
