//! Whether a node may take part in its group: [`super::joining`] finds it out, and everything that must not act for a
//! node that is not let in looks at it.

use std::collections::BTreeSet;

/// Whether a node may take part in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its process has just begun.
    Asking,
    /// It has no log yet, so there is nothing to be careful with: it takes part.
    Fresh,
    /// There is no leader to ask, and these know nothing against its disk, with it a majority: it takes part, and asks as
    /// soon as there is a leader.
    Unconfirmed(BTreeSet<u64>),
    /// The leader let it in.
    Admitted,
    /// The leader refuses it for now, and why; it asks again.
    Refused(String),
    /// It must never take part with this disk, and why.
    Barred(String),
    /// Its state is not that of the others, and what to do.
    Diverged(String),
}

impl Standing {
    /// Whether votes and log entries may be exchanged.
    pub(super) fn takes_part(&self) -> bool {
        matches!(self, Self::Fresh | Self::Unconfirmed(_) | Self::Admitted)
    }

    /// Whether that node may get this one's vote. One that was not asked may know that this node's log is an old copy,
    /// whose vote would bring about a leader without what was acknowledged.
    pub(super) fn votes_for(&self, node: u64) -> bool {
        match self {
            Self::Unconfirmed(asked) => asked.contains(&node),
            standing => standing.takes_part(),
        }
    }

    /// Why the node is not let in; empty otherwise.
    pub(super) fn failure(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Barred(reason) | Self::Diverged(reason) => reason,
            _ => "",
        }
    }
}
