use std::sync::Arc;

use super::*;
use crate::{fanout::Taking, model::Durability};

const CHANNEL: ChannelId = ChannelId(1);
const NODE: u64 = 7;

fn leader() -> (Delivery, Arc<Fanout>) {
    (Delivery::new(1), Fanout::new(1 << 20, 1 << 20))
}

fn report(passed: Option<u64>, handed: &[Range<u64>]) -> Vec<ChannelReport> {
    let place = passed.map(|passed| Place { passed, lagging: false });
    vec![ChannelReport { channel: CHANNEL, place, handed: handed.to_vec(), known_from: 0 }]
}

#[test]
fn nobody_is_handed_what_nobody_follows() {
    let (delivery, fanout) = leader();
    assert_eq!(delivery.known(&fanout, CHANNEL, 0..2), [Some(false); 2]);
    delivery.heard(NODE, report(Some(0), &[]));
    assert_eq!(delivery.known(&fanout, CHANNEL, 0..2), [None; 2]);
    delivery.heard(NODE, report(None, &[]));
    assert_eq!(delivery.known(&fanout, CHANNEL, 0..2), [Some(false); 2]);
}

#[tokio::test(start_paused = true)]
async fn nobody_follows_only_once_every_node_has_said_so_or_is_silent_for_long() {
    let (delivery, fanout) = leader();
    let asked = |term| delivery.is_followed(&fanout, CHANNEL, (term, vec![NODE], 2 * EXPIRY));
    delivery.lead(Some(4));
    let begun = Instant::now();
    assert!(!asked(4).await);
    assert!(begun.elapsed() >= EXPIRY, "until then it may follow");
    delivery.lead(Some(5));
    delivery.heard(NODE, report(None, &[]));
    let begun = Instant::now();
    assert!(!asked(5).await);
    assert!(begun.elapsed() < EXPIRY);
    delivery.heard(NODE, report(Some(0), &[]));
    assert!(asked(5).await);
    assert!(asked(6).await, "it is not certain in another term");
}

#[test]
fn each_message_that_was_passed_was_handed_on_or_not() {
    let (delivery, fanout) = leader();
    let follower = fanout.follow(CHANNEL, Durability::Durable, Taking::Some);
    follower.reach(9);
    follower.begin(Some(0), 9);
    delivery.heard(NODE, report(Some(4), std::slice::from_ref(&(1..2))));
    assert_eq!(delivery.known(&fanout, CHANNEL, 0..4), [None, Some(true), None, None]);
    delivery.handed(CHANNEL, 2..3);
    follower.passed(3);
    assert_eq!(delivery.known(&fanout, CHANNEL, 0..4), [Some(false), Some(true), Some(true), None]);
    drop(follower);
    assert_eq!(delivery.known(&fanout, CHANNEL, 3..5), [Some(false), None]);
}

#[test]
fn what_may_have_been_forgotten_is_not_called_undelivered() {
    let (delivery, fanout) = leader();
    let every_other = |first: u64| (first..).step_by(2).map(|seq| seq..seq + 1);
    let handed: Vec<_> = every_other(0).take(CHANNEL_RUNS + 1).collect();
    delivery.heard(NODE, report(Some(u64::MAX), &handed));
    assert_eq!(delivery.known(&fanout, CHANNEL, 0..4), [None, Some(false), Some(true), Some(false)]);
    delivery.heard(NODE, vec![ChannelReport { channel: CHANNEL, place: None, handed: vec![], known_from: 2 }]);
    assert_eq!(delivery.known(&fanout, CHANNEL, 1..3), [None, Some(true)]);
}

#[test]
fn a_crowded_table_is_thinned_and_forgets_what_is_gone() {
    let (delivery, fanout) = leader();
    for channel in 0..17 {
        let handed = (0..CHANNEL_RUNS as u64).map(|run| 2 * run..2 * run + 1).collect();
        delivery.heard(NODE, vec![ChannelReport { channel: ChannelId(channel), place: None, handed, known_from: 0 }]);
    }
    assert!(delivery.state.lock().handed.runs <= ALL_RUNS + FEW_RUNS);
    delivery.tidy(|channel| channel != ChannelId(2));
    let state = delivery.state.lock();
    assert_eq!((state.handed.channels.len(), state.handed.runs), (16, 16 * FEW_RUNS));
    drop(state);
    let last = 2 * CHANNEL_RUNS as u64 - 2;
    assert_eq!(delivery.known(&fanout, ChannelId(1), last..last + 2), [Some(true), Some(false)]);
    assert_eq!(delivery.known(&fanout, ChannelId(1), 1..2), [None]);
}

#[test]
fn hand_offs_that_the_leader_did_not_hear_of_go_with_the_next_report() {
    let (delivery, _) = leader();
    delivery.handed(CHANNEL, 3..4);
    drop(Unheard::take(&delivery));
    delivery.handed(CHANNEL, 5..6);
    let mut unheard = Unheard::take(&delivery);
    assert_eq!(reports(&[], &unheard.handed), report(None, &[3..4, 5..6]));
    unheard.handed = Handed::default();
    drop(unheard);
    assert!(delivery.pending.lock().channels.is_empty());
}

#[test]
fn a_report_has_what_was_handed_and_what_is_followed() {
    let mut handed = Handed::default();
    handed.add(ChannelId(1), [3..4, 8..9], 2);
    handed.add(ChannelId(2), std::iter::once(0..1), 0);
    let interest = [2, 3].map(|id| Interest { channel: ChannelId(id), followers: 1, passed: 5, lagging: true });
    let expected = [
        ChannelReport { channel: ChannelId(1), place: None, handed: vec![3..4, 8..9], known_from: 2 },
        ChannelReport {
            channel: ChannelId(2),
            place: Some(Place { passed: 5, lagging: true }),
            handed: std::iter::once(0..1).collect(),
            known_from: 0,
        },
        ChannelReport {
            channel: ChannelId(3),
            place: Some(Place { passed: 5, lagging: true }),
            handed: vec![],
            known_from: 0,
        },
    ];
    assert_eq!(reports(&interest, &handed), expected);
}
