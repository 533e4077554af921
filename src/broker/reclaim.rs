//! Giving back the space of work that is done behind work that is not, on the leader.
//!
//! The machine says what the consumers of a work queue have settled; a *pass* reads how many bytes that is and has it taken
//! out, some at a time, as compaction does. A batch of which something stays is written again, so a pass waits until it
//! brings enough: ordinary work, which is settled a little out of order, never comes to that.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Broker, BrokerError};
use crate::model::{
    ChannelId, ChannelMeta, Durability, Gone, Limits, Operation, OperationReply, Reclaim, StoredBatch, stream_key,
};

/// How often work queues are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that are read at a time.
const PAGE: usize = 256 << 10;
/// Bytes of the batches that one step changes: every node reads them while it applies the step.
const STEP_BYTES: u64 = 256 << 10;
/// Runs of messages that one step removes.
const STEP_RUNS: usize = 1_024;
/// What is worth a pass is at least this part of what lies between the channel's beginning and the last of it.
const PART: u64 = 4;

/// One pass over a work queue.
struct Pass<'a> {
    broker: &'a Broker,
    channel: ChannelId,
    step: u64,
    gone: Vec<Gone>,
    bytes: u64,
}

/// Runs for as long as the broker does.
pub(super) async fn run(broker: Broker) {
    // Places that a pass has left: there is nothing in the store.
    let mut left: HashMap<ChannelId, u64> = HashMap::new();
    let mut leader = broker.inner.sequencer.leader();
    loop {
        if !broker.leads() {
            left.clear();
            if leader.changed().await.is_err() {
                return;
            }
            continue;
        }
        sleep(INTERVAL).await;
        left.retain(|id, _| broker.inner.view.stats(*id).is_some());
        for meta in broker.work_queues() {
            let known = left.get(&meta.id).copied().unwrap_or(0);
            let runs = broker.worth_a_pass(meta.id, known);
            if runs.is_empty() || !broker.leads() {
                continue;
            }
            match broker.reclaim(&meta, &runs).await {
                Ok(()) => {
                    left.insert(meta.id, places(&broker.inner.view.reclaimable(meta.id)));
                    tracing::debug!(channel = %meta.name, runs = runs.len(), "gave back what was settled");
                }
                Err(error) => tracing::debug!(channel = %meta.name, %error, "a pass over settled work was broken off"),
            }
        }
    }
}

/// How many messages runs are.
fn places(runs: &[Range<u64>]) -> u64 {
    runs.iter().map(|run| run.end - run.start).sum()
}

impl Broker {
    fn work_queues(&self) -> Vec<Arc<ChannelMeta>> {
        let catalog = self.inner.view.catalog();
        let durable = |meta: &&Arc<ChannelMeta>| meta.config.durability == Durability::Durable;
        catalog.iter().filter(durable).filter(|meta| meta.config.retention.work_queue).cloned().collect()
    }

    /// What of a work queue is settled behind a message that is not, if it is enough. Of it, `known` places are known to
    /// hold nothing.
    fn worth_a_pass(&self, channel: ChannelId, known: u64) -> Vec<Range<u64>> {
        let view = &self.inner.view;
        let stats = view.stats(channel).unwrap_or_default();
        if stats.bytes < Limits::RECLAIMED_AT_ONCE {
            return Vec::new();
        }
        let runs = view.reclaimable(channel);
        let (settled, Some(last)) = (places(&runs).saturating_sub(known), runs.last()) else { return Vec::new() };
        let removed = view.compaction(channel).unwrap_or_default().removed;
        let stored = (stats.next_seq - stats.first_seq).saturating_sub(removed).max(1);
        let bytes = u128::from(stats.bytes) * u128::from(settled.min(stored)) / u128::from(stored);
        let behind = (last.end - stats.first_seq).saturating_sub(removed);
        let enough = bytes >= u128::from(Limits::RECLAIMED_AT_ONCE) && settled.saturating_mul(PART) >= behind;
        if enough { runs } else { Vec::new() }
    }

    async fn reclaim(&self, meta: &ChannelMeta, runs: &[Range<u64>]) -> Result<(), BrokerError> {
        let step = self.inner.view.compaction(meta.id).unwrap_or_default().step;
        let mut pass = Pass { broker: self, channel: meta.id, step, gone: Vec::new(), bytes: 0 };
        // Once this step is applied here, the store has what steps before it have left.
        pass.take_step().await?;
        let stream = stream_key(meta.name.as_str());
        for run in runs {
            let mut next = run.start;
            while next < run.end {
                let page = self.store().read_batches(&stream, next, PAGE).await;
                let page = page.map_err(|error| self.store_error(&error))?;
                let Some(last) = page.last() else { break };
                next = last.end_seq();
                for batch in page.iter().filter(|batch| batch.first_seq < run.end) {
                    pass.add(batch, run.end);
                    if pass.bytes >= STEP_BYTES || pass.gone.len() >= STEP_RUNS {
                        pass.take_step().await?;
                    }
                }
            }
        }
        if pass.gone.is_empty() { Ok(()) } else { pass.take_step().await }
    }
}

impl Pass<'_> {
    /// Those messages of a batch that lie before `end` go.
    fn add(&mut self, batch: &StoredBatch, end: u64) {
        let (first_seq, count) = (batch.first_seq, batch.end_seq().min(end) - batch.first_seq);
        let bytes = (0..count).zip(batch.frame.sizes()).map(|(_, size)| size).sum();
        self.bytes += batch.frame.len() as u64;
        match self.gone.last_mut().filter(|run| run.end_seq() == first_seq) {
            Some(run) => {
                run.count += count;
                run.bytes += bytes;
            }
            None => self.gone.push(Gone { first_seq, count, bytes }),
        }
    }

    /// Has what was found so far taken out.
    async fn take_step(&mut self) -> Result<(), BrokerError> {
        let gone = std::mem::take(&mut self.gone);
        self.bytes = 0;
        let reclaim = Reclaim { channel: self.channel, step: self.step, gone };
        match self.broker.operate(Operation::Reclaim(reclaim)).await? {
            Ok(OperationReply::Compacted { step }) => {
                self.step = step;
                Ok(())
            }
            other => {
                let why = other.map_or_else(|refusal| refusal.to_string(), |reply| format!("{reply:?}"));
                Err(BrokerError::Internal { reason: format!("the step was not taken: {why}") })
            }
        }
    }
}
