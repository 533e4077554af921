//! Why the machine refuses a command, or a part of one. Variants are append-only: their order is part of the format.

use serde::{Deserialize, Serialize};

use super::{
    ChannelId, ChannelName, ClaimInfo, ConsumerName, Quantity, RoleName, TokenId,
    command::{ChannelReply, Full, KeyOutcome},
};

/// A command that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No channel of that id or name.
    #[error("the channel does not exist")]
    NoSuchChannel,
    /// Checked against a schema that is no longer the channel's.
    #[error("the channel's schema is now {current}")]
    StaleSchema {
        /// The channel's schema.
        current: u64,
    },
    /// The name is taken by a channel with another configuration.
    #[error("the channel exists with another configuration")]
    ChannelExists(Box<ChannelReply>),
    /// As many channels as there may be.
    #[error("there are {limit} channels already")]
    TooManyChannels {
        /// How many that is.
        limit: u64,
    },
    /// The node was removed from the cluster, and nobody has let it in again.
    #[error("the node was removed from the cluster")]
    NodeRemoved,
    /// The node has run on a newer disk than this one.
    #[error("this is start {starts} of the disk, but another process of the node had begun with its start {seen}")]
    OldDisk {
        /// Starts that the disk knows of, this one included.
        starts: u64,
        /// Starts that the cluster knows of.
        seen: u64,
    },
    /// Routed by rules that are no longer those in force.
    #[error("the rules between channels are now of version {current}")]
    StaleRules {
        /// Their version.
        current: u64,
    },
    /// The channel does not end where the publisher thought.
    #[error("the channel's next sequence number is {actual}, not {expected}")]
    WrongSeq {
        /// What the publisher thought.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// There is no rule between these channels.
    #[error("there is no such rule")]
    NoSuchRule,
    /// The rule would send messages round in a circle.
    #[error("messages of the target reach the source already")]
    RuleCycle,
    /// As many rules as there may be.
    #[error("there are {limit} rules already")]
    TooManyRules {
        /// How many that is.
        limit: u64,
    },
    /// The channel of that name does not exist.
    #[error("channel `{0}` does not exist")]
    NoChannelNamed(ChannelName),
    /// No namespace of that name.
    #[error("the namespace does not exist")]
    NoSuchNamespace,
    /// As many namespaces as there may be, those that are being deleted included.
    #[error("there are {limit} namespaces already")]
    TooManyNamespaces {
        /// How many that is.
        limit: u64,
    },
    /// The namespace holds as many claims as it may.
    #[error("the namespace holds {limit} live claims already")]
    TooManyClaims {
        /// How many that is.
        limit: u64,
    },
    /// The token is not that of the present claim.
    #[error("the claim is not held under this token")]
    StaleClaim {
        /// The claim as it is now; none when it is free.
        current: Option<ClaimInfo>,
    },
    /// The token is that of the present claim, which ended otherwise.
    #[error("the claim is completed already")]
    ClaimCompleted(ClaimInfo),
    /// A channel that would get copies is full, and refuses new messages. Earlier versions say so.
    #[error("a channel that gets copies is full")]
    TargetFull {
        /// Which one.
        channel: ChannelId,
        /// Its limit.
        full: Full,
    },
    /// No consumer of that id.
    #[error("the consumer does not exist")]
    NoSuchConsumer,
    /// The name is taken by a consumer with another configuration.
    #[error("the consumer exists with another configuration")]
    ConsumerExists,
    /// As many consumers as there may be, of the channel or in all.
    #[error("there are {limit} consumers already")]
    TooManyConsumers {
        /// How many that is.
        limit: u64,
    },
    /// More messages in flight than a consumer may have.
    #[error("a consumer may have {limit} messages in flight")]
    TooMuchInFlight {
        /// How many that is.
        limit: u64,
    },
    /// The channel stores nothing that could be consumed.
    #[error("the channel is ephemeral: it stores no messages to consume")]
    NotStored,
    /// Dead letters cannot go there: it is the consumer's own channel, or ephemeral.
    #[error("`{0}` cannot take dead letters: it is the consumer's own channel, or ephemeral")]
    NoDeadLetterChannel(ChannelName),
    /// The consumer is no longer as the leader saw it when it handed out messages.
    #[error("the consumer has changed meanwhile")]
    StaleAssignment,
    /// The message has been handed out again.
    #[error("message {seq} has been handed out again")]
    StaleDelivery {
        /// Which message.
        seq: u64,
    },
    /// The message is not, or no longer, dead.
    #[error("the message is not dead")]
    NotDead,
    /// A part of a transaction cannot be done, so none was.
    #[error("part {part} of the transaction: {why}")]
    Part {
        /// Which part, from 0.
        part: u32,
        /// Why.
        why: Box<Refusal>,
    },
    /// A key of a transaction is taken, or there are too many.
    #[error("message {position}: its idempotency key cannot be claimed: {outcome:?}")]
    Key {
        /// Position of the message in its part.
        position: u32,
        /// What stands against it.
        outcome: KeyOutcome,
    },
    /// Some keys of a transaction were used before, and others were not: it is no retry.
    #[error("message {position}: its idempotency key was used before, and not those of all other messages")]
    UsedInPart {
        /// Position in its part of the first message whose key was used.
        position: u32,
    },
    /// Messages of an ephemeral channel cannot wait, because it stores none.
    #[error("the channel is ephemeral")]
    Ephemeral,
    /// The step does not follow the one that was taken last, or the channel is not compacted by that header, or does not
    /// hold what is to go, or somebody has yet to settle it.
    #[error("the channel's compaction is at step {step}, and goes by its present configuration")]
    StaleCompaction {
        /// Where it is.
        step: u64,
    },
    /// The dead-letter channel takes no more, or nothing so large.
    #[error("the dead-letter channel refuses the letter: {0:?}")]
    LetterRefused(KeyOutcome),
    /// Letters of the dead-letter channel come back to the consumer's own channel.
    #[error("the dead letters of `{0}` come back to the consumer's channel: they would go round for ever")]
    DeadLetterCycle(ChannelName),
    /// The step does not follow the one that was taken last, or the channel does not hold its letters any more.
    #[error("letters of the channel went elsewhere meanwhile: it is at step {step}")]
    StaleRedrive {
        /// Where it is.
        step: u64,
    },
    /// The channel to which letters go does not take one of them, and therefore none.
    #[error("letter {position} of the step is refused: {outcome:?}")]
    RedriveRefused {
        /// Its position among the letters of the step; those before it would fit.
        position: u32,
        /// Why.
        outcome: KeyOutcome,
    },
    /// A channel that would get a copy of a message does not take it.
    #[error("a channel that gets a copy of message {position} refuses it: {outcome:?}")]
    CopyRefused {
        /// Which one.
        channel: ChannelId,
        /// The position of the first such message in its group.
        position: u32,
        /// Why.
        outcome: KeyOutcome,
    },
    /// A work queue lets go of what its consumers have settled, and a filter would settle what nobody has worked on.
    #[error("the channel is a work queue: what the filter keeps back would go without anybody having worked on it")]
    WorkWouldBeSkipped,
    /// A channel with such a consumer does not become a work queue.
    #[error("consumer `{0}` has a filter: in a work queue, what it keeps back would go")]
    FilteredConsumer(ConsumerName),
    /// No role of that name.
    #[error("role `{0}` does not exist")]
    NoSuchRole(RoleName),
    /// The name is taken by a role that grants something else.
    #[error("role `{0}` exists already")]
    RoleExists(RoleName),
    /// A token has the role.
    #[error("token {token} has the role `{role}`")]
    RoleInUse {
        /// Which role.
        role: RoleName,
        /// The first such token.
        token: TokenId,
    },
    /// More grants, or a longer description, than a role may have.
    #[error("role `{0}` is too large")]
    RoleTooLarge(RoleName),
    /// As many roles as there may be.
    #[error("there are {limit} roles already")]
    TooManyRoles {
        /// How many that is.
        limit: u64,
    },
    /// No token of that id.
    #[error("token {0} does not exist")]
    NoSuchToken(TokenId),
    /// The id is taken by another token.
    #[error("token {0} exists already")]
    TokenExists(TokenId),
    /// More roles, or a longer description, than a token may have.
    #[error("the token is too large")]
    TokenTooLarge,
    /// As many tokens as there may be.
    #[error("there are {limit} tokens already")]
    TooManyTokens {
        /// How many that is.
        limit: u64,
    },
    /// Nobody could administer the cluster without the token.
    #[error("token {0} is the last one that may administer the cluster")]
    LastAdministrator(TokenId),
    /// No such invitation, or not any more, or another node has joined with it.
    #[error("join token {0} is not known, has expired, or was used by another node")]
    NoSuchInvitation(TokenId),
    /// As many invitations as there may be.
    #[error("there are {limit} invitations already")]
    TooManyInvitations {
        /// How many that is.
        limit: u64,
    },
    /// The token has as many of something as its roles allow.
    #[error("the token has {held} {quantity} already, and role `{role}` allows {limit}")]
    OverQuota {
        /// Of what.
        quantity: Quantity,
        /// How many it has.
        held: u64,
        /// How many it may have.
        limit: u64,
        /// The role that allows most.
        role: RoleName,
    },
    /// Certificates of the name belong to a token already.
    #[error("certificates of this name belong to token {0} already")]
    CertificateBound(TokenId),
    /// The token has no text that could be another one.
    #[error("token {0} has no text: its holder shows a certificate")]
    TokenOfCertificate(TokenId),
}
