//! What an operator asks of the membership, and why it was not done.

use crate::sequencer::SequencerError;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Let a node in that has asked for it and was refused because it had been removed.
    Join {
        /// Its name, its id, or its address for other nodes.
        node: String,
    },
    /// Make a learner a voter.
    Promote {
        /// The node's name.
        name: String,
    },
    /// Take a node out; it may not come back by itself.
    Remove {
        /// The node's name.
        name: String,
    },
    /// Hand leadership over.
    Transfer {
        /// The node's name; empty: the voter with the newest log.
        name: String,
    },
}

/// Why a change was not made, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It was not, and trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// This node does not lead: nothing was done.
    #[error("this node does not lead")]
    NotLeader,
    /// It may have been.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

impl From<SequencerError> for ChangeError {
    fn from(error: SequencerError) -> Self {
        match error {
            SequencerError::NotLeader | SequencerError::Stopped => Self::NotLeader,
            SequencerError::TooLarge { .. } | SequencerError::NotUpgraded { .. } => Self::Refused(error.to_string()),
            SequencerError::Unknown(reason) => Self::Unknown(reason),
        }
    }
}
