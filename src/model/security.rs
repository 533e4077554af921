//! Who may do what: tokens, roles and what roles grant, as the log says it and the state keeps it.
//!
//! Of a token only a hash is kept. Its secret is 32 random bytes, so nobody finds it by trying, and one plain strong hash is
//! enough: a slow one protects what people choose.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{ADMIN_ROLE, Action, CertificateName, Role, RoleName, RoleQuota, Scope};

/// Whether callers have to say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityMode {
    /// Whoever reaches the node may do everything.
    #[default]
    Off,
    /// The same, but what would be refused is counted and logged.
    Permissive,
    /// What no role grants is refused.
    Enforce,
}

impl SecurityMode {
    /// As a configuration says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Permissive => "permissive",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for SecurityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SecurityMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Off, Self::Permissive, Self::Enforce];
        let found = all.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("`{text}` is no mode: there are off, permissive and enforce"))
    }
}

/// The public part of a token, by which it is listed and revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self)
            .ok_or_else(|| format!("`{text}` is no id of a token: it has 16 digits, as `liminal token list` shows"))
    }
}

/// What is kept of a token's text.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Apart from every other use of the hash function.
    const CONTEXT: &'static str = "liminal 2026-11-29 access token";
    /// Apart from those of texts.
    const OF_CERTIFICATES: &'static str = "liminal 2026-11-29 name of a client certificate";
    const PREFIX: &'static str = "blake3:";

    /// Of a token's whole text.
    pub fn of(token: &str) -> Self {
        Self(blake3::derive_key(Self::CONTEXT, token.as_bytes()))
    }

    /// In the place of a hash, of a token that has no text: who shows a certificate of this name is its holder. No text has
    /// this hash.
    pub fn of_certificate(name: &CertificateName) -> Self {
        Self(blake3::derive_key(Self::OF_CERTIFICATES, name.as_str().as_bytes()))
    }
}

/// In constant time, so that how long it takes tells nothing of the hash.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// As a configuration has it.
impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl FromStr for TokenHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hash = text.strip_prefix(Self::PREFIX).and_then(|hex| blake3::Hash::from_hex(hex).ok());
        // What is wrong may be the token itself: it is not repeated.
        let wrong = "it is no hash of a token; `liminal token bootstrap` prints the line for the configuration";
        hash.map(|hash| Self(*hash.as_bytes())).ok_or_else(|| wrong.to_owned())
    }
}

/// A token that is about to be made. The secret has left the node in the answer only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// Chosen at random by the node that was asked.
    pub id: TokenId,
    /// Of the whole text.
    pub hash: TokenHash,
    /// For people.
    pub description: String,
    /// What it may do.
    pub roles: Vec<RoleName>,
    /// For how long it is valid, milliseconds of log time; none: until it is revoked.
    pub lifetime_ms: Option<u64>,
}

/// A token as the state keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// Of the whole text.
    pub hash: TokenHash,
    /// For people.
    pub description: String,
    /// What it may do.
    pub roles: Vec<RoleName>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When its secret was replaced last; the same as above where it never was.
    pub rotated_ms: u64,
    /// From when on it is refused; none: not before it is revoked.
    pub expires_ms: Option<u64>,
}

/// An invitation for one node that is about to be made. The secret has left the node in the answer only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInvitation {
    /// Chosen at random by the node that was asked.
    pub id: TokenId,
    /// Of the join token: see [`JoinToken::key`](super::JoinToken::key).
    pub key: TokenHash,
    /// For people.
    pub description: String,
    /// For how long a node may join with it, milliseconds of log time.
    pub lifetime_ms: u64,
}

/// An invitation as the state keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The public part of its token.
    pub id: TokenId,
    /// Of the join token.
    pub key: TokenHash,
    /// For people.
    pub description: String,
    /// From when on nobody joins with it.
    pub expires_ms: u64,
    /// The node that has joined with it. It may say so again, if it has not heard of that; nobody else can.
    pub used_by: Option<u64>,
}

/// What is asked of tokens and roles. Variants are append-only: their order is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityOperation {
    /// Makes a role. The same once more is no error.
    CreateRole(Role),
    /// Replaces what a role grants.
    UpdateRole(Role),
    /// Deletes a role that no token has.
    DeleteRole(RoleName),
    /// Makes a token. The same once more is no error.
    CreateToken(NewToken),
    /// Ends a token for good.
    RevokeToken(TokenId),
    /// Gives a token another secret. The former one is worth nothing from then on.
    RotateToken {
        /// Which one.
        id: TokenId,
        /// Of the new text.
        hash: TokenHash,
    },
    /// Ends a token for good, unless nobody could administer the cluster without it.
    RevokeTokenUnlessLast(TokenId),
    /// Makes an invitation. The same once more is no error.
    Invite(NewInvitation),
    /// A node joins by an invitation.
    UseInvitation {
        /// Which one.
        id: TokenId,
        /// The node's id.
        node: u64,
    },
    /// Says how much each token may take that has a role; one that limits nothing removes what was said.
    SetRoleQuota {
        /// Which role.
        role: RoleName,
        /// All that it limits.
        quota: RoleQuota,
    },
    /// Makes a token without a text, whose holder is whoever shows a certificate of this name. The same once more is no error.
    BindCertificate {
        /// The name.
        name: CertificateName,
        /// Its hash stands for the name.
        token: NewToken,
    },
}

/// The machine's answer: what was made or changed; what was deleted, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityReply {
    /// To an operation on a role.
    Role(Role),
    /// To an operation on a token.
    Token(Token),
    /// To an operation on an invitation.
    Invitation(Invitation),
    /// To an operation on a role's quota: the role.
    Quota(Role),
}

/// All tokens and roles. Cheap to clone, and rarely changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityState {
    /// By name, without the one that always is there.
    pub roles: BTreeMap<RoleName, Arc<Role>>,
    /// By id.
    pub tokens: BTreeMap<TokenId, Arc<Token>>,
    /// By id.
    pub invitations: BTreeMap<TokenId, Arc<Invitation>>,
    /// By role, of those that limit something.
    pub quotas: BTreeMap<RoleName, Arc<RoleQuota>>,
    /// The tokens whose holders show certificates, by the name of these.
    pub certificates: BTreeMap<CertificateName, TokenId>,
}

impl SecurityState {
    /// Whether tokens may have this role.
    pub fn has_role(&self, name: &RoleName) -> bool {
        name.as_str() == ADMIN_ROLE || self.roles.contains_key(name)
    }

    /// Whether a token may administer the cluster at a time.
    pub fn administers(&self, token: &Token, now_ms: u64) -> bool {
        let is_valid = token.expires_ms.is_none_or(|expires| now_ms < expires);
        let grants_it = |role: &Role| {
            role.grants.iter().any(|grant| grant.scope == Scope::Cluster && grant.actions.contains(Action::Admin))
        };
        let may =
            |name: &RoleName| name.as_str() == ADMIN_ROLE || self.roles.get(name).is_some_and(|role| grants_it(role));
        is_valid && token.roles.iter().any(may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_one_token_and_comes_back_from_its_text() {
        let (one, other) = (TokenHash::of("lim_1"), TokenHash::of("lim_2"));
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse::<TokenHash>().unwrap(), one);
        let error = "lim_0000000000000000_secret".parse::<TokenHash>().unwrap_err();
        assert!(!error.contains("secret"), "a token in the place of its hash is not repeated: {error}");
    }

    #[test]
    fn an_id_has_sixteen_digits() {
        assert_eq!("00000000000000ff".parse(), Ok(TokenId(255)));
        for wrong in ["ff", "00000000000000FF", "+0000000000000ff", ""] {
            assert!(wrong.parse::<TokenId>().is_err(), "{wrong}");
        }
    }
}
