//! Claims with receipts: each line of their promise.

use std::{sync::Arc, time::Duration};

use liminal::{
    broker::{Broker, Claim, ClaimError, Completed},
    config::ServerConfig,
    model::ClaimInfo,
    store::{FaultyStore, MemoryStore},
};

const LEASE: Duration = Duration::from_secs(3600);

async fn broker() -> Broker {
    Broker::embedded(&ServerConfig::default(), Arc::new(MemoryStore::new())).await.unwrap()
}

/// The claim of a key that is free.
async fn claimed(broker: &Broker, key: &str, owner: Option<&str>) -> ClaimInfo {
    match broker.claim("jobs", key, LEASE, owner).await.unwrap() {
        Claim::Claimed { claim, .. } => claim,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_claim_belongs_to_one_worker_and_its_receipt_to_all_that_come_later() {
    let broker = broker().await;
    let mine = claimed(&broker, "k", Some("w1")).await;
    let Claim::InFlight(seen) = broker.claim("jobs", "k", LEASE, Some("w2")).await.unwrap() else {
        panic!("two have it")
    };
    assert_eq!((seen.token, seen.owner.as_deref(), seen.expires_ms), (mine.token, Some("w1"), mine.expires_ms));
    assert!(!broker.complete_claim("jobs", "k", mine.token, "done".into()).await.unwrap().repeated);
    let later = broker.claim("jobs", "k", LEASE, Some("w2")).await.unwrap();
    let Claim::Completed { claim, receipt } = later else { panic!("{later:?}") };
    assert_eq!((claim.token, receipt.as_ref()), (mine.token, &b"done"[..]));
    assert_eq!(claimed(&broker, "other", None).await.token, mine.token + 1);
}

#[tokio::test]
async fn a_worker_that_asks_again_after_a_lost_answer_gets_its_token_back() {
    let broker = broker().await;
    let first = claimed(&broker, "k", Some("w1")).await;
    let again = broker.claim("jobs", "k", LEASE, Some("w1")).await.unwrap();
    assert!(matches!(again, Claim::Claimed { claim, repeated: true } if claim.token == first.token));
}

#[tokio::test]
async fn completing_again_says_so_and_a_stale_token_is_told_who_holds_the_claim_and_until_when() {
    let broker = broker().await;
    let old = claimed(&broker, "k", Some("w1")).await;
    broker.release_claim("jobs", "k", old.token).await.unwrap();
    assert!(broker.release_claim("jobs", "k", old.token).await.unwrap(), "it was free already");
    let free = broker.complete_claim("jobs", "k", old.token, "x".into()).await.unwrap_err();
    assert!(free.to_string().contains("the claim is free"), "{free}");
    let new = claimed(&broker, "k", Some("w2")).await;
    let stale = broker.complete_claim("jobs", "k", old.token, "x".into()).await.unwrap_err();
    assert_eq!(stale.code().as_str(), "CLAIM_STALE");
    let said = stale.to_string();
    let until = liminal::model::timestamp(new.expires_ms);
    for part in ["token 1 ", "`k`", "`jobs`", "by `w2`", "under token 2", &until] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    broker.complete_claim("jobs", "k", new.token, "y".into()).await.unwrap();
    let again: Completed = broker.complete_claim("jobs", "k", new.token, "y".into()).await.unwrap();
    assert!(again.repeated);
    let other = broker.complete_claim("jobs", "k", new.token, "z".into()).await.unwrap_err();
    assert_eq!(other.code().as_str(), "CLAIM_COMPLETED");
    let stale = broker.complete_claim("jobs", "k", old.token, "x".into()).await.unwrap_err();
    assert!(stale.to_string().contains("was completed by `w2` under token 2 at "), "{stale}");
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_a_renewed_one_later() {
    let broker = broker().await;
    let short = Duration::from_millis(100);
    let Claim::Claimed { claim: lost, .. } = broker.claim("jobs", "k", short, None).await.unwrap() else { panic!() };
    let next = loop {
        match broker.claim("jobs", "k", LEASE, None).await.unwrap() {
            Claim::Claimed { claim, .. } => break claim,
            other => assert!(matches!(other, Claim::InFlight(held) if held.token == lost.token)),
        }
        tokio::task::yield_now().await;
    };
    assert!(next.token > lost.token && next.since_ms >= lost.expires_ms);
    let renewed = broker.renew_claim("jobs", "k", next.token, LEASE).await.unwrap();
    assert!(renewed.expires_ms >= next.expires_ms);
    let shorter = broker.renew_claim("jobs", "k", next.token, short).await.unwrap();
    assert_eq!(shorter.expires_ms, renewed.expires_ms, "a lease is never shortened");
    let stale = broker.renew_claim("jobs", "k", lost.token, LEASE).await.unwrap_err();
    assert_eq!(stale.code().as_str(), "CLAIM_STALE");
}

#[tokio::test]
async fn a_look_at_a_claim_changes_nothing() {
    let broker = broker().await;
    let unknown = broker.show_claim("jobs", "k").await.unwrap_err();
    assert_eq!(unknown, ClaimError::NamespaceNotFound { name: "jobs".into() });
    let claim = claimed(&broker, "k", Some("w1")).await;
    assert_eq!(broker.show_claim("jobs", "other").await.unwrap(), None);
    assert_eq!(broker.show_claim("jobs", "k").await.unwrap(), Some(Claim::InFlight(claim.clone())));
    let done = broker.complete_claim("jobs", "k", claim.token, "r".into()).await.unwrap();
    let shown = broker.show_claim("jobs", "k").await.unwrap();
    assert_eq!(shown, Some(Claim::Completed { claim: done.claim, receipt: "r".into() }));
}

#[tokio::test]
async fn a_namespace_comes_with_its_first_claim_and_its_window_can_be_changed() {
    let broker = broker().await;
    claimed(&broker, "k", None).await;
    let info = broker.claim_namespace("jobs").await.unwrap();
    assert_eq!((info.window_ms, info.live), (24 * 60 * 60 * 1000, 1));
    broker.put_claim_namespace("jobs", Duration::from_millis(1)).await.unwrap();
    let claim = claimed(&broker, "short", None).await;
    broker.complete_claim("jobs", "short", claim.token, "r".into()).await.unwrap();
    let again = loop {
        if let Claim::Claimed { claim, .. } = broker.claim("jobs", "short", LEASE, None).await.unwrap() {
            break claim;
        }
        tokio::task::yield_now().await;
    };
    assert!(again.token > claim.token, "the window is over");
    broker.delete_claim_namespace("jobs").await.unwrap();
    assert!(broker.claim_namespaces().await.unwrap().is_empty());
    let gone = broker.complete_claim("jobs", "k", 1, "r".into()).await.unwrap_err();
    assert_eq!(gone, ClaimError::NamespaceNotFound { name: "jobs".into() });
}

#[tokio::test]
async fn what_is_too_much_is_refused_with_the_limit() {
    let mut config = ServerConfig::default();
    (config.limits.live_claims, config.limits.receipt_bytes, config.limits.key_bytes) = (1, 3, 4);
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    let claim = claimed(&broker, "k", None).await;
    let full = broker.claim("jobs", "l", LEASE, None).await.unwrap_err();
    assert_eq!(full, ClaimError::TooManyClaims { namespace: "jobs".into(), limit: 1 });
    let large = broker.complete_claim("jobs", "k", claim.token, "four".into()).await.unwrap_err();
    assert_eq!(large.to_string(), "the receipt (bytes) is 4; the limit is 3");
    let long = broker.claim("jobs", "12345", LEASE, None).await.unwrap_err();
    assert_eq!(long.code().as_str(), "LIMIT_EXCEEDED");
    for (key, lease) in [("", LEASE), ("k", Duration::ZERO), ("k", LEASE * 100)] {
        let error = broker.claim("jobs", key, lease, None).await.unwrap_err();
        assert_eq!(error.code().as_str(), "INVALID_ARGUMENT");
    }
    assert_eq!(broker.claim("a b", "k", LEASE, None).await.unwrap_err().code().as_str(), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn claims_and_receipts_survive_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let first = Broker::embedded(&ServerConfig::default(), store.clone()).await.unwrap();
    let held = claimed(&first, "held", Some("w1")).await;
    let done = claimed(&first, "done", None).await;
    first.complete_claim("jobs", "done", done.token, "r".into()).await.unwrap();
    first.flush().await.unwrap();
    first.stop().await;
    let second = Broker::embedded(&ServerConfig::default(), store).await.unwrap();
    assert_eq!(second.show_claim("jobs", "held").await.unwrap(), Some(Claim::InFlight(held)));
    let shown = second.claim("jobs", "done", LEASE, None).await.unwrap();
    assert!(matches!(shown, Claim::Completed { receipt, .. } if receipt == "r"));
    assert_eq!(claimed(&second, "new", None).await.token, done.token + 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_called_so_and_repeating_it_is_safe() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::embedded(&ServerConfig::default(), store.clone()).await.unwrap();
    store.fail_commits(true);
    let error = broker.claim("jobs", "k", LEASE, Some("w1")).await.unwrap_err();
    assert!(error.outcome_unknown() && error.code().as_str() == "OUTCOME_UNKNOWN", "{error:?}");
    assert!(error.help().contains("same owner"), "{error:?}");
    store.fail_commits(false);
    let again = loop {
        match broker.claim("jobs", "k", LEASE, Some("w1")).await {
            Ok(claim) => break claim,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(
        matches!(again, Claim::Claimed { claim, repeated: true } if claim.token == 1),
        "it was taken the first time"
    );
}
