//! Whether a state is on disk what it must be: its nodes' files are read around every cache.
//!
//! A cache keeps a node that was good when it was read, so damage would show only when memory runs short, or after the
//! next start. Here each file is read anew and its content hashed to its name. A state is walked in the order of its
//! keys, in pieces that begin at a key: what was folded meanwhile changes nothing of that order, so the walk goes on in
//! whatever tree is live when the next piece is read, also in another process.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use bytes::Bytes;
use haematite::{Hash, Node};

use crate::store::StoreError;

/// The most that a node unpacks to; far more than any holds. What a damaged file claims must not take all memory.
const MAX_NODE: u64 = 1 << 30;

/// What reading a piece of a state gave.
pub(super) struct Piece {
    /// Where the next piece begins; none at the end of the state.
    pub(super) next: Option<Bytes>,
    /// Bytes read.
    pub(super) bytes: u64,
    /// A node that cannot be read, and the key at which what it holds begins. The piece ends there, and `next` is
    /// behind everything that is reached through it.
    pub(super) damage: Option<(StoreError, Bytes)>,
}

/// The error of a node that cannot be read.
pub(super) fn damaged(file: &Path, hash: &Hash, detail: impl Into<String>) -> StoreError {
    StoreError::Damaged { file: file.display().to_string(), part: hash.into_bytes(), detail: detail.into() }
}

/// The node in a file's bytes, if it is the one that its name says.
pub(super) fn unpack(hash: &Hash, bytes: &[u8]) -> Result<Node, String> {
    let mut plain = Vec::new();
    let unpacked = zstd::stream::Decoder::new(bytes).and_then(|decoder| decoder.take(MAX_NODE).read_to_end(&mut plain));
    unpacked.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    let found = Hash::of(&plain);
    if found != *hash {
        return Err(format!("what is in it has the hash {found}"));
    }
    Node::deserialise(&plain).map_err(|error| error.to_string())
}

/// The first hash of a node that an error of haematite's names.
pub(super) fn hash_in(text: &str) -> Option<Hash> {
    let digits = text.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64)?;
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Hash::from_bytes(hash))
}

/// Reads a node's file, from the disk where the system lets us, and gives its bytes too.
pub(super) fn read_file(store: &Path, hash: &Hash) -> Result<(Node, Vec<u8>), StoreError> {
    let path = hash.node_file_in(store);
    let bytes = match read_from_disk(&path) {
        Ok(bytes) => bytes,
        Err(error) if is_damage(&error) => return Err(damaged(&path, hash, error.to_string())),
        Err(error) => {
            return Err(StoreError::Failed { action: "read a node", reason: format!("{}: {error}", path.display()) });
        }
    };
    let node = unpack(hash, &bytes).map_err(|detail| damaged(&path, hash, detail))?;
    Ok((node, bytes))
}

/// Whether an error says that the data is not there, and not that the system has no room for the request.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::IO, Errno::NOENT, Errno::ISDIR, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
    gone.contains(&error.raw_os_error()) || error.kind() == io::ErrorKind::UnexpectedEof
}

/// Reads a whole file after having the system forget what it remembers of it.
fn read_from_disk(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    // Where the system does not forget it, what it remembers is looked at.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the nodes of a tree that hold keys from `from` on, until `max_bytes` are read, and at least one leaf.
pub(super) fn check(store: &Path, root: Hash, from: &[u8], max_bytes: u64) -> Result<Piece, StoreError> {
    // What is left to read, the first key first, each with the key at which it begins.
    let mut left = vec![(Bytes::copy_from_slice(from), root)];
    let (mut bytes, mut leaves) = (0, 0);
    while let Some((begin, hash)) = left.pop() {
        if bytes >= max_bytes && leaves > 0 {
            return Ok(Piece { next: Some(begin), bytes, damage: None });
        }
        let (node, file) = match read_file(store, &hash) {
            Ok(read) => read,
            Err(error @ StoreError::Damaged { .. }) => {
                let next = left.pop().map(|(begin, _)| begin);
                return Ok(Piece { next, bytes, damage: Some((error, begin)) });
            }
            Err(error) => return Err(error),
        };
        bytes += file.len() as u64;
        let Node::Internal(internal) = node else {
            leaves += 1;
            continue;
        };
        let children = internal.children();
        let first = children.partition_point(|(first, _)| first[..] <= begin[..]).max(1) - 1;
        let children = children.iter().skip(first).map(|(key, child)| {
            // The first one may begin before what is asked for.
            (if key[..] < begin[..] { begin.clone() } else { Bytes::copy_from_slice(key) }, *child)
        });
        let at = left.len();
        left.extend(children);
        left[at..].reverse();
    }
    Ok(Piece { next: None, bytes, damage: None })
}
