//! A node's part in its Raft group, from start to stop.

mod changes;
mod config;
mod end;
mod member;
mod sequencing;
mod start;

pub use self::{config::GroupConfig, member::RaftGroup, start::StartError};
pub use super::node_state::NodeState;
