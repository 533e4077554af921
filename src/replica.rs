//! One node's copy of the replicated state: the machine, its store and the live subscribers, kept in step.
//!
//! Whoever orders commands (the Raft group, or a single process that embeds the broker) hands them to
//! [`Replica::apply`] one after another. Readers look through a [`ReplicaView`].

mod checkpoint;
mod commits;
mod error;
mod health;
mod replacing;
mod shared;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use self::{
    checkpoint::Checkpoint,
    error::OpenError,
    health::StoreHealth,
    replacing::Prepared,
    view::{Expecting, ReplicaView},
    writer::Replica,
};
