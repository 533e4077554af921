//! The schemas that a channel has had. Their texts are only in the store, where the broker reads them; the machine
//! remembers which ones there are.

use bytes::Bytes;

use super::{
    Effects, Machine,
    keys::{Key, record},
};
use crate::model::{ChannelId, SchemaVersion};

/// Schemas of one channel that are kept; the oldest go first.
const KEPT: usize = 100;

/// The key of a schema.
pub fn schema_key(channel: ChannelId, id: u64) -> Bytes {
    Key::Schema(channel, id).encode()
}

/// How the keys of a channel's schemas begin, for reading them from the store in the order of their versions.
pub fn schemas_prefix(channel: ChannelId) -> Bytes {
    let key = Key::Schema(channel, 0).encode();
    key.slice(..key.len() - size_of::<u64>())
}

impl Machine {
    /// Keeps the channel's present schema as its newest version.
    pub(super) fn keep_schema(&mut self, id: ChannelId, effects: &mut Effects) {
        let time_ms = self.today_ms();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let (schema_id, Some(text)) = (channel.meta.schema_id, channel.meta.config.schema.clone()) else { return };
        let version = channel.schemas.last_key_value().map_or(1, |(_, version)| version + 1);
        channel.schemas.insert(schema_id, version);
        effects.put(Key::Schema(id, schema_id), &SchemaVersion { id: schema_id, version, time_ms, text });
        if channel.schemas.len() > KEPT
            && let Some((oldest, _)) = channel.schemas.pop_first()
        {
            effects.delete(Key::Schema(id, oldest));
        }
    }

    pub(super) fn restore_schema(&mut self, id: ChannelId, schema_id: u64, value: &[u8]) -> Result<(), String> {
        let stored: SchemaVersion = record("schema", value)?;
        if stored.id != schema_id {
            return Err(format!("the schema says that its id is {}", stored.id));
        }
        let channel = self.channels.get_mut(&id).ok_or_else(|| format!("there is no channel {}", id.0))?;
        if let Some((last, version)) = channel.schemas.last_key_value()
            && *version >= stored.version
        {
            return Err(format!("it is version {}, but {last} before it is version {version}", stored.version));
        }
        channel.schemas.insert(schema_id, stored.version);
        Ok(())
    }
}
