//! The nodes that a client knows and its connections to them. Every node serves every request, so that any one
//! that answers will do; the leader saves publishes a hop, and servers name it in the metadata of each response.

use std::{future::Future, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};

use super::{
    error::ClientError,
    retry::{self, Repeat},
    servers::authority,
};
use crate::{
    encryption::{Encryption, Said},
    environment::{Environment, Io},
};
use liminal_wire::{Code, headers};

/// How long attempts fail before that is said.
const QUIET: Duration = Duration::from_secs(2);
/// More nodes than any cluster has: a bound on what servers can teach a client.
const MAX_NODES: usize = 32;
/// How long a node that could not be reached is not preferred as the leader.
const SHUN: Duration = Duration::from_secs(2);
/// A server that says nothing for so long is asked whether it is there: a frozen leader keeps its connections, and who
/// publishes to it, or follows a channel on it, should go elsewhere.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(750);
/// How long it may take to answer that.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer may hold a whole log entry; one message above the usual size fits as well.
pub(crate) const MAX_ANSWER: usize = 64 << 20;
/// The largest HTTP/2 frame to take: each one is read and written by a system call of its own.
const MAX_FRAME: u32 = 256 << 10;

/// How a client behaves.
#[derive(Clone)]
pub(crate) struct Options {
    pub environment: Arc<dyn Environment>,
    /// None: over plain TCP.
    pub encryption: Option<Arc<Encryption>>,
    pub token: Option<MetadataValue<Ascii>>,
    pub retry_for: Duration,
    pub connect_timeout: Duration,
    pub answer_timeout: Duration,
}

/// A connection that says who the caller is.
pub(crate) type Link = InterceptedService<Channel, Auth>;

/// Adds the token to every request.
#[derive(Clone)]
pub(crate) struct Auth(Option<MetadataValue<Ascii>>);

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Which node is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    Leader,
    Any,
}

pub(crate) struct Pool {
    pub options: Options,
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Nodes {
    list: Vec<Arc<Node>>,
    leader: Option<usize>,
    current: usize,
}

struct Node {
    address: String,
    /// Locked while connecting, so that many waiting calls make one connection.
    channel: tokio::sync::Mutex<Option<Channel>>,
    failed: Mutex<Option<Instant>>,
    /// What it said of this client's certificate.
    said: Said,
}

/// A node that answered when it was connected.
pub(crate) struct Connected {
    pub link: Link,
    node: Arc<Node>,
}

impl Connected {
    pub fn address(&self) -> &str {
        &self.node.address
    }

    /// What a call on this connection has failed with.
    fn error(&self, status: Status) -> ClientError {
        #[cfg(feature = "tls")]
        if let Some(refusal) = self.node.said.refusal() {
            return ClientError::refused_by_tls(&refusal, status);
        }
        ClientError::from_status(self.address(), status)
    }
}

impl Pool {
    /// `servers` are those that [`authorities`](super::servers::authorities) gives.
    pub fn new(servers: &[String], options: Options) -> Result<Self, ClientError> {
        let mut nodes = Nodes::default();
        for server in servers {
            nodes.index_of(server);
        }
        if nodes.list.is_empty() {
            return Err(ClientError::new(Code::InvalidArgument, "no server to connect to")
                .with_help("name at least one, for example 127.0.0.1:7101"));
        }
        Ok(Self { options, nodes: Mutex::new(nodes) })
    }

    pub fn len(&self) -> usize {
        self.nodes.lock().list.len()
    }

    /// A connection to the preferred node; on failure the next call gives another one.
    pub async fn connect(&self, prefer: Prefer) -> Result<Connected, ClientError> {
        let node = self.nodes.lock().pick(prefer);
        let mut slot = node.channel.lock().await;
        let channel = match &*slot {
            Some(channel) => channel.clone(),
            None => match open(&self.options, &node).await {
                Ok(channel) => slot.insert(channel).clone(),
                Err(error) => {
                    drop(slot);
                    self.failed(&node);
                    return Err(error);
                }
            },
        };
        drop(slot);
        let link = InterceptedService::new(channel, Auth(self.options.token.clone()));
        Ok(Connected { link, node })
    }

    /// The node could not be reached, or did not serve: try another one next.
    pub async fn give_up(&self, connected: &Connected) {
        *connected.node.channel.lock().await = None;
        self.failed(&connected.node);
    }

    fn failed(&self, node: &Arc<Node>) {
        *node.failed.lock() = Some(Instant::now());
        self.nodes.lock().leave(node);
    }

    /// Takes note of the leader that a response names.
    pub fn learn(&self, metadata: &MetadataMap) {
        let Some(value) = metadata.get(headers::LEADER).and_then(|value| value.to_str().ok()) else { return };
        let address = value.rsplit(';').next().unwrap_or_default();
        let mut nodes = self.nodes.lock();
        if address.is_empty() {
            nodes.leader = None;
        } else if let Ok((_, address)) = authority(address) {
            nodes.leader = nodes.index_of(&address);
        }
    }

    /// One try of a request on one node.
    pub async fn attempt<T, F>(
        &self,
        prefer: Prefer,
        request: impl FnOnce(Link) -> F,
    ) -> Result<(T, Connected), ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.attempt_within(self.options.answer_timeout, prefer, request).await
    }

    async fn attempt_within<T, F>(
        &self,
        after: Duration,
        prefer: Prefer,
        request: impl FnOnce(Link) -> F,
    ) -> Result<(T, Connected), ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let connected = self.connect(prefer).await?;
        let error = match timeout(after, request(connected.link.clone())).await {
            Ok(Ok(response)) => {
                self.learn(response.metadata());
                return Ok((response.into_inner(), connected));
            }
            Ok(Err(status)) => {
                self.learn(status.metadata());
                connected.error(status)
            }
            Err(_) => ClientError::timeout(connected.address(), after),
        };
        if retry::may_retry(&error, Repeat::Safe) && !retry::stay(&error) {
            self.give_up(&connected).await;
        }
        Err(error)
    }

    /// Tries until it works, it cannot work, or the time is up. The error is then the last one that is not just
    /// about an unreachable node.
    pub async fn call<T, F>(
        &self,
        prefer: Prefer,
        repeat: Repeat,
        request: impl Fn(Link) -> F,
    ) -> Result<(T, Connected), ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(self.options.answer_timeout, prefer, repeat, request).await
    }

    /// All items of a list that comes in pages, each with the name or id after which the next one begins.
    pub async fn all_pages<T, A, F>(&self, page: impl Fn(Link, A) -> F) -> Result<Vec<T>, ClientError>
    where
        A: Clone + Default,
        F: Future<Output = Result<Response<(Vec<T>, Option<A>)>, Status>>,
    {
        let (mut all, mut after) = (Vec::new(), A::default());
        loop {
            let ((items, next_after), _) =
                self.call(Prefer::Any, Repeat::Safe, |link| page(link, after.clone())).await?;
            all.extend(items);
            match next_after {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    /// The same where an answer may take another time than usual.
    pub async fn call_within<T, F>(
        &self,
        after: Duration,
        prefer: Prefer,
        repeat: Repeat,
        request: impl Fn(Link) -> F,
    ) -> Result<(T, Connected), ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new(&self.options);
        let mut unknown = false;
        loop {
            let error = match self.attempt_within(after, prefer, &request).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            unknown |= error.outcome_unknown();
            if !retry::may_retry(&error, repeat) || !backoff.wait(&error).await {
                // An earlier attempt may have gone through even if this one certainly did not.
                return Err(if unknown { error.unknown() } else { error });
            }
        }
    }
}

impl Nodes {
    fn pick(&self, prefer: Prefer) -> Arc<Node> {
        let leader = self.leader.map(|index| &self.list[index]);
        match leader {
            Some(leader) if prefer == Prefer::Leader && !leader.shunned() => leader.clone(),
            _ => self.list[self.current].clone(),
        }
    }

    fn leave(&mut self, node: &Arc<Node>) {
        if self.leader.is_some_and(|index| Arc::ptr_eq(&self.list[index], node)) {
            self.leader = None;
        }
        if Arc::ptr_eq(&self.list[self.current], node) {
            self.current = (self.current + 1) % self.list.len();
        }
    }

    /// The node of that address, known or new; none when there are too many.
    fn index_of(&mut self, address: &str) -> Option<usize> {
        let known = self.list.iter().position(|node| node.address == address);
        if known.is_none() && self.list.len() < MAX_NODES {
            self.list.push(Arc::new(Node {
                address: address.to_owned(),
                channel: tokio::sync::Mutex::default(),
                failed: Mutex::default(),
                said: Said::default(),
            }));
            return Some(self.list.len() - 1);
        }
        known
    }
}

impl Node {
    fn shunned(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < SHUN)
    }
}

/// Waits longer and longer, until the time for retries is up.
pub(crate) struct Backoff {
    until: Instant,
    failures: u32,
    environment: Arc<dyn Environment>,
    /// When somebody should be told that it takes long; none once that was done.
    tell: Option<Instant>,
}

impl Backoff {
    pub fn new(options: &Options) -> Self {
        let now = Instant::now();
        Self {
            until: now + options.retry_for,
            failures: 0,
            environment: options.environment.clone(),
            tell: Some(now + QUIET),
        }
    }

    /// Waits before the next attempt; `false` when there is no time left for one.
    pub async fn wait(&mut self, error: &ClientError) -> bool {
        self.failures += 1;
        let pause = retry::backoff(self.failures, error.retry_after(), self.environment.random());
        if Instant::now() + pause >= self.until {
            return false;
        }
        if self.tell.is_some_and(|tell| Instant::now() >= tell) {
            self.tell = None;
            let for_s = (self.until - Instant::now()).as_secs();
            tracing::warn!(code = error.code().as_str(), "{error}; trying again for up to {for_s} s");
        }
        sleep(pause).await;
        true
    }
}

async fn open(options: &Options, node: &Node) -> Result<Channel, ClientError> {
    let (environment, encryption, said) = (options.environment.clone(), options.encryption.clone(), node.said.clone());
    let (address, within) = (&*node.address, options.connect_timeout);
    let connector = tower::service_fn(move |uri: Uri| {
        let (environment, encryption, said) = (environment.clone(), encryption.clone(), said.clone());
        async move {
            let address = uri.authority().map(std::string::ToString::to_string).unwrap_or_default();
            let stream = environment.connect(&address).await?;
            let stream: Box<dyn Io> = match encryption {
                None => stream,
                Some(encryption) => {
                    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                    Box::new(encryption.begin(host, stream, &said).await?)
                }
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let unusable = |error: &dyn std::fmt::Display| ClientError::unreachable(address, error.to_string());
    let scheme = if options.encryption.is_some() { "https" } else { "http" };
    let origin: Uri = format!("{scheme}://{address}").parse().map_err(|error| unusable(&error))?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| ClientError::unreachable(address, error))?
        .origin(origin)
        // Large enough that a replay is not bound by the round trip, small enough to bound memory.
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(MAX_FRAME)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    match timeout(within, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(ClientError::unreachable(address, error)),
        Err(_) => Err(ClientError::unreachable(address, format!("no connection within {} ms", within.as_millis()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::World;

    fn pool(servers: &[&str]) -> Pool {
        let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        let options = Options {
            environment: Arc::new(World),
            encryption: None,
            token: None,
            retry_for: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(1),
        };
        Pool::new(&servers, options).unwrap()
    }

    fn picked(pool: &Pool, prefer: Prefer) -> String {
        pool.nodes.lock().pick(prefer).address.clone()
    }

    fn names_leader(value: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(headers::LEADER, MetadataValue::from_static(value));
        metadata
    }

    #[tokio::test]
    async fn publishing_prefers_the_leader_that_a_response_named() {
        let pool = pool(&["a:1", "b:1"]);
        pool.learn(&names_leader("n3;c:1"));
        assert_eq!(picked(&pool, Prefer::Leader), "c:1");
        assert_eq!(picked(&pool, Prefer::Any), "a:1");
        pool.learn(&names_leader(";"));
        assert_eq!(picked(&pool, Prefer::Leader), "a:1");
    }

    #[tokio::test]
    async fn a_node_that_failed_gives_way_to_the_next_one_and_is_no_leader_for_a_while() {
        let pool = pool(&["a:1", "b:1"]);
        pool.learn(&names_leader("n1;a:1"));
        let first = pool.nodes.lock().pick(Prefer::Leader);
        pool.failed(&first);
        assert_eq!(picked(&pool, Prefer::Leader), "b:1");
        assert_eq!(picked(&pool, Prefer::Any), "b:1");
        pool.learn(&names_leader("n1;a:1"));
        assert_eq!(picked(&pool, Prefer::Leader), "b:1");
    }

    #[tokio::test]
    async fn what_servers_teach_is_bounded() {
        let pool = pool(&["a:1"]);
        for port in 1..100 {
            pool.nodes.lock().index_of(&format!("n:{port}"));
        }
        assert_eq!(pool.len(), MAX_NODES);
    }
}
