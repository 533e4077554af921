//! What channels, consumers and claims count for which token. Only what is made by a token with a quota of such things is
//! counted, and until it is gone, whatever becomes of the token: nothing has to be looked through when roles change.

use std::collections::BTreeMap;

use super::{
    Effects, Machine,
    keys::{Key, record},
};
use crate::model::{
    ChannelConfig, ChannelId, ChannelName, ChannelReply, ClaimOperation, ClaimReply, ConsumerId, ConsumerOperation,
    KeyHash, Made, NamespaceId, OperationReply, Quantity, Refusal, RoleName, TokenId,
};

/// Things of one kind that count for tokens.
#[derive(Debug)]
pub(super) struct Owners<T> {
    tokens: BTreeMap<T, TokenId>,
    counts: BTreeMap<TokenId, u64>,
}

impl<T> Default for Owners<T> {
    fn default() -> Self {
        Self { tokens: BTreeMap::new(), counts: BTreeMap::new() }
    }
}

impl<T: Ord> Owners<T> {
    fn count(&self, token: TokenId) -> u64 {
        self.counts.get(&token).copied().unwrap_or(0)
    }

    fn insert(&mut self, thing: T, token: TokenId) {
        if self.tokens.insert(thing, token).is_none() {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    fn add(&mut self, thing: T, token: TokenId, key: Key, effects: &mut Effects) {
        effects.put(key, &token);
        self.insert(thing, token);
    }

    /// The thing is gone. Most have no owner, and cost nothing here.
    pub(super) fn remove(&mut self, thing: &T, key: impl FnOnce() -> Key, effects: &mut Effects) {
        let Some(token) = self.tokens.remove(thing) else { return };
        effects.delete(key());
        if let Some(count) = self.counts.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&token);
            }
        }
    }
}

/// For whom something is made, and how much of it there may be then.
struct Owner {
    token: TokenId,
    quantity: Quantity,
    limit: u64,
    role: RoleName,
}

impl Owner {
    fn check(&self, held: u64) -> Result<(), Refusal> {
        if held < self.limit {
            return Ok(());
        }
        let Self { quantity, limit, role, .. } = self;
        Err(Refusal::OverQuota { quantity: *quantity, held, limit: *limit, role: role.clone() })
    }
}

impl Machine {
    /// None where no role of the token says anything by now: then it is made as if nobody had asked.
    fn owner(&self, token: TokenId, quantity: Quantity) -> Option<Owner> {
        let known = self.security.tokens.get(&token)?;
        let allowance = self.security.allowance(known, quantity)?;
        Some(Owner { token, quantity, limit: allowance.limit, role: allowance.role })
    }

    pub(super) fn create_for(
        &mut self,
        token: TokenId,
        name: ChannelName,
        config: ChannelConfig,
        effects: &mut Effects,
    ) -> Result<ChannelReply, Refusal> {
        let is_new = !self.names.contains_key(&name);
        let owner = self.owner(token, Quantity::Channels).filter(|_| is_new);
        if let Some(owner) = &owner {
            owner.check(self.channel_owners.count(token))?;
        }
        let reply = self.create(name, config, effects)?;
        if let Some(owner) = owner {
            self.channel_owners.add(reply.meta.id, owner.token, Key::ChannelOwner(reply.meta.id), effects);
        }
        Ok(reply)
    }

    /// An operation by a token that has a quota of what it makes.
    pub(super) fn operate_for(
        &mut self,
        token: TokenId,
        made: Made,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        match made {
            Made::Consumer(operation) => self.operate_consumer_for(token, operation, effects),
            Made::Claim(operation) => self.operate_claim_for(token, operation, effects),
        }
    }

    fn operate_consumer_for(
        &mut self,
        token: TokenId,
        operation: ConsumerOperation,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let owner = self.owner(token, Quantity::Consumers);
        if let Some(owner) = owner.as_ref().filter(|_| self.makes_a_consumer(&operation)) {
            owner.check(self.consumers.owners.count(token))?;
        }
        let last = self.consumers.last_id;
        let reply = self.operate_consumer(operation, effects)?;
        if let Some(owner) = owner.filter(|_| self.consumers.last_id > last) {
            let id = ConsumerId(self.consumers.last_id);
            self.consumers.owners.add(id, owner.token, Key::ConsumerOwner(id), effects);
        }
        Ok(reply)
    }

    /// Whether it would make one that is not there.
    fn makes_a_consumer(&self, operation: &ConsumerOperation) -> bool {
        match operation {
            ConsumerOperation::Keeping(inner) | ConsumerOperation::Judged { operation: inner, .. } => {
                self.makes_a_consumer(inner)
            }
            ConsumerOperation::Create { channel, name, .. } => {
                let channel = self.names.get(channel);
                channel.is_some_and(|channel| self.consumers.named(*channel, name.as_str()).is_none())
            }
            _ => false,
        }
    }

    fn operate_claim_for(
        &mut self,
        token: TokenId,
        operation: ClaimOperation,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let ClaimOperation::Take { namespace, key, .. } = &operation else {
            return self.operate_claim(operation, effects);
        };
        let (namespace, key) = (namespace.clone(), *key);
        let owner = self.owner(token, Quantity::Claims);
        // Where there is no namespace yet, it comes into being with the claim.
        let is_free = self.claim(&namespace, key).map_or(true, |(_, claim)| claim.is_none());
        if let Some(owner) = owner.as_ref().filter(|_| is_free) {
            owner.check(self.namespaces.owners.count(token))?;
        }
        let reply = self.operate_claim(operation, effects)?;
        let is_taken = matches!(&reply, OperationReply::Claim(ClaimReply::Taken { repeated: false, .. }));
        if let Some(owner) = owner.filter(|_| is_taken)
            && let Some(id) = self.namespaces.id_of(&namespace)
        {
            self.namespaces.owners.add((id, key), owner.token, Key::ClaimOwner(id, key), effects);
        }
        Ok(reply)
    }

    pub(super) fn restore_owner(&mut self, key: Key, value: &[u8]) -> Result<(), String> {
        let token: TokenId = record("owner", value)?;
        match key {
            Key::ChannelOwner(id) => self.channel_owners.insert(id, token),
            Key::ConsumerOwner(id) => self.consumers.owners.insert(id, token),
            Key::ClaimOwner(id, key) => self.namespaces.owners.insert((id, key), token),
            _ => return Err("it has nothing to do with owners".into()),
        }
        Ok(())
    }

    /// Nothing counts for a token that is not there.
    pub(super) fn check_owners(&self) -> Result<(), String> {
        let gone = |key: Key| Err(format!("key `{}`: there is no such thing", key.encode().escape_ascii()));
        let channel = |id: &&ChannelId| !self.channels.contains_key(id);
        if let Some(id) = self.channel_owners.tokens.keys().find(channel) {
            return gone(Key::ChannelOwner(*id));
        }
        let consumer = |id: &&ConsumerId| self.consumers.get(**id).is_none();
        if let Some(id) = self.consumers.owners.tokens.keys().find(consumer) {
            return gone(Key::ConsumerOwner(*id));
        }
        let claim = |(id, key): &&(NamespaceId, KeyHash)| !self.namespaces.has(*id, *key);
        if let Some((id, key)) = self.namespaces.owners.tokens.keys().find(claim) {
            return gone(Key::ClaimOwner(*id, *key));
        }
        Ok(())
    }
}
