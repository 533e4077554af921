//! Publishing and following over one WebSocket, for browsers and whoever wants both directions on one connection.
//!
//! Every frame is one JSON object. A request has an `id` of the client's choice and one of `publish`, `subscribe` and
//! `unsubscribe`; the answer carries the same `id` with `ok` or `error` (a problem as elsewhere). The messages of a
//! subscription carry its `id` as `subscription`, and where to go on as `next`. One task serves a connection: while the client does not read, nothing
//! more is taken from it or from its subscriptions, so a slow one makes nothing grow. A connection ends with the token by
//! which it was opened.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Extension,
    extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio_stream::StreamMap;

use super::{
    content::{self, HeadersJson},
    messages::{Stored, if_changed_of, start, unpack},
    problem::Problem,
};
use crate::{
    broker::{Access, BrokerError, PublishOptions, Standing, SubscribeOptions, filter_of, place_on_connection},
    budget::{Account, Lease},
    model::{self, MessageJson, Notice, NoticeJson, Position},
    proto::v1::Message,
};

/// What is spoken here, for clients that name it. Browsers, which cannot send a header of their own, name their token
/// beside it: see [`super::guarding`].
const PROTOCOL: &str = "liminal.v1";
/// Publishes of one connection that wait for their outcome.
const PUBLISHES: usize = 256;
/// Bytes of the reason in a closing frame: it is a control frame, which has at most 125 with its code.
const CLOSE_REASON: usize = 120;
/// Every connection has one.
const READ_BUFFER: usize = 16 << 10;
/// So many times the largest request is read before it is refused; what is larger ends the connection.
const READABLE: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: u64,
    publish: Option<Publish>,
    subscribe: Option<Subscribe>,
    /// The id of a subscription.
    unsubscribe: Option<u64>,
}

/// What is asked of any request, whatever else is wrong with it.
#[derive(Debug, Deserialize)]
struct Named {
    id: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    channel: String,
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
    key: Option<String>,
    #[serde(default)]
    headers: HeadersJson,
    #[serde(default)]
    ttl_ms: u64,
    /// A time, for a message that becomes visible only then.
    deliver_at: Option<String>,
    /// The channel has to end here.
    expected_seq: Option<u64>,
    /// Whether the answer waits for the hand-off to a subscriber.
    #[serde(default)]
    confirm: super::messages::ConfirmQuery,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    channel: String,
    /// As in a URL; `latest` unless given.
    from: Option<String>,
    /// A predicate.
    #[serde(default)]
    filter: String,
    /// As in a URL.
    if_changed: Option<String>,
}

/// A message of a subscription.
#[derive(Debug, Serialize)]
struct Delivered<'a> {
    subscription: u64,
    message: MessageJson<'a>,
    /// Where to go on after it.
    next: Position,
}

pub(super) async fn upgrade(
    Extension(broker): Extension<Access>,
    Extension(connection): Extension<Arc<Account>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Base64 and the request around a payload.
    let most = broker.limits().message_bytes.saturating_mul(4) / 3 + broker.limits().header_bytes + 1024;
    // What is somewhat larger is read, so that it is refused by its id and the subscriptions stay.
    let readable = most.saturating_mul(READABLE);
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(readable)
        .max_frame_size(readable)
        // It waits until this is sent, so nothing more than one answer is ever buffered.
        .write_buffer_size(0)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(move |socket| Connection::new(broker, connection, socket, most).serve())
}

type Following = std::pin::Pin<Box<dyn futures::Stream<Item = Result<Followed, BrokerError>> + Send>>;

/// What a subscription has to say.
enum Followed {
    /// A message, and where to go on after it.
    Message(Stored, Position),
    /// Its history has changed.
    Notice(Notice),
}

struct Connection {
    broker: Access,
    /// What is counted of it, over all that it does.
    account: Arc<Account>,
    socket: WebSocket,
    /// Bytes of a request, at most.
    most: usize,
    publishes: FuturesUnordered<BoxFuture<'static, String>>,
    subscriptions: StreamMap<u64, Following>,
    /// The channels of the subscriptions, and their places on the connection.
    channels: HashMap<u64, (String, [Option<Lease>; 2])>,
}

/// Why a connection ends.
enum End {
    /// The client has gone, or broke the protocol of WebSockets.
    Gone,
    /// A frame that is far too large: nothing after it can be read.
    TooLarge,
    /// The node stops.
    Stopping,
    /// The token by which it was opened is not valid any more.
    Revoked(BrokerError),
}

impl Connection {
    fn new(broker: Access, account: Arc<Account>, socket: WebSocket, most: usize) -> Self {
        Self {
            broker,
            account,
            socket,
            most,
            publishes: FuturesUnordered::new(),
            subscriptions: StreamMap::new(),
            channels: HashMap::new(),
        }
    }

    async fn serve(mut self) {
        self.account.upgrade();
        let _open = self.account.begin_anyway(); // it has been taken up
        let _of_token = self.broker.stays_open();
        let end = match self.run().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let close = match end {
            End::Gone => None,
            End::TooLarge => {
                let reason = format!("a request has at most {} bytes; subscribe again from where you were", self.most);
                Some(CloseFrame { code: close_code::SIZE, reason: reason.into() })
            }
            End::Revoked(error) => {
                let mut reason = error.to_string();
                reason.truncate(reason.floor_char_boundary(CLOSE_REASON));
                Some(CloseFrame { code: close_code::POLICY, reason: reason.into() })
            }
            End::Stopping => {
                Some(CloseFrame { code: close_code::RESTART, reason: "this node is stopping: try another one".into() })
            }
        };
        let _ = self.socket.send(Frame::Close(close)).await; // the client may be gone
    }

    async fn run(&mut self) -> Result<Infallible, End> {
        let broker = self.broker.clone();
        let mut stopping = std::pin::pin!(broker.stopped());
        let mut standing = broker.standing();
        loop {
            tokio::select! {
                () = &mut stopping => return Err(End::Stopping),
                error = Standing::ended_of(&mut standing) => return Err(End::Revoked(error)),
                frame = self.socket.recv(), if self.publishes.len() < PUBLISHES => match self.took(frame) {
                    Some(Ok(Frame::Text(text))) => self.take(text.as_bytes()).await?,
                    Some(Ok(Frame::Binary(bytes))) => self.take(&bytes).await?,
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                    Some(Err(error)) if is_too_large(&error) => return Err(End::TooLarge),
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => return Err(End::Gone),
                },
                Some(answer) = self.publishes.next(), if !self.publishes.is_empty() => self.send(answer).await?,
                Some((id, next)) = self.subscriptions.next(), if !self.subscriptions.is_empty() => {
                    self.deliver(id, next).await?;
                }
            }
        }
    }

    /// A frame has come whole, and counts no longer among what has not.
    fn took<T>(&self, frame: T) -> T {
        self.account.took_all();
        frame
    }

    async fn take(&mut self, text: &[u8]) -> Result<(), End> {
        // The id is told where it can be read, so that the client can tell its requests apart.
        let id = || serde_json::from_slice::<Named>(text).ok().map(|named| named.id);
        if text.len() > self.most {
            let (value, limit) = (text.len() as u64, self.most as u64);
            let what = "the number of bytes of a request".to_owned();
            return self.refuse(id(), BrokerError::LimitExceeded { what, value, limit }).await;
        }
        let request: Request = match serde_json::from_slice(text) {
            Ok(request) => request,
            Err(error) => {
                let id = id();
                let reason = format!("the request is not what it should be: {error}");
                return self.refuse(id, BrokerError::InvalidArgument { reason }).await;
            }
        };
        match request {
            Request { id, publish: Some(publish), subscribe: None, unsubscribe: None } => {
                self.publishes.push(publish.run(self.broker.clone(), self.account.clone(), id).boxed());
                Ok(())
            }
            Request { id, publish: None, subscribe: Some(subscribe), unsubscribe: None } => {
                self.subscribe(id, subscribe).await
            }
            Request { id, publish: None, subscribe: None, unsubscribe: Some(subscription) } => {
                let found = self.subscriptions.remove(&subscription).is_some();
                self.channels.remove(&subscription);
                self.send(json!({ "id": id, "ok": { "unsubscribed": found } }).to_string()).await
            }
            Request { id, .. } => {
                let reason = "a request has one of publish, subscribe and unsubscribe".to_owned();
                self.refuse(Some(id), BrokerError::InvalidArgument { reason }).await
            }
        }
    }

    async fn subscribe(&mut self, id: u64, request: Subscribe) -> Result<(), End> {
        let Subscribe { channel, from, filter, if_changed } = request;
        if self.subscriptions.contains_key(&id) {
            let reason = format!("this connection has a subscription with the id {id} already");
            return self.refuse(Some(id), BrokerError::InvalidArgument { reason }).await;
        }
        let place = match place_on_connection(&self.account.subscriptions, "subscriptions") {
            Ok(place) => place,
            Err(error) => return self.refuse(Some(id), error).await,
        };
        let of_token = match self.broker.begin_stream() {
            Ok(of_token) => of_token,
            Err(error) => return self.refuse(Some(id), error).await,
        };
        let start = match start(from.as_deref().unwrap_or("latest"), self.broker.now_ms()) {
            Ok(start) => start,
            Err(problem) => return self.send(answer(Some(id), Err(problem))).await,
        };
        let if_changed = match if_changed_of(if_changed.as_deref()) {
            Ok(if_changed) => if_changed,
            Err(problem) => return self.send(answer(Some(id), Err(problem))).await,
        };
        let opened = async {
            let options = SubscribeOptions {
                filter: filter_of(&filter)?,
                if_changed,
                connection: Some(self.account.clone()),
                payer: None,
            };
            self.broker.subscribe_with(&channel, start, options).await
        };
        let subscription = match opened.await {
            Ok(subscription) => subscription,
            Err(error) => return self.refuse(Some(id), error).await,
        };
        let next = subscription.next_position();
        let begun = if subscription.begins_told() {
            json!({ "next_seq": next.seq }) // the notice comes next, and says where to go on
        } else {
            json!({ "next_seq": next.seq, "next": next })
        };
        let messages = futures::stream::try_unfold(subscription, |mut subscription| async move {
            let mut said = Vec::new();
            match subscription.next().await {
                Ok(batch) => {
                    let mut messages: Vec<Stored> = Vec::new();
                    unpack(batch, &mut messages)?;
                    for stored in messages {
                        let next = subscription.position_at(stored.seq + 1);
                        said.push(Ok(Followed::Message(stored, next)));
                    }
                }
                Err(BrokerError::HistoryChanged(notice)) if subscription.goes_on() => {
                    said.push(Ok(Followed::Notice(*notice)));
                }
                Err(error) => return Err(error),
            }
            Ok::<_, BrokerError>(Some((futures::stream::iter(said), subscription)))
        });
        let messages: Following = Box::pin(futures::TryStreamExt::try_flatten(messages));
        self.subscriptions.insert(id, messages);
        self.channels.insert(id, (channel, [Some(place), of_token]));
        self.send(json!({ "id": id, "ok": begun }).to_string()).await
    }

    async fn deliver(&mut self, id: u64, next: Result<Followed, BrokerError>) -> Result<(), End> {
        let (stored, next) = match next {
            Ok(Followed::Message(stored, next)) => (stored, next),
            Ok(Followed::Notice(notice)) => {
                let notice = NoticeJson::of(&notice);
                return self.send(json!({ "subscription": id, "notice": notice }).to_string()).await;
            }
            Err(BrokerError::Stopping) => return Err(End::Stopping),
            Err(error) => {
                self.subscriptions.remove(&id);
                self.channels.remove(&id);
                let problem = Problem::from(error);
                return self.send(json!({ "subscription": id, "error": problem }).to_string()).await;
            }
        };
        let channel = self.channels.get(&id).map_or("", |(channel, _)| channel.as_str());
        let delivered = Delivered { subscription: id, message: stored.json(channel), next };
        let text = serde_json::to_string(&delivered).map_err(|_| End::Gone)?;
        self.send(text).await
    }

    async fn refuse(&mut self, id: Option<u64>, error: BrokerError) -> Result<(), End> {
        self.send(answer(id, Err(error.into()))).await
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.socket.send(Frame::Text(text.into())).await.map_err(|_| End::Gone)
    }
}

impl Publish {
    async fn run(self, broker: Access, connection: Arc<Account>, id: u64) -> String {
        let channel = self.channel.clone();
        let options = PublishOptions::new().confirm(self.confirm.into()).expected_seq(self.expected_seq);
        let message = match self.message() {
            Ok(message) => message,
            Err(problem) => return answer(Some(id), Err(problem)),
        };
        let frame = model::Frame::encode([&message]);
        let _held = match broker.admit_from(&connection, &frame) {
            Ok(held) => held,
            Err(error) => return answer(Some(id), Err(error.into())),
        };
        let result = broker.publish_frame_with(&channel, frame, options).await.pop();
        let missing = || Err(BrokerError::Internal { reason: "a publish without a result".into() });
        let acked = result.unwrap_or_else(missing).map_err(Problem::from);
        answer(Some(id), acked.map(|outcome| json!(super::messages::Acked::of(&channel, None, &outcome))))
    }

    fn message(self) -> Result<Message, Problem> {
        let payload = content::payload(self.payload, self.payload_base64).map_err(Problem::invalid)?;
        let headers = self.headers.headers().map_err(Problem::invalid)?;
        let at = self.deliver_at.as_deref().map(model::time_ms).transpose();
        let deliver_at_ms = at.map_err(|why| Problem::invalid(format!("deliver_at: {why}")))?.unwrap_or_default();
        Ok(Message { payload, key: self.key, headers, ttl_ms: self.ttl_ms, deliver_at_ms, ..Message::default() })
    }
}

/// Whether a frame was refused for its size. The library says it in words only.
fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

fn answer(id: Option<u64>, result: Result<serde_json::Value, Problem>) -> String {
    match result {
        Ok(ok) => json!({ "id": id, "ok": ok }),
        Err(error) => json!({ "id": id, "error": error }),
    }
    .to_string()
}
