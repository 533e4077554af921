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

impl Room {
    /// Whether what is held, with what was counted last, is within the bounds of all together.
    fn has_bytes(&self) -> bool {
        self.held.load(Ordering::Relaxed) <= self.total_bytes
    }
}

/// One channel's newest messages and its followers.
pub(super) struct Tail {
    durability: Durability,
    /// Of a durable channel: an inbox of all followers together. Locked before anything else of the tail.
    recent: Mutex<Queue>,
    pub(super) signal: watch::Sender<Signal>,
    /// What lies below it went through the fan-out, or came with a snapshot. The signal may say more: a follower that
    /// comes knows what is applied, of which some has yet to go through.
    published: AtomicU64,
    followers: Mutex<HashMap<u64, Arc<Cursor>>>,
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
    /// Where it began: what lies below it is nothing to it.
    begun: AtomicU64,
    /// It has, or has judged, everything below it; or is [`NOWHERE`].
    place: AtomicU64,
    /// Which state its place is in: see [`Signal::replaced`].
    looked: AtomicU64,
    /// What it was handed and has not taken out. Who takes all of a durable channel needs none: there is the tail.
    inbox: Mutex<Queue>,
    /// Of an ephemeral channel: what one that chooses has not judged.
    unjudged: Mutex<Queue>,
}

/// A batch whose bytes count among those that are held: once, however many inboxes it is in.
#[derive(Clone)]
struct HeldBatch {
    batch: StoredBatch,
    _counted: Arc<Counted>,
}

struct Counted {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl HeldBatch {
    fn new(batch: StoredBatch, held: &Arc<AtomicUsize>) -> Self {
        let bytes = batch.frame.len();
        held.fetch_add(bytes, Ordering::Relaxed);
        Self { batch, _counted: Arc::new(Counted { bytes, held: held.clone() }) }
    }

    fn bytes(&self) -> usize {
        self.batch.frame.len()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Batches in order.
#[derive(Default)]
struct Queue {
    batches: VecDeque<HeldBatch>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, batch: HeldBatch) {
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    /// The same, if there is room.
    fn offer(&mut self, batch: &HeldBatch, room: &Room) -> bool {
        let fits = self.bytes + batch.bytes() <= room.tail_bytes && room.has_bytes();
        let taken = fits || self.batches.is_empty();
        if taken {
            self.push(batch.clone());
        }
        taken
    }

    fn pop(&mut self) -> Option<StoredBatch> {
        let oldest = self.batches.pop_front()?;
        self.bytes -= oldest.bytes();
        Some(oldest.batch)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn first(&self) -> Option<&StoredBatch> {
        self.batches.front().map(|held| &held.batch)
    }

    fn last(&self) -> Option<&StoredBatch> {
        self.batches.back().map(|held| &held.batch)
    }
}

impl Cursor {
    pub(super) fn move_to(&self, place: u64) {
        // Back only where another state, which ends earlier, took the place of the one before.
        if place < self.begun() {
            self.begun.store(place, Ordering::Release);
        }
        self.place.store(place, Ordering::Release);
    }

    fn place(&self) -> u64 {
        // Acquire: whoever sees how far a follower has come sees what it was handed on the way.
        self.place.load(Ordering::Acquire)
    }

    /// It has looked whether its place is in the state that took the place of the one before.
    pub(super) fn looked(&self, replaced: u64) {
        self.looked.store(replaced, Ordering::Release);
    }

    /// Which state it has looked at.
    pub(super) fn looked_at(&self) -> u64 {
        self.looked.load(Ordering::Acquire)
    }

    fn has_looked(&self, replaced: u64) -> bool {
        self.looked_at() == replaced
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
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
        while incoming.first().is_some_and(|batch| batch.end_seq() <= position) {
            incoming.pop();
        }
        incoming.first().cloned()
    }

    /// Puts what a follower chose into its inbox, unless that is full.
    pub(super) fn offer(&self, batch: &StoredBatch, room: &Room) -> bool {
        self.inbox.lock().offer(&HeldBatch::new(batch.clone(), &room.held), room)
    }

    /// What a follower chose, in order.
    pub(super) fn take(&self) -> Option<StoredBatch> {
        self.inbox.lock().pop()
    }
}

impl Tail {
    pub(super) fn new(durability: Durability) -> Self {
        Self {
            durability,
            recent: Mutex::default(),
            signal: watch::channel(Signal::default()).0,
            published: AtomicU64::new(0),
            followers: Mutex::default(),
        }
    }

    pub(super) fn admit(&self, id: u64, taking: Taking) -> Arc<Cursor> {
        let [begun, place, looked] = [0, NOWHERE, self.signal.borrow().replaced].map(AtomicU64::new);
        let cursor = Cursor { taking, begun, place, looked, inbox: Mutex::default(), unjudged: Mutex::default() };
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
        let batch = HeldBatch::new(batch, &room.held);
        if !self.is_stored() {
            return self.hand_out(&batch, room);
        }
        let end = batch.batch.end_seq();
        recent.push(batch);
        // The newest batch always stays, however large.
        while recent.batches.len() > 1 && (recent.bytes > room.tail_bytes || !room.has_bytes()) {
            recent.pop();
        }
        let begins = recent.first().map_or(end, |first| first.first_seq);
        let replaced = self.signal.borrow().replaced;
        // One that is beyond it already, and began before it, has read it from the store. One that has not looked at the
        // state that it comes with may find that its history is another one, and end.
        let has_it = |follower: &Cursor| {
            let in_step = follower.place() != NOWHERE && follower.place() >= begins && follower.begun() < end;
            in_step && follower.has_looked(replaced)
        };
        let followers = self.followers.lock();
        followers.values().any(|follower| follower.taking == Taking::All && has_it(follower))
    }

    /// Puts a batch into every inbox that has room.
    fn hand_out(&self, batch: &HeldBatch, room: &Room) -> bool {
        let mut handed = false;
        for follower in self.followers.lock().values() {
            // One that chooses says itself where it stands.
            let begun = follower.taking == Taking::Some || follower.place() < batch.batch.end_seq();
            if begun && follower.incoming().lock().offer(batch, room) {
                handed |= follower.taking == Taking::All;
            }
        }
        handed
    }

    /// Lets a follower begin at a place, or behind everything that came before this moment.
    pub(super) fn begin(&self, cursor: &Cursor, place: Option<u64>, applied: u64) -> u64 {
        let recent = self.recent.lock();
        let newest = recent.last().map_or(0, StoredBatch::end_seq);
        let end = newest.max(applied).max(self.signal.borrow().end);
        let place = place.unwrap_or(end);
        cursor.begun.store(place, Ordering::Release);
        cursor.move_to(place);
        place
    }

    pub(super) fn interest(&self, channel: ChannelId) -> Option<Interest> {
        let recent = self.recent.lock();
        let Signal { end, replaced, .. } = *self.signal.borrow();
        let published = self.published.load(Ordering::Acquire);
        let begins = recent.first().map_or(end, |first| first.first_seq);
        let followers = self.followers.lock();
        let (mut passed, mut lagging) = (end, false);
        for follower in followers.values() {
            let place = follower.place();
            match follower.taking {
                Taking::All if place == NOWHERE => lagging |= self.is_stored(),
                // It is handed what comes as it comes through the fan-out, and nothing from before it began.
                Taking::All => {
                    lagging |= self.is_stored() && (place < begins || !follower.has_looked(replaced));
                    passed = passed.min(published.max(follower.begun()));
                }
                Taking::Some if place == NOWHERE => lagging = true,
                Taking::Some => passed = passed.min(place),
            }
        }
        (!followers.is_empty()).then(|| Interest { channel, followers: followers.len() as u64, passed, lagging })
    }

    /// The batch of a durable channel that holds a position, or the first behind it.
    pub(super) fn recent(&self, position: u64) -> Option<StoredBatch> {
        let recent = self.recent.lock();
        let next = recent.batches.partition_point(|held| held.batch.end_seq() <= position);
        recent.batches.get(next).map(|held| held.batch.clone())
    }

    /// The channel ends here by now, or later.
    pub(super) fn reach(&self, end: u64) {
        self.signal.send_if_modified(|signal| {
            let further = end > signal.end;
            signal.end = signal.end.max(end);
            further
        });
    }

    /// What lies below went through the fan-out, or came with a snapshot.
    pub(super) fn published(&self, end: u64) {
        self.published.fetch_max(end, Ordering::AcqRel);
        self.reach(end);
    }

    /// Another state took the place of this one: the channel ends here now, also where that is earlier.
    pub(super) fn replace(&self, end: u64) {
        self.published.store(end, Ordering::Release);
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
