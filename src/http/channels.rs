//! Creating, showing, changing and deleting channels over HTTP.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};

use super::problem::Problem;
use crate::{
    broker::{Broker, ChannelInfo},
    model::{ChannelConfig, ChannelJson, ChannelUpdate, Durability},
};

/// The body of a PUT. Everything may be left out, and so may the body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    durability: Option<Kind>,
    schema: Option<Box<RawValue>>,
    dedup_window_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Durable,
    Ephemeral,
}

/// The body of a PATCH: what is left out stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    /// `null` removes it.
    #[serde(default, deserialize_with = "given")]
    schema: Option<Option<Box<RawValue>>>,
    dedup_window_ms: Option<u64>,
}

/// Tells `null` from nothing.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Box<RawValue>>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Of a request's body.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::invalid(format!("the body is not what it should be: {error}")))
}

fn window(ms: Option<u64>) -> Result<Option<u64>, Problem> {
    match ms {
        Some(0) => Err(Problem::invalid("dedup_window_ms is 0: give at least 1, or leave it out for 24 hours")),
        ms => Ok(ms),
    }
}

fn shown(info: &ChannelInfo) -> Response {
    let channel = info.to_proto();
    Json(ChannelJson::of(&channel)).into_response()
}

pub(super) async fn list(State(broker): State<Broker>) -> Result<Response, Problem> {
    let channels: Vec<_> = broker.channels().await?.iter().map(ChannelInfo::to_proto).collect();
    let channels: Vec<_> = channels.iter().map(ChannelJson::of).collect();
    Ok(Json(json!({ "channels": channels })).into_response())
}

pub(super) async fn show(State(broker): State<Broker>, Path(channel): Path<String>) -> Result<Response, Problem> {
    Ok(shown(&broker.channel(&channel).await?))
}

pub(super) async fn create(
    State(broker): State<Broker>,
    Path(channel): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Create { durability, schema, dedup_window_ms } =
        if body.trim_ascii().is_empty() { Create::default() } else { parse(&body)? };
    let durability = match durability {
        Some(Kind::Ephemeral) => Durability::Ephemeral,
        Some(Kind::Durable) | None => Durability::Durable,
    };
    let schema = schema.map(|schema| schema.get().to_owned());
    let dedup_window_ms = window(dedup_window_ms)?.unwrap_or(ChannelConfig::DEFAULT_DEDUP_WINDOW_MS);
    let info = broker
        .create_channel(&channel, ChannelConfig { durability, schema, dedup_window_ms, ..ChannelConfig::default() })
        .await?;
    Ok(shown(&info))
}

pub(super) async fn update(
    State(broker): State<Broker>,
    Path(channel): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Update { schema, dedup_window_ms } = parse(&body)?;
    // To the broker the empty text is no schema.
    let schema = schema.map(|schema| schema.map_or_else(String::new, |schema| schema.get().to_owned()));
    let update = ChannelUpdate { schema, dedup_window_ms: window(dedup_window_ms)?, ..ChannelUpdate::default() };
    let info = broker.update_channel(&channel, update).await?;
    Ok(shown(&info))
}

pub(super) async fn delete(State(broker): State<Broker>, Path(channel): Path<String>) -> Result<StatusCode, Problem> {
    broker.delete_channel(&channel).await?;
    Ok(StatusCode::NO_CONTENT)
}
