//! Claims as they are seen from outside.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::mirror;

mirror! {
    /// A claim that is the caller's.
    ClaimLease = ClaimLease {
        /// Grows with every claim taken in the cluster, so that other systems can use it to fence off workers whose lease has
        /// ended.
        token: u64 = token as same,
        /// When the lease ends.
        expires: SystemTime = expires_ms as time,
        /// The caller held it already.
        repeated: bool = repeated as same,
    }

    /// A claim that somebody holds.
    ClaimHolder = ClaimHolder {
        /// Its token.
        token: u64 = token as same,
        /// Empty when the holder gave no name.
        owner: String = owner as same,
        /// When it was taken.
        since: SystemTime = since_ms as time,
        /// When the lease ends.
        expires: SystemTime = expires_ms as time,
    }

    /// A claim that was completed.
    ClaimReceipt = ClaimReceipt {
        /// Its token.
        token: u64 = token as same,
        /// Empty when the holder gave no name.
        owner: String = owner as same,
        /// When it was completed.
        completed: SystemTime = completed_ms as time,
        /// When the receipt is forgotten and the claim is free again.
        expires: SystemTime = expires_ms as time,
        /// What the holder left.
        receipt: Bytes = receipt as same,
    }

    /// A namespace of claims.
    ClaimNamespace = ClaimNamespace {
        /// Its name.
        name: String = name as same,
        /// How long receipts are kept.
        window: Duration = window_ms as duration,
        /// When it came into being.
        created: SystemTime = created_ms as time,
        /// Claims that are held or completed.
        live: u64 = live as same,
    }
}
