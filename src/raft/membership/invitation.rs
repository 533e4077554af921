//! What a new node has to show where the cluster takes new nodes by invitation only.
//!
//! Knowing the cookie makes a caller a node; it does not say that somebody wanted that node now. An invitation does: an
//! administrator made it, one node joins with it, and it ends soon. It is used up in the log before the node becomes a
//! member, so that of two nodes that show the same one at the same time one is refused, on whichever leader.

use tonic::Status;

use super::{
    super::{handshake::Bond, propose::propose},
    leader::Membership,
};
use crate::{
    model::{Command, JoinToken, Operation, Refusal, Reply, SecurityOperation, TokenId},
    proto::raft as proto,
    sequencer::NodeAddress,
};

impl Membership {
    /// Lets a newcomer pass that has a join token, which is worth nothing to any other node then.
    pub(super) async fn check_invitation(
        &self,
        node: &NodeAddress,
        shown: Option<&proto::JoinProof>,
        bond: Option<Bond>,
    ) -> Result<(), Status> {
        let refused = |why: &str| {
            Status::failed_precondition(format!(
                "{why}, and this cluster takes new nodes by invitation only (`cluster.join`): make a join token with \
                 `liminal cluster invite`, and start the node again with `--join-token-file`"
            ))
        };
        let (Some(shown), Some(bond)) = (shown, bond) else {
            return Err(refused("the node has no join token"));
        };
        let id = TokenId(shown.id);
        let state = self.view.security().borrow().clone();
        let known = state.invitations.get(&id);
        if !known.is_some_and(|invitation| JoinToken::is_proof(&invitation.key, &bond, &shown.proof)) {
            tracing::warn!(node = node.name, token = %id, "a node shows a join token that is not valid");
            return Err(refused("the node's join token is not known, or has expired"));
        }
        let operation = Operation::Security(SecurityOperation::UseInvitation { id, node: node.id });
        let command = Command::Operations { time_ms: self.view.clock().now_ms(), operations: vec![operation] };
        let proposed =
            propose(&self.raft, &self.view, &command).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let Reply::Operations(replies) = proposed.reply else {
            return Err(Status::unavailable("the machine gave another answer than to an invitation"));
        };
        match replies.into_iter().next() {
            Some(Ok(_)) => {
                tracing::info!(node = node.name, id = node.id, token = %id, "a node joins by invitation");
                Ok(())
            }
            Some(Err(Refusal::NoSuchInvitation(_))) => {
                Err(refused("the node's join token has expired, or another node has joined with it"))
            }
            other => Err(Status::unavailable(format!("the machine answered {other:?}"))),
        }
    }
}
