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
    /// Whether the channel is there and keeps that. Another node, which is configured otherwise, may have it keep something
    /// else later: it stays so until a node starts.
    is_kept: bool,
}

impl AuditWriter {
    /// With what takes the records.
    pub fn new(broker: Broker, retention: Retention) -> (Audit, Self) {
        let (audit, waiting) = Audit::queued();
        (audit.clone(), Self { broker, audit, waiting, retention, is_kept: false })
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
            self.write(&records, &stopping).await;
            records.clear();
        }
    }

    async fn write(&mut self, records: &[Record], stopping: &CancellationToken) {
        let node = self.broker.local().name.clone();
        let message = |record: &Record| Message {
            payload: record.to_json(&node).into(),
            // So that a batch whose outcome is unknown can be tried again.
            key: Some(self.broker.inner.env.random.secret()),
            ..Message::default()
        };
        let messages: Vec<Message> = records.iter().map(message).collect();
        let frame = Frame::encode(&messages);
        for attempt in 1..=ATTEMPTS {
            let Err(error) = self.publish(frame.clone()).await else {
                self.audit.shared.counters.written.fetch_add(records.len() as u64, Ordering::Relaxed);
                return;
            };
            if attempt < ATTEMPTS && !stopping.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stopping.cancelled() => {}
                }
                continue;
            }
            let count = records.len();
            self.audit.shared.counters.not_published.fetch_add(count as u64, Ordering::Relaxed);
            tracing::warn!(%error, count, channel = AUDIT_CHANNEL, "records of the audit are in this log only");
            return;
        }
    }

    async fn publish(&mut self, frame: Frame) -> Result<(), BrokerError> {
        if !self.is_kept {
            self.broker.keep_audit_channel(&self.retention).await?;
            self.is_kept = true;
        }
        let options = PublishOptions::new().confirm(Confirm::Commit);
        let results = self.broker.admit_publish(AUDIT_CHANNEL, frame, options).await?;
        results.into_iter().try_for_each(|result| result.map(drop))
    }
}
