use std::time::Duration;

use super::*;
use crate::budget::{Budgets, clocks::MONITORING_TIME};

fn face(name: FaceName, limits: &Limits) -> (Budgets, Arc<Face>) {
    let budgets = Budgets::new(limits);
    let face = budgets.face(name).clone();
    (budgets, face)
}

fn few() -> Limits {
    Limits { connections: 4, connections_per_address: 2, ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn who_has_not_asked_for_anything_goes_for_a_newcomer_of_the_same_address_the_oldest_first() {
    let (_, face) = face(FaceName::Grpc, &few());
    let [first, second, third] = [1, 2, 3].map(|port| face.admit(&format!("10.0.0.1:{port}")).unwrap());
    assert_eq!((first.ended(), second.ended(), third.ended()), (Some(Why::Room), None, None));
    assert_eq!(face.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_who_is_served_has_to_go() {
    let (_, face) = face(FaceName::Grpc, &few());
    let served = [1, 2].map(|port| face.admit(&format!("10.0.0.1:{port}")).unwrap());
    served.iter().for_each(|account| account.prove());
    let [open, _other] = served.each_ref().map(|account| account.begin().unwrap());
    assert!(face.admit("10.0.0.1:3").is_none());
    assert_eq!(face.refused(), [("grpc", "connections", "address", 1)]);
    face.admit("10.0.0.2:1").expect("another address has its own");
    drop(open);
    assert!(face.admit("10.0.0.1:4").is_none(), "it was active a moment ago");
    tokio::time::advance(Duration::from_millis(MAY_GO)).await;
    assert!(face.admit("10.0.0.1:5").is_some());
    assert_eq!((served[0].ended(), served[1].ended()), (Some(Why::Room), None));
}

#[tokio::test(start_paused = true)]
async fn a_full_face_takes_the_room_from_the_address_that_has_most_of_it() {
    let (_, face) = face(FaceName::Grpc, &few());
    let lone = face.admit("10.0.0.1:1").unwrap();
    let crowd = [1, 2].map(|port| face.admit(&format!("10.0.0.2:{port}")).unwrap());
    tokio::time::advance(Duration::from_millis(LOOK)).await;
    face.admit("10.0.0.3:1").expect("three quarters of four are three");
    assert_eq!((lone.ended(), crowd[0].ended()), (None, Some(Why::Room)));
}

#[tokio::test(start_paused = true)]
async fn monitoring_finds_a_place_where_there_is_none_and_keeps_it_for_a_moment() {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let (_, face) = face(FaceName::Http, &limits);
    let served = face.admit("10.0.0.1:1").unwrap();
    served.prove();
    let _open = served.begin().unwrap();
    let probes: Vec<_> = (0..FOR_MONITORING + 1).map(|_| face.admit("10.0.0.1:2").unwrap()).collect();
    assert!(probes.iter().all(|probe| probe.is_for_monitoring()) && !served.is_for_monitoring());
    assert_eq!((probes[0].ended(), probes[1].ended()), (Some(Why::Room), None));
    tokio::time::advance(Duration::from_millis(MONITORING_TIME + 1)).await;
    face.sweep();
    assert_eq!((probes[1].ended(), served.ended(), face.connections()), (Some(Why::Served), None, 1));
}

#[tokio::test(start_paused = true)]
async fn time_is_up_without_a_request_and_without_one_for_long() {
    let (_, face) = face(FaceName::Grpc, &Limits::default());
    let [silent, idle, open] = [1, 2, 3].map(|port| face.admit(&format!("10.0.0.1:{port}")).unwrap());
    idle.prove();
    open.prove();
    let _open = open.begin().unwrap();
    tokio::time::advance(Limits::default().handshake_timeout + Duration::from_millis(1)).await;
    face.sweep();
    assert_eq!([&silent, &idle, &open].map(|account| account.ended()), [Some(Why::FirstRequest), None, None]);
    tokio::time::advance(Limits::default().idle_timeout).await;
    face.sweep();
    assert_eq!([&idle, &open].map(|account| account.ended()), [Some(Why::Idle), None]);
    assert_eq!(face.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn strangers_at_the_port_for_nodes_are_few_and_nodes_are_not_counted() {
    let (_, face) = face(FaceName::Peers, &Limits::default());
    let nodes: Vec<_> = (0..3).map(|port| face.admit(&format!("10.0.0.1:{port}")).unwrap()).collect();
    nodes.iter().for_each(|node| node.prove());
    let strangers: Vec<_> = (0..STRANGERS + 1).map(|_| face.admit("10.0.0.2:1").unwrap()).collect();
    assert_eq!((strangers[0].ended(), strangers[1].ended()), (Some(Why::Room), None));
    assert!(nodes.iter().all(|node| node.ended().is_none()));
    assert_eq!(face.connections() as usize, 3 + STRANGERS);
}

#[tokio::test(start_paused = true)]
async fn a_node_has_few_connections_and_its_oldest_goes_for_a_new_one() {
    let (_, face) = face(FaceName::Peers, &Limits::default());
    let connect = |id: u64| {
        let account = face.admit("10.0.0.1:1").unwrap();
        account.prove_node(id, [7; 32]);
        account
    };
    let other = connect(2);
    let all: Vec<_> = (0..=Limits::CONNECTIONS_OF_NODE).map(|_| connect(1)).collect();
    assert_eq!((all[0].ended(), all[1].ended(), other.ended()), (Some(Why::Room), None, None));
    assert_eq!(face.connections() as usize, 1 + Limits::CONNECTIONS_OF_NODE);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_come_whole_of_other_nodes_counts_for_all_of_them_together() {
    let (budgets, face) = face(FaceName::Peers, &Limits::default());
    let [one, two, three] = [1, 2, 3].map(|port| face.admit(&format!("10.0.0.{port}:1")).unwrap());
    let _held = [&one, &two].map(|account| account.arriving(Limits::PEER_MESSAGE_BYTES).unwrap());
    assert_eq!(three.arriving(1).unwrap_err().whose, "node");
    let client = budgets.face(FaceName::Grpc).admit("10.0.0.1:1").unwrap();
    assert!(client.arriving(1).is_ok(), "clients have their own");
}
