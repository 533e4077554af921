//! What a node sees when it greets everybody: who is where, which cluster they are of, who leads it, and what they have
//! against this node's disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tonic::Code;

use super::{
    super::{
        identity::Promise,
        survey::{Round, count_nodes},
        transport::{Client, Lane, certified_as_another},
        wire::{from_address, position_to_log_id, to_address},
        witness,
    },
    parts::Joining,
};
use crate::{proto::raft as proto, sequencer::NodeAddress};

/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What the others say.
pub(super) struct Sight {
    /// What this node had promised before it asked.
    pub(super) promise: Option<Promise>,
    pub(super) round: Round,
    pub(super) leader: Option<NodeAddress>,
    /// The nodes of the running cluster, as those in it say; empty when nobody is in one.
    pub(super) members: BTreeMap<u64, NodeAddress>,
    /// Why this node must not take part with its disk, as one of them says.
    pub(super) refusal: Option<String>,
}

impl Joining {
    /// Greets everybody. An error is the address of a node that runs on a copy of this one's disk.
    pub(super) async fn look(&self) -> Result<Sight, String> {
        let promise = self.identity.promise();
        let members: Vec<NodeAddress> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.nodes().map(|(_, node)| NodeAddress::clone(node)).collect()
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

    async fn greet(&self, mut client: Client, address: String) -> Option<(String, proto::HelloResponse)> {
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
