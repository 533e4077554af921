//! What is done before a machine is rebuilt from a store: the files are made to fit what the store holds now, and what
//! memory cannot hold is put into files, so that the machine need not read those keys at all.
//!
//! A file fits when the store has its last entry, byte for byte. One that does not (the state was replaced, or is older
//! than the file because a power cut took the newest of it) is removed, and one that is missing is made again.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{
    ColdKeys, KeyError, Reason, Runs,
    build::{BuildError, Entries, Wanted, page_limit},
    look_up::blocking,
    run::Run,
};
use crate::{
    machine::{
        COUNTERS_PREFIX, ClaimEntry, Machine, Restoring, VERSION_KEY, check_version, claims_key, claims_of,
        counted_keys,
    },
    model::ChannelId,
    store::{PlainKeys, StoreError},
};

/// Plain keys read in one go, at first.
const FIRST_PAGE: usize = 64;
/// Counters read in one go.
const PAGE: usize = 1_000;

/// Why a machine cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What is stored makes no sense.
    #[error("{0}")]
    Corrupt(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files that are needed cannot be written.
    #[error("{0}")]
    Files(String),
}

impl From<KeyError> for RestoreError {
    fn from(error: KeyError) -> Self {
        match error.0 {
            Reason::Build(BuildError::Store(error)) => Self::Store(error),
            Reason::Build(BuildError::Corrupt(reason)) => Self::Corrupt(reason),
            other @ (Reason::Build(_) | Reason::Damaged(_)) => Self::Files(other.to_string()),
        }
    }
}

/// The keys of a channel that no run has: from which name on, and how many.
#[derive(Clone, Copy)]
struct Tail {
    from: u64,
    keys: u64,
}

impl ColdKeys {
    /// Rebuilds the machine from the store. Its keys are in memory as far as there is room, and the older ones in files
    /// from then on.
    ///
    /// # Errors
    /// When the store cannot be read or makes no sense, or when files cannot be written that are needed.
    pub async fn restore(&self) -> Result<Machine, RestoreError> {
        self.rest().await;
        self.cooling.lock().clear();
        self.nothing_at.store(0, Ordering::Relaxed);
        // First: a later version may have written anything.
        for (key, value) in self.builder.state().range(VERSION_KEY, None, 1).await? {
            check_version(&key, &value).map_err(RestoreError::Corrupt)?;
        }
        self.fit().await?;
        match self.restore_once().await {
            Err(RestoreError::Corrupt(reason)) if !self.runs().is_empty() => {
                tracing::error!(
                    reason,
                    "the state is read without its files of idempotency keys, which are made again"
                );
                self.put(Runs::new());
                self.fit().await?;
                self.restore_once().await
            }
            restored => restored,
        }
    }

    /// The same from a state that is about to take the place of the store's, which no command may change until it has.
    ///
    /// # Errors
    /// As [`ColdKeys::restore`].
    pub async fn restore_from(&self, state: Arc<dyn PlainKeys>) -> Result<Machine, RestoreError> {
        // What makes files now reads the state that it is of.
        self.rest().await;
        let live = std::mem::replace(&mut *self.builder.state.write(), state);
        let restored = self.restore().await;
        *self.builder.state.write() = live;
        restored
    }

    async fn restore_once(&self) -> Result<Machine, RestoreError> {
        let (runs, store) = (self.runs(), self.builder.state());
        let mut restoring = Restoring::begin();
        let (mut after, mut limit): (Option<Bytes>, usize) = (None, FIRST_PAGE);
        loop {
            let page = store.range(b"", after.as_deref(), limit).await?;
            limit = page_limit(limit, page.iter().map(|(_, value)| value.len()).sum());
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page.into_iter().map(Machine::without_receipt) {
                let run = claims_of(&key).and_then(|(id, name)| {
                    let run =
                        runs.get(&id)?.iter().find(|run| (run.span.first_seq..=run.span.last_seq).contains(&name))?;
                    Some((run, name))
                });
                let Some((run, name)) = run else {
                    restoring.add(&key, &value).map_err(RestoreError::Corrupt)?;
                    continue;
                };
                let entries = self.entries(run).await.map_err(RestoreError::Corrupt)?;
                let entries = entries.into_iter().filter(|entry| entry.first_seq >= name);
                restoring.add_cold(run.span.channel, entries).map_err(RestoreError::Corrupt)?;
                after = Some(claims_key(run.span.channel, run.span.last_seq));
                break;
            }
        }
        restoring.finish().map_err(RestoreError::Corrupt)
    }

    async fn entries(&self, run: &Arc<Run>) -> Result<Vec<ClaimEntry>, String> {
        let entries = if self.builder.files.is_disk() {
            let run = run.clone();
            blocking(move || run.entries()).await.map_err(|error| error.to_string())?
        } else {
            run.entries()
        };
        entries.map_err(|damaged| damaged.to_string())
    }

    /// Makes the runs fit the store, and as many as are needed.
    async fn fit(&self) -> Result<(), KeyError> {
        let counted = self.counted().await?;
        let all: u64 = counted.values().sum();
        let mut old = Runs::clone(&self.runs());
        if old.is_empty() && all <= self.sizes.hot_beside(0) {
            return Ok(());
        }
        let (mut fitting, mut tails) = (Runs::new(), BTreeMap::new());
        for (channel, live) in counted {
            let (runs, tail) = self.fit_channel(channel, live, old.remove(&channel).unwrap_or_default()).await?;
            fitting.insert(channel, runs);
            tails.extend(tail.map(|tail| (channel, tail)));
        }
        self.put(fitting);
        self.move_tails(tails).await
    }

    /// How many live keys each channel counts.
    async fn counted(&self) -> Result<BTreeMap<ChannelId, u64>, KeyError> {
        let (mut counted, mut after): (BTreeMap<ChannelId, u64>, Option<Bytes>) = (BTreeMap::new(), None);
        loop {
            let page = self.builder.state().range(COUNTERS_PREFIX, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(counted) };
            after = Some(last.clone());
            for (key, value) in page {
                let name = |reason| BuildError::Corrupt(format!("key `{}`: {reason}", key.escape_ascii()));
                let found = counted_keys(&key, &value).map_err(name)?;
                counted.extend(found.filter(|(_, keys)| *keys > 0));
            }
        }
    }

    /// The runs of a channel that fit, with those between that were missing, and what is behind them.
    async fn fit_channel(
        &self,
        channel: ChannelId,
        live: u64,
        old: Vec<Arc<Run>>,
    ) -> Result<(Vec<Arc<Run>>, Option<Tail>), KeyError> {
        let (mut runs, mut covered, mut next) = (Vec::new(), 0, self.name_after(channel, None).await?);
        for run in old {
            let Some(mut from) = next.filter(|next| run.span.last_seq >= *next) else { continue };
            if !self.fits(&run).await? {
                continue;
            }
            while from < run.span.first_seq {
                let wanted = Wanted { channel, from, to: run.span.first_seq - 1, keys: self.sizes.moved };
                let Some(missing) = self.builder.build(wanted).await? else { break };
                from = missing.span.last_seq + 1;
                covered += missing.span.keys;
                runs.push(Arc::new(missing));
            }
            match self.entries(&run).await {
                Ok(entries) => {
                    let live = entries.iter().filter(|entry| entry.first_seq >= from);
                    covered += live.map(|entry| entry.keys).sum::<u64>();
                }
                Err(damaged) => {
                    tracing::warn!(damaged, "the keys in it are put into a new file");
                    next = Some(from);
                    continue;
                }
            }
            next = self.name_after(channel, Some(run.span.last_seq)).await?;
            runs.push(run);
        }
        Ok((runs, next.map(|from| Tail { from, keys: live.saturating_sub(covered) })))
    }

    /// Whether the store has the last entry of a run as it was.
    async fn fits(&self, run: &Run) -> Result<bool, KeyError> {
        let last = self.builder.state().get(&claims_key(run.span.channel, run.span.last_seq)).await?;
        Ok(last.is_some_and(|last| *blake3::hash(&last).as_bytes() == run.last_claims))
    }

    /// The first entry of a channel behind one.
    async fn name_after(&self, channel: ChannelId, name: Option<u64>) -> Result<Option<u64>, KeyError> {
        let page = Entries::after(channel, name).next(&*self.builder.state()).await?;
        Ok(page.first().map(|(name, _)| *name))
    }

    /// Puts keys that no run has into runs until memory can hold the others.
    async fn move_tails(&self, mut tails: BTreeMap<ChannelId, Tail>) -> Result<(), KeyError> {
        loop {
            let hot: u64 = tails.values().map(|tail| tail.keys).sum();
            let Some((channel, longest)) = tails.iter_mut().max_by_key(|(_, tail)| tail.keys) else { return Ok(()) };
            let enough = hot <= self.sizes.hot_beside(self.in_runs.load(Ordering::Relaxed));
            if enough || longest.keys < self.sizes.fewest {
                return Ok(());
            }
            let wanted = Wanted { channel: *channel, from: longest.from, to: u64::MAX, keys: self.sizes.moved };
            let Some(run) = self.builder.build(wanted).await? else {
                longest.keys = 0;
                continue;
            };
            *longest = Tail { from: run.span.last_seq + 1, keys: longest.keys.saturating_sub(run.span.keys) };
            let mut runs = Runs::clone(&self.runs());
            runs.entry(*channel).or_default().push(Arc::new(run));
            self.put(runs);
        }
    }
}
