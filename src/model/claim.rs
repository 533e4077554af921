//! Claims: the right to do the work that a key names, held for a lease and ended by a receipt. What the log says of
//! them, and what the machine answers.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ChannelName, KeyHash};

/// Claims in different namespaces have nothing to do with each other. Named as channels are.
pub type NamespaceName = ChannelName;

/// Never reused: a namespace that is deleted and comes into being again has another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId(pub u64);

/// How long receipts are kept unless somebody chose otherwise: 24 hours.
pub const DEFAULT_RECEIPT_WINDOW_MS: u64 = 24 * 60 * 60 * 1000;

/// What is asked of claims. Variants are append-only: their order is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimOperation {
    /// Takes a claim that is free; its namespace comes into being with it.
    Take {
        /// Where.
        namespace: NamespaceName,
        /// For which work.
        key: KeyHash,
        /// Who asks: the same owner again gets the claim that it holds.
        owner: Option<Arc<str>>,
        /// For how long, milliseconds of log time.
        lease_ms: u64,
    },
    /// Ends a claim with a receipt, which stands for the namespace's window.
    Complete {
        /// Where.
        namespace: NamespaceName,
        /// Which work.
        key: KeyHash,
        /// By which right.
        token: u64,
        /// What is to be told to whoever takes it later.
        receipt: Bytes,
    },
    /// Gives a claim back, so that anybody may take it.
    Release {
        /// Where.
        namespace: NamespaceName,
        /// Which work.
        key: KeyHash,
        /// By which right.
        token: u64,
    },
    /// Makes a lease last longer; never shorter.
    Renew {
        /// Where.
        namespace: NamespaceName,
        /// Which work.
        key: KeyHash,
        /// By which right.
        token: u64,
        /// From now on, milliseconds of log time.
        lease_ms: u64,
    },
    /// Makes a namespace, or changes how long it keeps the receipts that it gets from now on.
    PutNamespace {
        /// Its name.
        name: NamespaceName,
        /// Milliseconds of log time.
        window_ms: u64,
    },
    /// Forgets a namespace with all its claims and receipts.
    DeleteNamespace {
        /// Its name.
        name: NamespaceName,
    },
}

/// A claim that is not free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimInfo {
    /// Names this holding of the claim and no other. Later ones have greater tokens, in all namespaces together.
    pub token: u64,
    /// Who took it, if they said so.
    pub owner: Option<Arc<str>>,
    /// Whether it ended with a receipt.
    pub completed: bool,
    /// When it was taken, or completed: milliseconds of log time.
    pub since_ms: u64,
    /// When the lease, or the receipt's window, ends: milliseconds of log time.
    pub expires_ms: u64,
}

/// A namespace at some applied index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceInfo {
    /// Its identity.
    pub id: NamespaceId,
    /// Its name.
    pub name: NamespaceName,
    /// How long receipts are kept, milliseconds of log time.
    pub window_ms: u64,
    /// When it came into being, milliseconds of log time.
    pub created_ms: u64,
    /// Claims that are held or completed.
    pub live: u64,
}

/// The machine's answer to an operation on claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimReply {
    /// To a take: it is the asker's.
    Taken {
        /// The claim.
        claim: ClaimInfo,
        /// The asker held it already.
        repeated: bool,
    },
    /// To a take: somebody else holds it.
    InFlight(ClaimInfo),
    /// To a take of what is completed, and to a completion. The receipt is in the store.
    Completed {
        /// The claim's namespace, under whose id the receipt is.
        namespace: NamespaceId,
        /// The claim.
        claim: ClaimInfo,
        /// It had been completed before.
        repeated: bool,
    },
    /// To a release.
    Released {
        /// It was free already.
        repeated: bool,
    },
    /// To a renewal.
    Renewed(ClaimInfo),
    /// To a namespace's operation: the namespace (for a delete: as it was).
    Namespace(NamespaceInfo),
}

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReceipt {
    /// Of the claim that it ended.
    pub token: u64,
    /// What the worker left.
    pub receipt: Bytes,
}

/// What became of all claims since the state began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTotals {
    /// The greatest token that was ever given.
    pub last_token: u64,
    /// The greatest id that a namespace ever had.
    pub last_namespace: u64,
    /// Claims that are held or completed now.
    pub live: u64,
    /// Claims that were taken.
    pub taken: u64,
    /// Claims that were completed.
    pub completed: u64,
    /// Claims that were given back.
    pub released: u64,
    /// Leases that ended by themselves.
    pub expired: u64,
}
