//! The client against a server that fails on purpose: what is tested is what goes over the wire, not a broker.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Client, HistoryChange, Message, PublisherOptions, Start};
use liminal_wire::{
    Frame,
    v1::{
        self as proto, Delivery, PublishAck, PublishAcks, PublishBatch, PublishRequest, PublishResponse,
        PublishTransactionRequest, PublishTransactionResponse, ReadRequest, ReadResponse, ReplyRequest, ReplyResponse,
        RequestRequest, RequestResponse, SubscribeRequest,
        broker_server::{Broker, BrokerServer},
        channels_server::ChannelsServer,
        start::From,
    },
};

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Stores keyed messages once. Each publish stream ends after one batch, without an ack, the first few times.
#[derive(Clone, Default)]
struct Flaky {
    stored: Arc<Mutex<Stored>>,
    /// Streams that still end without an ack.
    failures: Arc<AtomicU64>,
    batches: Arc<AtomicU64>,
}

#[derive(Default)]
struct Stored {
    messages: Vec<String>,
    keys: HashMap<String, u64>,
}

impl Flaky {
    fn fails_now(&self) -> bool {
        self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn store(&self, message: &proto::Message) -> PublishAck {
        let mut stored = self.stored.lock();
        let known = stored.keys.get(message.key()).copied().filter(|_| message.key.is_some());
        let seq = known.unwrap_or(stored.messages.len() as u64);
        if known.is_none() {
            stored.messages.push(String::from_utf8_lossy(&message.payload).into_owned());
            stored.keys.insert(message.key().to_owned(), seq);
        }
        let ok = PublishResponse { seq, duplicate: known.is_some(), term: 1, ..PublishResponse::default() };
        PublishAck { ok: Some(ok), error: None }
    }
}

#[tonic::async_trait]
impl Broker for Flaky {
    type PublishStreamStream = Answer<PublishAcks>;
    type SubscribeStream = Answer<Delivery>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let ack = self.store(&request.into_inner().message.unwrap_or_default());
        if self.fails_now() {
            return Err(Status::unavailable("the connection broke after the message was stored"));
        }
        Ok(Response::new(ack.ok.unwrap_or_default()))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishBatch>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let mut first = 0;
        let flaky = self.clone();
        let answers = request.into_inner().map(move |batch| {
            flaky.batches.fetch_add(1, Ordering::SeqCst);
            let frame = Frame::parse(batch?.batch).map_err(|error| Status::invalid_argument(error.to_string()))?;
            let acks: Vec<_> = frame.messages().map(|message| flaky.store(&message.unwrap_or_default())).collect();
            if flaky.fails_now() {
                return Err(Status::unavailable("the connection broke after the messages were stored"));
            }
            let answer = PublishAcks { first, acks };
            first += answer.acks.len() as u64;
            Ok(answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    /// One batch of two messages, of which only the second was asked for; then the stream ends. With a filter, a message
    /// ten further on and word that nothing comes before the one a hundred further on.
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        let position = request.start.and_then(|start| start.position);
        let Some(From::Seq(seq)) = request.start.and_then(|start| start.from) else {
            return Err(Status::invalid_argument("these tests begin at a sequence number"));
        };
        if request.channel == "cut" {
            return Ok(Response::new(Box::pin(futures::stream::iter(cut(seq, position, request.if_changed)))));
        }
        if !request.filter.is_empty() {
            let batch = Frame::encode([&proto::Message::new("a")]).bytes();
            let found = Delivery { first_seq: seq + 10, batch, count: 1, ..Delivery::default() };
            let word = Delivery { first_seq: seq + 100, ..Delivery::default() };
            return Ok(Response::new(Box::pin(futures::stream::iter([Ok(found), Ok(word)]))));
        }
        let first_seq = seq.saturating_sub(1);
        let messages = [first_seq, first_seq + 1].map(|seq| proto::Message::new(seq.to_string()));
        let batch = Frame::encode(&messages).bytes();
        let delivery = Delivery { first_seq, time_ms: 1, batch, count: 2, ..Delivery::default() };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(delivery)]))))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn publish_transaction(
        &self,
        _: Request<PublishTransactionRequest>,
    ) -> Result<Response<PublishTransactionResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn request(&self, _: Request<RequestRequest>) -> Result<Response<RequestResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn reply(&self, _: Request<ReplyRequest>) -> Result<Response<ReplyResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

mod channels {
    use tonic::{Request, Response, Status};

    use super::Flaky;
    use liminal_wire::v1::{
        Channel, CreateChannelRequest, CreateChannelResponse, DeleteChannelRequest, DeleteChannelResponse,
        DeleteRuleRequest, DeleteRuleResponse, GetChannelRequest, GetChannelResponse, ListChannelsRequest,
        ListChannelsResponse, ListDelayedRequest, ListDelayedResponse, ListRulesRequest, ListRulesResponse,
        ListSchemasRequest, ListSchemasResponse, PutRuleRequest, PutRuleResponse, TrimChannelRequest,
        TrimChannelResponse, UpdateChannelRequest, UpdateChannelResponse, ValidateHistoryRequest,
        ValidateHistoryResponse, WithdrawDelayedRequest, WithdrawDelayedResponse, channels_server::Channels,
    };

    fn unneeded<T>() -> Result<Response<T>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    #[tonic::async_trait]
    impl Channels for Flaky {
        async fn create_channel(
            &self,
            _: Request<CreateChannelRequest>,
        ) -> Result<Response<CreateChannelResponse>, Status> {
            unneeded()
        }
        async fn list_channels(
            &self,
            _: Request<ListChannelsRequest>,
        ) -> Result<Response<ListChannelsResponse>, Status> {
            unneeded()
        }
        async fn get_channel(&self, _: Request<GetChannelRequest>) -> Result<Response<GetChannelResponse>, Status> {
            Ok(Response::new(GetChannelResponse { channel: Some(Channel::default()) }))
        }
        async fn update_channel(
            &self,
            _: Request<UpdateChannelRequest>,
        ) -> Result<Response<UpdateChannelResponse>, Status> {
            unneeded()
        }
        async fn delete_channel(
            &self,
            _: Request<DeleteChannelRequest>,
        ) -> Result<Response<DeleteChannelResponse>, Status> {
            unneeded()
        }
        async fn put_rule(&self, _: Request<PutRuleRequest>) -> Result<Response<PutRuleResponse>, Status> {
            unneeded()
        }
        async fn delete_rule(&self, _: Request<DeleteRuleRequest>) -> Result<Response<DeleteRuleResponse>, Status> {
            unneeded()
        }
        async fn list_rules(&self, _: Request<ListRulesRequest>) -> Result<Response<ListRulesResponse>, Status> {
            unneeded()
        }
        async fn list_schemas(&self, _: Request<ListSchemasRequest>) -> Result<Response<ListSchemasResponse>, Status> {
            unneeded()
        }
        async fn validate_history(
            &self,
            _: Request<ValidateHistoryRequest>,
        ) -> Result<Response<ValidateHistoryResponse>, Status> {
            unneeded()
        }
        async fn trim_channel(&self, _: Request<TrimChannelRequest>) -> Result<Response<TrimChannelResponse>, Status> {
            unneeded()
        }
        async fn list_delayed(&self, _: Request<ListDelayedRequest>) -> Result<Response<ListDelayedResponse>, Status> {
            unneeded()
        }
        async fn withdraw_delayed(
            &self,
            _: Request<WithdrawDelayedRequest>,
        ) -> Result<Response<WithdrawDelayedResponse>, Status> {
            unneeded()
        }
    }
}

async fn serve(failures: u64) -> (Client, Flaky) {
    let flaky = Flaky { failures: Arc::new(failures.into()), ..Flaky::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = tonic::transport::Server::builder()
        .add_service(BrokerServer::new(flaky.clone()))
        .add_service(ChannelsServer::new(flaky.clone()));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    (Client::connect([address]).await.unwrap(), flaky)
}

#[tokio::test]
async fn a_keyed_publish_whose_answer_is_lost_gets_its_first_sequence_number() {
    let (client, flaky) = serve(2).await;
    let published = client.publish("orders", Message::new("a").with_key("k")).await.unwrap();
    assert_eq!((published.seq, published.duplicate), (0, true));
    assert_eq!(flaky.stored.lock().messages, ["a"]);
}

#[tokio::test]
async fn a_plain_publish_whose_answer_is_lost_fails_as_unknown_and_is_stored_once() {
    let (client, flaky) = serve(1).await;
    let error = client.publish("orders", Message::new("a")).await.unwrap_err();
    assert!(error.outcome_unknown());
    assert_eq!(flaky.stored.lock().messages, ["a"]);
}

#[tokio::test]
async fn a_publisher_goes_on_in_order_over_broken_streams() {
    let (client, flaky) = serve(3).await;
    let publisher = client.publisher("orders", PublisherOptions { in_flight: 64, ..PublisherOptions::default() });
    let mut acks = Vec::new();
    for n in 0..1000 {
        let message = Message::new(n.to_string()).with_key(format!("k{n}"));
        acks.push(publisher.enqueue(message).await.unwrap());
    }
    publisher.flush().await;
    for (n, ack) in (0..).zip(acks) {
        assert_eq!(ack.await.unwrap().seq, n);
    }
    let expected: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!(flaky.stored.lock().messages, expected);
    assert!(flaky.batches.load(Ordering::SeqCst) < 1000, "messages are sent in batches");
}

#[tokio::test]
async fn a_subscription_resumes_after_the_last_message_and_repeats_none() {
    let (client, _) = serve(0).await;
    let messages = client.subscribe("orders", Start::Seq(1)).await.unwrap();
    let seqs: Vec<u64> = messages.take(5).map(|received| received.unwrap().seq).collect().await;
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

/// A channel whose messages below 21 are removed after the first one was read.
fn cut(seq: u64, position: Option<proto::Position>, if_changed: i32) -> Vec<Result<Delivery, Status>> {
    let at = |seq| Some(proto::Position { channel_id: 1, epoch: 1, history: 2, seq });
    let message = |seq| {
        let batch = Frame::encode([&proto::Message::new("a")]).bytes();
        Ok(Delivery { first_seq: seq, batch, count: 1, next: at(seq + 1), ..Delivery::default() })
    };
    if if_changed == i32::from(proto::IfChanged::Fail) {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert("liminal-code", "OUT_OF_RANGE".parse().unwrap());
        let gone = Status::with_metadata(tonic::Code::OutOfRange, "gone", metadata);
        return vec![message(seq), Err(gone)];
    }
    assert_eq!(position, at(seq), "it comes back with what it was given");
    let change = proto::HistoryChange::Cut.into();
    let notice = proto::Notice { change, from_seq: seq, next: at(21), first_seq: 21, ..proto::Notice::default() };
    vec![Ok(Delivery { first_seq: 21, next: at(21), notice: Some(notice), ..Delivery::default() }), message(21)]
}

#[tokio::test]
async fn a_subscription_that_was_opened_at_a_number_is_told_what_it_misses_later_and_goes_on() {
    let (client, _) = serve(0).await;
    let mut messages = client.subscribe("cut", Start::Seq(1)).await.unwrap();
    assert_eq!(messages.next().await.unwrap().unwrap().seq, 1);
    assert_eq!(messages.position().unwrap().seq, 2);
    let told = messages.next().await.unwrap().unwrap_err();
    let notice = told.notice().unwrap();
    assert_eq!((notice.change, notice.from_seq, notice.next.seq), (HistoryChange::Cut, 2, 21));
    assert_eq!(messages.next().await.unwrap().unwrap().seq, 21);
}

#[tokio::test]
async fn a_filtered_subscription_resumes_where_its_filter_has_looked() {
    let (client, _) = serve(0).await;
    let messages = client.subscribe("orders", Start::Seq(0)).filter("a == 1").await.unwrap();
    let seqs: Vec<u64> = messages.take(3).map(|received| received.unwrap().seq).collect().await;
    assert_eq!(seqs, [10, 110, 210]);
}

#[tokio::test]
async fn a_cluster_without_a_node_that_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect([address.clone()]).await.err().unwrap();
    assert_eq!(error.code(), "UNREACHABLE");
    assert!(error.message().contains(&address), "{error}");
}
