//! Messages that wait for their time, over HTTP: looking at them and taking them back.

use axum::{
    Extension, Json,
    extract::{Path, Query},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::{
    broker::{Access, DelayedPage},
    model::{DelayedJson, Form},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only what has a greater id.
    #[serde(default)]
    pub(super) after: u64,
    /// Nothing or 0 means as many as fit.
    #[serde(default)]
    pub(super) limit: usize,
}

/// Written as it is, and not by way of a value in memory: that would change the spelling of payloads.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    channel: &'a str,
    messages: Vec<DelayedJson<'a>>,
    /// The id after which the next page begins; none at the end.
    next_after: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Withdrawn<'a> {
    channel: &'a str,
    id: u64,
    withdrawn: bool,
}

pub(super) async fn list(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    Query(ListQuery { after, limit }): Query<ListQuery>,
) -> Result<Response, Problem> {
    let DelayedPage { messages, next_after } = broker.delayed_messages(&channel, after, limit).await?;
    let shown = messages
        .iter()
        .map(|waiting| DelayedJson::of(&channel, waiting.id, waiting.due_ms, &waiting.message, Form::Document));
    Ok(Json(Listed { channel: &channel, messages: shown.collect(), next_after }).into_response())
}

/// As often as anybody likes: the answer says whether this one did it.
pub(super) async fn withdraw(
    Extension(broker): Extension<Access>,
    Path((channel, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let wrong = |_| Problem::invalid(format!("`{id}` is no id of a message that waits: take one from the list"));
    let number: u64 = id.parse().map_err(wrong)?;
    let withdrawn = broker.withdraw_delayed(&channel, number).await?;
    Ok(Json(Withdrawn { channel: &channel, id: number, withdrawn }).into_response())
}
