mod naive;

use super::*;
use crate::{
    codec,
    model::{Command, Limits, Operation, Reply, StateLimits},
};

fn limits() -> Limits {
    Limits { claim_namespaces: 2, live_claims: 3, ..Limits::default() }
}

fn name(text: &str) -> NamespaceName {
    text.parse().unwrap()
}

fn key(text: &str) -> KeyHash {
    KeyHash::of(text)
}

/// A machine with what its effects have written.
struct Node {
    machine: Machine,
    stored: BTreeMap<Bytes, Bytes>,
}

impl Node {
    fn new(limits: Limits) -> Self {
        let (mut machine, mut effects) = (Machine::restore([]).unwrap(), Effects::default());
        machine.limit_state(StateLimits::from(&limits), &mut effects);
        let puts = effects.writes.puts.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Self { machine, stored: puts.collect() }
    }

    fn apply(&mut self, command: Command) -> (Reply, Effects) {
        let (reply, effects) = self.machine.apply(command);
        for (key, value) in &effects.writes.puts {
            match value {
                Some(value) => self.stored.insert(key.clone(), value.clone()),
                None => self.stored.remove(key),
            };
        }
        (reply, effects)
    }

    fn ask(&mut self, time_ms: u64, operation: ClaimOperation) -> Result<ClaimReply, Refusal> {
        let operations = vec![Operation::Claim(operation)];
        match self.apply(Command::Operations { time_ms, operations }).0 {
            Reply::Operations(mut replies) => match replies.remove(0) {
                Ok(OperationReply::Claim(reply)) => Ok(reply),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => Err(refusal),
            },
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, time_ms: u64, of: &str, owner: Option<&str>) -> Result<ClaimReply, Refusal> {
        self.ask(time_ms, take(of, owner, 100))
    }

    /// The token of a claim that is free.
    fn token(&mut self, time_ms: u64, of: &str) -> u64 {
        match self.take(time_ms, of, None) {
            Ok(ClaimReply::Taken { claim, repeated: false }) => claim.token,
            other => panic!("{other:?}"),
        }
    }

    fn complete(&mut self, time_ms: u64, of: &str, token: u64, receipt: &'static str) -> Result<ClaimReply, Refusal> {
        self.ask(time_ms, complete(of, token, receipt))
    }

    fn restart(&mut self) {
        let stored = self.stored.clone().into_iter().map(Machine::without_receipt);
        self.machine = Machine::restore(stored).unwrap();
    }

    fn restored(&self, change: impl FnOnce(&mut BTreeMap<Bytes, Bytes>)) -> Result<Machine, String> {
        let mut stored = self.stored.clone();
        change(&mut stored);
        Machine::restore(stored)
    }
}

fn take(of: &str, owner: Option<&str>, lease_ms: u64) -> ClaimOperation {
    ClaimOperation::Take { namespace: name("n"), key: key(of), owner: owner.map(Arc::from), lease_ms }
}

fn complete(of: &str, token: u64, receipt: &'static str) -> ClaimOperation {
    ClaimOperation::Complete { namespace: name("n"), key: key(of), token, receipt: receipt.into() }
}

#[test]
fn a_claim_is_held_by_one_until_its_lease_ends_in_log_time() {
    let mut node = Node::new(limits());
    let first = node.token(1_000, "k");
    let busy = node.take(1_099, "k", None).unwrap();
    assert!(matches!(busy, ClaimReply::InFlight(claim) if claim.token == first && claim.expires_ms == 1_100));
    assert_eq!(node.machine.next_expiry_ms(), Some(1_100));
    assert!(node.token(1_100, "k") > first);
    assert_eq!(node.machine.claim_totals().expired, 1);
}

#[test]
fn the_same_owner_gets_the_same_token_and_a_lease_from_now_on() {
    let mut node = Node::new(limits());
    let first = node.take(1_000, "k", Some("w")).unwrap();
    let ClaimReply::Taken { claim: first, repeated: false } = first else { panic!("{first:?}") };
    let again = node.take(1_050, "k", Some("w")).unwrap();
    let ClaimReply::Taken { claim: again, repeated: true } = again else { panic!("{again:?}") };
    assert_eq!((again.token, again.since_ms, again.expires_ms), (first.token, 1_000, 1_150));
    assert!(matches!(node.take(1_050, "k", Some("other")).unwrap(), ClaimReply::InFlight(_)));
    assert!(matches!(node.take(1_050, "k", None).unwrap(), ClaimReply::InFlight(_)));
}

#[test]
fn a_completed_claim_keeps_its_receipt_for_the_window_and_is_free_afterwards() {
    let mut node = Node::new(limits());
    node.ask(900, ClaimOperation::PutNamespace { name: name("n"), window_ms: 500 }).unwrap();
    let token = node.token(1_000, "k");
    let done = node.complete(1_050, "k", token, "r").unwrap();
    let ClaimReply::Completed { namespace, claim, repeated: false } = done else { panic!("{done:?}") };
    assert_eq!((claim.since_ms, claim.expires_ms, claim.completed), (1_050, 1_550, true));
    let stored = &node.stored[&receipt_key(namespace, key("k"))];
    let receipt: StoredReceipt = codec::decode_record("receipt", stored).unwrap();
    assert_eq!(receipt, StoredReceipt { token, receipt: "r".into() });
    let again = node.take(1_549, "k", Some("w")).unwrap();
    assert!(matches!(again, ClaimReply::Completed { claim, .. } if claim.token == token));
    assert!(node.token(1_550, "k") > token);
    assert!(!node.stored.contains_key(&receipt_key(namespace, key("k"))));
    assert_eq!(node.machine.claim_totals().expired, 0, "it was no lease that ended");
}

#[test]
fn completing_again_with_the_same_receipt_says_so_and_with_another_is_refused() {
    let mut node = Node::new(limits());
    let token = node.token(1_000, "k");
    node.complete(1_010, "k", token, "r").unwrap();
    let again = node.complete(1_020, "k", token, "r").unwrap();
    assert!(matches!(again, ClaimReply::Completed { repeated: true, claim, .. } if claim.since_ms == 1_010));
    let other = node.complete(1_020, "k", token, "s").unwrap_err();
    assert!(matches!(other, Refusal::ClaimCompleted(claim) if claim.since_ms == 1_010));
    let release = ClaimOperation::Release { namespace: name("n"), key: key("k"), token };
    assert!(matches!(node.ask(1_020, release), Err(Refusal::ClaimCompleted(_))));
}

#[test]
fn a_stale_token_is_refused_and_told_of_the_present_claim() {
    let mut node = Node::new(limits());
    let old = node.token(1_000, "k");
    assert_eq!(node.complete(1_100, "k", old, "r"), Err(Refusal::StaleClaim { current: None }));
    let ClaimReply::Taken { claim, .. } = node.take(1_100, "k", Some("w2")).unwrap() else { panic!("not free") };
    let stale = Err(Refusal::StaleClaim { current: Some(claim.clone()) });
    let renew = |token| ClaimOperation::Renew { namespace: name("n"), key: key("k"), token, lease_ms: 100 };
    let release = |token| ClaimOperation::Release { namespace: name("n"), key: key("k"), token };
    assert_eq!(node.complete(1_110, "k", old, "r"), stale);
    assert_eq!(node.ask(1_110, renew(old)), stale);
    assert_eq!(node.ask(1_110, release(old)), stale);
    let renewed = node.ask(1_110, renew(claim.token)).unwrap();
    assert!(matches!(renewed, ClaimReply::Renewed(claim) if claim.expires_ms == 1_210));
    assert_eq!(node.ask(1_120, release(claim.token)), Ok(ClaimReply::Released { repeated: false }));
    assert_eq!(node.ask(1_120, release(claim.token)), Ok(ClaimReply::Released { repeated: true }));
}

#[test]
fn checking_a_completion_changes_nothing_and_says_what_it_would_do() {
    let mut node = Node::new(limits());
    let token = node.token(1_000, "k");
    let check = |node: &Node, token, receipt: &[u8]| node.machine.check_complete(&name("n"), key("k"), token, receipt);
    assert_eq!(check(&node, token, b"r"), Ok(Completion::Due));
    assert_eq!(check(&node, token, b"r"), Ok(Completion::Due));
    node.complete(1_010, "k", token, "r").unwrap();
    assert_eq!(check(&node, token, b"r"), Ok(Completion::Repeated));
    assert!(check(&node, token, b"s").is_err() && check(&node, token + 1, b"r").is_err());
}

#[test]
fn at_the_limits_new_keys_and_namespaces_are_refused_and_old_ones_are_not() {
    let mut node = Node::new(limits());
    let tokens: Vec<u64> = ["a", "b", "c"].map(|of| node.token(1_000, of)).to_vec();
    assert_eq!(node.take(1_001, "d", None), Err(Refusal::TooManyClaims { limit: 3 }));
    node.complete(1_001, "a", tokens[0], "r").unwrap();
    assert_eq!(node.take(1_001, "d", None), Err(Refusal::TooManyClaims { limit: 3 }));
    node.ask(1_001, ClaimOperation::PutNamespace { name: name("m"), window_ms: 1 }).unwrap();
    let third = ClaimOperation::PutNamespace { name: name("o"), window_ms: 1 };
    assert_eq!(node.ask(1_001, third), Err(Refusal::TooManyNamespaces { limit: 2 }));
    node.token(1_100, "d");
}

#[test]
fn a_deleted_namespace_leaves_nothing_and_its_claims_go_bit_by_bit() {
    let mut node = Node::new(Limits { live_claims: 1_000_000, ..limits() });
    let many = keeping::SWEEP + 10;
    let operations: Vec<_> = (0..many).map(|of| Operation::Claim(take(&of.to_string(), None, 100_000))).collect();
    node.apply(Command::Operations { time_ms: 1_000, operations });
    node.ask(1_000, ClaimOperation::DeleteNamespace { name: name("n") }).unwrap();
    assert_eq!((node.machine.claim_totals().live, node.machine.next_expiry_ms()), (10, Some(0)));
    node.restart();
    assert_eq!(node.machine.namespaces().count(), 0);
    let token = node.token(1_001, "0");
    assert_eq!(token, many as u64 + 1, "tokens go on");
    assert_eq!(node.machine.claim_totals().live, 1);
    node.ask(1_001, ClaimOperation::DeleteNamespace { name: name("n") }).unwrap();
    let left: Vec<_> = node.stored.keys().cloned().collect();
    assert_eq!(left, [Key::ClaimTotals, Key::Machine, Key::StateLimits].map(Key::encode));
}

#[test]
fn a_million_leases_that_end_together_do_not_hold_up_the_log_and_are_free_all_the_same() {
    let mut node = Node::new(Limits { live_claims: 1_000_000, ..limits() });
    let many = keeping::SWEEP + 10;
    let operations: Vec<_> = (0..many).map(|of| Operation::Claim(take(&of.to_string(), None, 100))).collect();
    node.apply(Command::Operations { time_ms: 1_000, operations });
    let (_, effects) = node.apply(Command::Tick { time_ms: 2_000 });
    assert!(effects.writes.puts.len() <= keeping::SWEEP + 2);
    assert_eq!(node.machine.claim_totals().live, 10);
    node.restart();
    node.apply(Command::Tick { time_ms: 2_000 });
    assert_eq!((node.machine.claim_totals().live, node.machine.claim_totals().expired), (0, many as u64));
}

#[test]
fn tokens_go_on_above_all_others_in_the_epoch_after_a_restored_backup() {
    let mut node = Node::new(limits());
    let before = node.token(1_000, "k");
    let (key, value) = super::super::epochs::epoch_entry(2);
    node.stored.insert(key, value);
    node.restart();
    assert_eq!((before, node.token(5_000, "k")), (1, (1 << 40) + 1));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let mut node = Node::new(limits());
    let token = node.token(1_000, "k");
    node.token(1_000, "other");
    node.complete(1_010, "k", token, "r").unwrap();
    let id = NamespaceId(1);
    let (claim, receipt) = (Key::WorkClaim(id, key("k")).encode(), Key::Receipt(id, key("k")).encode());
    node.restored(|_| {}).unwrap();
    let refused = |change: &dyn Fn(&mut BTreeMap<Bytes, Bytes>)| node.restored(change).unwrap_err();
    assert!(refused(&|stored| drop(stored.remove(&receipt))).contains("its receipt is missing"));
    assert!(refused(&|stored| drop(stored.remove(&claim))).contains("there is no such claim"));
    let held = Key::WorkClaim(id, key("other")).encode();
    assert!(refused(&|stored| drop(stored.remove(&held))).contains("it counts 2 claims, but there are 1"));
    assert!(refused(&|stored| drop(stored.remove(&Key::ClaimTotals.encode()))).contains("it counts 0 claims"));
    assert!(refused(&|stored| drop(stored.remove(&Key::Namespace(id).encode()))).contains("there is no namespace 1"));
    assert!(refused(&|stored| drop(stored.insert(claim.clone(), Bytes::from_static(b"?")))).contains("claim/"));
    let old = ClaimTotals { live: 2, last_token: 1, last_namespace: 1, ..ClaimTotals::default() };
    let old = codec::encode_record(&old);
    assert!(refused(&|stored| drop(stored.insert(Key::ClaimTotals.encode(), old.clone()))).contains("of token 2"));
}

#[test]
fn every_record_and_reply_has_the_bytes_that_older_stores_and_other_nodes_hold() {
    let body = |bytes: Bytes| bytes[..bytes.len() - 4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let record = NamespaceRecord { name: name("n"), window_ms: 9, created_ms: 7, deleting: true };
    let golden = ["0304", "01000000000000006e", "0900000000000000", "0700000000000000", "01"];
    assert_eq!(body(codec::encode_record(&record)), golden.concat());
    let receipt = Some(Digest([2; 8]));
    let claim = Claim { token: 3, owner: Some("w".into()), since_ms: 7, expires_ms: 9, receipt };
    let (token, owner, times) = ("0300000000000000", "01010000000000000077", "07000000000000000900000000000000");
    let golden = ["0304", token, owner, times, "01", &"02".repeat(8)];
    assert_eq!(body(codec::encode_record(&claim)), golden.concat());
    let receipt = StoredReceipt { token: 3, receipt: "r".into() };
    assert_eq!(body(codec::encode_record(&receipt)), ["0304", token, "010000000000000072"].concat());
    let reply = ClaimReply::Completed { namespace: NamespaceId(4), claim: claim.info(), repeated: true };
    let golden = ["0304", "01000000", "02000000", "0400000000000000", token, owner, "01", times, "01"];
    assert_eq!(body(codec::encode_record(&OperationReply::Claim(reply))), golden.concat());
}
