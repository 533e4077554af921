//! Connections to other nodes, and proof of who is calling.
//!
//! A connection begins with proofs of the cluster's cookie by both sides ([`super::handshake`]), so a node knows who is
//! calling. Every request names the node that it is meant for and the caller's cluster, which a fresh node may come to
//! belong to while the connection is open; a node refuses what is not meant for it.
//!
//! A connection belongs to a node, and not to the address at which that node was once. Nodes may exchange their addresses
//! at any time, and an address may be taken over by a node of another cluster or by something else altogether. So every
//! answer says which node it is from, and one from anybody but the node that was meant ([`Bound`]) ends the connection:
//! the caller sees that the node was not reached, and the next request looks for it anew.

mod credentials;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::{
    Status,
    body::Body,
    codegen::http,
    metadata::{MetadataMap, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use self::credentials::Credentials;
pub(super) use self::credentials::Gate;
use super::{
    handshake::{self, Bond, Call, Caller, ClusterMark, Found, PeerKeys, Purpose, Refused, Versions},
    identity::Identity,
    lane,
    sizes::{CONNECTION_WINDOW, MAX_FRAME, MAX_MESSAGE, STREAM_WINDOW},
};
use crate::{
    env::{Connection, Env},
    proto::raft::{HelloRequest, peer_client::PeerClient},
    sequencer::PeerVersion,
};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing comes back for this long, twice, is closed: a partition drops packets silently.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// In every answer: the id of the node that gives it.
const NODE: &str = "liminal-node";
/// In every answer over TLS: the node that the certificate of the connection names. This side says so, never the other.
const CERTIFIED: &str = "liminal-certified";
/// In an error that this node makes itself, because somebody else answered.
const STRANGER: &str = "liminal-stranger";

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

pub(super) type Client = PeerClient<InterceptedService<Bound, Credentials>>;

/// What a node knows of its cluster.
struct Known {
    /// What the cluster calls a node; none where it does not know it.
    name: Box<dyn Fn(u64) -> Option<String> + Send + Sync>,
    /// The cluster's version.
    version: Box<dyn Fn() -> PeerVersion + Send + Sync>,
}

/// Makes clients for other nodes; connections are shared by node and lane.
#[derive(Clone)]
pub(super) struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    identity: Identity,
    keys: Arc<PeerKeys>,
    links: Mutex<HashMap<(u64, Lane), Arc<Link>>>,
    /// Where nodes said that they are, which may be newer than what the log says.
    book: Mutex<HashMap<u64, String>>,
    known: OnceLock<Known>,
    /// The newest version that this node speaks.
    newest: PeerVersion,
    /// What each other node has shown to speak on the connection that came about last.
    speaks: Mutex<HashMap<u64, PeerVersion>>,
}

/// A connection that is shared by all requests to a node on one lane.
struct Link {
    channel: Channel,
    end: Arc<End>,
}

/// Where a connection leads.
#[derive(Default)]
struct End {
    /// The address that was dialled last.
    address: Mutex<String>,
    /// The node that was meant has answered there.
    proven: AtomicBool,
    /// The version that both sides of the newest connection speak; 0 before there was one.
    version: AtomicU8,
    /// The node that the certificate there names, over TLS.
    certified: Mutex<Option<String>>,
    /// Stands for the newest connection.
    bond: Mutex<Option<Bond>>,
    /// Why there is no connection, where whoever is there is no node with the same cookie.
    refusal: Mutex<Option<String>>,
}

impl Transport {
    /// Of a node that speaks versions up to `newest`.
    pub(super) fn new(env: Env, identity: Identity, keys: Arc<PeerKeys>, newest: PeerVersion) -> Self {
        let (links, book, known, speaks) = (Mutex::default(), Mutex::default(), OnceLock::new(), Mutex::default());
        let inner = Inner { env, identity, keys, links, book, known, newest, speaks };
        Self { inner: Arc::new(inner) }
    }

    /// Has certificates compared with what the cluster calls the nodes, and nodes refused that speak less than the cluster's
    /// version.
    pub(super) fn knows(
        &self,
        name: impl Fn(u64) -> Option<String> + Send + Sync + 'static,
        version: impl Fn() -> PeerVersion + Send + Sync + 'static,
    ) {
        // Once for a node.
        let _ = self.inner.known.set(Known { name: Box::new(name), version: Box::new(version) });
    }

    /// The newest version that this node speaks.
    pub(super) fn newest(&self) -> PeerVersion {
        self.inner.newest
    }

    /// What a node has shown to speak, at least, when it was connected last; none where it never was.
    pub(super) fn speaks(&self, node: u64) -> Option<PeerVersion> {
        if node == self.inner.identity.node_id() {
            return Some(self.inner.newest);
        }
        self.inner.speaks.lock().get(&node).copied()
    }

    /// A client for the node with this id: where it last said that it is, else at this address.
    pub(super) fn client(&self, node: u64, address: &str, lane: Lane) -> Client {
        let link = self.link(node, address, lane);
        let meant = Meant { transport: Arc::downgrade(&self.inner), node, lane };
        self.signed(Bound { channel: link.channel.clone(), end: link.end.clone(), meant: Some(meant) })
    }

    fn link(&self, node: u64, address: &str, lane: Lane) -> Arc<Link> {
        let mut links = self.inner.links.lock();
        links.entry((node, lane)).or_insert_with(|| Arc::new(self.connect(Some(node), address.to_owned()))).clone()
    }

    /// A client for whatever node is at this address, with a connection of its own.
    pub(super) fn client_of_anyone(&self, address: &str) -> Client {
        let Link { channel, end } = self.connect(None, address.to_owned());
        self.signed(Bound { channel, end, meant: None })
    }

    /// The same for somebody who proves something for that connection. What it gives says which connection was opened last;
    /// none before the first request.
    pub(super) fn client_of_one_connection(&self, address: &str) -> (Client, impl Fn() -> Option<Bond> + use<>) {
        let Link { channel, end } = self.connect(None, address.to_owned());
        let bond = end.clone();
        (self.signed(Bound { channel, end, meant: None }), move || *bond.bond.lock())
    }

    /// A connection for log entries.
    ///
    /// # Errors
    /// When the node refuses this one, or does not answer.
    pub(super) async fn open_lane(&self, node: u64, address: &str) -> Result<Connection, Status> {
        let place = self.reached(node).or_else(|| self.address_of(node)).unwrap_or_else(|| address.to_owned());
        let failed = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let dialled = self.inner.dial(&place, Some(node), Purpose::Entries).await;
        let (mut connection, found) = dialled.map_err(|refused| failed(&refused))?;
        if found.id != node {
            self.inner.forget(node, &place);
            return Err(Status::unavailable(format!("{place} is node {}, not node {node}", found.id)));
        }
        lane::admitted(&mut connection).await.map_err(|error| failed(&error))?;
        Ok(connection)
    }

    /// Lets a caller prove who it is, on a connection that it has just opened.
    ///
    /// # Errors
    /// When it is no node with the same cookie.
    pub(super) async fn welcome(&self, connection: &mut Connection) -> Result<Caller, Refused> {
        let Inner { env, identity, keys, .. } = &*self.inner;
        let versions = self.inner.versions();
        let answered = handshake::answer(connection, keys, identity.node_id(), env.random.nonce(), versions).await;
        let caller = answered.map_err(|refused| self.inner.named(refused))?;
        self.inner.believe(connection, caller.call.from)?;
        self.inner.shown(caller.call.from, caller.call.versions.newest);
        Ok(caller)
    }

    /// Remembers where a node says that it is: its next connection goes there, and so does one that has not reached the
    /// node yet.
    pub(super) fn learn(&self, node: u64, address: &str) {
        {
            let mut book = self.inner.book.lock();
            let known = book.entry(node).or_default();
            if known == address {
                return;
            }
            address.clone_into(known);
        }
        let stays = |end: &End| end.proven.load(Ordering::Acquire);
        self.inner.links.lock().retain(|(id, _), link| *id != node || stays(&link.end));
    }

    /// Where a node has answered on the connection that is open to it.
    pub(super) fn reached(&self, node: u64) -> Option<String> {
        let link = self.inner.links.lock().get(&(node, Lane::Control)).cloned()?;
        link.end.proven.load(Ordering::Acquire).then(|| link.end.address.lock().clone())
    }

    /// The version that is spoken on the connection that was opened last to a node on a lane; none where none was.
    pub(super) fn version(&self, node: u64, lane: Lane) -> Option<PeerVersion> {
        let link = self.inner.links.lock().get(&(node, lane)).cloned()?;
        let version = link.end.version.load(Ordering::Acquire);
        (version > 0).then_some(PeerVersion(version))
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

    /// Another number each time.
    pub(super) fn random(&self) -> u64 {
        self.inner.env.random.next_u64()
    }

    fn signed(&self, connection: Bound) -> Client {
        let to = connection.meant.as_ref().map(|meant| meant.node);
        let credentials = Credentials { identity: self.inner.identity.clone(), to };
        PeerClient::with_interceptor(connection, credentials)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn connect(&self, node: Option<u64>, address: String) -> Link {
        let (inner, end) = (Arc::downgrade(&self.inner), Arc::new(End::default()));
        let reached = end.clone();
        let connector = tower::service_fn(move |_| {
            let (inner, end) = (inner.upgrade(), reached.clone());
            let address = address.clone();
            async move {
                let inner = inner.ok_or_else(|| Refused::from(std::io::Error::other("the node is stopping")))?;
                let newest = node.and_then(|node| inner.book.lock().get(&node).cloned());
                let address = newest.unwrap_or(address);
                end.proven.store(false, Ordering::Release);
                address.clone_into(&mut end.address.lock());
                let dialled = inner.dial(&address, node, Purpose::Requests).await;
                let certified = dialled.as_ref().ok().and_then(|(connection, _)| connection.certified());
                *end.certified.lock() = certified.map(str::to_owned);
                *end.refusal.lock() = match &dialled {
                    Ok(_) | Err(Refused::Broken(_)) => None,
                    Err(refused) => Some(refused.to_string()),
                };
                dialled.map(|(connection, found)| {
                    *end.bond.lock() = Some(found.bond);
                    end.version.store(found.version.0, Ordering::Release);
                    TokioIo::new(connection)
                })
            }
        });
        // The connector knows the address; the URI only fills the `:authority` header.
        let channel = Endpoint::from_static("http://liminal-peer")
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .connect_with_connector_lazy(connector);
        Link { channel, end }
    }
}

impl Inner {
    /// A connection to whoever is at an address, if it knows the cookie, and who that is.
    async fn dial(&self, address: &str, to: Option<u64>, purpose: Purpose) -> Result<(Connection, Found), Refused> {
        let mut connection = self.env.network.connect(address).await?;
        let call = Call {
            from: self.identity.node_id(),
            to,
            cluster: ClusterMark::of(self.identity.cluster_id().as_deref()),
            purpose,
            nonce: self.env.random.nonce(),
            versions: self.versions(),
        };
        let called = handshake::call(&mut connection, &self.keys, &call).await;
        let found = called.map_err(|refused| self.named(refused))?;
        self.believe(&connection, found.id)?;
        self.shown(found.id, found.version);
        Ok((connection, found))
    }

    /// Whether a node that has proven its id has also shown its own certificate, where there are any. What the cluster does
    /// not know yet goes by the certificate's name: see `peer_service`.
    fn believe(&self, connection: &Connection, id: u64) -> Result<(), Refused> {
        let known = self.name_of(id);
        match (connection.certified(), known) {
            (Some(certified), Some(known)) if !known.eq_ignore_ascii_case(certified) => {
                Err(Refused::OtherCertificate { id, known, certified: certified.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn name_of(&self, id: u64) -> Option<String> {
        self.known.get().and_then(|known| (known.name)(id))
    }

    /// What this node takes from others now.
    fn versions(&self) -> Versions {
        let cluster = self.known.get().map_or(PeerVersion::UNWRITTEN, |known| (known.version)());
        Versions::within(cluster, self.newest)
    }

    /// The same with the name of the node, where the cluster knows it.
    fn named(&self, mut refused: Refused) -> Refused {
        if let Refused::OtherVersion(other) = &mut refused
            && let Some(name) = other.id.and_then(|id| self.name_of(id))
        {
            other.name = name;
        }
        refused
    }

    /// A node has proven who it is, and speaks a version at least.
    fn shown(&self, id: u64, version: PeerVersion) {
        self.speaks.lock().insert(id, version);
    }

    /// That a node is at this address is not so, or not so any more.
    fn forget(&self, node: u64, address: &str) {
        let mut book = self.book.lock();
        if book.get(&node).is_some_and(|known| known == address) {
            book.remove(&node);
        }
    }
}

/// A connection that believes only the node that it is meant to lead to.
#[derive(Clone)]
pub(super) struct Bound {
    channel: Channel,
    end: Arc<End>,
    /// None: whoever is there.
    meant: Option<Meant>,
}

#[derive(Clone)]
struct Meant {
    transport: Weak<Inner>,
    node: u64,
    lane: Lane,
}

impl tower::Service<http::Request<Body>> for Bound {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sent = tower::Service::call(&mut self.channel, request);
        let (end, meant) = (self.end.clone(), self.meant.clone());
        Box::pin(async move {
            let mut answer = match sent.await {
                Ok(answer) => answer,
                Err(error) => {
                    let refusal = end.refusal.lock().clone();
                    return refusal.map(|refusal| Status::unauthenticated(refusal).into_http()).ok_or(error);
                }
            };
            end.certify(answer.headers_mut());
            Ok(match meant {
                Some(meant) => meant.judge(&end, answer),
                None => answer,
            })
        })
    }
}

impl End {
    fn certify(&self, headers: &mut http::HeaderMap) {
        headers.remove(CERTIFIED);
        let certified = self.certified.lock().as_deref().and_then(|node| http::HeaderValue::from_str(node).ok());
        headers.extend(certified.map(|node| (http::HeaderName::from_static(CERTIFIED), node)));
    }
}

impl Meant {
    /// The answer, if it is from the node that was meant. Else an error: nobody has done what was asked.
    fn judge(self, end: &Arc<End>, answer: http::Response<Body>) -> http::Response<Body> {
        let found = answer.headers().get(NODE).and_then(|id| id.to_str().ok());
        if found.and_then(|id| id.parse().ok()) == Some(self.node) {
            end.proven.store(true, Ordering::Release);
            return answer;
        }
        let address = end.address.lock().clone();
        let found = found.map_or_else(|| "no node of liminal's".to_owned(), |id| format!("node {id}"));
        tracing::debug!(address, found, node = self.node, "an address is somebody else's by now");
        if let Some(inner) = self.transport.upgrade() {
            let mut links = inner.links.lock();
            let key = (self.node, self.lane);
            if links.get(&key).is_some_and(|link| Arc::ptr_eq(&link.end, end)) {
                links.remove(&key);
            }
            drop(links);
            inner.forget(self.node, &address);
        }
        let mut status = Status::unavailable(format!("{address} is {found}, not node {}", self.node));
        status.metadata_mut().insert(STRANGER, MetadataValue::from_static("1"));
        status.into_http()
    }
}

/// Whether a request failed because somebody else than the node that was meant answered: it was not carried out.
pub(super) fn is_from_a_stranger(status: &Status) -> bool {
    status.metadata().contains_key(STRANGER)
}

/// The other node whose certificate was shown by one that introduces itself as this.
pub(super) fn certified_as_another(answer: &MetadataMap, introduced: &str) -> Option<String> {
    let certified = answer.get(CERTIFIED).and_then(|node| node.to_str().ok());
    certified.filter(|certified| !certified.eq_ignore_ascii_case(introduced)).map(str::to_owned)
}

/// Signs every answer of a node.
pub(super) fn sign(node: u64) -> impl Fn(http::Response<Body>) -> http::Response<Body> + Clone + Send + Sync + 'static {
    let id = http::HeaderValue::from(node);
    move |mut answer| {
        answer.headers_mut().insert(NODE, id.clone());
        answer
    }
}

#[cfg(test)]
mod tests;
