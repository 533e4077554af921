//! Tokens over HTTP, and what they may do.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::to_raw_value};

use super::{
    channels::{PageQuery, parse},
    pages::page,
    problem::Problem,
};
use crate::{
    broker::{Access, TokenInfo, TokenText, Verdict},
    model::timestamp,
};

/// The body of a POST.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    #[serde(default)]
    description: String,
    roles: Vec<String>,
    /// Such as `90d`; none: until it is revoked.
    lifetime: Option<String>,
    /// Such as `uri:NAME`: whoever shows a certificate of this name is the token's holder, and it gets no text.
    certificate: Option<String>,
}

#[derive(Debug, Serialize)]
struct TokenJson {
    id: String,
    description: String,
    roles: Vec<String>,
    created: String,
    rotated: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// As the node that was asked has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// Only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl TokenJson {
    fn of(info: &TokenInfo) -> Self {
        let token = info.to_proto();
        let at = |ms: u64| (ms > 0).then(|| timestamp(ms));
        Self {
            id: token.id,
            description: token.description,
            roles: token.roles,
            created: timestamp(token.created_ms),
            rotated: timestamp(token.rotated_ms),
            expires: at(token.expires_ms),
            used: at(token.used_ms),
            certificate: Some(token.certificate).filter(|name| !name.is_empty()),
            token: None,
        }
    }

    fn with(self, text: &TokenText) -> Self {
        Self { token: Some(text.reveal().to_owned()), ..self }
    }
}

pub(super) async fn list(
    Extension(broker): Extension<Access>,
    Query(PageQuery { after, limit }): Query<PageQuery>,
) -> Result<Response, Problem> {
    page("tokens", broker.tokens_after(&after, limit).await?, |token| to_raw_value(&TokenJson::of(token))).await
}

pub(super) async fn create(Extension(broker): Extension<Access>, body: Bytes) -> Result<Response, Problem> {
    let Create { description, roles, lifetime, certificate } = parse(&body)?;
    let lifetime = lifetime.as_deref().map(lifetime_of).transpose()?;
    if let Some(name) = certificate {
        let token = broker.bind_certificate(&name, &description, &roles, lifetime).await?;
        return Ok((StatusCode::CREATED, Json(TokenJson::of(&token))).into_response());
    }
    let (text, token) = broker.create_token(&description, &roles, lifetime).await?;
    Ok((StatusCode::CREATED, Json(TokenJson::of(&token).with(&text))).into_response())
}

fn lifetime_of(text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text)
        .map_err(|_| Problem::invalid(format!("lifetime is `{text}`: write a time like 90d")))
}

pub(super) async fn show(Extension(broker): Extension<Access>, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(Json(TokenJson::of(&broker.token(&id).await?)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeQuery {
    #[serde(default)]
    force: bool,
}

pub(super) async fn revoke(
    Extension(broker): Extension<Access>,
    Path(id): Path<String>,
    Query(RevokeQuery { force }): Query<RevokeQuery>,
) -> Result<StatusCode, Problem> {
    broker.revoke_token(&id, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate(Extension(broker): Extension<Access>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (text, token) = broker.rotate_token(&id).await?;
    Ok(Json(TokenJson::of(&token).with(&text)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CanIQuery {
    action: String,
    scope: String,
    #[serde(default)]
    token: String,
}

pub(super) async fn can_i(
    Extension(broker): Extension<Access>,
    Query(CanIQuery { action, scope, token }): Query<CanIQuery>,
) -> Result<Response, Problem> {
    let Verdict { allowed, who, reason } = broker.can_i(&action, &scope, &token)?;
    let mut answer = json!({ "allowed": allowed, "who": who });
    if !reason.is_empty() {
        answer["reason"] = reason.into();
    }
    Ok(Json(answer).into_response())
}
