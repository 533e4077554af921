//! The connections of one face: who is let in, who has to go for it, and whose time is up.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    account::{Account, Opening},
    clocks::{Clocks, Why, millis},
    level::{Lease, Level},
    origin::Origin,
    shares::{FaceName, Levels, Shares, largest},
};
use crate::model::Limits;

/// A connection that was idle for so long may go where there is no room, milliseconds.
const MAY_GO: u64 = 1_000;
/// Where a face is full, so often at most somebody is looked for who can go, milliseconds.
const LOOK: u64 = 5;
/// Connections beyond the limits that are let in to ask for health and readiness.
const FOR_MONITORING: usize = 16;
/// Connections to the port for other nodes that have not shown yet that they are of any.
const STRANGERS: usize = 64;

/// What one connection may hold for its services.
#[derive(Clone, Copy)]
pub(super) struct Most {
    pub(super) subscriptions: usize,
    pub(super) requests: usize,
    pub(super) in_flight: usize,
}

pub(super) struct Face {
    name: FaceName,
    began: Instant,
    clocks: Clocks,
    levels: Levels,
    of_address: Shares,
    of_connection: Shares,
    most: Most,
    /// Beyond the limits.
    monitoring: Arc<Level>,
    /// How many may not have proved yet who they are.
    most_strangers: usize,
    strangers: AtomicUsize,
    open: Mutex<Open>,
    refused: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    evicted: [AtomicU64; Why::ALL.len()],
}

#[derive(Default)]
struct Open {
    next: u64,
    /// By number, so the oldest first.
    accounts: BTreeMap<u64, Arc<Account>>,
    addresses: HashMap<Origin, Address>,
    looked: u64,
}

#[derive(Clone)]
struct Address {
    levels: Levels,
    accounts: BTreeSet<u64>,
}

impl Face {
    pub(super) fn new(name: FaceName, above: &Levels, limits: &Limits, began: Instant) -> Self {
        let largest = largest(limits);
        let room = |shares: Shares| Shares { arriving: shares.arriving.max(largest), ..shares };
        let (of_face, of_address, of_connection) = match name {
            FaceName::Peers => {
                let connection = Shares { arriving: Limits::PEER_MESSAGE_BYTES, ..Shares::unlimited() };
                (Shares::unlimited(), Shares::unlimited(), connection)
            }
            FaceName::Grpc | FaceName::Http => {
                let (face, address) = (Shares::of(limits).part(3, 4), Shares::of(limits).part(1, 2));
                let address = Shares { connections: limits.connections_per_address, ..address };
                let connection = Shares {
                    connections: 1,
                    streams: limits.streams_per_connection,
                    arriving: limits.connection_in_flight_bytes.min(address.arriving),
                    unread: usize::MAX, // its protocol bounds it
                    answers: limits.connection_in_flight_bytes.min(address.answers),
                };
                (room(face), room(address), room(connection))
            }
        };
        let http = name == FaceName::Http;
        Self {
            name,
            began,
            clocks: Clocks::of(limits),
            levels: above.below("face", of_face),
            of_address,
            of_connection,
            most: Most {
                subscriptions: limits.subscriptions_per_connection,
                requests: limits.requests_per_connection,
                in_flight: limits.connection_room(),
            },
            monitoring: Level::new("node", if http { FOR_MONITORING } else { 0 }),
            most_strangers: if name == FaceName::Peers { STRANGERS } else { usize::MAX },
            strangers: AtomicUsize::new(0),
            open: Mutex::default(),
            refused: Mutex::default(),
            evicted: Default::default(),
        }
    }

    /// Milliseconds since the node began.
    pub(super) fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    pub(super) fn name(&self) -> FaceName {
        self.name
    }

    pub(super) fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    pub(super) fn of_connection(&self) -> Shares {
        self.of_connection
    }

    pub(super) fn most(&self) -> Most {
        self.most
    }

    /// One more has shown that it is no stranger.
    pub(super) fn proved(&self) {
        let less = |strangers: usize| strangers.checked_sub(1);
        let _ = self.strangers.fetch_update(Ordering::AcqRel, Ordering::Acquire, less); // one that was never let in
    }

    /// A connection is another node's. The oldest of that node goes for it where it has too many: a node that came back may
    /// have some that it knows nothing of any more.
    pub(super) fn proved_node(&self, id: u64) {
        let mut open = self.open.lock();
        let mut of_node = open.accounts.values().filter(|account| account.node() == Some(id));
        let oldest = of_node.next().cloned();
        let others = of_node.count();
        if let Some(oldest) = oldest.filter(|_| others >= Limits::CONNECTIONS_OF_NODE) {
            self.end(&mut open, &oldest, Why::Room);
        }
    }

    /// Lets a connection in, if there is room or somebody who can go.
    pub(super) fn admit(self: &Arc<Self>, from: &str) -> Option<Arc<Account>> {
        let (origin, now) = (Origin::of(from), self.now());
        let mut open = self.open.lock();
        if self.strangers.load(Ordering::Acquire) >= self.most_strangers {
            let oldest = open.accounts.values().find(|account| !account.is_proven()).cloned();
            if let Some(stranger) = oldest {
                self.end(&mut open, &stranger, Why::Room);
            }
        }
        let address = open.addresses.get(&origin).cloned();
        let address = address.unwrap_or_else(|| Address {
            levels: self.levels.below("address", self.of_address),
            accounts: BTreeSet::new(),
        });
        let connections = &address.levels.connections;
        let mut place = connections.take(1);
        if let Err(full) = place
            && let Some(victim) = open.victim(if full.whose == "address" { Some(&origin) } else { None }, now)
        {
            self.end(&mut open, &victim, Why::Room);
            place = connections.take(1);
        }
        let (place, monitoring) = match place {
            Ok(place) => (place, false),
            Err(full) => match self.admit_for_monitoring(&mut open) {
                Some(place) => (place, true),
                None => {
                    self.refuse("connections", full.whose);
                    return None;
                }
            },
        };
        let id = open.next;
        open.next += 1;
        let opening = Opening { id, origin: origin.clone(), monitoring, place: Some(place) };
        let account = Arc::new(Account::open(self.clone(), &address.levels, opening));
        self.strangers.fetch_add(1, Ordering::AcqRel);
        open.accounts.insert(id, account.clone());
        let levels = address.levels;
        let known = open.addresses.entry(origin).or_insert(Address { levels, accounts: BTreeSet::new() });
        known.accounts.insert(id);
        Some(account)
    }

    fn admit_for_monitoring(&self, open: &mut Open) -> Option<Lease> {
        self.monitoring.take(1).ok().or_else(|| {
            let oldest = open.accounts.values().find(|account| account.is_for_monitoring()).cloned()?;
            self.end(open, &oldest, Why::Room);
            self.monitoring.take(1).ok()
        })
    }

    /// Ends a connection that can go, if there is one.
    pub(super) fn make_room(&self, why: Why) -> bool {
        let mut open = self.open.lock();
        let victim = open.victim(None, self.now());
        if let Some(victim) = &victim {
            self.end(&mut open, victim, why);
        }
        victim.is_some()
    }

    /// Ends whose time is up, and has those look again that waited for room.
    pub(super) fn sweep(&self) {
        let (mut open, now) = (self.open.lock(), self.now());
        let mut over = Vec::new();
        for account in open.accounts.values() {
            match account.judge(now, &self.clocks) {
                Some(why) => over.push((account.clone(), why)),
                None => account.resume(),
            }
        }
        for (account, why) in over {
            self.end(&mut open, &account, why);
        }
    }

    fn end(&self, open: &mut Open, account: &Arc<Account>, why: Why) {
        if account.end(why) {
            self.evicted[why as usize - 1].fetch_add(1, Ordering::Relaxed);
            tracing::debug!(face = self.name.name(), from = ?account.origin, why = why.name(), "ends a connection");
        }
        self.remove(open, account);
    }

    /// Ends a connection whose certificate is not valid any more.
    pub(super) fn distrust(&self, account: &Arc<Account>) {
        self.end(&mut self.open.lock(), account, Why::Certificate);
    }

    /// The connection is closed.
    pub(super) fn closed(&self, account: &Account) {
        self.remove(&mut self.open.lock(), account);
    }

    fn remove(&self, open: &mut Open, account: &Account) {
        account.close();
        if open.accounts.remove(&account.id).is_none() {
            return;
        }
        account.prove(); // it is a stranger no longer
        if let Some(address) = open.addresses.get_mut(&account.origin) {
            address.accounts.remove(&account.id);
            if address.accounts.is_empty() {
                open.addresses.remove(&account.origin);
            }
        }
    }

    pub(super) fn refuse(&self, what: &'static str, why: &'static str) {
        *self.refused.lock().entry((what, why)).or_default() += 1;
    }

    pub(super) fn connections(&self) -> u64 {
        self.open.lock().accounts.len() as u64
    }

    pub(super) fn held(&self) -> Vec<(&'static str, &'static str, u64)> {
        let Levels { streams, arriving, unread, answers, .. } = &self.levels;
        let held = [
            ("connections", self.connections()),
            ("streams", streams.held() as u64),
            ("arriving_bytes", arriving.held() as u64),
            ("unread_bytes", unread.held() as u64),
            ("answer_bytes", answers.held() as u64),
        ];
        held.map(|(what, amount)| (self.name.name(), what, amount)).into()
    }

    pub(super) fn refused(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
        self.refused.lock().iter().map(|((what, why), count)| (self.name.name(), *what, *why, *count)).collect()
    }

    pub(super) fn evicted(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = Why::ALL.into_iter().zip(&self.evicted);
        counts.map(|(why, count)| (self.name.name(), why.name(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Open {
    /// Who goes where there is no room, at an address or on the whole face: whoever has not asked for anything, the oldest
    /// of the address that has most connections first; else who has been idle longest. Nobody who is served.
    fn victim(&mut self, origin: Option<&Origin>, now: u64) -> Option<Arc<Account>> {
        if origin.is_none() {
            if now.saturating_sub(self.looked) < LOOK && self.looked > 0 {
                return None; // there are many to look at
            }
            self.looked = now;
        }
        let mut all: Vec<&Arc<Account>> = match origin {
            Some(origin) => {
                let ids = self.addresses.get(origin)?.accounts.iter();
                ids.filter_map(|id| self.accounts.get(id)).collect()
            }
            None => self.accounts.values().collect(),
        };
        all.retain(|account| !account.is_for_monitoring()); // their places are no others'
        let crowd = |account: &Account| self.addresses.get(&account.origin).map_or(0, |known| known.accounts.len());
        let strangers = all.iter().filter(|account| !account.is_proven());
        // Of equal ones the oldest, which `max_by_key` finds last.
        if let Some(stranger) = strangers.rev().max_by_key(|account| crowd(account)) {
            return Some((*stranger).clone());
        }
        let idle = all.iter().filter_map(|account| Some((account.idle(now)?, account)));
        idle.filter(|(idle, _)| *idle >= MAY_GO).max_by_key(|(idle, _)| *idle).map(|(_, account)| (**account).clone())
    }
}
