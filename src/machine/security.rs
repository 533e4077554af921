//! Tokens and roles: who may do what. They change by the log alone, so that they are the same on every node, and hold on
//! each from the moment on at which it applies the entry.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Effects, Machine, keys::Key};
use crate::{
    codec::decode_record,
    model::{
        ADMIN_ROLE, CertificateName, Invitation, KeyHash, Limits, NewInvitation, NewToken, OperationReply, Refusal,
        Role, RoleName, RoleQuota, SecurityOperation, SecurityReply, SecurityState, Token, TokenHash, TokenId,
    },
};

/// How long a token that has expired is still listed, milliseconds: its owner wants to know why it is refused.
const LISTED_AFTER_EXPIRY_MS: u64 = 7 * 24 * 60 * 60 * 1000;

fn role_key(name: &RoleName) -> Key {
    Key::Role(KeyHash::of(name.as_str()))
}

fn quota_key(name: &RoleName) -> Key {
    Key::RoleQuota(KeyHash::of(name.as_str()))
}

fn certificate_key(name: &CertificateName) -> Key {
    Key::Certificate(KeyHash::of(name.as_str()))
}

/// Whose certificates are those of a name, as it is stored.
#[derive(Serialize, Deserialize)]
struct CertificateRecord {
    name: CertificateName,
    token: TokenId,
}

/// What a role limits, as it is stored.
#[derive(Serialize, Deserialize)]
struct QuotaRecord {
    role: RoleName,
    quota: RoleQuota,
}

impl Machine {
    /// All tokens and roles.
    pub fn security(&self) -> &Arc<SecurityState> {
        &self.security
    }

    pub(super) fn operate_security(
        &mut self,
        operation: SecurityOperation,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        self.forget_expired_tokens(effects);
        self.forget_expired_invitations(effects);
        let before = self.security.clone();
        let reply = match operation {
            SecurityOperation::CreateRole(role) => self.create_role(role, effects).map(SecurityReply::Role),
            SecurityOperation::UpdateRole(role) => self.update_role(role, effects).map(SecurityReply::Role),
            SecurityOperation::DeleteRole(name) => self.delete_role(&name, effects).map(SecurityReply::Role),
            SecurityOperation::CreateToken(new) => self.create_token(new, effects).map(SecurityReply::Token),
            SecurityOperation::RevokeToken(id) => self.revoke_token(id, effects).map(SecurityReply::Token),
            SecurityOperation::RotateToken { id, hash } => {
                self.rotate_token(id, hash, effects).map(SecurityReply::Token)
            }
            SecurityOperation::RevokeTokenUnlessLast(id) => {
                self.revoke_unless_last(id, effects).map(SecurityReply::Token)
            }
            SecurityOperation::Invite(new) => self.invite(new, effects).map(SecurityReply::Invitation),
            SecurityOperation::UseInvitation { id, node } => {
                self.use_invitation(id, node, effects).map(SecurityReply::Invitation)
            }
            SecurityOperation::BindCertificate { name, token } => {
                self.bind_certificate(name, token, effects).map(SecurityReply::Token)
            }
            SecurityOperation::SetRoleQuota { role, quota } => {
                self.set_role_quota(&role, quota, effects).map(SecurityReply::Quota)
            }
        };
        if !Arc::ptr_eq(&before, &self.security) {
            effects.security = Some(self.security.clone());
        }
        reply.map(OperationReply::Security)
    }

    fn create_role(&mut self, role: Role, effects: &mut Effects) -> Result<Role, Refusal> {
        match self.security.roles.get(&role.name) {
            Some(present) if **present == role => return Ok(role),
            Some(_) => return Err(Refusal::RoleExists(role.name)),
            None if role.name.as_str() == ADMIN_ROLE => return Err(Refusal::RoleExists(role.name)),
            None => {}
        }
        if self.security.roles.len() >= Limits::ROLES {
            return Err(Refusal::TooManyRoles { limit: Limits::ROLES as u64 });
        }
        self.put_role(role, effects)
    }

    fn update_role(&mut self, role: Role, effects: &mut Effects) -> Result<Role, Refusal> {
        match self.security.roles.get(&role.name) {
            None => Err(Refusal::NoSuchRole(role.name)),
            Some(present) if **present == role => Ok(role),
            Some(_) => self.put_role(role, effects),
        }
    }

    fn put_role(&mut self, role: Role, effects: &mut Effects) -> Result<Role, Refusal> {
        if !role.is_within_limits() {
            return Err(Refusal::RoleTooLarge(role.name));
        }
        effects.put(role_key(&role.name), &role);
        Arc::make_mut(&mut self.security).roles.insert(role.name.clone(), Arc::new(role.clone()));
        Ok(role)
    }

    /// A role that tokens have stays: one of the same name that is made later would be theirs.
    fn delete_role(&mut self, name: &RoleName, effects: &mut Effects) -> Result<Role, Refusal> {
        let role = self.security.roles.get(name).ok_or_else(|| Refusal::NoSuchRole(name.clone()))?.clone();
        if let Some(token) = self.security.tokens.values().find(|token| token.roles.contains(name)) {
            return Err(Refusal::RoleInUse { role: name.clone(), token: token.id });
        }
        effects.delete(role_key(name));
        let state = Arc::make_mut(&mut self.security);
        state.roles.remove(name);
        if state.quotas.remove(name).is_some() {
            effects.delete(quota_key(name));
        }
        Ok(Role::clone(&role))
    }

    /// What a token has already stays, however little it may have from now on.
    fn set_role_quota(&mut self, name: &RoleName, quota: RoleQuota, effects: &mut Effects) -> Result<Role, Refusal> {
        let role = self.security.roles.get(name).ok_or_else(|| Refusal::NoSuchRole(name.clone()))?.clone();
        let present = self.security.quotas.get(name).map(|present| **present).unwrap_or_default();
        if quota != present {
            let quotas = &mut Arc::make_mut(&mut self.security).quotas;
            if quota.is_empty() {
                quotas.remove(name);
                effects.delete(quota_key(name));
            } else {
                quotas.insert(name.clone(), Arc::new(quota));
                effects.put(quota_key(name), &QuotaRecord { role: name.clone(), quota });
            }
        }
        Ok(Role::clone(&role))
    }

    fn create_token(&mut self, new: NewToken, effects: &mut Effects) -> Result<Token, Refusal> {
        let NewToken { id, hash, description, roles, lifetime_ms } = new;
        if let Some(present) = self.security.tokens.get(&id) {
            let same = present.hash == hash && present.description == description && present.roles == roles;
            return if same { Ok(Token::clone(present)) } else { Err(Refusal::TokenExists(id)) };
        }
        if let Some(missing) = roles.iter().find(|role| !self.security.has_role(role)) {
            return Err(Refusal::NoSuchRole(missing.clone()));
        }
        if self.security.tokens.len() >= Limits::TOKENS {
            return Err(Refusal::TooManyTokens { limit: Limits::TOKENS as u64 });
        }
        if roles.len() > Limits::TOKEN_ROLES || description.len() > Limits::DESCRIPTION_BYTES {
            return Err(Refusal::TokenTooLarge);
        }
        let created_ms = self.today_ms();
        let expires_ms = lifetime_ms.map(|lifetime| created_ms.saturating_add(lifetime));
        let token = Token { id, hash, description, roles, created_ms, rotated_ms: created_ms, expires_ms };
        Ok(self.put_token(token, effects))
    }

    fn bind_certificate(
        &mut self,
        name: CertificateName,
        token: NewToken,
        effects: &mut Effects,
    ) -> Result<Token, Refusal> {
        match self.security.certificates.get(&name) {
            Some(present) if *present == token.id => return self.create_token(token, effects),
            Some(present) => return Err(Refusal::CertificateBound(*present)),
            None if self.security.tokens.contains_key(&token.id) => return Err(Refusal::TokenExists(token.id)),
            None => {}
        }
        let made = self.create_token(token, effects)?;
        effects.put(certificate_key(&name), &CertificateRecord { name: name.clone(), token: made.id });
        Arc::make_mut(&mut self.security).certificates.insert(name, made.id);
        Ok(made)
    }

    /// Takes a token out, and the name of certificates that belonged to it.
    fn remove_token(&mut self, id: TokenId, effects: &mut Effects) {
        effects.delete(Key::Token(id));
        let state = Arc::make_mut(&mut self.security);
        state.tokens.remove(&id);
        let bound = state.certificates.iter().find(|(_, token)| **token == id).map(|(name, _)| name.clone());
        if let Some(name) = bound {
            effects.delete(certificate_key(&name));
            state.certificates.remove(&name);
        }
    }

    fn put_token(&mut self, token: Token, effects: &mut Effects) -> Token {
        effects.put(Key::Token(token.id), &token);
        Arc::make_mut(&mut self.security).tokens.insert(token.id, Arc::new(token.clone()));
        token
    }

    fn revoke_token(&mut self, id: TokenId, effects: &mut Effects) -> Result<Token, Refusal> {
        let token = self.security.tokens.get(&id).ok_or(Refusal::NoSuchToken(id))?.clone();
        self.remove_token(id, effects);
        Ok(Token::clone(&token))
    }

    /// Here and not where it is asked, so that of two administrators who revoke each other's token at the same time one stays.
    fn revoke_unless_last(&mut self, id: TokenId, effects: &mut Effects) -> Result<Token, Refusal> {
        let (state, now) = (&self.security, self.today_ms());
        let administers = |token: &Arc<Token>| state.administers(token, now);
        let is_one = state.tokens.get(&id).is_some_and(administers);
        if is_one && !state.tokens.values().any(|token| token.id != id && administers(token)) {
            return Err(Refusal::LastAdministrator(id));
        }
        self.revoke_token(id, effects)
    }

    fn rotate_token(&mut self, id: TokenId, hash: TokenHash, effects: &mut Effects) -> Result<Token, Refusal> {
        let present = self.security.tokens.get(&id).ok_or(Refusal::NoSuchToken(id))?;
        if self.security.certificates.values().any(|token| *token == id) {
            return Err(Refusal::TokenOfCertificate(id));
        }
        if present.hash == hash {
            return Ok(Token::clone(present));
        }
        let token = Token { hash, rotated_ms: self.today_ms(), ..Token::clone(present) };
        Ok(self.put_token(token, effects))
    }

    fn invite(&mut self, new: NewInvitation, effects: &mut Effects) -> Result<Invitation, Refusal> {
        let NewInvitation { id, key, description, lifetime_ms } = new;
        if let Some(present) = self.security.invitations.get(&id) {
            return if present.key == key { Ok(Invitation::clone(present)) } else { Err(Refusal::TokenExists(id)) };
        }
        if self.security.invitations.len() >= Limits::INVITATIONS {
            return Err(Refusal::TooManyInvitations { limit: Limits::INVITATIONS as u64 });
        }
        if description.len() > Limits::DESCRIPTION_BYTES {
            return Err(Refusal::TokenTooLarge);
        }
        let expires_ms = self.today_ms().saturating_add(lifetime_ms.min(Limits::INVITATION_MS));
        Ok(self.put_invitation(Invitation { id, key, description, expires_ms, used_by: None }, effects))
    }

    /// Of two nodes that join with it at the same time, the log says which was first.
    fn use_invitation(&mut self, id: TokenId, node: u64, effects: &mut Effects) -> Result<Invitation, Refusal> {
        let present = self.security.invitations.get(&id).ok_or(Refusal::NoSuchInvitation(id))?;
        match present.used_by {
            Some(other) if other != node => Err(Refusal::NoSuchInvitation(id)),
            Some(_) => Ok(Invitation::clone(present)),
            None => {
                let used = Invitation { used_by: Some(node), ..Invitation::clone(present) };
                Ok(self.put_invitation(used, effects))
            }
        }
    }

    fn put_invitation(&mut self, invitation: Invitation, effects: &mut Effects) -> Invitation {
        effects.put(Key::Invitation(invitation.id), &invitation);
        let invitations = &mut Arc::make_mut(&mut self.security).invitations;
        invitations.insert(invitation.id, Arc::new(invitation.clone()));
        invitation
    }

    /// With whatever changes next, that one's own use included: nobody joins by what has expired.
    fn forget_expired_invitations(&mut self, effects: &mut Effects) {
        let now = self.today_ms();
        let all = self.security.invitations.values();
        let old: Vec<TokenId> = all.filter(|one| one.expires_ms <= now).map(|one| one.id).collect();
        for id in &old {
            effects.delete(Key::Invitation(*id));
            Arc::make_mut(&mut self.security).invitations.remove(id);
        }
        if !old.is_empty() {
            effects.security = Some(self.security.clone());
        }
    }

    /// With whatever changes next: an expired token is refused anyway.
    fn forget_expired_tokens(&mut self, effects: &mut Effects) {
        let now = self.today_ms();
        let is_old = |token: &Arc<Token>| {
            token.expires_ms.is_some_and(|expires| expires.saturating_add(LISTED_AFTER_EXPIRY_MS) <= now)
        };
        let old: Vec<TokenId> =
            self.security.tokens.values().filter(|token| is_old(token)).map(|token| token.id).collect();
        for id in &old {
            self.remove_token(*id, effects);
        }
        if !old.is_empty() {
            effects.security = Some(self.security.clone());
        }
    }

    /// A role, what it limits, a token or an invitation of the store.
    pub(super) fn restore_security(&mut self, key: Key, value: &Bytes) -> Result<(), String> {
        let state = Arc::make_mut(&mut self.security);
        let fits = if let Key::Invitation(id) = key {
            let invitation: Invitation = decode_record("invitation", value).map_err(|error| error.to_string())?;
            let fits = invitation.id == id;
            state.invitations.insert(id, Arc::new(invitation));
            fits
        } else if let Key::Token(id) = key {
            let token: Token = decode_record("token", value).map_err(|error| error.to_string())?;
            let fits = token.id == id;
            state.tokens.insert(id, Arc::new(token));
            fits
        } else if let Key::Certificate(_) = key {
            let record: CertificateRecord = decode_record("certificate", value).map_err(|error| error.to_string())?;
            let fits = certificate_key(&record.name) == key;
            state.certificates.insert(record.name, record.token);
            fits
        } else if let Key::RoleQuota(_) = key {
            let record: QuotaRecord = decode_record("quota", value).map_err(|error| error.to_string())?;
            let fits = quota_key(&record.role) == key;
            state.quotas.insert(record.role, Arc::new(record.quota));
            fits
        } else {
            let role: Role = decode_record("role", value).map_err(|error| error.to_string())?;
            let fits = role_key(&role.name) == key;
            state.roles.insert(role.name.clone(), Arc::new(role));
            fits
        };
        if fits { Ok(()) } else { Err("it is of another name".into()) }
    }

    /// No token has a role that is not there, and none that is not there limits anything.
    pub(super) fn check_security(&self) -> Result<(), String> {
        if let Some(role) = self.security.quotas.keys().find(|role| !self.security.roles.contains_key(*role)) {
            let key = quota_key(role).encode();
            return Err(format!("key `{}`: there is no role `{role}`", key.escape_ascii()));
        }
        let gone = |(_, token): &(&CertificateName, &TokenId)| !self.security.tokens.contains_key(*token);
        if let Some((name, token)) = self.security.certificates.iter().find(gone) {
            let key = certificate_key(name).encode();
            return Err(format!("key `{}`: there is no token {token}", key.escape_ascii()));
        }
        for token in self.security.tokens.values() {
            if let Some(role) = token.roles.iter().find(|role| !self.security.has_role(role)) {
                let key = Key::Token(token.id).encode();
                return Err(format!("key `{}`: there is no role `{role}`", key.escape_ascii()));
            }
        }
        Ok(())
    }
}
