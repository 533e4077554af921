//! `liminal publish`: one message, or a file of them.

mod atomic;
pub(super) mod lines;

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use clap::ValueHint;
use liminal_wire::time::{duration_to_ms, from_ms, to_ms};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;

use super::{
    CliError, Global, OutputFormat,
    remote::{Confirm, connect, millis, parse_duration, print_json, print_line, thousands},
};
use crate::{
    client::{ClientError, ErrorDetail, Message, PublishOptions, Published},
    model::{time_ms, timestamp},
};

/// Publish one message, or one message for each line of a file
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel to publish to
    pub channel: String,
    /// The message; `-` reads one from standard input
    #[arg(required_unless_present = "file", conflicts_with_all = ["file", "atomic"])]
    pub body: Option<String>,
    /// Publish every line of this file as a message; `-` reads lines from standard input
    #[arg(long, value_name = "F.ndjson", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Idempotency key: the same key again returns the first outcome, whatever its headers, --ttl and --delay
    #[arg(long, value_name = "KEY", value_parser = parse_key, conflicts_with_all = ["key_pointer", "file"])]
    pub key: Option<String>,
    /// Take the idempotency key from this place of each message, for example /id
    #[arg(long, value_name = "/JSON/POINTER", value_parser = parse_pointer)]
    pub key_pointer: Option<String>,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// What the acknowledgement waits for
    #[arg(long, value_enum, default_value_t = Confirm::Delivery)]
    pub confirm: Confirm,
    /// Refuse the message unless it gets this sequence number
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub expected_seq: Option<u64>,
    /// Hand the message to nobody once so much time has passed, for example 30s
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub ttl: Option<Duration>,
    /// Make the message visible after so much time, for example 10m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub delay: Option<Duration>,
    /// Make the message visible at a time, for example 2026-12-24T18:00:00Z; without a zone it is UTC
    #[arg(long, value_name = "TIME", value_parser = time_ms, conflicts_with = "delay")]
    pub at: Option<u64>,
    /// Store all lines of the file or none; `{"channel":..,"payload":..,"key":..}` on each line
    #[arg(long, requires = "file", conflicts_with_all = ["body", "key_pointer", "headers", "ttl", "delay", "at"])]
    pub atomic: bool,
}

fn parse_key(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty: give a key, or leave the option out".into()) } else { Ok(text.to_owned()) }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl.as_millis() == 0 { Err("give at least 1ms".into()) } else { Ok(ttl) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".into()),
    }
}

fn parse_pointer(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("a JSON pointer begins with `/`".into()) }
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    match &args.file {
        Some(file) if args.atomic => atomic::run(file, &args, global).await,
        Some(file) => lines::run(file, &args, global).await,
        None => one(&args, global).await,
    }
}

async fn one(args: &Args, global: &Global) -> Result<(), CliError> {
    let payload = match args.body.as_deref() {
        Some("-") | None => {
            let mut body = Vec::new();
            let read = tokio::io::stdin().read_to_end(&mut body).await;
            read.map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))?;
            body
        }
        Some(body) => body.as_bytes().to_vec(),
    };
    let size = payload.len();
    let message = message(args, payload.into()).map_err(CliError::usage)?;
    let client = connect(global).await?;
    let begun = Instant::now();
    let options = PublishOptions::new().confirm(args.confirm.into()).expected_seq(args.expected_seq);
    let result = client.publish(&args.channel, message).options(options).await;
    let took = begun.elapsed();
    let published = result?;
    match global.output {
        OutputFormat::Json => print_json(&Outcome::of(1, &args.channel, Ok(&published))),
        OutputFormat::Raw => print_line(&place(&published)),
        OutputFormat::Table => {
            let bytes = thousands(size as u64);
            let (term, notes) = (published.term, notes(&published));
            let place = match published.scheduled {
                Some(_) => format!("{}  visible at {}", args.channel, place(&published)),
                None => format!("{}@{}", args.channel, place(&published)),
            };
            print_line(&format!("{place}  {bytes} B  term {term}  {}{notes}", millis(took)))
        }
    }
}

/// The sequence number, or the time at which there will be one.
fn place(published: &Published) -> String {
    published.scheduled.map_or_else(|| published.seq.to_string(), |time| timestamp(to_ms(time)))
}

fn notes(published: &Published) -> &'static str {
    match (published.duplicate, published.delivered) {
        (true, _) => "  duplicate",
        (false, Some(true)) => "  delivered",
        (false, Some(false)) => "  no subscriber",
        (false, None) => "",
    }
}

/// A message of the command line or of a file, with its key and headers.
fn message(args: &Args, payload: Bytes) -> Result<Message, String> {
    let key = match (&args.key, &args.key_pointer) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(pointer)) => Some(key_at(&payload, pointer)?),
        (None, None) => None,
    };
    let mut message = Message::new(payload);
    message.key = key;
    for (name, value) in &args.headers {
        message = message.with_header(name, value);
    }
    if let Some(ttl) = args.ttl {
        message = message.with_ttl(ttl);
    }
    let from_now = |delay: Duration| from_ms(to_ms(SystemTime::now()).saturating_add(duration_to_ms(delay)));
    message.deliver_at = args.at.map(from_ms).or_else(|| args.delay.map(from_now));
    Ok(message)
}

fn key_at(payload: &[u8], pointer: &str) -> Result<String, String> {
    let json: serde_json::Value = serde_json::from_slice(payload)
        .map_err(|error| format!("the message is no JSON, so it has no key at {pointer}: {error}"))?;
    match json.pointer(pointer) {
        Some(serde_json::Value::String(key)) if !key.is_empty() => Ok(key.clone()),
        Some(serde_json::Value::Number(key)) => Ok(key.to_string()),
        Some(_) => Err(format!("the key at {pointer} is not a number or a text with at least one character")),
        None => Err(format!("the message has no key at {pointer}")),
    }
}

/// What became of a message, as `-o json` says it.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure<'a>>,
}

#[derive(Debug, Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: &'a str,
    details: &'a [ErrorDetail],
}

impl<'a> Outcome<'a> {
    fn of(line: u64, channel: &'a str, result: Result<&Published, &'a ClientError>) -> Self {
        let ok = result.ok();
        Self {
            line,
            channel: ok.map(|_| channel),
            seq: ok.filter(|published| published.scheduled.is_none()).map(|published| published.seq),
            scheduled: ok.and_then(|published| published.scheduled).map(|time| timestamp(to_ms(time))),
            duplicate: ok.map(|published| published.duplicate),
            delivered: ok.and_then(|published| published.delivered),
            position: ok.and_then(|published| published.position).map(|position| position.to_string()),
            error: result.err().map(|error| Failure {
                code: error.code().as_str(),
                message: error.message(),
                details: error.details(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;
    use crate::{
        client::Code,
        proto::v1::{self, PublishResponse},
    };

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let command = Args::augment_args(Command::new("publish"));
        let matches = command.try_get_matches_from(std::iter::once("publish").chain(words.iter().copied()))?;
        Args::from_arg_matches(&matches)
    }

    #[test]
    fn a_body_or_a_file_is_needed_and_not_both() {
        assert!(parse(&["orders"]).is_err());
        assert!(parse(&["orders", "x", "--file", "f"]).is_err());
        assert_eq!(parse(&["orders", "-"]).unwrap().body.as_deref(), Some("-"));
        assert_eq!(parse(&["orders", "--file", "-"]).unwrap().file, Some("-".into()));
    }

    #[test]
    fn one_key_is_for_one_message() {
        assert!(parse(&["orders", "x", "--key", "k", "--key-pointer", "/id"]).is_err());
        assert!(parse(&["orders", "--file", "f", "--key", "k"]).is_err());
        assert!(parse(&["orders", "x", "--key", ""]).is_err(), "an empty key is no key");
        assert!(parse(&["orders", "x", "--key-pointer", "id"]).is_err());
    }

    #[test]
    fn times_are_given_once_and_make_sense() {
        let args = parse(&["orders", "x", "--ttl", "30s", "--at", "2023-11-14T22:13:20Z"]).unwrap();
        let message = message(&args, Bytes::from_static(b"x")).unwrap();
        assert_eq!((message.ttl, message.deliver_at), (args.ttl, Some(from_ms(1_700_000_000_000))));
        assert_eq!(args.ttl, Some(Duration::from_secs(30)));
        for wrong in [&["--ttl", "0s"][..], &["--delay", "1m", "--at", "2023-11-14T22:13:20Z"], &["--at", "noon"]] {
            assert!(parse(&[&["orders", "x"], wrong].concat()).is_err(), "{wrong:?}");
        }
        assert!(parse(&["orders", "x", "--atomic"]).is_err(), "a transaction comes from a file");
    }

    #[test]
    fn headers_are_name_and_value_and_keep_their_order() {
        let args = parse(&["orders", "x", "--header", "a=1", "--header", "b=x=y"]).unwrap();
        let message = message(&args, Bytes::from_static(b"x")).unwrap();
        let headers: Vec<_> = message.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
        assert_eq!(headers, [("a", "1"), ("b", "x=y")]);
        assert!(parse(&["orders", "x", "--header", "=1"]).is_err());
    }

    #[test]
    fn a_key_is_a_text_or_a_number_of_the_message() {
        let payload = br#"{"id":7,"name":"n","deep":{"a/b":"x"},"none":null,"empty":""}"#;
        assert_eq!(key_at(payload, "/id").unwrap(), "7");
        assert_eq!(key_at(payload, "/name").unwrap(), "n");
        assert_eq!(key_at(payload, "/deep/a~1b").unwrap(), "x");
        for missing in ["/none", "/empty", "/deep", "/nowhere"] {
            assert!(key_at(payload, missing).is_err(), "{missing}");
        }
        assert!(key_at(b"not json", "/id").is_err());
    }

    #[test]
    fn json_output_names_delivery_only_when_it_is_known() {
        let response = PublishResponse { seq: 41, term: 4, ..PublishResponse::default() };
        let published = Published::from(response);
        let text = |outcome: &Outcome<'_>| serde_json::to_string(outcome).unwrap();
        let commit = Outcome::of(1, "orders", Ok(&published));
        assert_eq!(text(&commit), r#"{"line":1,"channel":"orders","seq":41,"duplicate":false}"#);
        let delivered = Published::from(PublishResponse { delivered: Some(true), ..response });
        let delivered = Outcome::of(1, "orders", Ok(&delivered));
        assert_eq!(text(&delivered), r#"{"line":1,"channel":"orders","seq":41,"duplicate":false,"delivered":true}"#);
        let position = v1::Position { channel_id: 7, epoch: 2, history: 0xab, seq: 41 };
        let placed = Published::from(PublishResponse { position: Some(position), ..response });
        let placed = text(&Outcome::of(1, "orders", Ok(&placed)));
        assert!(placed.ends_with(r#""position":"7.2.000000ab.41"}"#), "{placed}");
        let waits = Published::from(PublishResponse { scheduled_ms: Some(1_700_000_000_123), ..response });
        let waits = Outcome::of(1, "orders", Ok(&waits));
        let expected = r#"{"line":1,"channel":"orders","scheduled":"2023-11-14T22:13:20.123Z","duplicate":false}"#;
        assert_eq!(text(&waits), expected);
        let error = ClientError::refused(Code::NoLeader, "no leader");
        let error = Outcome::of(2, "orders", Err(&error));
        assert_eq!(text(&error), r#"{"line":2,"error":{"code":"NO_LEADER","message":"no leader","details":[]}}"#);
    }
}
