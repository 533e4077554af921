//! One connection: what is held through it, what came through it that nobody has taken, and how it gets on. The
//! connection itself, the services that answer its requests and the clocks of its face all look at this.

mod judge;
mod known;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    clocks::{Clocks, Why},
    face::Face,
    identity::Identity,
    level::{Full, Lease, Level},
    open::Open,
    origin::Origin,
    shares::{FaceName, Levels, Shares},
    usage::Belonging,
};
use crate::{
    model::{Limits, Quota},
    quota::{Exceeded, Meter},
};

/// Bytes of a connection that has not asked for anything yet that are read: the head of a request.
pub(super) const UNPROVEN_BYTES: u64 = 64 << 10;
/// Unread bytes that a connection may have, however little room there is: a small message.
const OWN_BYTES: usize = 16 << 10;

/// What the services know of the connection that a request came through, and what counts against it.
pub struct Account {
    /// Subscriptions that live on it.
    pub subscriptions: Arc<Level>,
    /// Requests on it that wait for a reply.
    pub requests: Arc<Level>,
    /// Bytes of its publishes that are not answered yet.
    pub in_flight: Arc<Level>,
    pub(super) streams: Arc<Level>,
    pub(super) arriving: Arc<Level>,
    /// What came and nobody has taken yet.
    unread: Arc<Level>,
    /// What was answered and is not sent yet.
    pub(super) answers: Arc<Level>,
    meter: Mutex<Meter>,
    /// The tokens for which it counts, by what tells them apart.
    pub(super) tokens: Mutex<BTreeMap<usize, Belonging>>,
    pub(super) id: u64,
    pub(super) origin: Origin,
    face: Arc<Face>,
    /// It has one of the few places for monitoring, because there was no other.
    monitoring: bool,
    /// What it takes of the connections, until it is closed.
    place: Mutex<Option<Lease>>,
    /// All times are milliseconds of the face's clock.
    opened: u64,
    /// When something came last, or a request ended.
    active: AtomicU64,
    /// Bytes that came.
    heard: AtomicU64,
    /// Since when bytes have been unread, while some are.
    unread_since: AtomicU64,
    /// Since when it has taken none of the bytes that wait to be sent, while some wait; else 0.
    blocked_since: AtomicU64,
    /// The pace of a message over an upgraded connection: when it was looked at, and what had come by then.
    pace: (AtomicU64, AtomicU64),
    proven: AtomicBool,
    /// Which node it is, on the port for nodes.
    node: OnceLock<u64>,
    /// Stands for that node's connection.
    bond: OnceLock<[u8; 32]>,
    /// Which node its certificate names.
    certified: OnceLock<Arc<str>>,
    /// Whom a client's certificate names.
    identity: OnceLock<Arc<Identity>>,
    upgraded: AtomicBool,
    /// Why it has to end; 0 while it need not.
    ended: AtomicU8,
    /// It is not read until something wakes it.
    stalled: AtomicBool,
    /// Requests whose bodies are being read, and those of them of which nothing more is there.
    bodies: AtomicUsize,
    waiting: AtomicUsize,
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
}

/// What a new account belongs to.
pub(super) struct Opening {
    pub(super) id: u64,
    pub(super) origin: Origin,
    pub(super) monitoring: bool,
    pub(super) place: Option<Lease>,
}

impl Account {
    pub(super) fn open(face: Arc<Face>, above: &Levels, opening: Opening) -> Self {
        let (now, shares, most) = (face.now(), face.of_connection(), face.most());
        let Opening { id, origin, monitoring, place } = opening;
        Self {
            subscriptions: Level::new("connection", most.subscriptions),
            requests: Level::new("connection", most.requests),
            in_flight: Level::new("connection", most.in_flight),
            streams: above.streams.below("connection", shares.streams),
            arriving: above.arriving.below("connection", shares.arriving),
            unread: above.unread.below("connection", shares.unread),
            answers: above.answers.below("connection", shares.answers),
            meter: Mutex::default(),
            tokens: Mutex::default(),
            id,
            origin,
            face,
            monitoring,
            place: Mutex::new(place),
            opened: now,
            active: AtomicU64::new(now),
            heard: AtomicU64::new(0),
            unread_since: AtomicU64::new(now),
            blocked_since: AtomicU64::new(0),
            pace: (AtomicU64::new(0), AtomicU64::new(0)),
            proven: AtomicBool::new(false),
            node: OnceLock::new(),
            bond: OnceLock::new(),
            certified: OnceLock::new(),
            identity: OnceLock::new(),
            upgraded: AtomicBool::new(false),
            ended: AtomicU8::new(0),
            stalled: AtomicBool::new(false),
            bodies: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    /// As [`Meter::take`], for all that is published through the connection.
    pub(crate) fn meter(&self, quota: Quota, messages: u64, bytes: u64, now: Instant) -> Result<(), Exceeded> {
        self.meter.lock().take(quota, messages, bytes, now)
    }

    /// Somebody speaks who may: the head of a request is there, or the proof of another node.
    pub fn prove(&self) {
        if !self.proven.swap(true, Ordering::AcqRel) {
            self.face.proved();
            self.resume();
        }
    }

    /// A request begins, which is open until the lease is dropped.
    ///
    /// # Errors
    /// When too many are open.
    pub fn begin(&self) -> Result<Arc<Open>, Full> {
        let begun = self.streams.take(1).inspect_err(|full| self.face.refuse("streams", full.whose))?;
        Ok(Arc::new(Open::new(begun)))
    }

    /// The same for what is there already: of a request that is told that there is no room, or of what it has become.
    pub fn begin_anyway(&self) -> Arc<Open> {
        Arc::new(Open::new(self.streams.hold(1)))
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its address asks for more judgements of filters than others wait for.
    pub fn lags_behind(&self) {
        self.face.refuse("judgements", "address");
    }

    /// Counts a refusal of this connection.
    pub(super) fn refuse(&self, what: &'static str, why: &'static str) {
        self.face.refuse(what, why);
    }

    /// Whether enough of its answers wait to be sent. One that has none waiting may always have one.
    pub(super) fn answers_are_crowded(&self) -> bool {
        self.answers.held() > 0 && self.answers.is_over()
    }

    pub(super) fn clocks(&self) -> &Clocks {
        self.face.clocks()
    }

    /// Room for a message of so many bytes that has begun to come.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn arriving(&self, bytes: usize) -> Result<Lease, Full> {
        self.arriving.take(bytes).inspect_err(|full| self.face.refuse("arriving_bytes", full.whose))
    }

    /// Bytes of what arrives on it.
    #[cfg(test)]
    pub(crate) fn arriving_bytes(&self) -> usize {
        self.arriving.held()
    }

    /// Bytes of requests that may arrive on it at once, and so of one message with all that it becomes.
    pub(super) fn most_arriving(&self) -> usize {
        self.face.of_connection().arriving
    }

    /// Whether it was let in for monitoring only.
    pub fn is_for_monitoring(&self) -> bool {
        self.monitoring
    }

    /// From now on it carries messages both ways, which are taken with [`Account::took_all`].
    pub fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
        self.took_all();
    }

    /// Something ended on it just now.
    pub(super) fn touch(&self) {
        self.active.store(self.face.now(), Ordering::Relaxed);
    }

    /// Bytes came.
    pub(super) fn came(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let now = self.face.now();
        self.heard.fetch_add(bytes as u64, Ordering::Relaxed);
        self.active.store(now, Ordering::Relaxed);
        // Between requests, frames are not for them; and where all who read wait for more, they have taken all there was.
        if self.face.name().is_framed() && self.waits_for_more() {
            self.took_all();
        }
        if self.unread.held() == 0 {
            self.unread_since.store(now, Ordering::Relaxed);
        }
        self.unread.add(bytes);
    }

    fn waits_for_more(&self) -> bool {
        self.waiting.load(Ordering::Acquire) >= self.bodies.load(Ordering::Acquire)
    }

    /// Some of what came is taken. Without frames it was all of it: nothing is read ahead of a body.
    pub(super) fn took(&self, bytes: usize) {
        self.unread.give_back_at_most(if self.face.name().is_framed() { bytes } else { usize::MAX });
        self.resume();
    }

    /// All that came is taken.
    pub fn took_all(&self) {
        if self.unread.give_back_at_most(usize::MAX) > 0 {
            self.resume();
        }
    }

    /// A body is being read from now on, of which something is there.
    pub(super) fn body_begins(&self) {
        self.bodies.fetch_add(1, Ordering::AcqRel);
    }

    /// A body waits for more, or does no longer.
    pub(super) fn body_waits(&self, waits: bool) {
        if !waits {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.waits_for_more() {
            self.took_all();
        }
    }

    /// A body has ended or is given up.
    pub(super) fn body_ends(&self, waited: bool) {
        if waited {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        if self.bodies.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.took_all();
        }
    }

    /// Whether nothing may be read now. Who asks is woken when that may have changed.
    pub(super) fn is_stalled(&self) -> bool {
        let unproven = !self.proven.load(Ordering::Acquire) && self.heard.load(Ordering::Relaxed) >= UNPROVEN_BYTES;
        let crowded = self.unread.held() > OWN_BYTES && self.unread.is_over();
        let stalled = unproven || crowded;
        self.stalled.store(stalled, Ordering::Release);
        stalled
    }

    /// Has a connection that is not read look again.
    pub(super) fn resume(&self) {
        if self.stalled.load(Ordering::Acquire) {
            self.reader.wake();
        }
    }

    /// Bytes that were to be sent were taken, or wait.
    pub(super) fn sent(&self, waits: bool) {
        let since = if !waits {
            0
        } else if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.face.now().max(1)
        } else {
            return;
        };
        self.blocked_since.store(since, Ordering::Relaxed);
    }

    /// Why it has to end.
    pub(super) fn ended(&self) -> Option<Why> {
        Why::of(self.ended.load(Ordering::Acquire))
    }

    /// Has it end; whether it was not so before.
    pub(super) fn end(&self, why: Why) -> bool {
        let ends = self.ended.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if ends {
            self.reader.wake();
            self.writer.wake();
        }
        ends
    }

    /// It holds nothing any more.
    pub(super) fn close(&self) {
        self.took_all();
        drop(self.place.lock().take());
        // Dropped once the lock is free, because dropping them takes other locks.
        let tokens = std::mem::take(&mut *self.tokens.lock());
        drop(tokens);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }
}

/// Of a connection that no listener has let in: nothing is limited, and nobody looks at its clocks.
impl Default for Account {
    fn default() -> Self {
        let levels = Levels::new("node", Shares::unlimited());
        let face = Arc::new(Face::new(FaceName::Grpc, &levels, &Limits::default(), Instant::now()));
        let opening = Opening { id: 0, origin: Origin::of(""), monitoring: false, place: None };
        let account = Self::open(face, &levels, opening);
        account.proven.store(true, Ordering::Release);
        account
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.took_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_unread_until_it_is_taken_or_all_who_read_wait_for_more() {
        let account = Account::default();
        account.came(100);
        account.body_begins();
        account.came(50);
        assert_eq!(account.unread.held(), 150);
        account.took(120);
        assert_eq!(account.unread.held(), 30);
        account.body_waits(true);
        assert_eq!(account.unread.held(), 0, "what is left was around the frames");
        account.came(7);
        account.came(8);
        assert_eq!(account.unread.held(), 8, "frames that are for no body do not add up");
        account.body_ends(true);
        assert_eq!(account.unread.held(), 0);
    }
}
