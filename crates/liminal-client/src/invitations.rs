//! Inviting nodes into the cluster.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use liminal_wire::{
    time::duration_to_ms,
    v1::{InviteNodeRequest, admin_client::AdminClient},
};

use super::{Client, error::ClientError, pool::Prefer, retry::Repeat};

/// A token by which one new node may join. Nobody can tell its text again.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewInvitation {
    /// Its public part.
    pub id: String,
    /// What the node needs.
    pub text: String,
    /// From when on nobody joins with it.
    pub expires: SystemTime,
}

/// Without the text.
impl fmt::Debug for NewInvitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, text: _, expires } = self;
        f.debug_struct("NewInvitation").field("id", id).field("expires", expires).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a token by which one new node may join within a time; an hour unless one is given. It is not tried again when
    /// the outcome is unknown: an invitation whose token nobody knows ends by itself.
    ///
    /// # Errors
    /// When the caller is no administrator, or there are too many invitations.
    pub async fn invite_node(
        &self,
        description: &str,
        lifetime: Option<Duration>,
    ) -> Result<NewInvitation, ClientError> {
        let lifetime_ms = lifetime.map_or(0, |lifetime| duration_to_ms(lifetime).max(1));
        let request = InviteNodeRequest { description: description.to_owned(), lifetime_ms };
        let invite = |link| {
            let request = request.clone();
            async move { AdminClient::new(link).invite_node(request).await }
        };
        let (made, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, invite).await?;
        let expires = SystemTime::UNIX_EPOCH + Duration::from_millis(made.expires_ms);
        Ok(NewInvitation { id: made.id, text: made.text, expires })
    }
}
