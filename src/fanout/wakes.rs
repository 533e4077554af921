//! Who waits for something to happen to a consumer, or at the end of its channel. A consumer that nobody waits for
//! costs nothing here, and neither does a log entry that nobody waits for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{ChannelId, ConsumerId, StoredBatch};

/// All who wait on one node.
#[derive(Default)]
pub struct Wakes {
    waiting: Mutex<Waiting>,
    numbers: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    consumers: BTreeMap<(ConsumerId, u64), Arc<Notify>>,
    channels: BTreeMap<(ChannelId, u64), Arc<Notify>>,
}

/// One who waits. Dropping it ends that.
pub struct Wake {
    wakes: Arc<Wakes>,
    consumer: ConsumerId,
    channel: Option<ChannelId>,
    number: u64,
    signal: Arc<Notify>,
}

impl Wakes {
    /// Waits for a consumer, and with `channel` for new messages there too.
    pub fn wait_for(self: &Arc<Self>, consumer: ConsumerId, channel: Option<ChannelId>) -> Wake {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let signal = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock();
        waiting.consumers.insert((consumer, number), signal.clone());
        if let Some(channel) = channel {
            waiting.channels.insert((channel, number), signal.clone());
        }
        drop(waiting);
        Wake { wakes: self.clone(), consumer, channel, number, signal }
    }

    /// Whether anybody waits.
    pub fn is_waited_for(&self) -> bool {
        !self.waiting.lock().consumers.is_empty()
    }

    /// Tells those whom a log entry concerns, once it is applied.
    pub fn applied(&self, consumers: &[ConsumerId], batches: &[(ChannelId, StoredBatch)]) {
        if consumers.is_empty() && batches.is_empty() {
            return;
        }
        let waiting = self.waiting.lock();
        for id in consumers {
            waiting.consumers.range((*id, 0)..=(*id, u64::MAX)).for_each(|(_, signal)| signal.notify_one());
        }
        for (id, _) in batches {
            waiting.channels.range((*id, 0)..=(*id, u64::MAX)).for_each(|(_, signal)| signal.notify_one());
        }
    }

    /// Tells everybody: the whole state was replaced.
    pub fn all(&self) {
        self.waiting.lock().consumers.values().for_each(|signal| signal.notify_one());
    }
}

impl Wake {
    /// Waits until something has happened since the last time.
    pub async fn woken(&self) {
        self.signal.notified().await;
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        let mut waiting = self.wakes.waiting.lock();
        waiting.consumers.remove(&(self.consumer, self.number));
        if let Some(channel) = self.channel {
            waiting.channels.remove(&(channel, self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_those_whom_it_concerns_are_woken_and_nobody_is_remembered() {
        let wakes = Arc::new(Wakes::default());
        let (id, other) = (ConsumerId(1), ConsumerId(2));
        let [wake, third] = [id, other].map(|id| wakes.wait_for(id, Some(ChannelId(id.0))));
        wakes.applied(&[id], &[]);
        assert!(wake.woken().now_or_never().is_some() && third.woken().now_or_never().is_none());
        // What happened while nobody looked is not missed.
        wakes.all();
        assert!(wake.woken().now_or_never().is_some() && wake.woken().now_or_never().is_none());
        drop((wake, third));
        let waiting = wakes.waiting.lock();
        assert!(waiting.consumers.is_empty() && waiting.channels.is_empty());
    }
}
