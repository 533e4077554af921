//! Who is in the cluster: what its leader decides, one change at a time.
//!
//! A change is a Raft membership entry, and an entry of the machine's that says what happened and why, for operators
//! and for later decisions. Newcomers become learners, and voters once they have caught up. A node that has been away
//! for long is removed where the configuration says so and enough of the others are there.

mod admission;
mod change;
mod entries;
mod forwarding;
mod handover;
mod invitation;
mod leader;
mod operator;
mod picture;
mod tending;
mod version;

pub use self::{
    change::{Change, ChangeError},
    leader::MembershipPolicy,
};
pub(super) use self::{forwarding::serve, leader::Membership};
