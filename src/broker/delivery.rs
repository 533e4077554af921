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

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::{
    Broker, Leader,
    forward::{Request, Response},
    runs::Runs,
};
use crate::{
    fanout::{Fanout, Interest, Observer},
    model::ChannelId,
};

/// A node that has interest repeats it this often.
const REFRESH: Duration = Duration::from_secs(1);
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
    pending: Mutex<Handed>,
    to_report: watch::Sender<()>,
    /// Held while a report is on its way.
    reporting: tokio::sync::Mutex<()>,
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
struct Handed {
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
            *inner.delivery.pending.lock() = Handed::default();
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
    /// One report to the leader; a lost one is made good by the next. Gives a log index up to which lies what the leader
    /// has acknowledged.
    pub(super) async fn tell_interest(&self, leader: &super::NodeAddress) -> Option<u64> {
        let inner = &self.inner;
        // Reports must not overtake each other, and what was handed before an interest went has to go with it.
        let _one_at_a_time = inner.delivery.reporting.lock().await;
        let interest = inner.view.fanout().interest();
        let mut unheard = Unheard::take(&inner.delivery);
        let request = Request::Interest(reports(&interest, &unheard.handed));
        if let Response::Index(applied) = self.ask_node(leader, &request, Instant::now() + REFRESH).await {
            unheard.handed = Handed::default();
            Some(applied)
        } else {
            tracing::debug!(leader = leader.name, "the leader did not take a report of interest");
            None
        }
    }
}

/// Hand-offs on their way to the leader. Unless it has heard of them they go with the next report: were they lost, it
/// would take what was passed for what nobody was handed.
struct Unheard<'a> {
    delivery: &'a Delivery,
    handed: Handed,
}

impl<'a> Unheard<'a> {
    fn take(delivery: &'a Delivery) -> Self {
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

fn reports(interest: &[Interest], handed: &Handed) -> Vec<ChannelReport> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{fanout::Taking, model::Durability};

    const CHANNEL: ChannelId = ChannelId(1);
    const NODE: u64 = 7;

    fn leader() -> (Delivery, Arc<Fanout>) {
        (Delivery::new(1), Fanout::new(1 << 20, 1 << 20))
    }

    fn report(passed: Option<u64>, handed: &[Range<u64>]) -> Vec<ChannelReport> {
        let place = passed.map(|passed| Place { passed, lagging: false });
        vec![ChannelReport { channel: CHANNEL, place, handed: handed.to_vec(), known_from: 0 }]
    }

    #[test]
    fn nobody_is_handed_what_nobody_follows() {
        let (delivery, fanout) = leader();
        assert_eq!(delivery.known(&fanout, CHANNEL, 0..2), [Some(false); 2]);
        delivery.heard(NODE, report(Some(0), &[]));
        assert_eq!(delivery.known(&fanout, CHANNEL, 0..2), [None; 2]);
        delivery.heard(NODE, report(None, &[]));
        assert_eq!(delivery.known(&fanout, CHANNEL, 0..2), [Some(false); 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_follows_only_once_every_node_has_said_so_or_is_silent_for_long() {
        let (delivery, fanout) = leader();
        let asked = |term| delivery.is_followed(&fanout, CHANNEL, (term, vec![NODE], 2 * EXPIRY));
        delivery.lead(Some(4));
        let begun = Instant::now();
        assert!(!asked(4).await);
        assert!(begun.elapsed() >= EXPIRY, "until then it may follow");
        delivery.lead(Some(5));
        delivery.heard(NODE, report(None, &[]));
        let begun = Instant::now();
        assert!(!asked(5).await);
        assert!(begun.elapsed() < EXPIRY);
        delivery.heard(NODE, report(Some(0), &[]));
        assert!(asked(5).await);
        assert!(asked(6).await, "it is not certain in another term");
    }

    #[test]
    fn each_message_that_was_passed_was_handed_on_or_not() {
        let (delivery, fanout) = leader();
        let follower = fanout.follow(CHANNEL, Durability::Durable, Taking::Some);
        follower.reach(9);
        follower.begin(Some(0), 9);
        delivery.heard(NODE, report(Some(4), std::slice::from_ref(&(1..2))));
        assert_eq!(delivery.known(&fanout, CHANNEL, 0..4), [None, Some(true), None, None]);
        delivery.handed(CHANNEL, 2..3);
        follower.passed(3);
        assert_eq!(delivery.known(&fanout, CHANNEL, 0..4), [Some(false), Some(true), Some(true), None]);
        drop(follower);
        assert_eq!(delivery.known(&fanout, CHANNEL, 3..5), [Some(false), None]);
    }

    #[test]
    fn what_may_have_been_forgotten_is_not_called_undelivered() {
        let (delivery, fanout) = leader();
        let every_other = |first: u64| (first..).step_by(2).map(|seq| seq..seq + 1);
        let handed: Vec<_> = every_other(0).take(CHANNEL_RUNS + 1).collect();
        delivery.heard(NODE, report(Some(u64::MAX), &handed));
        assert_eq!(delivery.known(&fanout, CHANNEL, 0..4), [None, Some(false), Some(true), Some(false)]);
        delivery.heard(NODE, vec![ChannelReport { channel: CHANNEL, place: None, handed: vec![], known_from: 2 }]);
        assert_eq!(delivery.known(&fanout, CHANNEL, 1..3), [None, Some(true)]);
    }

    #[test]
    fn a_crowded_table_is_thinned_and_forgets_what_is_gone() {
        let (delivery, fanout) = leader();
        for channel in 0..17 {
            let handed = (0..CHANNEL_RUNS as u64).map(|run| 2 * run..2 * run + 1).collect();
            delivery
                .heard(NODE, vec![ChannelReport { channel: ChannelId(channel), place: None, handed, known_from: 0 }]);
        }
        assert!(delivery.state.lock().handed.runs <= ALL_RUNS + FEW_RUNS);
        delivery.tidy(|channel| channel != ChannelId(2));
        let state = delivery.state.lock();
        assert_eq!((state.handed.channels.len(), state.handed.runs), (16, 16 * FEW_RUNS));
        drop(state);
        let last = 2 * CHANNEL_RUNS as u64 - 2;
        assert_eq!(delivery.known(&fanout, ChannelId(1), last..last + 2), [Some(true), Some(false)]);
        assert_eq!(delivery.known(&fanout, ChannelId(1), 1..2), [None]);
    }

    #[test]
    fn hand_offs_that_the_leader_did_not_hear_of_go_with_the_next_report() {
        let (delivery, _) = leader();
        delivery.handed(CHANNEL, 3..4);
        drop(Unheard::take(&delivery));
        delivery.handed(CHANNEL, 5..6);
        let mut unheard = Unheard::take(&delivery);
        assert_eq!(reports(&[], &unheard.handed), report(None, &[3..4, 5..6]));
        unheard.handed = Handed::default();
        drop(unheard);
        assert!(delivery.pending.lock().channels.is_empty());
    }

    #[test]
    fn a_report_has_what_was_handed_and_what_is_followed() {
        let mut handed = Handed::default();
        handed.add(ChannelId(1), [3..4, 8..9], 2);
        handed.add(ChannelId(2), std::iter::once(0..1), 0);
        let interest = [2, 3].map(|id| Interest { channel: ChannelId(id), followers: 1, passed: 5, lagging: true });
        let expected = [
            ChannelReport { channel: ChannelId(1), place: None, handed: vec![3..4, 8..9], known_from: 2 },
            ChannelReport {
                channel: ChannelId(2),
                place: Some(Place { passed: 5, lagging: true }),
                handed: std::iter::once(0..1).collect(),
                known_from: 0,
            },
            ChannelReport {
                channel: ChannelId(3),
                place: Some(Place { passed: 5, lagging: true }),
                handed: vec![],
                known_from: 0,
            },
        ];
        assert_eq!(reports(&interest, &handed), expected);
    }
}
