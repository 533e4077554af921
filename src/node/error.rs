//! Why a node cannot start.

use std::path::PathBuf;

use crate::{
    raft::{IdentityError, StartError},
    replica::OpenError,
    store::StoreError,
};

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nothing says where the node's messages go.
    #[error("the node has no `persistence_path`, and `ephemeral_node` does not say that its messages may be lost")]
    NoDirectory,
    /// The data directory cannot be used.
    #[error("cannot use {path}: {reason}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The secret of the cluster cannot be read, or will not do.
    #[error("{0}")]
    Cookie(String),
    /// Certificates or keys cannot be read, or will not do.
    #[error("{0}")]
    Tls(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Which one.
        address: String,
        /// Why.
        reason: String,
    },
    /// The operating system refuses another thread.
    #[error("cannot start Raft's thread: {0}")]
    Thread(std::io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored state cannot be read.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The Raft group refuses.
    #[error(transparent)]
    Group(#[from] StartError),
}
