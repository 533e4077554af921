//! What every request between nodes says of its caller and of whom it is meant for, and the check of it.

use std::sync::Arc;

use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};

use super::super::{handshake::Bond, identity::Identity};
use crate::budget::Account;

const TO: &str = "liminal-to";
const CLUSTER: &str = "liminal-cluster";

/// Says with every request whom it is meant for, and of which cluster the caller is.
#[derive(Clone)]
pub(in crate::raft) struct Credentials {
    pub(super) identity: Identity,
    pub(super) to: Option<u64>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(to) = self.to {
            metadata.insert(TO, to.into());
        }
        if let Some(cluster) = self.identity.cluster_id().and_then(|id| id.parse().ok()) {
            metadata.insert(CLUSTER, cluster);
        }
        Ok(request)
    }
}

/// Checks what [`Credentials`] said.
#[derive(Clone)]
pub(in crate::raft) struct Gate {
    identity: Identity,
}

impl Gate {
    pub(in crate::raft) fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// The node that has proven to be calling, by its id.
    pub(in crate::raft) fn caller<T>(request: &Request<T>) -> Result<u64, Status> {
        let caller = request.extensions().get::<Arc<Account>>().and_then(|account| account.node());
        caller.ok_or_else(|| Status::unauthenticated("the caller has not proven who it is"))
    }

    /// What stands for the connection that a request has come on.
    pub(in crate::raft) fn bond<T>(request: &Request<T>) -> Option<Bond> {
        request.extensions().get::<Arc<Account>>().and_then(|account| account.bond().copied())
    }

    /// Whether a caller says of nobody but itself who it is and where: by the id that it has proven, and by the name in its
    /// certificate where it has shown one.
    pub(in crate::raft) fn speaks_for_itself<T>(
        request: &Request<T>,
        named: Option<&crate::proto::raft::NodeAddress>,
    ) -> Result<(), Status> {
        let caller = Self::caller(request)?;
        let Some(named) = named else { return Ok(()) };
        if named.id != caller {
            return Err(Status::permission_denied(format!("node {caller} speaks for node {}", named.id)));
        }
        let account = request.extensions().get::<Arc<Account>>();
        match account.and_then(|account| account.certified()) {
            Some(certified) if !certified.eq_ignore_ascii_case(&named.name) => Err(Status::permission_denied(format!(
                "node {caller} says that it is `{}`, but its certificate is that of node `{certified}`",
                named.name
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the caller is of no other cluster, and means this node. Returns the caller's id.
    pub(in crate::raft) fn check<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let metadata = request.metadata();
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        let caller = Self::caller(request)?;
        if let Some(to) = number(TO)
            && to != self.identity.node_id()
        {
            return Err(Status::not_found(format!(
                "this is node {} with id {}, not id {to}: that one is elsewhere, or its disk was lost or swapped",
                self.identity.node_name(),
                self.identity.node_id(),
            )));
        }
        if let (Some(theirs), Some(ours)) = (text(CLUSTER), self.identity.cluster_id())
            && theirs != ours
        {
            return Err(Status::failed_precondition(format!(
                "this node is of cluster {ours}, not of cluster {theirs}"
            )));
        }
        Ok(caller)
    }

    /// The cluster that the caller says it is of.
    pub(in crate::raft) fn cluster(metadata: &MetadataMap) -> Option<String> {
        metadata.get(CLUSTER).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}
