//! Claims with receipts over HTTP.
//!
//! What is the caller's is `201`, what is done is `200` with its receipt, and what somebody else holds is the problem
//! `CLAIM_IN_FLIGHT` (`409`) with `Retry-After`: a client that only looks at the status does the right thing.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{channels::parse, content, problem::Problem};
use crate::{
    broker::{Access, BrokerError, Claim, Completed},
    model::{ClaimInfo, ClaimJson, DEFAULT_RECEIPT_WINDOW_MS, Form, NamespaceInfo, NamespaceJson, timestamp},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Take {
    lease_ms: u64,
    owner: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    token: u64,
    receipt: Option<Box<RawValue>>,
    receipt_base64: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    token: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    token: u64,
    lease_ms: u64,
}

/// Everything may be left out, and so may the body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespace {
    window_ms: Option<u64>,
}

type Named = Path<(String, String)>;

pub(super) async fn take(
    Extension(broker): Extension<Access>,
    Path((namespace, key)): Named,
    body: Bytes,
) -> Result<Response, Problem> {
    let Take { lease_ms, owner } = parse(&body)?;
    match broker.claim(&namespace, &key, Duration::from_millis(lease_ms), owner.as_deref()).await? {
        Claim::Claimed { claim, repeated } => {
            let shown = Json(ClaimJson::claimed(&namespace, &key, &claim.to_lease(repeated))).into_response();
            Ok((StatusCode::CREATED, shown).into_response())
        }
        Claim::InFlight(holder) => {
            // As far as this node knows the time; the leader's may be a little ahead of it.
            let retry_after_ms = holder.expires_ms.saturating_sub(broker.now_ms()).max(1);
            Err(BrokerError::ClaimInFlight { namespace, key, holder, retry_after_ms }.into())
        }
        Claim::Completed { claim, receipt } => {
            Ok(Json(ClaimJson::completed(&namespace, &key, &claim.to_receipt(receipt), Form::Document)).into_response())
        }
    }
}

pub(super) async fn show(
    Extension(broker): Extension<Access>,
    Path((namespace, key)): Named,
) -> Result<Response, Problem> {
    Ok(match broker.show_claim(&namespace, &key).await? {
        None => Json(ClaimJson::free(&namespace, &key)).into_response(),
        Some(Claim::Claimed { claim, .. } | Claim::InFlight(claim)) => {
            Json(ClaimJson::in_flight(&namespace, &key, &claim.to_holder())).into_response()
        }
        Some(Claim::Completed { claim, receipt }) => {
            Json(ClaimJson::completed(&namespace, &key, &claim.to_receipt(receipt), Form::Document)).into_response()
        }
    })
}

/// JSON as it stands, or base64 of anything, or nothing.
pub(super) fn receipt_of(receipt: Option<Box<RawValue>>, receipt_base64: Option<String>) -> Result<Bytes, Problem> {
    Ok(content::bytes("receipt", receipt, receipt_base64).map_err(Problem::invalid)?.unwrap_or_default())
}

pub(super) async fn complete(
    Extension(broker): Extension<Access>,
    Path((namespace, key)): Named,
    body: Bytes,
) -> Result<Response, Problem> {
    let Complete { token, receipt, receipt_base64 } = parse(&body)?;
    let receipt = receipt_of(receipt, receipt_base64)?;
    let Completed { claim, repeated } = broker.complete_claim(&namespace, &key, token, receipt).await?;
    let ClaimInfo { since_ms, expires_ms, .. } = claim;
    Ok(Json(ClaimJson {
        state: "completed",
        token: Some(token),
        completed: Some(timestamp(since_ms)),
        expires: Some(timestamp(expires_ms)),
        repeated: Some(repeated),
        ..ClaimJson::free(&namespace, &key)
    })
    .into_response())
}

pub(super) async fn release(
    Extension(broker): Extension<Access>,
    Path((namespace, key)): Named,
    body: Bytes,
) -> Result<Response, Problem> {
    let Release { token } = parse(&body)?;
    let repeated = broker.release_claim(&namespace, &key, token).await?;
    Ok(Json(ClaimJson { repeated: Some(repeated), ..ClaimJson::free(&namespace, &key) }).into_response())
}

pub(super) async fn renew(
    Extension(broker): Extension<Access>,
    Path((namespace, key)): Named,
    body: Bytes,
) -> Result<Response, Problem> {
    let Renew { token, lease_ms } = parse(&body)?;
    let claim = broker.renew_claim(&namespace, &key, token, Duration::from_millis(lease_ms)).await?;
    let shown = ClaimJson { repeated: None, ..ClaimJson::claimed(&namespace, &key, &claim.to_lease(false)) };
    Ok(Json(shown).into_response())
}

fn shown(info: &NamespaceInfo) -> Response {
    Json(NamespaceJson::of(&info.to_proto())).into_response()
}

pub(super) async fn namespaces(Extension(broker): Extension<Access>) -> Result<Response, Problem> {
    let namespaces: Vec<_> = broker.claim_namespaces().await?.iter().map(NamespaceInfo::to_proto).collect();
    let namespaces: Vec<_> = namespaces.iter().map(NamespaceJson::of).collect();
    Ok(Json(json!({ "namespaces": namespaces })).into_response())
}

pub(super) async fn namespace(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    Ok(shown(&broker.claim_namespace(&name).await?))
}

pub(super) async fn put_namespace(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Namespace { window_ms } = if body.trim_ascii().is_empty() { Namespace::default() } else { parse(&body)? };
    let window = Duration::from_millis(window_ms.unwrap_or(DEFAULT_RECEIPT_WINDOW_MS));
    Ok(shown(&broker.put_claim_namespace(&name, window).await?))
}

pub(super) async fn delete_namespace(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    broker.delete_claim_namespace(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
