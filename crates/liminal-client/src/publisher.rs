//! Publishing many messages over one stream. Messages that are handed in while others are being sent become the
//! next batch, without a timer: alone, a message goes at once; under load, batches grow by themselves. One task
//! drives the stream; a message costs an encoding and a reply slot.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, interval, timeout},
};
use tonic::Streaming;

use super::{
    error::ClientError,
    message::{Confirm, Message, Published},
    pool::{Backoff, Connected, MAX_ANSWER, Pool, Prefer},
    retry::{self, Repeat},
    window::{BatchLimits, Window},
};
use liminal_wire::Code;
use liminal_wire::v1::{self, PublishAcks, PublishBatch, broker_client::BrokerClient};

/// Bytes of messages that a publisher holds until they are acknowledged.
const WINDOW_BYTES: u32 = 64 << 20;
/// The largest message that is sent at all: a server takes no larger batch. Its own limit is usually lower.
const MAX_MESSAGE: usize = 4 << 20;

/// How a [`Publisher`] works.
#[derive(Clone, Copy, Debug)]
pub struct PublisherOptions {
    /// What an ack waits for.
    pub confirm: Confirm,
    /// Messages that may be unacknowledged at a time (all of them together at most 64 MiB); more have to wait.
    pub in_flight: u32,
    /// Messages of one batch, at most 4,096.
    pub batch_messages: u32,
    /// Bytes of one batch; a single larger message still goes.
    pub batch_bytes: usize,
    /// Batches that are sent before the first of them is acknowledged. Fewer means larger batches under load.
    pub batches_under_way: usize,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            confirm: Confirm::Delivery,
            in_flight: 8192,
            batch_messages: 4096,
            batch_bytes: 1 << 20,
            batches_under_way: 4,
        }
    }
}

impl PublisherOptions {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            messages: self.batch_messages.clamp(1, 4096),
            bytes: self.batch_bytes,
            under_way: self.batches_under_way.max(1),
        }
    }
}

/// Publishes to one channel over one stream. Cloning shares it. When the last clone is dropped, what was handed in
/// is still sent in the background, as long as the runtime lives; [`Publisher::flush`] waits for it.
///
/// After a lost connection, messages with a key are sent again in order; those without a key that were under way
/// fail with [`ClientError::outcome_unknown`]. A batch that a quota or back-pressure defers is sent again when its time
/// has come, and is then behind the batches that were under way with it: where their order matters more than the rate,
/// set [`PublisherOptions::batches_under_way`] to 1.
#[derive(Clone)]
pub struct Publisher {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.puller.take()
        };
        self.shared.work.notify_one();
        waker.into_iter().for_each(Waker::wake);
    }
}

struct Shared {
    channel: String,
    confirm: i32,
    limits: BatchLimits,
    /// Room for messages, in bytes: each costs its size, but at least `least`, so that their number is bounded too.
    room: Semaphore,
    capacity: u32,
    least: u32,
    state: Mutex<State>,
    /// The driver has something to do.
    work: Notify,
}

#[derive(Default)]
struct State {
    window: Window,
    /// The request stream in use; an older one must not take messages any more.
    generation: u64,
    puller: Option<Waker>,
    closed: bool,
}

/// The outcome of a message that was handed in: a future. Dropping it does not call the message back.
pub struct Ack(oneshot::Receiver<Result<Published, ClientError>>);

impl Future for Ack {
    type Output = Result<Published, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| {
            result.unwrap_or_else(|_| {
                Err(ClientError::new(Code::Stopping, "the publisher's runtime has ended").unknown())
            })
        })
    }
}

impl Publisher {
    pub(crate) fn start(pool: Arc<Pool>, channel: String, options: PublisherOptions) -> Self {
        let least = (WINDOW_BYTES / options.in_flight.max(1)).max(1);
        let capacity = least.saturating_mul(options.in_flight.max(1)).min(WINDOW_BYTES);
        let shared = Arc::new(Shared {
            channel,
            confirm: v1::Confirm::from(options.confirm).into(),
            limits: options.limits(),
            room: Semaphore::new(capacity as usize),
            capacity,
            least,
            state: Mutex::default(),
            work: Notify::new(),
        });
        tokio::spawn(Driver { shared: shared.clone(), pool }.run());
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Publishes a message and waits for its ack. Many of these futures may be pending at a time; messages go in
    /// the order in which the futures are first polled.
    ///
    /// # Errors
    /// When the message was refused, or when there was no certainty before the deadline for retries.
    pub async fn send(&self, message: Message) -> Result<Published, ClientError> {
        self.enqueue(message).await?.await
    }

    /// Hands a message in, waiting only for room in the window, and returns the future of its ack.
    ///
    /// # Errors
    /// When the message is too large to be sent.
    pub async fn enqueue(&self, message: Message) -> Result<Ack, ClientError> {
        let shared = &self.handle.shared;
        let message = v1::Message::from(message);
        let size = message.encoded_len();
        if size > MAX_MESSAGE {
            let text = format!("the message is {size} bytes; the limit is {MAX_MESSAGE}");
            return Err(ClientError::new(Code::LimitExceeded, text));
        }
        let cost = u32::try_from(size).unwrap_or(u32::MAX).max(shared.least).min(shared.capacity);
        match shared.room.acquire_many(cost).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(ClientError::new(Code::Stopping, "the publisher has ended")),
        }
        let (ack, waker, idle) = {
            let mut state = shared.state.lock();
            let idle = state.window.is_empty();
            let ack = state.window.push(&message, cost, Instant::now(), shared.limits);
            // A connection that must not send more yet is woken by the next ack.
            let waker = if state.window.may_send(shared.limits) { state.puller.take() } else { None };
            (ack, waker, idle)
        };
        waker.into_iter().for_each(Waker::wake);
        if idle {
            shared.work.notify_one();
        }
        Ok(Ack(ack))
    }

    /// Waits until everything that was handed in before has its outcome.
    pub async fn flush(&self) {
        let shared = &self.handle.shared;
        // All room is free exactly when nothing is unacknowledged.
        drop(shared.room.acquire_many(shared.capacity).await);
    }
}

/// The request stream: takes a batch whenever the connection can send one.
struct Batches {
    shared: Arc<Shared>,
    generation: u64,
}

impl Stream for Batches {
    type Item = PublishBatch;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PublishBatch>> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        if state.generation != self.generation || state.closed && state.window.is_empty() {
            return Poll::Ready(None);
        }
        match state.window.take(Instant::now(), shared.limits) {
            Some(frame) => Poll::Ready(Some(PublishBatch {
                channel: shared.channel.clone(),
                batch: frame.bytes(),
                confirm: shared.confirm,
                expected_seq: None,
            })),
            None => {
                state.puller = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Opens streams, reads acks, and decides what happens when a stream ends.
struct Driver {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

impl Driver {
    async fn run(self) {
        let mut backoff: Option<Backoff> = None;
        loop {
            if !self.wait_for_work().await {
                return;
            }
            let (error, progress) = match self.stream().await {
                Ok(()) => continue,
                Err(end) => end,
            };
            if progress {
                backoff = None;
            }
            self.settle(&error);
            let pause = backoff.get_or_insert_with(|| Backoff::new(&self.pool.options));
            if !pause.wait(&error).await {
                // Single messages expire in `settle`; the pauses just begin anew.
                backoff = None;
            }
        }
    }

    /// Returns `false` when there never will be any.
    async fn wait_for_work(&self) -> bool {
        loop {
            let notified = self.shared.work.notified();
            {
                let state = self.shared.state.lock();
                if state.window.has_waiting() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            notified.await;
        }
    }

    /// After a stream's end: who goes again, who fails.
    fn settle(&self, error: &ClientError) {
        let freed = {
            let mut state = self.shared.state.lock();
            state.generation += 1;
            let mut freed = state.window.broken(error);
            let now = Instant::now();
            let before = if retry::may_retry(error, Repeat::Safe) {
                now.checked_sub(self.pool.options.retry_for)
            } else {
                // It would happen to all that wait as well.
                Some(now)
            };
            if let Some(before) = before {
                freed += state.window.expire(before, error);
            }
            freed
        };
        self.shared.room.add_permits(freed as usize);
    }

    /// Sends and reads until the stream ends; with the error, says whether it worked for a while. Ends without an
    /// error when all is done.
    async fn stream(&self) -> Result<(), (ClientError, bool)> {
        let connected = self.pool.connect(Prefer::Leader).await.map_err(|error| (error, false))?;
        let generation = {
            let mut state = self.shared.state.lock();
            state.generation += 1;
            state.generation
        };
        let mut progress = false;
        let result = self.follow(&connected, generation, &mut progress).await;
        if let Err(error) = &result
            && retry::may_retry(error, Repeat::Safe)
            && !retry::stay(error)
        {
            self.pool.give_up(&connected).await;
        }
        result.map_err(|error| (error, progress))
    }

    async fn follow(&self, connected: &Connected, generation: u64, progress: &mut bool) -> Result<(), ClientError> {
        let mut client = BrokerClient::new(connected.link.clone()).max_decoding_message_size(MAX_ANSWER);
        let answer = self.pool.options.answer_timeout;
        let opening = client.publish_stream(Batches { shared: self.shared.clone(), generation });
        let response = match timeout(answer, opening).await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => {
                self.pool.learn(status.metadata());
                return Err(ClientError::from_status(connected.address(), status));
            }
            Err(_) => return Err(ClientError::timeout(connected.address(), answer)),
        };
        self.pool.learn(response.metadata());
        let mut acks: Streaming<PublishAcks> = response.into_inner();
        let mut watch = interval(answer.div_f64(8.0).max(Duration::from_millis(50)));
        loop {
            tokio::select! {
                message = acks.message() => match message {
                    Ok(Some(some)) => {
                        *progress = true;
                        self.take_acks(some)?;
                    }
                    Ok(None) if self.shared.state.lock().window.is_empty() => return Ok(()),
                    Ok(None) => return Err(ClientError::lost(connected.address())),
                    Err(status) => {
                        self.pool.learn(status.metadata());
                        return Err(ClientError::from_status(connected.address(), status));
                    }
                },
                _ = watch.tick() => {
                    let oldest = self.shared.state.lock().window.oldest_under_way();
                    if oldest.is_some_and(|sent| sent.elapsed() > answer) {
                        return Err(ClientError::timeout(connected.address(), answer));
                    }
                }
            }
        }
    }

    fn take_acks(&self, acks: PublishAcks) -> Result<(), ClientError> {
        let (result, waker) = {
            let mut state = self.shared.state.lock();
            (state.window.acks(acks.first, acks.acks), state.puller.take())
        };
        // A place for another batch is free, or a closed publisher has nothing left.
        waker.into_iter().for_each(Waker::wake);
        let (freed, leave) = result;
        self.shared.room.add_permits(freed as usize);
        leave.map_or(Ok(()), Err)
    }
}
