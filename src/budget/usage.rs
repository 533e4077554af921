//! What one token takes of a node, whichever connections and addresses its holders use: connections, open requests and
//! streams, bytes in flight, what it publishes in a second and how long its filters take. How much it may take is said
//! at each call, because that may change from one to the next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    account::Account,
    level::{Lease, Level},
};
use crate::{
    model::Quota,
    quota::{Exceeded, Meter, Spent},
};

/// See the module.
#[derive(Debug)]
pub struct Usage {
    /// The connections on which it has asked for something, by what tells them apart.
    connections: Mutex<BTreeMap<usize, Weak<Account>>>,
    streams: Arc<Level>,
    in_flight: Arc<Level>,
    meter: Mutex<Meter>,
    filters: Mutex<Spent>,
}

impl Default for Usage {
    fn default() -> Self {
        let level = || Level::new("token", usize::MAX);
        Self {
            connections: Mutex::default(),
            streams: level(),
            in_flight: level(),
            meter: Mutex::default(),
            filters: Mutex::default(),
        }
    }
}

/// That a connection is one of a token's, until it is closed.
#[derive(Debug)]
pub(super) struct Belonging {
    usage: Arc<Usage>,
    connection: usize,
}

impl Drop for Belonging {
    fn drop(&mut self) {
        self.usage.connections.lock().remove(&self.connection);
    }
}

/// Something of which a node has so much for all its clients, and what of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded {
    /// What it is.
    pub what: &'static str,
    /// What the token would take of it.
    pub value: usize,
    /// What one token may take while it is scarce.
    pub share: usize,
}

impl Usage {
    /// Counts a connection, the first time that something is asked on it.
    ///
    /// # Errors
    /// How many there are, where that is as many as there may be: it is not counted then.
    pub fn connect(self: &Arc<Self>, account: &Arc<Account>, most: u64) -> Result<(), u64> {
        let mut known = account.tokens.lock();
        let usage = Arc::as_ptr(self) as usize;
        if known.contains_key(&usage) {
            return Ok(());
        }
        let connection = Arc::as_ptr(account) as usize;
        let mut connections = self.connections.lock();
        let held = connections.len() as u64;
        if held >= most {
            return Err(held);
        }
        connections.insert(connection, Arc::downgrade(account));
        known.insert(usage, Belonging { usage: self.clone(), connection });
        Ok(())
    }

    /// Takes a place for a request or a stream.
    ///
    /// # Errors
    /// How many there are, where that is as many as there may be.
    pub fn begin(&self, most: u64) -> Result<Lease, u64> {
        take(&self.streams, 1, most)
    }

    /// The same for what is there already.
    pub fn begin_anyway(&self) -> Lease {
        self.streams.hold(1)
    }

    /// Takes room for bytes of a publish that is not answered yet. One alone is never too large.
    ///
    /// # Errors
    /// How many there are, where there is no room for more.
    pub fn publish(&self, bytes: usize, most: u64) -> Result<Lease, u64> {
        take(&self.in_flight, bytes, most)
    }

    /// As [`Meter::take`].
    ///
    /// # Errors
    /// As there.
    pub fn meter(&self, quota: Quota, messages: u64, bytes: u64, now: Instant) -> Result<(), Exceeded> {
        self.meter.lock().take(quota, messages, bytes, now)
    }

    /// As [`Meter::give_back`].
    pub fn give_back(&self, quota: Quota, messages: u64, bytes: u64) {
        self.meter.lock().give_back(quota, messages, bytes);
    }

    /// Filters have taken so long, of which so many milliseconds may be in a second.
    pub fn judged(&self, time: Duration, most_ms: u64, now: Instant) {
        self.filters.lock().spend(time, most_ms, now);
    }

    /// How long no filter of it may be judged any more.
    pub fn owes(&self, now: Instant) -> Duration {
        self.filters.lock().wait(now)
    }

    /// What of a node's own it has more than its share of, if the node has little left of that: half of what there is, once
    /// three quarters are taken.
    pub fn crowds(&self, account: &Account) -> Option<Crowded> {
        let judge = |what, node: &Level, value: &dyn Fn() -> usize| {
            let share = node.share_if_scarce()?;
            let value = value();
            (value > share).then_some(Crowded { what, value, share })
        };
        let sum = |of: fn(&Account) -> &Level| {
            let connections: Vec<_> = self.connections.lock().values().filter_map(Weak::upgrade).collect();
            connections.iter().map(|account| of(account).held()).sum()
        };
        judge("open requests and streams", account.streams.top(), &|| self.streams.held() + 1)
            .or_else(|| judge("bytes of unfinished requests", account.arriving.top(), &|| sum(|of| &of.arriving)))
            .or_else(|| judge("bytes of answers that are not taken", account.answers.top(), &|| sum(|of| &of.answers)))
    }

    /// The same for bytes in flight, which a node counts elsewhere.
    pub fn crowds_with(&self, bytes: usize, node: &Level) -> Option<Crowded> {
        let (share, value) = (node.share_if_scarce()?, self.in_flight.held() + bytes);
        (value > share).then_some(Crowded { what: "bytes in flight", value, share })
    }
}

fn take(level: &Arc<Level>, amount: usize, most: u64) -> Result<Lease, u64> {
    level.take_within(amount, usize::try_from(most).unwrap_or(usize::MAX)).map_err(|held| held as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::{Budgets, FaceName},
        model::Limits,
    };

    fn connections(budgets: &Budgets, count: usize) -> Vec<Arc<Account>> {
        let face = budgets.face(FaceName::Grpc);
        (0..count).map(|number| face.admit(&format!("10.0.0.{number}:1")).unwrap()).collect()
    }

    #[test]
    fn a_connection_counts_for_each_token_that_asks_on_it_until_it_is_closed() {
        let budgets = Budgets::new(&Limits::default());
        let open = connections(&budgets, 3);
        let (one, other) = (Arc::new(Usage::default()), Arc::new(Usage::default()));
        assert_eq!(one.connect(&open[0], 2), Ok(()));
        assert_eq!(one.connect(&open[0], 2), Ok(()), "it is counted once");
        assert_eq!(one.connect(&open[1], 2), Ok(()));
        assert_eq!(one.connect(&open[2], 2), Err(2));
        assert_eq!(one.connect(&open[1], 1), Ok(()), "what is there stays when the quota shrinks");
        assert_eq!(other.connect(&open[0], 1), Ok(()));
        open[0].close();
        assert_eq!(one.connect(&open[2], 2), Ok(()));
        assert_eq!(other.connect(&open[2], 1), Ok(()));
    }

    #[test]
    fn streams_and_bytes_are_given_back_and_the_limit_is_that_of_the_moment() {
        let usage = Usage::default();
        let first = usage.begin(1).unwrap();
        assert_eq!(usage.begin(1).unwrap_err(), 1);
        let second = usage.begin(2).unwrap();
        assert_eq!(usage.begin(1).unwrap_err(), 2, "a quota that shrinks ends nothing, and lets nothing more in");
        drop((first, second));
        assert_eq!(usage.begin(0).unwrap_err(), 0);
        let large = usage.publish(1_000, 100).unwrap();
        assert_eq!(usage.publish(1, 100).unwrap_err(), 1_000, "only one alone may be larger");
        drop(large);
        assert!(usage.publish(100, 100).is_ok());
    }

    #[test]
    fn nobody_has_more_than_a_half_of_what_a_node_has_while_it_has_little_left() {
        let limits = Limits { streams: 8, streams_per_connection: 8, ..Limits::default() };
        let budgets = Budgets::new(&limits);
        let open = connections(&budgets, 4);
        let (greedy, modest) = (Usage::default(), Usage::default());
        let mut held = Vec::new();
        // Of four addresses, so that the share of an address keeps nobody back.
        for number in 0..6 {
            assert_eq!(greedy.crowds(&open[number % 3]), None, "alone it may have more: {number}");
            held.push((open[number % 3].begin().unwrap(), greedy.begin_anyway()));
        }
        assert_eq!(modest.crowds(&open[3]), None);
        held.push((open[3].begin_anyway(), modest.begin_anyway()));
        assert_eq!(
            greedy.crowds(&open[0]),
            Some(Crowded { what: "open requests and streams", value: 7, share: 4 }),
            "the rest is for others"
        );
        assert_eq!(modest.crowds(&open[3]), None);
        held.truncate(3);
        assert_eq!(greedy.crowds(&open[0]), None, "there is enough again");
        let node = Level::new("node", 100);
        let (_mine, _others) = (greedy.publish(60, u64::MAX).unwrap(), node.hold(76));
        assert_eq!(greedy.crowds_with(1, &node), Some(Crowded { what: "bytes in flight", value: 61, share: 50 }));
        assert_eq!(modest.crowds_with(50, &node), None);
    }
}
