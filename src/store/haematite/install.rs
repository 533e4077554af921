//! How a state that comes from another node takes the place of the live one.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use haematite::Hash;
use parking_lot::Mutex;

use super::{
    blocking::blocking,
    check,
    config::HaematiteConfig,
    current,
    database::{self, OpenDatabase},
    fold::Folder,
    healing,
    links::{Links, sync_rest},
    memtable::Entries,
    nodes::Nodes,
    scan::Walk,
    view::View,
};
use crate::store::{PartHash, PlainKeys, StateHash, StoreError, StoreInstall, engine::Page, keys};

/// Begins a state beside the live one.
pub(super) fn begin(dir: PathBuf, config: HaematiteConfig, folder: Folder, live: Arc<View>) -> Box<dyn StoreInstall> {
    Box::new(Install { dir, config, folder, live, content: Content::Empty, is_live: false })
}

struct Install {
    dir: PathBuf,
    config: HaematiteConfig,
    folder: Folder,
    /// What is there already need not be sent.
    live: Arc<View>,
    content: Content,
    is_live: bool,
}

/// How the state comes in.
enum Content {
    Empty,
    Pages(Box<OpenDatabase>),
    /// Nodes in the directory of a prepared database.
    Parts,
    /// Whole and durable, with this hash.
    Checked(StateHash),
    /// A blocking task has it, or had it and failed.
    Taken,
}

impl Install {
    fn take(&mut self) -> Content {
        std::mem::replace(&mut self.content, Content::Taken)
    }
}

/// The plain keys of a state that is whole and not live yet.
struct Staged {
    dir: PathBuf,
    root: Hash,
    cache_bytes: usize,
    /// Kept for the next read: opening one syncs a directory.
    reader: Arc<Mutex<Option<Nodes>>>,
}

impl Staged {
    async fn page(&self, from: Bytes, to: Bytes, limit: usize) -> Result<Page, StoreError> {
        let (dir, root, cache_bytes, reader) = (self.dir.clone(), self.root, self.cache_bytes, self.reader.clone());
        blocking(move || {
            let kept = reader.lock().take();
            let nodes = match kept {
                Some(nodes) => nodes,
                None => Nodes::open(&dir, cache_bytes)?,
            };
            let mut page = Page::new();
            {
                let mut walk = Walk::begin(&nodes, root, &from, &to)?;
                while page.len() < limit
                    && let Some(entry) = walk.next()?
                {
                    page.push(entry);
                }
            }
            *reader.lock() = Some(nodes);
            Ok(page)
        })
        .await
    }
}

#[async_trait]
impl PlainKeys for Staged {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let key = keys::plain(key);
        let behind = [&key[..], &[0]].concat().into();
        Ok(self.page(key, behind, 1).await?.pop().map(|(_, value)| value))
    }

    async fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        let (from, to) = keys::plain_range(prefix, after);
        let page = self.page(from, to, limit).await?;
        Ok(page.into_iter().map(|(key, value)| (key.slice(1..), value)).collect())
    }
}

#[async_trait]
impl StoreInstall for Install {
    async fn put(&mut self, page: Page) -> Result<(), StoreError> {
        let changes: Entries = page.into_iter().map(|(key, value)| (key, Some(value.into()))).collect();
        let (content, dir, config) = (self.take(), self.dir.clone(), self.config.clone());
        let (database, written) = blocking(move || {
            let mut database = match content {
                Content::Empty => Box::new(OpenDatabase::open(&dir, &config)?),
                Content::Pages(database) => database,
                Content::Parts | Content::Checked(_) | Content::Taken => return Err(StoreError::Closed),
            };
            let written = database.write(&changes);
            Ok((database, written))
        })
        .await?;
        self.content = Content::Pages(database);
        written
    }

    async fn lacking(&mut self, parts: Vec<PartHash>) -> Result<Vec<u32>, StoreError> {
        let (content, dir, config, live) = (self.take(), self.dir.clone(), self.config.clone(), self.live.clone());
        let lacking = blocking(move || {
            let Content::Empty = content else { return Err(StoreError::Closed) };
            OpenDatabase::prepare(&dir, &config)?;
            let nodes = Nodes::open(&live.dir.path, config.accounting_cache_bytes)?;
            let store = database::nodes_dir(&live.dir.path);
            let mut links = Links::new(&nodes, &dir);
            let mut lacking = Vec::new();
            for (position, hash) in (0..).zip(parts) {
                let hash = Hash::from_bytes(hash);
                // What is damaged here is lacking, too: so a snapshot heals it.
                match check::read_file(&store, &hash) {
                    Ok(_) => links.add(&hash)?,
                    Err(StoreError::Damaged { .. }) => lacking.push(position),
                    Err(error) => return Err(error),
                }
            }
            links.sync()?;
            Ok(lacking)
        });
        let lacking = lacking.await?;
        self.content = Content::Parts;
        Ok(lacking)
    }

    async fn put_part(&mut self, hash: PartHash, bytes: Bytes) -> Result<(), StoreError> {
        let Content::Parts = self.content else { return Err(StoreError::Closed) };
        let dir = self.dir.clone();
        blocking(move || healing::write_node(&database::nodes_dir(&dir), &Hash::from_bytes(hash), &bytes)).await
    }

    async fn check(&mut self, expected: StateHash) -> Result<(), StoreError> {
        let (content, dir, config) = (self.take(), self.dir.clone(), self.config.clone());
        blocking(move || {
            let database = match content {
                Content::Pages(database) => *database,
                Content::Empty => OpenDatabase::open(&dir, &config)?,
                Content::Checked(_) | Content::Taken => return Err(StoreError::Closed),
                Content::Parts => {
                    let root = Hash::from_bytes(expected.0);
                    // Each was checked when it came; that they are all there, the walk shows.
                    Nodes::open(&dir, config.accounting_cache_bytes)?.is_whole(root)?;
                    OpenDatabase::adopt(&dir, &config, root)?
                }
            };
            let found = database.view().and_then(|view| database::root(&view));
            database.close();
            let found = found?;
            if found != expected {
                let detail = format!("its hash is {found}, not {expected}");
                return Err(StoreError::Corrupt { what: "the snapshot".into(), detail });
            }
            sync_rest(&dir)
        })
        .await?;
        self.content = Content::Checked(expected);
        Ok(())
    }

    fn plain_keys(&self) -> Option<Arc<dyn PlainKeys>> {
        let Content::Checked(hash) = self.content else { return None };
        let (dir, root, cache_bytes) = (self.dir.clone(), Hash::from_bytes(hash.0), self.config.accounting_cache_bytes);
        Some(Arc::new(Staged { dir, root, cache_bytes, reader: Arc::default() }))
    }

    async fn finish(&mut self, expected: StateHash) -> Result<(), StoreError> {
        if !matches!(self.content, Content::Checked(hash) if hash == expected) {
            self.check(expected).await?;
        }
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
        let (content, dir) = (self.take(), self.dir.clone());
        std::thread::spawn(move || {
            if let Content::Pages(database) = content {
                database.close();
            }
            current::abandon(&dir);
        });
    }
}
