//! How far a pass is, in a small file that is replaced as a whole. It is only worth the reading that it saves: one that
//! is missing or damaged is reported, and the pass begins anew.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::super::log::LogPlace;
use crate::codec;

/// How far a pass is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// When it began, in milliseconds since the Unix epoch.
    pub(super) began_ms: u64,
    /// When the newest complete pass ended; 0: there was none.
    pub(super) completed_ms: u64,
    pub(super) stage: Stage,
    pub(super) state_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) found: u64,
    pub(super) healed: u64,
}

/// What is read next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The state from a key on.
    State(Vec<u8>),
    /// The log from a place on.
    Log(LogPlace),
    /// Nothing: the pass is complete.
    Done,
}

impl Default for Stage {
    fn default() -> Self {
        Self::State(Vec::new())
    }
}

impl Position {
    /// Where the pass before the last stop was; the begin of one that is due when there is none.
    pub(super) async fn load(file: Option<PathBuf>) -> Self {
        let Some(file) = file else { return Self::default() };
        let read = tokio::task::spawn_blocking(move || match read(&file) {
            Ok(position) => position,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "cannot tell how far the search for damage was");
                Self::default()
            }
        });
        read.await.unwrap_or_default()
    }

    pub(super) async fn save(&self, file: &Option<PathBuf>) {
        let Some(file) = file.clone() else { return };
        let bytes = codec::encode_record(self);
        let written = tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&file, &bytes) {
                tracing::warn!(%error, file = %file.display(), "cannot note how far the search for damage is");
            }
        });
        let _ = written.await; // what was not noted is read again
    }
}

fn read(file: &Path) -> io::Result<Position> {
    match fs::read(file) {
        Ok(bytes) => codec::decode_record("scrub position", &bytes).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Position::default()),
        Err(error) => Err(error),
    }
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("new");
    fs::write(&temporary, bytes)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_position_is_read_back_and_a_damaged_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = Some(dir.path().join("scrub"));
        assert_eq!(Position::load(file.clone()).await, Position::default());
        for stage in
            [Stage::State(b"key".to_vec()), Stage::Log(LogPlace { file: 3, offset: 9, after: Some(7) }), Stage::Done]
        {
            let position = Position { began_ms: 5, completed_ms: 3, stage, state_bytes: 10, ..Position::default() };
            position.save(&file).await;
            assert_eq!(Position::load(file.clone()).await, position);
        }
        let path = file.clone().unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            assert_eq!(Position::load(file.clone()).await, Position::default(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(Position::load(file.clone()).await, Position::default(), "cut at {at}");
        }
    }
}
