//! Rules between channels over HTTP.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{channels::parse, problem::Problem};
use crate::broker::{Access, RuleInfo};

/// The body of a PUT; it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    predicate: Option<String>,
}

#[derive(Debug, Serialize)]
struct RuleJson<'a> {
    source: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate: Option<&'a str>,
}

impl<'a> RuleJson<'a> {
    fn of(rule: &'a RuleInfo) -> Self {
        Self { source: &rule.source, target: &rule.target, predicate: rule.predicate.as_deref() }
    }
}

pub(super) async fn list(Extension(broker): Extension<Access>) -> Result<Response, Problem> {
    let rules = broker.rules().await?;
    let rules: Vec<_> = rules.iter().map(RuleJson::of).collect();
    Ok(Json(json!({ "rules": rules })).into_response())
}

pub(super) async fn put(
    Extension(broker): Extension<Access>,
    Path((source, target)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Put { predicate } = if body.trim_ascii().is_empty() { Put::default() } else { parse(&body)? };
    let rule = broker.put_rule(&source, &target, predicate.as_deref()).await?;
    Ok(Json(RuleJson::of(&rule)).into_response())
}

pub(super) async fn delete(
    Extension(broker): Extension<Access>,
    Path((source, target)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    broker.delete_rule(&source, &target).await?;
    Ok(StatusCode::NO_CONTENT)
}
