//! What clients and nodes share of TLS. Both read the same files, fail for the same reasons, and have to say in the same
//! words what failed and what to do about it; a client needs nothing else, so it is here and not with the node.
//!
//! All cryptography is `ring`'s, named wherever a configuration is made: a program that embeds a client may have another
//! provider in it, and rustls would not know which of them is meant.

mod certificate;
mod client;
mod files;
mod identity;
mod why;

use std::sync::Arc;

pub use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use certificate::{Certificate, NODE_SUFFIX, node_of};
pub use client::{ClientFiles, ClientStream, Refusal, connect, connect_with};
pub use files::{Fault, certificates, private_key, read, revocation_lists, roots};
pub use identity::Identity;
pub use why::{Failure, explain, of_io};

/// The cryptography of all connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
