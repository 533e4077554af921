//! `liminal subscribe`: follow a channel and print its messages.

use std::{
    io::{self, Write},
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    CliError, Global, OutputFormat,
    remote::{connect, timestamp, written},
};
use crate::client::{Header, Received, Start};

/// Follow a channel and print its messages
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel to follow
    pub channel: String,
    /// Where to begin: `earliest`, `latest`, a sequence number, or how long ago, for example 15m
    #[arg(long, default_value = "latest")]
    pub from: From,
    /// Exit after this many messages
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A place that the server knows.
    At(Start),
    /// This long before now.
    Ago(Duration),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::At(Start::Seq(seq)));
        }
        match text {
            "earliest" => Ok(Self::At(Start::Earliest)),
            "latest" => Ok(Self::At(Start::Latest)),
            _ => humantime::parse_duration(text)
                .map(Self::Ago)
                .map_err(|_| "write earliest, latest, a sequence number or a time like 15m".into()),
        }
    }
}

impl From {
    fn start(self, now: SystemTime) -> Start {
        match self {
            Self::At(start) => start,
            Self::Ago(ago) => {
                let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago);
                Start::Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let mut left = args.count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    let client = connect(global).await?;
    let mut messages = client.subscribe(&args.channel, args.from.start(SystemTime::now())).await?;
    while let Some(batch) = messages.next_batch().await {
        let batch = batch?;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(batch.len());
        left -= wanted as u64;
        let mut text = Vec::new();
        for received in &batch[..wanted] {
            print(&mut text, &args.channel, received, global.output)
                .map_err(|error| CliError::failed(error.to_string()))?;
        }
        let mut out = io::stdout().lock();
        written(out.write_all(&text).and_then(|()| out.flush()))?;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

fn print(out: &mut Vec<u8>, channel: &str, received: &Received, format: OutputFormat) -> io::Result<()> {
    match format {
        OutputFormat::Raw => out.write_all(&received.message.payload)?,
        OutputFormat::Json => serde_json::to_writer(&mut *out, &Line::of(channel, received))?,
        OutputFormat::Table => {
            let Received { seq, time_ms, message, .. } = received;
            let key = if message.key.is_empty() { "-" } else { &message.key };
            let payload = String::from_utf8_lossy(&message.payload);
            let line = format!("{channel}@{seq}  {}  {key}  {payload}", timestamp(*time_ms));
            // A message must not move a terminal's cursor or take more than its line.
            let shown = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
            out.write_all(shown.collect::<String>().as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

/// A message as `-o json` says it.
#[derive(Serialize)]
struct Line<'a> {
    channel: &'a str,
    seq: u64,
    key: Option<&'a str>,
    headers: serde_json::Map<String, Value>,
    schema_id: u64,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> Line<'a> {
    fn of(channel: &'a str, received: &'a Received) -> Self {
        let message = &received.message;
        let payload = json(&message.payload);
        Self {
            channel,
            seq: received.seq,
            key: Some(message.key.as_str()).filter(|key| !key.is_empty()),
            headers: headers(&message.headers),
            schema_id: received.schema_id,
            timestamp: timestamp(received.time_ms),
            payload_base64: payload.is_none().then(|| BASE64_STANDARD.encode(&message.payload)),
            payload,
        }
    }
}

/// The payload as it is, if it is JSON. Line breaks in JSON stand only between its parts, where a space is as good:
/// the output stays one object a line.
fn json(payload: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(payload).ok()?;
    if text.contains(['\n', '\r']) {
        RawValue::from_string(text.trim().replace(['\n', '\r'], " ")).ok()
    } else {
        serde_json::from_str(text).ok()
    }
}

/// An object; the values of a name that stands there several times are a list.
fn headers(headers: &[Header]) -> serde_json::Map<String, Value> {
    let mut map = serde_json::Map::new();
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
    use crate::client::Message;

    fn shown(message: Message, format: OutputFormat) -> String {
        let received = Received { seq: 41, time_ms: 1_700_000_000_123, schema_id: 2, message };
        let mut out = Vec::new();
        print(&mut out, "orders", &received, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_subscription_begins_at_a_name_a_number_or_a_time_ago() {
        assert_eq!("earliest".parse(), Ok(From::At(Start::Earliest)));
        assert_eq!("latest".parse(), Ok(From::At(Start::Latest)));
        assert_eq!("15".parse(), Ok(From::At(Start::Seq(15))));
        let ago: From = "15m".parse().unwrap();
        assert_eq!(ago.start(UNIX_EPOCH + Duration::from_secs(1000)), Start::Time(100_000));
        assert_eq!(ago.start(UNIX_EPOCH), Start::Time(0));
        assert!("yesterday".parse::<From>().is_err());
    }

    #[test]
    fn a_json_payload_is_shown_as_it_was_sent() {
        let message = Message::new(r#"{"b": 1.50, "a":[ ]}"#).with_key("k").with_header("h", "v");
        assert_eq!(
            shown(message, OutputFormat::Json),
            concat!(
                r#"{"channel":"orders","seq":41,"key":"k","headers":{"h":"v"},"schema_id":2,"#,
                r#""timestamp":"2023-11-14T22:13:20.123Z","payload":{"b": 1.50, "a":[ ]}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_payload_over_several_lines_stays_on_one() {
        let line = shown(Message::new("{\r\n \"a\":\n1}\n"), OutputFormat::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["payload"]["a"], 1);
        assert_eq!(value["key"], Value::Null);
    }

    #[test]
    fn a_payload_that_is_no_json_is_base64() {
        let line = shown(Message::new(&b"\xff\x00"[..]), OutputFormat::Json);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["payload_base64"], "/wA=");
        assert!(value.get("payload").is_none());
        assert!(shown(Message::new("plain"), OutputFormat::Json).contains(r#""payload_base64":"cGxhaW4=""#));
    }

    #[test]
    fn headers_of_one_name_become_a_list() {
        let message = Message::new("1").with_header("a", "1").with_header("b", "x").with_header("a", "2");
        let value: Value = serde_json::from_str(&shown(message, OutputFormat::Json)).unwrap();
        assert_eq!(value["headers"], serde_json::json!({"a": ["1", "2"], "b": "x"}));
    }

    #[test]
    fn a_table_line_cannot_move_the_cursor() {
        assert_eq!(
            shown(Message::new("a\n\x1b[2Jb"), OutputFormat::Table),
            "orders@41  2023-11-14T22:13:20.123Z  -  a\u{fffd}\u{fffd}[2Jb\n"
        );
    }

    #[test]
    fn raw_output_is_the_payload_and_a_line_feed() {
        assert_eq!(shown(Message::new("a\tb"), OutputFormat::Raw), "a\tb\n");
    }
}
