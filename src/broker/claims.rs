//! Claims with receipts: taking, completing, renewing and releasing the right to the work that a key names.
//!
//! The log decides, in its own time. A receipt is not in the log's answer: it is read from this node's store once the
//! answer is applied here, and asked for again when it has changed on the way.

mod shown;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Broker, ClaimError, Unserved, leader::RETRY, quotas::STATE_RETRY_MS};
use crate::{
    codec,
    machine::receipt_key,
    model::{
        ClaimInfo, ClaimOperation, ClaimReply, KeyHash, Made, NamespaceId, NamespaceInfo, NamespaceName, OnBehalf,
        OperationReply, Refusal, StoredReceipt, TokenId,
    },
};

/// What became of a request for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the caller's until its lease ends.
    Claimed {
        /// The claim; its token is needed to complete, renew or release it.
        claim: ClaimInfo,
        /// The same owner held it already.
        repeated: bool,
    },
    /// Somebody else holds it.
    InFlight(ClaimInfo),
    /// The work is done.
    Completed {
        /// The claim.
        claim: ClaimInfo,
        /// What the worker left.
        receipt: Bytes,
    },
}

/// A claim that was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The claim.
    pub claim: ClaimInfo,
    /// It had been completed with the same token and receipt before.
    pub repeated: bool,
}

/// What a request is about.
pub(super) struct Subject<'a> {
    pub(super) namespace: NamespaceName,
    key: &'a str,
    pub(super) hash: KeyHash,
    pub(super) token: u64,
}

impl Broker {
    /// Takes a claim for `lease`. With an `owner`, who must be different for every taker, the request may be repeated
    /// until an answer arrives: the same owner gets the same token.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use liminal::{Broker, broker::Claim, config::ServerConfig, store::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), liminal::broker::BrokerError> {
    /// # let broker = Broker::embedded(&ServerConfig::default(), Arc::new(MemoryStore::new())).await?;
    /// let lease = Duration::from_secs(30);
    /// let Claim::Claimed { claim, .. } = broker.claim("mails", "order-7", lease, Some("w1")).await? else { panic!() };
    /// assert!(matches!(broker.claim("mails", "order-7", lease, Some("w2")).await?, Claim::InFlight(_)));
    /// broker.complete_claim("mails", "order-7", claim.token, "sent".into()).await?;
    /// let Claim::Completed { receipt, .. } = broker.claim("mails", "order-7", lease, Some("w2")).await? else { panic!() };
    /// assert_eq!(receipt, "sent");
    /// # broker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `TooManyClaims`, `InvalidArgument`, `LimitExceeded`; `ClaimOutcomeUnknown`: it may have been taken.
    pub async fn claim(
        &self,
        namespace: &str,
        key: &str,
        lease: Duration,
        owner: Option<&str>,
    ) -> Result<Claim, ClaimError> {
        self.claim_for((namespace, key), lease, owner, None).await
    }

    /// The same for a token, for which it counts.
    pub(super) async fn claim_for(
        &self,
        (namespace, key): (&str, &str),
        lease: Duration,
        owner: Option<&str>,
        token: Option<TokenId>,
    ) -> Result<Claim, ClaimError> {
        let subject = self.subject(namespace, key, 0)?;
        let lease_ms = self.lease_ms(lease)?;
        let owner = owner.map(|owner| self.check_text("the owner", owner)).transpose()?.map(Arc::from);
        let deadline = Instant::now() + self.limits().publish_timeout;
        loop {
            let (namespace, key) = (subject.namespace.clone(), subject.hash);
            let take = ClaimOperation::Take { namespace, key, owner: owner.clone(), lease_ms };
            match self.operate_claim_for(token, take, &subject).await? {
                ClaimReply::Taken { claim, repeated } => return Ok(Claim::Claimed { claim, repeated }),
                ClaimReply::InFlight(claim) => return Ok(Claim::InFlight(claim)),
                ClaimReply::Completed { namespace, claim, .. } => {
                    if let Some(receipt) = self.receipt(namespace, subject.hash, claim.token).await? {
                        return Ok(Claim::Completed { claim, receipt });
                    }
                    // Its window ended between the answer and the look: whoever asks now finds it free.
                    if Instant::now() >= deadline {
                        return Err(lost(&claim));
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Ends a claim: whoever takes it within the namespace's window is told the receipt. May be repeated with the same
    /// token and receipt.
    ///
    /// # Errors
    /// `ClaimStale` when the token's lease ended or the claim is somebody else's; `ClaimCompleted` when it ended with
    /// another receipt; `NamespaceNotFound`, `LimitExceeded`; `ClaimOutcomeUnknown`: it may have been completed.
    pub async fn complete_claim(
        &self,
        namespace: &str,
        key: &str,
        token: u64,
        receipt: Bytes,
    ) -> Result<Completed, ClaimError> {
        let subject = self.completing(namespace, key, token, &receipt)?;
        let _admitted = self.admit(receipt.len())?;
        let (namespace, key) = (subject.namespace.clone(), subject.hash);
        match self.operate_claim(ClaimOperation::Complete { namespace, key, token, receipt }, &subject).await? {
            ClaimReply::Completed { claim, repeated, .. } => Ok(Completed { claim, repeated }),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a claim back, so that anybody may take it. True when it was free already.
    ///
    /// # Errors
    /// As [`Broker::complete_claim`].
    pub async fn release_claim(&self, namespace: &str, key: &str, token: u64) -> Result<bool, ClaimError> {
        let subject = self.subject(namespace, key, token)?;
        let (namespace, key) = (subject.namespace.clone(), subject.hash);
        match self.operate_claim(ClaimOperation::Release { namespace, key, token }, &subject).await? {
            ClaimReply::Released { repeated } => Ok(repeated),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the lease of a claim last until `lease` from now; never shorter than it lasts anyway.
    ///
    /// # Errors
    /// As [`Broker::complete_claim`].
    pub async fn renew_claim(
        &self,
        namespace: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<ClaimInfo, ClaimError> {
        let subject = self.subject(namespace, key, token)?;
        let lease_ms = self.lease_ms(lease)?;
        let (namespace, key) = (subject.namespace.clone(), subject.hash);
        match self.operate_claim(ClaimOperation::Renew { namespace, key, token, lease_ms }, &subject).await? {
            ClaimReply::Renewed(claim) => Ok(claim),
            other => Err(unexpected(&other)),
        }
    }

    /// A claim as of now (linearizable); none when it is free.
    ///
    /// # Errors
    /// `NamespaceNotFound`; `NoLeader` or `NotConfirmed` without a majority.
    pub async fn show_claim(&self, namespace: &str, key: &str) -> Result<Option<Claim>, ClaimError> {
        let subject = self.subject(namespace, key, 0)?;
        self.catch_up().await?;
        let deadline = Instant::now() + self.limits().read_timeout;
        loop {
            let found = self.inner.view.claim(&subject.namespace, subject.hash);
            let (id, claim) = found.map_err(|refusal| self.claim_refused(refusal, &subject))?;
            let Some(claim) = claim.map(|claim| self.dated_claim(claim)) else { return Ok(None) };
            if !claim.completed {
                return Ok(Some(Claim::InFlight(claim)));
            }
            if let Some(receipt) = self.receipt(id, subject.hash, claim.token).await? {
                return Ok(Some(Claim::Completed { claim, receipt }));
            }
            // What is applied may be ahead of the store for a moment.
            if Instant::now() >= deadline {
                return Err(lost(&claim));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Makes a namespace of claims, or changes its window: how long it keeps the receipts that come from now on.
    ///
    /// # Errors
    /// `LimitExceeded` when there are too many namespaces.
    pub async fn put_claim_namespace(&self, name: &str, window: Duration) -> Result<NamespaceInfo, ClaimError> {
        let subject = Subject { namespace: namespace_name(name)?, key: "", hash: KeyHash([0; 16]), token: 0 };
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        if window_ms == 0 {
            let reason = "a window of 0 keeps no receipt: give at least 1 ms".into();
            return Err(ClaimError::InvalidArgument { reason });
        }
        let put = ClaimOperation::PutNamespace { name: subject.namespace.clone(), window_ms };
        match self.operate_claim(put, &subject).await? {
            ClaimReply::Namespace(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Forgets a namespace with all its claims and receipts: all its keys are free.
    ///
    /// # Errors
    /// `NamespaceNotFound`.
    pub async fn delete_claim_namespace(&self, name: &str) -> Result<(), ClaimError> {
        let subject = Subject { namespace: namespace_name(name)?, key: "", hash: KeyHash([0; 16]), token: 0 };
        let delete = ClaimOperation::DeleteNamespace { name: subject.namespace.clone() };
        self.operate_claim(delete, &subject).await.map(drop)
    }

    /// All namespaces of claims by name, as of now (linearizable).
    ///
    /// # Errors
    /// `NoLeader` or `NotConfirmed` without a majority.
    pub async fn claim_namespaces(&self) -> Result<Vec<NamespaceInfo>, ClaimError> {
        self.catch_up().await?;
        Ok(self.inner.view.claim_namespaces().into_iter().map(|info| self.dated_namespace(info)).collect())
    }

    /// A namespace of claims, as of now (linearizable).
    ///
    /// # Errors
    /// `NamespaceNotFound`.
    pub async fn claim_namespace(&self, name: &str) -> Result<NamespaceInfo, ClaimError> {
        let name = namespace_name(name)?;
        let found = self.claim_namespaces().await?.into_iter().find(|info| info.name == name);
        found.ok_or_else(|| ClaimError::NamespaceNotFound { name: name.to_string() })
    }

    fn subject<'a>(&self, namespace: &str, key: &'a str, token: u64) -> Result<Subject<'a>, ClaimError> {
        let namespace = namespace_name(namespace)?;
        self.check_text("the key", key)?;
        Ok(Subject { namespace, key, hash: KeyHash::of(key), token })
    }

    /// What is to be completed, with this receipt.
    pub(super) fn completing<'a>(
        &self,
        namespace: &str,
        key: &'a str,
        token: u64,
        receipt: &[u8],
    ) -> Result<Subject<'a>, ClaimError> {
        let (value, limit) = (receipt.len() as u64, self.limits().receipt_bytes as u64);
        if value > limit {
            return Err(ClaimError::LimitExceeded { what: "the receipt (bytes)".into(), value, limit });
        }
        self.subject(namespace, key, token)
    }

    fn check_text<'a>(&self, what: &str, text: &'a str) -> Result<&'a str, ClaimError> {
        let (value, limit) = (text.len() as u64, self.limits().key_bytes as u64);
        if text.is_empty() {
            return Err(ClaimError::InvalidArgument { reason: format!("{what} of a claim is empty: give one") });
        }
        if value > limit {
            return Err(ClaimError::LimitExceeded { what: format!("{what} of the claim (bytes)"), value, limit });
        }
        Ok(text)
    }

    fn lease_ms(&self, lease: Duration) -> Result<u64, ClaimError> {
        let (min, max) = self.limits().claim_lease;
        if lease < min || lease > max {
            let (lease, min, max) = (lease.as_millis(), min.as_millis(), max.as_millis());
            let reason = format!("the lease is {lease} ms; it may be {min} to {max} ms: a longer one can be renewed");
            return Err(ClaimError::InvalidArgument { reason });
        }
        Ok(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
    }

    /// Through the log. Whatever is not known for certain is said to be so in the words of claims.
    async fn operate_claim(&self, operation: ClaimOperation, of: &Subject<'_>) -> Result<ClaimReply, ClaimError> {
        self.operate_claim_for(None, operation, of).await
    }

    async fn operate_claim_for(
        &self,
        token: Option<TokenId>,
        operation: ClaimOperation,
        of: &Subject<'_>,
    ) -> Result<ClaimReply, ClaimError> {
        match self.operate(OnBehalf::operation(token, Made::Claim(operation))).await {
            Ok(Ok(OperationReply::Claim(reply))) => Ok(self.dated(reply)),
            Ok(Ok(other)) => Err(Unserved::Internal { reason: format!("an unexpected reply: {other:?}") }.into()),
            Ok(Err(refusal)) => Err(self.claim_refused(refusal, of)),
            Err(Unserved::OutcomeUnknown { reason } | Unserved::StoreFailed { reason, proposed: true, .. }) => {
                Err(ClaimError::ClaimOutcomeUnknown { reason })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn claim_refused(&self, refusal: Refusal, of: &Subject<'_>) -> ClaimError {
        let (namespace, key, token) = (of.namespace.to_string(), of.key.to_owned(), of.token);
        match refusal {
            Refusal::NoSuchNamespace => ClaimError::NamespaceNotFound { name: namespace },
            Refusal::TooManyNamespaces { limit } => {
                let what = "the number of claim namespaces".into();
                ClaimError::LimitExceeded { what, value: limit + 1, limit }
            }
            Refusal::OverQuota { quantity, held, limit, role } => ClaimError::RoleQuotaExceeded {
                what: quantity.to_string(),
                value: held.saturating_add(1),
                limit,
                name: role.to_string(),
                retry_after_ms: STATE_RETRY_MS,
            },
            Refusal::TooManyClaims { limit } => ClaimError::TooManyClaims { namespace, limit },
            Refusal::StaleClaim { current } => {
                ClaimError::ClaimStale { namespace, key, token, current: current.map(|claim| self.dated_claim(claim)) }
            }
            Refusal::ClaimCompleted(claim) => {
                ClaimError::ClaimCompleted { namespace, key, token, completed_ms: self.dated_claim(claim).since_ms }
            }
            other => Unserved::Internal { reason: format!("an unexpected refusal: {other}") }.into(),
        }
    }

    /// With times of day instead of the log's times, as all that leaves the broker.
    fn dated(&self, reply: ClaimReply) -> ClaimReply {
        match reply {
            ClaimReply::Taken { claim, repeated } => ClaimReply::Taken { claim: self.dated_claim(claim), repeated },
            ClaimReply::InFlight(claim) => ClaimReply::InFlight(self.dated_claim(claim)),
            ClaimReply::Completed { namespace, claim, repeated } => {
                ClaimReply::Completed { namespace, claim: self.dated_claim(claim), repeated }
            }
            ClaimReply::Released { .. } => reply,
            ClaimReply::Renewed(claim) => ClaimReply::Renewed(self.dated_claim(claim)),
            ClaimReply::Namespace(info) => ClaimReply::Namespace(self.dated_namespace(info)),
        }
    }

    fn dated_claim(&self, claim: ClaimInfo) -> ClaimInfo {
        let [since_ms, expires_ms] = [claim.since_ms, claim.expires_ms].map(|time| self.inner.view.time_of_day(time));
        ClaimInfo { since_ms, expires_ms, ..claim }
    }

    fn dated_namespace(&self, info: NamespaceInfo) -> NamespaceInfo {
        NamespaceInfo { created_ms: self.inner.view.time_of_day(info.created_ms), ..info }
    }

    /// The receipt of a completed claim as this node stores it; none when it is gone, or that of another claim.
    async fn receipt(&self, namespace: NamespaceId, key: KeyHash, token: u64) -> Result<Option<Bytes>, ClaimError> {
        let Some(stored) =
            self.store().get(&receipt_key(namespace, key)).await.map_err(|error| self.store_error(&error))?
        else {
            return Ok(None);
        };
        let stored: StoredReceipt =
            codec::decode_record("receipt", &stored).map_err(|error| self.store_error(&error))?;
        Ok((stored.token == token).then_some(stored.receipt))
    }
}

fn namespace_name(name: &str) -> Result<NamespaceName, ClaimError> {
    name.parse().map_err(|_| ClaimError::InvalidArgument {
        reason: format!("`{name}` is no namespace name: write 1 to 200 of A-Z a-z 0-9 . _ - and not `.` or `..`"),
    })
}

fn unexpected(reply: &ClaimReply) -> ClaimError {
    Unserved::Internal { reason: format!("an unexpected reply: {reply:?}") }.into()
}

fn lost(claim: &ClaimInfo) -> ClaimError {
    Unserved::Internal { reason: format!("the receipt of token {} is not in the store", claim.token) }.into()
}
