use std::collections::BTreeSet;

use super::*;
use crate::env::Env;

const EXPECT: usize = 3;

/// A node that looks at the seeds with these numbers.
fn looking(number: u64, seeds: &[u64]) -> Formation {
    let identity = Identity::in_memory(&format!("n{number}"), &Env::real());
    let name = identity.node_name();
    let local = NodeAddress { id: number, peer: format!("{name}:7301"), name, ..NodeAddress::default() };
    let seeds: Vec<String> = seeds.iter().map(|number| format!("n{number}:7301")).collect();
    Formation::new(local, identity, &seeds, EXPECT)
}

fn node(number: u64) -> Formation {
    looking(number, &[])
}

/// What a node would say of itself while it has no log.
fn answer(node: &Formation) -> proto::HelloResponse {
    proto::HelloResponse { fresh: true, ..node.introduce() }
}

/// What it would say as a node of a running cluster of these.
fn running(node: &Formation, members: &[&Formation]) -> proto::HelloResponse {
    let members = members.iter().map(|member| to_address(&member.local)).collect();
    proto::HelloResponse { members, ..node.introduce() }
}

fn answers(nodes: &[&Formation]) -> Vec<proto::HelloResponse> {
    nodes.iter().map(|node| answer(node)).collect()
}

fn see(node: &Formation, others: &[&Formation], cluster_in_sight: bool) {
    let answers = answers(others);
    let answered: BTreeSet<String> = others.iter().chain([&node]).map(|node| node.local.peer.clone()).collect();
    let seeds = node.known.lock().survey.unanswered.clone();
    let unanswered = seeds.difference(&answered).cloned().collect();
    let at_seeds = others.iter().map(|node| node.local.id).collect();
    node.see(&Round { answers, answered, unanswered, at_seeds, nodes: EXPECT, cluster_in_sight });
}

/// Whom a node that gets these answers would ask to found a cluster, and who would vote in it.
fn proposal(node: &Formation, others: &[&Formation]) -> Option<(Vec<String>, usize)> {
    see(node, others, false);
    node.consider().map(|Proposal { members, asked }| (names(members), asked.len()))
}

fn names(members: Vec<NodeAddress>) -> Vec<String> {
    members.into_iter().map(|member| member.name).collect()
}

fn propose(founder: &Formation, to: &Formation, promise: &Promise) -> bool {
    let member = |id: &u64| proto::NodeAddress { id: *id, ..proto::NodeAddress::default() };
    let request = proto::FormRequest {
        from: Some(to_address(&founder.local)),
        cluster_id: promise.cluster_id.clone(),
        members: promise.members.iter().map(member).collect(),
        number: promise.number,
    };
    to.form(&request).unwrap().agreed
}

/// A founder's own promise to its proposal of a cluster of these.
fn begun(founder: &Formation, cluster: &str, members: &[u64]) -> Promise {
    founder.identity.propose(cluster.to_owned(), founder.local.clone(), members.to_vec()).unwrap().unwrap()
}

#[test]
fn the_lowest_of_all_that_anybody_has_met_founds_a_cluster_of_the_lowest_and_asks_all() {
    let nodes: Vec<Formation> = (0..5).map(node).collect();
    assert_eq!(proposal(&nodes[1], &[&nodes[2]]), None, "two are not enough");
    let (members, asked) = proposal(&nodes[1], &[&nodes[2], &nodes[3], &nodes[4]]).unwrap();
    assert_eq!((members, asked), (["n1", "n2", "n3"].map(str::to_owned).to_vec(), 4));
    assert_eq!(proposal(&nodes[2], &[&nodes[1], &nodes[3]]), None, "it is not the lowest");
    see(&nodes[3], &[&nodes[0]], false);
    assert_eq!(proposal(&nodes[1], &[&nodes[2], &nodes[3]]), None, "one that n3 has met was not met");
    let strangers: BTreeSet<String> = nodes[1].strangers().into_iter().collect();
    assert!(strangers.contains("n0:7301"), "{strangers:?}");
}

#[test]
fn addresses_that_turn_out_to_be_one_node_count_once_where_nobody_says_how_many_nodes_there_are() {
    // Three seeds, two of which are addresses of n1.
    let sees = |counts_seeds: bool, nodes: usize| {
        let [local, other] = [1, 2].map(node);
        let local = local.counting_seeds(counts_seeds);
        let round = Round {
            answers: answers(&[&other]),
            answered: ["n1:7301", "[::1]:7301", "n2:7301"].map(str::to_owned).into(),
            at_seeds: BTreeSet::from([1, 2]),
            nodes,
            ..Round::default()
        };
        local.see(&round);
        (local.consider().map(|Proposal { members, .. }| names(members)), local.waits_for())
    };
    assert_eq!(sees(true, 2).0, Some(["n1", "n2"].map(str::to_owned).to_vec()));
    let (none, why) = sees(true, 3);
    assert!(none.is_none() && why.contains("2 of the 3 nodes"), "{why}");
    assert_eq!(sees(false, 2).0, None, "what somebody has said holds");
}

#[test]
fn nobody_founds_a_cluster_while_somebody_whom_another_looks_at_does_not_answer() {
    // Each looks at the one before it: n4, n5 and n6 cannot know what n3 has done meanwhile.
    let nodes: Vec<Formation> = (0..7u64).map(|number| looking(number, &[number.saturating_sub(1)])).collect();
    let (low, high) = ([&nodes[1], &nodes[2], &nodes[3]], [&nodes[5], &nodes[6]]);
    for number in [4, 5, 6] {
        see(&nodes[number], &[&nodes[4], &nodes[5], &nodes[6]], false);
    }
    assert_eq!(proposal(&nodes[4], &high), None);
    assert!(nodes[4].waits_for().contains("n3:7301 (a seed of this node)"), "{}", nodes[4].waits_for());
    for node in &nodes[..4] {
        see(node, &low, false);
    }
    assert!(proposal(&nodes[0], &low).is_some());
}

#[test]
fn a_node_that_holds_back_for_a_lower_one_does_so_for_a_while_only() {
    let nodes: Vec<Formation> = (0..3).map(node).collect();
    let others = [&nodes[0], &nodes[2]];
    let rounds = (0..).take_while(|_| proposal(&nodes[1], &others).is_none()).count();
    assert_eq!(rounds, HOLD_BACK);
    // And again, if nothing came of it.
    assert_eq!(proposal(&nodes[1], &others), None);
}

#[test]
fn nobody_proposes_a_cluster_while_another_does() {
    let nodes: Vec<Formation> = (0..4).map(node).collect();
    let promise = begun(&nodes[0], "c", &[0, 1, 2]);
    assert_eq!(proposal(&nodes[1], &[&nodes[0], &nodes[2], &nodes[3]]), None);
    assert!(nodes[1].waits_for().contains("n0 to cluster c"), "{}", nodes[1].waits_for());
    assert!(!nodes[0].settle(Some(&promise), &[]).unwrap());
    assert!(proposal(&nodes[0], &[&nodes[1], &nodes[2], &nodes[3]]).is_some());
}

#[test]
fn a_node_that_sees_a_running_cluster_promises_itself_to_no_other() {
    let nodes: Vec<Formation> = (0..3).map(node).collect();
    let others = [&nodes[1], &nodes[2]];
    let promise = begun(&nodes[1], "c", &[0, 1]);
    see(&nodes[0], &others, true);
    assert_eq!(nodes[0].consider(), None);
    assert!(!propose(&nodes[1], &nodes[0], &promise));
    see(&nodes[0], &others, false);
    assert!(propose(&nodes[1], &nodes[0], &promise));
}

#[test]
fn nodes_hear_of_each_other_through_one_that_is_bound() {
    let [bound, fresh, other] = [0, 1, 2].map(node);
    assert!(propose(&other, &bound, &begun(&other, "c", &[0, 2])));
    bound.greeted(fresh.local.clone(), "");
    assert!(bound.strangers().contains(&"n1:7301".to_owned()));
    see(&bound, &[&fresh], false);
    see(&other, &[&bound], false);
    assert!(other.strangers().contains(&"n1:7301".to_owned()));
}

#[test]
fn who_agreed_to_a_proposal_is_free_again_when_its_founder_has_withdrawn_it() {
    let [founder, member, other] = [0, 1, 2].map(node);
    let held = begun(&founder, "a", &[0, 1]);
    assert!(propose(&founder, &member, &held));
    let another = begun(&other, "b", &[1, 2]);
    assert!(!propose(&other, &member, &another), "it belongs to one cluster at a time");
    assert!(member.settle(Some(&held), &answers(&[&founder, &other])).unwrap());
    assert!(member.settle(Some(&held), &answers(&[&other])).unwrap(), "only the founder can tell");
    // The founder's process has begun again, or not all have agreed.
    assert!(!founder.settle(Some(&held), &[]).unwrap());
    assert!(!member.settle(Some(&held), &answers(&[&founder])).unwrap());
    assert!(propose(&other, &member, &another));
}

#[test]
fn a_copy_of_the_founders_disk_ends_no_promise() {
    let [founder, member] = [0, 1].map(node);
    let early = answer(&founder);
    let held = begun(&founder, "a", &[0, 1]);
    assert!(propose(&founder, &member, &held));
    assert!(member.settle(Some(&held), std::slice::from_ref(&early)).unwrap(), "one from before the proposal");
    let late = proto::HelloResponse { cluster_id: String::new(), ..answer(&founder) };
    assert!(member.settle(Some(&held), &[late.clone(), answer(&founder)]).unwrap(), "the founder stands by it");
    assert!(!member.settle(Some(&held), &[early, late]).unwrap());
}

#[test]
fn a_promise_ends_where_the_founder_or_another_member_is_in_another_cluster() {
    let [founder, member, third, stranger] = [0, 1, 2, 3].map(node);
    let held = begun(&founder, "a", &[0, 1, 2]);
    assert!(propose(&founder, &member, &held));
    stranger.identity.join("b").unwrap();
    assert!(member.settle(Some(&held), &[running(&stranger, &[&stranger])]).unwrap(), "that says nothing of `a`");
    assert!(member.settle(Some(&held), &[running(&stranger, &[&stranger, &member])]).unwrap(), "itself is no news");
    assert!(!member.settle(Some(&held), &[running(&stranger, &[&stranger, &third])]).unwrap());
    assert!(propose(&founder, &member, &held));
    assert!(!member.settle(Some(&held), &[running(&stranger, &[&founder])]).unwrap());
}

#[test]
fn a_promise_ends_when_the_founder_was_replaced_and_nobody_has_anything_of_its_cluster() {
    let [founder, member, third] = [0, 1, 2].map(node);
    let held = begun(&founder, "a", &[0, 1, 2]);
    assert!(propose(&founder, &member, &held) && propose(&founder, &third, &held));
    let replaced = proto::HelloResponse {
        node: Some(proto::NodeAddress { id: 9, ..to_address(&founder.local) }),
        fresh: true,
        ..proto::HelloResponse::default()
    };
    let settle = |answers: &[proto::HelloResponse]| member.settle(Some(&held), answers).unwrap();
    assert!(settle(&[answer(&third)]), "the founder may come back");
    assert!(settle(std::slice::from_ref(&replaced)), "the third node may have begun the cluster");
    let begun = proto::HelloResponse { fresh: false, ..answer(&third) };
    assert!(settle(&[replaced.clone(), begun]), "it has");
    assert!(!settle(&[replaced, answer(&third)]));
}

#[test]
fn an_answer_from_before_the_promise_does_not_end_it() {
    let [founder, member] = [0, 1].map(node);
    let early = answers(&[&founder]);
    let held = begun(&founder, "a", &[0, 1]);
    assert!(propose(&founder, &member, &held));
    assert!(member.settle(None, &early).unwrap());
    assert_eq!(member.identity.promise(), Some(held));
}

#[test]
fn a_node_that_was_let_into_a_cluster_never_founds_one() {
    let [newcomer, other] = [0, 1].map(node);
    assert!(newcomer.identity.join("running").unwrap());
    assert!(newcomer.settle(None, &answers(&[&other])).unwrap());
}

#[test]
fn nodes_of_two_running_clusters_that_meet_say_so_and_tell_their_own() {
    let [one, other, third] = [0, 1, 2].map(node);
    for (node, cluster) in [(&one, "a"), (&other, "b"), (&third, "a")] {
        node.identity.join(cluster).unwrap();
    }
    // It came by itself: it is asked in turn.
    one.greeted(other.local.clone(), "b");
    assert_eq!(one.foreign(), ["n1:7301"]);
    one.meet(&[running(&other, &[&other]), running(&third, &[&one, &third])]);
    let notice = one.notice();
    assert!(notice.contains("n0 is of cluster a") && notice.contains("n1 at n1:7301 is of cluster b"), "{notice}");
    third.meet(&[running(&one, &[&one, &third])]);
    assert_eq!(third.notice(), notice);
    // What it was told it does not tell on, so that it ends.
    one.meet(&[running(&third, &[&one, &third])]);
    assert_eq!(one.notice(), "");
}
