//! Consuming: a member of a consumer's group that goes on through failures, and settles what it was handed.
//!
//! The connection is a task of its own (`pump.rs`): it hands deliveries to the caller, gathers what the caller says of
//! them into as few requests as there is time for, and repeats on another node what was not answered. That does no
//! harm, because to settle twice is to settle once.

mod calls;
mod pulls;
mod pump;

pub use self::pulls::{Pulled, PulledMessages};

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::pump::{Handed, Pump};
use super::{error::ClientError, message::Received, pool::Pool};
use liminal_wire::{
    Code, Notice,
    v1::{Settlement, Verdict},
};

/// Messages that a member has at once that are not settled, unless it says otherwise.
const CREDIT: u32 = 100;
/// Deliveries that wait for the caller beside those in the connection.
const HANDED: usize = 16;
/// Settlements that may wait to be sent, beside one for each message that the member has.
const SAID: usize = 1_024;

/// A member of a consumer's group. The consumer has to exist: see
/// [`Client::create_consumer`](super::Client::create_consumer).
///
/// ```no_run
/// use std::time::Duration;
/// use liminal_client::{Client, Nack};
///
/// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
/// let billing = client.consumer("orders", "billing").concurrency(8);
///
/// // Ends gracefully: takes no more, finishes what is in hand, has its acks confirmed.
/// let stop = billing.stopper();
/// tokio::spawn(async move {
///     let _ = tokio::signal::ctrl_c().await;
///     stop.cancel();
/// });
///
/// billing
///     .run(|delivery| async move {
///         match bill(&delivery.received.message.payload).await {
///             Ok(()) => Ok(()),
///             // It comes again in a minute, with its attempt count; or is dead after the last attempt.
///             Err(reason) => Err(Nack::after(Duration::from_secs(60)).because(reason)),
///         }
///     })
///     .await?;
/// # Ok(())
/// # }
/// # async fn bill(_: &[u8]) -> Result<(), String> { Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "nothing is consumed before `run` or `open`"]
pub struct Consumer {
    pool: Arc<Pool>,
    channel: String,
    name: String,
    credit: u32,
    concurrency: usize,
    stop: CancellationToken,
}

/// A message that was handed to this member. Dropped without a word, it comes again after the ack timeout.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message and its place.
    pub received: Received,
    /// Messages before it were removed, by retention or by hand, before the consumer had settled them. It is told with the
    /// first delivery after that, to whoever gets it.
    pub notice: Option<Notice>,
    /// Which time it is handed out, from 1.
    pub attempt: u32,
    token: String,
    origin: Arc<Origin>,
    said: mpsc::Sender<Said>,
}

/// The consumer that deliveries are of.
#[derive(Debug)]
struct Origin {
    channel: String,
    consumer: String,
}

/// Why a message is given back, and when it may come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nack {
    delay: Duration,
    reason: String,
}

impl Nack {
    /// It may come again at once.
    pub fn now() -> Self {
        Self::default()
    }

    /// It comes again after this time.
    pub fn after(delay: Duration) -> Self {
        Self { delay, reason: String::new() }
    }

    /// With a reason, which the dead letter will carry. What is too long (256 bytes) is cut.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self.reason.truncate(self.reason.floor_char_boundary(256));
        self
    }
}

/// What was said of a delivery, on its way.
struct Said {
    settlement: Settlement,
    answer: oneshot::Sender<Result<(), ClientError>>,
}

/// Resolves when a settlement is as durable as a publish. It is sent all the same if this is dropped.
#[derive(Debug)]
pub struct Settled(oneshot::Receiver<Result<(), ClientError>>);

impl Future for Settled {
    type Output = Result<(), ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = |_| Err(ClientError::new(Code::ConnectionLost, "the consumer has ended").unknown());
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or_else(ended))
    }
}

impl Delivery {
    /// Done: it never comes again.
    ///
    /// The answer is `STALE_DELIVERY` when it came too late, and the message has been handed out again.
    pub fn ack(&self) -> Settled {
        self.say(Verdict::Ack, Nack::now())
    }

    /// Done, with everything before it that this member has.
    pub fn ack_up_to(&self) -> Settled {
        self.say(Verdict::AckUpTo, Nack::now())
    }

    /// It comes again, to any member; or is dead after its last attempt.
    pub fn nack(&self, nack: Nack) -> Settled {
        self.say(Verdict::Nack, nack)
    }

    /// Still at it: the ack timeout begins again.
    pub fn extend(&self) -> Settled {
        self.say(Verdict::Extend, Nack::now())
    }

    /// The channel and the consumer that it is of.
    pub fn consumer(&self) -> (&str, &str) {
        (&self.origin.channel, &self.origin.consumer)
    }

    /// By this it is settled.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    fn say(&self, verdict: Verdict, Nack { delay, reason }: Nack) -> Settled {
        let (answer, settled) = oneshot::channel();
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let settlement = Settlement { token: self.token.clone(), verdict: verdict.into(), delay_ms, reason };
        match self.said.try_send(Said { settlement, answer }) {
            Err(mpsc::error::TrySendError::Full(said)) => {
                let full = ClientError::new(Code::Overloaded, "too many settlements wait for their answers")
                    .with_help("await some of them before more are made");
                let _ = said.answer.send(Err(full)); // it is held right here
            }
            // Without a pump the answer's sender is dropped, which says that it has ended.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
        Settled(settled)
    }
}

impl Consumer {
    pub(super) fn new(pool: Arc<Pool>, channel: String, name: String) -> Self {
        Self { pool, channel, name, credit: CREDIT, concurrency: 1, stop: CancellationToken::new() }
    }

    /// How many messages this member has at once that are not settled; 100 unless set.
    pub fn credit(mut self, messages: u32) -> Self {
        self.credit = messages.max(1);
        self
    }

    /// How many messages [`Consumer::run`] works on at once; 1 unless set, in the order in which they come.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.concurrency = messages.max(1);
        self
    }

    /// Cancelling it ends [`Consumer::run`] gracefully.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Works on messages until it is stopped: what ends well is acknowledged, what does not is given back.
    ///
    /// # Errors
    /// When the consumer does not exist or is deleted, or no node serves in time.
    pub async fn run<F, Fut>(self, mut handler: F) -> Result<(), ClientError>
    where
        F: FnMut(Delivery) -> Fut,
        Fut: Future<Output = Result<(), Nack>>,
    {
        let mut deliveries = self.open().await?;
        let mut working = FuturesUnordered::new();
        let mut failed = None;
        while failed.is_none() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(()) = working.next(), if !working.is_empty() => {}
                next = deliveries.next(), if working.len() < self.concurrency => match next {
                    Some(Ok(delivery)) => working.push(work(&mut handler, delivery)),
                    Some(Err(error)) => failed = Some(error),
                    None => break,
                },
            }
        }
        deliveries.stop_taking();
        while working.next().await.is_some() {}
        drop(working);
        match failed {
            Some(error) => Err(error),
            None => deliveries.close().await,
        }
    }

    /// Becomes a member. When this returns, a node has accepted it.
    ///
    /// # Errors
    /// When the consumer does not exist, or no node serves in time.
    pub async fn open(&self) -> Result<Deliveries, ClientError> {
        // Of each message is said that work on it begins, and what comes of it.
        let (said, says) = mpsc::channel(SAID + 2 * self.credit as usize);
        let (handed, hands) = mpsc::channel(HANDED);
        let generation = Arc::new(AtomicU64::new(0));
        let pump = Pump::new(self, says, handed, generation.clone());
        let (opened, open) = oneshot::channel();
        let task = tokio::spawn(pump.run(opened));
        match open.await {
            Ok(Ok(())) => {
                let origin = Arc::new(Origin { channel: self.channel.clone(), consumer: self.name.clone() });
                Ok(Deliveries { hands, generation, origin, said, task })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ClientError::new(Code::Internal, "the consumer's task has ended")),
        }
    }
}

async fn settle(work: impl Future<Output = Result<(), Nack>>, delivery: Delivery) {
    let settled = match work.await {
        Ok(()) => delivery.ack(),
        Err(nack) => delivery.nack(nack),
    };
    // Too late, or not at all: it is, or will be, handed out again.
    if let Err(error) = settled.await {
        tracing::debug!(%error, seq = delivery.received.seq, "a delivery was not settled");
    }
}

fn work<F, Fut>(handler: &mut F, delivery: Delivery) -> impl Future<Output = ()> + use<F, Fut>
where
    F: FnMut(Delivery) -> Fut,
    Fut: Future<Output = Result<(), Nack>>,
{
    settle(handler(delivery.clone()), delivery)
}

/// The messages that this member is handed: a stream that ends only after an error. Dropping it takes no more; what is
/// settled later still counts. An attempt begins when the stream yields its message: what it has not yielded when it is
/// dropped comes again and has cost none.
#[must_use]
pub struct Deliveries {
    hands: mpsc::Receiver<Result<Handed, ClientError>>,
    /// Grows with each connection: what an earlier one handed over, and the caller has not seen, comes again.
    generation: Arc<AtomicU64>,
    origin: Arc<Origin>,
    said: mpsc::Sender<Said>,
    task: JoinHandle<()>,
}

impl Deliveries {
    fn stop_taking(&mut self) {
        self.hands.close();
    }

    /// Takes no more, and waits until everything that was said is answered. Messages in the hands of others delay it
    /// until they are settled or dropped.
    ///
    /// # Errors
    /// When the connection's task has failed.
    pub async fn close(self) -> Result<(), ClientError> {
        let Self { hands, said, task, .. } = self;
        drop((hands, said));
        task.await.map_err(|error| ClientError::new(Code::Internal, error.to_string()))
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::task::ready!(self.hands.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(handed)) if handed.generation == self.generation.load(Ordering::Acquire) => {
                    let Handed { received, notice, attempt, token, reported, .. } = handed;
                    let (origin, said) = (self.origin.clone(), self.said.clone());
                    let delivery = Delivery { received, notice, attempt, token, origin, said };
                    if reported {
                        // It needs no answer.
                        drop(delivery.say(Verdict::Begun, Nack::now()));
                    }
                    return Poll::Ready(Some(Ok(delivery)));
                }
                Some(Ok(_)) => {}
            }
        }
    }
}
