//! Claims with receipts: who holds the right to the work that a key names, and what came of it.
//!
//! A claim is held for a lease or completed for its namespace's window, both in log time; afterwards it is free as if
//! it had never been. Memory holds what decides; receipts are only in the store, because a million of them would not
//! fit. Tokens grow over all namespaces, and from one epoch to the next: a state that was restored from a backup has
//! forgotten tokens that were given, and they must not be given again.

mod keeping;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Effects, Machine, keys::Key, owners::Owners};
use crate::model::{
    ClaimInfo, ClaimOperation, ClaimReply, ClaimTotals, DEFAULT_RECEIPT_WINDOW_MS, Digest, KeyHash, NamespaceId,
    NamespaceInfo, NamespaceName, OperationReply, Refusal, StoredReceipt,
};

/// Tokens of one epoch: more than a cluster gives, and 8,000 epochs of them are exact in a JSON number.
const EPOCH_TOKENS: u32 = 40;

/// The plain key of a completed claim's receipt.
pub fn receipt_key(namespace: NamespaceId, key: KeyHash) -> Bytes {
    Key::Receipt(namespace, key).encode()
}

/// What a completion would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// End the claim.
    Due,
    /// Nothing: the claim ended with this very receipt.
    Repeated,
}

/// All claims.
#[derive(Debug)]
pub(super) struct Namespaces {
    max_namespaces: u64,
    max_claims: u64,
    totals: ClaimTotals,
    /// As they are stored.
    written: ClaimTotals,
    by_id: BTreeMap<NamespaceId, Namespace>,
    names: BTreeMap<NamespaceName, NamespaceId>,
    /// When each claim's lease or window ends.
    expiries: BTreeSet<(u64, NamespaceId, KeyHash)>,
    /// Namespaces without a name, whose claims go bit by bit.
    deleting: BTreeSet<NamespaceId>,
    /// Receipts that were restored and wait for their claims.
    unclaimed: BTreeSet<(NamespaceId, KeyHash)>,
    /// Which claims count for which tokens.
    pub(super) owners: Owners<(NamespaceId, KeyHash)>,
}

#[derive(Debug)]
struct Namespace {
    record: NamespaceRecord,
    claims: BTreeMap<KeyHash, Claim>,
}

/// A namespace as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamespaceRecord {
    pub(super) name: NamespaceName,
    pub(super) window_ms: u64,
    pub(super) created_ms: u64,
    pub(super) deleting: bool,
}

/// A claim as it is stored and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) token: u64,
    pub(super) owner: Option<Arc<str>>,
    pub(super) since_ms: u64,
    pub(super) expires_ms: u64,
    /// Of a completed claim.
    pub(super) receipt: Option<Digest>,
}

impl Claim {
    fn info(&self) -> ClaimInfo {
        let Self { token, since_ms, expires_ms, .. } = *self;
        ClaimInfo { token, owner: self.owner.clone(), completed: self.receipt.is_some(), since_ms, expires_ms }
    }
}

impl Namespace {
    fn info(&self, id: NamespaceId) -> NamespaceInfo {
        let NamespaceRecord { name, window_ms, created_ms, .. } = &self.record;
        let (window_ms, created_ms) = (*window_ms, *created_ms);
        NamespaceInfo { id, name: name.clone(), window_ms, created_ms, live: self.claims.len() as u64 }
    }
}

impl Machine {
    /// A claim that is not free, and the namespace that it is in.
    ///
    /// # Errors
    /// [`Refusal::NoSuchNamespace`].
    pub fn claim(&self, namespace: &NamespaceName, key: KeyHash) -> Result<(NamespaceId, Option<ClaimInfo>), Refusal> {
        let (id, claim) = self.namespaces.find(namespace, key, self.record.time_ms)?;
        Ok((id, claim.map(Claim::info)))
    }

    /// A stored entry as far as [`Machine::restore`] has to know it: of a receipt only that it is there.
    pub fn without_receipt((key, value): (Bytes, Bytes)) -> (Bytes, Bytes) {
        let value = if matches!(Key::decode(&key), Some(Key::Receipt(..))) { Bytes::new() } else { value };
        (key, value)
    }

    /// The namespaces of claims, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = NamespaceInfo> {
        let Namespaces { names, by_id, .. } = &self.namespaces;
        names.values().filter_map(|id| by_id.get(id).map(|namespace| namespace.info(*id)))
    }

    /// What became of all claims since the state began.
    pub fn claim_totals(&self) -> ClaimTotals {
        self.namespaces.totals
    }

    /// What [`Machine::complete`] would do, without doing it.
    pub(super) fn check_complete(
        &self,
        namespace: &NamespaceName,
        key: KeyHash,
        token: u64,
        receipt: &[u8],
    ) -> Result<Completion, Refusal> {
        let (_, claim) = self.namespaces.held(namespace, key, token, self.record.time_ms)?;
        match claim.receipt {
            None => Ok(Completion::Due),
            Some(present) if present == Digest::of(receipt) => Ok(Completion::Repeated),
            Some(_) => Err(Refusal::ClaimCompleted(claim.info())),
        }
    }

    /// Ends a claim with a receipt.
    pub(super) fn complete(
        &mut self,
        namespace: &NamespaceName,
        key: KeyHash,
        token: u64,
        receipt: Bytes,
        effects: &mut Effects,
    ) -> Result<ClaimReply, Refusal> {
        let (completion, now) = (self.check_complete(namespace, key, token, &receipt)?, self.record.time_ms);
        let namespaces = &mut self.namespaces;
        let (id, mut claim) = namespaces.held(namespace, key, token, now).map(|(id, claim)| (id, claim.clone()))?;
        if completion == Completion::Due {
            let window_ms = namespaces.by_id.get(&id).map_or(0, |namespace| namespace.record.window_ms);
            claim.receipt = Some(Digest::of(&receipt));
            (claim.since_ms, claim.expires_ms) = (now, now.saturating_add(window_ms));
            namespaces.totals.completed += 1;
            namespaces.keep(id, key, claim.clone(), effects);
            effects.put(Key::Receipt(id, key), &StoredReceipt { token, receipt });
        }
        let repeated = completion == Completion::Repeated;
        Ok(ClaimReply::Completed { namespace: id, claim: claim.info(), repeated })
    }

    pub(super) fn operate_claim(
        &mut self,
        operation: ClaimOperation,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let (now, used) = (self.record.time_ms, (self.epoch - 1) << EPOCH_TOKENS);
        let namespaces = &mut self.namespaces;
        let reply = match operation {
            ClaimOperation::Take { namespace, key, owner, lease_ms } => {
                namespaces.totals.last_token = namespaces.totals.last_token.max(used);
                namespaces.take(namespace, key, owner, lease_ms, now, effects)
            }
            ClaimOperation::Complete { namespace, key, token, receipt } => {
                self.complete(&namespace, key, token, receipt, effects)
            }
            ClaimOperation::Release { namespace, key, token } => {
                namespaces.release(&namespace, key, token, now, effects)
            }
            ClaimOperation::Renew { namespace, key, token, lease_ms } => {
                namespaces.renew(&namespace, key, token, now.saturating_add(lease_ms), now, effects)
            }
            ClaimOperation::PutNamespace { name, window_ms } => namespaces.put(name, window_ms, now, effects),
            ClaimOperation::DeleteNamespace { name } => namespaces.delete(&name, effects),
        };
        reply.map(OperationReply::Claim)
    }
}

impl Namespaces {
    pub(super) fn id_of(&self, name: &NamespaceName) -> Option<NamespaceId> {
        self.names.get(name).copied()
    }

    /// Whether memory holds the claim of a key.
    pub(super) fn has(&self, id: NamespaceId, key: KeyHash) -> bool {
        self.by_id.get(&id).is_some_and(|namespace| namespace.claims.contains_key(&key))
    }

    /// The claim of a key, if it is not free.
    fn find(&self, name: &NamespaceName, key: KeyHash, now: u64) -> Result<(NamespaceId, Option<&Claim>), Refusal> {
        let id = *self.names.get(name).ok_or(Refusal::NoSuchNamespace)?;
        let claim = self.by_id.get(&id).and_then(|namespace| namespace.claims.get(&key));
        Ok((id, claim.filter(|claim| claim.expires_ms > now)))
    }

    /// The claim of a key, if the token is its own.
    fn held(&self, name: &NamespaceName, key: KeyHash, token: u64, now: u64) -> Result<(NamespaceId, &Claim), Refusal> {
        match self.find(name, key, now)? {
            (id, Some(claim)) if claim.token == token => Ok((id, claim)),
            (_, current) => Err(Refusal::StaleClaim { current: current.map(Claim::info) }),
        }
    }

    fn take(
        &mut self,
        name: NamespaceName,
        key: KeyHash,
        owner: Option<Arc<str>>,
        lease_ms: u64,
        now: u64,
        effects: &mut Effects,
    ) -> Result<ClaimReply, Refusal> {
        let expires_ms = now.saturating_add(lease_ms);
        let id = match self.names.get(&name) {
            Some(id) => *id,
            None => self.create(name.clone(), DEFAULT_RECEIPT_WINDOW_MS, now, effects)?,
        };
        if let (_, Some(present)) = self.find(&name, key, now)? {
            let info = present.info();
            if present.receipt.is_some() {
                return Ok(ClaimReply::Completed { namespace: id, claim: info, repeated: true });
            }
            // Who gives no name cannot be told from others who give none.
            if owner.is_none() || present.owner != owner {
                return Ok(ClaimReply::InFlight(info));
            }
            let claim = self.extend(id, key, present.clone(), expires_ms, effects);
            return Ok(ClaimReply::Taken { claim, repeated: true });
        }
        self.lapse(id, key, effects); // its time may have come without its turn
        let limit = self.max_claims;
        if self.by_id.get(&id).is_some_and(|namespace| namespace.claims.len() as u64 >= limit) {
            return Err(Refusal::TooManyClaims { limit });
        }
        self.totals.last_token += 1;
        self.totals.taken += 1;
        let claim = Claim { token: self.totals.last_token, owner, since_ms: now, expires_ms, receipt: None };
        let info = claim.info();
        self.keep(id, key, claim, effects);
        Ok(ClaimReply::Taken { claim: info, repeated: false })
    }

    fn release(
        &mut self,
        name: &NamespaceName,
        key: KeyHash,
        token: u64,
        now: u64,
        effects: &mut Effects,
    ) -> Result<ClaimReply, Refusal> {
        match self.held(name, key, token, now) {
            Ok((_, claim)) if claim.receipt.is_some() => Err(Refusal::ClaimCompleted(claim.info())),
            Ok((id, _)) => {
                self.totals.released += 1;
                self.forget(id, key, effects);
                Ok(ClaimReply::Released { repeated: false })
            }
            // What is free need not be given back: the answer to the first release may be lost.
            Err(Refusal::StaleClaim { current: None }) => Ok(ClaimReply::Released { repeated: true }),
            Err(refusal) => Err(refusal),
        }
    }

    fn renew(
        &mut self,
        name: &NamespaceName,
        key: KeyHash,
        token: u64,
        expires_ms: u64,
        now: u64,
        effects: &mut Effects,
    ) -> Result<ClaimReply, Refusal> {
        let (id, claim) = self.held(name, key, token, now)?;
        if claim.receipt.is_some() {
            return Err(Refusal::ClaimCompleted(claim.info()));
        }
        Ok(ClaimReply::Renewed(self.extend(id, key, claim.clone(), expires_ms, effects)))
    }

    /// Never shortens: a renewal that was late on its way must not take back what a later one gave.
    fn extend(
        &mut self,
        id: NamespaceId,
        key: KeyHash,
        mut claim: Claim,
        expires_ms: u64,
        effects: &mut Effects,
    ) -> ClaimInfo {
        let longer = expires_ms > claim.expires_ms;
        claim.expires_ms = claim.expires_ms.max(expires_ms);
        let info = claim.info();
        if longer {
            self.keep(id, key, claim, effects);
        }
        info
    }

    fn create(
        &mut self,
        name: NamespaceName,
        window_ms: u64,
        now: u64,
        effects: &mut Effects,
    ) -> Result<NamespaceId, Refusal> {
        if self.by_id.len() as u64 >= self.max_namespaces {
            return Err(Refusal::TooManyNamespaces { limit: self.max_namespaces });
        }
        self.totals.last_namespace += 1;
        let id = NamespaceId(self.totals.last_namespace);
        let record = NamespaceRecord { name: name.clone(), window_ms, created_ms: now, deleting: false };
        effects.put(Key::Namespace(id), &record);
        self.names.insert(name, id);
        self.by_id.insert(id, Namespace { record, claims: BTreeMap::new() });
        Ok(id)
    }

    fn put(
        &mut self,
        name: NamespaceName,
        window_ms: u64,
        now: u64,
        effects: &mut Effects,
    ) -> Result<ClaimReply, Refusal> {
        let id = match self.names.get(&name) {
            Some(id) => *id,
            None => self.create(name, window_ms, now, effects)?,
        };
        let namespace = self.by_id.get_mut(&id).ok_or(Refusal::NoSuchNamespace)?;
        if namespace.record.window_ms != window_ms {
            namespace.record.window_ms = window_ms;
            effects.put(Key::Namespace(id), &namespace.record);
        }
        Ok(ClaimReply::Namespace(namespace.info(id)))
    }

    fn delete(&mut self, name: &NamespaceName, effects: &mut Effects) -> Result<ClaimReply, Refusal> {
        let id = self.names.remove(name).ok_or(Refusal::NoSuchNamespace)?;
        let namespace = self.by_id.get_mut(&id).ok_or(Refusal::NoSuchNamespace)?;
        let info = namespace.info(id);
        namespace.record.deleting = true;
        effects.put(Key::Namespace(id), &namespace.record);
        self.deleting.insert(id);
        self.sweep(keeping::SWEEP, effects);
        Ok(ClaimReply::Namespace(info))
    }
}

#[cfg(test)]
mod tests;
