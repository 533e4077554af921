//! Looks up the keys of a command: filters first, then files, then the store.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ColdKeys, Found, KeyError, QUICK, Runs,
    build::{Wanted, decode},
    run::{Damaged, Run, Salt},
};
use crate::{
    machine::claims_key,
    model::{ChannelId, KeyHash},
    store::StoreError,
};

impl ColdKeys {
    /// Finds the keys of channels that are in files and in their windows; `asks` are of the state as it is.
    ///
    /// # Errors
    /// When a file or the store cannot be read; a file that is damaged is made again first. It may be tried again.
    pub async fn look_up(&self, asks: &BTreeMap<ChannelId, Vec<KeyHash>>) -> Result<Vec<Found>, KeyError> {
        let runs = self.runs();
        let looks: usize = asks.iter().map(|(id, keys)| keys.len() * runs.get(id).map_or(0, Vec::len)).sum();
        let salt = &self.builder.salt;
        let is_disk = self.builder.files.is_disk();
        let sifted = if is_disk && looks > QUICK {
            let (asks, salt) = (asks.clone(), salt.clone());
            blocking(move || sift(&runs, &salt, &asks)).await?
        } else {
            sift(&runs, salt, asks)
        };
        if sifted.is_empty() {
            return Ok(Vec::new());
        }
        let read = if is_disk { blocking(move || read(sifted)).await? } else { read(sifted) };
        let places = match read {
            Ok(places) => places,
            Err((run, damaged)) => {
                self.make_again(&run).await?;
                return Err(KeyError(damaged.into()));
            }
        };
        let mut found = Vec::new();
        for ((channel, name), keys) in places {
            let Some(value) = self.builder.state().get(&claims_key(channel, name)).await? else { continue };
            let stored = decode(channel, name, &value)?;
            let wanted = stored.keys().filter(|(key, ..)| keys.contains(key));
            found.extend(wanted.map(|(key, seq, digest)| Found { channel, key, seq, digest }));
        }
        Ok(found)
    }

    /// Makes a run that cannot be read again from the store.
    async fn make_again(&self, damaged: &Run) -> Result<(), KeyError> {
        self.rest().await;
        let of_channel = self.runs();
        let of_channel = of_channel.get(&damaged.span.channel);
        if !of_channel.is_some_and(|runs| runs.iter().any(|run| std::ptr::eq(&**run, damaged))) {
            return Ok(()); // others are in its place by now
        }
        let span = damaged.span;
        tracing::error!(file = damaged.name, "a file of idempotency keys is damaged; it is made again from the store");
        let wanted = Wanted { channel: span.channel, from: span.first_seq, to: span.last_seq, keys: span.keys };
        let made = self.builder.build(wanted).await?.map(Arc::new);
        let mut runs = Runs::clone(&self.runs());
        if let Some(of_channel) = runs.get_mut(&span.channel) {
            let at = of_channel.iter().position(|run| run.name == damaged.name);
            at.map(|at| of_channel.splice(at..=at, made).count());
        }
        self.put(runs);
        Ok(())
    }
}

/// A key that may be in a run.
struct Sifted {
    run: Arc<Run>,
    key: KeyHash,
    hash: u64,
    places: std::ops::Range<u64>,
}

/// The keys that filters do not deny, in the order in which they lie in files.
fn sift(runs: &Runs, salt: &Salt, asks: &BTreeMap<ChannelId, Vec<KeyHash>>) -> Vec<Sifted> {
    let mut sifted = Vec::new();
    for (channel, keys) in asks {
        let Some(runs) = runs.get(channel) else { continue };
        let mut hashes: Vec<(u64, KeyHash)> = keys.iter().map(|key| (salt.hash(*key), *key)).collect();
        hashes.sort_unstable();
        for run in runs {
            for (hash, key) in &hashes {
                let places = run.places(*hash);
                if !places.is_empty() {
                    sifted.push(Sifted { run: run.clone(), key: *key, hash: *hash, places });
                }
            }
        }
    }
    sifted
}

/// Stored entries, each with the keys that it may have.
type Suspects = BTreeMap<(ChannelId, u64), Vec<KeyHash>>;

/// Those to look into. Blocks.
fn read(sifted: Vec<Sifted>) -> Result<Suspects, (Arc<Run>, Damaged)> {
    let mut entries = Suspects::new();
    for Sifted { run, key, hash, places } in sifted {
        match run.read(hash, places) {
            Ok(names) => {
                for name in names {
                    entries.entry((run.span.channel, name)).or_default().push(key);
                }
            }
            Err(damaged) => return Err((run, damaged)),
        }
    }
    Ok(entries)
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, KeyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Failed { action: "look idempotency keys up", reason: error.to_string() }.into())
}
