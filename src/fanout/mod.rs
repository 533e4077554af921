//! Recent messages of each channel, for live subscribers.
//!
//! Each channel has a bounded tail of its newest batches and a signal of where it ends. Publishing never waits for a
//! follower: one that falls out of the tail is told so, and reads from the store instead. Batches stay encoded and
//! are shared, so a follower costs no copy.

mod wakes;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::wakes::{Wake, Wakes};
use crate::model::{ChannelId, StoredBatch};

/// The tails of all channels that have, or had, followers.
pub struct Fanout {
    /// Bytes that one tail may hold.
    tail_bytes: usize,
    /// Bytes that all tails may hold; beyond it every tail keeps its newest batch only.
    total_bytes: usize,
    /// Bytes in all tails.
    held: Arc<AtomicUsize>,
    tails: Mutex<HashMap<ChannelId, Arc<Tail>>>,
    /// Messages handed to followers.
    delivered: AtomicU64,
    interest: watch::Sender<()>,
    /// The next follower's id.
    next: AtomicU64,
}

/// One channel's newest messages.
struct Tail {
    recent: Mutex<Recent>,
    signal: watch::Sender<Signal>,
    /// How far each follower has come.
    followers: Mutex<HashMap<u64, Arc<AtomicU64>>>,
    /// Bytes in all tails of the node.
    held: Arc<AtomicUsize>,
}

impl Tail {
    fn interest(&self, channel: ChannelId) -> Option<Interest> {
        let followers = self.followers.lock();
        // Acquire: whoever sees how far a follower has come sees what it was handed on the way.
        let passed = followers.values().map(|passed| passed.load(Ordering::Acquire)).min()?;
        Some(Interest { channel, followers: followers.len() as u64, passed })
    }

    /// The channel ends here by now, or later.
    fn reach(&self, end: u64) {
        self.signal.send_if_modified(|signal| {
            let further = end > signal.end;
            signal.end = signal.end.max(end);
            further
        });
    }

    fn close(&self) {
        self.signal.send_modify(|signal| signal.closed = true);
    }

    fn forget(&self) {
        let recent = std::mem::take(&mut *self.recent.lock());
        self.held.fetch_sub(recent.bytes, Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.forget();
    }
}

#[derive(Default)]
struct Recent {
    batches: VecDeque<StoredBatch>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signal {
    /// Sequence number after the newest message.
    end: u64,
    /// The channel is gone.
    closed: bool,
}

/// What a follower finds at its position.
#[derive(Debug)]
pub enum Next {
    /// The next messages.
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
    passed: Arc<AtomicU64>,
}

/// Who follows a channel on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The channel.
    pub channel: ChannelId,
    /// Its live followers; never 0.
    pub followers: u64,
    /// What lies below this sequence number is settled: every follower was handed it or will never be.
    pub passed: u64,
}

impl Fanout {
    /// With room for `tail_bytes` of recent messages in each channel, and `total_bytes` in all.
    pub fn new(tail_bytes: usize, total_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            tail_bytes,
            total_bytes,
            held: Arc::default(),
            tails: Mutex::default(),
            delivered: AtomicU64::new(0),
            interest: watch::channel(()).0,
            next: AtomicU64::new(0),
        })
    }

    /// New messages; never blocks. Costs nothing for a channel that nobody follows.
    pub fn publish(&self, channel: ChannelId, batch: StoredBatch) {
        let Some(tail) = self.tails.lock().get(&channel).cloned() else { return };
        let end = batch.end_seq();
        {
            let mut recent = tail.recent.lock();
            let bytes = batch.frame.bytes().len();
            recent.bytes += bytes;
            recent.batches.push_back(batch);
            let mut held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
            // The newest batch always stays, however large.
            while (recent.bytes > self.tail_bytes || held > self.total_bytes) && recent.batches.len() > 1 {
                if let Some(oldest) = recent.batches.pop_front() {
                    let bytes = oldest.frame.bytes().len();
                    recent.bytes -= bytes;
                    held = self.held.fetch_sub(bytes, Ordering::Relaxed) - bytes;
                }
            }
        }
        tail.reach(end);
    }

    /// The channel is gone: its followers end.
    pub fn close(&self, channel: ChannelId) {
        if let Some(tail) = self.tails.lock().remove(&channel) {
            tail.close();
        }
    }

    /// The whole state was replaced. `end` says after which sequence number a channel ends now; its followers read what
    /// they miss from the store. The followers of a channel that is not there any more end.
    pub fn reset(&self, end: impl Fn(ChannelId) -> Option<u64>) {
        self.tails.lock().retain(|channel, tail| {
            tail.forget();
            let end = end(*channel);
            match end {
                Some(end) => tail.reach(end),
                None => tail.close(),
            }
            end.is_some()
        });
    }

    /// Follows a channel from now on. What it held before is for [`Follower::reach`]. Until it says otherwise, the
    /// follower may yet take any message: see [`Follower::passed`].
    pub fn follow(self: &Arc<Self>, channel: ChannelId) -> Follower {
        let (id, passed) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(AtomicU64::new(0)));
        let tail = {
            let mut tails = self.tails.lock();
            let fresh = || {
                let signal = watch::channel(Signal::default()).0;
                let (followers, held) = (Mutex::default(), self.held.clone());
                Arc::new(Tail { recent: Mutex::default(), signal, followers, held })
            };
            let tail = tails.entry(channel).or_insert_with(fresh).clone();
            tail.followers.lock().insert(id, passed.clone());
            tail
        };
        self.interest.send_modify(|()| ());
        let signal = tail.signal.subscribe();
        Follower { fanout: self.clone(), channel, tail, signal, id, passed }
    }

    /// Live followers of a channel on this node.
    pub fn followers(&self, channel: ChannelId) -> u64 {
        self.tails.lock().get(&channel).map_or(0, |tail| tail.followers.lock().len() as u64)
    }

    /// Live followers on this node.
    pub fn all_followers(&self) -> u64 {
        self.tails.lock().values().map(|tail| tail.followers.lock().len() as u64).sum()
    }

    /// Whether anybody on this node follows any channel.
    pub fn is_followed(&self) -> bool {
        !self.tails.lock().is_empty()
    }

    /// A channel's followers; none when it has none.
    pub fn interest_in(&self, channel: ChannelId) -> Option<Interest> {
        self.tails.lock().get(&channel).and_then(|tail| tail.interest(channel))
    }

    /// The followers of every channel that has any, by channel.
    pub fn interest(&self) -> Vec<Interest> {
        let tails = self.tails.lock();
        let mut interest: Vec<_> = tails.iter().filter_map(|(channel, tail)| tail.interest(*channel)).collect();
        interest.sort_unstable_by_key(|interest| interest.channel);
        interest
    }

    /// Signals whenever a channel gets or loses a follower.
    pub fn interest_changes(&self) -> watch::Receiver<()> {
        self.interest.subscribe()
    }

    /// Messages handed to followers since the start.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}

impl Follower {
    /// What is at a position. A batch may begin below it only if the position is inside the batch: it is cut then.
    pub fn at(&self, position: u64) -> Next {
        let signal = *self.signal.borrow();
        if signal.closed {
            return Next::Closed;
        }
        let recent = self.tail.recent.lock();
        let next = recent.batches.partition_point(|batch| batch.end_seq() <= position);
        match recent.batches.get(next) {
            Some(batch) if batch.first_seq <= position => Next::Batch(batch.from_seq(position)),
            Some(batch) => Next::Behind(batch.first_seq),
            None if position < signal.end => Next::Behind(signal.end),
            None => Next::Nothing,
        }
    }

    /// The channel has messages up to here, which are in the store where they are not in the tail. To be said once the
    /// follower is there: what came between a look at the channel and the follower would be told by nobody.
    pub fn reach(&self, end: u64) {
        self.tail.reach(end);
    }

    /// Counts messages that were handed on.
    pub fn handed(&self, messages: u64) {
        self.fanout.delivered.fetch_add(messages, Ordering::Relaxed);
    }

    /// The follower needs nothing below a position any more: it was handed it, or does not want it. Hand-offs are
    /// recorded before this is said.
    pub fn passed(&self, position: u64) {
        self.passed.store(position, Ordering::Release);
    }

    /// Waits until the channel has something beyond a position, or is gone.
    pub async fn changed(&mut self, position: u64) {
        // The sender lives in the tail, which this follower holds.
        let _ = self.signal.wait_for(|signal| signal.closed || signal.end > position).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut tails = self.fanout.tails.lock();
        let mut followers = self.tail.followers.lock();
        followers.remove(&self.id);
        if followers.is_empty() && tails.get(&self.channel).is_some_and(|tail| Arc::ptr_eq(tail, &self.tail)) {
            tails.remove(&self.channel);
        }
        drop((followers, tails));
        self.fanout.interest.send_modify(|()| ());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{model::Frame, proto::v1::Message};

    fn batch(first_seq: u64, count: usize) -> StoredBatch {
        let message = Message { payload: Bytes::from_static(b"0123456789"), ..Message::default() };
        StoredBatch { first_seq, time_ms: 0, schema_id: 0, expires: false, frame: Frame::encode(&vec![message; count]) }
    }

    const CHANNEL: ChannelId = ChannelId(1);

    #[test]
    fn a_follower_gets_what_is_published_after_it_came() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let follower = fanout.follow(CHANNEL);
        assert!(matches!(follower.at(5), Next::Nothing));
        fanout.publish(CHANNEL, batch(5, 3));
        assert!(matches!(follower.at(6), Next::Batch(batch) if batch.first_seq == 6 && batch.frame.count() == 2));
        assert!(matches!(follower.at(4), Next::Behind(5)));
        assert!(matches!(follower.at(8), Next::Nothing));
    }

    #[test]
    fn a_slow_follower_is_sent_to_the_store_and_the_tail_stays_bounded() {
        let fanout = Fanout::new(100, 1 << 20);
        let follower = fanout.follow(CHANNEL);
        for seq in 0..100 {
            fanout.publish(CHANNEL, batch(seq, 1));
        }
        assert!(matches!(follower.at(0), Next::Behind(first) if first > 90));
        assert!(follower.tail.recent.lock().bytes <= 100);
    }

    #[test]
    fn all_tails_together_stay_within_the_nodes_bytes() {
        let fanout = Fanout::new(1 << 20, 200);
        let followers: Vec<Follower> = (0..5).map(|channel| fanout.follow(ChannelId(channel))).collect();
        for seq in 0..100 {
            (0..5).for_each(|channel| fanout.publish(ChannelId(channel), batch(seq, 1)));
        }
        assert!(fanout.held.load(Ordering::Relaxed) <= 200);
        drop(followers);
        assert_eq!(fanout.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_channel_without_followers_keeps_nothing() {
        let fanout = Fanout::new(100, 1 << 20);
        drop(fanout.follow(CHANNEL));
        fanout.publish(CHANNEL, batch(0, 1));
        assert!(fanout.tails.lock().is_empty() && fanout.interest().is_empty());
    }

    #[test]
    fn what_all_followers_have_passed_is_settled() {
        let fanout = Fanout::new(100, 1 << 20);
        assert_eq!(fanout.interest_in(CHANNEL), None);
        let [one, other] = [fanout.follow(CHANNEL), fanout.follow(CHANNEL)];
        one.passed(7);
        assert_eq!(fanout.interest(), [Interest { channel: CHANNEL, followers: 2, passed: 0 }]);
        other.passed(9);
        assert_eq!(fanout.interest_in(CHANNEL).unwrap().passed, 7);
        drop(one);
        assert_eq!(fanout.interest_in(CHANNEL).unwrap().passed, 9);
    }

    #[tokio::test]
    async fn a_replaced_state_wakes_the_followers_that_it_brings_something_and_ends_those_of_channels_that_are_gone() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let [mut behind, mut gone] = [CHANNEL, ChannelId(2)].map(|channel| fanout.follow(channel));
        behind.reach(3);
        gone.reach(3);
        fanout.reset(|channel| (channel == CHANNEL).then_some(5));
        behind.changed(3).await;
        assert!(matches!(behind.at(3), Next::Behind(5)));
        gone.changed(3).await;
        assert!(matches!(gone.at(3), Next::Closed));
        assert_eq!(fanout.followers(ChannelId(2)), 0);
        fanout.publish(CHANNEL, batch(5, 1));
        assert!(matches!(behind.at(5), Next::Batch(_)));
    }

    #[tokio::test]
    async fn what_was_there_before_a_follower_is_told_once_it_says_where_the_channel_ends() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let mut follower = fanout.follow(CHANNEL);
        follower.reach(2);
        follower.changed(1).await;
        assert!(matches!(follower.at(1), Next::Behind(2)));
        follower.reach(1);
        assert!(matches!(follower.at(2), Next::Nothing), "it never goes back");
    }

    #[tokio::test]
    async fn a_deleted_channel_ends_its_followers() {
        let fanout = Fanout::new(100, 1 << 20);
        let mut follower = fanout.follow(CHANNEL);
        fanout.close(CHANNEL);
        follower.changed(0).await;
        assert!(matches!(follower.at(0), Next::Closed));
    }
}
