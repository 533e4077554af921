//! Which state of a data directory is live, and how another one takes its place.
//!
//! `CURRENT` is replaced by rename, with the new state complete and durable before: a crash at any point leaves the
//! old or the new state, and an unfinished one is removed at the next start.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::{HaematiteConfig, blocking, compact, database::OpenDatabase, fold::Folder};
use crate::store::{StateHash, StoreError, StoreInstall, engine::Page};

const CURRENT: &str = "CURRENT";
const FIRST: &str = "state-000001";

/// The name of the live state, and the highest number of any. Removes states that never became live, or no longer are: only to be
/// called while nobody has the store open.
pub(super) fn current(root: &Path) -> Result<(String, u64), StoreError> {
    let failed = |error: io::Error| super::database::failed("read the data directory", &error);
    let path = root.join(CURRENT);
    let name = match fs::read_to_string(&path) {
        Ok(name) => name.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if root.join(FIRST).exists() && fs::read_dir(root.join(FIRST)).map_err(failed)?.next().is_some() {
                let detail = format!("it is missing, but {FIRST} is there");
                return Err(StoreError::Corrupt { what: path.display().to_string(), detail });
            }
            set_current(root, FIRST)?;
            FIRST.to_owned()
        }
        Err(error) => return Err(failed(error)),
    };
    let Some(mut highest) = number(&name) else {
        let detail = format!("it names `{name}`, which is no state");
        return Err(StoreError::Corrupt { what: path.display().to_string(), detail });
    };
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = number(&other) else { continue };
        highest = highest.max(number); // of one that cannot be removed, too
        if other != name {
            tracing::info!(state = other, "removing a state that is not live");
            compact::remove(&entry.path());
        }
    }
    Ok((name, highest))
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("state-")?.parse().ok()
}

fn set_current(root: &Path, name: &str) -> Result<(), StoreError> {
    let replace = || -> io::Result<()> {
        let temporary = root.join("CURRENT.new");
        fs::write(&temporary, format!("{name}\n"))?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, root.join(CURRENT))?;
        File::open(root)?.sync_all()
    };
    replace().map_err(|error| super::database::failed("name the live state", &error))
}

/// Why another state could not be made live.
pub(super) enum SwapError {
    /// The live one stays so.
    Unchanged(StoreError),
    /// Nobody knows which one a power cut would leave.
    Unknown(StoreError),
}

/// Makes the complete and durable state `next` the live one instead of `present`.
pub(super) fn make_current(next: &Path, present: &Path) -> Result<(), SwapError> {
    let name = |state: &Path| state.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = next.parent().unwrap_or(Path::new("."));
    set_current(root, &name(next)).map_err(|error| match fs::read_to_string(root.join(CURRENT)) {
        Ok(found) if found.trim() == name(present) => SwapError::Unchanged(error),
        _ => SwapError::Unknown(error),
    })
}

/// Begins a state beside the live one. Blocks.
pub(super) fn begin(
    dir: PathBuf,
    config: &HaematiteConfig,
    folder: Folder,
) -> Result<Box<dyn StoreInstall>, StoreError> {
    let database = OpenDatabase::open(&dir, config)?;
    Ok(Box::new(Install { dir, folder, database: Some(database), is_live: false }))
}

struct Install {
    dir: PathBuf,
    folder: Folder,
    /// None only while a blocking task has it.
    database: Option<OpenDatabase>,
    is_live: bool,
}

#[async_trait]
impl StoreInstall for Install {
    async fn put(&mut self, page: Page) -> Result<(), StoreError> {
        let mut database = self.database.take().ok_or(StoreError::Closed)?;
        let changes = page.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let (database, written) = blocking(move || {
            let written = database.write(&changes);
            Ok((database, written))
        })
        .await?;
        self.database = Some(database);
        written
    }

    async fn finish(mut self: Box<Self>, expected: StateHash) -> Result<(), StoreError> {
        let database = self.database.take().ok_or(StoreError::Closed)?;
        blocking(move || {
            let found = database.view().and_then(|view| super::database::root(&view));
            database.close();
            let found = found?;
            if found != expected {
                let detail = format!("its hash is {found}, not {expected}");
                return Err(StoreError::Corrupt { what: "the snapshot".into(), detail });
            }
            Ok(())
        })
        .await?;
        // From here on the folding thread decides, and what it decided may be more than it could tell.
        self.is_live = true;
        self.folder.swap(self.dir.clone()).await
    }
}

impl Drop for Install {
    fn drop(&mut self) {
        if self.is_live {
            return;
        }
        let (database, dir) = (self.database.take(), self.dir.clone());
        std::thread::spawn(move || {
            if let Some(database) = database {
                database.close();
            }
            compact::remove(&dir);
        });
    }
}
