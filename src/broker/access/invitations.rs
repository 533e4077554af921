//! Inviting nodes: tokens by which one new node each may join the cluster.

use std::time::Duration;

use super::{Access, manage::within};
use crate::{
    broker::BrokerError,
    model::{Action, Invitation, JoinToken, Limits, NewInvitation, SecurityOperation, SecurityReply, TokenId},
};

/// How long an invitation lasts unless somebody says so.
const USUAL: Duration = Duration::from_secs(60 * 60);

impl Access {
    /// Makes a token by which one new node may join. The text is given here and nowhere else.
    ///
    /// # Errors
    /// `LimitExceeded`; after an unknown outcome there may be an invitation of which nobody knows the token: it ends by
    /// itself.
    pub async fn invite_node(
        &self,
        description: &str,
        lifetime: Option<Duration>,
    ) -> Result<(JoinToken, Invitation), BrokerError> {
        self.may_on_cluster(Action::Admin)?;
        within("the description (bytes)", description.len(), Limits::DESCRIPTION_BYTES)?;
        let lifetime_ms = u64::try_from(lifetime.unwrap_or(USUAL).as_millis()).unwrap_or(u64::MAX);
        if lifetime_ms > Limits::INVITATION_MS {
            let what = "the lifetime of the invitation (ms)".to_owned();
            return Err(BrokerError::LimitExceeded { what, value: lifetime_ms, limit: Limits::INVITATION_MS });
        }
        let random = &self.broker.inner.env.random;
        let token = JoinToken::of(TokenId(random.next_u64()), &random.nonce());
        let description = description.to_owned();
        let new = NewInvitation { id: token.id(), key: token.key(), description, lifetime_ms };
        let act = self.begin("node.invite", format!("invitation:{}", token.id()));
        let made = act.end(self.broker.operate_security(SecurityOperation::Invite(new)).await)?;
        match made {
            SecurityReply::Invitation(invitation) => Ok((token, invitation)),
            other => Err(BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") }),
        }
    }
}
