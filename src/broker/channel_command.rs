//! What a node asks the leader to do with a channel.

use serde::{Deserialize, Serialize};

use crate::model::{ChannelConfig, ChannelName, ChannelUpdate, Command, PeerVersion, TokenId};

/// A channel command before the leader has given it a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ChannelCommand {
    Create {
        name: ChannelName,
        config: ChannelConfig,
    },
    Update {
        name: ChannelName,
        update: ChannelUpdate,
    },
    Delete {
        name: ChannelName,
    },
    /// One that counts against what a token may have of them.
    CreateFor {
        name: ChannelName,
        config: ChannelConfig,
        token: TokenId,
    },
}

impl ChannelCommand {
    pub(super) fn name(&self) -> &ChannelName {
        match self {
            Self::Create { name, .. }
            | Self::CreateFor { name, .. }
            | Self::Update { name, .. }
            | Self::Delete { name } => name,
        }
    }

    /// The version that a cluster needs for it.
    pub(super) fn needs(&self) -> PeerVersion {
        self.clone().at(0).needs()
    }

    pub(super) fn at(self, time_ms: u64) -> Command {
        match self {
            Self::Create { name, config } => Command::CreateChannel { time_ms, name, config },
            Self::CreateFor { name, config, token } => Command::CreateChannelFor { time_ms, name, config, token },
            Self::Update { name, update } => Command::ChangeChannel { time_ms, name, update },
            Self::Delete { name } => Command::DeleteChannel { time_ms, name },
        }
    }
}
