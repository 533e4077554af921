//! Wrong tokens. Nobody finds a secret of 32 random bytes by trying, but who tries costs work and fills the log: each wrong
//! token of an address is answered later than the one before. A right one is never held up, also from the same address.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{budget::Origin, model::Limits};

/// How long the answer to the first wrong token takes, and to many.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// An address that sent no wrong token for so long begins anew; what was told to the log may be told again.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Different lines of the log in that time.
const MOST_TOLD: usize = 100;

/// What a node knows of wrong tokens.
pub(super) struct Guesses {
    addresses: Mutex<HashMap<Origin, (u32, Instant)>>,
    waiting: Arc<Semaphore>,
}

/// How long a refusal waits.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    /// None where so many wait that this one does not.
    place: Option<OwnedSemaphorePermit>,
}

impl Delay {
    /// Waits.
    pub async fn pass(self) {
        if self.place.is_some() {
            tokio::time::sleep(self.time).await;
        }
    }
}

impl Guesses {
    pub(super) fn new() -> Self {
        Self { addresses: Mutex::default(), waiting: Arc::new(Semaphore::new(Limits::DELAYED_REFUSALS)) }
    }

    /// A wrong token came from an address.
    pub(super) fn wrong(&self, from: &Origin) -> Delay {
        let now = Instant::now();
        let mut addresses = self.addresses.lock();
        if addresses.len() >= Limits::GUESSING_ADDRESSES && !addresses.contains_key(from) {
            addresses.retain(|_, (_, last)| now.duration_since(*last) < FORGIVEN);
        }
        let known = addresses.get(from).filter(|(_, last)| now.duration_since(*last) < FORGIVEN);
        let before = known.map_or(0, |(count, _)| *count);
        if addresses.len() < Limits::GUESSING_ADDRESSES || addresses.contains_key(from) {
            addresses.insert(from.clone(), (before.saturating_add(1), now));
        }
        drop(addresses);
        let (first, most) = DELAY;
        let time = first.saturating_mul(1 << before.min(16)).min(most);
        Delay { time, place: self.waiting.clone().try_acquire_owned().ok() }
    }
}

/// Says each thing once in a while, and not too many things.
#[derive(Default)]
pub(super) struct Told(Mutex<(Option<Instant>, HashSet<String>)>);

impl Told {
    /// Whether a line is due.
    pub(super) fn is_due(&self, line: &str) -> bool {
        let mut told = self.0.lock();
        let (since, lines) = &mut *told;
        if since.is_none_or(|since| since.elapsed() >= FORGIVEN) {
            *since = Some(Instant::now());
            lines.clear();
        }
        lines.len() < MOST_TOLD && lines.insert(line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wrong_token_of_an_address_waits_longer_up_to_a_bound_until_it_is_forgiven() {
        let guesses = Guesses::new();
        let from = Origin::of("10.0.0.1:1");
        let delays: Vec<u128> = (0..7).map(|_| guesses.wrong(&from).time.as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(guesses.wrong(&Origin::of("10.0.0.2:1")).time, DELAY.0, "another address has nothing to do with it");
        tokio::time::advance(FORGIVEN).await;
        assert_eq!(guesses.wrong(&from).time, DELAY.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_and_what_waits_is_bounded() {
        let guesses = Guesses::new();
        let delays: Vec<Delay> = (0..2 * Limits::GUESSING_ADDRESSES)
            .map(|number| guesses.wrong(&Origin::of(&format!("n{number}:1"))))
            .collect();
        assert_eq!(guesses.addresses.lock().len(), Limits::GUESSING_ADDRESSES);
        assert_eq!(delays.iter().filter(|delay| delay.place.is_some()).count(), Limits::DELAYED_REFUSALS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_told_once_in_a_while() {
        let told = Told::default();
        assert_eq!(["a", "a", "b"].map(|line| told.is_due(line)), [true, false, true]);
        tokio::time::advance(FORGIVEN).await;
        assert!(told.is_due("a"));
        assert_eq!((0..2 * MOST_TOLD).filter(|number| told.is_due(&number.to_string())).count(), MOST_TOLD - 1);
    }
}
