//! Looking at the cluster, and changing it.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::status::to_status;
use crate::{
    broker::BrokerError,
    proto::v1::{
        BackupChunk, BackupHead, BackupRequest, ClusterEvent, ClusterStatusRequest, ClusterStatusResponse,
        JoinNodeRequest, ListEventsRequest, ListEventsResponse, MembershipChange, PromoteNodeRequest,
        RemoveNodeRequest, SnapshotRequest, SnapshotResponse, TransferLeadershipRequest, VerifyDeepRequest,
        VerifyDeepResponse, VerifyRequest, VerifyResponse, admin_server::Admin,
    },
    raft::{Backup, Change},
};

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
    async fn change(&self, change: Change) -> Result<Response<MembershipChange>, Status> {
        let done = self.admin.change(change).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(MembershipChange { done }))
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupChunk, Status>> + Send>>;

    type VerifyDeepStream = BoxStream<'static, Result<VerifyDeepResponse, Status>>;

    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        self.admin.status().await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn join_node(&self, request: Request<JoinNodeRequest>) -> Result<Response<MembershipChange>, Status> {
        self.change(Change::Join { node: request.into_inner().node }).await
    }

    async fn promote_node(&self, request: Request<PromoteNodeRequest>) -> Result<Response<MembershipChange>, Status> {
        self.change(Change::Promote { name: request.into_inner().name }).await
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<MembershipChange>, Status> {
        self.change(Change::Remove { name: request.into_inner().name }).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<MembershipChange>, Status> {
        self.change(Change::Transfer { name: request.into_inner().name }).await
    }

    async fn verify(&self, _: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        self.admin.verify().await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn verify_deep(
        &self,
        request: Request<VerifyDeepRequest>,
    ) -> Result<Response<Self::VerifyDeepStream>, Status> {
        let answers = self.admin.verify_deep(request.into_inner().bytes_per_second);
        Ok(Response::new(answers.map(Ok).boxed()))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let (head, backup) = self.admin.backup().await.map_err(|error| to_status(&error))?;
        let first = BackupChunk { head: Some(head), page: Bytes::new() };
        let pages = futures::stream::try_unfold(backup, |mut backup| async move {
            let page = backup.next().await.map_err(|error| Status::internal(error.to_string()))?;
            Ok(page.map(|page| (BackupChunk { head: None, page }, backup)))
        });
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(first) }).chain(pages))))
    }

    async fn list_events(&self, _: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        Ok(Response::new(ListEventsResponse { events: self.admin.events() }))
    }

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<SnapshotResponse>, Status> {
        self.admin.snapshot().await.map(Response::new).map_err(|error| to_status(&error))
    }
}
