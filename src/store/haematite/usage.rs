//! How much of a state lives, noted beside `CURRENT` so that a start need not count: only a hint, which names the root that
//! it was taken at.

use std::{
    fs,
    path::{Path, PathBuf},
};

use haematite::Hash;

use super::check;

const USAGE: &str = "USAGE";

/// Bytes of a state at a root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) root: Hash,
    pub(super) live: u64,
    pub(super) disk: u64,
}

/// Not synced: what a crash takes is counted again.
pub(super) fn save(state: &Path, count: &Count) {
    let text = format!("{} {} {} {}\n", state_name(state), count.root, count.live, count.disk);
    let (path, temporary) = (usage_file(state), state.with_file_name("USAGE.new"));
    if let Err(error) = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)) {
        tracing::warn!(%error, path = %path.display(), "cannot note how much of the state lives");
    }
}

pub(super) fn load(state: &Path) -> Option<Count> {
    let text = fs::read_to_string(usage_file(state)).ok()?;
    let [name, root, live, disk] = text.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    if name != state_name(state) {
        return None;
    }
    Some(Count { root: check::hash_in(root)?, live: live.parse().ok()?, disk: disk.parse().ok()? })
}

fn usage_file(state: &Path) -> PathBuf {
    state.with_file_name(USAGE)
}

fn state_name(state: &Path) -> &str {
    state.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
