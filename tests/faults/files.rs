//! Damage to a node's files. Which files there are is looked up in the directory of a real node, so that a file that
//! comes with a later format is damaged without anybody thinking of it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// What is done to a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is gone.
    Lost,
    /// The second half of what it holds is gone.
    Cut,
    /// One bit in its middle is another.
    Flipped,
    /// What it held some time ago is back.
    Older,
}

impl Damage {
    pub const ALL: [Self; 4] = [Self::Lost, Self::Cut, Self::Flipped, Self::Older];

    /// Whether it can be done to such a kind of file at all.
    pub fn fits(self, kind: &str) -> bool {
        matches!(self, Self::Lost | Self::Older) || !kind.ends_with('/')
    }
}

/// The files and directories of a node, by what they are called when numbers and hashes are left out: `#` stands for
/// these, and a directory ends with `/`. Empty files stand for nothing that could be cut or flipped, but can be lost.
pub fn kinds(dir: &Path) -> io::Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut kinds = BTreeMap::new();
    walk(dir, Path::new(""), &mut kinds)?;
    Ok(kinds)
}

fn walk(root: &Path, within: &Path, kinds: &mut BTreeMap<String, Vec<PathBuf>>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(root.join(within))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = within.join(entry.file_name());
        let directory = entry.file_type()?.is_dir();
        let name = kind_of(&path) + if directory { "/" } else { "" };
        kinds.entry(name).or_default().push(path.clone());
        if directory {
            walk(root, &path, kinds)?;
        }
    }
    Ok(())
}

fn kind_of(path: &Path) -> String {
    let part = |part: &str| {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit()) { "#".into() } else { part.to_owned() }
    };
    let component = |name: std::path::Component<'_>| {
        let name = name.as_os_str().to_string_lossy().into_owned();
        let dots = name.split('.').map(|dots| dots.split('-').map(part).collect::<Vec<_>>().join("-"));
        dots.collect::<Vec<_>>().join(".")
    };
    path.components().map(component).collect::<Vec<_>>().join("/")
}

/// Damages one file or directory of a node that does not run. Gives what was done to which file, after it has looked
/// that it was; an error says why it could not be done.
pub fn damage(
    node: &Path,
    older: Option<&Path>,
    kind: &str,
    damage: Damage,
    round: usize,
) -> Result<(PathBuf, String), String> {
    let found =
        kinds(node).map_err(|error| error.to_string())?.remove(kind).ok_or_else(|| format!("there is no {kind}"))?;
    let newest = |path: &PathBuf| fs::metadata(node.join(path)).and_then(|meta| meta.modified()).ok();
    let mut found = found;
    found.sort_by_key(newest);
    found.reverse();
    if let (Damage::Older, Some(older)) = (damage, older) {
        found.retain(|path| differs(&node.join(path), &older.join(path)));
    }
    let path = found.get(round % found.len().max(1)).cloned().ok_or_else(|| format!("no {kind} has changed"))?;
    let target = node.join(&path);
    let done = match damage {
        Damage::Lost if target.is_dir() => fs::remove_dir_all(&target).map(|()| "removed".to_owned()),
        Damage::Lost => fs::remove_file(&target).map(|()| "removed".to_owned()),
        Damage::Cut => cut(&target),
        Damage::Flipped => flip(&target),
        Damage::Older => bring_back(&older.ok_or("there is no older copy")?.join(&path), &target),
    };
    let done = done.map_err(|error| format!("{}: {error}", path.display()))?;
    if damage == Damage::Lost && target.exists() {
        return Err(format!("{} is still there", path.display()));
    }
    let done = format!("{} {done}", path.display());
    Ok((path, done))
}

/// What it holds, up to the last byte that is not zero: files may be longer than what is written to them.
fn used(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(path)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(end);
    if bytes.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(bytes) }
}

fn cut(path: &Path) -> io::Result<String> {
    let half = used(path)?.len() as u64 / 2;
    fs::File::options().write(true).open(path)?.set_len(half)?;
    Ok(format!("cut to {half} bytes"))
}

fn flip(path: &Path) -> io::Result<String> {
    let bytes = used(path)?;
    let at = bytes.len() / 2;
    fs::File::options().write(true).open(path)?.write_all_at(&[bytes[at] ^ 1], at as u64)?;
    Ok(format!("has another bit in byte {at}"))
}

fn bring_back(older: &Path, target: &Path) -> io::Result<String> {
    if target.is_dir() {
        fs::remove_dir_all(target)?;
    }
    copy(older, target)?;
    Ok("is an older copy".into())
}

/// Copies a file or a directory with everything in it.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Whether the older one is there, and is another.
fn differs(now: &Path, older: &Path) -> bool {
    if !older.exists() {
        return false;
    }
    if now.is_dir() {
        let names =
            |dir: &Path| kinds(dir).map(|kinds| kinds.into_values().flatten().collect::<Vec<_>>()).unwrap_or_default();
        let (mut one, mut other) = (names(now), names(older));
        one.sort();
        other.sort();
        return one != other
            || one.iter().any(|path| now.join(path).is_file() && differs(&now.join(path), &older.join(path)));
    }
    fs::read(now).ok() != fs::read(older).ok()
}

#[test]
fn files_are_of_one_kind_when_only_numbers_and_hashes_tell_them_apart() {
    let dir = tempfile::tempdir().unwrap();
    for path in [
        "raft/0000000000000001.log",
        "raft/0000000000000a02.log",
        "state/CURRENT",
        "state/state-000001/store/fb/c7ab57",
    ] {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), [1, 2, 3, 4, 0, 0]).unwrap();
    }
    let found = kinds(dir.path()).unwrap();
    let files = ["raft/#.log", "state/CURRENT", "state/state-#/store/#/#"];
    let directories = ["raft/", "state/", "state/state-#/", "state/state-#/store/", "state/state-#/store/#/"];
    assert!(
        found
            .keys()
            .eq([files.as_slice(), &directories].concat().into_iter().collect::<std::collections::BTreeSet<_>>()),
        "{found:?}"
    );
    assert_eq!(found["raft/#.log"].len(), 2);

    let read = || fs::read(dir.path().join("state/CURRENT")).unwrap();
    damage(dir.path(), None, "state/CURRENT", Damage::Flipped, 0).unwrap();
    assert_eq!(read(), [1, 2, 2, 4, 0, 0]);
    damage(dir.path(), None, "state/CURRENT", Damage::Cut, 0).unwrap();
    assert_eq!(read(), [1, 2]);
    damage(dir.path(), None, "state/CURRENT", Damage::Lost, 0).unwrap();
    assert!(damage(dir.path(), None, "state/CURRENT", Damage::Lost, 0).is_err(), "what is not there cannot be damaged");
}
