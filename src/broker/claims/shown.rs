//! Claims and their namespaces as the public API says them.

use bytes::Bytes;

use crate::{
    model::{ClaimInfo, NamespaceInfo},
    proto::v1,
};

impl ClaimInfo {
    /// As the public API says it to whom it belongs.
    pub fn to_lease(&self, repeated: bool) -> v1::ClaimLease {
        v1::ClaimLease { token: self.token, expires_ms: self.expires_ms, repeated }
    }

    /// As the public API says it to others.
    pub fn to_holder(&self) -> v1::ClaimHolder {
        let Self { token, since_ms, expires_ms, .. } = *self;
        v1::ClaimHolder { token, owner: self.owner_text(), since_ms, expires_ms }
    }

    /// As the public API says it when it is completed.
    pub fn to_receipt(&self, receipt: Bytes) -> v1::ClaimReceipt {
        let Self { token, since_ms, expires_ms, .. } = *self;
        v1::ClaimReceipt { token, owner: self.owner_text(), completed_ms: since_ms, expires_ms, receipt }
    }

    fn owner_text(&self) -> String {
        self.owner.as_deref().unwrap_or_default().to_owned()
    }
}

impl NamespaceInfo {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::ClaimNamespace {
        let Self { window_ms, created_ms, live, .. } = *self;
        v1::ClaimNamespace { name: self.name.to_string(), window_ms, created_ms, live }
    }
}
