//! Redrive: dead letters leave their channel for another one. What an entry of the log says of it.

use serde::{Deserialize, Serialize};

use super::{ChannelId, Gone, PublishGroup};

/// One step of a redrive: letters are appended to another channel and taken out of theirs, all of it or nothing. It has to
/// follow the step that was taken before it, of a redrive or of a compaction, so no letter is sent twice, whatever becomes
/// of an answer and whoever else redrives. A step without letters only takes its turn: behind it, its proposer knows that
/// its store holds what all steps before have left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The channel in which the letters lie.
    pub letters: ChannelId,
    /// Steps that were taken of it before this one.
    pub step: u64,
    /// The letters, in order.
    pub gone: Vec<Gone>,
    /// What is stored below this sequence number are letters of this step and nothing else, so the channel begins there.
    pub begin: Option<u64>,
    /// The messages that they become, in the same order, without keys of their own.
    pub group: PublishGroup,
}

impl Redrive {
    /// Letters that leave.
    pub fn count(&self) -> u64 {
        self.gone.iter().map(|gone| gone.count).fold(0, u64::saturating_add)
    }

    /// Whether there is a message for each letter.
    pub fn is_sound(&self) -> bool {
        self.count() == u64::from(self.group.frame.count()) && self.group.keys.is_empty()
    }
}
