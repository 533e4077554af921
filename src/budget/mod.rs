//! What clients and other nodes may hold of a node: connections, open requests, and bytes that came and are not a
//! request yet. Each is counted on four levels (node, face, address, connection), so that nobody can take what belongs
//! to all: a face gets at most three quarters of what the node has, an address half.
//!
//! Bytes are counted twice on their way, never at the same time. What was read from a connection and that nobody has
//! taken yet is *unread* ([`Account`]); while there is too much of it, connections are not read. What belongs to a
//! request or message that has not come whole, or is not answered, is *arriving* ([`Arriving`]); what finds no room there
//! waits for a moment and is refused. What is published counts from then on as in flight, with the broker. What goes out
//! counts until the connection has sent it ([`Holding`]): who asks for much and reads nothing holds it, too.
//!
//! Time is bounded too (`clocks`): to the first whole request, for a message that has begun, without a request, and
//! for a reader that reads nothing. Where there is no room for a connection, one that has not asked for anything goes
//! first, then the one that has been idle longest. Nobody who is being served has to go.

mod account;
mod answering;
mod arriving;
mod clocks;
pub mod descriptors;
mod face;
mod guard;
mod identity;
mod level;
mod making;
mod messages;
mod open;
mod origin;
mod progress;
mod shares;
mod usage;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub(crate) use self::making::made_of;
pub use self::{
    account::Account,
    answering::Holding,
    arriving::Arriving,
    clocks::Why,
    identity::Identity,
    level::{Full, Lease, Level},
    open::Open,
    origin::Origin,
    progress::{Progress, Refusal},
    shares::FaceName,
    usage::{Crowded, Usage},
};
use self::{
    face::Face,
    guard::Guarded,
    shares::{Levels, Shares},
};
use crate::{env::Listener, model::Limits};

/// What there are too many of where no request can begin.
pub const OPEN: &str = "open requests and streams";
/// What there is too much of where a request cannot arrive.
pub const UNFINISHED: &str = "bytes of unfinished requests";
/// What there is too much of where an answer is not given.
pub const UNTAKEN: &str = "bytes of answers that are not taken";

/// How often the clocks of all connections are looked at, at most and at least.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// The budgets of a node. Cloning shares them.
#[derive(Clone)]
pub struct Budgets {
    faces: Arc<[Arc<Face>; 3]>,
    tick: Duration,
}

impl Budgets {
    /// With the limits of a node.
    pub fn new(limits: &Limits) -> Self {
        let (began, clients) = (Instant::now(), Levels::new("node", Shares::of(limits)));
        // What is for other nodes is not for clients, and never lent.
        let peers = Levels::new("node", Shares::of_peers());
        let face = |name| {
            let above = if name == FaceName::Peers { &peers } else { &clients };
            Arc::new(Face::new(name, above, limits, began))
        };
        let tick = limits.handshake_timeout.min(limits.slow_after) / 4;
        Self { faces: Arc::new(FaceName::ALL.map(face)), tick: tick.clamp(TICK.0, TICK.1) }
    }

    /// A listener that hands on only connections that a face has room for, and counts what comes through them.
    pub fn guard(&self, face: FaceName, listener: Box<dyn Listener>) -> Box<dyn Listener> {
        Box::new(Guarded::new(listener, self.clone(), self.face(face).clone()))
    }

    fn face(&self, name: FaceName) -> &Arc<Face> {
        &self.faces[name as usize]
    }

    /// Ends what takes too long, for ever.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(self.tick).await;
            self.faces.iter().for_each(|face| face.sweep());
        }
    }

    /// Ends a client's connection that can go, so that a descriptor gets free.
    fn free_descriptor(&self) {
        let mut clients = [FaceName::Http, FaceName::Grpc].into_iter();
        let freed = clients.any(|name| self.face(name).make_room(Why::Descriptors));
        if !freed {
            tracing::warn!("there are no file descriptors left, and no connection that can go");
        }
    }

    /// What each face holds: its name, of what, and how much.
    pub fn held(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.faces.iter().flat_map(|face| face.held()).collect()
    }

    /// What each face has refused since the start: its name, what, why, and how often.
    pub fn refused(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
        self.faces.iter().flat_map(|face| face.refused()).collect()
    }

    /// Connections that each face has ended since the start: its name, why, and how many.
    pub fn evicted(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.faces.iter().flat_map(|face| face.evicted()).collect()
    }

    /// Clients' connections that are open now.
    pub fn connections(&self) -> u64 {
        [FaceName::Grpc, FaceName::Http].into_iter().map(|name| self.face(name).connections()).sum()
    }

    /// Clients' connections that were refused since the start.
    pub fn connections_refused(&self) -> u64 {
        let of_clients = |(face, what, _, count): (_, _, _, u64)| {
            (face != FaceName::Peers.name() && what == "connections").then_some(count)
        };
        self.refused().into_iter().filter_map(of_clients).sum()
    }
}
