//! Consumers over HTTP: managing them, and pulling and settling messages without a stream.

use std::fmt;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{
    channels::{PageQuery, parse},
    content::Few,
    messages::{duration, start},
    pages::page,
    problem::Problem,
};
use crate::{
    broker::{Access, Broker, ConsumerInfo, ConsumerUpdate, DeadLetters, Holding},
    model::{
        ConsumeOrder, ConsumerJson, Form, InvalidToken, Limits, MessageJson, NoticeJson, OrderingKey, Position,
        Settlement, Verdict, timestamp,
    },
};

/// The body of a POST and of a PATCH. Everything but the name may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: Option<String>,
    /// As in a read's query.
    start: Option<String>,
    ack_timeout_ms: Option<u64>,
    max_attempts: Option<u32>,
    /// The empty text stands for the usual one.
    dead_letter: Option<String>,
    #[serde(default)]
    drop_dead: bool,
    max_in_flight: Option<u32>,
    order: Option<OrderJson>,
    /// With `key`: the header that holds the ordering key; none means the idempotency key.
    order_header: Option<String>,
    /// The empty text removes it.
    filter: Option<String>,
    /// What it keeps back counts as settled in a work queue.
    #[serde(default)]
    settle_skipped: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderJson {
    None,
    Exclusive,
    Key,
}

impl Wanted {
    fn update(self) -> Result<ConsumerUpdate, Problem> {
        let header = self.order_header;
        let order = match (self.order, header) {
            (None, None) => None,
            (Some(OrderJson::None), None) => Some(ConsumeOrder::None),
            (Some(OrderJson::Exclusive), None) => Some(ConsumeOrder::Exclusive),
            (Some(OrderJson::Key), None) => Some(ConsumeOrder::Key(OrderingKey::MessageKey)),
            (Some(OrderJson::Key), Some(header)) => Some(ConsumeOrder::Key(OrderingKey::Header(header))),
            (_, Some(_)) => return Err(Problem::invalid("order_header goes with \"order\": \"key\"")),
        };
        Ok(ConsumerUpdate {
            ack_timeout_ms: self.ack_timeout_ms,
            max_attempts: self.max_attempts,
            dead_letters: DeadLetters::of(self.dead_letter.as_deref(), self.drop_dead)?,
            max_in_flight: self.max_in_flight,
            order,
            filter: self.filter.map(|filter| Some(filter).filter(|filter| !filter.is_empty())),
            settle_skipped: self.settle_skipped,
        })
    }
}

fn shown(info: &ConsumerInfo) -> Response {
    Json(ConsumerJson::of(&info.to_proto())).into_response()
}

pub(super) async fn create(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut wanted: Wanted = parse(&body)?;
    let name = wanted.name.take().ok_or_else(|| Problem::invalid("the body has no name for the consumer"))?;
    let begin = start(wanted.start.take().as_deref().unwrap_or("earliest"), broker.now_ms())?;
    Ok(shown(&broker.create_consumer(&channel, &name, wanted.update()?, begin).await?))
}

fn written(consumer: &ConsumerInfo) -> serde_json::Result<Box<RawValue>> {
    to_raw_value(&ConsumerJson::of(&consumer.to_proto()))
}

/// Those of all channels: the place after which a page begins is a channel and a consumer.
pub(super) async fn list_all(
    Extension(broker): Extension<Access>,
    Query(PageQuery { after, limit }): Query<PageQuery>,
) -> Result<Response, Problem> {
    page("consumers", broker.all_consumers_after(&after, limit).await?, written).await
}

/// The members that hold messages.
pub(super) async fn members(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
) -> Result<Response, Problem> {
    let holdings = broker.holdings(&channel, &name).await?;
    let members = holdings.into_iter().map(|Holding { member, held, first_seq, attempts, due_ms }| {
        // As text, because JavaScript has no numbers of that size.
        let member = member.map(|id| id.to_string());
        json!({
            "member": member, "held": held, "first_seq": first_seq, "attempts": attempts, "due": timestamp(due_ms),
        })
    });
    Ok(Json(json!({ "members": members.collect::<Vec<_>>() })).into_response())
}

pub(super) async fn list(
    Extension(broker): Extension<Access>,
    Path(channel): Path<String>,
    Query(PageQuery { after, limit }): Query<PageQuery>,
) -> Result<Response, Problem> {
    page("consumers", broker.consumers_after(&channel, &after, limit).await?, written).await
}

type Names = Path<(String, String)>;

pub(super) async fn show(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
) -> Result<Response, Problem> {
    Ok(shown(&broker.consumer(&channel, &name).await?))
}

pub(super) async fn update(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted: Wanted = parse(&body)?;
    if wanted.name.is_some() || wanted.start.is_some() {
        return Err(Problem::invalid("a consumer keeps its name, and moves by POST .../reset"));
    }
    Ok(shown(&broker.update_consumer(&channel, &name, wanted.update()?).await?))
}

pub(super) async fn delete(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
) -> Result<StatusCode, Problem> {
    broker.delete_consumer(&channel, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    start: String,
}

pub(super) async fn reset(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
    body: Bytes,
) -> Result<Response, Problem> {
    let Reset { start: text } = parse(&body)?;
    let begin = start(&text, broker.now_ms())?;
    Ok(shown(&broker.reset_consumer(&channel, &name, begin).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PullQuery {
    max: Option<u32>,
    wait: Option<String>,
}

/// The answer to a pull. Payloads are written as they stand, never read again.
#[derive(Debug, Serialize)]
struct Pulled<'a> {
    messages: Vec<Handed<'a>>,
    /// What was removed before them that the consumer had not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<NoticeJson>,
}

/// A message, and by what it is settled.
#[derive(Debug, Serialize)]
struct Handed<'a> {
    token: String,
    attempt: u32,
    /// The message's place, and the history that it is of.
    position: Option<Position>,
    #[serde(flatten)]
    message: MessageJson<'a>,
}

pub(super) async fn pull(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
    Query(PullQuery { max, wait }): Query<PullQuery>,
) -> Result<Response, Problem> {
    let wait = wait.as_deref().map(duration).transpose()?.unwrap_or_default();
    let longest = broker.limits().long_poll;
    if wait > longest {
        let (value, limit) = (wait.as_millis(), longest.as_millis());
        return Err(Problem::invalid(format!("wait is {value} ms; the limit is {limit} ms: ask again after that")));
    }
    if max == Some(0) {
        return Err(Problem::invalid("max is 0: ask for at least one message"));
    }
    let (deliveries, notice) = broker.pull_told(&channel, &name, max.unwrap_or(1), wait).await?;
    let messages: Vec<Handed<'_>> = deliveries
        .iter()
        .map(|delivery| Handed {
            token: delivery.token.to_string(),
            attempt: delivery.token.attempt,
            position: delivery.token.of.map(|of| of.position),
            message: MessageJson::of(
                &channel,
                delivery.token.seq,
                delivery.time_ms,
                delivery.schema_id,
                &delivery.message,
                Form::Document,
            ),
        })
        .collect();
    let notice = notice.as_ref().map(NoticeJson::of);
    Ok(Json(Pulled { messages, notice }).into_response())
}

type Tokens<T> = Few<T, { Limits::SETTLEMENTS }>;

/// Tokens by what became of their deliveries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settle {
    ack: Tokens<String>,
    /// Each with everything before it that was handed out with it.
    ack_up_to: Tokens<String>,
    nack: Tokens<NackJson>,
    extend: Tokens<String>,
}

#[derive(Debug)]
enum NackJson {
    Token(String),
    Said(Said),
}

/// By hand, because what serde buffers to try one form after another loses its numbers where JSON keeps them exactly.
impl<'de> Deserialize<'de> for NackJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = NackJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token, or an object with a token")
            }

            fn visit_str<E>(self, token: &str) -> Result<NackJson, E> {
                Ok(NackJson::Token(token.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<NackJson, A::Error> {
                Said::deserialize(MapAccessDeserializer::new(members)).map(NackJson::Said)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    token: String,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    reason: String,
}

/// A delivery that was settled too late.
#[derive(Debug, Serialize)]
struct Late {
    token: String,
    error: Problem,
}

/// Answers with those that came too late, mostly none.
pub(super) async fn settle(
    Extension(broker): Extension<Access>,
    Path((channel, name)): Names,
    body: Bytes,
) -> Result<Response, Problem> {
    let Settle { ack: Few(ack), ack_up_to: Few(ack_up_to), nack: Few(nack), extend: Few(extend) } = parse(&body)?;
    Broker::check_settlements(ack.len() + ack_up_to.len() + nack.len() + extend.len())?;
    let mut said: Vec<(String, Verdict)> = ack.into_iter().map(|token| (token, Verdict::Ack)).collect();
    said.extend(ack_up_to.into_iter().map(|token| (token, Verdict::AckUpTo)));
    for nack in nack {
        let Said { token, delay_ms, reason } = match nack {
            NackJson::Token(token) => Said { token, delay_ms: 0, reason: String::new() },
            NackJson::Said(said) => said,
        };
        said.push((token, Broker::nack(delay_ms, reason)?));
    }
    said.extend(extend.into_iter().map(|token| (token, Verdict::Extend)));
    if said.is_empty() {
        return Err(Problem::invalid("the body settles nothing: give tokens in ack, ack_up_to, nack or extend"));
    }
    let settlements: Result<Vec<Settlement>, Problem> = said
        .iter()
        .map(|(token, verdict)| {
            let wrong = |error: InvalidToken| Problem::invalid(error.to_string());
            Ok(Settlement { token: token.parse().map_err(wrong)?, verdict: verdict.clone() })
        })
        .collect();
    let results = broker.settle(&channel, &name, settlements?).await?;
    let settled = results.iter().filter(|result| result.is_ok()).count();
    let late: Vec<Late> = said
        .into_iter()
        .zip(results)
        .filter_map(|((token, _), result)| Some(Late { token, error: result.err()?.into() }))
        .collect();
    Ok(Json(json!({ "settled": settled, "stale": late })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_is_a_token_or_says_more() {
        let settle: Settle = parse(br#"{"nack":["1.1.2",{"token":"3.1.2","delay_ms":5,"reason":"busy"}]}"#).unwrap();
        assert!(matches!(&settle.nack.0[0], NackJson::Token(token) if token == "1.1.2"));
        assert!(matches!(&settle.nack.0[1], NackJson::Said(said) if said.delay_ms == 5 && said.reason == "busy"));
    }

    #[test]
    fn an_ordering_header_needs_the_order_by_key() {
        let wanted = |text: &str| parse::<Wanted>(text.as_bytes()).unwrap().update();
        assert!(wanted(r#"{"order_header":"user"}"#).is_err());
        let order = wanted(r#"{"order":"key","order_header":"user"}"#).unwrap().order;
        assert_eq!(order, Some(ConsumeOrder::Key(OrderingKey::Header("user".into()))));
        assert_eq!(wanted("{}").unwrap().order, None);
    }
}
