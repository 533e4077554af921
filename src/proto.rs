//! Code generated from `proto/`: the public API (`v1`) and the protocol between peers (`raft`).
//!
//! `MessageBatch` fields are generated as `bytes`: see [`crate::model::Frame`], which gives them meaning.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

/// The public API.
pub mod v1 {
    tonic::include_proto!("liminal.v1");

    /// The encoded file descriptors of the public API, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/liminal_v1.bin"));
}

/// Between the nodes of one cluster.
pub mod raft {
    tonic::include_proto!("liminal.raft.v1");
}
