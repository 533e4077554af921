//! A follower of one channel: what it finds at its place, and what it says of how far it has come.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::watch;

use super::{
    Fanout,
    tail::{Cursor, NOWHERE, Signal, Tail},
};
use crate::model::{ChannelId, StoredBatch};

/// Which messages are handed to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// All that its inbox has room for.
    All,
    /// Those that it chooses: it says itself what it was handed and how far it has come.
    Some,
}

/// What a follower finds at its position.
#[derive(Debug)]
pub enum Next {
    /// The next messages. Those of an ephemeral channel may begin behind the position: what lies between is lost.
    Batch(StoredBatch),
    /// The position left the tail: read from the store. The tail begins at this sequence number now.
    Behind(u64),
    /// Nothing yet.
    Nothing,
    /// The channel is gone.
    Closed,
}

/// A follower of one channel. Dropping it ends it.
pub struct Follower {
    fanout: Arc<Fanout>,
    channel: ChannelId,
    tail: Arc<Tail>,
    signal: watch::Receiver<Signal>,
    /// Names it among the tail's followers.
    id: u64,
    cursor: Arc<Cursor>,
    /// How often the state was replaced, as far as it has taken note of it.
    replaced: u64,
}

/// What a follower that chooses was handed.
pub struct Inbox {
    fanout: Arc<Fanout>,
    cursor: Arc<Cursor>,
}

impl Inbox {
    /// Hands over what was chosen, unless the inbox is full.
    pub fn offer(&self, batch: &StoredBatch) -> bool {
        self.cursor.offer(batch, &self.fanout.room)
    }

    /// Takes the oldest of it out.
    pub fn take(&self) -> Option<StoredBatch> {
        self.cursor.take()
    }

    /// Counts messages that were taken out.
    pub fn taken(&self, messages: u64) {
        self.fanout.delivered.fetch_add(messages, Ordering::Relaxed);
    }
}

impl Follower {
    pub(super) fn new(fanout: Arc<Fanout>, channel: ChannelId, tail: Arc<Tail>, id: u64, cursor: Arc<Cursor>) -> Self {
        let signal = tail.signal.subscribe();
        let replaced = cursor.looked_at();
        Self { fanout, channel, tail, signal, id, cursor, replaced }
    }

    /// Begins: at a position, or behind everything that was published before. `applied` is where the channel is known
    /// to end. Gives the position. From here on everything is handed to it that its inbox has room for.
    pub fn begin(&self, position: Option<u64>, applied: u64) -> u64 {
        self.tail.begin(&self.cursor, position, applied)
    }

    /// What is at a position. A batch may begin below it only if the position is inside the batch: it is cut then.
    pub fn at(&self, position: u64) -> Next {
        // Read before the batches: what it counts and they lack was not handed to this follower.
        let signal = *self.signal.borrow();
        if signal.closed {
            return Next::Closed;
        }
        let stored = self.tail.is_stored();
        let first = if stored { self.tail.recent(position) } else { self.cursor.first(position) };
        match first {
            Some(batch) if batch.first_seq <= position => Next::Batch(batch.from_seq(position)),
            Some(batch) if stored => Next::Behind(batch.first_seq),
            Some(batch) => Next::Batch(batch),
            None if position < signal.end => Next::Behind(signal.end),
            None => Next::Nothing,
        }
    }

    /// The channel has messages up to here, which are in the store where they are not in the tail. To be said once the
    /// follower is there: what came between a look at the channel and the follower would be told by nobody.
    pub fn reach(&self, end: u64) {
        self.tail.reach(end);
    }

    /// Counts messages that were taken out.
    pub fn taken(&self, messages: u64) {
        self.fanout.delivered.fetch_add(messages, Ordering::Relaxed);
    }

    /// The follower has everything below a position, or has judged it. Hand-offs of one that chooses are recorded
    /// before this is said.
    pub fn passed(&self, position: u64) {
        self.cursor.move_to(position);
    }

    /// One that chooses cannot take anything for the time being: nobody waits for it until it says again how far it
    /// has come.
    pub fn pause(&self) {
        self.cursor.move_to(NOWHERE);
    }

    /// Where what it chooses is handed over.
    pub fn inbox(&self) -> Inbox {
        Inbox { fanout: self.fanout.clone(), cursor: self.cursor.clone() }
    }

    #[cfg(test)]
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Whether the whole state was replaced since this was asked last: what the follower has seen may not be in it.
    pub fn is_replaced(&mut self) -> bool {
        let replaced = self.signal.borrow().replaced;
        std::mem::replace(&mut self.replaced, replaced) != replaced
    }

    /// It has looked whether its place is in the state that took the place of the one before. Until then it is handed
    /// nothing.
    pub fn looked(&self) {
        self.cursor.looked(self.replaced);
    }

    /// Waits until the channel has something beyond a position, or is gone, or the whole state was replaced.
    pub async fn changed(&mut self, position: u64) {
        let known = self.replaced;
        // The sender lives in the tail, which this follower holds.
        let more = |signal: &Signal| signal.closed || signal.end > position || signal.replaced != known;
        let _ = self.signal.wait_for(more).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.fanout.leave(self.channel, &self.tail, self.id);
    }
}
