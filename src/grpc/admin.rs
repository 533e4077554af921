//! Looking at the cluster.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::proto::v1::{ClusterStatusRequest, ClusterStatusResponse, admin_server::Admin};

/// Knows the cluster that a node is in.
#[tonic::async_trait]
pub trait ClusterAdmin: Send + Sync + 'static {
    /// All nodes as they are now.
    async fn status(&self) -> ClusterStatusResponse;
    /// Whether clients should be sent to this node now.
    fn ready(&self) -> bool;
}

pub(super) struct AdminService {
    pub(super) admin: Arc<dyn ClusterAdmin>,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(self.admin.status().await))
    }
}
