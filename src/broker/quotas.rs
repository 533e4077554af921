//! Back-pressure: what a client connection may have in flight and publish in a time, and what all together may publish
//! to a channel, which the leader counts. A publish beyond that is deferred: nothing has happened, and it is told
//! when to come again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Broker, BrokerError, stats::RETRY_AFTER_MS};
use crate::{
    model::{ChannelId, Frame, Quota},
    quota::{Exceeded, Meter, Publishing},
};

/// A connection may have at most this part of the node's bytes in flight.
const CONNECTION_SHARE: usize = 4;
/// Meters of channels that are gone go when there are so many more meters than channels.
const SPARE: usize = 64;

/// What was published lately to each channel that has a quota, through this node as the leader.
#[derive(Default)]
pub(super) struct Quotas {
    meters: Mutex<HashMap<ChannelId, Meter>>,
}

/// Bytes that count as in flight on a connection until this is dropped.
pub struct Held {
    publishing: Arc<Publishing>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.publishing.release(self.bytes);
    }
}

impl Broker {
    /// Bytes of publishes that one connection may have unanswered: never so many that others find no room.
    pub fn connection_room(&self) -> usize {
        self.limits().connection_in_flight_bytes.min(self.limits().in_flight_bytes / CONNECTION_SHARE)
    }

    /// Lets a connection publish, within what one may have in flight and publish in a time. One publish alone is
    /// never too large.
    ///
    /// # Errors
    /// `QuotaExceeded`: nothing happened, and it says when to try again.
    pub fn admit_from(&self, publishing: &Arc<Publishing>, frame: &Frame) -> Result<Held, BrokerError> {
        self.admit_together(publishing, frame.count(), frame.bytes().len())
    }

    /// The same for messages of any channels.
    ///
    /// # Errors
    /// As [`Broker::admit_from`].
    pub fn admit_together(
        &self,
        publishing: &Arc<Publishing>,
        messages: u32,
        bytes: usize,
    ) -> Result<Held, BrokerError> {
        let before = publishing.in_flight();
        let limit = self.connection_room();
        if before > 0 && before + bytes > limit {
            let what = "bytes in flight on this connection".to_owned();
            let error = BrokerError::QuotaExceeded { what, limit: limit as u64, retry_after_ms: RETRY_AFTER_MS };
            self.count(&vec![Err(error.clone()); messages as usize]);
            return Err(error);
        }
        self.hold(publishing, messages, bytes)
    }

    /// The same for a stream, which is not read while too much is in flight on its connection.
    ///
    /// # Errors
    /// As [`Broker::admit_from`].
    pub fn admit_stream(&self, publishing: &Arc<Publishing>, frame: &Frame) -> Result<Held, BrokerError> {
        self.hold(publishing, frame.count(), frame.bytes().len())
    }

    fn hold(&self, publishing: &Arc<Publishing>, messages: u32, bytes: usize) -> Result<Held, BrokerError> {
        if let Err(error) = self.meter_connection(publishing, messages, bytes) {
            self.count(&vec![Err(error.clone()); messages as usize]);
            return Err(error);
        }
        publishing.hold(bytes);
        Ok(Held { publishing: publishing.clone(), bytes })
    }

    fn meter_connection(&self, publishing: &Publishing, messages: u32, bytes: usize) -> Result<(), BrokerError> {
        let quota = Quota {
            messages_per_second: self.limits().publisher_messages_per_second,
            bytes_per_second: self.limits().publisher_bytes_per_second,
        };
        if quota == Quota::default() {
            return Ok(());
        }
        let taken = publishing.take(quota, u64::from(messages), bytes as u64, Instant::now());
        taken.map_err(|exceeded| error(exceeded, "from one connection"))
    }

    /// On the leader: counts publishes against their channels' quotas, all of them or none.
    pub(super) fn charge(&self, publishes: &[(ChannelId, u64, usize)]) -> Result<(), BrokerError> {
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

fn error(Exceeded { what, limit, wait }: Exceeded, of_what: &str) -> BrokerError {
    let retry_after_ms = millis(wait);
    BrokerError::QuotaExceeded { what: format!("{what} a second {of_what}"), limit, retry_after_ms }
}

/// Never sooner than the time is up.
fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
