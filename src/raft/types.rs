//! openraft's core over our state machine. Apart from [`super::encoding`], because the state machine needs that too.

use super::state_machine::StateMachine;
pub(super) use super::{encoding::TypeConfig, snapshot::SnapshotOf};

pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;
