//! Tokens and roles.

use std::{fmt, time::SystemTime};

use super::{mirror, setters};

mirror! {
    /// A token of a client, without its text.
    Token = Token {
        /// Its public part: 16 hexadecimal digits.
        id: String = id as same,
        /// For people.
        description: String = description as same,
        /// What it may do.
        roles: Vec<String> = roles as same,
        /// When it was made.
        created: SystemTime = created_ms as time,
        /// When its text was made.
        rotated: SystemTime = rotated_ms as time,
        /// From when on it is refused; none: not before it is revoked.
        expires: Option<SystemTime> = expires_ms as some_time,
        /// When the node that answered saw it last; none: not since that node started.
        used: Option<SystemTime> = used_ms as some_time,
        /// The name of the certificates that its holder shows, such as `uri:NAME`; none where it has a text.
        certificate: Option<String> = certificate as some_text,
    }

    /// What a role lets its tokens do, and to what.
    #[derive(Default)]
    Grant = Grant {
        /// `channel:NAME` or `claim:NAME`, where the name may end with `*`, or `cluster`.
        scope: String = scope as same,
        /// Such as `publish` and `read`.
        actions: Vec<String> = actions as same,
    }

    /// A named list of grants.
    #[derive(Default)]
    Role = Role {
        /// Its name.
        name: String = name as same,
        /// For people.
        description: String = description as same,
        /// What it grants.
        grants: Vec<Grant> = grants as list,
        /// How much each token may take that has it. Only in answers: `set_role_quota` changes it.
        quota: RoleQuota = quota as value,
    }

    /// How much a token may take that has a role. What is none is not limited by the role; of several roles that limit the
    /// same, the one that allows most counts.
    #[derive(Copy, Default)]
    RoleQuota = RoleQuota {
        /// Connections to each node.
        connections: Option<u64> = connections as same,
        /// Requests and streams that are open on each node.
        streams: Option<u64> = streams as same,
        /// Bytes of publishes that each node has not answered yet.
        in_flight_bytes: Option<u64> = in_flight_bytes as same,
        /// Messages that are published in a second through each node.
        messages_per_second: Option<u64> = messages_per_second as same,
        /// Bytes that are published in a second through each node.
        bytes_per_second: Option<u64> = bytes_per_second as same,
        /// Milliseconds in a second that each node judges messages by filters.
        filter_ms_per_second: Option<u64> = filter_ms_per_second as same,
        /// Channels that were made while the quota held.
        channels: Option<u64> = channels as same,
        /// Consumers that were made while the quota held.
        consumers: Option<u64> = consumers as same,
        /// Claims that were taken while the quota held, until they are forgotten.
        claims: Option<u64> = claims as same,
    }

    /// Whether something may be done.
    #[derive(Default)]
    Allowed = CanIResponse {
        /// Whether it may.
        allowed: bool = allowed as same,
        /// Of whom that is said.
        who: String = who as same,
        /// Why not.
        reason: Option<String> = reason as some_text,
    }
}

setters!(Grant { scope: impl Into<String>, actions: Vec<String>, });
setters!(RoleQuota {
    connections: impl Into<Option<u64>>,
    streams: impl Into<Option<u64>>,
    in_flight_bytes: impl Into<Option<u64>>,
    messages_per_second: impl Into<Option<u64>>,
    bytes_per_second: impl Into<Option<u64>>,
    filter_ms_per_second: impl Into<Option<u64>>,
    channels: impl Into<Option<u64>>,
    consumers: impl Into<Option<u64>>,
    claims: impl Into<Option<u64>>,
});
setters!(Role { name: impl Into<String>, description: impl Into<String>, grants: Vec<Grant>, });

/// A token that was just made, with its text. Nobody can tell the text again.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewToken {
    /// What is known of it.
    pub token: Token,
    /// What its holder sends.
    pub text: String,
}

impl NewToken {
    pub(crate) fn of(token: Token, text: String) -> Self {
        Self { token, text }
    }
}

/// Without the text.
impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("token", &self.token).finish_non_exhaustive()
    }
}
