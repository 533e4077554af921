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
pub(super) const EXPIRY: Duration = Duration::from_secs(3);
/// Separate hand-off ranges remembered for a channel; followers in step need one.
const MAX_RANGES: usize = 64;

pub(super) struct Delivery {
    local: u64,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Hand-offs of this node that the leader has not heard of.
    pending: Mutex<BTreeMap<ChannelId, Vec<Range<u64>>>>,
    to_report: watch::Sender<()>,
    /// Held while a report is on its way.
    reporting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    interest: HashMap<u64, (Instant, HashMap<ChannelId, u64>)>,
    handed: HashMap<ChannelId, Vec<Range<u64>>>,
    /// The term in which this node leads, and since when: what others say of their interest, they say anew to each
    /// leader.
    leads: Option<(u64, Instant)>,
}

/// Adds a range to those that do not touch each other. Nothing between two of them is taken in: messages that were
/// left out of a hand-off were handed to nobody.
fn add(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    ranges.retain(|known| {
        let touches = known.start <= range.end && range.start <= known.end;
        if touches {
            range = known.start.min(range.start)..known.end.max(range.end);
        }
        !touches
    });
    ranges.push(range);
    if ranges.len() > MAX_RANGES {
        ranges.remove(0);
    }
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
        add(pending.entry(channel).or_default(), range);
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
        add(state.handed.entry(channel).or_default(), range);
        drop(state);
        self.changed.send_modify(|()| ());
    }

    /// This node leads from now on, or leads no longer.
    fn lead(&self, term: Option<u64>) {
        self.state.lock().leads = term.map(|term| (term, Instant::now()));
        self.changed.send_modify(|()| ());
    }

    /// From when on it is certain that none of `others` has interest that this node was not told of in its term: once
    /// all have spoken, or have been silent for so long that they have none. None before that.
    fn certain(state: &State, term: u64, others: &[u64]) -> Result<(), Option<Instant>> {
        let Some((_, since)) = state.leads.filter(|(led, _)| *led == term) else { return Err(None) };
        let spoken = |node: &u64| state.interest.get(node).is_some_and(|(heard, _)| *heard >= since);
        if since.elapsed() >= EXPIRY || others.iter().all(spoken) { Ok(()) } else { Err(Some(since + EXPIRY)) }
    }

    /// As [`Delivery::wait`], but `false` only with certainty: right after an election nodes have not told the new
    /// leader yet whom they serve.
    pub(super) async fn wait_certain(
        &self,
        fanout: &Fanout,
        channel: ChannelId,
        range: Range<u64>,
        (term, others, limit): (u64, Vec<u64>, Duration),
    ) -> Option<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let mut changed = self.changed.subscribe();
            let rest = deadline.saturating_duration_since(Instant::now());
            let told = self.wait(fanout, channel, range.clone(), rest).await;
            if told != Some(false) {
                return told;
            }
            let until = match Self::certain(&self.state.lock(), term, &others) {
                Ok(()) => return told,
                Err(until) => until.unwrap_or(deadline).min(deadline),
            };
            if Instant::now() >= deadline {
                return None;
            }
            let _ = tokio::time::timeout_at(until, changed.changed()).await;
        }
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
    let mut before = None;
    loop {
        let now = leader.borrow_and_update().clone();
        let another = before.as_ref() != Some(&now);
        if another {
            inner.delivery.lead(match &now {
                Leader::Local { term } => Some(*term),
                _ => None,
            });
        }
        before = Some(now.clone());
        interest.mark_unchanged();
        handed.mark_unchanged();
        if let Leader::Remote(node) = &now {
            let any = !inner.view.fanout().interest().is_empty();
            // A new leader is told of no interest too: it cannot know else.
            if any || told_of_any || another {
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
        let handed = std::mem::take(&mut *inner.delivery.pending.lock());
        let each =
            |(channel, ranges): (ChannelId, Vec<Range<u64>>)| ranges.into_iter().map(move |range| (channel, range));
        let handed = handed.into_iter().flat_map(each).collect();
        let request = Request::Interest { interest, handed };
        let sent = tokio::time::timeout(REFRESH, self.call(leader, &request)).await;
        if !matches!(sent, Ok(Ok(_))) {
            tracing::debug!(leader = leader.name, "the leader did not take a report of interest");
        }
    }
}
