//! What openraft takes from `display-more` 0.2.6, without the time zones of the whole world.
//!
//! The crate can also show a time, and for that it compiles `chrono-tz` with its tables of all time zones. openraft shows
//! options, results, slices and sets only. This package goes when a version of the crate makes the time zones optional.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::{collections::BTreeSet, fmt};

/// Elements that are shown unless more are asked for.
const USUAL: usize = 5;

/// Shows an option.
pub struct DisplayOption<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for DisplayOption<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("None"),
            Some(value) => value.fmt(f),
        }
    }
}

/// Shows an option: what is in it, or `None`.
pub trait DisplayOptionExt<'a, T: fmt::Display> {
    /// The same, to be shown.
    fn display(&'a self) -> DisplayOption<'a, T>;
}

impl<T: fmt::Display> DisplayOptionExt<'_, T> for Option<T> {
    fn display(&self) -> DisplayOption<'_, T> {
        DisplayOption(self)
    }
}

/// Shows a result.
pub struct DisplayResult<'a, T, E>(&'a Result<T, E>);

impl<T: fmt::Display, E: fmt::Display> fmt::Display for DisplayResult<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "Ok({value})"),
            Err(error) => write!(f, "Err({error})"),
        }
    }
}

/// Shows a result: `Ok(...)` or `Err(...)`.
pub trait DisplayResultExt<'a, T: fmt::Display, E: fmt::Display> {
    /// The same, to be shown.
    fn display(&'a self) -> DisplayResult<'a, T, E>;
}

impl<T: fmt::Display, E: fmt::Display> DisplayResultExt<'_, T, E> for Result<T, E> {
    fn display(&self) -> DisplayResult<'_, T, E> {
        DisplayResult(self)
    }
}

/// Shows a slice.
pub struct DisplaySlice<'a, T> {
    items: &'a [T],
    most: usize,
}

impl<T: fmt::Display> fmt::Display for DisplaySlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.items.iter(), self.items.len(), self.most)
    }
}

/// Shows a slice: `[1,2,3,4,..,9]`.
pub trait DisplaySliceExt<'a, T: fmt::Display> {
    /// Five elements of it at most.
    fn display(&'a self) -> DisplaySlice<'a, T>;
    /// So many elements of it at most.
    fn display_n(&'a self, most: usize) -> DisplaySlice<'a, T>;
}

impl<'a, T: fmt::Display> DisplaySliceExt<'a, T> for [T] {
    fn display(&'a self) -> DisplaySlice<'a, T> {
        self.display_n(USUAL)
    }

    fn display_n(&'a self, most: usize) -> DisplaySlice<'a, T> {
        DisplaySlice { items: self, most }
    }
}

/// Shows a set.
pub struct DisplayBTreeSet<'a, T> {
    items: &'a BTreeSet<T>,
    most: usize,
}

impl<T: fmt::Display> fmt::Display for DisplayBTreeSet<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.items.iter(), self.items.len(), self.most)
    }
}

/// Shows a set, as a slice is shown.
pub trait DisplayBTreeSetExt<'a, T: fmt::Display> {
    /// Five elements of it at most.
    fn display(&'a self) -> DisplayBTreeSet<'a, T>;
    /// So many elements of it at most.
    fn display_n(&'a self, most: usize) -> DisplayBTreeSet<'a, T>;
}

impl<'a, T: fmt::Display> DisplayBTreeSetExt<'a, T> for BTreeSet<T> {
    fn display(&'a self) -> DisplayBTreeSet<'a, T> {
        self.display_n(USUAL)
    }

    fn display_n(&'a self, most: usize) -> DisplayBTreeSet<'a, T> {
        DisplayBTreeSet { items: self, most }
    }
}

/// The first elements and the last one, if they are more than `most`.
fn list<'a, T: fmt::Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = &'a T>,
    len: usize,
    most: usize,
) -> fmt::Result {
    f.write_str("[")?;
    if most == 0 {
        return f.write_str("..]");
    }
    let cut = len > most;
    for (at, item) in items.enumerate() {
        if cut && at + 1 >= most && at + 1 < len {
            if at + 1 == most {
                f.write_str(if at == 0 { ".." } else { ",.." })?;
            }
            continue;
        }
        if at > 0 {
            f.write_str(",")?;
        }
        item.fmt(f)?;
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_shown_by_its_ends() {
        let numbers: Vec<u32> = (1..=8).collect();
        assert_eq!(numbers.display().to_string(), "[1,2,3,4,..,8]");
        assert_eq!(numbers.display_n(3).to_string(), "[1,2,..,8]");
        assert_eq!(numbers.display_n(1).to_string(), "[..,8]");
        assert_eq!(numbers.display_n(0).to_string(), "[..]");
        assert_eq!(numbers[..5].display().to_string(), "[1,2,3,4,5]");
        assert_eq!(numbers[..0].display().to_string(), "[]");
        assert_eq!(BTreeSet::from([3, 1]).display().to_string(), "[1,3]");
    }

    #[test]
    fn options_and_results_say_which_they_are() {
        assert_eq!((Some(1).display().to_string(), None::<u8>.display().to_string()), ("1".into(), "None".into()));
        assert_eq!(Ok::<u8, u8>(1).display().to_string(), "Ok(1)");
        assert_eq!(Err::<u8, u8>(2).display().to_string(), "Err(2)");
    }
}
