//! One channel's newest messages, and where each of its followers stands: what decides, as a batch comes, whether it
//! is handed to anybody.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Interest, Taking};
use crate::model::{ChannelId, Durability, StoredBatch};

/// The place of a follower that takes nothing for the time being.
pub(super) const NOWHERE: u64 = u64::MAX;

/// How much may be held.
pub(super) struct Room {
    /// Bytes of one tail, or of one inbox of an ephemeral channel.
    pub(super) tail_bytes: usize,
    /// Bytes of all together; beyond it each keeps its newest batch only.
    pub(super) total_bytes: usize,
    /// Bytes that are held now.
    pub(super) held: Arc<AtomicUsize>,
}

/// One channel's newest messages and its followers.
pub(super) struct Tail {
    durability: Durability,
    /// Of a durable channel: an inbox of all followers together. Locked before anything else of the tail.
    recent: Mutex<Queue>,
    pub(super) signal: watch::Sender<Signal>,
    followers: Mutex<HashMap<u64, Arc<Cursor>>>,
    held: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    /// Sequence number after the newest message.
    pub(super) end: u64,
    /// The channel is gone.
    pub(super) closed: bool,
    /// How often the whole state was replaced by another one.
    pub(super) replaced: u64,
}

/// Where a follower stands.
pub(super) struct Cursor {
    taking: Taking,
    /// It has, or has judged, everything below it; or is [`NOWHERE`].
    place: AtomicU64,
    /// What it was handed and has not taken out. Who takes all of a durable channel needs none: there is the tail.
    inbox: Mutex<Queue>,
    /// Of an ephemeral channel: what one that chooses has not judged.
    unjudged: Mutex<Queue>,
}

/// Batches in order. Its bytes count among those that are held.
struct Queue {
    batches: VecDeque<StoredBatch>,
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Queue {
    fn new(held: Arc<AtomicUsize>) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, held }
    }

    fn push(&mut self, batch: StoredBatch) {
        let bytes = batch.frame.bytes().len();
        self.bytes += bytes;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.batches.push_back(batch);
    }

    /// The same, if there is room.
    fn offer(&mut self, batch: &StoredBatch, room: &Room) -> bool {
        let fits = self.has_room(batch.frame.bytes().len(), room);
        if fits {
            self.push(batch.clone());
        }
        fits
    }

    fn pop(&mut self) -> Option<StoredBatch> {
        let oldest = self.batches.pop_front()?;
        let bytes = oldest.frame.bytes().len();
        self.bytes -= bytes;
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        Some(oldest)
    }

    fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    fn exceeds(&self, room: &Room) -> bool {
        self.bytes > room.tail_bytes || self.held.load(Ordering::Relaxed) > room.total_bytes
    }

    fn has_room(&self, bytes: usize, room: &Room) -> bool {
        self.batches.is_empty()
            || self.bytes + bytes <= room.tail_bytes && self.held.load(Ordering::Relaxed) + bytes <= room.total_bytes
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Cursor {
    pub(super) fn move_to(&self, place: u64) {
        self.place.store(place, Ordering::Release);
    }

    fn place(&self) -> u64 {
        // Acquire: whoever sees how far a follower has come sees what it was handed on the way.
        self.place.load(Ordering::Acquire)
    }

    /// Where batches of an ephemeral channel come in.
    fn incoming(&self) -> &Mutex<Queue> {
        match self.taking {
            Taking::All => &self.inbox,
            Taking::Some => &self.unjudged,
        }
    }

    /// The first batch that came in and goes beyond a position; what lies below is taken out.
    pub(super) fn first(&self, position: u64) -> Option<StoredBatch> {
        let mut incoming = self.incoming().lock();
        while incoming.batches.front().is_some_and(|batch| batch.end_seq() <= position) {
            incoming.pop();
        }
        incoming.batches.front().cloned()
    }

    /// Puts what a follower chose into its inbox, unless that is full.
    pub(super) fn offer(&self, batch: &StoredBatch, room: &Room) -> bool {
        self.inbox.lock().offer(batch, room)
    }

    /// What a follower chose, in order.
    pub(super) fn take(&self) -> Option<StoredBatch> {
        self.inbox.lock().pop()
    }
}

impl Tail {
    pub(super) fn new(durability: Durability, held: Arc<AtomicUsize>) -> Self {
        Self {
            durability,
            recent: Mutex::new(Queue::new(held.clone())),
            signal: watch::channel(Signal::default()).0,
            followers: Mutex::default(),
            held,
        }
    }

    pub(super) fn admit(&self, id: u64, taking: Taking) -> Arc<Cursor> {
        let queue = || Mutex::new(Queue::new(self.held.clone()));
        let cursor = Cursor { taking, place: AtomicU64::new(NOWHERE), inbox: queue(), unjudged: queue() };
        let cursor = Arc::new(cursor);
        self.followers.lock().insert(id, cursor.clone());
        cursor
    }

    /// Whether nobody follows any more.
    pub(super) fn dismiss(&self, id: u64) -> bool {
        let mut followers = self.followers.lock();
        followers.remove(&id);
        followers.is_empty()
    }

    pub(super) fn followers(&self) -> u64 {
        self.followers.lock().len() as u64
    }

    pub(super) fn is_stored(&self) -> bool {
        self.durability == Durability::Durable
    }

    /// Takes a new batch in. Whether a follower that takes everything has it now.
    pub(super) fn push(&self, batch: StoredBatch, room: &Room) -> bool {
        let mut recent = self.recent.lock();
        if !self.is_stored() {
            return self.hand_out(&batch, room);
        }
        let end = batch.end_seq();
        recent.push(batch);
        // The newest batch always stays, however large.
        while recent.exceeds(room) && recent.batches.len() > 1 {
            recent.pop();
        }
        let begins = recent.batches.front().map_or(end, |first| first.first_seq);
        let followers = self.followers.lock();
        followers.values().any(|follower| follower.taking == Taking::All && (begins..end).contains(&follower.place()))
    }

    /// Puts a batch into every inbox that has room.
    fn hand_out(&self, batch: &StoredBatch, room: &Room) -> bool {
        let mut handed = false;
        for follower in self.followers.lock().values() {
            // One that chooses says itself where it stands.
            let begun = follower.taking == Taking::Some || follower.place() < batch.end_seq();
            if begun && follower.incoming().lock().offer(batch, room) {
                handed |= follower.taking == Taking::All;
            }
        }
        handed
    }

    /// Lets a follower begin at a place, or behind everything that came before this moment.
    pub(super) fn begin(&self, cursor: &Cursor, place: Option<u64>, applied: u64) -> u64 {
        let recent = self.recent.lock();
        let newest = recent.batches.back().map_or(0, StoredBatch::end_seq);
        let end = newest.max(applied).max(self.signal.borrow().end);
        let place = place.unwrap_or(end);
        cursor.move_to(place);
        place
    }

    pub(super) fn interest(&self, channel: ChannelId) -> Option<Interest> {
        let recent = self.recent.lock();
        let end = self.signal.borrow().end;
        let begins = recent.batches.front().map_or(end, |first| first.first_seq);
        let followers = self.followers.lock();
        let (mut passed, mut lagging) = (end, false);
        for follower in followers.values() {
            let place = follower.place();
            match follower.taking {
                Taking::All => lagging |= self.is_stored() && (place == NOWHERE || place < begins),
                Taking::Some if place == NOWHERE => lagging = true,
                Taking::Some => passed = passed.min(place),
            }
        }
        (!followers.is_empty()).then(|| Interest { channel, followers: followers.len() as u64, passed, lagging })
    }

    /// The batch of a durable channel that holds a position, or the first behind it.
    pub(super) fn recent(&self, position: u64) -> Option<StoredBatch> {
        let recent = self.recent.lock();
        let next = recent.batches.partition_point(|batch| batch.end_seq() <= position);
        recent.batches.get(next).cloned()
    }

    /// The channel ends here by now, or later.
    pub(super) fn reach(&self, end: u64) {
        self.signal.send_if_modified(|signal| {
            let further = end > signal.end;
            signal.end = signal.end.max(end);
            further
        });
    }

    /// Another state took the place of this one: the channel ends here now, also where that is earlier.
    pub(super) fn replace(&self, end: u64) {
        self.signal.send_modify(|signal| {
            signal.end = end;
            signal.replaced += 1;
        });
    }

    pub(super) fn close(&self) {
        self.signal.send_modify(|signal| signal.closed = true);
    }

    pub(super) fn forget(&self) {
        self.recent.lock().clear();
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.recent.lock().bytes
    }
}
