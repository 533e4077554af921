//! What keeps a node from doing its work, by the part of it that does not work.
//!
//! Many parts of a node notice that something is wrong: a commit that waits, a disk that does not answer, a page that
//! cannot be read. Each says so here, once, and everybody who has to act on it looks here: readiness, status, metrics,
//! the refusal of new work, and whoever gives leadership away. It is at the bottom of the imports, so every part can
//! use it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::sync::watch;

/// A part of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The store that takes commits and makes them durable.
    Store,
    /// The log, and the disk under it.
    Log,
    /// Stored data that somebody asked for and that cannot be read.
    Data,
    /// Stored data that is damaged, found by looking for it.
    Damage,
    /// The runtime that serves clients.
    Runtime,
    /// The thread that Raft runs on.
    Raft,
    /// The other nodes: enough of them to commit anything.
    Majority,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Store, Self::Log, Self::Data, Self::Damage, Self::Runtime, Self::Raft, Self::Majority];

    /// Its stable name, for metrics and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Log => "log",
            Self::Data => "data",
            Self::Damage => "damage",
            Self::Runtime => "runtime",
            Self::Raft => "raft",
            Self::Majority => "majority",
        }
    }

    /// Whether another node should lead while this part does not work. Without a majority there is nobody to ask.
    pub fn is_needed_to_lead(self) -> bool {
        self != Self::Majority
    }

    /// Whether a node without it cannot even be elected: its votes and entries would not reach its disk.
    pub fn is_needed_to_stand(self) -> bool {
        matches!(self, Self::Log | Self::Raft)
    }

    /// Whether a node without it still commits and serves all that it can read.
    pub fn is_only_needed_to_read(self) -> bool {
        matches!(self, Self::Data | Self::Damage | Self::Majority)
    }

    /// Whether nothing new can be stored while this part does not work.
    pub fn is_needed_to_write(self) -> bool {
        matches!(self, Self::Store | Self::Log | Self::Majority)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The parts that do not work, each with the reason: a sentence for people that names the file, the limit or the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<Part, String>);

impl Failures {
    /// Whether everything works.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why a part does not work; none while it does.
    pub fn of(&self, part: Part) -> Option<&str> {
        self.0.get(&part).map(String::as_str)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Part, &str)> {
        self.0.iter().map(|(part, reason)| (*part, reason.as_str()))
    }

    /// The first reason why another node should lead.
    pub fn keeps_from_leading(&self) -> Option<(Part, &str)> {
        self.iter().find(|(part, _)| part.is_needed_to_lead())
    }

    /// The first reason why nothing new can be stored.
    pub fn keeps_from_writing(&self) -> Option<(Part, &str)> {
        self.iter().find(|(part, _)| part.is_needed_to_write())
    }

    /// The reasons as texts.
    pub fn reasons(&self) -> Vec<String> {
        self.0.values().cloned().collect()
    }
}

/// One node's health. Cloning shares it.
#[derive(Clone)]
pub struct Health {
    failures: Arc<watch::Sender<Failures>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { failures: Arc::new(watch::Sender::new(Failures::default())) }
    }
}

impl Health {
    /// Says why a part does not work, or that it does. Repeating it costs nothing and tells nobody; a change is logged.
    pub fn set(&self, part: Part, reason: Option<String>) {
        self.failures.send_if_modified(|failures| {
            if failures.0.get(&part) == reason.as_ref() {
                return false;
            }
            match reason {
                Some(reason) => {
                    tracing::error!(%part, reason, "this node cannot do its work");
                    failures.0.insert(part, reason);
                }
                None => {
                    tracing::info!(%part, "this part of the node works again");
                    failures.0.remove(&part);
                }
            }
            true
        });
    }

    /// What does not work now.
    pub fn failures(&self) -> Failures {
        self.failures.borrow().clone()
    }

    /// Why a part does not work now; none while it does.
    pub fn of(&self, part: Part) -> Option<String> {
        self.failures.borrow().of(part).map(str::to_owned)
    }

    /// Whether this node may lead.
    pub fn may_lead(&self) -> bool {
        self.failures.borrow().keeps_from_leading().is_none()
    }

    /// What does not work, as it changes.
    pub fn changes(&self) -> watch::Receiver<Failures> {
        self.failures.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_is_told_of_changes_and_of_nothing_else() {
        let health = Health::default();
        let mut changes = health.clone().changes();
        health.set(Part::Store, None);
        assert!(!changes.has_changed().unwrap() && health.failures().is_empty());
        health.set(Part::Store, Some("no room".into()));
        assert!(changes.has_changed().unwrap() && !health.may_lead());
        changes.borrow_and_update();
        health.set(Part::Store, Some("no room".into()));
        assert!(!changes.has_changed().unwrap());
        health.set(Part::Store, None);
        assert!(changes.has_changed().unwrap() && health.may_lead());
    }

    #[test]
    fn a_leader_without_a_majority_takes_no_writes_and_gives_leadership_to_nobody() {
        let health = Health::default();
        health.set(Part::Majority, Some("2 of 3 nodes do not answer".into()));
        assert!(health.may_lead());
        assert!(health.failures().keeps_from_writing().is_some());
        health.set(Part::Data, Some("state/ab".into()));
        assert_eq!(health.failures().keeps_from_leading(), Some((Part::Data, "state/ab")));
        assert_eq!(health.of(Part::Majority).as_deref(), Some("2 of 3 nodes do not answer"));
    }
}
