//! What a caller may do with claims.

use std::time::Duration;

use bytes::Bytes;

use super::{Access, Object};
use crate::{
    broker::{BrokerError, Claim, Completed},
    model::{Action, ClaimInfo, NamespaceInfo, Quantity},
};

impl Access {
    fn may_claim(&self, action: Action, namespace: &str) -> Result<(), BrokerError> {
        self.caller.may(action, Object::Claims(namespace))
    }

    /// See `Broker::claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn claim(
        &self,
        namespace: &str,
        key: &str,
        lease: Duration,
        owner: Option<&str>,
    ) -> Result<Claim, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        let token = self.caller.owner(Quantity::Claims);
        let taken = self.broker.claim_for((namespace, key), lease, owner, token).await.map_err(BrokerError::from);
        self.caller.count_if_over(Quantity::Claims, taken)
    }

    /// See `Broker::complete_claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn complete_claim(
        &self,
        namespace: &str,
        key: &str,
        token: u64,
        receipt: Bytes,
    ) -> Result<Completed, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        Ok(self.broker.complete_claim(namespace, key, token, receipt).await?)
    }

    /// See `Broker::release_claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn release_claim(&self, namespace: &str, key: &str, token: u64) -> Result<bool, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        Ok(self.broker.release_claim(namespace, key, token).await?)
    }

    /// See `Broker::renew_claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn renew_claim(
        &self,
        namespace: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<ClaimInfo, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        Ok(self.broker.renew_claim(namespace, key, token, lease).await?)
    }

    /// See `Broker::show_claim`; needs `claim` or `read`.
    ///
    /// # Errors
    /// As there.
    pub async fn show_claim(&self, namespace: &str, key: &str) -> Result<Option<Claim>, BrokerError> {
        self.caller.may_one_of(&[Action::Claim, Action::Read], Object::Claims(namespace))?;
        Ok(self.broker.show_claim(namespace, key).await?)
    }

    /// See `Broker::put_claim_namespace`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn put_claim_namespace(&self, name: &str, window: Duration) -> Result<NamespaceInfo, BrokerError> {
        self.may_claim(Action::Manage, name)?;
        let act = self.begin("claims.put", Object::Claims(name).to_string());
        act.end(self.broker.put_claim_namespace(name, window).await.map_err(BrokerError::from))
    }

    /// See `Broker::delete_claim_namespace`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_claim_namespace(&self, name: &str) -> Result<(), BrokerError> {
        self.may_claim(Action::Manage, name)?;
        let act = self.begin("claims.delete", Object::Claims(name).to_string());
        act.end(self.broker.delete_claim_namespace(name).await.map_err(BrokerError::from))
    }

    /// See `Broker::claim_namespace`; needs any right to it.
    ///
    /// # Errors
    /// As there.
    pub async fn claim_namespace(&self, name: &str) -> Result<NamespaceInfo, BrokerError> {
        self.caller.may_one_of(&Action::ALL, Object::Claims(name))?;
        Ok(self.broker.claim_namespace(name).await?)
    }

    /// See `Broker::claim_namespaces`: those that the caller may see.
    ///
    /// # Errors
    /// As there.
    pub async fn claim_namespaces(&self) -> Result<Vec<NamespaceInfo>, BrokerError> {
        let all = self.broker.claim_namespaces().await?;
        Ok(all.into_iter().filter(|info| self.caller.sees(Object::Claims(info.name.as_str()))).collect())
    }
}
