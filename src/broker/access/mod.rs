//! Who is there, and what may they do: the one check that all faces share.
//!
//! A [`Gate`] stands before the broker of a node. A face shows it the token of each request and gets an [`Access`], which is
//! the broker as far as the caller may use it: the faces have no other way to a broker, so that a call without a check does
//! not compile. What may be done is looked up in the newest state that this node has applied, at each call, and again for
//! all that stays open ([`Standing`]): a token that is revoked ends with the log entry that revokes it.

mod acts;
mod caller;
mod calls;
mod channels;
mod claims;
mod cluster;
mod consumers;
mod guesses;
mod invitations;
mod manage;
mod messages;
mod need;
mod policy;
mod quotas;
mod roles;
mod token;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::{
    acts::Act,
    caller::{Caller, Standing},
    guesses::Delay,
    manage::{TokenInfo, Verdict},
    need::Need,
    policy::Object,
    quotas::Payer,
    roles::RoleInfo,
    token::TokenText,
};
use self::{
    guesses::{Guesses, Told},
    policy::Policy,
    quotas::QuotaRefusals,
};
use super::{
    Broker, BrokerError,
    audit::{Audit, Audited},
};
use crate::{
    budget::Account,
    model::{SecurityMode, SecurityState, TokenHash},
};

/// What was refused, and in the mode that only counts, what would have been.
#[derive(Default)]
struct Counters {
    wrong_tokens: AtomicU64,
    unauthenticated: AtomicU64,
    denied: AtomicU64,
    permitted: AtomicU64,
}

/// The same as numbers, since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Requests with a token that is not valid.
    pub wrong_tokens: u64,
    /// Requests refused because nobody knows who asks.
    pub unauthenticated: u64,
    /// Requests refused because no role grants them.
    pub denied: u64,
    /// Requests that were let through, and would be refused if the mode were `enforce`.
    pub permitted: u64,
}

/// Stands before a broker: see the module's description.
pub struct Gate {
    broker: Broker,
    mode: SecurityMode,
    /// Of a token that may manage tokens and roles, and nothing else.
    bootstrap: Option<TokenHash>,
    security: watch::Receiver<Arc<SecurityState>>,
    policy: Mutex<Arc<Policy>>,
    guesses: Guesses,
    counters: Counters,
    quota_refusals: QuotaRefusals,
    told: Told,
    audit: Audit,
}

/// A broker as far as a caller may use it.
#[derive(Clone)]
pub struct Access {
    broker: Broker,
    caller: Caller,
}

/// A request that goes no further, and how long it waits until it is told so.
#[derive(Debug)]
pub struct Turned {
    /// Why.
    pub error: Box<BrokerError>,
    /// For whoever tries tokens.
    pub delay: Option<Delay>,
}

impl Gate {
    /// Before a broker. The hash is that of a token that may manage tokens and roles whatever the state says.
    pub fn new(broker: Broker, mode: SecurityMode, bootstrap: Option<TokenHash>, audit: Audit) -> Arc<Self> {
        let security = broker.view().security();
        Arc::new(Self {
            broker,
            mode,
            bootstrap,
            security,
            policy: Mutex::default(),
            guesses: Guesses::new(),
            counters: Counters::default(),
            quota_refusals: QuotaRefusals::default(),
            told: Told::default(),
            audit,
        })
    }

    /// Whether callers have to say who they are.
    pub fn mode(&self) -> SecurityMode {
        self.mode
    }

    /// What became of the records of who did what.
    pub fn audited(&self) -> Audited {
        self.audit.audited()
    }

    /// What was refused so far.
    pub fn refused(&self) -> Refused {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { wrong_tokens, unauthenticated, denied, permitted } = &self.counters;
        Refused {
            wrong_tokens: of(wrong_tokens),
            unauthenticated: of(unauthenticated),
            denied: of(denied),
            permitted: of(permitted),
        }
    }

    /// Lets a request in that has what its call needs as far as can be told before it is read. The rest is checked when
    /// the call says what it is about.
    ///
    /// # Errors
    /// Why not, and after which delay that is to be told.
    pub fn admit(self: &Arc<Self>, token: Option<&str>, through: &Account, need: Need) -> Result<Access, Turned> {
        let from = through.origin();
        let caller = match (self.mode, token) {
            (SecurityMode::Off, _) => Caller::nobody(self.clone(), from.clone()),
            // A token that is shown counts alone; who shows none is whom the certificate names.
            (_, None) => Caller::by_certificate(self.clone(), through),
            // Open calls answer whoever asks, also with a token that is not valid any more.
            (_, Some(_)) if need == Need::Open => Caller::nobody(self.clone(), from.clone()),
            (mode, Some(text)) => match Caller::of(self.clone(), from.clone(), text) {
                Ok(caller) => caller,
                Err(error) => {
                    self.counters.wrong_tokens.fetch_add(1, Ordering::Relaxed);
                    self.tell(&format!("a token from {from} is refused: {error}"));
                    let caller = Caller::nobody(self.clone(), from.clone());
                    self.audit.refused(from, || caller.wrong_token(text, &error));
                    let delay = self.guesses.wrong(from);
                    if mode == SecurityMode::Enforce {
                        return Err(Turned { error: Box::new(error), delay: Some(delay) });
                    }
                    caller
                }
            },
        };
        caller.needs(need).map_err(|error| Turned { error: Box::new(error), delay: None })?;
        Ok(Access { broker: self.broker.clone(), caller })
    }

    /// The tokens and roles as this node has applied them.
    fn policy(&self) -> Arc<Policy> {
        let mut policy = self.policy.lock();
        let state = self.security.borrow().clone();
        if !Arc::ptr_eq(&policy.state, &state) {
            *policy = Arc::new(Policy::compile(state, &policy));
        }
        policy.clone()
    }

    fn count_refused(&self, error: &BrokerError) {
        let counter = match error {
            BrokerError::Unauthenticated { .. } => &self.counters.unauthenticated,
            _ => &self.counters.denied,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was refused, or lets it through where the mode says so.
    fn conclude(&self, judged: Result<(), BrokerError>) -> Result<(), BrokerError> {
        let Err(error) = judged else { return Ok(()) };
        if self.mode == SecurityMode::Enforce {
            self.count_refused(&error);
            return Err(error);
        }
        self.counters.permitted.fetch_add(1, Ordering::Relaxed);
        self.tell(&format!("security.mode = \"enforce\" would refuse a request: {error}"));
        Ok(())
    }

    fn tell(&self, line: &str) {
        if self.told.is_due(line) {
            tracing::warn!("{line}");
        }
    }
}
