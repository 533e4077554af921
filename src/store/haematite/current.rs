//! Which state of a data directory is live: the file `CURRENT`.
//!
//! It is replaced by rename, with the new state complete and durable before: a crash at any point leaves the old or the
//! new state. Besides the live state it names those that this one took the place of, and only they are removed at the
//! next start. A state that is still being made has a file `state-….unfinished` beside it, until it is live; one that a
//! crash left is removed with it. Whatever else is there is left alone: nobody knows what it is worth.
//!
//! ```text
//! CURRENT 2
//! live state-000003
//! owner 5300743906042541              the node, where one is known
//! config 1a2b3c4d                     checksum of the state's config.json, which does not change
//! supersedes state-000001 state-000002
//! checksum 1a2b3c4d                   of all lines before
//! ```
//!
//! Earlier builds wrote only the name of the live state; such a file is read, checked and replaced.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{database, view::remove};
use crate::{
    files::{self, WAY_OUT},
    store::StoreError,
};

const CURRENT: &str = "CURRENT";
const HEADER: &str = "CURRENT 2";
const FIRST: &str = "state-000001";
const UNFINISHED: &str = "unfinished";
/// Haematite's description of a state.
const CONFIG: &str = "config.json";
/// What a start finds.
#[derive(Debug)]
pub(super) struct Found {
    /// The live state; one that is yet to be made where `is_new`.
    pub(super) name: String,
    /// The highest number of any state.
    pub(super) highest: u64,
    /// There is no state yet: [`establish`] has to follow once there is.
    pub(super) is_new: bool,
}

/// The content of `CURRENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Current {
    live: String,
    owner: Option<u64>,
    /// None in a file of an earlier version.
    config: Option<String>,
    supersedes: BTreeSet<String>,
}

/// Why another state could not be made live.
pub(super) enum SwapError {
    /// The live one stays so.
    Unchanged(StoreError),
    /// Nobody knows which one a power cut would leave.
    Unknown(StoreError),
}

/// Whether a directory holds a store, or the rest of one.
pub(super) fn is_there(root: &Path) -> bool {
    root.join(CURRENT).exists() || states(root).is_ok_and(|states| !states.is_empty())
}

/// The live state of a directory, which `owner` must not find to be another node's. Removes what was superseded or never
/// became live: only to be called while nobody has the store open.
pub(super) fn find(root: &Path, owner: Option<u64>) -> Result<Found, StoreError> {
    let states = states(root)?;
    let Some(mut current) = read(root)? else { return first(root, states) };
    let path = root.join(CURRENT);
    let config = check(root, &current, &states)?;
    if let (Some(found), Some(expected)) = (current.owner, owner)
        && found != expected
    {
        let detail = format!("it is the state of node {found}, and this node is {expected}: {WAY_OUT}");
        return Err(corrupt(&path, detail));
    }
    if current.config.is_none() || (current.owner.is_none() && owner.is_some()) {
        current.config = Some(config);
        current.owner = current.owner.or(owner);
        write(root, &current)?;
    }
    let others: Vec<String> = entries(root)?.into_iter().filter(|name| *name != current.live).collect();
    let mut highest = number(&current.live).unwrap_or(0);
    for other in others.iter().filter(|other| number(other).is_some()) {
        highest = highest.max(number(other).unwrap_or(0)); // of one that cannot be removed, too
        if !states.contains(other) && fs::remove_dir(root.join(other)).is_ok() {
            continue; // it was empty
        }
        if current.supersedes.contains(other) || unfinished(&root.join(other)).exists() {
            tracing::info!(state = other, "removing a state that is not live");
            remove(&root.join(other));
        } else {
            let state = root.join(other);
            tracing::warn!(
                state = %state.display(),
                "this state is not live, and nothing says that it was superseded: it is left alone; remove it yourself \
                 if nobody misses it"
            );
        }
    }
    for name in entries(root)? {
        if let Some(state) = name.strip_suffix(UNFINISHED).and_then(|name| name.strip_suffix('.'))
            && (state == current.live || !root.join(state).exists())
        {
            finished(&root.join(state));
        }
    }
    Ok(Found { name: current.live, highest, is_new: false })
}

/// A directory without `CURRENT`: all that may be there is a first state that a crash interrupted.
fn first(root: &Path, states: BTreeSet<String>) -> Result<Found, StoreError> {
    let begun = |state: &String| state == FIRST && unfinished(&root.join(FIRST)).exists();
    if let Some(state) = states.iter().find(|state| !begun(state)) {
        let detail = format!("it is missing, but {state} is there: {WAY_OUT}");
        return Err(corrupt(&root.join(CURRENT), detail));
    }
    remove(&root.join(FIRST));
    begin(&root.join(FIRST))?;
    Ok(Found { name: FIRST.to_owned(), highest: 1, is_new: true })
}

/// Makes the first state live, which is complete and durable now.
pub(super) fn establish(root: &Path, owner: Option<u64>) -> Result<(), StoreError> {
    let state = root.join(FIRST);
    let config = Some(config_checksum(&state)?);
    write(root, &Current { live: FIRST.to_owned(), owner, config, supersedes: BTreeSet::new() })?;
    finished(&state);
    Ok(())
}

/// Notes durably that a state is about to be made: until it is live, it is worth nothing.
pub(super) fn begin(state: &Path) -> Result<(), StoreError> {
    let note = || -> io::Result<()> {
        File::create(unfinished(state))?.sync_all()?;
        File::open(state.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    note().map_err(|error| StoreError::Failed {
        action: "begin a state",
        reason: format!("{}: {error}", unfinished(state).display()),
    })
}

/// Removes a state that did not become live, and the note that it was begun.
pub(super) fn abandon(state: &Path) {
    remove(state);
    if !state.exists() {
        finished(state);
    }
}

/// Makes the complete and durable state `next` the live one instead of `present`.
pub(super) fn make_current(next: &Path, present: &Path) -> Result<(), SwapError> {
    let name = |state: &Path| state.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = next.parent().unwrap_or(Path::new("."));
    let lost = || corrupt(&root.join(CURRENT), "it is not there any more".to_owned());
    let prepared = read(root).and_then(|current| {
        let mut current = current.ok_or_else(lost)?;
        current.supersedes.retain(|state| root.join(state).exists());
        current.supersedes.insert(name(present));
        current.supersedes.remove(&name(next));
        Ok(Current { live: name(next), config: Some(config_checksum(next)?), ..current })
    });
    let current = prepared.map_err(SwapError::Unchanged)?;
    write(root, &current).map_err(|error| match read(root) {
        Ok(Some(found)) if found.live == name(present) => SwapError::Unchanged(error),
        _ => SwapError::Unknown(error),
    })?;
    finished(next);
    Ok(())
}

/// The live state is there and is one of ours. Gives the checksum of its configuration.
fn check(root: &Path, current: &Current, states: &BTreeSet<String>) -> Result<String, StoreError> {
    let live = &current.live;
    if !states.contains(live) {
        let present: Vec<&str> = states.iter().map(String::as_str).collect();
        let detail = format!("it names `{live}`, which is not there; there is [{}]: {WAY_OUT}", present.join(", "));
        return Err(corrupt(&root.join(CURRENT), detail));
    }
    let state = root.join(live);
    if unfinished(&state).exists() && current.config.is_none() {
        return Err(corrupt(&root.join(CURRENT), format!("it names `{live}`, which was never finished: {WAY_OUT}")));
    }
    let config = config_checksum(&state)?;
    if let Some(expected) = current.config.as_ref().filter(|expected| **expected != config) {
        let detail = format!("its checksum is {config}, not {expected}: {WAY_OUT}");
        return Err(corrupt(&state.join(CONFIG), detail));
    }
    Ok(config)
}

/// The checksum of a state's configuration, which has to be one that we make.
fn config_checksum(state: &Path) -> Result<String, StoreError> {
    let path = state.join(CONFIG);
    let bytes = fs::read(&path).map_err(|error| corrupt(&path, format!("{error}: {WAY_OUT}")))?;
    let config: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| corrupt(&path, format!("{error}: {WAY_OUT}")))?;
    match config.get("shard_count").and_then(serde_json::Value::as_u64) {
        Some(1) => Ok(files::checksum(&bytes)),
        other => {
            let other = other.map_or("none".to_owned(), |count| count.to_string());
            Err(corrupt(&path, format!("its shard_count is {other}, and every state has 1: {WAY_OUT}")))
        }
    }
}

fn corrupt(path: &Path, detail: String) -> StoreError {
    StoreError::Corrupt { what: path.display().to_string(), detail }
}

fn unfinished(state: &Path) -> PathBuf {
    state.with_extension(UNFINISHED)
}

fn finished(state: &Path) {
    let path = unfinished(state);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove a note that is not needed any more");
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("state-")?.parse().ok()
}

fn entries(root: &Path) -> Result<Vec<String>, StoreError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(root)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(|error| StoreError::Failed {
        action: "read the data directory",
        reason: format!("{}: {error}", root.display()),
    })
}

/// The directories of states that hold anything.
fn states(root: &Path) -> Result<BTreeSet<String>, StoreError> {
    let holds = |name: &String| fs::read_dir(root.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    Ok(entries(root)?.into_iter().filter(|name| number(name).is_some() && holds(name)).collect())
}

fn read(root: &Path) -> Result<Option<Current>, StoreError> {
    let path = root.join(CURRENT);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(corrupt(&path, format!("it cannot be read: {error}"))),
    };
    Current::decode(&bytes).map(Some).map_err(|reason| corrupt(&path, format!("{reason}: {WAY_OUT}")))
}

fn write(root: &Path, current: &Current) -> Result<(), StoreError> {
    files::replace(&root.join(CURRENT), current.encode().as_bytes())
        .map_err(|error| database::failed("name the live state", &error))
}

impl Current {
    fn encode(&self) -> String {
        let mut text = format!("{HEADER}\nlive {}\n", self.live);
        if let Some(owner) = self.owner {
            text += &format!("owner {owner}\n");
        }
        if let Some(config) = &self.config {
            text += &format!("config {config}\n");
        }
        if !self.supersedes.is_empty() {
            let names: Vec<&str> = self.supersedes.iter().map(String::as_str).collect();
            text += &format!("supersedes {}\n", names.join(" "));
        }
        let checksum = files::checksum(text.as_bytes());
        text + &format!("checksum {checksum}\n")
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        if !text.starts_with(HEADER) {
            let live = text.trim().to_owned();
            if number(&live).is_none() {
                return Err(format!("it names `{}`, which is no state", live.escape_debug()));
            }
            return Ok(Self { live, owner: None, config: None, supersedes: BTreeSet::new() });
        }
        let cut = || "it is cut off: its checksum is missing".to_owned();
        let (content, checksum) = text.rsplit_once("checksum ").ok_or_else(cut)?;
        if checksum.strip_suffix('\n').ok_or_else(cut)? != files::checksum(content.as_bytes()) {
            return Err("it is damaged: its checksum is another one".to_owned());
        }
        let field = |name: &str| content.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let live = field("live").filter(|live| number(live).is_some()).ok_or("it names no state")?.to_owned();
        let owner = field("owner").map(str::parse).transpose().map_err(|_| "its owner is no node's id")?;
        let names = field("supersedes").unwrap_or_default().split_whitespace();
        Ok(Self {
            live,
            owner,
            config: field("config").map(str::to_owned),
            supersedes: names.map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
