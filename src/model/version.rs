//! Versions of what nodes say to each other and write into their log, and which of them each command needs.
//!
//! Every command that is newer than [`PeerVersion::UNWRITTEN`] is declared in [`Command::needs`], by its kind or by what is in
//! it, and nowhere else. A leader orders it only once the cluster has that version: before, a node of an earlier build could
//! not read it. What a command that is older does must not change without looking at the cluster's version either.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AUDIT_CHANNEL, ChannelName, Command, Operation, SecurityOperation};

/// A version of the protocol that nodes speak with each other, and of what they write into the log. The cluster has one too:
/// the newest that all its nodes have been seen to speak. It has nothing to do with the versions of what is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerVersion(pub u8);

impl PeerVersion {
    /// The oldest one that this build speaks: that of the version before it, so that a cluster is upgraded node by node.
    pub const OLDEST: Self = Self(3);
    /// The newest one.
    pub const NEWEST: Self = Self(4);
    /// That of a cluster whose state says nothing of it: the last version before the state did. It never changes.
    pub const UNWRITTEN: Self = Self(3);
    /// With audit and invitations: the channel `$audit`, and the newer operations on tokens.
    pub const INVITATIONS: Self = Self(4);
    /// With a bound on how many ack timeouts one command ends.
    pub const BOUNDED_TIMEOUTS: Self = Self(4);
    /// With quotas of roles, and with certificates in the place of tokens.
    pub const QUOTAS: Self = Self(4);
}

impl fmt::Display for PeerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Command {
    /// The version that a cluster needs for it.
    pub fn needs(&self) -> PeerVersion {
        match self {
            Self::CreateChannel { name, .. }
            | Self::UpdateChannel { name, .. }
            | Self::ChangeChannel { name, .. }
            | Self::DeleteChannel { name, .. } => named(name),
            Self::Operations { operations, .. } => {
                operations.iter().map(Operation::needs).max().unwrap_or(PeerVersion::UNWRITTEN)
            }
            Self::CreateChannelFor { name, .. } => named(name).max(PeerVersion::QUOTAS),
            // Whoever reads it has to be able to go on.
            Self::RaiseVersion { version, .. } => *version,
            Self::Publish { .. }
            | Self::Tick { .. }
            | Self::Checkpoint { .. }
            | Self::Member { .. }
            | Self::Calendar { .. } => PeerVersion::UNWRITTEN,
        }
    }
}

impl Operation {
    /// The version that a cluster needs for it.
    pub fn needs(&self) -> PeerVersion {
        match self {
            Self::Security(operation) => operation.needs(),
            Self::Trim { channel, .. } => named(channel),
            Self::PutRule { source, target, .. } | Self::DeleteRule { source, target } => {
                named(source).max(named(target))
            }
            Self::OnBehalf(_) => PeerVersion::QUOTAS,
            Self::Claim(_)
            | Self::Consumer(_)
            | Self::Transaction(_)
            | Self::Schedule(_)
            | Self::Due(_)
            | Self::Compact(_)
            | Self::Redrive(_)
            | Self::Withdraw { .. }
            | Self::LimitKeys { .. }
            | Self::LimitState(_)
            | Self::Reclaim(_) => PeerVersion::UNWRITTEN,
        }
    }
}

impl SecurityOperation {
    fn needs(&self) -> PeerVersion {
        match self {
            Self::RevokeTokenUnlessLast(_) | Self::Invite(_) | Self::UseInvitation { .. } => PeerVersion::INVITATIONS,
            Self::SetRoleQuota { .. } | Self::BindCertificate { .. } => PeerVersion::QUOTAS,
            Self::CreateRole(_)
            | Self::UpdateRole(_)
            | Self::DeleteRole(_)
            | Self::CreateToken(_)
            | Self::RevokeToken(_)
            | Self::RotateToken { .. } => PeerVersion::UNWRITTEN,
        }
    }
}

/// What takes a channel's name: earlier versions read that of the audit's channel as no name.
fn named(name: &ChannelName) -> PeerVersion {
    if name.as_str() == AUDIT_CHANNEL { PeerVersion::INVITATIONS } else { PeerVersion::UNWRITTEN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelConfig, NewInvitation, TokenHash, TokenId};

    fn operations(all: &[SecurityOperation]) -> Command {
        let operations = all.iter().cloned().map(Operation::Security).collect();
        Command::Operations { time_ms: 1, operations }
    }

    #[test]
    fn what_version_3_cannot_read_needs_version_4_also_among_other_operations() {
        let (id, old) = (TokenId(1), SecurityOperation::RevokeToken(TokenId(2)));
        let invite = NewInvitation { id, key: TokenHash([1; 32]), description: String::new(), lifetime_ms: 1 };
        for new in [
            SecurityOperation::RevokeTokenUnlessLast(id),
            SecurityOperation::Invite(invite),
            SecurityOperation::UseInvitation { id, node: 3 },
        ] {
            assert_eq!(operations(&[old.clone(), new, old.clone()]).needs(), PeerVersion(4));
        }
        assert_eq!(operations(&[old.clone(), old]).needs(), PeerVersion(3));
        assert_eq!(operations(&[]).needs(), PeerVersion(3));
    }

    #[test]
    fn the_channel_of_the_audit_needs_version_4_and_others_do_not() {
        let create = |name: ChannelName| Command::CreateChannel { time_ms: 1, name, config: ChannelConfig::default() };
        assert_eq!(create(ChannelName::audit()).needs(), PeerVersion(4));
        assert_eq!(create("orders".parse().unwrap()).needs(), PeerVersion(3));
        let rule = |source: ChannelName| Operation::DeleteRule { source, target: "orders".parse().unwrap() };
        assert_eq!(rule(ChannelName::audit()).needs(), PeerVersion(4));
        assert_eq!(rule("logs".parse().unwrap()).needs(), PeerVersion(3));
    }

    #[test]
    fn a_cluster_is_raised_by_a_command_of_the_version_that_it_gets() {
        assert_eq!(Command::RaiseVersion { time_ms: 1, version: PeerVersion(9) }.needs(), PeerVersion(9));
    }
}
