//! Tokens and roles in the form in which they are asked: made once for each change of them, and shared by all requests.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::quotas::Metered;
use crate::model::{
    ADMIN_ROLE, AUDIT_CHANNEL, Action, Actions, CertificateName, ChannelName, Pattern, Role, RoleName, Scope,
    SecurityState, Token, TokenHash, TokenId,
};

/// Something that a caller wants to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// A channel, by its name.
    Channel(&'a str),
    /// A namespace of claims, by its name.
    Claims(&'a str),
    /// The cluster as a whole.
    Cluster,
    /// Its tokens and roles: whoever may administer the cluster may administer them.
    Tokens,
}

impl Object<'_> {
    /// Whether nobody may do any of these to it, whatever a role grants: what the nodes write is only read.
    pub(super) fn is_kept_from(self, actions: &[Action]) -> bool {
        self == Object::Channel(AUDIT_CHANNEL) && !actions.contains(&Action::Read)
    }
}

/// As records name it.
impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(name) => write!(f, "channel:{}", shown(name)),
            Self::Claims(name) => write!(f, "claim:{}", shown(name)),
            Self::Cluster => f.write_str("cluster"),
            Self::Tokens => f.write_str("tokens"),
        }
    }
}

/// A name as it is said. What is none is not repeated: it may be of any length and hold anything, and a refusal is said of each
/// message of a batch and goes into the log.
pub(super) fn shown(name: &str) -> &str {
    if name == AUDIT_CHANNEL || name.parse::<ChannelName>().is_ok() { name } else { "(no name)" }
}

/// What one role grants.
#[derive(Default)]
struct Rights {
    channels: Names,
    claims: Names,
    cluster: Actions,
}

/// Actions by name. All that match count together.
#[derive(Default)]
struct Names {
    exact: HashMap<String, Actions>,
    prefixes: Vec<(String, Actions)>,
}

impl Names {
    fn add(&mut self, pattern: &Pattern, actions: Actions) {
        match pattern.prefix() {
            Some(prefix) => self.prefixes.push((prefix.to_owned(), actions)),
            None => {
                let known = self.exact.entry(pattern.as_str().to_owned()).or_default();
                *known = known.and(actions);
            }
        }
    }

    fn of(&self, name: &str) -> Actions {
        let matching = self.prefixes.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
        let exact = self.exact.get(name).copied().unwrap_or_default();
        matching.fold(exact, |all, (_, actions)| all.and(*actions))
    }

    fn any(&self) -> Actions {
        let all = self.exact.values().chain(self.prefixes.iter().map(|(_, actions)| actions));
        all.fold(Actions::default(), |all, actions| all.and(*actions))
    }
}

impl Rights {
    fn of(role: &Role) -> Self {
        let mut rights = Self::default();
        for grant in &role.grants {
            // What an action does not go with is not granted by a role that another version has made either.
            let actions = grant.actions.iter().filter(|action| grant.scope.actions().contains(*action)).collect();
            match &grant.scope {
                Scope::Channels(pattern) => rights.channels.add(pattern, actions),
                Scope::Claims(pattern) => rights.claims.add(pattern, actions),
                Scope::Cluster => rights.cluster = rights.cluster.and(actions),
            }
        }
        rights
    }

    fn on(&self, object: Object<'_>) -> Actions {
        match object {
            Object::Channel(name) => self.channels.of(name),
            Object::Claims(name) => self.claims.of(name),
            Object::Cluster | Object::Tokens => self.cluster,
        }
    }
}

/// A token with what it may do.
pub(super) struct Principal {
    pub(super) token: Arc<Token>,
    roles: Vec<Arc<Rights>>,
    /// What it may do to some channel.
    channels: Actions,
    /// What it may do to some namespace of claims.
    claims: Actions,
    /// When it was used last on this node, milliseconds since the Unix epoch; 0: never.
    pub(super) used_ms: Arc<AtomicU64>,
    /// What it takes of this node, and what it may take.
    pub(super) metered: Arc<Metered>,
}

impl Principal {
    /// What it may do to something.
    pub(super) fn on(&self, object: Object<'_>) -> Actions {
        if object == Object::Channel(AUDIT_CHANNEL) {
            // No pattern of names reaches it.
            let administers = self.on(Object::Cluster).contains(Action::Admin);
            return administers.then_some(Action::Read).into_iter().collect();
        }
        self.roles.iter().fold(Actions::default(), |all, role| all.and(role.on(object)))
    }

    /// Whether it may do so to some channel.
    pub(super) fn may_to_some_channel(&self, action: Action) -> bool {
        self.channels.contains(action)
    }

    /// Whether it may do so to some channel, or to some namespace of claims.
    pub(super) fn may_somewhere(&self, action: Action) -> bool {
        self.channels.and(self.claims).contains(action)
    }

    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        self.token.expires_ms.is_some_and(|expires| expires <= now_ms)
    }

    /// Coarse, so that it is no log entry and no lock: each node knows what came to itself.
    pub(super) fn use_at(&self, now_ms: u64) {
        self.used_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// All tokens at one version of the state.
#[derive(Default)]
pub(super) struct Policy {
    pub(super) state: Arc<SecurityState>,
    principals: HashMap<TokenId, Principal>,
    certificates: HashMap<TokenId, CertificateName>,
}

impl Policy {
    /// Of a state; what is known of the use of tokens is kept.
    pub(super) fn compile(state: Arc<SecurityState>, before: &Self) -> Self {
        let mut roles: HashMap<&RoleName, Arc<Rights>> = HashMap::new();
        let admin = Role::admin();
        let known = state.clone();
        for role in known.roles.values().map(|role| &**role).chain(&admin) {
            let rights = Rights::of(role);
            roles.insert(&role.name, Arc::new(rights));
        }
        debug_assert!(roles.keys().any(|name| name.as_str() == ADMIN_ROLE));
        let principal = |token: &Arc<Token>| {
            let granted: Vec<_> = token.roles.iter().filter_map(|role| roles.get(role)).collect();
            let known_before = before.principals.get(&token.id);
            let metered = Metered::of(&state, token, known_before.map(|known| &*known.metered));
            let used = known_before.map(|known| known.used_ms.clone());
            Principal {
                token: token.clone(),
                channels: granted.iter().fold(Actions::default(), |all, rights| all.and(rights.channels.any())),
                claims: granted.iter().fold(Actions::default(), |all, rights| all.and(rights.claims.any())),
                roles: granted.into_iter().cloned().collect(),
                used_ms: used.unwrap_or_default(),
                metered: Arc::new(metered),
            }
        };
        let principals = state.tokens.iter().map(|(id, token)| (*id, principal(token))).collect();
        let certificates = state.certificates.iter().map(|(name, id)| (*id, name.clone())).collect();
        Self { principals, certificates, state }
    }

    /// The token of this id, if the hash is that of its text. What is compared where there is none takes as long.
    pub(super) fn principal(&self, id: TokenId, hash: &TokenHash) -> Option<&Principal> {
        let found = self.principals.get(&id);
        let expected = found.map_or(TokenHash([0; 32]), |principal| principal.token.hash);
        let same = expected == *hash;
        found.filter(|_| same)
    }

    /// The name of the certificates that the holder of a token shows.
    pub(super) fn certificate_of(&self, id: TokenId) -> Option<&CertificateName> {
        self.certificates.get(&id)
    }

    pub(super) fn used_ms(&self, id: TokenId) -> u64 {
        self.principals.get(&id).map_or(0, |principal| principal.used_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(grants: &[&str], roles: &[&str]) -> Policy {
        let mut state = SecurityState::default();
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        let role = Role { name: "r".parse().unwrap(), description: String::new(), grants };
        state.roles.insert(role.name.clone(), Arc::new(role));
        let token = Token {
            id: TokenId(1),
            hash: TokenHash([1; 32]),
            description: String::new(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            created_ms: 1,
            rotated_ms: 1,
            expires_ms: Some(10),
        };
        state.tokens.insert(token.id, Arc::new(token));
        Policy::compile(Arc::new(state), &Policy::default())
    }

    fn names(actions: Actions) -> Vec<&'static str> {
        actions.iter().map(Action::name).collect()
    }

    #[test]
    fn what_is_not_granted_is_refused_and_all_that_match_count_together() {
        let policy = policy(
            &["channel:orders.*=read", "channel:orders.eu=publish", "channel:orders.*=manage", "claim:jobs=claim"],
            &["r"],
        );
        let principal = policy.principal(TokenId(1), &TokenHash([1; 32])).unwrap();
        let on = |object| names(principal.on(object));
        assert_eq!(on(Object::Channel("orders.eu")), ["publish", "read", "manage"]);
        assert_eq!(on(Object::Channel("orders.us")), ["read", "manage"]);
        assert!(on(Object::Channel("orders")).is_empty() && on(Object::Channel("other")).is_empty());
        assert_eq!(on(Object::Claims("jobs")), ["claim"]);
        assert!(on(Object::Claims("orders.eu")).is_empty() && on(Object::Channel("jobs")).is_empty());
        assert!(on(Object::Cluster).is_empty());
        assert!(principal.may_somewhere(Action::Claim) && !principal.may_somewhere(Action::Admin));
        assert!(principal.may_to_some_channel(Action::Read) && !principal.may_to_some_channel(Action::Claim));
    }

    #[test]
    fn a_token_is_found_by_its_id_and_its_hash_together() {
        let policy = policy(&[], &["r"]);
        let found = |id, byte| policy.principal(TokenId(id), &TokenHash([byte; 32])).is_some();
        assert!(found(1, 1));
        assert!(!found(1, 2) && !found(2, 1));
        assert!(!found(2, 0), "the hash that stands for none is nobody's");
    }

    #[test]
    fn an_administrator_may_do_everything_without_any_role_of_the_state() {
        let policy = policy(&[], &[ADMIN_ROLE]);
        let principal = policy.principal(TokenId(1), &TokenHash([1; 32])).unwrap();
        assert_eq!(names(principal.on(Object::Channel("x"))), ["publish", "read", "consume", "manage"]);
        assert_eq!(names(principal.on(Object::Claims("x"))), ["read", "claim", "manage"]);
        assert_eq!(names(principal.on(Object::Cluster)), ["read", "manage", "admin"]);
        assert!(!principal.has_expired(9) && principal.has_expired(10));
    }

    #[test]
    fn the_audit_is_read_by_administrators_and_changed_by_nobody() {
        let on = |policy: &Policy| {
            names(policy.principal(TokenId(1), &TokenHash([1; 32])).unwrap().on(Object::Channel(AUDIT_CHANNEL)))
        };
        assert_eq!(on(&policy(&[], &[ADMIN_ROLE])), ["read"]);
        assert_eq!(on(&policy(&["cluster=admin"], &["r"])), ["read"]);
        assert!(on(&policy(&["channel:*=publish,read,consume,manage", "cluster=manage"], &["r"])).is_empty());
        let kept = |action| Object::Channel(AUDIT_CHANNEL).is_kept_from(&[action]);
        assert!([Action::Publish, Action::Consume, Action::Manage].into_iter().all(kept) && !kept(Action::Read));
        assert!(!Object::Channel("audit").is_kept_from(&[Action::Manage]));
    }

    #[test]
    fn what_is_known_of_a_tokens_use_outlives_a_change_of_the_roles() {
        let before = policy(&["cluster=read"], &["r"]);
        before.principal(TokenId(1), &TokenHash([1; 32])).unwrap().use_at(7);
        let after = Policy::compile(before.state.clone(), &before);
        assert_eq!((after.used_ms(TokenId(1)), after.used_ms(TokenId(2))), (7, 0));
    }
}
