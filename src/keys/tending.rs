//! Moves keys out of memory into files, makes one file of several, and removes those that are too old: on a thread of low
//! priority, where there may be threads.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::RwLock;
use tokio::time::Instant;

use super::{
    ColdKeys, Runs,
    build::{BuildError, Wanted},
    plan,
};
use crate::{machine::Machine, store::StoreError};

/// Commands between two looks at what has become too old, or should become one.
const LOOK_EVERY: u64 = 1_024;
/// How long to leave what failed alone.
const RETRY: Duration = Duration::from_secs(1);
/// How much less than a command's thread that of files is worth.
const NICE: i32 = 10;

impl ColdKeys {
    /// After a command: has files made, put together or removed where that is due, by somebody else.
    pub fn tend(self: &Arc<Self>, hot: u64, machine: &Arc<RwLock<Machine>>) {
        let commands = self.commands.fetch_add(1, Ordering::Relaxed);
        let looks = commands.is_multiple_of(LOOK_EVERY) && self.in_runs.load(Ordering::Relaxed) > 0;
        let moves = self.is_due(hot) && self.cooling.lock().is_empty();
        // Making one file of many takes long, and may be begun again; memory must not fill up meanwhile.
        let in_runs = self.in_runs.load(Ordering::Relaxed);
        if hot > self.sizes.hot_beside(in_runs) + 2 * self.sizes.moved && self.joining.load(Ordering::Relaxed) {
            self.builder.cancelled.store(true, Ordering::Relaxed);
        }
        if !(looks || moves)
            || *self.busy.borrow()
            || self.failure.lock().as_ref().is_some_and(|(_, until)| Instant::now() < *until)
        {
            return;
        }
        self.busy.send_replace(true);
        let work = Work { keys: self.clone() };
        let machine = machine.clone();
        if self.builder.files.is_disk() {
            let runtime = tokio::runtime::Handle::current();
            let thread = std::thread::Builder::new().name("liminal-keys".into());
            let started = thread.spawn(move || {
                let _ = rustix::process::nice(NICE); // or it is worth as much as others
                runtime.block_on(work.run(&machine));
            });
            if let Err(error) = started {
                tracing::error!(%error, "the thread that makes files of idempotency keys cannot be started");
            }
        } else {
            tokio::spawn(async move { work.run(&machine).await });
        }
    }

    async fn round(&self, machine: &RwLock<Machine>) -> Result<(), BuildError> {
        self.remove_old(machine);
        self.move_some(machine).await?;
        self.put_together(machine).await
    }

    /// Removes the runs whose keys have all left the window.
    fn remove_old(&self, machine: &RwLock<Machine>) {
        let before = self.runs();
        let mut runs = Runs::clone(&before);
        for (id, runs) in &mut runs {
            let first_live = machine.read().first_live(*id);
            runs.retain(|run| first_live.is_some_and(|first| run.span.last_seq >= first));
        }
        let count = |runs: &Runs| runs.values().map(Vec::len).sum::<usize>();
        if count(&runs) < count(&before) {
            self.put(runs);
        }
    }

    /// Puts the oldest keys in memory of the channel that has most into a run.
    async fn move_some(&self, machine: &RwLock<Machine>) -> Result<(), BuildError> {
        if !self.cooling.lock().is_empty() {
            return Ok(());
        }
        let (hot, hottest) = {
            let machine = machine.read();
            let hot = machine.hot_keys();
            (hot, self.is_due(hot).then(|| machine.hottest()).flatten())
        };
        let Some((channel, from, keys)) = hottest else { return Ok(()) };
        if keys < self.sizes.fewest {
            self.nothing_at.store(hot + self.sizes.moved, Ordering::Relaxed);
            return Ok(());
        }
        self.nothing_at.store(0, Ordering::Relaxed);
        let wanted = Wanted { channel, from, to: u64::MAX, keys: self.sizes.moved };
        let Some(run) = self.builder.build(wanted).await? else { return Err(BuildError::Overtaken) };
        let span = run.span;
        if span.first_seq != from {
            self.builder.files.remove(&run.name)?;
            return Err(BuildError::Overtaken);
        }
        let mut runs = Runs::clone(&self.runs());
        runs.entry(channel).or_default().push(Arc::new(run));
        self.put(runs);
        // Only now: what left memory must be found.
        self.cooling.lock().insert(channel, span.end_seq);
        Ok(())
    }

    /// Makes one run of several, once.
    async fn put_together(&self, machine: &RwLock<Machine>) -> Result<(), BuildError> {
        let runs = self.runs();
        let together = runs.iter().find_map(|(id, runs)| {
            let keys: Vec<u64> = runs.iter().map(|run| run.span.keys).collect();
            Some((*id, plan::together(&keys, self.sizes.largest())?))
        });
        let Some((channel, range)) = together else { return Ok(()) };
        let several = &runs[&channel][range.clone()];
        let (Some(first), Some(last)) = (several.first(), several.last()) else { return Ok(()) };
        let first_live = machine.read().first_live(channel).unwrap_or(u64::MAX);
        let keys = several.iter().map(|run| run.span.keys).sum();
        let from = first.span.first_seq.max(first_live);
        self.joining.store(true, Ordering::Relaxed);
        let one = self.builder.build(Wanted { channel, from, to: last.span.last_seq, keys }).await;
        self.joining.store(false, Ordering::Relaxed);
        let Some(one) = one? else { return Err(BuildError::Overtaken) };
        if one.span.last_seq != last.span.last_seq {
            self.builder.files.remove(&one.name)?;
            return Err(BuildError::Overtaken);
        }
        let mut runs = Runs::clone(&runs);
        if let Some(of_channel) = runs.get_mut(&channel) {
            of_channel.splice(range, [Arc::new(one)]);
        }
        self.put(runs);
        Ok(())
    }
}

/// Somebody makes files until it is dropped.
struct Work {
    keys: Arc<ColdKeys>,
}

impl Work {
    async fn run(self, machine: &RwLock<Machine>) {
        let failure = match self.keys.round(machine).await {
            Ok(()) => None,
            Err(BuildError::Overtaken | BuildError::Store(StoreError::Closed)) => None,
            Err(error) => {
                tracing::error!(%error, retry_in = ?RETRY, "idempotency keys cannot leave memory");
                Some((error.to_string(), Instant::now() + RETRY))
            }
        };
        *self.keys.failure.lock() = failure;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.keys.builder.cancelled.store(false, Ordering::Relaxed);
        self.keys.busy.send_replace(false);
    }
}
