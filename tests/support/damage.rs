//! Damage done to the files of a state, as a disk does it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use liminal::store::{DurableStore, PartHash};

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Flip,
    Cut,
    Remove,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::Flip, Self::Cut, Self::Remove];

    pub fn strike(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        match self {
            Self::Flip => bytes[middle] ^= 1,
            Self::Cut => bytes.truncate(middle),
            Self::Remove => return fs::remove_file(file).unwrap(),
        }
        // In place, so that every hard link of the file has it.
        fs::write(file, bytes).unwrap();
    }
}

/// The file of a part of a store in a directory; `state` names the directory of the live state.
pub fn part_file(store: &Path, state: &str, part: &PartHash) -> PathBuf {
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    store.join(state).join("shard-0/store").join(&hex[..2]).join(&hex[2..])
}

/// The name of a store's live state.
pub fn live_state(store: &Path) -> String {
    let current = fs::read_to_string(store.join("CURRENT")).unwrap();
    current.lines().find_map(|line| line.strip_prefix("live ")).unwrap().to_owned()
}

/// The files of all parts of the live state. Whatever was committed is in them then.
pub async fn files(store: &dyn DurableStore, dir: &Path) -> Vec<(PartHash, PathBuf)> {
    let parts = store.snapshot().await.unwrap().parts().await.unwrap().expect("a store on disk knows its parts");
    let state = live_state(dir);
    parts.into_iter().map(|part| (part, part_file(dir, &state, &part))).collect()
}
