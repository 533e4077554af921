//! Requests between brokers: many at a time over one stream to each node, matched to their answers by number.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::transport::{Client, Lane, Transport, is_from_a_stranger};
use crate::{
    proto::raft::{CallRequest, StatusRequest},
    sequencer::{NodeAddress, SequencerError},
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
    requests: mpsc::Sender<CallRequest>,
    waiting: Arc<Waiting>,
}

/// Who waits for an answer; none once the stream is broken.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Bytes, SequencerError>>>>>;

impl Calls {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, links: Mutex::default(), ids: AtomicU64::new(0) }
    }

    /// Sends a request and waits for its answer. The caller bounds the wait.
    pub(super) async fn call(&self, node: &NodeAddress, request: Bytes) -> Result<Bytes, SequencerError> {
        let link = self.link(node);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match link.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(SequencerError::NotLeader),
        };
        let _forget = Forget { waiting: &link.waiting, id };
        if link.requests.send(CallRequest { id, request }).await.is_err() {
            return Err(SequencerError::NotLeader); // never written
        }
        answered
            .await
            .unwrap_or_else(|_| Err(SequencerError::Unknown(format!("the connection to node {} was lost", node.name))))
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
        let link = Arc::new(Link { requests, waiting: Arc::new(Mutex::new(Some(HashMap::new()))) });
        let client = self.transport.client(node.id, &node.peer, Lane::Calls);
        tokio::spawn(run(client, receiver, link.waiting.clone()));
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

async fn run(mut client: Client, requests: mpsc::Receiver<CallRequest>, waiting: Arc<Waiting>) {
    // Nothing is written before the node has answered once, so that a call to a node that is not there fails as
    // not delivered instead of as unknown.
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.status(StatusRequest {})).await;
    if !matches!(opened, Ok(Ok(_))) {
        not_delivered(&waiting);
        return;
    }
    let stream = Request::new(ReceiverStream::new(requests));
    match tokio::time::timeout(OPEN_TIMEOUT, client.calls(stream)).await {
        Ok(Ok(answers)) => {
            let mut answers = answers.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                let waiter = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&answer.id));
                if let Some(waiter) = waiter {
                    let _ = waiter.send(Ok(answer.answer)); // or it gave up meanwhile
                }
            }
        }
        Ok(Err(status)) if is_from_a_stranger(&status) => not_delivered(&waiting),
        Ok(Err(_)) | Err(_) => {}
    }
    // Dropping the senders tells every caller that its answer will not come.
    waiting.lock().take();
}
