//! Operations on tokens and roles, and their answers, as brokers say them.

use bytes::Bytes;

use super::{Kinds, Misread, Wire, as_texts, choices, kinds, only_kinds, peer, records, required};
use crate::model::{
    Action, Actions, CertificateName, Grant, Invitation, NewInvitation, NewToken, Pattern, Quantity, Role, RoleQuota,
    Scope, SecurityOperation, SecurityReply, Token, TokenHash,
};

as_texts!(CertificateName);

choices! {
    Action { Publish, Read, Consume, Claim, Manage, Admin }
    Quantity {
        Connections, Streams, InFlightBytes, MessagesPerSecond, BytesPerSecond, FilterMsPerSecond, Channels, Consumers,
        Claims
    }
}

records! {
    Role = Role { name, description, grants }
    Grant = Grant { actions; scope }
    NewToken = NewToken { id, hash, description, roles, lifetime_ms }
    NewInvitation = NewInvitation { id, key, description, lifetime_ms }
    Invitation = Invitation { id, key, description, expires_ms, used_by }
    RoleQuota = RoleQuota {
        connections, streams, in_flight_bytes, messages_per_second, bytes_per_second, filter_ms_per_second, channels,
        consumers, claims
    }
    Token = Token { id, hash, description, roles, created_ms, rotated_ms, expires_ms }
}

kinds! { Scope in scope { unit [Cluster] one [Channels, Claims] } }

kinds! { SecurityOperation in security_operation {
    one [CreateRole, UpdateRole, DeleteRole, CreateToken, RevokeToken, RevokeTokenUnlessLast, Invite]
    with [
        RotateToken = RotateToken { id, hash },
        UseInvitation = UseInvitation { id, node },
        SetRoleQuota = SetRoleQuota { role; quota },
        BindCertificate = BindCertificate { name; token },
    ]
} }

kinds! { SecurityReply in security_reply { one [Role, Token, Invitation, Quota] } }

only_kinds!(Scope, SecurityOperation, SecurityReply);

/// In their order.
impl Wire for Actions {
    type Message = Vec<i32>;

    fn to_wire(&self) -> Vec<i32> {
        self.iter().map(|action| action.to_wire()).collect()
    }

    fn from_wire(numbers: Vec<i32>) -> Result<Self, Misread> {
        numbers.into_iter().map(Action::from_wire).collect()
    }
}

impl Wire for Pattern {
    type Message = String;

    fn to_wire(&self) -> String {
        self.as_str().to_owned()
    }

    fn from_wire(text: String) -> Result<Self, Misread> {
        text.parse().map_err(Misread::malformed)
    }
}

impl Wire for TokenHash {
    type Message = Bytes;

    fn to_wire(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn from_wire(bytes: Bytes) -> Result<Self, Misread> {
        let hash = bytes.as_ref().try_into();
        hash.map(Self).map_err(|_| Misread::Malformed(format!("the hash of a token has {} bytes", bytes.len())))
    }
}
