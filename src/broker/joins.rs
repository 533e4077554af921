//! Publishes of one key that are under way at the same time get one outcome.
//!
//! The log decides which of them is stored: the first one in it. The others come back as duplicates of that one, and
//! then take its outcome over, with its `delivered`. For this the leader keeps a *flight* for each key from the
//! moment its publish enters the log's queue until its outcome is known.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{
    api::Outcome,
    error::{BrokerError, Unserved},
    submission::{Answer, Batcher},
};
use crate::model::{ChannelId, KeyClaim, KeyHash, PublishGroup};

/// How a flight ended. A sender that goes while it is still open will never say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Open,
    Known(Outcome),
    /// The publish failed for a reason of its own.
    Failed,
}

/// A key's publish under way.
struct Open {
    /// For those who joined; none before the first.
    end: Option<watch::Sender<End>>,
    /// What the channel's next sequence number was when it took off: an older message is no outcome of it.
    next_seq: u64,
}

/// Keyed publishes under way.
#[derive(Default)]
pub(super) struct Flights {
    open: Mutex<HashMap<(ChannelId, KeyHash), Open>>,
}

/// The flights of one submission: those it opened, and those of others that it joined.
pub(super) struct Flight {
    flights: Arc<Flights>,
    channel: ChannelId,
    opened: Vec<KeyClaim>,
    joined: Vec<Joined>,
}

/// Another submission's flight that a message of this one joined.
pub(super) struct Joined {
    /// Position of the message in its submission.
    pub(super) position: u32,
    next_seq: u64,
    end: watch::Receiver<End>,
}

/// What a message that joined is told.
pub(super) enum Original {
    /// The one outcome.
    Known(Outcome),
    /// The publisher went away before the outcome was known.
    Nobody,
    /// The message is no duplicate of that flight's.
    Unrelated,
}

impl Flights {
    /// Submits to the batcher, with a flight for each key. `next_seq`: the channel's next sequence number.
    pub(super) fn take_off(
        self: &Arc<Self>,
        submission: PublishGroup,
        batcher: &Batcher,
        next_seq: impl FnOnce() -> u64,
    ) -> Result<(Flight, oneshot::Receiver<Answer>), Unserved> {
        let channel = submission.channel;
        let mut flight = Flight { flights: self.clone(), channel, opened: Vec::new(), joined: Vec::new() };
        if submission.keys.is_empty() {
            return Ok((flight, batcher.submit(submission)?));
        }
        let next_seq = next_seq();
        // Held over the submission: who opens a flight is before those who join it in the log.
        let mut open = self.open.lock();
        for claim in &submission.keys {
            match open.entry((channel, claim.key)) {
                // The second of one submission is a plain duplicate: its publisher knows of the first.
                Entry::Occupied(_) if flight.opened.iter().any(|opened| opened.key == claim.key) => {}
                Entry::Occupied(mut other) => {
                    let Open { end, next_seq } = other.get_mut();
                    let end = end.get_or_insert_with(|| watch::channel(End::Open).0).subscribe();
                    flight.joined.push(Joined { position: claim.position, next_seq: *next_seq, end });
                }
                Entry::Vacant(place) => {
                    place.insert(Open { end: None, next_seq });
                    flight.opened.push(*claim);
                }
            }
        }
        let submitted = batcher.submit(submission);
        drop(open);
        Ok((flight, submitted?))
    }
}

impl Flight {
    /// Tells those who joined what became of the publishes that opened the flights; gives the flights joined.
    pub(super) fn land(&mut self, results: &[Result<Outcome, BrokerError>]) -> Vec<Joined> {
        if !self.opened.is_empty() {
            let mut open = self.flights.open.lock();
            for claim in self.opened.drain(..) {
                if let Some(Open { end: Some(end), .. }) = open.remove(&(self.channel, claim.key)) {
                    end.send_replace(match results.get(claim.position as usize) {
                        Some(Ok(outcome)) => End::Known(*outcome),
                        _ => End::Failed,
                    });
                }
            }
        }
        std::mem::take(&mut self.joined)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.opened.is_empty() {
            let mut open = self.flights.open.lock();
            for claim in &self.opened {
                open.remove(&(self.channel, claim.key));
            }
        }
    }
}

impl Joined {
    /// What became of the publish that a duplicate at `seq` joined.
    pub(super) async fn original(mut self, seq: u64) -> Original {
        if seq < self.next_seq {
            return Original::Unrelated;
        }
        match self.end.wait_for(|end| *end != End::Open).await.map(|end| *end) {
            Ok(End::Known(outcome)) if outcome.seq == seq => Original::Known(outcome),
            Ok(_) => Original::Unrelated,
            Err(_) => Original::Nobody,
        }
    }
}
