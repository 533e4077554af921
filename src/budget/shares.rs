//! What each level has of everything that is counted: the node, a face, an address, a connection.

use std::sync::Arc;

use super::level::Level;
use crate::model::Limits;

/// Beside the bytes of a batch: what is around its messages on the wire.
const AROUND: usize = 1 << 20;

/// Where a node can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaceName {
    /// gRPC, for clients.
    Grpc,
    /// HTTP and WebSockets, for clients and monitoring.
    Http,
    /// Other nodes.
    Peers,
}

impl FaceName {
    pub(super) const ALL: [Self; 3] = [Self::Grpc, Self::Http, Self::Peers];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Peers => "peers",
        }
    }

    /// Whether several requests share a connection, in frames that its protocol bounds.
    pub(super) fn is_framed(self) -> bool {
        self != Self::Http
    }
}

/// What one level has of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) connections: usize,
    pub(super) streams: usize,
    pub(super) arriving: usize,
    pub(super) unread: usize,
    pub(super) answers: usize,
}

impl Shares {
    /// Of a node, for all its clients.
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            connections: limits.connections,
            streams: limits.streams,
            arriving: limits.arriving_bytes,
            unread: limits.unread_bytes,
            answers: limits.answer_bytes,
        }
    }

    /// Of other nodes together. Their connections are bounded by node, and their requests by connection.
    pub(super) fn of_peers() -> Self {
        let (arriving, unread) = (Limits::PEERS_ARRIVING_BYTES, Limits::PEERS_UNREAD_BYTES);
        Self { arriving, unread, ..Self::unlimited() }
    }

    pub(super) fn unlimited() -> Self {
        let most = usize::MAX;
        Self { connections: most, streams: most, arriving: most, unread: most, answers: most }
    }

    /// Rounded up: a share of something is never nothing.
    pub(super) fn part(self, numerator: usize, denominator: usize) -> Self {
        let part = |whole: usize| match whole.checked_mul(numerator) {
            Some(product) => product.div_ceil(denominator),
            None => whole,
        };
        Self {
            connections: part(self.connections),
            streams: part(self.streams),
            arriving: part(self.arriving),
            unread: part(self.unread),
            answers: part(self.answers),
        }
    }
}

/// Levels of everything that is counted.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    pub(super) connections: Arc<Level>,
    pub(super) streams: Arc<Level>,
    pub(super) arriving: Arc<Level>,
    pub(super) unread: Arc<Level>,
    pub(super) answers: Arc<Level>,
}

impl Levels {
    pub(super) fn new(whose: &'static str, shares: Shares) -> Self {
        Self {
            connections: Level::new(whose, shares.connections),
            streams: Level::new(whose, shares.streams),
            arriving: Level::new(whose, shares.arriving),
            unread: Level::new(whose, shares.unread),
            answers: Level::new(whose, shares.answers),
        }
    }

    pub(super) fn below(&self, whose: &'static str, shares: Shares) -> Self {
        Self {
            connections: self.connections.below(whose, shares.connections),
            streams: self.streams.below(whose, shares.streams),
            arriving: self.arriving.below(whose, shares.arriving),
            unread: self.unread.below(whose, shares.unread),
            answers: self.answers.below(whose, shares.answers),
        }
    }
}

/// The largest request: a transaction in JSON has its payloads in base64, and more around each of them.
pub(super) fn largest(limits: &Limits) -> usize {
    limits.batch_bytes.max(limits.message_bytes).saturating_mul(2).saturating_add(AROUND)
}
