//! The generated message types: the public API (`v1`), which is a crate of its own, the protocol between nodes (`raft`), and
//! what their brokers say to each other by it (`peer`).

pub(crate) mod shapes;

pub use liminal_wire::v1;

/// Between the nodes of one cluster.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod raft {
    tonic::include_proto!("liminal.raft.v1");
}

/// Between the brokers of one cluster.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod peer {
    tonic::include_proto!("liminal.peer.v1");
}
