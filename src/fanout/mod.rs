//! Recent messages of each channel, for live subscribers.
//!
//! Each channel has a bounded tail of its newest batches and a signal of where it ends. Publishing never waits for a
//! follower. A follower has an *inbox*: what lies between its place and the end of the tail, or on an ephemeral channel
//! a queue of its own. A new batch that the inbox has room for is handed to the follower there and then, whether it
//! looks or not; one that finds the inbox full is not, and who falls out of a tail reads from the store. Batches stay
//! encoded and are shared, so a follower costs no copy.

mod follower;
mod tail;
mod wakes;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use self::tail::{Room, Tail};
pub use self::{
    follower::{Follower, Inbox, Next, Taking},
    wakes::{Wake, Wakes},
};
use crate::model::{ChannelId, Durability, StoredBatch};

/// The tails of all channels that have, or had, followers.
pub struct Fanout {
    room: Room,
    tails: Mutex<HashMap<ChannelId, Arc<Tail>>>,
    /// Messages handed to followers.
    delivered: AtomicU64,
    interest: watch::Sender<()>,
    /// The next follower's id.
    next: AtomicU64,
    /// Who wants to know what becomes of new messages.
    observer: OnceLock<Arc<dyn Observer>>,
}

/// Who wants to know what becomes of new messages. Called while they are applied: it must not wait.
pub trait Observer: Send + Sync {
    /// These messages are in the inbox of a follower of this node.
    fn handed(&self, channel: ChannelId, range: Range<u64>);
    /// All followers of this node have passed further messages.
    fn settled(&self);
}

/// Who follows a channel on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The channel.
    pub channel: ChannelId,
    /// Its live followers; never 0.
    pub followers: u64,
    /// What lies below this sequence number is settled: it is known whether a follower was handed it.
    pub passed: u64,
    /// A follower reads from the store what it was not handed: it may see it later.
    pub lagging: bool,
}

impl Fanout {
    /// With room for `tail_bytes` of recent messages in each channel, and `total_bytes` in all.
    pub fn new(tail_bytes: usize, total_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Room { tail_bytes, total_bytes, held: Arc::new(AtomicUsize::new(0)) },
            tails: Mutex::default(),
            delivered: AtomicU64::new(0),
            interest: watch::channel(()).0,
            next: AtomicU64::new(0),
            observer: OnceLock::new(),
        })
    }

    /// Tells somebody from now on what becomes of new messages. There is one observer.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A second broker over one replica does not happen.
        let _ = self.observer.set(observer);
    }

    /// New messages; never blocks. Costs nothing for a channel that nobody follows. Says whether a follower of this node has
    /// them in its inbox now.
    pub fn publish(&self, channel: ChannelId, batch: StoredBatch) -> bool {
        let Some(tail) = self.tails.lock().get(&channel).cloned() else { return false };
        let range = batch.first_seq..batch.end_seq();
        let end = range.end;
        let handed = tail.push(batch, &self.room);
        let observer = self.observer.get();
        // First the hand-off: who sees how far the channel has come sees what was handed on the way.
        if let Some(observer) = observer.filter(|_| handed) {
            observer.handed(channel, range);
        }
        tail.published(end);
        if let Some(observer) = observer.filter(|_| !handed) {
            observer.settled();
        }
        handed
    }

    /// The channel is gone: its followers end.
    pub fn close(&self, channel: ChannelId) {
        if let Some(tail) = self.tails.lock().remove(&channel) {
            tail.close();
        }
    }

    /// The whole state was replaced. `end` says after which sequence number a channel ends now; its followers look whether
    /// their history is still the channel's, and read what they miss from the store. The followers of a channel that is
    /// not there any more end.
    pub fn reset(&self, end: impl Fn(ChannelId) -> Option<u64>) {
        self.tails.lock().retain(|channel, tail| {
            tail.forget();
            let end = end(*channel);
            match end {
                Some(end) => tail.replace(end),
                None => tail.close(),
            }
            end.is_some()
        });
    }

    /// Follows a channel from now on. The follower takes nothing before it says where it begins: [`Follower::begin`].
    pub fn follow(self: &Arc<Self>, channel: ChannelId, durability: Durability, taking: Taking) -> Follower {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tail, cursor) = {
            let mut tails = self.tails.lock();
            let tail = tails.entry(channel).or_insert_with(|| Arc::new(Tail::new(durability))).clone();
            let cursor = tail.admit(id, taking);
            (tail, cursor)
        };
        self.interest.send_modify(|()| ());
        Follower::new(self.clone(), channel, tail, id, cursor)
    }

    /// Live followers of a channel on this node.
    pub fn followers(&self, channel: ChannelId) -> u64 {
        self.tails.lock().get(&channel).map_or(0, |tail| tail.followers())
    }

    /// Live followers on this node.
    pub fn all_followers(&self) -> u64 {
        self.tails.lock().values().map(|tail| tail.followers()).sum()
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

    fn leave(&self, channel: ChannelId, tail: &Arc<Tail>, id: u64) {
        let mut tails = self.tails.lock();
        if tail.dismiss(id) && tails.get(&channel).is_some_and(|present| Arc::ptr_eq(present, tail)) {
            tails.remove(&channel);
        }
        drop(tails);
        self.interest.send_modify(|()| ());
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

    /// A follower of a durable channel that takes everything from the first message on.
    fn follow(fanout: &Arc<Fanout>, channel: ChannelId) -> Follower {
        let follower = fanout.follow(channel, Durability::Durable, Taking::All);
        follower.begin(Some(0), 0);
        follower
    }

    /// What the observer was told of hand-offs.
    #[derive(Default)]
    struct Told(Mutex<Vec<Range<u64>>>);

    impl Observer for Told {
        fn handed(&self, _: ChannelId, range: Range<u64>) {
            self.0.lock().push(range);
        }

        fn settled(&self) {}
    }

    fn observed(fanout: &Fanout) -> Arc<Told> {
        let told = Arc::new(Told::default());
        fanout.observe(told.clone());
        told
    }

    #[test]
    fn a_follower_gets_what_is_published_after_it_came() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let follower = follow(&fanout, CHANNEL);
        assert!(matches!(follower.at(5), Next::Nothing));
        fanout.publish(CHANNEL, batch(5, 3));
        assert!(matches!(follower.at(6), Next::Batch(batch) if batch.first_seq == 6 && batch.frame.count() == 2));
        assert!(matches!(follower.at(4), Next::Behind(5)));
        assert!(matches!(follower.at(8), Next::Nothing));
    }

    #[test]
    fn a_slow_follower_is_sent_to_the_store_and_the_tail_stays_bounded() {
        let fanout = Fanout::new(100, 1 << 20);
        let follower = follow(&fanout, CHANNEL);
        for seq in 0..100 {
            fanout.publish(CHANNEL, batch(seq, 1));
        }
        assert!(matches!(follower.at(0), Next::Behind(first) if first > 90));
        assert!(follower.tail_bytes() <= 100);
    }

    #[test]
    fn all_tails_together_stay_within_the_nodes_bytes() {
        let fanout = Fanout::new(1 << 20, 200);
        let followers: Vec<Follower> = (0..5).map(|channel| follow(&fanout, ChannelId(channel))).collect();
        for seq in 0..100 {
            (0..5).for_each(|channel| {
                fanout.publish(ChannelId(channel), batch(seq, 1));
            });
        }
        assert!(fanout.room.held.load(Ordering::Relaxed) <= 200);
        drop(followers);
        assert_eq!(fanout.room.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_channel_without_followers_keeps_nothing() {
        let fanout = Fanout::new(100, 1 << 20);
        drop(follow(&fanout, CHANNEL));
        fanout.publish(CHANNEL, batch(0, 1));
        assert!(fanout.tails.lock().is_empty() && fanout.interest().is_empty());
    }

    #[test]
    fn a_follower_is_handed_what_comes_whether_it_looks_or_not_until_its_inbox_is_full() {
        let fanout = Fanout::new(100, 1 << 20);
        let told = observed(&fanout);
        let follower = follow(&fanout, CHANNEL);
        (0..3).for_each(|seq| {
            fanout.publish(CHANNEL, batch(seq, 1));
        });
        assert_eq!(*told.0.lock(), [0..1, 1..2, 2..3]);
        (3..50).for_each(|seq| {
            fanout.publish(CHANNEL, batch(seq, 1));
        });
        let handed = told.0.lock().len();
        assert!((3..50).contains(&handed), "{handed}");
        assert!(fanout.interest_in(CHANNEL).unwrap().lagging, "it will read the rest from the store");
        // Once it has read that, it is handed again what comes.
        follower.passed(50);
        fanout.publish(CHANNEL, batch(50, 1));
        assert_eq!(told.0.lock().last(), Some(&(50..51)));
        assert!(!fanout.interest_in(CHANNEL).unwrap().lagging);
    }

    #[test]
    fn an_ephemeral_inbox_keeps_what_it_was_handed_and_loses_what_it_had_no_room_for() {
        let fanout = Fanout::new(100, 1 << 20);
        let told = observed(&fanout);
        let new = || fanout.follow(CHANNEL, Durability::Ephemeral, Taking::All);
        let [stalled, quick] = [new(), new()];
        stalled.begin(None, 0);
        quick.begin(None, 0);
        for seq in 0..50 {
            fanout.publish(CHANNEL, batch(seq, 1));
            assert!(matches!(quick.at(seq), Next::Batch(batch) if batch.first_seq == seq));
            quick.passed(seq + 1);
        }
        assert_eq!(told.0.lock().len(), 50, "the quick one was handed all");
        let mut position = 0;
        while let Next::Batch(batch) = stalled.at(position) {
            assert_eq!(batch.first_seq, position, "from the first on, without a gap");
            position = batch.end_seq();
        }
        assert!((1..50).contains(&position));
        assert!(matches!(stalled.at(position), Next::Behind(50)));
        drop((stalled, quick));
        assert_eq!(fanout.room.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn stalled_followers_of_an_ephemeral_channel_hold_its_messages_once() {
        let fanout = Fanout::new(100, 200);
        let stalled: Vec<Follower> =
            (0..8).map(|_| fanout.follow(CHANNEL, Durability::Ephemeral, Taking::All)).collect();
        for follower in &stalled {
            follower.begin(None, 0);
        }
        (0..50).for_each(|seq| {
            fanout.publish(CHANNEL, batch(seq, 1));
        });
        let held = fanout.room.held.load(Ordering::Relaxed);
        assert!((50..=100).contains(&held), "as much as one of them may hold: {held}");
        drop(stalled);
        assert_eq!(fanout.room.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_read_a_message_from_the_store_before_it_came_through_the_fan_out_was_handed_it() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let told = observed(&fanout);
        let follower = fanout.follow(CHANNEL, Durability::Durable, Taking::All);
        follower.begin(None, 3);
        follower.passed(4);
        fanout.publish(CHANNEL, batch(3, 1));
        assert_eq!(*told.0.lock(), std::slice::from_ref(&(3..4)));
    }

    #[test]
    fn a_follower_that_begins_at_the_end_is_handed_nothing_that_came_before() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let told = observed(&fanout);
        let follower = fanout.follow(CHANNEL, Durability::Durable, Taking::All);
        fanout.publish(CHANNEL, batch(0, 2));
        assert_eq!(follower.begin(None, 1), 2);
        // The machine is ahead of the fan-out.
        assert_eq!(follower.begin(None, 4), 4);
        fanout.publish(CHANNEL, batch(2, 2));
        assert!(told.0.lock().is_empty());
        fanout.publish(CHANNEL, batch(4, 1));
        assert_eq!(*told.0.lock(), std::slice::from_ref(&(4..5)));
    }

    #[test]
    fn what_is_applied_and_has_yet_to_go_through_the_fan_out_is_not_settled_by_another_follower_that_comes() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let told = observed(&fanout);
        let new = || fanout.follow(CHANNEL, Durability::Durable, Taking::All);
        let [first, second] = [new(), new()];
        first.begin(None, 3);
        // Message 3 is applied by now.
        second.reach(4);
        second.begin(None, 4);
        assert_eq!(fanout.interest_in(CHANNEL).unwrap().passed, 3);
        fanout.publish(CHANNEL, batch(3, 1));
        assert_eq!(*told.0.lock(), std::slice::from_ref(&(3..4)));
        assert_eq!(fanout.interest_in(CHANNEL).unwrap().passed, 4);
    }

    #[test]
    fn for_one_that_chooses_it_is_known_when_it_has_judged() {
        let fanout = Fanout::new(100, 1 << 20);
        assert_eq!(fanout.interest_in(CHANNEL), None);
        let new = || fanout.follow(CHANNEL, Durability::Durable, Taking::Some);
        let [one, other] = [new(), new()];
        assert_eq!(fanout.interest_in(CHANNEL).unwrap().passed, 0);
        one.reach(9);
        one.begin(Some(7), 9);
        let interest = |passed, lagging| Interest { channel: CHANNEL, followers: 2, passed, lagging };
        assert_eq!(fanout.interest(), [interest(7, true)], "nobody waits for one that has not begun");
        other.begin(Some(8), 9);
        assert_eq!(fanout.interest(), [interest(7, false)]);
        one.pause();
        assert_eq!(fanout.interest_in(CHANNEL).unwrap(), interest(8, true));
        drop(one);
        assert_eq!(fanout.interest_in(CHANNEL).unwrap().passed, 8);
    }

    #[tokio::test]
    async fn a_replaced_state_wakes_the_followers_that_it_brings_something_and_ends_those_of_channels_that_are_gone() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let [mut behind, mut gone] = [CHANNEL, ChannelId(2)].map(|channel| follow(&fanout, channel));
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
    async fn a_follower_learns_once_that_the_state_was_replaced_also_by_one_that_ends_earlier() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let mut follower = follow(&fanout, CHANNEL);
        follower.reach(9);
        assert!(!follower.is_replaced());
        fanout.reset(|_| Some(5));
        follower.changed(9).await;
        assert_eq!((follower.is_replaced(), follower.is_replaced()), (true, false));
        assert!(matches!(follower.at(5), Next::Nothing));
        assert!(matches!(follower.at(4), Next::Behind(5)));
    }

    #[test]
    fn a_follower_that_has_yet_to_look_at_another_state_is_handed_nothing() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let told = observed(&fanout);
        let mut follower = follow(&fanout, CHANNEL);
        follower.passed(5);
        fanout.reset(|_| Some(5));
        fanout.publish(CHANNEL, batch(5, 1));
        assert!(told.0.lock().is_empty(), "it may find that its history is another one");
        assert!(fanout.interest_in(CHANNEL).unwrap().lagging);
        assert!(follower.is_replaced());
        follower.looked();
        fanout.publish(CHANNEL, batch(6, 1));
        assert_eq!(told.0.lock().as_slice(), std::slice::from_ref(&(6..7)));
        assert!(!fanout.interest_in(CHANNEL).unwrap().lagging);
    }

    #[tokio::test]
    async fn what_was_there_before_a_follower_is_told_once_it_says_where_the_channel_ends() {
        let fanout = Fanout::new(1 << 20, 1 << 20);
        let mut follower = follow(&fanout, CHANNEL);
        follower.reach(2);
        follower.changed(1).await;
        assert!(matches!(follower.at(1), Next::Behind(2)));
        follower.reach(1);
        assert!(matches!(follower.at(2), Next::Nothing), "it never goes back");
    }

    #[tokio::test]
    async fn a_deleted_channel_ends_its_followers() {
        let fanout = Fanout::new(100, 1 << 20);
        let mut follower = follow(&fanout, CHANNEL);
        fanout.close(CHANNEL);
        follower.changed(0).await;
        assert!(matches!(follower.at(0), Next::Closed));
    }
}
