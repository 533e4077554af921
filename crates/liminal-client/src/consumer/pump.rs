//! A member's connection.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Consumer, Said};
use crate::{
    error::ClientError,
    message::{Received, malformed, notice_of},
    pool::{Backoff, Connected, MAX_ANSWER, Pool, Prefer},
    retry::{self, Repeat},
};
use liminal_wire::{
    Notice,
    time::from_ms,
    v1::{
        ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumerDelivery, SettleResult, consumers_client::ConsumersClient,
    },
};

/// Settlements of one request.
const AT_ONCE: usize = 1_024;
/// Requests that wait to be written.
const REQUESTS: usize = 4;

/// A delivery on its way to the caller.
pub(super) struct Handed {
    pub(super) generation: u64,
    pub(super) received: Received,
    /// What was removed before it.
    pub(super) notice: Option<Notice>,
    pub(super) attempt: u32,
    pub(super) token: String,
    /// The server wants to hear when work on it begins.
    pub(super) reported: bool,
}

pub(super) struct Pump {
    pool: Arc<Pool>,
    open: ConsumeOpen,
    says: mpsc::Receiver<Said>,
    handed: mpsc::Sender<Result<Handed, ClientError>>,
    generation: Arc<AtomicU64>,
    /// Received, to be handed over: as many as the member may have.
    inbox: VecDeque<Handed>,
    /// To be sent.
    queue: VecDeque<Said>,
    /// Sent, not answered, in order.
    sent: VecDeque<Said>,
    /// Everybody who could say something is gone.
    silent: bool,
    /// Nobody takes deliveries any longer.
    full: bool,
    /// The server wants to hear when work on a message begins.
    report_begun: bool,
}

struct Live {
    requests: Option<mpsc::Sender<ConsumeRequest>>,
    responses: Streaming<ConsumeResponse>,
    from: Connected,
}

impl Pump {
    pub(super) fn new(
        consumer: &Consumer,
        says: mpsc::Receiver<Said>,
        handed: mpsc::Sender<Result<Handed, ClientError>>,
        generation: Arc<AtomicU64>,
    ) -> Self {
        let (channel, name) = (consumer.channel.clone(), consumer.name.clone());
        Self {
            pool: consumer.pool.clone(),
            open: ConsumeOpen { channel, consumer: name, credit: consumer.credit, reports_begun: true },
            says,
            handed,
            generation,
            inbox: VecDeque::new(),
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            silent: false,
            full: false,
            report_begun: false,
        }
    }

    /// Until everybody is gone and everything is answered, or something fails that no other node can mend.
    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<(), ClientError>>) {
        let mut live = match self.connect().await {
            Ok(live) => live,
            Err(error) => {
                let _ = opened.send(Err(error)); // or it has given up
                return;
            }
        };
        if opened.send(Ok(())).is_err() {
            return;
        }
        loop {
            let error = match self.serve(&mut live).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let mended = if retry::may_retry(&error, Repeat::Safe) {
                self.pool.give_up(&live.from).await;
                // What was not answered is said again, before what was not said at all.
                while let Some(said) = self.sent.pop_back() {
                    self.queue.push_front(said);
                }
                self.connect().await
            } else {
                Err(error)
            };
            live = match mended {
                Ok(live) => live,
                Err(error) => {
                    for said in self.sent.drain(..).chain(self.queue.drain(..)) {
                        let _ = said.answer.send(Err(error.clone())); // or nobody waits
                    }
                    let _ = self.handed.send(Err(error)).await; // as above
                    return;
                }
            };
        }
    }

    async fn serve(&mut self, live: &mut Live) -> Result<(), ClientError> {
        let handed = self.handed.clone();
        loop {
            self.silent |= self.says.is_closed() && self.says.is_empty();
            let done = self.silent && self.queue.is_empty();
            if done {
                // The server answers what is left, and ends. No more credit says that this is an end in order.
                if let Some(requests) = live.requests.take() {
                    let end = ConsumeRequest { credit: Some(0), ..ConsumeRequest::default() };
                    let _ = requests.send(end).await; // or the connection is gone, which its answers say
                }
            }
            tokio::select! {
                response = live.responses.message() => match response {
                    Ok(Some(response)) => self.take(response)?,
                    Ok(None) if done && self.sent.is_empty() => return Ok(()),
                    Ok(None) => return Err(ClientError::lost(live.from.address())),
                    Err(status) => {
                        self.pool.learn(status.metadata());
                        return Err(ClientError::from_status(live.from.address(), status));
                    }
                },
                said = self.says.recv(), if !self.silent && self.queue.len() < AT_ONCE => match said {
                    Some(said) => {
                        self.queue.push_back(said);
                        while self.queue.len() < AT_ONCE
                            && let Ok(said) = self.says.try_recv()
                        {
                            self.queue.push_back(said);
                        }
                    }
                    None => self.silent = true,
                },
                permit = reserve(live.requests.as_ref()), if !self.queue.is_empty() => {
                    let Some(permit) = permit else { return Err(ClientError::lost(live.from.address())) };
                    let now: Vec<Said> = self.queue.drain(..self.queue.len().min(AT_ONCE)).collect();
                    let settlements = now.iter().map(|said| said.settlement.clone()).collect();
                    permit.send(ConsumeRequest { settlements, ..ConsumeRequest::default() });
                    self.sent.extend(now);
                }
                Ok(permit) = handed.reserve(), if !self.inbox.is_empty() => {
                    if let Some(delivery) = self.inbox.pop_front() {
                        permit.send(Ok(delivery));
                    }
                }
                () = self.handed.closed(), if !self.full => {
                    self.inbox.clear();
                    self.full = true;
                    self.open.credit = 0;
                    if let Some(permit) = reserve(live.requests.as_ref()).await {
                        permit.send(ConsumeRequest { credit: Some(0), ..ConsumeRequest::default() });
                    }
                }
            }
        }
    }

    fn take(&mut self, response: ConsumeResponse) -> Result<(), ClientError> {
        for SettleResult { token, error } in response.results {
            let said = self.sent.pop_front().filter(|said| said.settlement.token == token);
            let said = said.ok_or_else(|| malformed("answer to a settlement"))?;
            let _ = said.answer.send(error.map_or(Ok(()), |error| Err(ClientError::from_proto(error)))); // or nobody waits
        }
        let generation = self.generation.load(Ordering::Acquire);
        let mut notice = response.notice.map(|notice| notice_of(&self.open.channel, notice)).transpose()?;
        for delivery in response.deliveries {
            let ConsumerDelivery { token, seq, attempt, time_ms, schema_id, message, .. } = delivery;
            let message = message.ok_or_else(|| malformed("delivery"))?;
            let received = Received { seq, time: from_ms(time_ms), schema_id, message: message.into() };
            if !self.full {
                // Otherwise nobody takes it: it comes again when the stream ends.
                let reported = self.report_begun;
                let notice = notice.take();
                self.inbox.push_back(Handed { generation, received, notice, attempt, token, reported });
            }
        }
        Ok(())
    }

    /// On any node that serves. What the last connection has handed over, and nobody has seen, comes again.
    async fn connect(&mut self) -> Result<Live, ClientError> {
        let mut backoff = Backoff::new(&self.pool.options);
        loop {
            let error = match self.try_connect().await {
                Ok((live, report_begun)) => {
                    self.report_begun = report_begun;
                    self.inbox.clear();
                    self.generation.fetch_add(1, Ordering::AcqRel);
                    return Ok(live);
                }
                Err(error) => error,
            };
            if !retry::may_retry(&error, Repeat::Safe) || !backoff.wait(&error).await {
                return Err(error);
            }
        }
    }

    /// A connection, and whether its server wants to hear when work on a message begins.
    async fn try_connect(&self) -> Result<(Live, bool), ClientError> {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let open = ConsumeRequest { open: Some(self.open.clone()), ..ConsumeRequest::default() };
        let _ = requests.try_send(open); // there is room: it is new
        let call = |link| async move {
            let mut client = ConsumersClient::new(link).max_decoding_message_size(MAX_ANSWER);
            client.consume(ReceiverStream::new(receiver)).await
        };
        let (mut responses, from) = self.pool.attempt(Prefer::Any, call).await?;
        let after = self.pool.options.answer_timeout;
        // The first one is empty: it says that the member is accepted.
        let error = match tokio::time::timeout(after, responses.message()).await {
            Ok(Ok(Some(first))) => {
                return Ok((Live { requests: Some(requests), responses, from }, first.report_begun));
            }
            Ok(Ok(None)) => ClientError::lost(from.address()),
            Ok(Err(status)) => {
                self.pool.learn(status.metadata());
                ClientError::from_status(from.address(), status)
            }
            Err(_) => ClientError::timeout(from.address(), after),
        };
        if retry::may_retry(&error, Repeat::Safe) {
            self.pool.give_up(&from).await;
        }
        Err(error)
    }
}

/// Room for a request; none when the connection takes no more.
async fn reserve(requests: Option<&mpsc::Sender<ConsumeRequest>>) -> Option<mpsc::Permit<'_, ConsumeRequest>> {
    requests?.reserve().await.ok()
}
