//! The Rust client: one handle for a whole cluster.
//!
//! It knows all nodes, prefers the leader for publishing, goes on with another node when one fails, and repeats
//! what can be repeated without harm: a publish with an idempotency key always, one without a key only when it is
//! certain that nothing happened. An error says which it was: see [`ClientError::outcome_unknown`].
//!
//! ```no_run
//! use futures::StreamExt as _;
//! use liminal_client::{Client, Message, PublisherOptions, Start};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]).await?;
//!
//! // One message; the key makes the retry of a lost answer harmless.
//! let published = client.publish("orders", Message::new(r#"{"id":7}"#).with_key("order-7")).await?;
//! println!("orders@{}", published.seq);
//!
//! // Many messages over one stream, batched by themselves.
//! let publisher = client.publisher("orders", PublisherOptions::default());
//! let mut acks = Vec::new();
//! for id in 8..1000 {
//!     let message = Message::new(format!(r#"{{"id":{id}}}"#)).with_key(format!("order-{id}"));
//!     acks.push(publisher.enqueue(message).await?);
//! }
//! for ack in acks {
//!     ack.await?;
//! }
//!
//! // Every message from the first one on, whichever nodes fail on the way.
//! let mut messages = client.subscribe("orders", Start::Earliest).await?;
//! while let Some(received) = messages.next().await {
//!     let received = received?;
//!     println!("{} {:?}", received.seq, received.message.payload);
//! }
//! # Ok(())
//! # }
//! ```

mod calls;
mod claims;
mod consumer;
#[cfg_attr(not(feature = "tls"), path = "plain.rs")]
mod encryption;
mod environment;
mod error;
mod exchanges;
mod invitations;
mod message;
mod pool;
mod publisher;
mod requests;
mod retry;
mod security;
mod servers;
mod streams;
mod subscription;
#[cfg(test)]
mod tests;
mod types;
mod window;

use std::{sync::Arc, time::Duration};

pub use claims::{Claims, Once, OnceError, Taken};
pub use consumer::{Consumer, Deliveries, Delivery, Nack, Pulled, PulledMessages, Settled};
#[cfg(feature = "tls")]
pub use encryption::Tls;
pub use environment::{Connecting, Environment, Io};
pub use error::{Admission, ClientError, ErrorDetail};
pub use exchanges::Transaction;
pub use invitations::NewInvitation;
pub use liminal_wire::{Code, HistoryChange, IfChanged, Notice, Position, code};
pub use message::{Confirm, Consistency, Page, PublishOptions, Published, Received, Start};
pub use publisher::{Ack, Publisher, PublisherOptions};
pub use requests::{Publish, Subscribe};
pub use streams::Progress;
pub use subscription::Subscription;
pub use types::{
    Allowed, BackupHead, BackupPart, CausalContext, Channel, ChannelConfig, ClaimHolder, ClaimLease, ClaimNamespace,
    ClaimReceipt, ClusterEvent, ClusterStatus, Comparison, Compatibility, ConsumeOrder, ConsumerConfig, ConsumerState,
    DeadLetter, DeadLetterPage, DeadLetterSelection, DelayedMessage, DelayedPage, Durability, Grant, Header,
    HistoryReport, InvalidMessage, Keep, Message, NewToken, NodeHash, NodeHealth, NodeRole, NodeScrub, NodeStatus,
    Quota, Redrive, Redriven, RefusedLetter, Retention, Role, RoleQuota, Rule, SchemaVersion, Scrub, Snapshot, Token,
    TraceContext, UpdateChannel, UpdateConsumer, VectorClockEntry, Verified, WhenFull,
};

use environment::World;
use pool::{Options, Pool, Prefer};

/// A cluster, seen from outside. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

/// Sets up a [`Client`].
///
/// ```no_run
/// use std::time::Duration;
/// use liminal_client::Client;
///
/// # async fn example() -> Result<(), liminal_client::ClientError> {
/// let client = Client::builder()
///     .servers(["127.0.0.1:7101", "127.0.0.1:7102"])
///     .token("secret")
///     .retry_for(Duration::from_secs(10))
///     .connect()
///     .await?;
/// println!("{}", client.cluster_status().await?.leader);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Builder {
    servers: Vec<String>,
    token: Option<String>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    environment: Arc<dyn Environment>,
    retry_for: Duration,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

impl Builder {
    /// Adds nodes, each as `host:port`, `http://host:port` or `https://host:port`. A few are enough: the leader is learned.
    /// All of them are spoken to over TLS, or none. Without a scheme they are where [`Builder::tls`] was called.
    pub fn servers(mut self, servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.servers.extend(servers.into_iter().map(Into::into));
        self
    }

    /// Sends this token with every request.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whom to trust and what to show, over TLS. Without it the CAs that the machine trusts are trusted.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Takes the network and the randomness from here instead of the real world: for simulations.
    pub fn env(mut self, environment: impl Environment) -> Self {
        self.environment = Arc::new(environment);
        self
    }

    /// How long a request that failed for the moment is tried again. 30 s unless set.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// How long one connection may take to come about. 3 s unless set.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long one node may take to answer before another one is tried. 15 s unless set: longer than a server
    /// takes to say that it does not know the outcome.
    pub fn answer_timeout(mut self, time: Duration) -> Self {
        self.answer_timeout = time;
        self
    }

    /// Connects to the first node that takes the connection.
    ///
    /// # Errors
    /// `UNREACHABLE` when no node does; `INVALID_ARGUMENT` when an address or the token cannot be used.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let token = self.token.map(|token| format!("Bearer {token}").parse()).transpose();
        let token = token.map_err(|_| {
            ClientError::new(Code::InvalidArgument, "the token has characters that no token can have")
                .with_help("use visible ASCII characters only")
        })?;
        #[cfg(feature = "tls")]
        let (prefers_tls, tls) = (self.tls.is_some(), self.tls.unwrap_or_default());
        #[cfg(not(feature = "tls"))]
        let prefers_tls = false;
        let (servers, encrypted) = servers::authorities(&self.servers, prefers_tls)?;
        #[cfg(feature = "tls")]
        let encryption = encrypted.then(|| Arc::new(encryption::Encryption::new(tls)));
        #[cfg(feature = "tls")]
        if let Some(encryption) = &encryption {
            let read = encryption.config().await;
            read.map_err(|fault| ClientError::new(Code::InvalidArgument, fault.to_string()))?;
        }
        #[cfg(not(feature = "tls"))]
        let encryption = match encrypted {
            true => {
                return Err(ClientError::new(Code::InvalidArgument, "this program is built without TLS (`https://`)"));
            }
            false => None,
        };
        let options = Options {
            environment: self.environment,
            encryption,
            token,
            retry_for: self.retry_for,
            connect_timeout: self.connect_timeout,
            answer_timeout: self.answer_timeout,
        };
        let pool = Pool::new(&servers, options)?;
        let mut failures = Vec::new();
        for _ in 0..pool.len() {
            match pool.connect(Prefer::Any).await {
                Ok(_) => return Ok(Client { pool: Arc::new(pool) }),
                Err(error) => failures.push(error),
            }
        }
        let all: Vec<&str> = failures.iter().map(ClientError::message).collect();
        let help = failures.first().and_then(ClientError::help).unwrap_or_default();
        Err(ClientError::new(Code::Unreachable, all.join("; ")).with_help(help))
    }
}

impl Client {
    /// Connects to a cluster by some of its nodes, each `host:port`, `http://host:port` or `https://host:port`.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(servers: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, ClientError> {
        Self::builder().servers(servers).connect().await
    }

    /// More choices than [`Client::connect`] offers.
    pub fn builder() -> Builder {
        Builder {
            servers: Vec::new(),
            token: None,
            #[cfg(feature = "tls")]
            tls: None,
            environment: Arc::new(World),
            retry_for: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(15),
        }
    }

    /// Publishes many messages to one channel over one stream.
    pub fn publisher(&self, channel: impl Into<String>, options: PublisherOptions) -> Publisher {
        Publisher::start(self.pool.clone(), channel.into(), options)
    }

    /// Claims of one namespace: see [`Claims`].
    pub fn claims(&self, namespace: impl Into<String>) -> Claims {
        Claims::new(self.pool.clone(), namespace.into())
    }

    /// Follows a channel. When this returns, a node has accepted the subscription.
    ///
    /// # Errors
    /// When the channel does not exist or no node serves in time. A start that is not in the channel's history is told by
    /// the subscription: see [`Subscription`].
    ///
    /// ```no_run
    /// use liminal_client::{Client, Start};
    ///
    /// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
    /// let large = client.subscribe("orders", Start::Latest).filter("amount > 1000").await?;
    /// # drop(large);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, channel: impl Into<String>, start: Start) -> Subscribe<'_> {
        Subscribe::new(self, channel.into(), start)
    }
}
