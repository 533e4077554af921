//! Finding the messages that later ones replace, on the leader: a *pass* reads what came since the last one, remembers
//! where each key was seen last, and then reads all that may be older. What has expired goes too.
//!
//! Nothing is kept between passes but how far they came, so publishing costs no more in a compacted channel, and a new
//! leader goes on where the old one was. A pass costs as much as the channel is long, so it waits until as much is new as
//! is not, or for as long as reading at [`PACE`] takes. Where nothing is new, it comes when a message has expired: a pass
//! says when the next one does, and a new leader, which does not know it, makes one pass to learn it.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;
use tokio::time::Instant;

use super::{Broker, BrokerError};
use crate::{
    model::{
        ChannelId, ChannelMeta, ChannelStats, Clean, Compact, Compaction, Durability, Gone, KeyHash, Operation,
        OperationReply, StoredBatch, has_expired, header_key, stream_key,
    },
    proto::v1::Message,
};

/// How often channels are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a channel that a pass may read in a second, on average, when little of it is new.
const PACE: u64 = 1 << 20;
/// Bytes that are read at a time.
const PAGE: usize = 256 << 10;
/// Bytes of the batches that one step changes: every node rewrites them while it applies the step.
const STEP_BYTES: usize = 256 << 10;
/// Runs of messages that one step removes.
const STEP_RUNS: usize = 4_096;
/// Channels over which there is a pass at the same time.
const AT_ONCE: usize = 4;

/// What is known of a channel that is compacted.
#[derive(Clone, Copy)]
struct Look {
    /// When the last pass began, or the channel was first seen.
    last: Instant,
    /// When the next of its messages expires, on the log's line; 0: no pass has told it yet; `u64::MAX`: none does.
    expires_ms: u64,
}

impl Look {
    fn fresh() -> Self {
        Self { last: Instant::now(), expires_ms: 0 }
    }
}

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// Something else changed the channel's compaction first, or another node leads.
    #[error("the step was not taken: {0}")]
    NotTaken(String),
    #[error(transparent)]
    Failed(#[from] BrokerError),
}

/// The stored messages of a channel in order.
struct Scan<'a> {
    broker: &'a Broker,
    stream: String,
    next: u64,
    end: u64,
    page: VecDeque<StoredBatch>,
}

impl<'a> Scan<'a> {
    /// Of those from `next` to `end`.
    fn over(broker: &'a Broker, meta: &ChannelMeta, next: u64, end: u64) -> Self {
        Self { broker, stream: stream_key(meta.name.as_str()), next, end, page: VecDeque::new() }
    }

    async fn batch(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        if self.page.is_empty() && self.next < self.end {
            let page = self
                .broker
                .store()
                .read_batches(&self.stream, self.next, PAGE)
                .await
                .map_err(|error| self.broker.store_error(&error))?;
            self.page = page.into();
        }
        let Some(batch) = self.page.pop_front().filter(|batch| batch.first_seq < self.end) else { return Ok(None) };
        self.next = batch.end_seq();
        let within = u32::try_from(self.end - batch.first_seq).unwrap_or(u32::MAX);
        Ok(Some(StoredBatch { frame: batch.frame.take(within), ..batch }))
    }
}

/// One pass over a channel.
struct Pass<'a> {
    broker: &'a Broker,
    meta: &'a ChannelMeta,
    by: &'a str,
    step: u64,
    gone: Vec<Gone>,
    /// Bytes of the batches that hold what goes.
    changed: usize,
    /// When the next of the messages that stay expires; `u64::MAX`: none does.
    expires_ms: u64,
}

/// Runs for as long as the broker does.
pub(super) async fn run(broker: Broker) {
    let mut passes: HashMap<ChannelId, Look> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let mut at_it = BTreeSet::new();
    let mut leader = broker.inner.sequencer.leader();
    loop {
        if running.is_empty() && !broker.leads() {
            passes.clear();
            if leader.changed().await.is_err() {
                return;
            }
            continue;
        }
        let look = tokio::time::sleep(INTERVAL);
        tokio::select! {
            () = look => {}
            Some((id, expires_ms)) = running.next() => {
                at_it.remove(&id);
                if let (Some(look), Some(expires_ms)) = (passes.get_mut(&id), expires_ms) {
                    look.expires_ms = expires_ms;
                }
                continue;
            }
        }
        passes.retain(|id, _| broker.inner.view.stats(*id).is_some());
        for meta in broker.due_for_compaction(&mut passes) {
            if running.len() < AT_ONCE && broker.leads() && at_it.insert(meta.id) {
                passes.entry(meta.id).or_insert_with(Look::fresh).last = Instant::now();
                running.push(compact(broker.clone(), meta));
            }
        }
    }
}

/// Passes over a channel until its end is reached. Says when the next message of it expires, if it is.
async fn compact(broker: Broker, meta: Arc<ChannelMeta>) -> (ChannelId, Option<u64>) {
    let compacted = loop {
        match broker.compact(&meta).await {
            Ok(None) => {}
            compacted => break compacted,
        }
    };
    match &compacted {
        Ok(_) => tracing::debug!(channel = %meta.name, "compacted"),
        Err(Broken::NotTaken(why)) => tracing::debug!(channel = %meta.name, why, "a pass was broken off"),
        Err(Broken::Failed(error)) => tracing::warn!(channel = %meta.name, %error, "cannot compact"),
    }
    (meta.id, compacted.ok().flatten())
}

impl Broker {
    /// Channels over which a pass is due, the small ones first.
    fn due_for_compaction(&self, passes: &mut HashMap<ChannelId, Look>) -> Vec<Arc<ChannelMeta>> {
        let catalog = self.inner.view.catalog();
        let compacted = catalog
            .iter()
            .filter(|meta| meta.config.durability == Durability::Durable && meta.config.retention.compact_by.is_some());
        let mut due: Vec<_> = compacted
            .filter_map(|meta| {
                let look = *passes.entry(meta.id).or_insert_with(Look::fresh);
                let stats = self.inner.view.stats(meta.id)?;
                self.is_due(meta.id, stats, look).then(|| (stats.bytes, meta.clone()))
            })
            .collect();
        due.sort_by_key(|(bytes, _)| *bytes);
        due.into_iter().map(|(_, meta)| meta).collect()
    }

    fn is_due(&self, channel: ChannelId, stats: ChannelStats, Look { last, expires_ms }: Look) -> bool {
        let Compaction { clean_to, removed, .. } = self.inner.view.compaction(channel).unwrap_or_default();
        let ChannelStats { first_seq, next_seq, bytes, .. } = stats;
        let fresh = next_seq.saturating_sub(clean_to.max(first_seq));
        let looked_at = clean_to.saturating_sub(first_seq).saturating_sub(removed);
        let rested = last.elapsed() >= Duration::from_secs(bytes / PACE);
        // The newest message stays in any case.
        let expired = next_seq > first_seq + 1 && expires_ms <= self.inner.view.clock().now_ms();
        (fresh > 0 && (fresh >= looked_at || rested)) || (expired && rested)
    }

    /// One pass; none when it has not come to the channel's end, else when the next message expires.
    async fn compact(&self, meta: &ChannelMeta) -> Result<Option<u64>, Broken> {
        let (view, by) = (&self.inner.view, meta.config.retention.compact_by.as_deref().unwrap_or_default());
        let stats = view.stats(meta.id).unwrap_or_default();
        let step = view.compaction(meta.id).unwrap_or_default().step;
        let mut pass = Pass { broker: self, meta, by, step, gone: Vec::new(), changed: 0, expires_ms: u64::MAX };
        // Once this step is applied here, the store has all that was counted above, and what steps before it have done.
        pass.take_step(None).await?;
        let clean_to = view.compaction(meta.id).unwrap_or_default().clean_to;
        let (newest, to) = pass.newest(clean_to.max(stats.first_seq), stats.next_seq).await?;
        let expires_ms = pass.remove(&newest, stats, to).await?;
        Ok((to == stats.next_seq).then_some(expires_ms))
    }
}

impl Pass<'_> {
    /// Where each key was seen last among new messages, and where the search ended: memory is bounded.
    async fn newest(&self, from: u64, end: u64) -> Result<(HashMap<KeyHash, u64>, u64), BrokerError> {
        let most = self.broker.limits().compaction_keys;
        let mut newest = HashMap::new();
        let mut scan = Scan::over(self.broker, self.meta, from, end);
        while let Some(batch) = scan.batch().await? {
            for (seq, record) in (batch.first_seq..).zip(batch.frame.records()) {
                let Some(key) = key_of(&decoded(record)?, self.by) else { continue };
                if newest.len() >= most && !newest.contains_key(&key) {
                    return Ok((newest, seq));
                }
                newest.insert(key, seq);
            }
        }
        Ok((newest, end))
    }

    /// Removes what lies below `to` and is replaced by something newer, or has expired. Says when the next of the others
    /// expires.
    async fn remove(mut self, newest: &HashMap<KeyHash, u64>, stats: ChannelStats, to: u64) -> Result<u64, Broken> {
        let ChannelStats { first_seq, next_seq, .. } = stats;
        let now_ms = self.broker.inner.view.time_ms();
        let mut kept = 0;
        let mut scan = Scan::over(self.broker, self.meta, first_seq, to);
        while let Some(batch) = scan.batch().await? {
            let mut changes = false;
            let records = batch.frame.records().zip(batch.frame.sizes());
            for (seq, (record, bytes)) in (batch.first_seq..).zip(records) {
                let message = decoded(record)?;
                let replaced = || {
                    let last = key_of(&message, self.by).and_then(|key| newest.get(&key));
                    last.is_some_and(|last| *last > seq)
                };
                // The channel's newest message stays in any case: readers know by it that they have reached the end.
                let goes = seq + 1 < next_seq && (has_expired(&message, batch.time_ms, now_ms) || replaced());
                changes |= goes;
                if !goes && seq + 1 < next_seq && message.ttl_ms > 0 {
                    self.expires_ms = self.expires_ms.min(batch.time_ms.saturating_add(message.ttl_ms));
                }
                match self.gone.last_mut().filter(|run| run.end_seq() == seq) {
                    Some(run) if goes => {
                        run.count += 1;
                        run.bytes += bytes;
                    }
                    _ if goes => self.gone.push(Gone { first_seq: seq, count: 1, bytes }),
                    _ => kept += 1,
                }
            }
            if changes {
                self.changed += batch.frame.len();
            }
            if self.changed >= STEP_BYTES || self.gone.len() >= STEP_RUNS {
                self.take_step(None).await?;
            }
        }
        let missing = to.saturating_sub(first_seq).saturating_sub(kept);
        self.take_step(Some(Clean { first_seq, to, removed: missing })).await?;
        Ok(self.expires_ms)
    }

    /// Has what was found so far removed.
    async fn take_step(&mut self, clean: Option<Clean>) -> Result<(), Broken> {
        if !self.broker.leads() {
            return Err(Broken::NotTaken("this node does not lead any longer".to_owned()));
        }
        let gone = std::mem::take(&mut self.gone);
        self.changed = 0;
        let compact = Compact { channel: self.meta.id, by: self.by.to_owned(), step: self.step, gone, clean };
        match self.broker.operate(Operation::Compact(compact)).await.map_err(BrokerError::from)? {
            Ok(OperationReply::Compacted { step }) => {
                self.step = step;
                Ok(())
            }
            other => {
                Err(Broken::NotTaken(other.map_or_else(|refusal| refusal.to_string(), |reply| format!("{reply:?}"))))
            }
        }
    }
}

fn decoded(record: Bytes) -> Result<Message, BrokerError> {
    Message::decode(record).map_err(|error| BrokerError::Internal { reason: error.to_string() })
}

/// The key by which a message replaces others; none where it has no such header, or an empty one.
fn key_of(message: &Message, by: &str) -> Option<KeyHash> {
    header_key(message, by).map(KeyHash::of)
}
