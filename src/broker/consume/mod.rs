//! Consumers: durable cursors whose work a group of members shares, whichever nodes the members are connected to.
//!
//! The machine owns the state. On the leader a group (`group.rs`) decides who gets which message, proposes it, and
//! sleeps when nobody is there to get any. The assignment reaches a member's node by the log like everything else: a
//! member (`member.rs`) looks into its own node's state, reads the messages from its own store and hands them on. So
//! nothing is lost with an answer, and a new leader finds everything where the old one left it.

mod behind;
mod dead;
mod group;
mod holding;
mod letters;
mod listing;
mod manage;
mod member;
mod named;
mod plan;
mod presence;
mod redrive;
mod seats;
mod settle;

pub(super) use self::{dead::run as run_dead, manage::DEAD, named::Named};
pub use self::{
    holding::Holding,
    letters::{Letter, REDRIVEN},
    listing::{LetterPage, Letters},
    manage::{ConsumerInfo, ConsumerUpdate, DeadLetters},
    member::{ConsumerDelivery, Member},
    redrive::{RedriveTo, Redriven},
};
