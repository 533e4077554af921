//! Natural batching on the leader: while proposals are on their way, everything that arrives gathers into the next
//! log entry, over all connections. An idle leader proposes at once.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};

pub(super) use super::submission::SubmitError;
use super::{
    Broker, Proposed, Unserved,
    submission::{Answer, Committed, PROPOSALS, Queued, failing},
};
use crate::model::{
    Assigned, ChannelId, Command, Frame, FrameBuilder, GroupReply, KeyClaim, Limits, PublishGroup, Reply, Route,
};

/// Outcomes that are remembered for publishers who were told that they are unknown.
const MISSED: usize = 100_000;
/// For how long: a publisher that has not asked again by then never will.
const MISSED_FOR: Duration = Duration::from_secs(600);

/// A submission's place in its entry: which group it is in, and where in the group it begins.
struct Place {
    group: usize,
    offset: u32,
    count: u32,
    queued: Queued,
}

pub(super) async fn run(broker: Broker, mut queue: mpsc::Receiver<Queued>) {
    let limits = broker.limits().clone();
    let mut proposals = FuturesUnordered::new();
    let mut next = None;
    loop {
        if proposals.len() >= PROPOSALS {
            tokio::select! {
                biased;
                _ = proposals.next() => {}
                () = refuse(&broker, &mut next, &mut queue) => {}
            }
            continue;
        }
        let first = match next.take() {
            Some(first) => first,
            None => tokio::select! {
                biased;
                first = queue.recv() => match first {
                    Some(first) => first,
                    None => return,
                },
                Some(()) = proposals.next(), if !proposals.is_empty() => continue,
            },
        };
        let takes_copies = |queued: &Queued| broker.inner.view.takes_copies(&queued.submission, under_way(&limits));
        let mut entry = Entry::default();
        let shares = takes_copies(&first);
        entry.add(first, shares);
        while let Ok(queued) = queue.try_recv() {
            if entry.would_exceed(&queued, &limits) {
                next = Some(queued);
                break;
            }
            let shares = takes_copies(&queued);
            entry.add(queued, shares);
        }
        let (groups, places) = entry.finish();
        let command = Command::Publish { time_ms: broker.inner.view.clock().now_ms(), groups };
        let mut proposal = Box::pin(propose(broker.clone(), command, places));
        // The sequencer takes a command at its first poll: in this order.
        if futures::poll!(&mut proposal).is_pending() {
            proposals.push(proposal);
        }
    }
}

/// More messages and bytes than one channel can get from what is proposed and not applied yet: these entries and as many of
/// other kinds.
fn under_way(limits: &Limits) -> (u64, u64) {
    let entries = 2 * (PROPOSALS + 1);
    let (messages, bytes) = (limits.batch_messages, limits.entry_bytes.max(limits.batch_bytes));
    ((entries * messages) as u64, (entries * bytes) as u64)
}

/// Refuses what waits behind proposals that do not get on, while nothing can be stored: it is surely not proposed.
/// Nothing is lost when this is dropped.
async fn refuse(broker: &Broker, next: &mut Option<Queued>, queue: &mut mpsc::Receiver<Queued>) {
    loop {
        broker.refuses().await;
        let queued = match next.take() {
            Some(queued) => Some(queued),
            None => queue.recv().await,
        };
        let Some(mut queued) = queued else { return std::future::pending().await };
        match broker.refusal() {
            Some(error) => {
                if let Some(publisher) = queued.answer.take() {
                    let _ = publisher.send(Err(SubmitError::Refused(error))); // it may have given up
                }
            }
            None => *next = Some(queued),
        }
    }
}

/// A log entry that gathers. Submissions share a group where nothing tells them apart, and unless a copy of one of them may be
/// refused: a group is refused as a whole.
#[derive(Default)]
struct Entry {
    index: BTreeMap<ChannelId, usize>,
    groups: Vec<(PublishGroup, FrameBuilder)>,
    places: Vec<Place>,
    bytes: usize,
    copied: u64,
    messages: usize,
}

impl Entry {
    fn would_exceed(&self, queued: &Queued, limits: &Limits) -> bool {
        self.bytes + queued.submission.frame.len() > limits.entry_bytes
            || self.messages + queued.submission.frame.count() as usize > limits.batch_messages
            || self.copied.saturating_add(queued.copied) > limits.copied_bytes as u64
    }

    /// `shares`: in a group with others, if there are any that it may join.
    fn add(&mut self, queued: Queued, shares: bool) {
        let submission = &queued.submission;
        if !shares {
            self.index.remove(&submission.channel);
        }
        let group = self.group_for(submission);
        if !shares {
            self.index.remove(&submission.channel);
        }
        let (PublishGroup { keys, routes, .. }, builder) = &mut self.groups[group];
        let offset = builder.count();
        keys.extend(submission.keys.iter().map(|claim| KeyClaim { position: claim.position + offset, ..*claim }));
        for route in &submission.routes {
            let positions = route.positions.iter().map(|position| position + offset);
            match routes.iter_mut().find(|known| (known.target, known.schema_id) == (route.target, route.schema_id)) {
                Some(known) => known.positions.extend(positions),
                None => routes.push(Route { positions: positions.collect(), ..route.clone() }),
            }
        }
        builder.push_frame(&submission.frame);
        self.bytes += submission.frame.len();
        self.copied += queued.copied;
        self.messages += submission.frame.count() as usize;
        let count = submission.frame.count();
        self.places.push(Place { group, offset, count, queued });
    }

    /// The channel's newest group if the submission may join it, else a new one: a channel's order stays.
    fn group_for(&mut self, submission: &PublishGroup) -> usize {
        let alike = |group: &PublishGroup| {
            group.schema_id == submission.schema_id
                && group.rules_version == submission.rules_version
                && group.expires == submission.expires
                && group.expected_seq.is_none()
                && submission.expected_seq.is_none()
        };
        match self.index.get(&submission.channel) {
            Some(newest) if alike(&self.groups[*newest].0) => *newest,
            _ => {
                let empty =
                    PublishGroup { keys: vec![], routes: vec![], frame: Frame::default(), ..submission.clone() };
                self.groups.push((empty, FrameBuilder::default()));
                self.index.insert(submission.channel, self.groups.len() - 1);
                self.groups.len() - 1
            }
        }
    }

    fn finish(self) -> (Vec<PublishGroup>, Vec<Place>) {
        let whole = |(group, builder): (PublishGroup, FrameBuilder)| PublishGroup { frame: builder.finish(), ..group };
        (self.groups.into_iter().map(whole).collect(), self.places)
    }
}

async fn propose(broker: Broker, command: Command, mut places: Vec<Place>) {
    let mut health = broker.inner.view.commits();
    let mut proposal = broker.inner.sequencer.propose(command);
    let proposed = tokio::select! {
        biased;
        proposed = &mut proposal => proposed,
        reason = failing(&mut health) => {
            // The entry is applied when the store works again. Its publishers do not wait for that; the first retry
            // of each key is told what they missed.
            let error = Unserved::StoreFailed { node: broker.local().name.clone(), reason, proposed: true };
            answer_all(&mut places, &SubmitError::Refused(error));
            if let Ok(Proposed { reply: Reply::Published(replies), .. }) = proposal.await {
                for place in &places {
                    if let Some(Ok(assigned)) = replies.get(place.group).cloned().map(|reply| slice(reply, place)) {
                        broker.remember_missed(&place.queued.submission, &assigned);
                    }
                }
            }
            return;
        }
    };
    match proposed {
        Ok(proposed) => match proposed.reply {
            Reply::Published(replies) => {
                for mut place in places {
                    let reply = replies.get(place.group).cloned();
                    let answer = reply.map(|reply| Committed { term: proposed.term, reply: slice(reply, &place) });
                    let answer = answer.ok_or_else(|| SubmitError::Unknown("a reply without the group".into()));
                    place.answer(answer);
                }
            }
            other => answer_all(&mut places, &SubmitError::Unknown(format!("an unexpected reply: {other:?}"))),
        },
        Err(error) => answer_all(&mut places, &error.into()),
    }
}

fn answer_all(places: &mut [Place], error: &SubmitError) {
    for place in places {
        place.answer(Err(error.clone()));
    }
}

impl Place {
    fn answer(&mut self, answer: Answer) {
        if let Some(publisher) = self.queued.answer.take() {
            let _ = publisher.send(answer); // it may have given up
        }
    }
}

impl Broker {
    /// Keeps the outcomes of keyed messages whose publishers were told that it is unknown.
    fn remember_missed(&self, submission: &PublishGroup, assigned: &Assigned) {
        let now = Instant::now();
        let mut missed = self.inner.missed.lock();
        missed.retain(|_, (_, since)| now - *since < MISSED_FOR);
        for claim in &submission.keys {
            let before = assigned.except.iter().filter(|(position, _)| *position < claim.position).count() as u64;
            let excepted = assigned.except.iter().any(|(position, _)| *position == claim.position);
            if !excepted && missed.len() < MISSED {
                let seq = assigned.first_seq + u64::from(claim.position) - before;
                missed.insert((submission.channel, claim.key), (seq, now));
            }
        }
    }
}

/// The part of a group's reply that concerns one submission.
fn slice(reply: GroupReply, place: &Place) -> GroupReply {
    let mut assigned = reply?;
    let before = assigned.except.iter().filter(|(position, _)| *position < place.offset).count() as u64;
    assigned.first_seq += u64::from(place.offset) - before;
    let end = place.offset + place.count;
    assigned.except.retain(|(position, _)| (place.offset..end).contains(position));
    for (position, _) in &mut assigned.except {
        *position -= place.offset;
    }
    Ok(assigned)
}
