//! Making, listing and ending tokens and roles, and asking what a token may do.

use std::{ops::Bound, sync::Arc, time::Duration};

use super::{Access, Object, RoleInfo, TokenText, policy::Policy};
use crate::{
    broker::{Broker, BrokerError, NamedPage},
    model::{
        ADMIN_ROLE, Action, CertificateName, ChannelName, Limits, NewToken, Operation, OperationReply, Pattern,
        Refusal, Role, RoleName, Scope, SecurityOperation, SecurityReply, SecurityState, Token, TokenHash, TokenId,
    },
    proto::v1,
};

/// A token as an administrator sees it.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    /// What the state says of it.
    pub token: Arc<Token>,
    /// When it was used last on the node that was asked, milliseconds since the Unix epoch; 0: not since that node started.
    pub used_ms: u64,
    /// The name of the certificates that its holder shows; none where it has a text.
    pub certificate: Option<CertificateName>,
}

impl TokenInfo {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::Token {
        let Token { id, hash: _, description, roles, created_ms, rotated_ms, expires_ms } = &*self.token;
        v1::Token {
            id: id.to_string(),
            description: description.clone(),
            roles: roles.iter().map(ToString::to_string).collect(),
            created_ms: *created_ms,
            rotated_ms: *rotated_ms,
            expires_ms: expires_ms.unwrap_or(0),
            used_ms: self.used_ms,
            certificate: self.certificate.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// The answer to whether something may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it would be done if `security.mode` were `enforce`.
    pub allowed: bool,
    /// Of whom that is said.
    pub who: String,
    /// Why not; empty where it is allowed.
    pub reason: String,
}

fn invalid(reason: String) -> BrokerError {
    BrokerError::InvalidArgument { reason }
}

pub(super) fn role_name(text: &str) -> Result<RoleName, BrokerError> {
    let why = "it has 1 to 200 of the characters A-Z a-z 0-9 . _ -";
    text.parse::<ChannelName>().map_err(|_| invalid(format!("`{text}` is no name of a role: {why}")))
}

fn token_id(text: &str) -> Result<TokenId, BrokerError> {
    text.parse().map_err(invalid)
}

pub(super) fn within(what: &str, value: usize, limit: usize) -> Result<(), BrokerError> {
    let (value, limit) = (value as u64, limit as u64);
    if value > limit { Err(BrokerError::LimitExceeded { what: what.to_owned(), value, limit }) } else { Ok(()) }
}

impl Access {
    pub(super) fn may_admin(&self) -> Result<(), BrokerError> {
        self.caller.may(Action::Admin, Object::Tokens)
    }

    /// Makes a token. The text is given here and nowhere else.
    ///
    /// # Errors
    /// `RoleNotFound`, `LimitExceeded`, `InvalidArgument`; after an unknown outcome, a token of which nobody knows the text
    /// may be listed: revoke it.
    pub async fn create_token(
        &self,
        description: &str,
        roles: &[String],
        lifetime: Option<Duration>,
    ) -> Result<(TokenText, TokenInfo), BrokerError> {
        self.may_admin()?;
        let text = TokenText::random(&*self.broker.inner.env.random);
        let new = new_token((text.id(), text.hash()), description, roles, lifetime)?;
        let act = self.begin("token.create", token_name(text.id())).with(listed("roles", &new.roles));
        let token = act.end(self.token_of(SecurityOperation::CreateToken(new)).await)?;
        Ok((text, token))
    }

    /// Makes a token that has no text: whoever shows a certificate of this name is its holder.
    ///
    /// # Errors
    /// As [`Access::create_token`]; `InvalidArgument` where the name is none, or belongs to another token.
    pub async fn bind_certificate(
        &self,
        name: &str,
        description: &str,
        roles: &[String],
        lifetime: Option<Duration>,
    ) -> Result<TokenInfo, BrokerError> {
        self.may_admin()?;
        let name: CertificateName = name.parse().map_err(invalid)?;
        let id = TokenId(self.broker.inner.env.random.next_u64());
        let token = new_token((id, TokenHash::of_certificate(&name)), description, roles, lifetime)?;
        let detail = format!("certificate {name} {}", listed("roles", &token.roles));
        let act = self.begin("token.create", token_name(id)).with(detail);
        act.end(self.token_of(SecurityOperation::BindCertificate { name, token }).await)
    }

    /// Gives a token another secret. The former one is worth nothing as soon as this is answered.
    ///
    /// # Errors
    /// `TokenNotFound`.
    pub async fn rotate_token(&self, id: &str) -> Result<(TokenText, TokenInfo), BrokerError> {
        self.may_admin()?;
        let text = TokenText::with_id(token_id(id)?, &*self.broker.inner.env.random);
        let rotate = SecurityOperation::RotateToken { id: text.id(), hash: text.hash() };
        let act = self.begin("token.rotate", token_name(text.id()));
        let token = act.end(self.token_of(rotate).await)?;
        Ok((text, token))
    }

    /// Ends a token for good, and what is open by it, on each node as soon as that has applied it. The last one by which
    /// the cluster is administered is ended only by force.
    ///
    /// # Errors
    /// `TokenNotFound`; `LastAdministrator` without force.
    pub async fn revoke_token(&self, id: &str, force: bool) -> Result<TokenInfo, BrokerError> {
        self.may_admin()?;
        let id = token_id(id)?;
        let revoke =
            if force { SecurityOperation::RevokeToken(id) } else { SecurityOperation::RevokeTokenUnlessLast(id) };
        let act = self.begin("token.revoke", token_name(id));
        act.end(self.token_of(revoke).await)
    }

    /// A token, as of now (linearizable).
    ///
    /// # Errors
    /// `TokenNotFound`.
    pub async fn token(&self, id: &str) -> Result<TokenInfo, BrokerError> {
        self.may_admin()?;
        let id = token_id(id)?;
        self.broker.catch_up().await?;
        let policy = self.caller.policy();
        let found = policy.state.tokens.get(&id).map(|token| self.shown(&policy, token));
        found.ok_or_else(|| BrokerError::TokenNotFound { id: id.to_string() })
    }

    /// Tokens whose ids come after one, in their order, as of now (linearizable).
    ///
    /// # Errors
    /// `NoLeader` or `NotConfirmed` without a majority.
    pub async fn tokens_after(&self, after: &str, limit: usize) -> Result<NamedPage<TokenInfo>, BrokerError> {
        self.may_admin()?;
        let begin = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(token_id(after)?) };
        self.broker.catch_up().await?;
        let policy = self.caller.policy();
        let all = policy.state.tokens.range((begin, Bound::Unbounded));
        let all = all.map(|(_, token)| Ok((token.id.to_string(), self.shown(&policy, token))));
        let page = NamedPage::take(all, limit, |(id, _)| id.as_str(), |(_, info)| info.token.description.len() + 64)?;
        let items = page.items.into_iter().map(|(_, info)| info).collect();
        Ok(NamedPage { items, next_after: page.next_after })
    }

    fn shown(&self, policy: &Policy, token: &Arc<Token>) -> TokenInfo {
        let certificate = policy.certificate_of(token.id).cloned();
        TokenInfo { token: token.clone(), used_ms: policy.used_ms(token.id), certificate }
    }

    async fn token_of(&self, operation: SecurityOperation) -> Result<TokenInfo, BrokerError> {
        match self.broker.operate_security(operation).await? {
            SecurityReply::Token(token) => Ok(self.shown(&self.caller.policy(), &Arc::new(token))),
            other => Err(BrokerError::Internal { reason: format!("{other:?} in the place of a token") }),
        }
    }

    /// Makes a role. The same once more is no error.
    ///
    /// # Errors
    /// `RoleExists`, `LimitExceeded`, `InvalidArgument`.
    pub async fn create_role(&self, role: v1::Role) -> Result<RoleInfo, BrokerError> {
        self.may_admin()?;
        let role = role_of(role)?;
        let act = self.begin("role.create", role_act(&role.name)).with(listed("grants", &role.grants));
        act.end(self.role_of(SecurityOperation::CreateRole(role)).await)
    }

    /// Replaces what a role grants, for all tokens that have it.
    ///
    /// # Errors
    /// `RoleNotFound`, `LimitExceeded`, `InvalidArgument`.
    pub async fn update_role(&self, role: v1::Role) -> Result<RoleInfo, BrokerError> {
        self.may_admin()?;
        let role = role_of(role)?;
        let act = self.begin("role.update", role_act(&role.name)).with(listed("grants", &role.grants));
        act.end(self.role_of(SecurityOperation::UpdateRole(role)).await)
    }

    /// Deletes a role that no token has.
    ///
    /// # Errors
    /// `RoleNotFound`, `RoleInUse`.
    pub async fn delete_role(&self, name: &str) -> Result<RoleInfo, BrokerError> {
        self.may_admin()?;
        let name = role_name(name)?;
        check_changeable(&name)?;
        let act = self.begin("role.delete", role_act(&name));
        act.end(self.role_of(SecurityOperation::DeleteRole(name)).await)
    }

    /// A role, as of now (linearizable).
    ///
    /// # Errors
    /// `RoleNotFound`.
    pub async fn role(&self, name: &str) -> Result<RoleInfo, BrokerError> {
        self.may_admin()?;
        let name = role_name(name)?;
        self.broker.catch_up().await?;
        let state = self.caller.policy().state.clone();
        let found = state.roles.get(&name).map(|role| Role::clone(role));
        let built_in = || Role::admin().filter(|admin| admin.name == name);
        let role = found.or_else(built_in).ok_or_else(|| BrokerError::RoleNotFound { name: name.to_string() })?;
        Ok(with_quota(&state, role))
    }

    /// Roles whose names come after one, in their order, as of now (linearizable). The one that always is there is among
    /// them.
    ///
    /// # Errors
    /// `NoLeader` or `NotConfirmed` without a majority.
    pub async fn roles_after(&self, after: &str, limit: usize) -> Result<NamedPage<RoleInfo>, BrokerError> {
        self.may_admin()?;
        self.broker.catch_up().await?;
        let state = self.caller.policy().state.clone();
        let admin = Role::admin().map(Arc::new);
        let mut all: Vec<&Arc<Role>> = state.roles.values().chain(&admin).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let rest = all
            .into_iter()
            .filter(|role| role.name.as_str() > after)
            .map(|role| Ok(with_quota(&state, Role::clone(role))));
        let bytes = |info: &RoleInfo| info.role.grants.iter().map(|grant| grant.to_string().len()).sum::<usize>();
        NamedPage::take(rest, limit, |info| info.role.name.as_str(), bytes)
    }

    pub(super) async fn role_of(&self, operation: SecurityOperation) -> Result<RoleInfo, BrokerError> {
        match self.broker.operate_security(operation).await? {
            SecurityReply::Role(role) | SecurityReply::Quota(role) => Ok(with_quota(&self.caller.policy().state, role)),
            other => Err(BrokerError::Internal { reason: format!("{other:?} in the place of a role") }),
        }
    }

    /// Whether the caller may do something, or another token where an administrator asks. `on` is `channel:NAME`,
    /// `claim:NAME` or `cluster`. What is answered does not depend on the mode.
    ///
    /// # Errors
    /// `InvalidArgument`; `TokenNotFound`.
    pub fn can_i(&self, action: &str, on: &str, token: &str) -> Result<Verdict, BrokerError> {
        let action: Action = action.parse().map_err(invalid)?;
        let scope: Scope = on.parse().map_err(invalid)?;
        let name = |pattern: &Pattern| match pattern.prefix() {
            Some(_) => Err(invalid(format!("`{on}` is a pattern: ask about one name"))),
            None => Ok(pattern.as_str().to_owned()),
        };
        let (channel, claims);
        let object = match &scope {
            Scope::Channels(pattern) => {
                channel = name(pattern)?;
                Object::Channel(&channel)
            }
            Scope::Claims(pattern) => {
                claims = name(pattern)?;
                Object::Claims(&claims)
            }
            Scope::Cluster => Object::Cluster,
        };
        let asked = if token.is_empty() {
            self.caller.clone()
        } else {
            let id = token_id(token)?;
            if self.caller.token() != Some(id) {
                self.may_admin()?;
            }
            self.caller.as_token(id).ok_or_else(|| BrokerError::TokenNotFound { id: id.to_string() })?
        };
        let reason = asked.judge(&[action], object).err().map(|error| error.to_string());
        Ok(Verdict { allowed: reason.is_none(), who: asked.name(), reason: reason.unwrap_or_default() })
    }
}

fn new_token(
    (id, hash): (TokenId, TokenHash),
    description: &str,
    roles: &[String],
    lifetime: Option<Duration>,
) -> Result<NewToken, BrokerError> {
    within("the description (bytes)", description.len(), Limits::DESCRIPTION_BYTES)?;
    within("the number of roles of the token", roles.len(), Limits::TOKEN_ROLES)?;
    if roles.is_empty() {
        return Err(invalid("the token has no role, so it could do nothing: give it at least one".into()));
    }
    let roles = roles.iter().map(|role| role_name(role)).collect::<Result<Vec<_>, _>>()?;
    let lifetime_ms = lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
    if lifetime_ms == Some(0) {
        return Err(invalid("a token that lives for 0 ms is refused at once: give a longer time, or none".into()));
    }
    Ok(NewToken { id, hash, description: description.to_owned(), roles, lifetime_ms })
}

/// As records name a token.
fn token_name(id: TokenId) -> String {
    format!("token:{id}")
}

/// As records name a role.
pub(super) fn role_act(name: &RoleName) -> String {
    format!("role:{name}")
}

/// What an act gives, for its record.
pub(super) fn listed(what: &str, all: &[impl ToString]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    format!("{what} {}", all.join(" "))
}

pub(super) fn check_changeable(name: &RoleName) -> Result<(), BrokerError> {
    if name.as_str() == ADMIN_ROLE {
        return Err(invalid(format!(
            "the role `{ADMIN_ROLE}` grants everything and cannot be changed: make another one"
        )));
    }
    Ok(())
}

/// What it limits by the newest state of this node.
fn with_quota(state: &SecurityState, role: Role) -> RoleInfo {
    let quota = state.quotas.get(&role.name).map(|quota| **quota).unwrap_or_default();
    RoleInfo { role, quota }
}

fn role_of(role: v1::Role) -> Result<Role, BrokerError> {
    let v1::Role { name, description, grants, quota: _ } = role;
    let name = role_name(&name)?;
    check_changeable(&name)?;
    within("the description (bytes)", description.len(), Limits::DESCRIPTION_BYTES)?;
    within("the number of grants of the role", grants.len(), Limits::ROLE_GRANTS)?;
    let grant = |grant: v1::Grant| {
        let actions = grant.actions.iter().map(|action| action.parse::<Action>()).collect::<Result<_, String>>()?;
        crate::model::Grant::new(grant.scope.parse()?, actions)
    };
    let grants = grants.into_iter().map(grant).collect::<Result<_, String>>().map_err(invalid)?;
    Ok(Role { name, description, grants })
}

impl Broker {
    pub(super) async fn operate_security(&self, operation: SecurityOperation) -> Result<SecurityReply, BrokerError> {
        let limit_of =
            |what: &str, limit: u64| BrokerError::LimitExceeded { what: what.into(), value: limit + 1, limit };
        Err(match self.operate(Operation::Security(operation)).await? {
            Ok(OperationReply::Security(reply)) => return Ok(reply),
            Err(Refusal::NoSuchRole(name)) => BrokerError::RoleNotFound { name: name.to_string() },
            Err(Refusal::RoleExists(name)) => BrokerError::RoleExists { name: name.to_string() },
            Err(Refusal::RoleInUse { role, token }) => {
                BrokerError::RoleInUse { name: role.to_string(), token: token.to_string() }
            }
            Err(Refusal::NoSuchToken(id)) => BrokerError::TokenNotFound { id: id.to_string() },
            Err(Refusal::CertificateBound(id)) => invalid(format!(
                "certificates of this name belong to token {id}: revoke that one first, or give it other roles by \
                 `liminal role update`"
            )),
            Err(Refusal::TokenOfCertificate(id)) => invalid(format!(
                "token {id} has no text that could be another one: its holder shows a certificate, which its CA renews"
            )),
            Err(Refusal::LastAdministrator(id)) => BrokerError::LastAdministrator { id: id.to_string() },
            Err(Refusal::TooManyRoles { limit }) => limit_of("the number of roles", limit),
            Err(Refusal::TooManyTokens { limit }) => limit_of("the number of tokens", limit),
            Err(Refusal::TooManyInvitations { limit }) => limit_of("the number of invitations", limit),
            other => BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") },
        })
    }
}
