//! A change that was asked for on a node that does not lead: how it comes to the leader, and the answer back.

use tonic::Status;

use super::{
    super::transport::Lane,
    change::{Change, ChangeError},
    entries::CHANGE_TIMEOUT,
    leader::Membership,
};
use crate::{proto::raft as proto, sequencer::NodeAddress};

impl Membership {
    /// Asks the leader for a checkpoint.
    pub(in crate::raft) async fn forward_checkpoint(&self, leader: &NodeAddress) -> Result<u64, ChangeError> {
        self.ask_leader(leader, proto::change_request::Change::Checkpoint(true)).await.map(|answer| answer.index)
    }

    /// Asks the leader to do what only the leader may.
    pub(in crate::raft) async fn forward(&self, leader: &NodeAddress, change: &Change) -> Result<String, ChangeError> {
        self.ask_leader(leader, to_wire(change)).await.map(|answer| answer.done)
    }

    async fn ask_leader(
        &self,
        leader: &NodeAddress,
        change: proto::change_request::Change,
    ) -> Result<proto::ChangeResponse, ChangeError> {
        let request = proto::ChangeRequest { change: Some(change) };
        let mut client = self.transport.client(leader.id, &leader.peer, Lane::Control);
        match tokio::time::timeout(CHANGE_TIMEOUT * 2, client.change(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(from_status(&status)),
            Err(_) => Err(ChangeError::Unknown(format!("{} did not answer in time", leader.name))),
        }
    }
}

fn to_wire(change: &Change) -> proto::change_request::Change {
    use proto::change_request::Change as Wire;
    match change.clone() {
        Change::Join { node } => Wire::Join(node),
        Change::Promote { name } => Wire::Promote(name),
        Change::Remove { name } => Wire::Remove(name),
        Change::Transfer { name } => Wire::Transfer(name),
    }
}

/// Answers another node that took this one for the leader.
pub(in crate::raft) async fn serve(
    membership: &Membership,
    request: proto::ChangeRequest,
) -> Result<proto::ChangeResponse, Status> {
    use proto::change_request::Change as Wire;
    let change = match request.change.ok_or_else(|| Status::invalid_argument("a change without its kind"))? {
        Wire::Join(node) => Change::Join { node },
        Wire::Promote(name) => Change::Promote { name },
        Wire::Remove(name) => Change::Remove { name },
        Wire::Transfer(name) => Change::Transfer { name },
        Wire::Checkpoint(_) => {
            let index = membership.checkpoint().await.map_err(|error| to_status(&error))?;
            return Ok(proto::ChangeResponse { done: String::new(), index });
        }
    };
    let done = membership.change(&change).await.map_err(|error| to_status(&error))?;
    Ok(proto::ChangeResponse { done, index: 0 })
}

fn to_status(error: &ChangeError) -> Status {
    match error {
        ChangeError::Refused(reason) => Status::failed_precondition(reason.clone()),
        ChangeError::NotLeader => Status::unavailable("this node does not lead"),
        ChangeError::Unknown(reason) => Status::unknown(reason.clone()),
    }
}

fn from_status(status: &Status) -> ChangeError {
    match status.code() {
        tonic::Code::FailedPrecondition => ChangeError::Refused(status.message().to_owned()),
        tonic::Code::Unavailable => ChangeError::NotLeader,
        _ => ChangeError::Unknown(status.message().to_owned()),
    }
}
