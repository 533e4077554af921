//! Deletes that are cut out of the tree as a range, because one by one they would take minutes.

use super::memtable::Entries;
use crate::store::keys;

/// Deletes in a row that are cut out of the tree rather than made one by one: beginning a branch takes a few syncs.
pub(super) const RUN: usize = 64;

/// Deletes of the claims of one channel with no other change between them. They are lost from the first on, without leaving
/// any out, so the tree has nothing else between the first of them and the last. That is not so of batches, which compaction
/// takes from the middle of a stream: whoever deletes many of them says so by a cut.
pub(super) struct Run<'a> {
    pub(super) first: &'a [u8],
    pub(super) last: &'a [u8],
    pub(super) keys: Vec<&'a [u8]>,
}

pub(super) fn runs(changes: &Entries) -> Vec<Run<'_>> {
    let (mut found, mut keys): (Vec<Run<'_>>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for (key, value) in changes {
        let row = keys::claims_row(key);
        let deleted = value.is_none() && row.is_some();
        if !deleted || keys.last().is_some_and(|last| keys::claims_row(last) != row) {
            found.extend(Run::of(std::mem::take(&mut keys)));
        }
        if deleted {
            keys.push(key);
        }
    }
    found.extend(Run::of(keys));
    found
}

impl<'a> Run<'a> {
    /// None when they are too few.
    fn of(keys: Vec<&'a [u8]>) -> Option<Self> {
        let (first, last) = (*keys.first()?, *keys.last()?);
        (keys.len() >= RUN).then_some(Self { first, last, keys })
    }
}
