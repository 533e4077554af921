//! Natural batching on the leader: while proposals are on their way, everything that arrives gathers into the next
//! log entry, over all connections. An idle leader proposes at once.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Broker, BrokerError, Proposed, SequencerError, stats::overloaded};
use crate::{
    model::{Assigned, ChannelId, Command, Frame, FrameBuilder, GroupReply, KeyClaim, Limits, PublishGroup, Reply},
    replica::StoreHealth,
};

/// Proposals under way: while one is synced, others travel, are applied and answered.
const PROPOSALS: usize = 4;
/// Outcomes that are remembered for publishers who were told that they are unknown.
const MISSED: usize = 100_000;
/// For how long: a publisher that has not asked again by then never will.
const MISSED_FOR: Duration = Duration::from_secs(600);
/// Submissions that may wait; their bytes are bounded by admission.
const QUEUE: usize = 65_536;

/// Checked messages of one channel on their way into the log.
pub(super) struct Submission {
    pub(super) channel: ChannelId,
    pub(super) schema_id: u64,
    pub(super) keys: Vec<KeyClaim>,
    pub(super) frame: Frame,
}

/// A committed submission.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) term: u64,
    pub(super) reply: GroupReply,
}

/// Why a submission has no reply.
#[derive(Clone, Debug)]
pub(super) enum SubmitError {
    /// Surely not proposed.
    NotLeader,
    /// May be committed.
    Unknown(String),
    /// Definite, or as the error says.
    Refused(BrokerError),
}

pub(super) type Answer = Result<Committed, SubmitError>;

pub(super) struct Queued {
    submission: Submission,
    /// None once it is answered.
    answer: Option<oneshot::Sender<Answer>>,
}

/// The way into the batcher.
pub(super) struct Batcher {
    queue: mpsc::Sender<Queued>,
}

impl Batcher {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue }, receiver)
    }

    /// Takes a submission at once, in the order of calls; the receiver gets what became of it.
    pub(super) fn submit(&self, submission: Submission) -> Result<oneshot::Receiver<Answer>, BrokerError> {
        let (answer, receiver) = oneshot::channel();
        let queued = Queued { submission, answer: Some(answer) };
        match self.queue.try_send(queued) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(overloaded(QUEUE, QUEUE)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(BrokerError::Stopping),
        }
    }
}

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
    let mut last_time = 0;
    let mut next = None;
    loop {
        if proposals.len() >= PROPOSALS {
            proposals.next().await;
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
        let mut entry = Entry::default();
        entry.add(first);
        while let Ok(queued) = queue.try_recv() {
            if entry.would_exceed(&queued, &limits) {
                next = Some(queued);
                break;
            }
            entry.add(queued);
        }
        last_time = broker.inner.env.clock.now_ms().max(last_time).max(broker.inner.view.time_ms());
        let (groups, places) = entry.finish();
        let command = Command::Publish { time_ms: last_time, groups };
        let mut proposal = Box::pin(propose(broker.clone(), command, places));
        // The sequencer takes a command at its first poll: in this order.
        if futures::poll!(&mut proposal).is_pending() {
            proposals.push(proposal);
        }
    }
}

#[derive(Default)]
struct Entry {
    index: BTreeMap<(ChannelId, u64), usize>,
    groups: Vec<(ChannelId, u64, Vec<KeyClaim>, FrameBuilder)>,
    places: Vec<Place>,
    bytes: usize,
    messages: usize,
}

impl Entry {
    fn would_exceed(&self, queued: &Queued, limits: &Limits) -> bool {
        self.bytes + queued.submission.frame.bytes().len() > limits.entry_bytes
            || self.messages + queued.submission.frame.count() as usize > limits.batch_messages
    }

    fn add(&mut self, queued: Queued) {
        let Submission { channel, schema_id, keys, frame } = &queued.submission;
        let group = *self.index.entry((*channel, *schema_id)).or_insert_with(|| {
            self.groups.push((*channel, *schema_id, Vec::new(), FrameBuilder::default()));
            self.groups.len() - 1
        });
        let (_, _, claims, builder) = &mut self.groups[group];
        let offset = builder.count();
        claims.extend(keys.iter().map(|claim| KeyClaim { position: claim.position + offset, ..*claim }));
        builder.push_frame(frame);
        self.bytes += frame.bytes().len();
        self.messages += frame.count() as usize;
        let count = frame.count();
        self.places.push(Place { group, offset, count, queued });
    }

    fn finish(self) -> (Vec<PublishGroup>, Vec<Place>) {
        let group = |(channel, schema_id, keys, builder): (_, _, _, FrameBuilder)| PublishGroup {
            channel,
            schema_id,
            keys,
            frame: builder.finish(),
        };
        (self.groups.into_iter().map(group).collect(), self.places)
    }
}

async fn propose(broker: Broker, command: Command, mut places: Vec<Place>) {
    let mut health = broker.inner.view.health();
    let mut proposal = broker.inner.sequencer.propose(command);
    let proposed = tokio::select! {
        biased;
        proposed = &mut proposal => proposed,
        reason = failing(&mut health) => {
            // The entry is applied when the store works again. Its publishers do not wait for that; the first retry
            // of each key is told what they missed.
            let error = BrokerError::StoreFailed { reason, proposed: true };
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
        Err(SequencerError::NotLeader | SequencerError::Stopped) => answer_all(&mut places, &SubmitError::NotLeader),
        Err(SequencerError::Unknown(reason)) => answer_all(&mut places, &SubmitError::Unknown(reason)),
    }
}

/// Resolves when the store refuses a commit.
async fn failing(health: &mut tokio::sync::watch::Receiver<StoreHealth>) -> String {
    match health.wait_for(|health| *health != StoreHealth::Working).await.map(|health| health.clone()) {
        Ok(StoreHealth::Failing(reason)) => reason,
        _ => std::future::pending().await,
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
    fn remember_missed(&self, submission: &Submission, assigned: &Assigned) {
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
