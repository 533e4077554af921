//! Parts of errors' messages that depend on what the error holds.

use std::fmt;

use super::meaning::known_code;
use crate::model::{ClaimInfo, HistoryChange, timestamp};

/// Says why a delivery is none of a consumer's.
pub(super) struct Foreign<'a>(pub(super) Option<&'a HistoryChange>);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(HistoryChange::Rewound) => {
                "a backup was restored since it was handed out, and the number may be another message's by now"
            }
            Some(_) => "it is of another channel, or of one of that name that was deleted or comes from another backup",
            None => "it is of another consumer, or of one of that name that was deleted",
        })
    }
}

/// Says whose something is.
pub(super) struct Whose<'a>(pub(super) &'a str);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("this process") } else { write!(f, "node `{}`", self.0) }
    }
}

/// Says which node holds something back.
pub(super) struct Holding<'a>(pub(super) &'a str, pub(super) u32);

impl Holding<'_> {
    /// What to do about it.
    pub(super) fn help(&self) -> String {
        match self {
            Self("", _) => "try again".into(),
            Self(node, 0) => {
                format!("start node `{node}`, or remove it with `liminal cluster remove {node}`; nothing was done")
            }
            Self(node, _) => format!(
                "upgrade node `{node}`, then try again; nothing was done (docs/OPERATIONS.md, \"Restart and upgrade\")"
            ),
        }
    }
}

impl fmt::Display for Holding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self("", _) => f.write_str(" and is about to rise"),
            Self(node, 0) => write!(f, ": node `{node}` has not been heard of"),
            Self(node, speaks) => write!(f, ": node `{node}` speaks version {speaks}"),
        }
    }
}

/// Names the code of an error where it cannot be given as one.
pub(super) struct Unnamed<'a>(pub(super) &'a str);

impl fmt::Display for Unnamed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if known_code(self.0).is_some() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// Says who holds a claim, or completed it, and when.
pub(super) struct Held<'a>(pub(super) &'a ClaimInfo);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClaimInfo { token, owner, completed, since_ms, expires_ms } = self.0;
        let by = owner.as_ref().map_or_else(String::new, |owner| format!(" by `{owner}`"));
        if *completed {
            return write!(f, "was completed{by} under token {token} at {}", timestamp(*since_ms));
        }
        let (since, until) = (timestamp(*since_ms), timestamp(*expires_ms));
        write!(f, "is held{by} under token {token} since {since} until {until}")
    }
}

/// The same of a claim that may be free.
pub(super) struct Current<'a>(pub(super) Option<&'a ClaimInfo>);

impl fmt::Display for Current<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(claim) => Held(claim).fmt(f),
            None => f.write_str("is free, because its lease ended or it was released"),
        }
    }
}
