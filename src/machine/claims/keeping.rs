//! Remembering claims, forgetting them when their time has come, and finding them again in the store.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claim, Namespace, NamespaceRecord, Namespaces};
use crate::{
    codec::decode_record,
    machine::{Effects, keys::Key, owners::Owners},
    model::{ClaimTotals, KeyHash, NamespaceId, StateLimits},
};

/// Claims that one command forgets at most: a million that end together must not hold up the log. What is left over is
/// free already, and goes with the next commands.
pub(super) const SWEEP: usize = 10_000;

impl Namespaces {
    pub(in crate::machine) fn new() -> Self {
        let StateLimits { claim_namespaces, live_claims, .. } = StateLimits::BEFORE_ANY;
        Self {
            max_namespaces: claim_namespaces,
            max_claims: live_claims,
            totals: ClaimTotals::default(),
            written: ClaimTotals::default(),
            by_id: BTreeMap::new(),
            names: BTreeMap::new(),
            expiries: BTreeSet::new(),
            deleting: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
            owners: Owners::default(),
        }
    }

    /// So many there may be from now on.
    pub(in crate::machine) fn limit(&mut self, namespaces: u64, claims: u64) {
        (self.max_namespaces, self.max_claims) = (namespaces, claims);
    }

    /// Remembers a claim in the place of the one that its key had.
    pub(super) fn keep(&mut self, id: NamespaceId, key: KeyHash, claim: Claim, effects: &mut Effects) {
        effects.put(Key::WorkClaim(id, key), &claim);
        self.insert(id, key, claim);
    }

    fn insert(&mut self, id: NamespaceId, key: KeyHash, claim: Claim) {
        let Some(namespace) = self.by_id.get_mut(&id) else { return };
        let expires_ms = claim.expires_ms;
        match namespace.claims.insert(key, claim) {
            Some(before) => {
                self.expiries.remove(&(before.expires_ms, id, key));
            }
            None => self.totals.live += 1,
        }
        self.expiries.insert((expires_ms, id, key));
    }

    pub(super) fn forget(&mut self, id: NamespaceId, key: KeyHash, effects: &mut Effects) -> Option<Claim> {
        let claim = self.by_id.get_mut(&id)?.claims.remove(&key)?;
        self.expiries.remove(&(claim.expires_ms, id, key));
        self.totals.live -= 1;
        effects.delete(Key::WorkClaim(id, key));
        self.owners.remove(&(id, key), || Key::ClaimOwner(id, key), effects);
        if claim.receipt.is_some() {
            effects.delete(Key::Receipt(id, key));
        }
        Some(claim)
    }

    /// Forgets a claim whose time has come, if there is one.
    pub(super) fn lapse(&mut self, id: NamespaceId, key: KeyHash, effects: &mut Effects) {
        let claim = self.forget(id, key, effects);
        if claim.is_some_and(|claim| claim.receipt.is_none()) {
            self.totals.expired += 1;
        }
    }

    pub(in crate::machine) fn expire(&mut self, now: u64, effects: &mut Effects) {
        let mut room = SWEEP;
        while let Some((expires_ms, id, key)) = self.expiries.first().copied()
            && expires_ms <= now
            && room > 0
        {
            self.lapse(id, key, effects);
            room -= 1;
        }
        self.sweep(room, effects);
    }

    /// Forgets at most `room` claims of namespaces that are being deleted.
    pub(super) fn sweep(&mut self, mut room: usize, effects: &mut Effects) {
        while let Some(id) = self.deleting.first().copied() {
            while let Some(key) = self.by_id.get(&id).and_then(|namespace| namespace.claims.keys().next().copied()) {
                if room == 0 {
                    return;
                }
                self.forget(id, key, effects);
                room -= 1;
            }
            self.deleting.remove(&id);
            self.by_id.remove(&id);
            effects.delete(Key::Namespace(id));
        }
    }

    /// When something ends, in log time.
    pub(in crate::machine) fn next_expiry_ms(&self) -> Option<u64> {
        if !self.deleting.is_empty() {
            return Some(0);
        }
        self.expiries.first().map(|(expires_ms, ..)| *expires_ms)
    }

    /// At the end of a command: many operations share it, and one write of the totals.
    pub(in crate::machine) fn seal(&mut self, effects: &mut Effects) {
        if self.totals != self.written {
            effects.put(Key::ClaimTotals, &self.totals);
            self.written = self.totals;
        }
    }

    /// Takes a stored key; in byte order a namespace comes before its receipts, and these before its claims.
    pub(in crate::machine) fn restore(&mut self, key: Key, value: &[u8]) -> Result<(), String> {
        let unread = |error: crate::codec::CodecError| error.to_string();
        match key {
            Key::ClaimTotals => self.written = decode_record("totals of claims", value).map_err(unread)?,
            Key::Namespace(id) => {
                let record: NamespaceRecord = decode_record("namespace of claims", value).map_err(unread)?;
                if record.deleting {
                    self.deleting.insert(id);
                } else if let Some(other) = self.names.insert(record.name.clone(), id) {
                    return Err(format!("the name `{}` belongs to namespace {} already", record.name, other.0));
                }
                self.by_id.insert(id, Namespace { record, claims: BTreeMap::new() });
            }
            // What it says is read when somebody asks for it.
            Key::Receipt(id, key) => {
                self.unclaimed.insert((id, key));
            }
            Key::WorkClaim(id, key) => {
                let claim: Claim = decode_record("claim", value).map_err(unread)?;
                if !self.by_id.contains_key(&id) {
                    return Err(format!("there is no namespace {}", id.0));
                }
                if claim.receipt.is_some() != self.unclaimed.remove(&(id, key)) {
                    let which = if claim.receipt.is_some() { "is missing" } else { "is one too many" };
                    return Err(format!("its receipt {which}"));
                }
                self.totals.last_token = self.totals.last_token.max(claim.token);
                self.insert(id, key, claim);
            }
            _ => return Err("it has nothing to do with claims".into()),
        }
        Ok(())
    }

    /// Whether everything that was restored fits.
    pub(in crate::machine) fn restored(&mut self) -> Result<(), String> {
        if let Some((id, key)) = self.unclaimed.pop_first() {
            let key = Key::Receipt(id, key).encode();
            return Err(format!("key `{}`: there is no such claim", key.escape_ascii()));
        }
        // The totals lie between the namespaces and the claims: what was found is compared only now.
        let (found, stored) = (self.totals, self.written);
        let newest = self.by_id.last_key_value().map_or(0, |(id, _)| id.0);
        let key = Key::ClaimTotals.encode();
        let key = key.escape_ascii();
        if stored.live != found.live {
            return Err(format!("key `{key}`: it counts {} claims, but there are {}", stored.live, found.live));
        }
        // A lost record would give tokens and ids a second time.
        if stored.last_token < found.last_token || stored.last_namespace < newest {
            let last = found.last_token;
            return Err(format!("key `{key}`: it does not know of token {last} or of namespace {newest}"));
        }
        self.totals = stored;
        Ok(())
    }
}
