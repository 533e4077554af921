//! The reading side of a replica.

use std::{
    ops::{Bound, Range},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::{RwLockReadGuard, watch};

use super::{checkpoint::Checkpoint, health::StoreHealth, shared::Shared};
use crate::{
    fanout::{Fanout, Wakes},
    health::Health,
    keys::KeyPlaces,
    log_clock::LogClock,
    machine::{ChannelFigures, Consumers, Laggards, LiveKeys, Totals},
    meter::Meters,
    model::{
        Catalog, ChannelId, ChannelMeta, ChannelStats, ClaimInfo, ClaimTotals, Compaction, ConsumerId, ConsumerStatus,
        History, KeyHash, Limits, MemberLogEntry, MemberRecord, NamespaceId, NamespaceInfo, NamespaceName, PeerVersion,
        PublishGroup, Refusal, Retention, SecurityState, StateLimits, Waiting,
    },
    store::DurableStore,
};

/// The reading side. Cloning is cheap.
#[derive(Clone)]
pub struct ReplicaView {
    pub(super) shared: Arc<Shared>,
}

/// Somebody who will wait for an index: see [`ReplicaView::expect`].
pub struct Expecting {
    shared: Arc<Shared>,
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.shared.expecting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReplicaView {
    /// The store under the replica.
    pub fn store(&self) -> &Arc<dyn DurableStore> {
        &self.shared.store
    }

    /// While the answer lives, the store and the machine are of one state: no snapshot takes their place. To be held for
    /// one read of the store and a look at what the machine says of it, and never while waiting for an entry.
    pub async fn whole(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.replacing.read().await
    }

    /// The live subscribers.
    pub fn fanout(&self) -> &Arc<Fanout> {
        &self.shared.fanout
    }

    /// Who waits for consumers.
    pub fn wakes(&self) -> &Arc<Wakes> {
        &self.shared.wakes
    }

    /// Looks at the consumers as applied. Nothing is applied meanwhile, so it has to be quick.
    pub fn consumers<T>(&self, look: impl FnOnce(&Consumers) -> T) -> T {
        look(self.shared.machine.read().consumers())
    }

    /// A consumer as its users see it.
    pub fn consumer_status(&self, consumer: ConsumerId) -> Option<ConsumerStatus> {
        self.shared.machine.read().consumer_status(consumer)
    }

    /// Consumers of a channel whose names are in a range, as their users see them, by name; at most `most`.
    pub fn consumer_statuses(
        &self,
        channel: ChannelId,
        names: (Bound<&str>, Bound<&str>),
        most: usize,
    ) -> Vec<ConsumerStatus> {
        self.shared.machine.read().consumer_statuses(channel, names, most)
    }

    /// The consumers that are furthest behind, at most `most`.
    pub fn laggards(&self, most: usize) -> Laggards {
        self.shared.machine.read().laggards(most)
    }

    /// All channels and all consumers summed up.
    pub fn totals(&self) -> Totals {
        self.shared.machine.read().totals()
    }

    /// How much state there may be, as the log says.
    pub fn state_limits(&self) -> StateLimits {
        self.shared.machine.read().state_limits()
    }

    /// What all nodes are known to speak: commands that need a later version are not in the log yet.
    pub fn version(&self) -> PeerVersion {
        self.shared.machine.read().version()
    }

    /// All tokens and roles as applied; whoever waits for a change of it is woken when one is.
    pub fn security(&self) -> watch::Receiver<Arc<SecurityState>> {
        self.shared.security.subscribe()
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// All channels as applied.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog.read().clone()
    }

    /// What a channel is, as applied.
    pub fn meta(&self, channel: ChannelId) -> Option<Arc<ChannelMeta>> {
        self.shared.machine.read().meta(channel).cloned()
    }

    /// A channel's counters as applied. They may be ahead of the store for a moment.
    pub fn stats(&self, channel: ChannelId) -> Option<ChannelStats> {
        self.shared.machine.read().stats(channel)
    }

    /// Whether all copies that a group makes are taken for certain, also behind so many messages and bytes that are not applied
    /// yet.
    pub fn takes_copies(&self, group: &PublishGroup, before: (u64, u64)) -> bool {
        group.routes.is_empty() || self.shared.machine.read().takes_copies(group, before)
    }

    /// How far a channel is compacted.
    pub fn compaction(&self, channel: ChannelId) -> Option<Compaction> {
        self.shared.machine.read().compaction(channel)
    }

    /// What of a work queue is settled, lies behind a message that is not, and still takes space: runs in order.
    pub fn reclaimable(&self, channel: ChannelId) -> Vec<Range<u64>> {
        self.shared.machine.read().reclaimable(channel)
    }

    /// About how many messages of a channel would go at once if it kept something else.
    pub fn would_remove(&self, channel: ChannelId, retention: &Retention) -> u64 {
        self.shared.machine.read().would_remove(channel, retention)
    }

    /// The newest message of a channel where it is a letter that was redriven.
    pub fn redriven(&self, channel: ChannelId) -> Option<u64> {
        self.shared.machine.read().redriven(channel)
    }

    /// The log's time at the newest entry that was applied: what has expired has done so by it.
    pub fn time_ms(&self) -> u64 {
        self.shared.machine.read().time_ms()
    }

    /// The log's time as it goes on.
    pub fn clock(&self) -> &LogClock {
        &self.shared.clock
    }

    /// The time of day at one of the log's times, milliseconds since the Unix epoch.
    pub fn time_of_day(&self, log_ms: u64) -> u64 {
        // Every batch of every subscription asks.
        if !self.shared.has_calendar.load(Ordering::Acquire) {
            return log_ms;
        }
        self.shared.machine.read().time_of_day(log_ms)
    }

    /// A channel's history as applied: what positions are judged by.
    pub fn history(&self, channel: ChannelId) -> Option<History> {
        self.shared.machine.read().history(channel)
    }

    /// 1, and one more for each time that the state was restored from a backup.
    pub fn epoch(&self) -> u64 {
        self.shared.machine.read().epoch()
    }

    /// What is known of a node that is or was in the cluster.
    pub fn member(&self, node: u64) -> Option<MemberRecord> {
        self.shared.machine.read().member(node).cloned()
    }

    /// What happened to the cluster's nodes, oldest first.
    pub fn member_log(&self) -> Vec<MemberLogEntry> {
        self.shared.machine.read().member_log().cloned().collect()
    }

    /// A claim that is not free as applied, and its namespace. It may be ahead of the store for a moment.
    ///
    /// # Errors
    /// [`Refusal::NoSuchNamespace`].
    pub fn claim(&self, namespace: &NamespaceName, key: KeyHash) -> Result<(NamespaceId, Option<ClaimInfo>), Refusal> {
        self.shared.machine.read().claim(namespace, key)
    }

    /// The namespaces of claims as applied, by name.
    pub fn claim_namespaces(&self) -> Vec<NamespaceInfo> {
        self.shared.machine.read().namespaces().collect()
    }

    /// What became of all claims since the state began.
    pub fn claim_totals(&self) -> ClaimTotals {
        self.shared.machine.read().claim_totals()
    }

    /// When something expires next, in log time.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.shared.machine.read().next_expiry_ms()
    }

    /// When the first message that waits for its time is due, a time of day, as it changes.
    pub fn next_due(&self) -> watch::Receiver<Option<u64>> {
        self.shared.due.subscribe()
    }

    /// The messages that are due at a time of day, at most `limit`, in the order in which they come.
    pub fn due(&self, now_ms: u64, limit: usize) -> Vec<Waiting> {
        self.shared.machine.read().due(now_ms, limit)
    }

    /// What each channel holds and has taken, by id. Looks at every channel.
    pub fn channel_figures(&self) -> Vec<ChannelFigures> {
        self.shared.machine.read().channel_figures().collect()
    }

    /// How many idempotency keys there are. Looks at every channel.
    pub fn live_keys(&self) -> LiveKeys {
        self.shared.machine.read().live_keys()
    }

    /// Where this node has the idempotency keys.
    pub fn key_places(&self) -> KeyPlaces {
        KeyPlaces { in_memory: self.shared.machine.read().hot_keys(), ..self.shared.keys.places() }
    }

    /// The ids of a channel's messages that wait for their time, from the first above `after` on: at most `limit`, and no
    /// more than hold about so many bytes, but at least one. And whether there are more.
    pub fn delayed_ids(&self, channel: ChannelId, after: u64, limit: usize, bytes: u64) -> (Vec<u64>, bool) {
        let machine = self.shared.machine.read();
        let (mut ids, mut held) = (Vec::new(), 0);
        for (id, size) in machine.delayed_ids(channel, after) {
            held += size;
            if ids.len() == limit || held > bytes && !ids.is_empty() {
                return (ids, true);
            }
            ids.push(id);
        }
        (ids, false)
    }

    /// Messages of a channel that wait for their time.
    pub fn delayed(&self, channel: ChannelId) -> u64 {
        self.shared.machine.read().delayed(channel)
    }

    /// Log index of the newest applied entry.
    pub fn applied(&self) -> u64 {
        *self.shared.applied.borrow()
    }

    /// Whether anybody on this node waits for what is committed next: subscribers, members of consumers, or requests.
    pub fn is_awaited(&self) -> bool {
        let shared = &self.shared;
        shared.expecting.load(Ordering::Relaxed) > 0
            || shared.applied.receiver_count() > 0
            || shared.fanout.is_followed()
            || shared.wakes.is_waited_for()
    }

    /// Says that somebody will soon wait for an index, until the answer is dropped.
    pub fn expect(&self) -> Expecting {
        self.shared.expecting.fetch_add(1, Ordering::Relaxed);
        Expecting { shared: self.shared.clone() }
    }

    /// Waits until an index is applied.
    pub async fn wait_applied(&self, index: u64) {
        let mut applied = self.shared.applied.subscribe();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|applied| *applied >= index).await;
    }

    /// Whether the store takes commits.
    pub fn commits(&self) -> watch::Receiver<StoreHealth> {
        self.shared.commits.subscribe()
    }

    /// What keeps this node from doing its work.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// What this node measures.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.shared.meters
    }

    /// Tries what could not be read again; see [`read_again`](crate::store::WatchedStore::read_again).
    pub async fn read_again(&self) {
        self.shared.watched.read_again().await;
    }

    /// The newest hash of the whole state. It may lag what is applied by a fold.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared.checkpoints.borrow().back().cloned()
    }

    /// The newest hashes, newest last: nodes get theirs at different times, but for the same log indexes.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.shared.checkpoints.borrow().iter().cloned().collect()
    }

    /// Waits until the hash of an index has arrived, or of a later one.
    pub async fn wait_checkpoint(&self, index: u64) {
        let mut checkpoints = self.shared.checkpoints.subscribe();
        // The sender lives as long as `self`.
        let _ = checkpoints.wait_for(|kept| kept.back().is_some_and(|newest| newest.index >= index)).await;
    }
}
