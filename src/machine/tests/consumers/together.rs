//! Transactions that acknowledge deliveries and complete claims together with what they publish.

use super::*;
use crate::model::{ClaimOperation, ClaimReply, NamespaceName, Part, PartReply, Transaction};

const OUTPUT: ChannelId = ChannelId(2);

fn namespace() -> NamespaceName {
    "jobs".parse().unwrap()
}

fn ack(tokens: &[DeliveryToken]) -> Part {
    Part::Ack { consumer: ID, tokens: tokens.to_vec() }
}

fn complete(of: &str, token: u64, receipt: &'static str) -> Part {
    Part::Complete { namespace: namespace(), key: KeyHash::of(of), token, receipt: receipt.into() }
}

fn output(key: Option<&str>) -> Part {
    Part::Publish(group(OUTPUT, 0, &[("out", key)]))
}

fn in_part(part: u32, why: Refusal) -> Result<Vec<PartReply>, Refusal> {
    Err(Refusal::Part { part, why: Box::new(why) })
}

impl Node {
    /// With messages that member 7 has.
    fn with_work(messages: u64) -> Self {
        let mut node = Self::consuming(usize::try_from(messages).unwrap(), config());
        node.assign(5, messages, (0..messages).map(|seq| hand(seq, 7)).collect()).unwrap();
        node
    }

    /// The token of a claim that is free.
    fn claim(&mut self, time_ms: u64, of: &str) -> u64 {
        let take =
            ClaimOperation::Take { namespace: namespace(), key: KeyHash::of(of), owner: None, lease_ms: 1_000_000 };
        match self.operate(time_ms, Operation::Claim(take)).0 {
            Ok(OperationReply::Claim(ClaimReply::Taken { claim, repeated: false })) => claim.token,
            other => panic!("{other:?}"),
        }
    }

    fn together(&mut self, time_ms: u64, parts: Vec<Part>) -> Result<Vec<PartReply>, Refusal> {
        match self.operate(time_ms, Operation::Transaction(Transaction { parts })).0 {
            Ok(OperationReply::Transaction(replies)) => Ok(replies),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        }
    }

    fn completed(&self, of: &str) -> bool {
        self.machine.claim(&namespace(), KeyHash::of(of)).unwrap().1.is_some_and(|claim| claim.completed)
    }

    fn outputs(&self) -> u64 {
        self.machine.stats(OUTPUT).unwrap().next_seq
    }

    fn apart_from_time(&self) -> BTreeMap<Bytes, Bytes> {
        let mut stored = self.stored.clone();
        stored.remove(&Key::Machine.encode());
        stored
    }
}

#[test]
fn an_ack_a_completion_and_a_publish_are_one_step() {
    let mut node = Node::with_work(2);
    let token_of_claim = node.claim(6, "k");
    let parts = vec![output(None), ack(&[token(0, 1, 7), token(1, 1, 7)]), complete("k", token_of_claim, "done")];
    let replies = node.together(7, parts).unwrap();
    assert!(matches!(&replies[..], [PartReply::Published(_), PartReply::Acked, PartReply::Completed]));
    assert_eq!((node.outputs(), node.shown(), node.completed("k")), (1, vec![], true));
    assert!(!node.stored.keys().any(|key| key.starts_with(b"pending/")), "what was settled is stored as settled");
}

#[test]
fn one_part_that_is_refused_refuses_them_all_and_changes_nothing() {
    let mut node = Node::with_work(2);
    let claim = node.claim(6, "k");
    node.apply(Command::Tick { time_ms: 200 });
    node.assign(201, 2, vec![hand(1, 8)]).unwrap();
    let before = node.apart_from_time();
    let stale = Refusal::StaleDelivery { seq: 1 };
    let whole =
        |tokens: &[DeliveryToken], of_claim: u64| vec![output(Some("o")), ack(tokens), complete("k", of_claim, "done")];
    assert_eq!(node.together(202, whole(&[token(0, 1, 7), token(1, 1, 7)], claim)), in_part(1, stale));
    let refused = node.together(202, whole(&[token(0, 1, 7)], claim + 1)).unwrap_err();
    assert!(matches!(&refused, Refusal::Part { part: 2, why } if matches!(**why, Refusal::StaleClaim { .. })));
    let nobody = Part::Ack { consumer: ConsumerId(9), tokens: vec![] };
    assert_eq!(node.together(202, vec![output(None), nobody]), in_part(1, Refusal::NoSuchConsumer));
    let wrong = Part::Publish(group(OUTPUT, 9, &[("out", None)]));
    let parts = vec![ack(&[token(0, 1, 7)]), complete("k", claim, "done"), wrong];
    assert_eq!(node.together(202, parts), in_part(2, Refusal::StaleSchema { current: 0 }));
    let twice = vec![ack(&[token(0, 1, 7)]), complete("k", claim, "done"), complete("k", claim, "other")];
    let refused = node.together(202, twice).unwrap_err();
    assert!(matches!(&refused, Refusal::Part { part: 2, why } if matches!(**why, Refusal::ClaimCompleted(_))));
    assert_eq!((node.apart_from_time(), node.outputs()), (before, 0));
    node.together(203, whole(&[token(0, 1, 7)], claim)).unwrap();
}

#[test]
fn a_retry_of_what_was_done_is_answered_as_done_and_does_nothing_again() {
    let mut node = Node::with_work(1);
    let claim = node.claim(6, "k");
    let whole = || vec![output(Some("o")), ack(&[token(0, 1, 7)]), complete("k", claim, "done")];
    node.together(7, whole()).unwrap();
    let before = node.apart_from_time();
    let replies = node.together(8, whole()).unwrap();
    let PartReply::Published(assigned) = &replies[0] else { panic!("{replies:?}") };
    assert_eq!(assigned.except, [(0, KeyOutcome::Duplicate { seq: 0 })]);
    node.together(9, vec![ack(&[token(0, 1, 7)]), complete("k", claim, "done")]).unwrap();
    assert_eq!((node.apart_from_time(), node.outputs()), (before, 1));
    let refused = node.together(9, vec![complete("k", claim, "other")]).unwrap_err();
    assert!(matches!(&refused, Refusal::Part { part: 0, why } if matches!(**why, Refusal::ClaimCompleted(_))));
}

#[test]
fn work_that_is_done_has_no_output_a_second_time() {
    let mut node = Node::with_work(1);
    let claim = node.claim(6, "k");
    node.together(7, vec![output(None), ack(&[token(0, 1, 7)])]).unwrap();
    node.together(7, vec![output(None), complete("k", claim, "done")]).unwrap();
    let settled = Refusal::StaleDelivery { seq: 0 };
    assert_eq!(node.together(8, vec![output(None), ack(&[token(0, 1, 7)])]), in_part(1, settled.clone()));
    assert_eq!(node.together(8, vec![output(Some("new")), ack(&[token(0, 1, 7)])]), in_part(1, settled));
    let refused = node.together(8, vec![output(None), complete("k", claim, "done")]).unwrap_err();
    assert!(matches!(&refused, Refusal::Part { part: 1, why } if matches!(**why, Refusal::ClaimCompleted(_))));
    assert_eq!(node.outputs(), 2);
}
