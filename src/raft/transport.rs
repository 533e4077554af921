//! Connections to other nodes, and proof of who is calling.
//!
//! Every request names the caller, the node that it is meant for, the caller's cluster and the cluster's shared
//! secret; a node refuses what is not meant for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::identity::Identity;
use crate::{
    env::{Connection, Env},
    proto::raft::{HelloRequest, OpenLaneRequest, peer_client::PeerClient},
};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing comes back for this long, twice, is closed: a partition drops packets silently.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// HTTP/2 flow-control windows: bulk data between nodes must not wait for window updates.
pub(super) const STREAM_WINDOW: u32 = 8 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest HTTP/2 frame to take: each one is read and written by a system call of its own.
pub(super) const MAX_FRAME: u32 = 256 << 10;
/// Largest message between nodes: a log entry that holds one publish batch of the largest size, with room to spare.
pub(super) const MAX_MESSAGE: usize = 64 << 20;

const FROM: &str = "liminal-from";
const TO: &str = "liminal-to";
const CLUSTER: &str = "liminal-cluster";
const COOKIE: &str = "liminal-cookie";

/// What travels on a connection of its own, so that it never waits behind other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Votes, heartbeats, leadership transfer, introductions, status.
    Control,
    /// Snapshots.
    Snapshot,
    /// Requests between brokers.
    Calls,
}

pub(super) type Client = PeerClient<InterceptedService<Channel, Credentials>>;

/// Makes clients for other nodes; connections are shared by node and lane.
#[derive(Clone)]
pub(super) struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    identity: Identity,
    cookie: MetadataValue<Ascii>,
    channels: Mutex<HashMap<(u64, Lane), Channel>>,
    /// Where nodes said that they are, which may be newer than what the log says.
    book: Mutex<HashMap<u64, String>>,
}

impl Transport {
    pub(super) fn new(env: Env, identity: Identity, cookie: &str) -> Self {
        let inner = Inner { env, identity, cookie: digest(cookie), channels: Mutex::default(), book: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// A client for the node with this id: where it last said that it is, else at this address.
    pub(super) fn client(&self, node: u64, address: &str, lane: Lane) -> Client {
        let channel = {
            let mut channels = self.inner.channels.lock();
            channels.entry((node, lane)).or_insert_with(|| self.channel(Some(node), address.to_owned())).clone()
        };
        self.signed(channel, Some(node))
    }

    /// A client for whatever node is at this address, with a connection of its own.
    pub(super) fn client_of_anyone(&self, address: &str) -> Client {
        self.signed(self.channel(None, address.to_owned()), None)
    }

    /// A connection for log entries, and the ticket that begins it.
    ///
    /// # Errors
    /// When the node refuses this one, or does not answer.
    pub(super) async fn open_lane(&self, node: u64, address: &str) -> Result<(Connection, Bytes), Status> {
        let ticket = self.client(node, address, Lane::Control).open_lane(OpenLaneRequest {}).await?.into_inner().ticket;
        let newest = self.address_of(node);
        let connection = self.inner.env.network.connect(newest.as_deref().unwrap_or(address)).await?;
        Ok((connection, ticket))
    }

    /// Remembers where a node says that it is: its next connection goes there.
    pub(super) fn learn(&self, node: u64, address: &str) {
        let mut book = self.inner.book.lock();
        let known = book.entry(node).or_default();
        if known != address {
            address.clone_into(known);
        }
    }

    /// Where a node last said that it is.
    pub(super) fn address_of(&self, node: u64) -> Option<String> {
        self.inner.book.lock().get(&node).cloned()
    }

    /// Whether a node answers on a new connection within a time. That a connection comes about proves nothing: a
    /// process that is dying, or frozen, still has a system that accepts it.
    pub(super) async fn answers(&self, node: &crate::sequencer::NodeAddress, within: Duration) -> bool {
        let address = self.address_of(node.id).unwrap_or_else(|| node.peer.clone());
        let mut client = self.client_of_anyone(&address);
        let answer = tokio::time::timeout(within, client.hello(HelloRequest::default())).await;
        matches!(answer, Ok(Ok(answer)) if answer.get_ref().node.as_ref().is_some_and(|found| found.id == node.id))
    }

    /// All `IP:port`s behind a name.
    pub(super) async fn resolve(&self, address: &str) -> Vec<String> {
        self.inner.env.network.resolve(address).await
    }

    /// Nobody can guess it.
    pub(super) fn secret(&self) -> u128 {
        u128::from(self.random()) << 64 | u128::from(self.random())
    }

    /// Another number each time.
    pub(super) fn random(&self) -> u64 {
        self.inner.env.random.next_u64()
    }

    fn signed(&self, channel: Channel, to: Option<u64>) -> Client {
        let credentials = Credentials { identity: self.inner.identity.clone(), to, cookie: self.inner.cookie.clone() };
        PeerClient::with_interceptor(channel, credentials)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn channel(&self, node: Option<u64>, address: String) -> Channel {
        let inner = Arc::downgrade(&self.inner);
        let connector = tower::service_fn(move |_| {
            let inner = inner.upgrade();
            let address = address.clone();
            async move {
                let inner = inner.ok_or_else(|| std::io::Error::other("the node is stopping"))?;
                let newest = node.and_then(|node| inner.book.lock().get(&node).cloned());
                inner.env.network.connect(&newest.unwrap_or(address)).await.map(TokioIo::new)
            }
        });
        // The connector knows the address; the URI only fills the `:authority` header.
        Endpoint::from_static("http://liminal-peer")
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .connect_with_connector_lazy(connector)
    }
}

/// The secret itself never travels, only its hash.
fn digest(cookie: &str) -> MetadataValue<Ascii> {
    let hash = blake3::derive_key("liminal peer cookie v1", cookie.as_bytes());
    blake3::Hash::from(hash).to_hex().as_str().parse().expect("hexadecimal digits are ASCII")
}

/// Signs every request to a node.
#[derive(Clone)]
pub(super) struct Credentials {
    identity: Identity,
    to: Option<u64>,
    cookie: MetadataValue<Ascii>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(FROM, self.identity.node_id().into());
        if let Some(to) = self.to {
            metadata.insert(TO, to.into());
        }
        if let Some(cluster) = self.identity.cluster_id().and_then(|id| id.parse().ok()) {
            metadata.insert(CLUSTER, cluster);
        }
        metadata.insert(COOKIE, self.cookie.clone());
        Ok(request)
    }
}

/// Checks what [`Credentials`] signed.
#[derive(Clone)]
pub(super) struct Gate {
    identity: Identity,
    cookie: MetadataValue<Ascii>,
}

impl Gate {
    pub(super) fn new(identity: Identity, cookie: &str) -> Self {
        Self { identity, cookie: digest(cookie) }
    }

    /// Whether the caller knows the secret and is of no other cluster, and means this node. Returns the caller's id.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<u64, Status> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        // Comparing the hashes of the values takes the same time wherever they differ.
        let given = blake3::hash(text(COOKIE).unwrap_or_default().as_bytes());
        if given != blake3::hash(self.cookie.as_bytes()) {
            return Err(Status::unauthenticated(
                "the cluster cookie is wrong: all nodes need the same `cluster.cookie`",
            ));
        }
        if let Some(to) = number(TO)
            && to != self.identity.node_id()
        {
            return Err(Status::failed_precondition(format!(
                "this is node {} with id {}, not id {to}: its disk was lost or swapped",
                self.identity.node_name(),
                self.identity.node_id(),
            )));
        }
        if let (Some(theirs), Some(ours)) = (text(CLUSTER), self.identity.cluster_id())
            && theirs != ours
        {
            return Err(Status::failed_precondition(format!(
                "this node is of cluster {ours}, not of cluster {theirs}"
            )));
        }
        number(FROM).ok_or_else(|| Status::unauthenticated("the caller does not say who it is"))
    }

    /// The cluster that the caller says it is of.
    pub(super) fn cluster(metadata: &MetadataMap) -> Option<String> {
        metadata.get(CLUSTER).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}
