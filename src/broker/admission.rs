//! Back-pressure: what a client connection may have in flight and publish in a time, and what all together may publish
//! to a channel, which the leader counts. A publish beyond that is deferred: nothing has happened, and it is told
//! when to come again.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Broker, BrokerError, Unserved, quotas::Held, stats::RETRY_AFTER_MS};
use crate::{
    budget::{Account, Full},
    model::{ChannelId, Frame, Quota},
    quota::Exceeded,
};

/// Meters of channels that are gone go when there are so many more meters than channels.
const SPARE: usize = 64;

impl Broker {
    /// Bytes of publishes that one connection may have unanswered: never so many that others find no room.
    pub fn connection_room(&self) -> usize {
        self.limits().connection_room()
    }

    /// Lets a connection publish, within what one may have in flight and publish in a time. One publish alone is
    /// never too large.
    ///
    /// # Errors
    /// `QuotaExceeded`: nothing happened, and it says when to try again.
    pub fn admit_from(&self, connection: &Account, frame: &Frame) -> Result<Held, BrokerError> {
        self.admit_together(connection, frame.count(), frame.len())
    }

    /// The same for messages of any channels.
    ///
    /// # Errors
    /// As [`Broker::admit_from`].
    pub fn admit_together(&self, connection: &Account, messages: u32, bytes: usize) -> Result<Held, BrokerError> {
        let in_flight = connection.in_flight.take(bytes).map_err(|Full { limit, .. }| {
            let what = "bytes in flight on this connection".to_owned();
            BrokerError::QuotaExceeded { what, limit: limit as u64, retry_after_ms: RETRY_AFTER_MS }
        });
        let admitted = in_flight.and_then(|in_flight| {
            self.meter_connection(connection, messages, bytes)?;
            Ok(Held::new(in_flight))
        });
        admitted.inspect_err(|error| self.count_refused(error, messages))
    }

    /// The same for a stream, which is not read while too much is in flight on its connection.
    ///
    /// # Errors
    /// As [`Broker::admit_from`].
    pub fn admit_stream(&self, connection: &Account, frame: &Frame) -> Result<Held, BrokerError> {
        let (messages, bytes) = (frame.count(), frame.len());
        let metered = self.meter_connection(connection, messages, bytes);
        metered.inspect_err(|error| self.count_refused(error, messages))?;
        Ok(Held::new(connection.in_flight.hold(bytes)))
    }

    fn meter_connection(&self, connection: &Account, messages: u32, bytes: usize) -> Result<(), BrokerError> {
        let quota = Quota {
            messages_per_second: self.limits().publisher_messages_per_second,
            bytes_per_second: self.limits().publisher_bytes_per_second,
        };
        if quota == Quota::default() {
            return Ok(());
        }
        let taken = connection.meter(quota, u64::from(messages), bytes as u64, Instant::now());
        Ok(taken.map_err(|exceeded| error(exceeded, "from one connection"))?)
    }

    /// On the leader: counts publishes against their channels' quotas, all of them or none.
    pub(super) fn charge(&self, publishes: &[(ChannelId, u64, usize)]) -> Result<(), Unserved> {
        let view = &self.inner.view;
        let mut limited = BTreeMap::new();
        for (channel, messages, bytes) in publishes {
            let meta = view.meta(*channel).filter(|meta| meta.config.quota != Quota::default());
            let Some(meta) = meta else { continue };
            let (_, all_messages, all_bytes) = limited.entry(*channel).or_insert((meta, 0, 0));
            *all_messages += messages;
            *all_bytes += *bytes as u64;
        }
        if limited.is_empty() {
            return Ok(());
        }
        let mut meters = self.inner.quotas.meters.lock();
        if meters.len() > view.catalog().len() + SPARE {
            meters.retain(|channel, _| view.meta(*channel).is_some());
        }
        let (now, mut before) = (Instant::now(), Vec::new());
        for (meta, messages, bytes) in limited.into_values() {
            let meter = meters.entry(meta.id).or_default();
            before.push((meta.id, meter.clone()));
            if let Err(exceeded) = meter.take(meta.config.quota, messages, bytes, now) {
                meters.extend(before);
                return Err(error(exceeded, &format!("to channel `{}`", meta.name)));
            }
        }
        Ok(())
    }
}

fn error(Exceeded { what, limit, wait }: Exceeded, of_what: &str) -> Unserved {
    let retry_after_ms = millis(wait);
    Unserved::QuotaExceeded { what: format!("{what} a second {of_what}"), limit, retry_after_ms }
}

/// Never sooner than the time is up.
pub(super) fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
