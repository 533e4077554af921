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

use super::{HaematiteConfig, blocking, database::OpenDatabase, fold::Folder};
use crate::store::{StateHash, StoreError, StoreInstall, engine::Page};

const CURRENT: &str = "CURRENT";
const FIRST: &str = "state-000001";

/// The name of the live state. Removes states that never became live, or no longer are.
pub(super) fn current(root: &Path) -> Result<String, StoreError> {
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
    if number(&name).is_none() {
        let detail = format!("it names `{name}`, which is no state");
        return Err(StoreError::Corrupt { what: path.display().to_string(), detail });
    }
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let other = entry.file_name().to_string_lossy().into_owned();
        if number(&other).is_some() && other != name {
            tracing::info!(state = other, "removing a state that is not live");
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(name)
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

/// Begins a state beside the live one. Blocks.
pub(super) fn begin(
    root: PathBuf,
    config: HaematiteConfig,
    folder: Folder,
) -> Result<Box<dyn StoreInstall>, StoreError> {
    let live = current(&root)?;
    let name = format!("state-{:06}", number(&live).unwrap_or(0) + 1);
    let database = OpenDatabase::open(&root.join(&name), &config)?;
    Ok(Box::new(Install { root, name, folder, database: Some(database) }))
}

struct Install {
    root: PathBuf,
    name: String,
    folder: Folder,
    /// None only while a blocking task has it.
    database: Option<OpenDatabase>,
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
        let (root, name) = (self.root.clone(), self.name.clone());
        blocking(move || {
            let found = database.view().and_then(|view| super::database::root(&view));
            database.close();
            let found = found?;
            if found != expected {
                let detail = format!("its hash is {found}, not {expected}");
                return Err(StoreError::Corrupt { what: "the snapshot".into(), detail });
            }
            set_current(&root, &name)
        })
        .await?;
        self.folder.swap(self.root.join(&self.name)).await
    }
}

impl Drop for Install {
    fn drop(&mut self) {
        // Given up: the unfinished state is removed at the next start or install.
        if let Some(database) = self.database.take() {
            std::thread::spawn(move || database.close());
        }
    }
}
