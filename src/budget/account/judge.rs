//! Whether a connection's time is up.

use std::sync::atomic::Ordering;

use super::{
    super::{
        clocks::{Clocks, Why},
        shares::FaceName,
    },
    Account,
};

impl Account {
    /// For how long nobody has asked for anything, milliseconds; none while somebody does.
    pub(in crate::budget) fn idle(&self, now: u64) -> Option<u64> {
        (self.streams.held() == 0).then(|| now.saturating_sub(self.active.load(Ordering::Relaxed)))
    }

    /// Why its time is up, if it is.
    pub(in crate::budget) fn judge(&self, now: u64, clocks: &Clocks) -> Option<Why> {
        let since = |time: u64| now.saturating_sub(time);
        let age = since(self.opened);
        if self.monitoring && age > clocks.monitoring {
            return Some(Why::Served);
        }
        if !self.is_proven() {
            return (age > clocks.first_request).then_some(Why::FirstRequest);
        }
        if self.face.name() == FaceName::Peers {
            return None; // they look after their connections themselves
        }
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 && since(blocked) > clocks.reader {
            return Some(Why::Reader);
        }
        let unread = !self.face.name().is_framed() && self.unread.held() > 0;
        if let Some(idle) = self.idle(now) {
            let head = unread && since(self.unread_since.load(Ordering::Relaxed)) > clocks.first_request;
            return if head { Some(Why::Slow) } else { (idle > clocks.idle).then_some(Why::Idle) };
        }
        if unread && self.upgraded.load(Ordering::Acquire) {
            return self.judge_pace(now, clocks);
        }
        self.pace.0.store(0, Ordering::Relaxed);
        None
    }

    /// Whether a message over an upgraded connection comes too slowly. Only the face's clock asks.
    fn judge_pace(&self, now: u64, clocks: &Clocks) -> Option<Why> {
        let (at, heard) = (self.pace.0.load(Ordering::Relaxed), self.heard.load(Ordering::Relaxed));
        if at > 0 && now.saturating_sub(at) <= clocks.slow_ms() {
            return None;
        }
        let slow = at > 0 && heard - self.pace.1.load(Ordering::Relaxed) < clocks.least();
        self.pace.0.store(now.max(1), Ordering::Relaxed);
        self.pace.1.store(heard, Ordering::Relaxed);
        slow.then_some(Why::Slow)
    }
}
