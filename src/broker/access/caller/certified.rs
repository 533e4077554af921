//! Whoever is known by a certificate.

use std::sync::Arc;

use super::{Caller, Who};
use crate::{
    broker::{BrokerError, access::Gate},
    budget::Account,
    model::{CertificateName, TokenHash},
};

impl Caller {
    /// Whoever shows a certificate and no token: of the names in it, the first one counts that belongs to a token. Nobody
    /// where none does.
    pub(in crate::broker::access) fn by_certificate(gate: Arc<Gate>, through: &Account) -> Self {
        let nobody = Self::nobody(gate, through.origin().clone());
        let Some(identity) = through.identity() else { return nobody };
        let policy = nobody.gate.policy();
        let bound = identity.names.iter().find_map(|name| {
            let name: CertificateName = name.parse().ok()?;
            Some((*policy.state.certificates.get(&name)?, TokenHash::of_certificate(&name)))
        });
        let Some((id, hash)) = bound else { return Self { unknown: Some(identity.clone()), ..nobody } };
        let who = Who::Certificate { id, hash, until_ms: identity.until_ms };
        if let Some(principal) = policy.principal(id, &hash) {
            principal.use_at(nobody.gate.broker.now_ms());
        }
        Self { who, ..nobody }
    }
}

/// Of a certificate that names nobody whom the cluster knows.
pub(super) fn of_nobody(names: &[String]) -> BrokerError {
    let names = if names.is_empty() { "it has none".to_owned() } else { names.join(", ") };
    let reason = format!(
        "the request has no token, and no name of its certificate belongs to one ({names}): show a token, or have an \
         administrator run `liminal token create --certificate NAME`"
    );
    BrokerError::Unauthenticated { reason }
}
