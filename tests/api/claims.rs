//! Claims over HTTP and gRPC.

use std::time::Duration;

use liminal::{
    client::{Client, Once, OnceError, Taken},
    model::Limits,
    proto::v1::{self, claims_client::ClaimsClient, take_claim_response::Outcome},
};
use serde_json::json;
use tonic::Code;

use super::{http::request, node};

const CLAIM: &str = "/v1/claims/jobs/order%2F7";
const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_claim_over_http_is_taken_renewed_completed_and_told_of() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let take = r#"{"lease_ms": 60000, "owner": "w1"}"#;
    let taken = request(http, "POST", CLAIM, &[], take).await;
    assert_eq!(taken.status, 201);
    let first = taken.json();
    assert_eq!((&first["state"], &first["key"], &first["token"]), (&json!("claimed"), &json!("order/7"), &json!(1)));
    let again = request(http, "POST", CLAIM, &[], take).await;
    assert_eq!((again.status, again.json()["repeated"].clone()), (201, json!(true)));
    let busy = request(http, "POST", CLAIM, &[], r#"{"lease_ms": 60000}"#).await;
    assert_eq!(busy.code(), (409, "CLAIM_IN_FLIGHT".into()));
    assert!(busy.head.to_lowercase().contains("retry-after: "), "{}", busy.head);
    let shown = request(http, "GET", CLAIM, &[], "").await.json();
    assert_eq!((&shown["state"], &shown["owner"]), (&json!("in_flight"), &json!("w1")));
    let renewed = request(http, "POST", &format!("{CLAIM}/renew"), &[], r#"{"token": 1, "lease_ms": 90000}"#).await;
    assert!(renewed.json()["expires"].as_str() > first["expires"].as_str());
    let complete = r#"{"token": 1, "receipt": {"mail": 7}}"#;
    let done = request(http, "POST", &format!("{CLAIM}/complete"), &[], complete).await.json();
    assert_eq!((&done["state"], &done["repeated"]), (&json!("completed"), &json!(false)));
    let again = request(http, "POST", &format!("{CLAIM}/complete"), &[], complete).await.json();
    assert_eq!((&again["repeated"], &again["completed"]), (&json!(true), &done["completed"]));
    let later = request(http, "POST", CLAIM, &[], r#"{"lease_ms": 60000}"#).await;
    assert_eq!((later.status, later.json()["receipt"].clone()), (200, json!({"mail": 7})));
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_with_a_claim_over_http_is_a_problem() {
    let node = node(Limits { live_claims: 2, ..Limits::default() }).await;
    let http = node.http_address();
    let take =
        async |key: &str| request(http, "POST", &format!("/v1/claims/jobs/{key}"), &[], r#"{"lease_ms":60000}"#).await;
    assert_eq!((take("a").await.status, take("b").await.status), (201, 201));
    assert_eq!(take("c").await.code(), (429, "TOO_MANY_CLAIMS".into()));
    let release = r#"{"token": 1}"#;
    assert_eq!(request(http, "POST", "/v1/claims/jobs/a/release", &[], release).await.json()["state"], "free");
    let binary = r#"{"token": 2, "receipt_base64": "/wA="}"#;
    assert_eq!(request(http, "POST", "/v1/claims/jobs/b/complete", &[], binary).await.status, 200);
    assert_eq!(request(http, "GET", "/v1/claims/jobs/b", &[], "").await.json()["receipt_base64"], "/wA=");
    for (method, target, body, expected) in [
        ("POST", "/v1/claims/jobs/a/complete", r#"{"token": 1}"#, (409, "CLAIM_STALE")),
        ("POST", "/v1/claims/jobs/b/complete", r#"{"token": 2}"#, (409, "CLAIM_COMPLETED")),
        ("POST", "/v1/claims/jobs/b/release", r#"{"token": 2}"#, (409, "CLAIM_COMPLETED")),
        (
            "POST",
            "/v1/claims/jobs/b/complete",
            r#"{"token": 2, "receipt": 1, "receipt_base64": ""}"#,
            (400, "INVALID_ARGUMENT"),
        ),
        ("POST", "/v1/claims/jobs/b/complete", r#"{"token": 2, "receipt_base64": "?"}"#, (400, "INVALID_ARGUMENT")),
        ("POST", "/v1/claims/jobs/x", r#"{"lease_ms": 1}"#, (400, "INVALID_ARGUMENT")),
        ("POST", "/v1/claims/jobs/x", "", (400, "INVALID_ARGUMENT")),
        ("POST", "/v1/claims/a%20b/x", r#"{"lease_ms": 60000}"#, (400, "INVALID_ARGUMENT")),
        ("GET", "/v1/claims/nowhere/x", "", (404, "NAMESPACE_NOT_FOUND")),
        ("GET", "/v1/claims/nowhere", "", (404, "NAMESPACE_NOT_FOUND")),
        ("DELETE", "/v1/claims/nowhere", "", (404, "NAMESPACE_NOT_FOUND")),
        ("PUT", "/v1/claims/jobs", r#"{"window_ms": 0}"#, (400, "INVALID_ARGUMENT")),
    ] {
        let (status, code) = request(http, method, target, &[], body).await.code();
        assert_eq!((status, code.as_str()), expected, "{method} {target} {body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn namespaces_are_made_changed_listed_and_deleted_over_http_and_counted_in_metrics() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let made = request(http, "PUT", "/v1/claims/jobs", &[], r#"{"window_ms": 5000}"#).await.json();
    assert_eq!((&made["namespace"], &made["window_ms"], &made["live"]), (&json!("jobs"), &json!(5000), &json!(0)));
    let usual = request(http, "PUT", "/v1/claims/jobs", &[], "").await.json();
    assert_eq!(usual["window_ms"], 86_400_000);
    request(http, "POST", "/v1/claims/jobs/k", &[], r#"{"lease_ms": 60000}"#).await;
    assert_eq!(request(http, "GET", "/v1/claims/jobs", &[], "").await.json()["live"], 1);
    let metrics = request(http, "GET", "/metrics", &[], "").await.body;
    for line in
        ["liminal_claims_live{namespace=\"jobs\"} 1", "liminal_claims_taken_total 1", "liminal_claims_expired_total 0"]
    {
        assert!(metrics.lines().any(|shown| shown == line), "{line} is not in {metrics}");
    }
    assert_eq!(request(http, "DELETE", "/v1/claims/jobs", &[], "").await.status, 204);
    assert_eq!(request(http, "GET", "/v1/claims", &[], "").await.json(), json!({"namespaces": []}));
    node.stop().await;
}

#[tokio::test]
async fn claims_over_grpc_say_who_holds_them_and_carry_their_codes() {
    let node = node(Limits::default()).await;
    let mut claims = ClaimsClient::connect(format!("http://{}", node.client_address())).await.unwrap();
    let take = |owner: &str| {
        let (namespace, key) = ("jobs".to_owned(), "k".to_owned());
        v1::TakeClaimRequest { namespace, key, lease_ms: 60_000, owner: owner.to_owned() }
    };
    let Some(Outcome::Claimed(lease)) = claims.take_claim(take("w1")).await.unwrap().into_inner().outcome else {
        panic!("it is free")
    };
    let Some(Outcome::InFlight(holder)) = claims.take_claim(take("w2")).await.unwrap().into_inner().outcome else {
        panic!("it is taken")
    };
    assert_eq!((holder.token, holder.owner.as_str(), holder.expires_ms), (lease.token, "w1", lease.expires_ms));
    let complete =
        |token| v1::CompleteClaimRequest { namespace: "jobs".into(), key: "k".into(), token, receipt: "r".into() };
    let stale = claims.complete_claim(complete(lease.token + 1)).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert_eq!(stale.metadata().get("liminal-code").unwrap(), "CLAIM_STALE");
    assert!(!claims.complete_claim(complete(lease.token)).await.unwrap().into_inner().repeated);
    assert!(claims.complete_claim(complete(lease.token)).await.unwrap().into_inner().repeated);
    let show = v1::ShowClaimRequest { namespace: "jobs".into(), key: "other".into() };
    assert_eq!(claims.show_claim(show).await.unwrap().into_inner().state, None);
    let put = v1::PutClaimNamespaceRequest { name: "jobs".into(), window_ms: 5000 };
    let namespace = claims.put_claim_namespace(put).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!((namespace.window_ms, namespace.live), (5000, 1));
    let delete = v1::DeleteClaimNamespaceRequest { name: "jobs".into() };
    claims.delete_claim_namespace(delete).await.unwrap();
    let gone = claims.get_claim_namespace(v1::GetClaimNamespaceRequest { name: "jobs".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn work_that_is_to_be_done_once_runs_once_and_again_only_after_it_failed() {
    let node = node(Limits::default()).await;
    let client = Client::connect([node.client_address()]).await.unwrap();
    let jobs = client.claims("jobs").named("w1");
    let failed = jobs.once("k", LEASE, async |_| Err::<String, _>("out of ink")).await.unwrap_err();
    assert!(matches!(failed, OnceError::Work("out of ink")));
    let ran = jobs.once("k", LEASE, async |token| Ok::<_, String>(format!("{token}"))).await.unwrap();
    assert_eq!(ran, Once::Ran("2".into()), "the failed one gave its claim back");
    let again = jobs.once("k", LEASE, async |_| -> Result<String, String> { panic!("it is done") }).await.unwrap();
    assert_eq!(again, Once::DoneBefore("2".into()));
    let Taken::Claimed(_) = client.claims("jobs").take("busy", LEASE).await.unwrap() else { panic!("it is free") };
    let busy = jobs.once("busy", LEASE, async |_| -> Result<String, String> { panic!("it is taken") }).await.unwrap();
    assert!(matches!(busy, Once::InFlight(holder) if holder.token == 3));
    node.stop().await;
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_work_runs_and_work_that_lost_its_claim_is_dropped() {
    let node = node(Limits::default()).await;
    let client = Client::connect([node.client_address()]).await.unwrap();
    let jobs = client.claims("jobs");
    let expiry = async || match jobs.show("k").await.unwrap() {
        Some(Taken::InFlight(holder)) => holder.expires,
        other => panic!("{other:?}"),
    };
    let short = Duration::from_secs(3);
    // The work ends when it has seen its own lease renewed.
    let ran = jobs.once("k", short, async |token| {
        let first = expiry().await;
        while expiry().await == first {
            tokio::task::yield_now().await;
        }
        Ok::<_, String>(token.to_string())
    });
    assert_eq!(ran.await.unwrap(), Once::Ran("1".into()));
    // Somebody takes the claim away: the work would never end by itself.
    let lost = jobs.once("lost", short, async |token| -> Result<String, String> {
        jobs.release("lost", token).await.unwrap();
        std::future::pending().await
    });
    let OnceError::Claim(error) = lost.await.unwrap_err() else { panic!("the work did not end") };
    assert_eq!(error.code(), "CLAIM_STALE");
    node.stop().await;
}
