//! Why an identity cannot be used, and the way out for whoever runs the node.

use std::{io, path::PathBuf};

use crate::files::WAY_OUT;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not ours.
    #[error("{path} is corrupt: {detail}: {WAY_OUT}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// How it shows.
        detail: String,
    },
    /// Something that the node must have is missing, older than the rest of its directory, or another node's.
    #[error("{path} {detail}: {WAY_OUT}")]
    Lost {
        /// What.
        path: PathBuf,
        /// How it shows.
        detail: String,
    },
    /// The directory belongs to a node of another name.
    #[error(
        "{path} belongs to node `{found}`, but this node is `{expected}`: mount the right disk, or give the node its own name"
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        expected: String,
    },
}
