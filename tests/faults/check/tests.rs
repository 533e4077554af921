//! Planted bugs: for each rule a run that keeps it and one that breaks it, told apart.

use super::*;

fn intent(key: &str, payload: &str) -> Intent {
    Intent { channel: "c", key: key.into(), payload: payload.into() }
}

/// A publish that was acknowledged at a place.
fn published(begun: Moment, key: &str, payload: &str, seq: u64) -> Record {
    let outcome = Outcome::Done(seq);
    Record::Publish { begun, ended: begun + 5, message: intent(key, payload), expected: None, outcome }
}

fn ended(payload: &str, outcome: Outcome<u64>) -> Record {
    Record::Publish { begun: 0, ended: 5, message: intent("", payload), expected: None, outcome }
}

fn stored(node: &str, payloads: &[&str]) -> Stored {
    let messages = (0..).zip(payloads).map(|(seq, payload)| {
        let (key, payload) = payload.split_once('=').unwrap_or(("", payload));
        (seq, key.to_owned(), payload.to_owned())
    });
    Stored { node: node.into(), channel: "c", messages: messages.collect() }
}

fn seen(seq: u64, payload: &str) -> Record {
    Record::Seen { reader: "r".into(), channel: "c", seq, payload: payload.into() }
}

fn take(begun: Moment, key: &str, token: u64) -> Record {
    let outcome = Outcome::Done(Some(token));
    Record::Take { begun, ended: begun + 5, key: key.into(), lease: Duration::from_micros(1_000), outcome }
}

fn complete(begun: Moment, token: u64) -> Record {
    let (key, receipt) = ("k".into(), format!("by {token}"));
    Record::Complete { begun, ended: begun + 5, key, token, receipt, outcome: Outcome::Done(()) }
}

fn handed(seq: u64, attempt: u32) -> Record {
    Record::Handed { at: 100, member: "m".into(), seq, attempt }
}

fn settled(seq: u64, attempt: u32) -> Record {
    Record::Settle { begun: 10, ended: 20, seq, attempt, outcome: Outcome::Done(()) }
}

fn judge(records: Vec<Record>, stored: Vec<Stored>) -> Verdict {
    check(&Evidence { records, stored, hashes: Vec::new() })
}

#[track_caller]
fn right(records: Vec<Record>, stored: Vec<Stored>) {
    assert_eq!(judge(records, stored).violations, [""; 0]);
}

#[track_caller]
fn wrong(rule: &str, records: Vec<Record>, stored: Vec<Stored>) -> Verdict {
    let verdict = judge(records, stored);
    let found = verdict.violations.iter().any(|violation| violation.starts_with(&format!("{rule}: ")));
    assert!(found, "expected `{rule}`, found {:?}", verdict.violations);
    verdict
}

#[test]
fn a_message_that_was_acknowledged_and_is_not_on_every_node_is_lost() {
    let records = vec![published(0, "", "a", 0), published(10, "", "b", 1)];
    right(records.clone(), vec![stored("n0", &["a", "b"]), stored("n1", &["a", "b"])]);
    assert_eq!(wrong("lost", records, vec![stored("n0", &["a", "b"]), stored("n1", &["a"])]).lost, 1);
}

#[test]
fn a_message_that_is_at_another_place_than_acknowledged_is_lost() {
    wrong("lost", vec![published(0, "", "a", 1)], vec![stored("n0", &["a"])]);
}

#[test]
fn a_message_that_is_stored_twice_is_a_duplicate() {
    assert_eq!(wrong("duplicated", vec![published(0, "", "a", 0)], vec![stored("n0", &["a", "a"])]).duplicated, 1);
}

#[test]
fn what_nobody_sent_is_a_phantom_and_so_is_what_was_refused() {
    right(vec![ended("a", Outcome::Unknown("TIMEOUT".into()))], vec![stored("n0", &["a"])]);
    right(vec![ended("a", Outcome::Unknown("TIMEOUT".into()))], vec![stored("n0", &[])]);
    wrong("phantom", vec![ended("a", Outcome::Refused("NO_LEADER".into()))], vec![stored("n0", &["a"])]);
    wrong("phantom", Vec::new(), vec![stored("n0", &["a"])]);
}

#[test]
fn a_gap_and_two_messages_at_one_place_are_noticed() {
    let mut gap = stored("n0", &["a", "b"]);
    gap.messages[1].0 = 2;
    wrong("gap", vec![published(0, "", "a", 0), published(0, "", "b", 2)], vec![gap]);
    let records = vec![ended("a", Outcome::Unknown(String::new())), ended("b", Outcome::Unknown(String::new()))];
    wrong("one place, two messages", records, vec![stored("n0", &["a"]), stored("n1", &["b"])]);
}

#[test]
fn a_key_has_one_place() {
    right(vec![published(0, "k", "a", 0), published(10, "k", "a", 0)], vec![stored("n0", &["k=a"])]);
    wrong(
        "one key, two places",
        vec![published(0, "k", "a", 0), published(10, "k", "a", 1)],
        vec![stored("n0", &["k=a"])],
    );
    wrong("one key, two places", vec![published(0, "k", "a", 0)], vec![stored("n0", &["k=a", "k=b"])]);
}

#[test]
fn what_was_acknowledged_before_another_began_comes_before_it() {
    let nodes = || vec![stored("n0", &["a", "b"])];
    right(vec![published(0, "", "b", 1), published(3, "", "a", 0)], nodes());
    wrong("reordered", vec![published(0, "", "b", 1), published(10, "", "a", 0)], nodes());
}

#[test]
fn a_publish_gets_the_place_that_it_expects() {
    let Record::Publish { begun, ended, message, outcome, .. } = published(0, "", "a", 0) else { unreachable!() };
    let record = Record::Publish { begun, ended, message, expected: Some(3), outcome };
    wrong("another place than expected", vec![record], vec![stored("n0", &["a"])]);
}

#[test]
fn half_a_transaction_is_noticed() {
    let messages = vec![intent("", "a"), intent("", "b")];
    let record = Record::Transaction { begun: 0, ended: 5, messages, outcome: Outcome::Unknown("TIMEOUT".into()) };
    right(vec![record.clone()], vec![stored("n0", &["a", "b"])]);
    right(vec![record.clone()], vec![stored("n0", &[])]);
    wrong("torn transaction", vec![record], vec![stored("n0", &["b"])]);
}

#[test]
fn a_read_that_misses_what_was_acknowledged_before_is_stale() {
    let read = |begun, end| Record::Read { begun, ended: begun + 5, channel: "c", end };
    let nodes = || vec![stored("n0", &["a"])];
    right(vec![published(0, "", "a", 0), read(3, 0), read(10, 1)], nodes());
    wrong("stale read", vec![published(0, "", "a", 0), read(10, 0)], nodes());
}

#[test]
fn a_subscription_that_skips_repeats_invents_or_stops_is_noticed() {
    let records = |more: Vec<Record>| [vec![published(0, "", "a", 0), published(10, "", "b", 1)], more].concat();
    let nodes = || vec![stored("n0", &["a", "b"])];
    right(records(vec![seen(0, "a"), seen(1, "b")]), nodes());
    wrong("a subscription skipped or repeated", records(vec![seen(1, "b")]), nodes());
    wrong("a subscription skipped or repeated", records(vec![seen(0, "a"), seen(0, "a"), seen(1, "b")]), nodes());
    wrong("a subscription saw what is not stored", records(vec![seen(0, "x"), seen(1, "b")]), nodes());
    wrong("a subscription stands still", records(vec![seen(0, "a")]), nodes());
}

#[test]
fn a_claim_that_is_completed_twice_or_granted_after_it_is_noticed() {
    right(vec![take(0, "k", 1), complete(10, 1), complete(20, 1)], Vec::new());
    wrong(
        "a claim was completed twice",
        vec![take(0, "k", 1), complete(10, 1), take(2_000, "k", 2), complete(2_010, 2)],
        Vec::new(),
    );
    wrong(
        "a completed claim was granted again",
        vec![take(0, "k", 1), complete(10, 1), take(2_000, "k", 2)],
        Vec::new(),
    );
    let told = Record::Told { key: "k".into(), receipt: "by another".into() };
    wrong("a claim has two receipts", vec![take(0, "k", 1), complete(10, 1), told], Vec::new());
}

#[test]
fn a_lease_that_ends_early_and_a_token_that_goes_back_are_noticed() {
    right(vec![take(0, "k", 1), take(1_100, "k", 2)], Vec::new());
    wrong("a lease ended early", vec![take(0, "k", 1), take(500, "k", 2)], Vec::new());
    wrong("a token went back", vec![take(0, "k", 2), take(500, "other", 1)], Vec::new());
}

#[test]
fn a_token_whose_first_answer_was_lost_may_be_told_after_newer_ones() {
    let outcome = Outcome::Unknown("OUTCOME_UNKNOWN".into());
    let lost = |begun, key: &str| {
        let (key, lease, outcome) = (key.into(), Duration::from_micros(1_000), outcome.clone());
        Record::Take { begun, ended: begun + 5, key, lease, outcome }
    };
    right(vec![lost(0, "k"), take(10, "other", 2), take(20, "k", 1)], Vec::new());
    wrong("a token went back", vec![lost(0, "third"), take(10, "other", 2), take(20, "k", 1)], Vec::new());
    wrong("a token went back", vec![take(10, "other", 2), lost(18, "k"), take(20, "k", 1)], Vec::new());
}

#[test]
fn what_a_consumer_settled_never_comes_again() {
    right(vec![handed(0, 1), handed(0, 2), settled(0, 2)], Vec::new());
    wrong("a settled delivery came again", vec![handed(0, 1), settled(0, 1), handed(0, 2)], Vec::new());
}

#[test]
fn states_that_differ_and_a_node_without_one_are_noticed() {
    let with = |hashes: &[&str]| {
        let hashes = hashes.iter().map(|hash| ("n".to_owned(), (*hash).to_owned())).collect();
        check(&Evidence { hashes, ..Evidence::default() }).violations.len()
    };
    assert_eq!([with(&["a", "a"]), with(&["a", "b"]), with(&["a", ""])], [0, 1, 1]);
}

#[test]
fn the_longest_gap_is_that_between_two_acks() {
    let records = vec![published(0, "", "a", 0), published(100, "", "b", 1), published(5_100, "", "c", 2)];
    assert_eq!(judge(records, vec![stored("n0", &["a", "b", "c"])]).longest_gap, Duration::from_micros(5_000));
}
