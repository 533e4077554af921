//! liminal: a clustered, replicated message broker.
//!
//! The map, from the outside in: `cli` parses and runs commands; `node` wires one node together; `grpc` and `http`
//! are its two faces; `broker` knows what publishing, subscribing and reading mean; `raft` replicates; `replica`
//! applies what was replicated to one node's state, which is the pure `machine` over a `store`, with `keys` for the
//! idempotency keys that memory does not hold, and hands new messages to `fanout`; `codec` fixes the bytes; `model`
//! holds the plain types. Imports point in that order only.
//!
//! # A broker inside your program
//!
//! A [`Broker`] runs in process over any [`store::DurableStore`]: one in memory, one on disk
//! ([`store::HaematiteStore`]), or your own. What it acknowledged is durable from the next flush on.
//!
//! ```
//! use std::sync::Arc;
//! use liminal::{Broker, broker::{Envelope, Start}, config::ServerConfig, store::{DurableStore, MemoryStore}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
//! let config = ServerConfig::default().with_channel("orders", true);
//! let broker = Broker::embedded(&config, store).await?;
//!
//! let mut subscription = broker.subscribe("orders", Start::Latest).await?;
//! let follower = tokio::spawn(async move {
//!     let batch = subscription.next().await?;
//!     // `try_next` never waits: there is nothing after the first message.
//!     Ok::<_, liminal::broker::BrokerError>((batch.first_seq, subscription.try_next()?.is_none()))
//! });
//!
//! let order = Envelope { payload: r#"{"id":7}"#.into(), ..Envelope::default() };
//! let outcome = broker.publish("orders", order.clone(), Some("order-7")).await?;
//! assert_eq!((outcome.seq, outcome.duplicate, outcome.delivered), (0, false, Some(true)));
//! assert_eq!(follower.await??, (0, true));
//!
//! // A retry gets the original sequence number, and nobody sees the message twice.
//! let again = broker.publish("orders", order, Some("order-7")).await?;
//! assert_eq!((again.seq, again.duplicate, again.delivered), (0, true, Some(false)));
//!
//! broker.flush().await?;
//! assert_eq!(broker.store().read_from("orders:0", 0, 10).await?.len(), 1);
//! # broker.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! With [`config::ServerConfig::base_dir`] the channels' `schema_ref`s are read from there; without it they are only
//! labels, and a channel takes any payload.

pub mod broker;
pub mod budget;
pub mod cli;
pub mod codec;
pub mod config;
#[cfg(test)]
mod documents;
pub mod env;
pub mod fanout;
mod files;
pub mod grpc;
pub mod health;
pub mod http;
pub mod keys;
pub mod liveness;
pub mod log_clock;
pub mod machine;
pub mod meter;
pub mod model;
pub mod node;
pub mod proto;
pub mod quota;
pub mod raft;
pub mod replica;
pub mod sequencer;
pub mod store;
pub mod telemetry;
pub mod tls;

pub use broker::Broker;
/// The Rust client, which is a crate of its own: `liminal-client`.
pub use liminal_client as client;
pub(crate) use liminal_wire::address;

/// The examples of the guides, as tests.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../docs/EMBEDDING.md")]
    struct Embedding;
    #[doc = include_str!("../docs/CLIENTS.md")]
    struct Clients;
    #[doc = include_str!("../docs/cookbook/exactly-once.md")]
    struct ExactlyOnce;
}
