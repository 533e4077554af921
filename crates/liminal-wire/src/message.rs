//! How a message is put together.

use std::time::Duration;

use bytes::Bytes;

use crate::v1::{Header, Message};

impl Message {
    /// A message without a key.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// With an idempotency key: however often it is sent, it is stored once, and later ones are duplicates whatever their
    /// headers, time to live and delay are. An empty key is refused by the server: leave it out for a message without.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Handed to nobody once this time has passed since it was sequenced.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        self
    }

    /// Visible from this time on, milliseconds since the Unix epoch.
    #[must_use]
    pub fn with_deliver_at(mut self, time_ms: u64) -> Self {
        self.deliver_at_ms = time_ms;
        self
    }
}
