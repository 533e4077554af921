//! Requests between brokers: many at a time over one stream to each node, matched to their answers by number. They are in the
//! newest version that both nodes speak, which is known when the stream is open: a request that waited for that and is in
//! another one is given back, as not delivered.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::transport::{Client, Lane, Transport, is_from_a_stranger};
use crate::{
    proto::raft::{CallRequest, CallResponse, StatusRequest},
    sequencer::{NodeAddress, PeerMessage, PeerVersion, SequencerError},
};

/// Requests that may wait to be written to one node. The broker bounds their bytes.
const QUEUE: usize = 1024;
/// How long the other side may take to accept a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// The streams to all nodes that were called.
pub(super) struct Calls {
    transport: Transport,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    ids: AtomicU64,
}

/// One stream. It lives until it breaks; the next call then opens another.
struct Link {
    requests: mpsc::Sender<(u64, PeerMessage)>,
    waiting: Arc<Waiting>,
    /// What both sides speak, once the stream is open.
    version: Arc<OnceLock<PeerVersion>>,
}

/// Who waits for an answer; none once the stream is broken.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<PeerMessage, SequencerError>>>>>;

impl Calls {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, links: Mutex::default(), ids: AtomicU64::new(0) }
    }

    /// Sends a request and waits for its answer. The caller bounds the wait.
    pub(super) async fn call(&self, node: &NodeAddress, request: PeerMessage) -> Result<PeerMessage, SequencerError> {
        let link = self.link(node);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match link.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(SequencerError::NotLeader),
        };
        let _forget = Forget { waiting: &link.waiting, id };
        if link.requests.send((id, request)).await.is_err() {
            return Err(SequencerError::NotLeader); // never written
        }
        answered
            .await
            .unwrap_or_else(|_| Err(SequencerError::Unknown(format!("the connection to node {} was lost", node.name))))
    }

    /// What a node speaks, as far as it is known.
    pub(super) fn version(&self, node: &NodeAddress) -> PeerVersion {
        let links = self.links.lock();
        let agreed = links.get(&node.id).and_then(|link| link.version.get().copied());
        agreed.unwrap_or_else(|| self.transport.newest())
    }

    fn link(&self, node: &NodeAddress) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&node.id)
            && !link.requests.is_closed()
            && link.waiting.lock().is_some()
        {
            return link.clone();
        }
        let (requests, receiver) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let link = Arc::new(Link { requests, waiting, version: Arc::default() });
        let client = self.transport.client(node.id, &node.peer, Lane::Calls);
        let (transport, to) = (self.transport.clone(), node.id);
        let agreed = move || transport.version(to, Lane::Calls);
        tokio::spawn(run(client, receiver, link.waiting.clone(), link.version.clone(), agreed));
        links.insert(node.id, link.clone());
        link
    }
}

/// A caller that gives up is forgotten.
struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

/// Tells every caller that its request has reached nobody.
fn not_delivered(waiting: &Waiting) {
    for (_, waiter) in waiting.lock().take().unwrap_or_default() {
        let _ = waiter.send(Err(SequencerError::NotLeader)); // or it gave up meanwhile
    }
}

async fn run(
    mut client: Client,
    requests: mpsc::Receiver<(u64, PeerMessage)>,
    waiting: Arc<Waiting>,
    version: Arc<OnceLock<PeerVersion>>,
    agreed: impl Fn() -> Option<PeerVersion>,
) {
    // Nothing is written before the node has answered once, so that a call to a node that is not there fails as
    // not delivered instead of as unknown.
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.status(StatusRequest {})).await;
    let (Ok(Ok(_)), Some(agreed)) = (opened, agreed()) else {
        not_delivered(&waiting);
        return;
    };
    let version = *version.get_or_init(|| agreed);
    let to_take_back = waiting.clone();
    let written = ReceiverStream::new(requests).filter_map(move |(id, request)| {
        let written = (request.version == version).then(|| to_call(id, request));
        if written.is_none()
            && let Some(waiter) = to_take_back.lock().as_mut().and_then(|waiting| waiting.remove(&id))
        {
            let _ = waiter.send(Err(SequencerError::NotLeader)); // or it gave up meanwhile
        }
        std::future::ready(written)
    });
    match tokio::time::timeout(OPEN_TIMEOUT, client.calls(Request::new(written))).await {
        Ok(Ok(answers)) => {
            let mut answers = answers.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                let waiter = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&answer.id));
                if let Some(waiter) = waiter {
                    let _ = waiter.send(from_answer(answer, version)); // or it gave up meanwhile
                }
            }
        }
        Ok(Err(status)) if is_from_a_stranger(&status) => not_delivered(&waiting),
        Ok(Err(_)) | Err(_) => {}
    }
    // Dropping the senders tells every caller that its answer will not come.
    waiting.lock().take();
}

fn to_call(id: u64, PeerMessage { version: _, bytes }: PeerMessage) -> CallRequest {
    CallRequest { id, crc: crc32fast::hash(&bytes), request: bytes }
}

fn from_answer(answer: CallResponse, version: PeerVersion) -> Result<PeerMessage, SequencerError> {
    let CallResponse { id: _, answer, crc } = answer;
    message(answer, crc, version).ok_or_else(|| SequencerError::Unknown("an answer was damaged on its way".into()))
}

/// What a node's broker asks, in the version that was agreed with it; none where it was damaged on its way.
pub(super) fn from_call(call: CallRequest, version: PeerVersion) -> Option<PeerMessage> {
    let CallRequest { id: _, request, crc } = call;
    message(request, crc, version)
}

pub(super) fn to_answer(id: u64, PeerMessage { version: _, bytes }: PeerMessage) -> CallResponse {
    CallResponse { id, crc: crc32fast::hash(&bytes), answer: bytes }
}

fn message(bytes: Bytes, crc: u32, version: PeerVersion) -> Option<PeerMessage> {
    (crc32fast::hash(&bytes) == crc).then_some(PeerMessage { version, bytes })
}
