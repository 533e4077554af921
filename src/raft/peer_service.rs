//! The side of the peers' protocol that answers.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture};
use openraft::{
    SnapshotMeta,
    async_runtime::WatchReceiver as _,
    errors::Fatal,
    raft::{AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest},
};
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    calls::{from_call, to_answer},
    encoding::MemberNode,
    failover::Failover,
    formation::Formation,
    group::NodeState,
    handshake::{Call, ClusterMark},
    healing,
    identity::Identity,
    joining::Standing,
    lane,
    log::LogStore,
    log_adapter::Follows,
    membership::{self, Membership},
    sane::{self, Doubts},
    scrub::Scrub,
    snapshot::{Head, Staging},
    transport::{Gate, Transport},
    types::{Raft, SnapshotOf, TypeConfig},
    wire,
    witness::Witness,
};
use crate::{
    env::Connection,
    proto::raft::{self as proto, peer_server::Peer},
    replica::ReplicaView,
    sequencer::{NodeAddress, PeerMessage},
    store::StateHash,
};

/// How long after a snapshot that could not be installed the leader may send it again.
const INSTALL_AGAIN: Duration = Duration::from_secs(2);
const NOT_LET_IN: &str = "this node is not let in yet";
/// Requests of one node's broker that are worked on at once; more wait in the connection.
const CALLS_AT_ONCE: usize = 256;

/// Answers a request of another node's broker.
pub(super) type CallHandler = Arc<dyn Fn(NodeAddress, PeerMessage) -> BoxFuture<'static, PeerMessage> + Send + Sync>;

/// Everything that the service needs of its node.
pub(super) struct PeerService {
    pub(super) gate: Gate,
    pub(super) local: NodeAddress,
    pub(super) identity: Identity,
    pub(super) raft: Raft,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) witness: Arc<Witness>,
    pub(super) follows: Follows,
    pub(super) view: ReplicaView,
    pub(super) transport: Transport,
    pub(super) formation: Arc<Formation>,
    pub(super) membership: Arc<Membership>,
    pub(super) failover: Arc<Failover>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) state: Arc<dyn Fn() -> NodeState + Send + Sync>,
    pub(super) handler: Arc<OnceCell<CallHandler>>,
    pub(super) scrub: Arc<Scrub>,
    /// For each part that is read for another node.
    pub(super) parts: Semaphore,
    pub(super) doubts: Arc<Doubts>,
}

/// Tells the failover when a stream of entries begins, and when it ends for whatever reason.
struct Watched {
    failover: Arc<Failover>,
    from: u64,
}

impl Watched {
    fn begin(failover: Arc<Failover>, from: u64) -> Self {
        failover.stream_began(from);
        Self { failover, from }
    }

    fn heard(&self) {
        self.failover.heard(self.from);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.failover.stream_ended(self.from);
    }
}

fn own_term(raft: &Raft) -> u64 {
    raft.metrics().borrow_watched().current_term
}

/// What a leader sends, where it can be so.
fn believed(
    doubts: &Doubts,
    raft: &Raft,
    request: proto::AppendRequest,
    from: u64,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    doubts.judge(from, sane::append(&request, from, own_term(raft)))?;
    wire::from_append(request)
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the Raft core refuses: {error}"))
}

impl PeerService {
    /// Takes entries from a leader, until it closes the lane or that breaks.
    ///
    /// # Errors
    /// When the node that opened it may not, or it breaks.
    pub(super) async fn serve_lane(&self, mut connection: Connection, caller: &Call) -> std::io::Result<()> {
        lane::admit(&mut connection, self.refuses_entries(caller)).await?;
        let from = caller.from;
        let watched = Watched::begin(self.failover.clone(), from);
        self.follows.set(true);
        let (doubts, raft) = (self.doubts.clone(), self.raft.clone());
        lane::serve(connection, |requests| {
            let requests = requests.scan(watched, move |watched, request| {
                watched.heard();
                let request = believed(&doubts, &raft, request, from);
                let request = request.inspect_err(|status| tracing::warn!(%status, from, "entries are refused"));
                std::future::ready(request.ok())
            });
            self.answers(self.raft.stream_append(requests))
        })
        .await
    }

    /// The answers to a leader. One that repeats the one before it says nothing: it is that to a request which only tells
    /// how far the log is committed. The leader takes the next answer for both.
    fn answers(
        &self,
        results: impl Stream<Item = Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>,
    ) -> impl Stream<Item = proto::AppendResponse> {
        let mut last = None;
        let view = self.view.clone();
        let running = |result: Result<_, Fatal<TypeConfig>>| {
            result.inspect_err(|error| tracing::warn!(%error, "the Raft core takes no entries")).ok()
        };
        results.scan((), move |(), result| std::future::ready(running(result))).filter_map(move |result| {
            let repeats = matches!((&last, &result), (Some(last), Ok(matched)) if last == matched);
            last = result.as_ref().ok().copied();
            let answer = (!repeats).then(|| wire::to_append_response(&result, view.is_awaited()));
            std::future::ready(answer)
        })
    }

    /// Why a node may send no entries on a connection that it has just opened.
    fn refuses_entries(&self, caller: &Call) -> Option<String> {
        let ours = ClusterMark::of(self.identity.cluster_id().as_deref());
        if caller.to != Some(self.local.id) {
            return Some(format!("this is node {} with id {}, which was not meant", self.local.name, self.local.id));
        }
        if caller.cluster != ours || ours.is_none() {
            return Some("the caller or this node is of another cluster, or of none yet".into());
        }
        (!self.standing.borrow().takes_part()).then(|| NOT_LET_IN.into())
    }

    /// Only members of the same cluster may take part in its log.
    fn check_member<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let from = self.gate.check(request)?;
        if Gate::cluster(request.metadata()).is_none() || self.identity.cluster_id().is_none() {
            return Err(Status::failed_precondition("the caller or this node belongs to no cluster yet"));
        }
        Ok(from)
    }

    /// And only a node that was let in.
    fn check_taking_part<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let from = self.check_member(request)?;
        if self.standing.borrow().takes_part() {
            return Ok(from);
        }
        Err(Status::unavailable(NOT_LET_IN))
    }

    /// And only for one that this node may vote for, and in a term that may have come.
    fn check_voting(&self, request: &Request<proto::VoteRequest>) -> Result<(), Status> {
        let from = self.check_taking_part(request)?;
        if !self.standing.borrow().votes_for(from) {
            return Err(Status::unavailable("this node votes for nobody who did not let it in or was not asked"));
        }
        if !self.may_be_voter(from) {
            return Err(Status::permission_denied(format!("node {from} is not in the cluster, as this one knows it")));
        }
        self.doubts.judge(from, sane::vote_request(request.get_ref(), from, own_term(&self.raft)))
    }

    /// Whether a node may have a vote. Not only who has one by what this node knows: that may be older than what the other
    /// one knows, and elections have to be possible while voters change.
    fn may_be_voter(&self, node: u64) -> bool {
        let knows_nobody = self.log.bounds().last.is_none();
        let is_known = || self.view.member(node).is_some_and(|record| !record.removed);
        let metrics = self.raft.metrics();
        knows_nobody || is_known() || metrics.borrow_watched().membership_config.get_node(&node).is_some()
    }

    /// Who is here, and who else is.
    fn introduce(&self) -> proto::HelloResponse {
        // First, because it may wait for the disk, and Raft waits for whoever looks at its metrics.
        let introduced = self.formation.introduce();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // Where they are, as far as this node knows, which may be newer than what the log says.
        let now = |node: &MemberNode| match self.transport.address_of(node.id) {
            _ if node.id == self.local.id => wire::to_address(&self.local),
            Some(peer) => proto::NodeAddress { peer, ..wire::to_address(node) },
            None => wire::to_address(node),
        };
        let leader = metrics.current_leader.and_then(|leader| metrics.membership_config.get_node(&leader));
        let members: Vec<_> = metrics.membership_config.nodes().map(|(_, node)| now(node)).collect();
        proto::HelloResponse {
            members,
            leader: leader.map(now),
            incarnation: self.identity.incarnation(),
            fresh: metrics.last_log_index.is_none() && metrics.current_term == 0,
            refusal: String::new(),
            last_log_id: Some(self.log.bounds().last.map_or_else(proto::LogId::default, wire::position_to_log_id)),
            ..introduced
        }
    }

    fn address_of(&self, id: u64) -> NodeAddress {
        let metrics = self.raft.metrics();
        let known = metrics.borrow_watched().membership_config.get_node(&id).cloned();
        known.map_or_else(|| NodeAddress { id, ..NodeAddress::default() }, |node| NodeAddress::clone(&node))
    }
}

/// Stages a state that a leader sends, and puts it in force. Gives the last answer.
async fn receive_snapshot(
    raft: &Raft,
    view: &ReplicaView,
    doubts: &Doubts,
    from: u64,
    mut chunks: Streaming<proto::SnapshotChunk>,
    answers: &mpsc::Sender<Result<proto::SnapshotAnswer, Status>>,
) -> Result<proto::SnapshotAnswer, Status> {
    let refuse = |error: std::io::Error| Status::data_loss(format!("the snapshot is refused: {error}"));
    let first = chunks.message().await?.and_then(|chunk| chunk.head);
    let first = first.ok_or_else(|| Status::invalid_argument("a snapshot without its head"))?;
    doubts.judge(from, sane::leadership(first.vote.as_ref(), from, own_term(raft)))?;
    let vote = wire::from_vote(first.vote)?;
    let head = Head::decode(&first.meta).map_err(|error| refuse(std::io::Error::other(error)))?;
    let mut staging = Staging::begin(view.store(), StateHash(head.hash)).await.map_err(refuse)?;
    let lacking = staging.expect_parts(&first.parts).await.map_err(refuse)?;
    if answers.send(Ok(proto::SnapshotAnswer { lacking, vote: None })).await.is_err() {
        return Err(Status::cancelled("the leader has gone"));
    }
    while let Some(chunk) = chunks.message().await? {
        staging.put(chunk.part, chunk.data).await.map_err(refuse)?;
    }
    let last_membership = head.mark.stored_membership().map_err(refuse)?;
    // What does not hold is refused here, and may be sent again; Raft's core would end over it.
    staging.check().await.map_err(|error| refuse(std::io::Error::other(error)))?;
    let meta = SnapshotMeta { last_log_id: head.mark.log_id(), last_membership };
    let snapshot = SnapshotOf { meta, snapshot: staging.complete() };
    let answer = raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
    Ok(proto::SnapshotAnswer { lacking: Vec::new(), vote: Some(wire::to_vote(&answer.vote)) })
}

#[tonic::async_trait]
impl Peer for PeerService {
    type InstallSnapshotStream = ReceiverStream<Result<proto::SnapshotAnswer, Status>>;
    type CallsStream = ReceiverStream<Result<proto::CallResponse, Status>>;

    async fn hello(&self, request: Request<proto::HelloRequest>) -> Result<Response<proto::HelloResponse>, Status> {
        // A stranger of another cluster may ask who is here: the answer tells it that it is one.
        Gate::speaks_for_itself(&request, request.get_ref().from.as_ref())?;
        let request = request.into_inner();
        let ours = !request.cluster_id.is_empty() && self.identity.cluster_id() == Some(request.cluster_id.clone());
        let refusal = if ours { self.witness.hear(&request) } else { None };
        let proto::HelloRequest { from, cluster_id, .. } = request;
        if let Some(from) = from.filter(|from| !from.peer.is_empty()) {
            self.transport.learn(from.id, &from.peer);
            self.formation.greeted(wire::from_address(from), &cluster_id);
        }
        Ok(Response::new(proto::HelloResponse { refusal: refusal.unwrap_or_default(), ..self.introduce() }))
    }

    async fn form(&self, request: Request<proto::FormRequest>) -> Result<Response<proto::FormResponse>, Status> {
        Gate::speaks_for_itself(&request, request.get_ref().from.as_ref())?;
        match self.gate.check(&request) {
            // Another node is meant.
            Err(status) if matches!(status.code(), tonic::Code::NotFound) => Err(status),
            _ => self.formation.form(request.get_ref()).map(Response::new),
        }
    }

    async fn announce(
        &self,
        request: Request<proto::AnnounceRequest>,
    ) -> Result<Response<proto::AnnounceResponse>, Status> {
        self.gate.check(&request)?;
        Gate::speaks_for_itself(&request, request.get_ref().node.as_ref())?;
        let bond = Gate::bond(&request);
        self.membership.announce(request.into_inner(), bond).await.map(Response::new)
    }

    async fn change(&self, request: Request<proto::ChangeRequest>) -> Result<Response<proto::ChangeResponse>, Status> {
        self.check_member(&request)?;
        membership::serve(&self.membership, request.into_inner()).await.map(Response::new)
    }

    async fn lost_leader(
        &self,
        request: Request<proto::LostLeaderRequest>,
    ) -> Result<Response<proto::LostLeaderResponse>, Status> {
        self.check_member(&request)?;
        Ok(Response::new(self.failover.answer(request.get_ref())))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteResponse>, Status> {
        self.check_voting(&request)?;
        let answer = self.raft.vote(wire::from_vote_request(request.into_inner())?).await.map_err(stopped)?;
        Ok(Response::new(wire::to_vote_response(&answer)))
    }

    async fn pre_vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteResponse>, Status> {
        self.check_voting(&request)?;
        let answer = self.raft.pre_vote(wire::from_vote_request(request.into_inner())?).await.map_err(stopped)?;
        Ok(Response::new(wire::to_vote_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderResponse>, Status> {
        let caller = self.check_taking_part(&request)?;
        let request = request.into_inner();
        self.doubts.judge(caller, sane::leadership(request.from_leader.as_ref(), caller, own_term(&self.raft)))?;
        let from = wire::from_vote(request.from_leader)?;
        let to_this_node = request.to == self.local.id;
        if to_this_node && let Some((_, reason)) = self.view.health().failures().keeps_from_leading() {
            tracing::warn!(reason, "this node is to lead, and cannot");
            return Ok(Response::new(proto::TransferLeaderResponse { accepted: false }));
        }
        let transfer = TransferLeaderRequest::new(from, request.to, request.last_log_id.map(wire::from_log_id));
        let accepted = self.raft.handle_transfer_leader(transfer).await.map_err(stopped)?.is_ok();
        if accepted && to_this_node {
            self.membership.was_handed_leadership(from.leader_id().term);
        }
        Ok(Response::new(proto::TransferLeaderResponse { accepted }))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        let from = self.check_taking_part(&request)?;
        self.failover.heard(from);
        self.follows.set(true);
        let request = believed(&self.doubts, &self.raft, request.into_inner(), from)?;
        let mut answers = pin!(self.raft.stream_append(futures::stream::iter([request])));
        let answer = answers.next().await.ok_or_else(|| stopped("it has ended"))?.map_err(stopped)?;
        Ok(Response::new(wire::to_append_response(&answer, self.view.is_awaited())))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotChunk>>,
    ) -> Result<Response<Self::InstallSnapshotStream>, Status> {
        let from = self.check_taking_part(&request)?;
        let (answers, receiver) = mpsc::channel(1);
        let (raft, view, doubts) = (self.raft.clone(), self.view.clone(), self.doubts.clone());
        tokio::spawn(async move {
            let result = receive_snapshot(&raft, &view, &doubts, from, request.into_inner(), &answers).await;
            if let Err(status) = &result {
                tracing::warn!(reason = status.message(), "a snapshot was not installed; the leader sends it again");
                tokio::time::sleep(INSTALL_AGAIN).await;
            }
            let _ = answers.send(result).await; // or the leader has gone
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn calls(
        &self,
        request: Request<Streaming<proto::CallRequest>>,
    ) -> Result<Response<Self::CallsStream>, Status> {
        let from = self.address_of(self.check_member(&request)?);
        let handler = self.handler.get().cloned();
        let handler = handler.ok_or_else(|| Status::unavailable("this node is still starting"))?;
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(CALLS_AT_ONCE);
        let permits = Arc::new(Semaphore::new(CALLS_AT_ONCE));
        tokio::spawn(async move {
            while let Ok(Some(call)) = requests.message().await {
                let Ok(permit) = permits.clone().acquire_owned().await else { break };
                let id = call.id;
                // Neither it nor what comes behind it can be believed: the caller opens another stream.
                let Some(request) = from_call(call) else {
                    tracing::warn!(from = from.name, "a request of another node was damaged on its way");
                    break;
                };
                // The first poll is here, in order: the broker takes publishes at their first poll.
                let mut work = handler(from.clone(), request);
                if let Some(answer) = (&mut work).now_or_never() {
                    if answers.send(Ok(to_answer(id, answer))).await.is_err() {
                        break;
                    }
                    continue;
                }
                let answers = answers.clone();
                tokio::spawn(async move {
                    let answer = work.await;
                    let _ = answers.send(Ok(to_answer(id, answer))).await; // or the caller is gone
                    drop(permit);
                });
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn status(&self, request: Request<proto::StatusRequest>) -> Result<Response<proto::StatusResponse>, Status> {
        self.gate.check(&request)?;
        let state = (self.state)();
        Ok(Response::new(proto::StatusResponse {
            node: Some(wire::to_address(&state.address)),
            leader: state.leader,
            term: state.term,
            commit: state.commit,
            applied: state.applied,
            failure: state.failure,
            notice: state.notice,
            unwell: state.unwell,
            checkpoints: state.checkpoints.iter().map(wire::to_checkpoint).collect(),
            clock_ms: self.view.clock().wall_ms(),
            log_time_ms: if self.view.clock().is_certain() { self.view.clock().now_ms() } else { 0 },
        }))
    }

    async fn fetch_part(
        &self,
        request: Request<proto::FetchPartRequest>,
    ) -> Result<Response<proto::FetchPartResponse>, Status> {
        self.check_member(&request)?;
        let _permit = self.parts.acquire().await.map_err(|_| Status::unavailable("this node is stopping"))?;
        healing::serve(&**self.view.store(), request).await
    }

    async fn scrub(&self, request: Request<proto::ScrubRequest>) -> Result<Response<proto::ScrubResponse>, Status> {
        self.check_member(&request)?;
        let rate = request.into_inner().begin_at_bytes_per_second;
        if rate > 0 {
            let pass = self.scrub.ask(rate);
            return Ok(Response::new(proto::ScrubResponse { pass, ..proto::ScrubResponse::default() }));
        }
        let expected = self.view.store().usage().map_or(0, |usage| usage.live_bytes);
        Ok(Response::new(wire::to_scrub(&self.scrub.report(), expected)))
    }
}
