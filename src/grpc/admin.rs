//! Looking at the cluster.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Service;
use crate::proto::v1::{ClusterStatusRequest, ClusterStatusResponse, admin_server::Admin};

/// Knows the cluster that a node is in.
#[tonic::async_trait]
pub trait ClusterAdmin: Send + Sync + 'static {
    /// All nodes as they are now.
    async fn status(&self) -> ClusterStatusResponse;
}

pub(super) struct AdminService {
    pub(super) admin: Arc<dyn ClusterAdmin>,
    pub(super) service: Service,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(self.service.respond(self.admin.status().await))
    }
}
