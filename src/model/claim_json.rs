//! Claims as JSON says them: the same on the command line and over HTTP.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Form, json::carried, times::timestamp};
use crate::proto::v1::{ClaimHolder, ClaimLease, ClaimNamespace, ClaimReceipt};

/// A claim. What is not known, or makes no sense in its state, is left out.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct ClaimJson<'a> {
    pub namespace: &'a str,
    pub key: &'a str,
    /// `claimed` (by the asker), `in_flight`, `completed` or `free`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub owner: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The request had been done before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_base64: Option<String>,
}

impl<'a> ClaimJson<'a> {
    /// Of a claim that nobody holds.
    pub fn free(namespace: &'a str, key: &'a str) -> Self {
        Self { namespace, key, state: "free", ..Self::default() }
    }

    /// Of a claim that the asker holds.
    pub fn claimed(namespace: &'a str, key: &'a str, lease: &ClaimLease) -> Self {
        Self {
            state: "claimed",
            token: Some(lease.token),
            expires: Some(timestamp(lease.expires_ms)),
            repeated: Some(lease.repeated),
            ..Self::free(namespace, key)
        }
    }

    /// Of a claim that somebody holds.
    pub fn in_flight(namespace: &'a str, key: &'a str, holder: &'a ClaimHolder) -> Self {
        Self {
            state: "in_flight",
            token: Some(holder.token),
            owner: &holder.owner,
            since: Some(timestamp(holder.since_ms)),
            expires: Some(timestamp(holder.expires_ms)),
            ..Self::free(namespace, key)
        }
    }

    /// Of a completed claim. The receipt is JSON where it is JSON, and base64 where it is not.
    pub fn completed(namespace: &'a str, key: &'a str, done: &'a ClaimReceipt, form: Form) -> Self {
        let (receipt, receipt_base64) = carried(&done.receipt, form);
        Self {
            state: "completed",
            token: Some(done.token),
            owner: &done.owner,
            completed: Some(timestamp(done.completed_ms)),
            expires: Some(timestamp(done.expires_ms)),
            receipt,
            receipt_base64,
            ..Self::free(namespace, key)
        }
    }
}

/// A namespace of claims.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct NamespaceJson<'a> {
    pub namespace: &'a str,
    pub window_ms: u64,
    pub created: String,
    pub live: u64,
}

impl<'a> NamespaceJson<'a> {
    /// Of a namespace as the API gives it.
    pub fn of(namespace: &'a ClaimNamespace) -> Self {
        let ClaimNamespace { name, window_ms, created_ms, live } = namespace;
        Self { namespace: name, window_ms: *window_ms, created: timestamp(*created_ms), live: *live }
    }
}
