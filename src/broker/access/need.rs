//! What a call needs, as far as it can be said of the call alone. Each face has a table with a row for each of its calls.

use crate::model::Action;

/// What a call needs before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Open,
    /// A valid token. What is answered is what its holder may see.
    Known,
    /// The right to do this to the cluster.
    Cluster(Action),
    /// The right to make and end tokens and roles.
    Tokens,
    /// The right to do one of these somewhere. The call checks whether it is where it goes.
    OneOf(&'static [Action]),
}

impl Need {
    /// To publish.
    pub const PUBLISH: Self = Self::OneOf(&[Action::Publish]);
    /// To read messages.
    pub const READ: Self = Self::OneOf(&[Action::Read]);
    /// To take and settle a consumer's messages.
    pub const CONSUME: Self = Self::OneOf(&[Action::Consume]);
    /// To take and end claims.
    pub const CLAIM: Self = Self::OneOf(&[Action::Claim]);
    /// To create, change and delete.
    pub const MANAGE: Self = Self::OneOf(&[Action::Manage]);
    /// To answer whoever has published a request.
    pub const REPLY: Self = Self::OneOf(&[Action::Read, Action::Consume]);
    /// To publish, settle and complete together.
    pub const TRANSACT: Self = Self::OneOf(&[Action::Publish, Action::Consume, Action::Claim]);
    /// To do any of what a WebSocket is for.
    pub const CONVERSE: Self = Self::OneOf(&[Action::Publish, Action::Read]);
    /// To look at a claim.
    pub const SEE_CLAIM: Self = Self::OneOf(&[Action::Claim, Action::Read]);
    /// To look at the cluster.
    pub const SEE_CLUSTER: Self = Self::Cluster(Action::Read);
    /// To have the cluster's nodes look after their state.
    pub const TEND_CLUSTER: Self = Self::Cluster(Action::Manage);
    /// To change the cluster, or to copy everything.
    pub const ADMIN: Self = Self::Cluster(Action::Admin);
}
