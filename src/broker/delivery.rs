//! Whether a publish was handed to a live subscriber anywhere in the cluster.
//!
//! A message is handed to a subscriber when it is accepted into the subscriber's inbox on its node ([`crate::fanout`]),
//! whether the subscriber has looked yet or not. A full inbox, and a subscriber that still reads older messages from
//! the store, are a *no* at once, so a subscriber that stalls costs its publishers nothing. The leader knows which
//! channels have followers on which nodes (their *interest*), and hears what they were handed and how far all of them
//! have come. After a commit it answers for each message: `true` at the first hand-off by any node, `false` once every
//! node has passed the message without one (or nobody follows), and nothing when neither is certain in time, because a
//! node does not answer or a filter takes long. A node's interest counts until the node takes it back or is silent for
//! [`EXPIRY`]. `subscribe` returns only after the leader has taken the interest in, so a publish that begins later
//! reaches that subscriber.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::runs::Runs;
use crate::{
    fanout::{Fanout, Interest, Observer},
    model::ChannelId,
};

/// A node that is silent for so long has no interest any more.
pub(super) const EXPIRY: Duration = Duration::from_secs(3);
/// Separate hand-off runs remembered for a channel. Followers in step need one, filters many.
const CHANNEL_RUNS: usize = 4096;
/// Separate hand-off runs remembered for all channels; beyond it a channel keeps [`FEW_RUNS`].
const ALL_RUNS: usize = 65_536;
/// Separate hand-off runs that every channel may have.
const FEW_RUNS: usize = 64;

pub(super) struct Delivery {
    local: u64,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Hand-offs of this node that the leader has not heard of.
    pub(super) pending: Mutex<Handed>,
    pub(super) to_report: watch::Sender<()>,
    /// Held while a report is on its way.
    pub(super) reporting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// When each node was heard, and where the followers of each channel that it serves stand.
    interest: HashMap<u64, (Instant, HashMap<ChannelId, Place>)>,
    handed: Handed,
    /// The term in which this node leads, and since when: what others say of their interest, they say anew to each
    /// leader.
    leads: Option<(u64, Instant)>,
}

/// Where the followers of a channel on one node stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// For what lies below it is known whether a follower was handed it.
    pub(super) passed: u64,
    /// A follower may see later what it was not handed.
    pub(super) lagging: bool,
}

/// Hand-offs by channel.
#[derive(Default)]
pub(super) struct Handed {
    channels: BTreeMap<ChannelId, Runs>,
    /// Runs in all of them.
    runs: usize,
}

/// What a node tells the leader of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelReport {
    pub(super) channel: ChannelId,
    /// Where its followers stand; none when it has no followers.
    pub(super) place: Option<Place>,
    /// What they were handed since the last report.
    pub(super) handed: Vec<Range<u64>>,
    /// Below it hand-offs may be missing.
    pub(super) known_from: u64,
}

impl Observer for Delivery {
    fn handed(&self, channel: ChannelId, range: Range<u64>) {
        self.state.lock().handed.add(channel, [range.clone()], 0);
        self.pending.lock().add(channel, [range], 0);
        self.settled();
    }

    fn settled(&self) {
        self.changed.send_modify(|()| ());
        self.to_report.send_modify(|()| ());
    }
}

impl Handed {
    fn add(&mut self, channel: ChannelId, runs: impl IntoIterator<Item = Range<u64>>, known_from: u64) {
        let of_channel = self.channels.entry(channel).or_default();
        of_channel.forgotten_below(known_from);
        for run in runs {
            let most = if self.runs < ALL_RUNS { CHANNEL_RUNS } else { FEW_RUNS };
            self.runs -= of_channel.len();
            of_channel.add(run, most);
            self.runs += of_channel.len();
        }
    }

    /// Makes room: forgets the channels that are gone, and of the others all but the newest.
    fn thin(&mut self, exists: impl Fn(ChannelId) -> bool) {
        if self.runs < ALL_RUNS / 2 {
            return;
        }
        self.channels.retain(|channel, _| exists(*channel));
        self.channels.values_mut().for_each(|runs| runs.keep(FEW_RUNS));
        self.runs = self.channels.values().map(Runs::len).sum();
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

    /// Another node says what its followers follow, were handed and passed.
    pub(super) fn heard(&self, node: u64, reports: Vec<ChannelReport>) {
        let mut state = self.state.lock();
        let mut interest = HashMap::new();
        for ChannelReport { channel, place, handed, known_from } in reports {
            state.handed.add(channel, handed, known_from);
            interest.extend(place.map(|place| (channel, place)));
        }
        state.interest.insert(node, (Instant::now(), interest));
        drop(state);
        self.changed.send_modify(|()| ());
    }

    /// Called now and then: hand-offs that publishers waited for are known to them by now.
    pub(super) fn tidy(&self, exists: impl Fn(ChannelId) -> bool) {
        self.state.lock().handed.thin(exists);
    }

    /// This node leads from now on, or leads no longer.
    pub(super) fn lead(&self, term: Option<u64>) {
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

    /// Whether somebody follows a channel, on any node; false only when it is certain that nobody does.
    pub(super) async fn is_followed(
        &self,
        fanout: &Fanout,
        channel: ChannelId,
        (term, others, limit): (u64, Vec<u64>, Duration),
    ) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let mut changed = self.changed.subscribe();
            if fanout.interest_in(channel).is_some() {
                return true;
            }
            let until = {
                let mut state = self.state.lock();
                state.interest.retain(|node, (heard, _)| *node != self.local && heard.elapsed() < EXPIRY);
                if state.interest.values().any(|(_, channels)| channels.contains_key(&channel)) {
                    return true;
                }
                match Self::certain(&state, term, &others) {
                    Ok(()) => return false,
                    Err(until) => until.unwrap_or(deadline).min(deadline),
                }
            };
            if Instant::now() >= deadline {
                return true;
            }
            let _ = tokio::time::timeout_at(until, changed.changed()).await;
        }
    }

    /// As [`Delivery::wait`], but `false` only when nobody will see the message: right after an election nodes have
    /// not told the new leader yet whom they serve, and who lags behind may come to it.
    pub(super) async fn wait_certain(
        &self,
        fanout: &Fanout,
        channel: ChannelId,
        range: Range<u64>,
        (term, others, limit): (u64, Vec<u64>, Duration),
    ) -> Vec<Option<bool>> {
        let deadline = Instant::now() + limit;
        loop {
            let mut changed = self.changed.subscribe();
            let rest = deadline.saturating_duration_since(Instant::now());
            let mut told = self.wait(fanout, channel, range.clone(), rest).await;
            if !told.contains(&Some(false)) {
                return told;
            }
            let lagging = self.lagging(fanout, channel);
            let until = match Self::certain(&self.state.lock(), term, &others) {
                Ok(()) if !lagging => return told,
                Ok(()) => deadline,
                Err(until) => until.unwrap_or(deadline).min(deadline),
            };
            if Instant::now() >= deadline {
                told.iter_mut().for_each(|told| *told = told.filter(|handed| *handed));
                return told;
            }
            let _ = tokio::time::timeout_at(until, changed.changed()).await;
        }
    }

    /// Waits until it is known of messages that were just committed whether they were handed on; for each of them.
    pub(super) async fn wait(
        &self,
        fanout: &Fanout,
        channel: ChannelId,
        range: Range<u64>,
        limit: Duration,
    ) -> Vec<Option<bool>> {
        let deadline = Instant::now() + limit;
        let mut changed = self.changed.subscribe();
        let mut interest = fanout.interest_changes();
        loop {
            let known = self.known(fanout, channel, range.clone());
            if !known.contains(&None) {
                return known;
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = interest.changed() => {}
                () = tokio::time::sleep_until(deadline) => return known,
            }
        }
    }

    /// Whether a follower anywhere may see later what it was not handed.
    fn lagging(&self, fanout: &Fanout, channel: ChannelId) -> bool {
        let here = fanout.interest_in(channel).is_some_and(|interest| interest.lagging);
        let state = self.state.lock();
        let elsewhere = || state.interest.values().filter_map(|(_, channels)| channels.get(&channel));
        here || elsewhere().any(|place| place.lagging)
    }

    fn known(&self, fanout: &Fanout, channel: ChannelId, range: Range<u64>) -> Vec<Option<bool>> {
        // First, because a hand-off is recorded before its follower passes the message or goes.
        let here = fanout.interest_in(channel).map(|interest| interest.passed);
        let mut state = self.state.lock();
        state.interest.retain(|node, (heard, _)| *node != self.local && heard.elapsed() < EXPIRY);
        let elsewhere =
            state.interest.values().filter_map(|(_, channels)| channels.get(&channel)).map(|place| place.passed);
        let passed = elsewhere.chain(here).min().unwrap_or(u64::MAX);
        let handed = state.handed.channels.get(&channel);
        range
            .map(|seq| match handed.map_or(Some(false), |runs| runs.holds(seq)) {
                Some(false) if seq >= passed => None,
                known => known,
            })
            .collect()
    }
}

/// Hand-offs on their way to the leader. Unless it has heard of them they go with the next report: were they lost, it
/// would take what was passed for what nobody was handed.
pub(super) struct Unheard<'a> {
    delivery: &'a Delivery,
    pub(super) handed: Handed,
}

impl<'a> Unheard<'a> {
    pub(super) fn take(delivery: &'a Delivery) -> Self {
        Self { delivery, handed: std::mem::take(&mut *delivery.pending.lock()) }
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        let mut pending = self.delivery.pending.lock();
        for (channel, runs) in &self.handed.channels {
            pending.add(*channel, runs.iter(), runs.known_from());
        }
    }
}

pub(super) fn reports(interest: &[Interest], handed: &Handed) -> Vec<ChannelReport> {
    let report = |channel| ChannelReport { channel, place: None, handed: Vec::new(), known_from: 0 };
    let mut reports = BTreeMap::new();
    for Interest { channel, passed, lagging, .. } in interest {
        let place = Place { passed: *passed, lagging: *lagging };
        reports.entry(*channel).or_insert_with(|| report(*channel)).place = Some(place);
    }
    for (channel, runs) in &handed.channels {
        let report = reports.entry(*channel).or_insert_with(|| report(*channel));
        report.handed = runs.iter().collect();
        report.known_from = runs.known_from();
    }
    reports.into_values().collect()
}
