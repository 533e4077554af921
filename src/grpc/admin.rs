//! Looking at the cluster, and changing it.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{guarding::access, status::to_status};
use crate::{
    broker::{BrokerError, Standing},
    model::Action,
    proto::v1::{
        BackupChunk, BackupHead, BackupRequest, ClusterEvent, ClusterStatusRequest, ClusterStatusResponse,
        InviteNodeRequest, InviteNodeResponse, JoinNodeRequest, ListEventsRequest, ListEventsResponse,
        MembershipChange, PromoteNodeRequest, RemoveNodeRequest, SnapshotRequest, SnapshotResponse,
        TransferLeadershipRequest, VerifyDeepRequest, VerifyDeepResponse, VerifyRequest, VerifyResponse,
        admin_server::Admin,
    },
    raft::{Backup, Change},
};

/// As records name what is done to all of it.
const CLUSTER: &str = "cluster";
/// Bytes of a node's name, id or address in a record.
const NODE_NAME: usize = 256;

/// Knows the cluster that a node is in.
#[tonic::async_trait]
pub trait ClusterAdmin: Send + Sync + 'static {
    /// All nodes as they are now.
    async fn status(&self) -> Result<ClusterStatusResponse, BrokerError>;
    /// Whether clients should be sent to this node now.
    fn ready(&self) -> bool;
    /// Changes the membership, through whichever node leads; says what was done.
    async fn change(&self, change: Change) -> Result<String, BrokerError>;
    /// What happened to the nodes, oldest first.
    fn events(&self) -> Vec<ClusterEvent>;
    /// Makes this node's state durable and cuts its log.
    async fn snapshot(&self) -> Result<SnapshotResponse, BrokerError>;
    /// Has all nodes hash their state at one index, and compares.
    async fn verify(&self) -> Result<VerifyResponse, BrokerError>;
    /// Has all nodes read their whole state and log, so many bytes in a second (0: the default), and says how far they are.
    fn verify_deep(&self, bytes_per_second: u64) -> BoxStream<'static, VerifyDeepResponse>;
    /// The whole state of this node, and what it is.
    async fn backup(&self) -> Result<(BackupHead, Backup), BrokerError>;
}

pub(super) struct AdminService {
    pub(super) admin: Arc<dyn ClusterAdmin>,
}

impl AdminService {
    async fn change<T>(&self, request: &Request<T>, change: Change) -> Result<Response<MembershipChange>, Status> {
        may(request, Action::Admin)?;
        let (act, node) = match &change {
            Change::Join { node } => ("member.join", node),
            Change::Promote { name } => ("member.promote", name),
            Change::Remove { name } => ("member.remove", name),
            Change::Transfer { name } => ("leadership.transfer", name),
        };
        let act = access(request)?.begin(act, of_node(node));
        let done = act.end(self.admin.change(change).await).map_err(|error| to_status(&error))?;
        Ok(Response::new(MembershipChange { done }))
    }
}

/// As records name a node. What is none of its names is not repeated, since it may be anything.
fn of_node(node: &str) -> String {
    if node.is_empty() {
        return CLUSTER.to_owned();
    }
    let is_name = node.len() <= NODE_NAME && node.chars().all(|c| c.is_ascii_graphic());
    format!("node:{}", if is_name { node } else { "(no name)" })
}

fn may<T>(request: &Request<T>, action: Action) -> Result<(), Status> {
    access(request)?.may_on_cluster(action).map_err(|error| to_status(&error))
}

fn may_long<T>(request: &Request<T>, action: Action) -> Result<Option<Standing>, Status> {
    access(request)?.may_long_on_cluster(action).map_err(|error| to_status(&error))
}

/// Ends an answer with the right by which it was asked for, and says so: half a backup must not look like a whole one.
fn while_allowed<T: Send>(
    answers: BoxStream<'static, Result<T, Status>>,
    standing: Option<Standing>,
) -> impl Stream<Item = Result<T, Status>> + Send {
    futures::stream::unfold(Some((answers, standing)), |open| async move {
        let (mut answers, mut standing) = open?;
        tokio::select! {
            biased;
            error = Standing::ended_of(&mut standing) => Some((Err(to_status(&error)), None)),
            next = answers.next() => Some((next?, Some((answers, standing)))),
        }
    })
}

#[tonic::async_trait]
impl Admin for AdminService {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupChunk, Status>> + Send>>;

    type VerifyDeepStream = BoxStream<'static, Result<VerifyDeepResponse, Status>>;

    async fn cluster_status(
        &self,
        request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        may(&request, Action::Read)?;
        self.admin.status().await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn join_node(&self, request: Request<JoinNodeRequest>) -> Result<Response<MembershipChange>, Status> {
        self.change(&request, Change::Join { node: request.get_ref().node.clone() }).await
    }

    async fn invite_node(&self, request: Request<InviteNodeRequest>) -> Result<Response<InviteNodeResponse>, Status> {
        let broker = access(&request)?;
        let InviteNodeRequest { description, lifetime_ms } = request.into_inner();
        let lifetime = (lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms));
        let (token, invitation) =
            broker.invite_node(&description, lifetime).await.map_err(|error| to_status(&error))?;
        let (id, text) = (invitation.id.to_string(), token.reveal().to_owned());
        Ok(Response::new(InviteNodeResponse { id, text, expires_ms: invitation.expires_ms }))
    }

    async fn promote_node(&self, request: Request<PromoteNodeRequest>) -> Result<Response<MembershipChange>, Status> {
        self.change(&request, Change::Promote { name: request.get_ref().name.clone() }).await
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<MembershipChange>, Status> {
        self.change(&request, Change::Remove { name: request.get_ref().name.clone() }).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<MembershipChange>, Status> {
        self.change(&request, Change::Transfer { name: request.get_ref().name.clone() }).await
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        may(&request, Action::Manage)?;
        self.admin.verify().await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn verify_deep(
        &self,
        request: Request<VerifyDeepRequest>,
    ) -> Result<Response<Self::VerifyDeepStream>, Status> {
        let standing = may_long(&request, Action::Manage)?;
        let answers = self.admin.verify_deep(request.into_inner().bytes_per_second);
        Ok(Response::new(while_allowed(answers.map(Ok).boxed(), standing).boxed()))
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let standing = may_long(&request, Action::Admin)?;
        let act = access(&request)?.begin("backup", CLUSTER.to_owned());
        let (head, backup) = act.end(self.admin.backup().await).map_err(|error| to_status(&error))?;
        let first = BackupChunk { head: Some(head), page: Bytes::new() };
        let pages = futures::stream::try_unfold(backup, |mut backup| async move {
            let page = backup.next().await.map_err(|error| Status::internal(error.to_string()))?;
            Ok(page.map(|page| (BackupChunk { head: None, page }, backup)))
        });
        let whole = futures::stream::once(async { Ok(first) }).chain(pages);
        Ok(Response::new(Box::pin(while_allowed(whole.boxed(), standing))))
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        may(&request, Action::Read)?;
        Ok(Response::new(ListEventsResponse { events: self.admin.events() }))
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<SnapshotResponse>, Status> {
        may(&request, Action::Manage)?;
        let act = access(&request)?.begin("snapshot", CLUSTER.to_owned());
        act.end(self.admin.snapshot().await).map(Response::new).map_err(|error| to_status(&error))
    }
}
