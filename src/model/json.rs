//! Messages and channels as JSON says them, to people and programs: the same on the command line and over HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use liminal_json::embedded;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{Comparison, Compatibility, Form, Quota, Retention, WhenFull, times::timestamp};
use crate::proto::v1::{self, Channel, ConsumeOrder, Consumer, ConsumerConfig, Durability, Header, Message};

/// A message with its place. The payload is JSON where it is JSON, and base64 where it is not.
#[derive(Debug, Serialize)]
pub struct MessageJson<'a> {
    channel: &'a str,
    seq: u64,
    key: Option<&'a str>,
    headers: Map<String, Value>,
    schema_id: u64,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_context: Option<TraceJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// The trace that a message belongs to, as W3C Trace Context says it.
#[derive(Debug, Serialize)]
struct TraceJson<'a> {
    traceparent: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tracestate: &'a str,
}

impl<'a> TraceJson<'a> {
    fn of(message: &'a Message) -> Option<Self> {
        let trace = message.trace_context.as_ref().filter(|trace| !trace.traceparent.is_empty())?;
        Some(Self { traceparent: &trace.traceparent, tracestate: &trace.tracestate })
    }
}

impl<'a> MessageJson<'a> {
    /// Of a message that was sequenced at `time_ms`, milliseconds since the Unix epoch.
    pub fn of(channel: &'a str, seq: u64, time_ms: u64, schema_id: u64, message: &'a Message, form: Form) -> Self {
        let (payload, payload_base64) = carried(&message.payload, form);
        Self {
            channel,
            seq,
            key: message.key.as_deref().filter(|key| !key.is_empty()),
            headers: headers(&message.headers),
            schema_id,
            timestamp: timestamp(time_ms),
            trace_context: TraceJson::of(message),
            payload,
            payload_base64,
        }
    }
}

/// A message that waits for its time.
#[derive(Debug, Serialize)]
pub struct DelayedJson<'a> {
    channel: &'a str,
    id: u64,
    due: String,
    key: Option<&'a str>,
    headers: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> DelayedJson<'a> {
    /// Of a message that becomes visible at `due_ms`, milliseconds since the Unix epoch.
    pub fn of(channel: &'a str, id: u64, due_ms: u64, message: &'a Message, form: Form) -> Self {
        let (payload, payload_base64) = carried(&message.payload, form);
        let (due, key, headers) = (timestamp(due_ms), message.key.as_deref(), headers(&message.headers));
        Self { channel, id, due, key, headers, payload, payload_base64 }
    }
}

/// What a channel keeps. An absent limit does not limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct RetentionJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
    pub when_full: WhenFull,
    pub work_queue: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_by: Option<String>,
}

impl From<RetentionJson> for Retention {
    fn from(json: RetentionJson) -> Self {
        let RetentionJson { max_messages, max_bytes, max_age_ms, when_full, work_queue, compact_by } = json;
        let compact_by = compact_by.filter(|header| !header.is_empty());
        Self { max_messages, max_bytes, max_age_ms, when_full, work_queue, compact_by }
    }
}

impl From<v1::Retention> for RetentionJson {
    fn from(retention: v1::Retention) -> Self {
        let when_full = match retention.when_full() {
            v1::WhenFull::RefuseNew => WhenFull::RefuseNew,
            v1::WhenFull::DropOldest | v1::WhenFull::Unspecified => WhenFull::DropOldest,
        };
        let v1::Retention { max_messages, max_bytes, max_age_ms, work_queue, compact_by, .. } = retention;
        let compact_by = Some(compact_by).filter(|header| !header.is_empty());
        Self { max_messages, max_bytes, max_age_ms, when_full, work_queue, compact_by }
    }
}

/// How much may be published in a second. An absent limit does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct QuotaJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

impl From<QuotaJson> for Quota {
    fn from(QuotaJson { messages_per_second, bytes_per_second }: QuotaJson) -> Self {
        Self { messages_per_second, bytes_per_second }
    }
}

impl From<v1::Quota> for QuotaJson {
    fn from(v1::Quota { messages_per_second, bytes_per_second }: v1::Quota) -> Self {
        Self { messages_per_second, bytes_per_second }
    }
}

/// A reply, which has no place in any channel.
#[derive(Debug, Serialize)]
pub struct ReplyJson {
    headers: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl ReplyJson {
    /// Of a message.
    pub fn of(message: &Message, form: Form) -> Self {
        let (payload, payload_base64) = carried(&message.payload, form);
        Self { headers: headers(&message.headers), payload, payload_base64 }
    }
}

/// A channel with its counters.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct ChannelJson<'a> {
    pub name: &'a str,
    pub id: u64,
    pub durability: &'static str,
    #[serde(skip_serializing_if = "is_default")]
    pub comparison: Comparison,
    pub schema_id: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub schema: &'a str,
    pub dedup_window_ms: u64,
    pub compatibility: Compatibility,
    pub retention: RetentionJson,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub quarantine: &'a str,
    pub quota: QuotaJson,
    pub created: String,
    pub messages: u64,
    pub first_seq: u64,
    pub next_seq: u64,
    pub live_keys: u64,
    pub bytes: u64,
    pub subscribers: u64,
    pub rejected: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub delayed: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub compacted: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> ChannelJson<'a> {
    /// Of a channel as the API gives it.
    pub fn of(channel: &'a Channel) -> Self {
        let config = channel.config.as_ref();
        let ephemeral = config.is_some_and(|config| config.durability() == Durability::Ephemeral);
        Self {
            name: &channel.name,
            id: channel.id,
            durability: if ephemeral { "ephemeral" } else { "durable" },
            comparison: match config.map(v1::ChannelConfig::comparison).unwrap_or_default() {
                v1::Comparison::CanonicalJson => Comparison::CanonicalJson,
                v1::Comparison::Bytes | v1::Comparison::Unspecified => Comparison::Bytes,
            },
            schema_id: channel.schema_id,
            schema: config.map_or("", |config| &config.schema),
            dedup_window_ms: config.map_or(0, |config| config.dedup_window_ms),
            compatibility: match config.map(v1::ChannelConfig::compatibility).unwrap_or_default() {
                v1::Compatibility::Forward => Compatibility::Forward,
                v1::Compatibility::Full => Compatibility::Full,
                v1::Compatibility::None => Compatibility::None,
                v1::Compatibility::Backward | v1::Compatibility::Unspecified => Compatibility::Backward,
            },
            retention: config.and_then(|config| config.retention.clone()).unwrap_or_default().into(),
            quarantine: config.map_or("", |config| &config.quarantine),
            quota: config.and_then(|config| config.quota).unwrap_or_default().into(),
            created: timestamp(channel.created_ms),
            messages: channel.next_seq.saturating_sub(channel.first_seq).saturating_sub(channel.compacted),
            first_seq: channel.first_seq,
            next_seq: channel.next_seq,
            live_keys: channel.live_keys,
            bytes: channel.bytes,
            subscribers: channel.subscribers,
            rejected: channel.rejected,
            delayed: channel.delayed,
            compacted: channel.compacted,
        }
    }
}

/// A consumer and how far it is.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct ConsumerJson<'a> {
    pub channel: &'a str,
    pub name: &'a str,
    pub ack_timeout_ms: u64,
    pub max_attempts: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub dead_letter: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop_dead: bool,
    pub max_in_flight: u32,
    pub order: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub order_header: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub filter: &'a str,
    pub created: String,
    pub next_seq: u64,
    pub floor_seq: u64,
    pub lag: u64,
    pub in_flight: u64,
    pub waiting: u64,
    pub dying: u64,
    pub redelivered: u64,
    pub dead: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub lost: u64,
}

impl<'a> ConsumerJson<'a> {
    /// Of a consumer as the API gives it.
    pub fn of(consumer: &'a Consumer) -> Self {
        let config = consumer.config.as_ref();
        let order = match config.map(ConsumerConfig::order).unwrap_or_default() {
            ConsumeOrder::Unspecified | ConsumeOrder::None => "none",
            ConsumeOrder::Exclusive => "exclusive",
            ConsumeOrder::Key => "key",
        };
        Self {
            channel: &consumer.channel,
            name: &consumer.name,
            ack_timeout_ms: config.map_or(0, |config| config.ack_timeout_ms),
            max_attempts: config.map_or(0, |config| config.max_attempts),
            dead_letter: config.map_or("", |config| &config.dead_letter),
            drop_dead: config.is_some_and(|config| config.drop_dead),
            max_in_flight: config.map_or(0, |config| config.max_in_flight),
            order,
            order_header: config.map_or("", |config| &config.order_header),
            filter: config.map_or("", |config| &config.filter),
            created: timestamp(consumer.created_ms),
            next_seq: consumer.next_seq,
            floor_seq: consumer.floor_seq,
            lag: consumer.lag,
            in_flight: consumer.in_flight,
            waiting: consumer.waiting,
            dying: consumer.dying,
            redelivered: consumer.redelivered,
            dead: consumer.dead,
            lost: consumer.lost,
        }
    }
}

/// A schema that a channel has, or has had.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "named as in the public API")]
pub struct SchemaJson<'a> {
    pub id: u64,
    pub version: u64,
    pub created: String,
    pub schema: &'a str,
}

impl<'a> SchemaJson<'a> {
    /// Of a schema as the API gives it.
    pub fn of(schema: &'a v1::SchemaVersion) -> Self {
        let v1::SchemaVersion { id, version, time_ms, schema } = schema;
        Self { id: *id, version: *version, created: timestamp(*time_ms), schema }
    }
}

/// Bytes as they are where they are JSON that arrives as it is (see [`embedded`]), and else as base64.
pub(super) fn carried(bytes: &[u8], form: Form) -> (Option<Box<RawValue>>, Option<String>) {
    match embedded(bytes, form).and_then(|text| RawValue::from_string(text.to_owned()).ok()) {
        Some(json) => (Some(json), None),
        None => (None, Some(BASE64_STANDARD.encode(bytes))),
    }
}

/// An object; the values of a name that stands there several times are a list.
fn headers(headers: &[Header]) -> Map<String, Value> {
    let mut map = Map::new();
    for Header { name, value } in headers {
        let value = Value::from(value.as_str());
        match map.get_mut(name) {
            None => {
                map.insert(name.clone(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: impl Into<bytes::Bytes>, headers: &[(&str, &str)]) -> String {
        shown_in(Form::Document, payload, headers)
    }

    fn shown_in(form: Form, payload: impl Into<bytes::Bytes>, headers: &[(&str, &str)]) -> String {
        let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: (*value).into() };
        let headers = headers.iter().map(header).collect();
        let message = Message { payload: payload.into(), headers, ..Message::default() };
        serde_json::to_string(&MessageJson::of("orders", 41, 1_700_000_000_123, 2, &message, form)).unwrap()
    }

    #[test]
    fn a_json_payload_is_shown_as_it_was_sent() {
        assert_eq!(
            shown(r#"{"b": 1.50, "a":[ ]}"#, &[("h", "v")]),
            concat!(
                r#"{"channel":"orders","seq":41,"key":null,"headers":{"h":"v"},"schema_id":2,"#,
                r#""timestamp":"2023-11-14T22:13:20.123Z","payload":{"b": 1.50, "a":[ ]}}"#
            )
        );
    }

    #[test]
    fn a_payload_over_several_lines_is_the_same_text_and_base64_on_one_line() {
        assert!(shown("{\n \"a\":\n1}", &[]).contains("\"payload\":{\n \"a\":\n1}}"));
        assert!(shown_in(Form::Line, "{\n}", &[]).contains("\"payload_base64\":\"ewp9\"}"));
    }

    #[test]
    fn a_payload_that_is_no_json_is_base64() {
        let value: Value = serde_json::from_str(&shown(&b"\xff\x00"[..], &[])).unwrap();
        assert_eq!(value["payload_base64"], "/wA=");
        assert!(value.get("payload").is_none());
        assert!(shown("plain", &[]).contains(r#""payload_base64":"cGxhaW4=""#));
    }

    #[test]
    fn the_trace_of_a_message_is_shown() {
        let trace = v1::TraceContext { traceparent: "00-ab-cd-01".into(), tracestate: String::new() };
        let message = Message { payload: "1".into(), trace_context: Some(trace), ..Message::default() };
        let text = serde_json::to_string(&MessageJson::of("orders", 0, 0, 0, &message, Form::Document)).unwrap();
        assert!(text.contains(r#""trace_context":{"traceparent":"00-ab-cd-01"},"payload":1"#), "{text}");
    }

    #[test]
    fn headers_of_one_name_become_a_list() {
        let value: Value = serde_json::from_str(&shown("1", &[("a", "1"), ("b", "x"), ("a", "2")])).unwrap();
        assert_eq!(value["headers"], serde_json::json!({"a": ["1", "2"], "b": "x"}));
    }
}
