//! The lines of `liminal channel export` and `import`: one message on each, with the position that it has in its channel. A line
//! says all of a message, so that what is imported is what was exported.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use liminal_wire::time::{duration_to_ms, to_ms};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    client::{CausalContext, Header, Message, Position, Received, TraceContext},
    model::{Form, timestamp},
    proto::v1,
};

/// A message on a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// Its place, and the history that it is of.
    pub(super) position: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Names may come several times, and their order counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causal: Option<Causal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// What a message answers or follows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Causal {
    parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<(String, u64)>,
}

impl Line {
    pub(super) fn of(received: Received, position: Position) -> Self {
        let Received { seq, time, message, .. } = received;
        let Message { payload, key, headers, causal_context, trace_context, ttl, .. } = message;
        let embedded = liminal_json::embedded(&payload, Form::Line).map(str::to_owned);
        let embedded = embedded.and_then(|text| RawValue::from_string(text).ok());
        let causal = causal_context.map(|CausalContext { parent_id, vector_clock_entry: entry, .. }| Causal {
            parent_id,
            clock: entry.map(|entry| (entry.node, entry.counter)),
        });
        Self {
            position: position.at(seq).to_string(),
            timestamp: timestamp(to_ms(time)),
            key: key.filter(|key| !key.is_empty()),
            headers: headers.into_iter().map(|Header { name, value, .. }| (name, value)).collect(),
            ttl_ms: ttl.map(duration_to_ms),
            trace: trace_context.map(|TraceContext { traceparent, tracestate, .. }| (traceparent, tracestate)),
            causal,
            payload_base64: embedded.is_none().then(|| BASE64_STANDARD.encode(&payload)),
            payload: embedded,
        }
    }

    /// Reads a line.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("it is no line of an export: {error}"))
    }

    /// Where the message was.
    pub(super) fn place(&self) -> Result<Position, String> {
        self.position.parse().map_err(|error| format!("`{}` is no position: {error}", self.position))
    }

    /// The message, without a time at which it is to become visible: it was visible.
    pub(super) fn message(self) -> Result<Message, String> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(json), None) => Bytes::from(json.get().to_owned().into_bytes()),
            (None, Some(text)) => BASE64_STANDARD.decode(&text).map(Bytes::from).map_err(|error| error.to_string())?,
            _ => return Err("a line has one of payload and payload_base64".into()),
        };
        let header = |(name, value)| v1::Header { name, value };
        let message = v1::Message {
            payload,
            key: self.key,
            headers: self.headers.into_iter().map(header).collect(),
            ttl_ms: self.ttl_ms.unwrap_or_default(),
            trace_context: self.trace.map(|(traceparent, tracestate)| v1::TraceContext { traceparent, tracestate }),
            causal_context: self.causal.map(|Causal { parent_id, clock }| v1::CausalContext {
                parent_id,
                vector_clock_entry: clock.map(|(node, counter)| v1::VectorClockEntry { node, counter }),
            }),
            ..v1::Message::default()
        };
        Ok(message.into())
    }
}

/// Shown on standard error, where that is a terminal.
pub(super) fn progress(messages: Option<u64>, what: &'static str) -> ProgressBar {
    let (bar, template) = match messages {
        Some(count) => (ProgressBar::new(count), "{msg} [{bar:30}] {human_pos} of {human_len}, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{msg} {human_pos}, {per_sec}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn there_and_back(message: &Message) -> Message {
        let received = Received::new(7, SystemTime::UNIX_EPOCH, 0, message.clone());
        let text = serde_json::to_string(&Line::of(received, Position::default())).unwrap();
        assert!(!text.contains('\n'), "{text}");
        let line = Line::read(text.as_bytes()).unwrap();
        assert_eq!(line.place().unwrap().seq, 7);
        line.message().unwrap()
    }

    #[test]
    fn a_message_comes_back_byte_for_byte_with_all_that_goes_with_it() {
        for payload in ["{\"a\": 1.0e2}", "not json", " {} ", "{\n}", "", "\u{2028}", "1234567890123456789012345"] {
            let message = Message::new(payload.to_owned())
                .with_key("k")
                .with_header("a", "1")
                .with_header("b", "x")
                .with_header("a", "2")
                .with_ttl(Duration::from_secs(60))
                .with_trace(TraceContext::new("00-1-2-01", "v=1"));
            assert_eq!(there_and_back(&message), message, "{payload}");
        }
        let bare = Message::new(vec![0xff, 0]);
        assert_eq!(there_and_back(&bare), bare);
    }

    #[test]
    fn a_line_that_is_none_of_an_export_is_refused() {
        for wrong in ["", "{}", r#"{"position":"1.1.00000000.1","timestamp":"","payload":1,"more":2}"#] {
            assert!(Line::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let two = r#"{"position":"x","timestamp":"","payload":1,"payload_base64":"eA=="}"#;
        let two = Line::read(two.as_bytes()).unwrap();
        assert!(two.place().is_err() && two.message().is_err());
    }
}
