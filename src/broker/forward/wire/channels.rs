//! Channels, and what is changed of them, as brokers say it.

use super::{Kinds, Misread, Wire, as_texts, choices, kinds, only_kinds, peer, records, required};
use crate::{
    broker::channel_command::ChannelCommand,
    model::{
        ChannelConfig, ChannelMeta, ChannelName, ChannelReply, ChannelStats, ChannelUpdate, Comparison, Compatibility,
        Durability, Quota, Retention, WhenFull,
    },
};

as_texts!(ChannelName);

choices! {
    Durability { Durable, Ephemeral }
    Comparison { Bytes, CanonicalJson }
    Compatibility { Backward, Forward, Full, None }
    WhenFull { DropOldest, RefuseNew }
}

records! {
    ChannelConfig = ChannelConfig {
        durability, comparison, schema, dedup_window_ms, compatibility, quarantine; retention, quota
    }
    Retention = Retention { max_messages, max_bytes, max_age_ms, when_full, work_queue, compact_by }
    Quota = Quota { messages_per_second, bytes_per_second }
    ChannelMeta = ChannelMeta { id, name, schema_id, created_ms; config }
    ChannelStats = ChannelStats { first_seq, next_seq, live_keys, bytes, appended_bytes, newest_ms }
    ChannelReply = ChannelReply { ; meta, stats }
}

kinds! { ChannelCommand in channel_command {
    with [
        Create = CreateChannel { name; config },
        Update = UpdateChannel { name; update },
        Delete = DeleteChannel { name },
        CreateFor = CreateChannelFor { name, token; config },
    ]
} }
only_kinds!(ChannelCommand);

impl Wire for ChannelUpdate {
    type Message = peer::ChannelUpdate;

    fn to_wire(&self) -> peer::ChannelUpdate {
        let Self { schema, compared_with, dedup_window_ms, compatibility, retention, quarantine, quota } = self;
        peer::ChannelUpdate {
            schema: schema.to_wire(),
            compared_with: compared_with.to_wire(),
            dedup_window_ms: dedup_window_ms.to_wire(),
            compatibility: compatibility.to_wire(),
            retention: retention.to_wire(),
            // No channel has the empty name.
            quarantine: quarantine.as_ref().map(|channel| channel.to_wire().unwrap_or_default()),
            quota: quota.to_wire(),
        }
    }

    fn from_wire(message: peer::ChannelUpdate) -> Result<Self, Misread> {
        let peer::ChannelUpdate { schema, compared_with, dedup_window_ms, compatibility, retention, quarantine, quota } =
            message;
        Ok(Self {
            schema,
            compared_with,
            dedup_window_ms,
            compatibility: Wire::from_wire(compatibility)?,
            retention: Wire::from_wire(retention)?,
            quarantine: quarantine
                .map(|name| Wire::from_wire(Some(name).filter(|name| !name.is_empty())))
                .transpose()?,
            quota: Wire::from_wire(quota)?,
        })
    }
}
