//! Epochs: a state that is restored from a backup begins one. What clients saw after the backup was taken is undone, so
//! each channel remembers where its history went another way, and who comes back from beyond that place is told.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Machine,
    channel::Channel,
    keys::{self, Key},
};
use crate::{
    codec::{decode_record, encode_record},
    model::{ChannelId, ChannelStats, Fork, History, Limits},
};

/// How the plain keys begin that [`begin_epoch`] has to see.
pub const HISTORY_PREFIXES: [&[u8]; 2] = [keys::FORKS, keys::STATS];

/// The plain key and value that say which epoch it is.
pub(super) fn epoch_entry(epoch: u64) -> (Bytes, Bytes) {
    (Key::Epoch.encode(), encode_record(&epoch))
}

/// The plain keys and values that begin an epoch in a state that is restored. `entries` are those of it under
/// [`HISTORY_PREFIXES`], in that order; `history` names what is published from here on, and no other restore has it.
///
/// # Errors
/// Names an entry that cannot be read.
pub fn begin_epoch(
    epoch: u64,
    history: u32,
    entries: impl IntoIterator<Item = (Bytes, Bytes)>,
) -> Result<Vec<(Bytes, Bytes)>, String> {
    let mut known: BTreeMap<ChannelId, Vec<Fork>> = BTreeMap::new();
    let mut begun = vec![epoch_entry(epoch)];
    for (key, value) in entries {
        let name = |reason: String| format!("key `{}`: {reason}", key.escape_ascii());
        match Key::decode(&key) {
            Some(Key::Forks(id)) => {
                known.insert(id, decode_record("forks", &value).map_err(|error| name(error.to_string()))?);
            }
            Some(Key::Stats(id)) => {
                let stats: ChannelStats =
                    decode_record("channel counters", &value).map_err(|error| name(error.to_string()))?;
                let mut forks = known.remove(&id).unwrap_or_default();
                forks.push(Fork { epoch, history, begins: stats.next_seq });
                forget_oldest(&mut forks);
                begun.push((Key::Forks(id).encode(), encode_record(&forks)));
            }
            _ => return Err(name("an epoch begins without it".into())),
        }
    }
    Ok(begun)
}

/// Beyond the limit the oldest forks are forgotten by name: their positions are of a history that nobody knows. What they
/// have undone stays known by the fork after them.
fn forget_oldest(forks: &mut Vec<Fork>) {
    while forks.len() > Limits::FORKS {
        let oldest = forks.remove(0);
        if let Some(next) = forks.first_mut() {
            next.begins = next.begins.min(oldest.begins);
        }
    }
}

impl Machine {
    pub(super) fn restore_epoch(&mut self, value: &[u8]) -> Result<(), String> {
        self.epoch = keys::record("epoch", value)?;
        Ok(())
    }

    pub(super) fn restore_forks(&mut self, id: ChannelId, value: &[u8]) -> Result<(), String> {
        let forks = keys::record("forks", value)?;
        self.restored_channel(id)?.forks = forks;
        Ok(())
    }

    /// A channel's history: what positions are judged by.
    pub fn history(&self, channel: ChannelId) -> Option<History> {
        let Channel { meta, stats, forks, .. } = self.channels.get(&channel)?;
        Some(History::new(meta.clone(), *stats, forks, self.epoch))
    }
}

impl Channel {
    /// No history begins beyond the channel's end.
    pub(super) fn check_forks(&self) -> Result<(), String> {
        match self.forks.iter().find(|fork| fork.begins > self.stats.next_seq) {
            Some(fork) => Err(format!("epoch {} begins at {}, beyond the channel's end", fork.epoch, fork.begins)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_begins_where_each_channel_ends_and_remembers_the_earlier_ones_within_a_limit() {
        let id = ChannelId(3);
        let mut entries: Vec<(Bytes, Bytes)> = Vec::new();
        for epoch in 2..100 {
            // Each one goes back a little further.
            let stats = ChannelStats { next_seq: 1_000 - epoch, ..ChannelStats::default() };
            entries.push((Key::Stats(id).encode(), encode_record(&stats)));
            let begun = begin_epoch(epoch, u32::try_from(epoch).unwrap(), std::mem::take(&mut entries)).unwrap();
            assert_eq!(begun[0], epoch_entry(epoch));
            entries.push(begun[1].clone());
        }
        let forks: Vec<Fork> = decode_record("forks", &entries[0].1).unwrap();
        assert_eq!(forks.len(), Limits::FORKS);
        assert_eq!(forks.last(), Some(&Fork { epoch: 99, history: 99, begins: 901 }));
        assert!(begin_epoch(2, 1, [(Key::Epoch.encode(), Bytes::new())]).is_err());
    }

    #[test]
    fn the_record_of_forks_keeps_its_bytes() {
        let forks = vec![Fork { epoch: 2, history: 9, begins: 70 }];
        let golden = "03040100000000000000020000000000000009000000 4600000000000000".replace(' ', "");
        let bytes: String = encode_record(&forks).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes[..bytes.len() - 8], golden);
    }
}
