//! How a node finds its cluster, and is let in, each time that its process begins.
//!
//! It greets its seeds and the members that it knows of, and remembers where each says that it is, so that nodes may
//! come back at other addresses. Fresh nodes that meet no cluster found one ([`super::formation`]). Otherwise the
//! node announces itself to the leader, which adds a newcomer as a learner and refuses a disk that is a copy, or older
//! than the node's own. Until it is let in it takes no part. Where there is no leader to ask it asks the other voters:
//! once a majority, itself included, knows nothing against its disk, it takes part, and votes for those that it asked.

mod parts;
mod sight;

use std::{collections::BTreeSet, time::Duration};

use openraft::async_runtime::WatchReceiver as _;
use tonic::{Code, Status};

pub(super) use self::parts::Joining;
use self::sight::Sight;
pub(super) use super::standing::Standing;
use super::{
    identity::{IdentityError, LOG, Promise},
    transport::Lane,
    wire::{position_to_log_id, to_address},
};
use crate::{model::JoinToken, proto::raft as proto, sequencer::NodeAddress};

/// How often a node that is in no cluster looks for one.
const SEARCH: Duration = Duration::from_millis(100);
/// How often a node that is refused asks again.
const REFUSED: Duration = Duration::from_secs(2);
/// How often a member greets the others, to learn of new addresses and of its own removal.
const SETTLED: Duration = Duration::from_secs(5);
/// How long the leader may take to let a node in.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Rounds of a search between two log lines about it.
const PATIENCE: u32 = 100;

impl Joining {
    /// Runs as long as the node does.
    pub(super) async fn run(self) {
        if let Some(reason) = self.identity.condemned() {
            tracing::error!(reason, "this node's state is damaged");
            self.stand(Standing::Diverged(reason));
        }
        if !matches!(self.raft.is_initialized().await, Ok(true)) {
            // The others may need this node to found the cluster.
            self.stand(Standing::Fresh);
        }
        let mut round: u32 = 0;
        loop {
            let pause = match self.round().await {
                Standing::Barred(reason) => {
                    tracing::error!(reason, "this node cannot take part");
                    return;
                }
                Standing::Refused(_) => REFUSED,
                // It only answers, so that the others see what became of it.
                Standing::Diverged(_) => return,
                Standing::Admitted => SETTLED,
                Standing::Asking | Standing::Fresh | Standing::Unconfirmed(_) => {
                    round += 1;
                    if round.is_multiple_of(PATIENCE) {
                        self.tell_patience();
                    }
                    SEARCH
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn round(&self) -> Standing {
        if matches!(*self.standing.borrow(), Standing::Diverged(_)) {
            return self.standing.borrow().clone();
        }
        let sight = match self.look().await {
            Ok(sight) => sight,
            // The copy is the one that is not let in yet; it finds this node in the same way.
            Err(copy) if *self.standing.borrow() == Standing::Admitted => {
                tracing::error!(copy, "another node runs on a copy of this node's disk: stop it");
                return Standing::Admitted;
            }
            Err(copy) => {
                let reason = format!(
                    "the node at {copy} runs on a copy of this node's disk (id {}): stop one of them, and start the \
                     other again with an empty directory if both are to stay",
                    self.local.id
                );
                return self.stand(Standing::Barred(reason));
            }
        };
        if let Some(reason) = sight.refusal.clone().filter(|_| *self.standing.borrow() != Standing::Admitted) {
            return self.stand(self.barred(&reason));
        }
        let fresh = matches!(self.raft.is_initialized().await, Ok(false));
        if fresh {
            self.formation.see(&sight.round);
            if self.identity.promise() != sight.promise {
                return self.standing.borrow().clone(); // it promised itself meanwhile: what it saw is no more for it
            }
        } else {
            self.formation.meet(&sight.round.answers);
        }
        let known = sight.members.is_empty() || sight.members.contains_key(&self.local.id);
        let standing = self.standing.borrow().clone();
        let (starts, incarnation) = (self.identity.starts(), self.identity.incarnation());
        let admitted = standing == Standing::Admitted && known;
        match &sight.leader {
            Some(_) if admitted && self.membership.knows_start(self.local.id, starts, incarnation) => standing,
            // Also who was let in says it again: the leader may have gone before it wrote down what it was told.
            Some(leader) => {
                let answer = self.announce(leader).await;
                let unasked = || match standing {
                    standing if admitted => standing,
                    _ if fresh => Standing::Fresh,
                    _ => self.unconfirmed(&sight),
                };
                self.stand(answer.unwrap_or_else(unasked))
            }
            None if fresh => {
                if let Err(error) = self.form(&sight).await {
                    tracing::error!(%error, "cannot write down which cluster this node belongs to");
                }
                // Without a log it has nothing to be careful with, even if another cluster refused it before.
                if admitted { standing } else { self.stand(Standing::Fresh) }
            }
            None if matches!(standing, Standing::Asking | Standing::Unconfirmed(_)) => {
                self.stand(self.unconfirmed(&sight))
            }
            None => standing,
        }
    }

    /// Where there is no leader to ask: whether those that were asked are, with this node, a majority of the voters.
    fn unconfirmed(&self, sight: &Sight) -> Standing {
        let mut asked = match &*self.standing.borrow() {
            Standing::Unconfirmed(asked) => asked.clone(),
            _ => BTreeSet::new(),
        };
        let ours = self.identity.cluster_id().unwrap_or_default();
        let answers = sight.round.answers.iter().filter(|answer| answer.cluster_id == ours);
        asked.extend(answers.filter_map(|answer| Some(answer.node.as_ref()?.id)));
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = |voter: &&u64| **voter == self.local.id || asked.contains(voter);
        let configs = metrics.membership_config.membership().get_joint_config();
        if configs.iter().all(|voters| voters.iter().filter(heard).count() > voters.len() / 2) {
            return Standing::Unconfirmed(asked);
        }
        Standing::Asking
    }

    /// Founds a cluster where this node has to.
    async fn form(&self, sight: &Sight) -> Result<(), IdentityError> {
        if self.formation.settle(sight.promise.as_ref(), &sight.round.answers)? {
            return Ok(());
        }
        match self.formation.consider() {
            Some(proposal) => self.formation.found(&self.raft, &self.transport, &proposal).await,
            None => Ok(()),
        }
    }

    /// What others say of this node's log, and where that is: they do not know its place.
    fn barred(&self, reason: &str) -> Standing {
        Standing::Barred(format!("{reason} (its log is in {})", self.identity.path_of(LOG).display()))
    }

    fn stand(&self, standing: Standing) -> Standing {
        self.standing.send_if_modified(|present| {
            let changed = *present != standing;
            if changed {
                match &standing {
                    Standing::Refused(reason) => tracing::error!(reason, "the cluster refuses this node"),
                    standing => tracing::info!(?standing, "standing in the cluster"),
                }
                // A node that is not let in must not call for elections either, nor one that cannot do its work.
                let well = self.membership.view.health().may_lead();
                self.raft.runtime_config().elect(standing.takes_part() && well);
                *present = standing.clone();
            }
            changed
        });
        standing
    }

    /// Asks the leader to be let in; none when it cannot be asked.
    async fn announce(&self, leader: &NodeAddress) -> Option<Standing> {
        let takes_part = self.standing.borrow().takes_part();
        let request = proto::AnnounceRequest {
            takes_part,
            node: Some(to_address(&self.local)),
            starts: self.identity.starts(),
            incarnation: self.identity.incarnation(),
            last_log_id: self.log.bounds().last.map(position_to_log_id),
            join: None,
        };
        let invited = self.invited_by.as_ref().filter(|_| self.identity.cluster_id().is_none());
        let answer = if leader.id == self.local.id {
            self.membership.announce(request, None).await
        } else if let Some(token) = invited {
            let announced = self.announce_with(token, leader, request);
            tokio::time::timeout(ANNOUNCE_TIMEOUT, announced).await.ok()?
        } else {
            let mut client = self.transport.client(leader.id, &leader.peer, Lane::Control);
            let answer = tokio::time::timeout(ANNOUNCE_TIMEOUT, client.announce(request)).await.ok()?;
            answer.map(tonic::Response::into_inner)
        };
        match answer {
            Ok(answer) => match self.identity.join(&answer.cluster_id) {
                Ok(true) => Some(Standing::Admitted),
                Ok(false) => Some(Standing::Barred(format!(
                    "this node's disk is of cluster {}, not of cluster {}: give it an empty directory to join that one",
                    self.identity.cluster_id().unwrap_or_default(),
                    answer.cluster_id
                ))),
                Err(error) => Some(Standing::Refused(error.to_string())),
            },
            Err(status) => match status.code() {
                Code::FailedPrecondition => Some(Standing::Refused(status.message().to_owned())),
                Code::DataLoss => Some(self.barred(status.message())),
                _ => None,
            },
        }
    }

    /// Announces itself on a connection of its own, for which it proves that it has a join token.
    async fn announce_with(
        &self,
        token: &JoinToken,
        leader: &NodeAddress,
        mut request: proto::AnnounceRequest,
    ) -> Result<proto::AnnounceResponse, Status> {
        let (mut client, bond) = self.transport.client_of_one_connection(&leader.peer);
        client.hello(proto::HelloRequest::default()).await?;
        let bond = bond().ok_or_else(|| Status::unavailable("the connection has gone"))?;
        request.join = Some(proto::JoinProof { id: token.id().0, proof: token.proof(&bond).to_vec().into() });
        client.announce(request).await.map(tonic::Response::into_inner)
    }

    fn tell_patience(&self) {
        let seeds = &self.seeds;
        let promise = self.identity.promise().filter(|_| self.log.bounds().last.is_none());
        if let Some(Promise { founder, .. }) = promise {
            let (founder, address) = (founder.name, founder.peer);
            tracing::info!(
                founder,
                address,
                "waiting for that node, to whose cluster this one has promised itself; if it is gone for good, start a \
                 fresh node with its name"
            );
        } else if self.identity.cluster_id().is_none() {
            tracing::info!(reason = self.formation.waits_for(), ?seeds, "waiting for other nodes to form a cluster");
        } else {
            tracing::info!(?seeds, "waiting for a leader");
        }
    }
}
