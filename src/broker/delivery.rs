//! Whether a publish was handed to a live subscriber anywhere in the cluster.
//!
//! The leader knows which channels have followers on which nodes (their *interest*), and hears what they were handed.
//! After a commit it answers `true` at the first hand-off of the batch's last message by any node, `false` once no
//! node has interest in the channel, and nothing when neither is certain in time. A node's interest counts until the
//! node takes it back or is silent for [`EXPIRY`]. `subscribe` returns only after the leader has taken the interest
//! in, so a publish that begins later waits for that subscriber.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Broker, Leader, forward::Request};
use crate::{fanout::Fanout, model::ChannelId};

/// A node that has interest repeats it this often.
const REFRESH: Duration = Duration::from_secs(1);
/// A node that is silent for so long has no interest any more.
const EXPIRY: Duration = Duration::from_secs(3);
/// Separate hand-off ranges remembered for a channel; followers in step need one.
const MAX_RANGES: usize = 64;

pub(super) struct Delivery {
    local: u64,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Hand-offs of this node that the leader has not heard of.
    pending: Mutex<BTreeMap<ChannelId, Range<u64>>>,
    to_report: watch::Sender<()>,
    /// Held while a report is on its way.
    reporting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    interest: HashMap<u64, (Instant, HashMap<ChannelId, u64>)>,
    handed: HashMap<ChannelId, Vec<Range<u64>>>,
}

impl Delivery {
    pub(super) fn new(local: u64) -> Self {
        Self {
            local,
            state: Mutex::default(),
            changed: watch::channel(()).0,
            pending: Mutex::default(),
            to_report: watch::channel(()).0,
            reporting: tokio::sync::Mutex::default(),
        }
    }

    /// A follower of this node was handed these messages.
    pub(super) fn handed(&self, channel: ChannelId, range: Range<u64>) {
        self.record(channel, range.clone());
        let mut pending = self.pending.lock();
        let whole = pending.entry(channel).or_insert(range.clone());
        *whole = whole.start.min(range.start)..whole.end.max(range.end);
        drop(pending);
        self.to_report.send_modify(|()| ());
    }

    /// Another node says what its followers follow and were handed.
    pub(super) fn heard(&self, node: u64, interest: Vec<(ChannelId, u64)>, handed: Vec<(ChannelId, Range<u64>)>) {
        for (channel, range) in handed {
            self.record(channel, range);
        }
        // After the hand-offs: who waits must not see the interest gone before it sees them.
        self.state.lock().interest.insert(node, (Instant::now(), interest.into_iter().collect()));
        self.changed.send_modify(|()| ());
    }

    fn record(&self, channel: ChannelId, range: Range<u64>) {
        let mut state = self.state.lock();
        let ranges = state.handed.entry(channel).or_default();
        match ranges.iter_mut().find(|known| known.start <= range.end && range.start <= known.end) {
            Some(known) => *known = known.start.min(range.start)..known.end.max(range.end),
            None => ranges.push(range),
        }
        if ranges.len() > MAX_RANGES {
            ranges.remove(0);
        }
        drop(state);
        self.changed.send_modify(|()| ());
    }

    /// Waits until it is known whether messages that were just committed were handed on.
    pub(super) async fn wait(
        &self,
        fanout: &Fanout,
        channel: ChannelId,
        range: Range<u64>,
        limit: Duration,
    ) -> Option<bool> {
        let deadline = Instant::now() + limit;
        let mut changed = self.changed.subscribe();
        let mut interest = fanout.interest_changes();
        let last = range.end - 1;
        loop {
            {
                let mut state = self.state.lock();
                if state.handed.get(&channel).is_some_and(|ranges| ranges.iter().any(|known| known.contains(&last))) {
                    return Some(true);
                }
                state.interest.retain(|node, (heard, _)| *node != self.local && heard.elapsed() < EXPIRY);
                let elsewhere = state.interest.values().any(|(_, channels)| channels.contains_key(&channel));
                if !elsewhere && fanout.followers(channel) == 0 {
                    return Some(false);
                }
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = interest.changed() => {}
                () = tokio::time::sleep_until(deadline) => return None,
            }
        }
    }
}

/// Tells a remote leader of this node's interest and hand-offs, as they change.
pub(super) async fn report(broker: Broker) {
    let inner = &broker.inner;
    let mut leader = inner.sequencer.leader();
    let mut interest = inner.view.fanout().interest_changes();
    let mut handed = inner.delivery.to_report.subscribe();
    let mut told_of_any = false;
    loop {
        let now = leader.borrow_and_update().clone();
        interest.mark_unchanged();
        handed.mark_unchanged();
        if let Leader::Remote(node) = &now {
            let any = !inner.view.fanout().interest().is_empty();
            if any || told_of_any {
                told_of_any = any;
                broker.tell_interest(node).await;
            }
        } else {
            inner.delivery.pending.lock().clear();
        }
        let refresh =
            async { if told_of_any { tokio::time::sleep(REFRESH).await } else { std::future::pending().await } };
        tokio::select! {
            changed = leader.changed() => if changed.is_err() { return },
            _ = interest.changed() => {}
            _ = handed.changed() => {}
            () = refresh => {}
        }
    }
}

impl Broker {
    /// One report to the leader; a lost one is made good by the next.
    pub(super) async fn tell_interest(&self, leader: &super::NodeAddress) {
        let inner = &self.inner;
        // Reports must not overtake each other, and what was handed before an interest went has to go with it.
        let _one_at_a_time = inner.delivery.reporting.lock().await;
        let interest = inner.view.fanout().interest();
        let handed = std::mem::take(&mut *inner.delivery.pending.lock()).into_iter().collect();
        let request = Request::Interest { interest, handed };
        let sent = tokio::time::timeout(REFRESH, self.call(leader, &request)).await;
        if !matches!(sent, Ok(Ok(_))) {
            tracing::debug!(leader = leader.name, "the leader did not take a report of interest");
        }
    }
}
