//! The store on disk: a memtable of ours over haematite, a content-addressed tree.
//!
//! A commit only changes the memtable, because the replicated log is the write-ahead log. A thread of its own *folds*
//! the memtable into haematite, atomically with the applied mark in it, when it is large or old enough, and on flush.
//! Reads look into the memtable, then into the one that is being folded, then into a view of the tree.
//!
//! Layout of a data directory: `LOCK` (held while the store is open), `CURRENT` (names the live state: `current`), `USAGE` (a hint
//! of how much of it lives), and `state-000001` and so on (a haematite database each; a snapshot is installed as the
//! next one, and what lives moves to the next one when most of the disk space is taken by what does not).

mod blocking;
mod check;
mod compact;
mod config;
mod current;
mod damages;
mod database;
mod engine;
mod fold;
mod healing;
mod install;
mod links;
mod memtable;
mod nodes;
mod refusal;
mod runs;
mod scan;
mod shared;
mod snapshot;
#[cfg(test)]
mod tests;
mod usage;
mod view;

pub use self::{
    config::HaematiteConfig,
    engine::{HaematiteEngine, HaematiteStore},
};
