//! Claims with receipts, for workers whose effects must happen once.

use std::{
    error::Error,
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    error::ClientError,
    message::malformed,
    pool::{Link, MAX_ANSWER, Pool, Prefer},
    retry::Repeat,
};
use crate::types::{ClaimHolder, ClaimLease, ClaimNamespace, ClaimReceipt, via::list::from as list_of};
use liminal_wire::v1::{
    CompleteClaimRequest, DeleteClaimNamespaceRequest, ListClaimNamespacesRequest, PutClaimNamespaceRequest,
    ReleaseClaimRequest, RenewClaimRequest, ShowClaimRequest, TakeClaimRequest, claims_client::ClaimsClient,
    show_claim_response::State, take_claim_response::Outcome,
};
use liminal_wire::{
    Code,
    time::{duration_to_ms as millis, from_ms},
};

/// Claims of one namespace. Cloning shares the client's connections.
///
/// The work that a key names is done by whoever takes its claim. A worker that crashes loses the claim when the lease
/// ends; a worker that comes later is given the receipt of the one that was done. [`Claims::once`] does all of it:
///
/// ```no_run
/// use std::time::Duration;
/// use liminal_client::{Client, Once};
///
/// # async fn charge(order: u64, fence: u64) -> Result<String, std::io::Error> { Ok(format!("{order} {fence}")) }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(["127.0.0.1:7101"]).await?;
/// let payments = client.claims("payments").named("worker-3");
///
/// let lease = Duration::from_secs(30);
/// match payments.once("order-7", lease, async |token| charge(7, token).await).await? {
///     Once::Ran(receipt) => println!("charged now: {receipt:?}"),
///     Once::DoneBefore(receipt) => println!("charged before: {receipt:?}"),
///     Once::InFlight(holder) => println!("{} is at it", holder.owner),
/// }
/// # Ok(())
/// # }
/// ```
///
/// Step by step, with the token as a fencing token for other systems:
///
/// ```no_run
/// use std::time::Duration;
/// use liminal_client::{Client, Taken};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let claims = Client::connect(["127.0.0.1:7101"]).await?.claims("reports");
/// if let Taken::Claimed(lease) = claims.take("2026-11", Duration::from_secs(60)).await? {
///     // UPDATE reports SET ..., fence = $token WHERE fence < $token
///     claims.renew("2026-11", lease.token, Duration::from_secs(60)).await?;
///     claims.complete("2026-11", lease.token, "rows: 812").await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Claims {
    pool: Arc<Pool>,
    namespace: String,
    name: Option<String>,
}

/// What became of a request for a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// It is the caller's.
    Claimed(ClaimLease),
    /// Somebody else holds it.
    InFlight(ClaimHolder),
    /// The work was done before.
    Completed(ClaimReceipt),
}

/// What became of work that is to be done once.
#[derive(Clone, Debug, PartialEq)]
pub enum Once {
    /// It was done now, with this receipt.
    Ran(Bytes),
    /// It had been done, with this receipt; the closure did not run.
    DoneBefore(Bytes),
    /// Somebody is doing it; the closure did not run.
    InFlight(ClaimHolder),
}

/// Why work that is to be done once failed.
#[derive(Debug)]
pub enum OnceError<E> {
    /// The work itself failed, and the claim was given back.
    Work(E),
    /// The claim could not be taken, kept or completed. With the code `CLAIM_STALE` the work was begun, and it ended or
    /// was dropped after the lease had ended.
    Claim(ClientError),
}

impl<E: fmt::Display> fmt::Display for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => error.fmt(f),
            Self::Claim(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for OnceError<E> {}

impl<E> From<ClientError> for OnceError<E> {
    fn from(error: ClientError) -> Self {
        Self::Claim(error)
    }
}

impl Claims {
    pub(super) fn new(pool: Arc<Pool>, namespace: String) -> Self {
        Self { pool, namespace, name: None }
    }

    /// Says who takes claims, for people who look at them. Each take adds something random of its own.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes a claim, if it is free, for `lease`. Tried again until the answer is known: a repeat gets the same token.
    ///
    /// # Errors
    /// When a name, a key or the lease cannot be used, there are too many claims, or no node answers in time.
    pub async fn take(&self, key: &str, lease: Duration) -> Result<Taken, ClientError> {
        let random = [0; 2].map(|_: u8| self.pool.options.environment.random());
        let random = format!("{:016x}{:016x}", random[0], random[1]);
        let owner = self.name.as_ref().map_or_else(|| random.clone(), |name| format!("{name}/{random}"));
        self.take_as(key, lease, &owner).await
    }

    /// The same with a whole owner of the caller's, who outlives the process: whoever uses it again gets the claim that
    /// it holds, so no two workers may share it.
    ///
    /// # Errors
    /// As [`Claims::take`].
    pub async fn take_as(&self, key: &str, lease: Duration, owner: &str) -> Result<Taken, ClientError> {
        let (namespace, key, owner) = (self.namespace.clone(), key.to_owned(), owner.to_owned());
        // Without an owner a repeat would find its own claim in flight.
        let repeat = if owner.is_empty() { Repeat::OnlyIfNothingHappened } else { Repeat::Safe };
        let request = TakeClaimRequest { namespace, key, lease_ms: millis(lease), owner };
        let take = |link| {
            let request = request.clone();
            async move { claims_client(link).take_claim(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, repeat, take).await?;
        match response.outcome.ok_or_else(|| malformed("outcome"))? {
            Outcome::Claimed(lease) => Ok(Taken::Claimed(lease.into())),
            Outcome::InFlight(holder) => Ok(Taken::InFlight(holder.into())),
            Outcome::Completed(receipt) => Ok(Taken::Completed(receipt.into())),
        }
    }

    /// Ends a claim with a receipt. True when it had been completed with this token and receipt before.
    ///
    /// # Errors
    /// `CLAIM_STALE` when the lease ended or the claim is somebody else's.
    pub async fn complete(&self, key: &str, token: u64, receipt: impl Into<Bytes>) -> Result<bool, ClientError> {
        let (namespace, key) = (self.namespace.clone(), key.to_owned());
        let request = CompleteClaimRequest { namespace, key, token, receipt: receipt.into() };
        let complete = |link| {
            let request = request.clone();
            async move { claims_client(link).complete_claim(request).await }
        };
        Ok(self.pool.call(Prefer::Leader, Repeat::Safe, complete).await?.0.repeated)
    }

    /// Gives a claim back. True when it was free already.
    ///
    /// # Errors
    /// `CLAIM_STALE` when the claim is somebody else's, `CLAIM_COMPLETED` when it is completed.
    pub async fn release(&self, key: &str, token: u64) -> Result<bool, ClientError> {
        let request = ReleaseClaimRequest { namespace: self.namespace.clone(), key: key.to_owned(), token };
        let release = |link| {
            let request = request.clone();
            async move { claims_client(link).release_claim(request).await }
        };
        Ok(self.pool.call(Prefer::Leader, Repeat::Safe, release).await?.0.repeated)
    }

    /// Makes a lease last until `lease` from now; gives its end.
    ///
    /// # Errors
    /// `CLAIM_STALE` when the lease ended or the claim is somebody else's.
    pub async fn renew(&self, key: &str, token: u64, lease: Duration) -> Result<SystemTime, ClientError> {
        let (namespace, key) = (self.namespace.clone(), key.to_owned());
        let request = RenewClaimRequest { namespace, key, token, lease_ms: millis(lease) };
        let renew = |link| {
            let request = request.clone();
            async move { claims_client(link).renew_claim(request).await }
        };
        Ok(from_ms(self.pool.call(Prefer::Leader, Repeat::Safe, renew).await?.0.expires_ms))
    }

    /// A claim as it is now; none when it is free.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND` before the namespace's first claim.
    pub async fn show(&self, key: &str) -> Result<Option<Taken>, ClientError> {
        let request = ShowClaimRequest { namespace: self.namespace.clone(), key: key.to_owned() };
        let show = |link| {
            let request = request.clone();
            async move { claims_client(link).show_claim(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, show).await?;
        Ok(response.state.map(|state| match state {
            State::InFlight(holder) => Taken::InFlight(holder.into()),
            State::Completed(receipt) => Taken::Completed(receipt.into()),
        }))
    }

    /// Makes the namespace, or changes how long it keeps the receipts that come from now on.
    ///
    /// # Errors
    /// When the name or the window cannot be used, or there are too many namespaces.
    pub async fn keep_receipts_for(&self, window: Duration) -> Result<ClaimNamespace, ClientError> {
        let request = PutClaimNamespaceRequest { name: self.namespace.clone(), window_ms: millis(window).max(1) };
        let put = |link| {
            let request = request.clone();
            async move { claims_client(link).put_claim_namespace(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::Safe, put).await?;
        response.namespace.map(ClaimNamespace::from).ok_or_else(|| malformed("namespace"))
    }

    /// Forgets the namespace with all its claims and receipts.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`.
    pub async fn delete_namespace(&self) -> Result<(), ClientError> {
        let delete = |link| {
            let request = DeleteClaimNamespaceRequest { name: self.namespace.clone() };
            async move { claims_client(link).delete_claim_namespace(request).await }
        };
        self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, delete).await?;
        Ok(())
    }

    /// Does the work of a key at most once in the whole cluster, as long as receipts are kept: takes the claim, runs
    /// `work` with its token, renews the lease while it runs, and completes the claim with what it gives. When it was
    /// done before, the receipt of then comes back; when it fails, the claim is given back.
    ///
    /// A worker that is cut off from the cluster for longer than its lease is dropped, because another one may begin.
    /// What it had begun elsewhere cannot be undone: let systems that it writes to refuse smaller tokens than they saw.
    ///
    /// # Errors
    /// [`OnceError::Work`] with the error of `work`; [`OnceError::Claim`] when the claim could not be had or kept.
    pub async fn once<F, W, R, E>(&self, key: &str, lease: Duration, work: F) -> Result<Once, OnceError<E>>
    where
        F: FnOnce(u64) -> W,
        W: Future<Output = Result<R, E>>,
        R: Into<Bytes>,
    {
        let mut held_until = Instant::now() + lease;
        let token = match self.take(key, lease).await? {
            Taken::Claimed(claimed) => claimed.token,
            Taken::InFlight(holder) => return Ok(Once::InFlight(holder)),
            Taken::Completed(done) => return Ok(Once::DoneBefore(done.receipt)),
        };
        if Instant::now() + lease / 2 > held_until {
            // The answer was long on its way: begin with a lease that is certain.
            held_until = Instant::now() + lease;
            self.renew(key, token, lease).await?;
        }
        let all = async {
            match work(token).await {
                Ok(receipt) => {
                    let receipt = receipt.into();
                    self.complete(key, token, receipt.clone()).await?;
                    Ok(Once::Ran(receipt))
                }
                Err(error) => {
                    // If it cannot be given back it is free when its lease ends.
                    let _ = self.release(key, token).await;
                    Err(OnceError::Work(error))
                }
            }
        };
        tokio::select! {
            biased;
            done = all => done,
            lost = self.keep(key, token, lease, held_until) => Err(lost.into()),
        }
    }

    /// Renews a lease again and again; ends only when it is certain or possible that it was lost. As seen from here it
    /// lasts from before a renewal was sent.
    async fn keep(&self, key: &str, token: u64, lease: Duration, mut until: Instant) -> ClientError {
        let mut next = Instant::now() + lease / 3;
        loop {
            sleep_until(next.min(until)).await;
            let begun = Instant::now();
            match timeout_at(until, self.renew(key, token, lease)).await {
                Ok(Ok(_)) => until = begun + lease,
                Ok(Err(error)) if *error.code() == Code::ClaimStale => return error,
                // The completion went through, and its answer is on its way.
                Ok(Err(error)) if *error.code() == Code::ClaimCompleted => std::future::pending().await,
                Ok(Err(_)) => {}
                Err(_) => return lost(key, token),
            }
            if Instant::now() >= until {
                return lost(key, token);
            }
            next = begun + lease / 3;
        }
    }
}

impl super::Client {
    /// All namespaces of claims, by name.
    ///
    /// # Errors
    /// When no node can answer.
    pub async fn claim_namespaces(&self) -> Result<Vec<ClaimNamespace>, ClientError> {
        let list = |link| async move { claims_client(link).list_claim_namespaces(ListClaimNamespacesRequest {}).await };
        Ok(list_of(self.pool.call(Prefer::Any, Repeat::Safe, list).await?.0.namespaces))
    }
}

fn claims_client(link: Link) -> ClaimsClient<Link> {
    ClaimsClient::new(link).max_decoding_message_size(MAX_ANSWER)
}

fn lost(key: &str, token: u64) -> ClientError {
    let message = format!("the lease of claim `{key}` under token {token} ended, and no node could renew it in time");
    ClientError::new(Code::ClaimStale, message)
        .with_help("another worker may have begun; take the claim again to see what became of it")
}
