//! One caller, and the check.

mod certified;

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Gate, Need, Object, TokenText,
    policy::{Policy, Principal, shown},
};
use crate::{
    broker::{
        BrokerError,
        audit::{self, Audit, Fate, Record},
    },
    budget::{Identity, Origin},
    model::{Action, SecurityMode, SecurityState, TokenHash, TokenId},
};

/// A token whose end is far away is looked at again after this time.
const LOOK_AGAIN_MS: u64 = 60_000;

/// Whoever asks.
#[derive(Clone)]
pub struct Caller {
    pub(super) gate: Arc<Gate>,
    who: Who,
    from: Origin,
    /// The certificate that was shown where nobody knows whose it is.
    unknown: Option<Arc<Identity>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Without a token, or where nobody is asked for one.
    Nobody,
    /// With the token whose hash is in the configuration.
    Bootstrap,
    Token {
        id: TokenId,
        hash: TokenHash,
    },
    /// With a certificate of a name that belongs to a token, and that is valid until then.
    Certificate {
        id: TokenId,
        hash: TokenHash,
        until_ms: u64,
    },
}

impl Caller {
    pub(super) fn nobody(gate: Arc<Gate>, from: Origin) -> Self {
        Self { gate, who: Who::Nobody, from, unknown: None }
    }

    /// Whoever shows a token.
    ///
    /// # Errors
    /// `Unauthenticated` where it is not valid.
    pub(super) fn of(gate: Arc<Gate>, from: Origin, text: &str) -> Result<Self, BrokerError> {
        let hash = TokenHash::of(text);
        let who = match TokenText::id_in(text) {
            None => return Err(unknown("what was sent has not the form of a token")),
            Some(_) if gate.bootstrap == Some(hash) => Who::Bootstrap,
            Some(id) => Who::Token { id, hash },
        };
        let caller = Self { gate, who, from, unknown: None };
        caller.known()?;
        if let Who::Token { id, hash } = who
            && let Some(principal) = caller.gate.policy().principal(id, &hash)
        {
            principal.use_at(caller.gate.broker.now_ms());
        }
        Ok(caller)
    }

    /// Which token it is; none without one, and for that of the configuration.
    pub(super) fn token(&self) -> Option<TokenId> {
        self.token_and_hash().map(|(id, _)| id)
    }

    pub(super) fn token_and_hash(&self) -> Option<(TokenId, TokenHash)> {
        match self.who {
            Who::Token { id, hash } | Who::Certificate { id, hash, .. } => Some((id, hash)),
            Who::Nobody | Who::Bootstrap => None,
        }
    }

    /// The same gate before the holder of another token; none where there is no such token.
    pub(super) fn as_token(&self, id: TokenId) -> Option<Self> {
        let hash = self.gate.policy().state.tokens.get(&id)?.hash;
        Some(Self { gate: self.gate.clone(), who: Who::Token { id, hash }, from: self.from.clone(), unknown: None })
    }

    /// The tokens and roles as this node has applied them.
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.gate.policy()
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match self.who {
            Who::Nobody => "a caller without a token".to_owned(),
            Who::Bootstrap => "the bootstrap token".to_owned(),
            Who::Token { id, .. } => format!("token {id}"),
            Who::Certificate { id, .. } => format!("the certificate of token {id}"),
        }
    }

    /// The check: whether this may be done to that, now.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`. They are the same whether or not the thing exists.
    pub fn may(&self, action: Action, object: Object<'_>) -> Result<(), BrokerError> {
        self.may_one_of(&[action], object)
    }

    /// The same where any of some actions will do.
    ///
    /// # Errors
    /// As [`Caller::may`].
    pub fn may_one_of(&self, actions: &[Action], object: Object<'_>) -> Result<(), BrokerError> {
        if object.is_kept_from(actions) {
            return Err(self.keep_from(actions, object));
        }
        match self.gate.mode {
            SecurityMode::Off => Ok(()),
            _ => self.conclude(self.judge(actions, object), actions, || object.to_string()),
        }
    }

    /// What nobody may do, whatever the mode.
    fn keep_from(&self, actions: &[Action], object: Object<'_>) -> BrokerError {
        let error = self.denied(actions, &spelled(object));
        let code = Some(error.code().as_str().to_owned());
        self.audit()
            .refused(&self.from, || self.record(names_of(actions).into(), object.to_string(), Fate::Denied, code));
        self.gate.count_refused(&error);
        error
    }

    /// Counts and records what was refused, or lets it through where the mode says so.
    fn conclude(
        &self,
        judged: Result<(), BrokerError>,
        actions: &[Action],
        on: impl FnOnce() -> String,
    ) -> Result<(), BrokerError> {
        if let Err(error) = &judged
            && self.gate.mode == SecurityMode::Enforce
        {
            let code = Some(error.code().as_str().to_owned());
            let record = || self.record(names_of(actions).into(), on(), Fate::Denied, code);
            self.audit().refused(&self.from, record);
        }
        self.gate.conclude(judged)
    }

    /// What takes the records of acts and refusals.
    pub(super) fn audit(&self) -> &Audit {
        &self.gate.audit
    }

    /// A record of what this caller did, or was not let do.
    pub(super) fn record(&self, act: Cow<'static, str>, on: String, fate: Fate, code: Option<String>) -> Record {
        let who = match self.who {
            Who::Nobody => audit::Who::default(),
            Who::Bootstrap => audit::Who { token: "bootstrap".into(), description: String::new() },
            Who::Token { id, .. } | Who::Certificate { id, .. } => {
                let policy = self.gate.policy();
                let description = policy.state.tokens.get(&id).map(|token| token.description.clone());
                audit::Who { token: id.to_string(), description: description.unwrap_or_default() }
            }
        };
        let (time_ms, from) = (self.gate.broker.now_ms(), self.from.to_string());
        Record { time_ms, act, on, fate, code, who, from, detail: String::new(), skipped: 0 }
    }

    /// A record of a token that is not valid. Its id is no secret, and whoever sent it may have made it up.
    pub(super) fn wrong_token(&self, text: &str, error: &BrokerError) -> Record {
        let named = TokenText::id_in(text).map_or_else(|| "token".to_owned(), |id| format!("token:{id}"));
        self.record("login".into(), named, Fate::Denied, Some(error.code().as_str().to_owned()))
    }

    /// Whether the caller may do anything to a thing, and so know of it. Nothing is counted: it is asked of all that is
    /// listed.
    pub fn sees(&self, object: Object<'_>) -> bool {
        self.gate.mode != SecurityMode::Enforce || self.judge(&Action::ALL, object).is_ok()
    }

    /// What a call needs before it is read.
    pub(super) fn needs(&self, need: Need) -> Result<(), BrokerError> {
        if self.gate.mode == SecurityMode::Off {
            return Ok(());
        }
        match need {
            Need::Open => Ok(()),
            Need::Known => self.conclude(self.known(), &[], || "anything".to_owned()),
            Need::Cluster(action) => self.may(action, Object::Cluster),
            Need::Tokens => self.may(Action::Admin, Object::Tokens),
            // Where nothing is refused, the call itself counts what would be.
            Need::OneOf(_) if self.gate.mode == SecurityMode::Permissive => Ok(()),
            Need::OneOf(actions) => {
                let judged = self.may_one_somewhere(actions, Principal::may_somewhere);
                self.conclude(judged, actions, || "anything".to_owned())
            }
            Need::ToSomeChannel(actions) => {
                let judged = self.may_one_somewhere(actions, Principal::may_to_some_channel);
                self.conclude(judged, actions, || "any channel".to_owned())
            }
        }
    }

    fn may_one_somewhere(&self, actions: &[Action], may: fn(&Principal, Action) -> bool) -> Result<(), BrokerError> {
        self.known()?;
        let may = match self.who {
            Who::Nobody | Who::Bootstrap => false,
            Who::Token { id, hash } | Who::Certificate { id, hash, .. } => {
                let policy = self.gate.policy();
                let principal = policy.principal(id, &hash);
                principal.is_some_and(|principal| actions.iter().any(|action| may(principal, *action)))
            }
        };
        if may { Ok(()) } else { Err(self.denied(actions, "anything")) }
    }

    /// Whether the token is valid, now.
    fn known(&self) -> Result<(), BrokerError> {
        match self.who {
            Who::Nobody => Err(match &self.unknown {
                None => unknown("the request has no token"),
                Some(identity) => certified::of_nobody(&identity.names),
            }),
            Who::Bootstrap => Ok(()),
            Who::Certificate { until_ms, .. } if until_ms <= self.gate.broker.now_ms() => {
                Err(unknown("the certificate has expired"))
            }
            Who::Token { id, hash } | Who::Certificate { id, hash, .. } => {
                let policy = self.gate.policy();
                match policy.principal(id, &hash) {
                    None => Err(unknown("the token is not known, or was revoked")),
                    Some(principal) if principal.has_expired(self.gate.broker.now_ms()) => {
                        Err(unknown("the token has expired"))
                    }
                    Some(_) => Ok(()),
                }
            }
        }
    }

    /// Without counting, whatever the mode.
    pub(super) fn judge(&self, actions: &[Action], object: Object<'_>) -> Result<(), BrokerError> {
        self.known()?;
        let granted = match self.who {
            Who::Nobody => false,
            // It makes tokens that may do more, and leaves a trace by that.
            Who::Bootstrap => object == Object::Tokens && actions.contains(&Action::Admin),
            Who::Token { id, hash } | Who::Certificate { id, hash, .. } => {
                let policy = self.gate.policy();
                let granted = policy.principal(id, &hash).map(|principal| principal.on(object)).unwrap_or_default();
                actions.iter().any(|action| granted.contains(*action))
            }
        };
        if granted {
            return Ok(());
        }
        Err(self.denied(actions, &spelled(object)))
    }

    fn denied(&self, actions: &[Action], on: &str) -> BrokerError {
        BrokerError::PermissionDenied { who: self.name(), action: names_of(actions), on: on.to_owned() }
    }

    /// Until when the token is certainly valid, unless it is revoked: milliseconds from now.
    fn look_again_ms(&self) -> u64 {
        let Some((id, hash)) = self.token_and_hash() else { return LOOK_AGAIN_MS };
        let policy = self.gate.policy();
        let expires = policy.principal(id, &hash).and_then(|principal| principal.token.expires_ms);
        let until = if let Who::Certificate { until_ms, .. } = self.who { Some(until_ms) } else { None };
        let expires = expires.into_iter().chain(until).min();
        expires
            .map_or(LOOK_AGAIN_MS, |expires| expires.saturating_sub(self.gate.broker.now_ms()).clamp(1, LOOK_AGAIN_MS))
    }

    /// Watches over something that stays open by a right that the caller has now; none where nothing is refused.
    pub(super) fn standing(&self, right: Right) -> Option<Standing> {
        let changes = self.gate.security.clone();
        (self.gate.mode == SecurityMode::Enforce).then(|| Standing { caller: self.clone(), right, changes })
    }
}

/// By what something stays open.
pub(super) enum Right {
    /// By a token that is valid.
    Valid,
    /// By a right to a channel.
    Channel(Action, String),
    /// By a right to the cluster.
    Cluster(Action),
}

/// Watches over something that stays open: it ends with the right by which it was opened.
pub struct Standing {
    caller: Caller,
    right: Right,
    changes: watch::Receiver<Arc<SecurityState>>,
}

impl Standing {
    /// Resolves when the right has ended, and says why. Nothing is lost when the future is dropped.
    pub async fn ended(&mut self) -> BrokerError {
        loop {
            self.changes.mark_unchanged();
            if let Err(error) = self.judge() {
                return error;
            }
            let look_again = Duration::from_millis(self.caller.look_again_ms());
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    // The node ends, and all that is open with it.
                    std::future::pending::<()>().await;
                },
                () = tokio::time::sleep(look_again) => {}
            }
        }
    }

    fn judge(&self) -> Result<(), BrokerError> {
        match &self.right {
            Right::Valid => self.caller.known(),
            Right::Cluster(action) => self.caller.judge(&[*action], Object::Cluster),
            Right::Channel(action, channel) => self.caller.judge(&[*action], Object::Channel(channel)),
        }
    }

    /// Whether the right is still there, where there is something to watch over.
    ///
    /// # Errors
    /// Why it is not.
    pub fn holds(standing: Option<&Self>) -> Result<(), BrokerError> {
        standing.map_or(Ok(()), Self::judge)
    }

    /// As [`Standing::ended`], where there may be nothing to watch over.
    pub async fn ended_of(standing: &mut Option<Self>) -> BrokerError {
        match standing {
            Some(standing) => standing.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// For people.
fn spelled(object: Object<'_>) -> String {
    match object {
        Object::Channel(name) => format!("channel `{}`", shown(name)),
        Object::Claims(name) => format!("claim namespace `{}`", shown(name)),
        Object::Cluster => "the cluster".to_owned(),
        Object::Tokens => "the tokens and roles of the cluster".to_owned(),
    }
}

fn names_of(actions: &[Action]) -> String {
    match actions {
        [action] => action.name().to_owned(),
        actions if actions.len() == Action::ALL.len() => "any action".to_owned(),
        actions => actions.iter().map(|action| action.name()).collect::<Vec<_>>().join(" or "),
    }
}

fn unknown(reason: &str) -> BrokerError {
    BrokerError::Unauthenticated { reason: reason.to_owned() }
}
