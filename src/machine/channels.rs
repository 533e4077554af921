//! Creating, changing and deleting channels.

use std::sync::Arc;

use super::{
    Machine,
    channel::{Channel, ChannelFigures},
    dedup::ExpiryRoom,
    effects::{CatalogChange, Effects},
    keys::{Key, record},
};
use crate::model::{ChannelConfig, ChannelId, ChannelMeta, ChannelName, ChannelReply, ChannelUpdate, Refusal};

impl Machine {
    /// What each channel holds and has taken, by id. Looks at every channel.
    pub fn channel_figures(&self) -> impl Iterator<Item = ChannelFigures> {
        self.channels.values().map(Channel::figures)
    }

    pub(super) fn create(
        &mut self,
        name: ChannelName,
        config: ChannelConfig,
        effects: &mut Effects,
    ) -> Result<ChannelReply, Refusal> {
        // As in an update, the empty text is no schema.
        let config = ChannelConfig { schema: config.schema.filter(|schema| !schema.is_empty()), ..config };
        if let Some(present) = self.names.get(&name).and_then(|id| self.channels.get(id)) {
            let reply = reply(present);
            return if present.meta.config == config {
                Ok(reply)
            } else {
                Err(Refusal::ChannelExists(Box::new(reply)))
            };
        }
        let limit = self.state_limits.channels;
        if self.channels.len() as u64 >= limit {
            return Err(Refusal::TooManyChannels { limit });
        }
        self.record.last_channel_id += 1;
        let id = ChannelId(self.record.last_channel_id);
        let schema_id = self.schema_id(config.schema.as_deref());
        let meta = ChannelMeta { id, name: name.clone(), config, schema_id, created_ms: self.today_ms() };
        let channel = Channel::new(Arc::new(meta));
        effects.put(Key::Meta(id), &*channel.meta);
        effects.put(Key::Stats(id), &channel.stats);
        effects.catalog.push(CatalogChange::Put(channel.meta.clone()));
        let reply = reply(&channel);
        self.names.insert(name, id);
        self.channels.insert(id, channel);
        self.keep_schema(id, effects);
        Ok(reply)
    }

    pub(super) fn update(
        &mut self,
        name: &ChannelName,
        update: ChannelUpdate,
        effects: &mut Effects,
    ) -> Result<ChannelReply, Refusal> {
        let ChannelUpdate { schema, compared_with, dedup_window_ms, compatibility, retention, quarantine, quota } =
            update;
        let id = *self.names.get(name).ok_or(Refusal::NoSuchChannel)?;
        let before = self.channels.get(&id).ok_or(Refusal::NoSuchChannel)?.meta.clone();
        if compared_with.is_some_and(|schema| schema != before.schema_id) {
            return Err(Refusal::StaleSchema { current: before.schema_id });
        }
        let mut meta = ChannelMeta::clone(&before);
        if let Some(schema) = schema {
            let schema = (!schema.is_empty()).then_some(schema);
            if schema != meta.config.schema {
                meta.schema_id = self.schema_id(schema.as_deref());
                meta.config.schema = schema;
            }
        }
        let config = &mut meta.config;
        config.dedup_window_ms = dedup_window_ms.unwrap_or(config.dedup_window_ms);
        config.compatibility = compatibility.unwrap_or(config.compatibility);
        if let Some(retention) = retention {
            config.retention = retention;
        }
        config.quarantine = quarantine.unwrap_or_else(|| config.quarantine.take());
        config.quota = quota.unwrap_or(config.quota);
        let channel = self.channels.get_mut(&id).ok_or(Refusal::NoSuchChannel)?;
        if meta != *before {
            let another_schema = meta.schema_id != before.schema_id;
            let turned = (before.config.retention.work_queue, meta.config.retention.work_queue);
            let another_key = meta.config.retention.compact_by != before.config.retention.compact_by;
            let expiry_before = channel.next_expiry_ms();
            channel.meta = Arc::new(meta);
            let expiry = channel.next_expiry_ms();
            effects.put(Key::Meta(id), &*channel.meta);
            effects.catalog.push(CatalogChange::Put(channel.meta.clone()));
            self.reschedule(id, expiry_before, expiry);
            self.expire(effects);
            self.work_queue_turned(id, turned, effects);
            self.retention_changed(id, effects);
            if another_key {
                self.compact_anew(id, effects);
            }
            if another_schema {
                self.keep_schema(id, effects);
            }
        }
        self.channels.get(&id).map(reply).ok_or(Refusal::NoSuchChannel)
    }

    pub(super) fn delete(&mut self, name: &ChannelName, effects: &mut Effects) -> Result<ChannelReply, Refusal> {
        let id = self.names.remove(name).ok_or(Refusal::NoSuchChannel)?;
        let channel = self.channels.remove(&id).ok_or(Refusal::NoSuchChannel)?;
        self.reschedule(id, channel.next_expiry_ms(), None);
        self.keys -= channel.dedup.len();
        self.cold_keys -= channel.dedup.cold();
        self.delete_rules_of(id, effects);
        self.delete_consumers_of(id, effects);
        self.forget_settled(id, effects);
        self.delete_delayed(id, &channel.delays, effects);
        effects.delete(Key::Meta(id));
        self.channel_owners.remove(&id, || Key::ChannelOwner(id), effects);
        effects.delete(Key::Stats(id));
        channel.marks.seqs().for_each(|seq| effects.delete(Key::Mark(id, seq)));
        if channel.compaction.step > 0 {
            effects.delete(Key::Compaction(id));
        }
        if channel.orphans.is_some() {
            effects.delete(Key::Orphans(id));
        }
        if !channel.reclaimed.is_empty() {
            effects.delete(Key::Reclaimed(id));
        }
        if channel.redriven.is_some() {
            effects.delete(Key::Redriven(id));
        }
        if !channel.forks.is_empty() {
            effects.delete(Key::Forks(id));
        }
        channel.schemas.keys().for_each(|schema| effects.delete(Key::Schema(id, *schema)));
        channel.aging_ms.map(|expiry| self.agings.remove(&(expiry, id)));
        effects.writes.drops.push(channel.stream.clone());
        effects.catalog.push(CatalogChange::Remove(channel.meta.clone()));
        let reply = reply(&channel);
        self.departed.insert(id, channel.dedup.into_entries());
        self.expire_departed(&mut { ExpiryRoom::COMMAND }, effects);
        Ok(reply)
    }

    fn schema_id(&mut self, schema: Option<&str>) -> u64 {
        match schema {
            None => 0,
            Some(_) => {
                self.record.last_schema_id += 1;
                self.record.last_schema_id
            }
        }
    }

    pub(super) fn restore_channel(&mut self, id: ChannelId, value: &[u8]) -> Result<(), String> {
        let meta: ChannelMeta = record("channel", value)?;
        if meta.id != id {
            return Err(format!("the channel says that its id is {}", meta.id.0));
        }
        if let Some(other) = self.names.insert(meta.name.clone(), id) {
            return Err(format!("the name `{}` belongs to channel {} already", meta.name, other.0));
        }
        self.channels.insert(id, Channel::new(Arc::new(meta)));
        Ok(())
    }

    /// The channel to which a stored key belongs.
    pub(super) fn restored_channel(&mut self, id: ChannelId) -> Result<&mut Channel, String> {
        self.channels.get_mut(&id).ok_or_else(|| format!("there is no channel {}", id.0))
    }
}

fn reply(channel: &Channel) -> ChannelReply {
    ChannelReply { meta: ChannelMeta::clone(&channel.meta), stats: channel.stats }
}
