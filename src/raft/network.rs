//! Openraft's messages to other nodes, over the peers' protocol.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use openraft::{
    AnyError, OptionalSend, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tonic::{Code, Request, Status};

use super::{
    commits::{Awaited, HeldCommits},
    encoding::{MemberNode, TypeConfig, VoteOf, stored_vote},
    lane::Lane,
    log_adapter::Follows,
    sane::{self, Doubts, Sent},
    snapshot::{Head, Pages, SnapshotData, SnapshotOf},
    transport::{self, Client, Transport},
    wire,
};
use crate::{
    proto::raft as proto,
    store::{PartHash, StoreSnapshot},
};

/// How soon an unreachable node is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Snapshot chunks on their way at once.
const SNAPSHOT_WINDOW: usize = 4;

type RpcError = RPCError<TypeConfig>;

/// Makes the clients of one node for all others.
pub(super) struct Network {
    transport: Transport,
    follows: Follows,
    doubts: Arc<Doubts>,
}

impl Network {
    pub(super) fn new(transport: Transport, follows: Follows, doubts: Arc<Doubts>) -> Self {
        Self { transport, follows, doubts }
    }

    fn connection(&self, node: u64, address: &str, beats: bool) -> Connection {
        let (transport, doubts) = (self.transport.clone(), self.doubts.clone());
        Connection { transport, doubts, beats, node, address: address.to_owned() }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> Connection {
        self.follows.set(false); // it will replicate
        self.connection(target, &node.peer, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &MemberNode) -> Connection {
        self.connection(target, &node.peer, true)
    }
}

/// One node's clients for another one.
pub(super) struct Connection {
    transport: Transport,
    doubts: Arc<Doubts>,
    /// For heartbeats: one request at a time, on a connection that is there already.
    beats: bool,
    node: u64,
    address: String,
}

impl Connection {
    /// Asked for with every request: a connection that leads to somebody else is not kept.
    fn client(&self, lane: transport::Lane) -> Client {
        self.transport.client(self.node, &self.address, lane)
    }

    /// The answer to a call for votes, where it can be so.
    fn ballot(
        &self,
        asked: &VoteRequest<TypeConfig>,
        answer: proto::VoteResponse,
    ) -> Result<VoteResponse<TypeConfig>, Status> {
        self.doubts.judge(self.node, sane::answer(answer.vote.as_ref(), stored_vote(&asked.vote).term))?;
        wire::from_vote_response(answer)
    }
}

/// Openraft waits before it tries an unreachable node again; anything else it tries at once.
fn failed(status: &Status) -> RpcError {
    let error = AnyError::error(format!("{:?}: {}", status.code(), status.message()));
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => NetworkError::new(&error).into(),
        _ => Unreachable::new(&error).into(),
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, RpcError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(|status| failed(&status)),
        Err(_) => Err(failed(&Status::deadline_exceeded("no answer in time"))),
    }
}

type Chunks = tokio::sync::mpsc::Sender<proto::SnapshotChunk>;

/// Sends a state entry by entry.
async fn send_pages(view: Arc<dyn StoreSnapshot>, chunks: Chunks) -> std::io::Result<()> {
    let mut pages = Pages::new(view);
    while let Some(data) = pages.next().await? {
        if chunks.send(proto::SnapshotChunk { data, ..proto::SnapshotChunk::default() }).await.is_err() {
            break; // the receiver gave up; its answer says why
        }
    }
    Ok(())
}

/// Sends what the receiver lacks of a state.
async fn send_parts(
    view: &Arc<dyn StoreSnapshot>,
    parts: &[PartHash],
    wanted: &[u32],
    chunks: Chunks,
) -> std::io::Result<()> {
    tracing::info!(parts = parts.len(), wanted = wanted.len(), "sending a snapshot");
    for part in wanted {
        let hash = parts.get(*part as usize).ok_or_else(|| std::io::Error::other("there is no such part"))?;
        let data = view.part(*hash).await.map_err(std::io::Error::other)?;
        if chunks.send(proto::SnapshotChunk { head: None, data, part: *part }).await.is_err() {
            break; // the receiver gave up; its answer says why
        }
    }
    Ok(())
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let message = wire::to_append(request);
        let sent = Sent::default();
        sent.note(&message);
        let mut client = self.client(transport::Lane::Control);
        within(option.hard_ttl(), async {
            let answer = client.heartbeat(message).await?.into_inner();
            self.doubts.judge(self.node, sent.judge(&answer))?;
            Ok(wire::from_append_response(answer)?.into())
        })
        .await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> futures::future::BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.beats {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let awaited = Arc::new(Awaited::default());
            let sent = Arc::new(Sent::default());
            let noted = sent.clone();
            let requests = HeldCommits::new(input, awaited.clone()).map(move |request| {
                let request = wire::to_append(request);
                noted.note(&request);
                request
            });
            let opening = async {
                let connection = self.transport.open_lane(self.node, &self.address).await?;
                Ok(Lane::new(connection, requests))
            };
            let answers = match within(option.hard_ttl(), opening).await {
                Ok(answers) => answers,
                Err(error) => {
                    // Openraft's own backoff is in `input`, which a connection that does not come about never polls.
                    tokio::time::sleep(RETRY).await;
                    return Err(error);
                }
            };
            let (doubts, node) = (self.doubts.clone(), self.node);
            let results = answers.map(move |answer| {
                let answer = answer.inspect(|answer| awaited.set(answer.awaited)).map_err(Status::from);
                let answer = answer.and_then(|answer| doubts.judge(node, sent.judge(&answer)).map(|()| answer));
                answer.and_then(wire::from_append_response).map_err(|status| failed(&status))
            });
            Ok(results.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = wire::to_vote_request(&request);
        let mut client = self.client(transport::Lane::Control);
        let asked = async { self.ballot(&request, client.vote(message).await?.into_inner()) };
        within(option.hard_ttl(), asked).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = wire::to_vote_request(&request);
        let mut client = self.client(transport::Lane::Control);
        let asked = async { self.ballot(&request, client.pre_vote(message).await?.into_inner()) };
        within(option.hard_ttl(), asked).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf,
        snapshot: SnapshotOf,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let broken = |error: std::io::Error| StreamingError::Unreachable(Unreachable::new(&error));
        let SnapshotData::View(view) = snapshot.snapshot else {
            return Err(broken(std::io::Error::other("a received snapshot cannot be sent on")));
        };
        let (chunks, receiver) = tokio::sync::mpsc::channel(SNAPSHOT_WINDOW);
        let mut client = self.client(transport::Lane::Snapshot);
        let refused = |status: Status| StreamingError::Unreachable(Unreachable::new(&status));
        let send = async {
            let parts = view.parts().await.map_err(|error| broken(std::io::Error::other(error)))?;
            let meta = Head::of(&view).map_err(broken)?.encode();
            let head = proto::SnapshotHead {
                vote: Some(wire::to_vote(&vote)),
                meta,
                parts: parts.iter().flatten().flatten().copied().collect(),
            };
            let first = proto::SnapshotChunk { head: Some(head), ..proto::SnapshotChunk::default() };
            let _ = chunks.send(first).await; // it has room, and the receiver is here
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let mut answers = client.install_snapshot(Request::new(stream)).await.map_err(refused)?.into_inner();
            let ended = || refused(Status::unavailable("the snapshot's stream ended early"));
            let wanted = answers.message().await.map_err(refused)?.ok_or_else(ended)?.lacking;
            let feed = async {
                match parts {
                    Some(parts) => send_parts(&view, &parts, &wanted, chunks).await,
                    None => send_pages(view, chunks).await,
                }
            };
            let (fed, answer) = tokio::join!(feed, answers.message());
            fed.map_err(broken)?;
            let answer = answer.map_err(refused)?.ok_or_else(ended)?;
            let believed = self.doubts.judge(self.node, sane::answer(answer.vote.as_ref(), stored_vote(&vote).term));
            let vote = believed.and_then(|()| wire::from_vote(answer.vote));
            let vote = vote.map_err(|status| StreamingError::Network(NetworkError::new(&status)))?;
            Ok(SnapshotResponse::new(vote))
        };
        tokio::select! {
            result = send => result,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = proto::TransferLeaderRequest {
            from_leader: Some(wire::to_vote(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(wire::to_log_id),
        };
        let expected = request.last_log_id().copied();
        let mut client = self.client(transport::Lane::Control);
        let answer =
            within(option.hard_ttl(), async move { Ok(client.transfer_leader(message).await?.into_inner()) }).await?;
        if answer.accepted {
            return Ok(Ok(()));
        }
        Ok(Err(openraft::raft::TransferLeaderError::LogNotFlushed { expected, actual: None }))
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY)))
    }
}
