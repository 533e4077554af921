//! Creating, showing, changing and deleting channels over HTTP.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{delayed::ListQuery, messages::start, pages::page, problem::Problem};
use crate::{
    broker::{Access, BrokerError, ChannelInfo, Trim},
    model::{
        ChannelConfig, ChannelJson, ChannelName, ChannelUpdate, Comparison, Compatibility, Durability, QuotaJson,
        RetentionJson, SchemaJson,
    },
    proto::v1,
};

/// The body of a PUT. Everything may be left out, and so may the body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    durability: Option<Kind>,
    comparison: Option<Comparison>,
    schema: Option<Box<RawValue>>,
    dedup_window_ms: Option<u64>,
    compatibility: Option<Compatibility>,
    retention: Option<RetentionJson>,
    quarantine: Option<String>,
    quota: Option<QuotaJson>,
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
    compatibility: Option<Compatibility>,
    /// Replaced as a whole.
    retention: Option<RetentionJson>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "given")]
    quarantine: Option<Option<String>>,
    /// Replaced as a whole.
    quota: Option<QuotaJson>,
}

/// The body of a trim: which messages stay.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stay {
    /// Those from this sequence number on.
    To(u64),
    /// So many of the newest.
    Keep(u64),
    /// Those of the last `7d`.
    OlderThan(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateQuery {
    /// Only say whether the schema could take the old one's place, and how many messages would go.
    #[serde(default)]
    dry_run: bool,
}

/// Which part of a list of names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Only what comes after this name.
    #[serde(default)]
    pub(super) after: String,
    /// Nothing or 0 means as many as fit.
    #[serde(default)]
    pub(super) limit: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateQuery {
    from: Option<String>,
    /// Nothing or 0 means all.
    limit: Option<u64>,
}

/// Tells `null` from nothing.
fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
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

fn quarantine(name: Option<String>) -> Result<Option<ChannelName>, Problem> {
    let invalid = |error: crate::model::InvalidName| BrokerError::InvalidChannelName { reason: error.to_string() };
    Ok(name.filter(|name| !name.is_empty()).map(|name| name.parse().map_err(invalid)).transpose()?)
}

fn shown(info: &ChannelInfo) -> Response {
    let channel = info.to_proto();
    Json(ChannelJson::of(&channel)).into_response()
}

pub(super) async fn list(
    Extension(broker): Extension<Access>,
    Query(PageQuery { after, limit }): Query<PageQuery>,
) -> Result<Response, Problem> {
    let channels = broker.channels_after(&after, limit).await?;
    page("channels", channels, |channel| to_raw_value(&ChannelJson::of(&channel.to_proto()))).await
}

pub(super) async fn show(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    Ok(shown(&broker.channel(&channel).await?))
}

pub(super) async fn create(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let body: Create = if body.trim_ascii().is_empty() { Create::default() } else { parse(&body)? };
    let durability = match body.durability {
        Some(Kind::Ephemeral) => Durability::Ephemeral,
        Some(Kind::Durable) | None => Durability::Durable,
    };
    let config = ChannelConfig {
        durability,
        comparison: body.comparison.unwrap_or_default(),
        schema: body.schema.map(|schema| schema.get().to_owned()),
        dedup_window_ms: window(body.dedup_window_ms)?.unwrap_or(ChannelConfig::DEFAULT_DEDUP_WINDOW_MS),
        compatibility: body.compatibility.unwrap_or_default(),
        retention: body.retention.unwrap_or_default().into(),
        quarantine: quarantine(body.quarantine)?,
        quota: body.quota.unwrap_or_default().into(),
    };
    Ok(shown(&broker.create_channel(&channel, config).await?))
}

pub(super) async fn update(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    Query(UpdateQuery { dry_run }): Query<UpdateQuery>,
    body: Bytes,
) -> Result<Response, Problem> {
    let body: Update = parse(&body)?;
    // To the broker the empty text is no schema.
    let schema = body.schema.map(|schema| schema.map_or_else(String::new, |schema| schema.get().to_owned()));
    let update = ChannelUpdate {
        schema,
        compared_with: None,
        dedup_window_ms: window(body.dedup_window_ms)?,
        compatibility: body.compatibility,
        retention: body.retention.map(Into::into),
        quarantine: body.quarantine.map(quarantine).transpose()?,
        quota: body.quota.map(Into::into),
    };
    if dry_run {
        let tried = broker.try_update_channel(&channel, update.schema.as_deref(), update.compatibility).await;
        let (_, incompatibilities) = tried?;
        let compatible = incompatibilities.is_empty();
        let removes = match &update.retention {
            Some(retention) => broker.would_remove(&channel, retention).await?,
            None => 0,
        };
        let answer = json!({
            "channel": channel, "compatible": compatible, "incompatibilities": incompatibilities, "removes": removes,
        });
        return Ok(Json(answer).into_response());
    }
    let info = broker.update_channel(&channel, update).await?;
    Ok(shown(&info))
}

/// The schemas that a channel has, or has had.
pub(super) async fn schemas(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    Query(ListQuery { after, limit }): Query<ListQuery>,
) -> Result<Response, Problem> {
    let (schemas, next_after) = broker.schemas_after(&channel, after, limit).await?;
    let schemas: Vec<v1::SchemaVersion> = schemas.into_iter().map(Into::into).collect();
    let schemas: Vec<_> = schemas.iter().map(SchemaJson::of).collect();
    Ok(Json(json!({ "channel": channel, "schemas": schemas, "next_after": next_after })).into_response())
}

/// Checks stored messages against the schema in the body, and changes nothing.
pub(super) async fn validate(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    Query(ValidateQuery { from, limit }): Query<ValidateQuery>,
    body: Bytes,
) -> Result<Response, Problem> {
    let start = start(from.as_deref().unwrap_or("earliest"), broker.now_ms())?;
    let schema =
        std::str::from_utf8(&body).map_err(|_| Problem::invalid("the body is no UTF-8: send a JSON Schema"))?;
    let report = broker.validate_history(&channel, schema, start, limit.unwrap_or(0)).await?;
    let samples = report.samples.iter().map(|(seq, violations)| json!({ "seq": seq, "violations": violations }));
    let answer = json!({
        "channel": channel,
        "checked": report.checked,
        "invalid": report.invalid,
        "first_seq": report.first_seq,
        "next_seq": report.next_seq,
        "end_seq": report.end_seq,
        "samples": samples.collect::<Vec<_>>(),
    });
    Ok(Json(answer).into_response())
}

pub(super) async fn trim(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let trim = match parse(&body)? {
        Stay::To(seq) => Trim::To(seq),
        Stay::Keep(messages) => Trim::Keep(messages),
        Stay::OlderThan(text) => {
            let wrong = |_| Problem::invalid(format!("older_than is `{text}`: write a time like 7d"));
            let age = humantime::parse_duration(&text).map_err(wrong)?;
            Trim::OlderThan(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
        }
    };
    let first_seq = broker.trim_channel(&channel, trim).await?;
    Ok(Json(json!({ "channel": channel, "first_seq": first_seq })).into_response())
}

pub(super) async fn delete(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
) -> Result<StatusCode, Problem> {
    broker.delete_channel(&channel).await?;
    Ok(StatusCode::NO_CONTENT)
}
