//! How a node finds its cluster, and is let in, each time that its process begins.
//!
//! It greets its seeds and the members that it knows of, and remembers where each says that it is, so that nodes may
//! come back at other addresses. Fresh nodes that meet no cluster found one ([`super::formation`]). Otherwise the
//! node announces itself to the leader, which adds a newcomer as a learner and refuses a disk that is a copy, or older
//! than the node's own. Until it is let in it takes no part. Where there is no leader to ask it asks the other voters:
//! once a majority, itself included, knows nothing against its disk, it takes part, and votes for those that it asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Code;

use super::{
    formation::Formation,
    identity::{Identity, IdentityError, LOG, Promise},
    log::LogStore,
    membership::Membership,
    survey::{Round, count_nodes},
    transport::{Lane, Transport, certified_as_another},
    types::Raft,
    wire::{from_address, position_to_log_id, to_address},
    witness,
};
use crate::{proto::raft as proto, sequencer::NodeAddress};

/// How often a node that is in no cluster looks for one.
const SEARCH: Duration = Duration::from_millis(100);
/// How often a node that is refused asks again.
const REFUSED: Duration = Duration::from_secs(2);
/// How often a member greets the others, to learn of new addresses and of its own removal.
const SETTLED: Duration = Duration::from_secs(5);
/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long the leader may take to let a node in.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Rounds of a search between two log lines about it.
const PATIENCE: u32 = 100;

/// Whether a node may take part in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its process has just begun.
    Asking,
    /// It has no log yet, so there is nothing to be careful with: it takes part.
    Fresh,
    /// There is no leader to ask, and these know nothing against its disk, with it a majority: it takes part, and asks as
    /// soon as there is a leader.
    Unconfirmed(BTreeSet<u64>),
    /// The leader let it in.
    Admitted,
    /// The leader refuses it for now, and why; it asks again.
    Refused(String),
    /// It must never take part with this disk, and why.
    Barred(String),
    /// Its state is not that of the others, and what to do.
    Diverged(String),
}

impl Standing {
    /// Whether votes and log entries may be exchanged.
    pub(super) fn takes_part(&self) -> bool {
        matches!(self, Self::Fresh | Self::Unconfirmed(_) | Self::Admitted)
    }

    /// Whether that node may get this one's vote. One that was not asked may know that this node's log is an old copy,
    /// whose vote would bring about a leader without what was acknowledged.
    pub(super) fn votes_for(&self, node: u64) -> bool {
        match self {
            Self::Unconfirmed(asked) => asked.contains(&node),
            standing => standing.takes_part(),
        }
    }

    /// Why the node is not let in; empty otherwise.
    pub(super) fn failure(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Barred(reason) | Self::Diverged(reason) => reason,
            _ => "",
        }
    }
}

/// A node's way into its cluster.
pub(super) struct Joining {
    pub(super) local: NodeAddress,
    pub(super) identity: Identity,
    pub(super) raft: Raft,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) transport: Transport,
    pub(super) formation: Arc<Formation>,
    pub(super) membership: Arc<Membership>,
    pub(super) seeds: Vec<String>,
    pub(super) standing: watch::Sender<Standing>,
    /// Where others think that the members are which did not answer: it is looked there in the next round.
    pub(super) rumours: Mutex<Vec<String>>,
    pub(super) complaints: super::complaints::Complaints,
}

/// What the others say.
struct Sight {
    /// What this node had promised before it asked.
    promise: Option<Promise>,
    round: Round,
    leader: Option<NodeAddress>,
    /// The nodes of the running cluster, as those in it say; empty when nobody is in one.
    members: BTreeMap<u64, NodeAddress>,
    /// Why this node must not take part with its disk, as one of them says.
    refusal: Option<String>,
}

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

    /// Greets everybody. An error is the address of a node that runs on a copy of this one's disk.
    async fn look(&self) -> Result<Sight, String> {
        let promise = self.identity.promise();
        let members: Vec<NodeAddress> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.nodes().map(|(_, node)| node.clone()).collect()
        };
        let current = |node: &NodeAddress| self.transport.address_of(node.id).unwrap_or_else(|| node.peer.clone());
        // An address is a member's as soon as the member has answered there, and not because it was once.
        let reached = members.iter().filter_map(|member| self.transport.reached(member.id));
        let known: Vec<String> = reached.chain([self.local.peer.clone()]).collect();
        let seeds = futures::future::join_all(self.seeds.iter().map(|seed| self.places(seed))).await;
        let mut strangers = seeds.concat();
        strangers.extend(if members.is_empty() { self.formation.strangers() } else { self.formation.foreign() });
        strangers.extend(members.iter().flat_map(|member| [current(member), member.peer.clone()]));
        strangers.append(&mut self.rumours.lock());
        if let Some(Promise { founder, .. }) = &promise {
            strangers.extend([current(founder), founder.peer.clone()]);
        }
        strangers.sort();
        strangers.dedup();
        strangers.retain(|address| !known.contains(address));
        let to_members = members.iter().filter(|member| member.id != self.local.id).map(|member| {
            let client = self.transport.client(member.id, &member.peer, Lane::Control);
            self.greet(client, member.peer.clone())
        });
        let to_strangers = strangers.into_iter().map(|address| {
            let client = self.transport.client_of_anyone(&address);
            self.greet(client, address)
        });
        let (from_members, from_strangers) =
            tokio::join!(futures::future::join_all(to_members), futures::future::join_all(to_strangers));
        let mut sight =
            Sight { promise, round: Round::default(), leader: None, members: BTreeMap::new(), refusal: None };
        let mut here = BTreeMap::from([(self.local.peer.clone(), self.local.id)]);
        for (address, answer) in from_members.into_iter().chain(from_strangers).flatten() {
            let Some(node) = answer.node.as_ref() else { continue };
            here.insert(address.clone(), node.id);
            if node.id == self.local.id {
                if answer.incarnation != self.identity.incarnation() {
                    return Err(address);
                }
                continue; // a name of this very node
            }
            self.transport.learn(node.id, &node.peer);
            let ours = self.identity.cluster_id().is_none_or(|ours| ours == answer.cluster_id);
            if ours && !answer.refusal.is_empty() {
                sight.refusal = Some(answer.refusal.clone());
            }
            if ours && !answer.members.is_empty() {
                sight.members.extend(answer.members.iter().cloned().map(from_address).map(|node| (node.id, node)));
                sight.leader = sight.leader.or_else(|| answer.leader.clone().map(from_address));
            }
            sight.round.answers.push(answer);
        }
        let silent = |places: &Vec<String>| silent(places, |place| here.contains_key(place));
        sight.round.unanswered = seeds.iter().flat_map(silent).collect();
        sight.round.at_seeds = seeds.iter().flatten().filter_map(|seed| here.get(seed).copied()).collect();
        let nodes_at = |places: &Vec<String>| -> BTreeSet<u64> {
            let heard = places.iter().filter_map(|place| here.get(place).copied());
            heard.filter(|_| silent(places).is_empty()).collect()
        };
        sight.round.nodes = count_nodes(self.local.id, seeds.iter().map(nodes_at));
        sight.round.answered = here.into_keys().collect();
        // Who cannot be reached where this node thinks may be where the others think.
        let answered =
            |id: u64| sight.round.answers.iter().any(|answer| answer.node.as_ref().is_some_and(|node| node.id == id));
        let told = sight.round.answers.iter().flat_map(|answer| &answer.members);
        let missing = told.filter(|member| member.id != self.local.id && !answered(member.id));
        *self.rumours.lock() = missing.map(|member| member.peer.clone()).collect();
        // What this node knows itself counts more than what it is told. That it led in its last life means nothing.
        let (leader, leads) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_leader, metrics.state == ServerState::Leader)
        };
        let own = leader.filter(|leader| *leader != self.local.id || leads);
        if let Some(leader) = own.and_then(|id| members.iter().find(|member| member.id == id)) {
            sight.leader = Some(leader.clone());
        }
        sight.round.cluster_in_sight = sight.leader.is_some() || !sight.members.is_empty();
        Ok(sight)
    }

    /// All addresses behind a seed; the seed itself while its name is not known.
    async fn places(&self, seed: &str) -> Vec<String> {
        let found = self.transport.resolve(seed).await;
        if found.is_empty() { vec![seed.to_owned()] } else { found }
    }

    async fn greet(
        &self,
        mut client: super::transport::Client,
        address: String,
    ) -> Option<(String, proto::HelloResponse)> {
        let request = proto::HelloRequest {
            from: Some(to_address(&self.local)),
            cluster_id: self.identity.cluster_id().unwrap_or_default(),
            starts: self.identity.starts(),
            incarnation: self.identity.incarnation(),
            held: self.identity.held().and_then(|held| held.committed).map(position_to_log_id),
            last_log_id: self.log.bounds().last.map(position_to_log_id),
            committed: witness::committed(&*self.log),
        };
        match tokio::time::timeout(TIMEOUT, client.hello(request)).await {
            Ok(Ok(answer)) => {
                let name = answer.get_ref().node.as_ref().map_or("", |node| node.name.as_str());
                let Some(certified) = certified_as_another(answer.metadata(), name) else {
                    return Some((address, answer.into_inner()));
                };
                if self.complaints.is_due(&address) {
                    tracing::warn!(
                        address,
                        name,
                        certified,
                        "a node is passed over: its certificate is another node's"
                    );
                }
                None
            }
            Ok(Err(status)) if status.code() == Code::Unauthenticated => {
                if self.complaints.is_due(&address) {
                    tracing::warn!(address, "{}", status.message());
                }
                None
            }
            _ => None,
        }
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
        };
        let answer = if leader.id == self.local.id {
            self.membership.announce(request).await
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

/// Those of a seed's addresses at which somebody should have answered. A name may have addresses of both families though
/// its nodes listen on one of them only.
fn silent(places: &[String], answers: impl Fn(&str) -> bool) -> Vec<String> {
    let six = |place: &String| place.starts_with('[');
    let heard: Vec<bool> = places.iter().filter(|place| answers(place)).map(six).collect();
    let silent = places.iter().filter(|place| !answers(place) && (heard.is_empty() || heard.contains(&six(place))));
    silent.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_of_addresses_that_no_node_of_a_name_listens_on_is_not_waited_for() {
        let places = ["[::1]:7301", "127.0.0.1:7301", "127.0.0.2:7301"].map(str::to_owned);
        assert_eq!(silent(&places, |place| place == "127.0.0.1:7301"), ["127.0.0.2:7301"]);
        assert_eq!(silent(&places, |place| place.starts_with('1')), Vec::<String>::new());
        assert_eq!(silent(&places, |_| false), places);
    }
}
