//! Publishes records, one batch after the other, for as long as the node runs.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Audit, Record};
use crate::{
    broker::{Broker, BrokerError, Confirm, PublishOptions},
    model::{AUDIT_CHANNEL, Frame, Retention},
    proto::v1::Message,
};

/// Records of one batch.
const TOGETHER: usize = 64;
/// How often a batch is tried; each time waits for a leader as any publish does.
const ATTEMPTS: u32 = 5;
/// Before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the channel.
pub struct AuditWriter {
    broker: Broker,
    audit: Audit,
    waiting: mpsc::Receiver<Record>,
    /// What the channel keeps.
    retention: Retention,
}

impl AuditWriter {
    /// With what takes the records.
    pub fn new(broker: Broker, retention: Retention) -> (Audit, Self) {
        let (audit, waiting) = Audit::queued();
        (audit.clone(), Self { broker, audit, waiting, retention })
    }

    /// Publishes records until `stopping`, and then what is there.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut records = Vec::new();
        loop {
            let count = tokio::select! {
                count = self.waiting.recv_many(&mut records, TOGETHER) => count,
                () = stopping.cancelled() => {
                    self.waiting.close();
                    self.waiting.recv_many(&mut records, TOGETHER).await
                }
            };
            if count == 0 {
                return;
            }
            let attempts = if stopping.is_cancelled() { 1 } else { ATTEMPTS };
            self.write(&records, attempts).await;
            records.clear();
        }
    }

    async fn write(&self, records: &[Record], attempts: u32) {
        let counters = &self.audit.shared.counters;
        let node = self.broker.local().name;
        let message = |record: &Record| Message {
            payload: record.to_json(&node).into(),
            // So that a batch whose outcome is unknown can be tried again.
            key: Some(self.broker.inner.env.random.secret()),
            ..Message::default()
        };
        let messages: Vec<Message> = records.iter().map(message).collect();
        let frame = Frame::encode(&messages);
        for attempt in 1..=attempts {
            let Err(error) = self.publish(frame.clone()).await else {
                counters.written.fetch_add(records.len() as u64, Ordering::Relaxed);
                return;
            };
            if attempt < attempts {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let count = records.len();
            counters.not_published.fetch_add(count as u64, Ordering::Relaxed);
            tracing::warn!(%error, count, channel = AUDIT_CHANNEL, "records of the audit are in this log only");
        }
    }

    async fn publish(&self, frame: Frame) -> Result<(), BrokerError> {
        self.broker.keep_audit_channel(&self.retention).await?;
        let options = PublishOptions::new().confirm(Confirm::Commit);
        let results = self.broker.admit_publish(AUDIT_CHANNEL, frame, options).await?;
        results.into_iter().try_for_each(|result| result.map(drop))
    }
}
