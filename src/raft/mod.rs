//! The Raft group of a cluster. Every openraft type stays inside this module, and nothing of openraft's own
//! encodings reaches the disk or the wire.
//!
//! [`RaftGroup`] starts a node's part of the group and implements the broker's [`Sequencer`] and [`Peers`].
//!
//! [`Sequencer`]: crate::sequencer::Sequencer
//! [`Peers`]: crate::sequencer::Peers

mod aside;
mod backup;
mod calls;
mod clocks;
mod commits;
mod complaints;
mod encoding;
mod failover;
mod formation;
mod group;
mod handshake;
mod healing;
mod identity;
mod intact;
mod joining;
mod lane;
mod leadership;
pub mod log;
mod log_adapter;
mod membership;
mod network;
mod node_state;
mod peer_service;
mod port;
mod propose;
mod purge;
mod sane;
mod scrub;
mod sizes;
mod snapshot;
mod standing;
mod state_machine;
mod survey;
mod thread;
mod transport;
mod types;
mod verify;
mod waiting;
mod wire;
mod witness;

pub use self::scrub::{ScrubConfig, ScrubReport};
pub use backup::{Backup, Restore, RestoreError};
pub use clocks::ClockDifference;
pub(crate) use complaints::Complaints;
pub use group::{GroupConfig, RaftGroup, StartError};
pub use handshake::PeerKeys;
pub use healing::heal_from_seeds;
pub use identity::{Identity, IdentityError};
pub use membership::{Change, ChangeError, MembershipPolicy};
pub use node_state::NodeState;
pub use purge::KeepLog;
pub use thread::RaftThread;
pub use verify::Verified;
