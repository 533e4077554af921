//! liminal: a clustered, replicated message broker.
//!
//! The map, from the outside in: `cli` parses and runs commands; `node` wires one node together; `grpc` and `http`
//! are its two faces; `broker` knows what publishing, subscribing and reading mean; `raft` replicates; `replica`
//! applies what was replicated to one node's state, which is the pure `machine` over a `store`, and hands new
//! messages to `fanout`; `codec` fixes the bytes; `model` holds the plain types. Imports point in that order only.

pub mod admission;
pub mod broker;
pub mod cli;
pub mod client;
pub mod codec;
pub mod config;
pub mod env;
pub mod fanout;
pub mod grpc;
pub mod http;
pub mod machine;
pub mod model;
pub mod node;
pub mod proto;
pub mod raft;
pub mod replica;
pub mod store;
pub mod telemetry;
