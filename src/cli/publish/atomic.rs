//! Publishing all lines of a file together: each names its channel, or goes to that of the command line.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt as _;

use super::{Args, Outcome};
use crate::{
    cli::{
        CliError, Global, OutputFormat,
        remote::{connect, print_json, print_line},
    },
    client::Message,
    model::message_lines,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    channel: Option<String>,
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
    key: Option<String>,
    expected_seq: Option<u64>,
}

impl Line {
    fn payload(&mut self) -> Result<Bytes, String> {
        match (self.payload.take(), self.payload_base64.take()) {
            (Some(json), None) => Ok(String::from(Box::<str>::from(json)).into_bytes().into()),
            (None, Some(text)) => {
                BASE64_STANDARD.decode(&text).map(Into::into).map_err(|error| format!("payload_base64: {error}"))
            }
            _ => Err("it needs payload or payload_base64, one of them".into()),
        }
    }
}

pub(super) async fn run(file: &Path, args: &Args, global: &Global) -> Result<(), CliError> {
    let cannot_read = |error| CliError::failed(format!("cannot read {}: {error}", file.display()));
    let mut text = Vec::new();
    if file == Path::new("-") {
        tokio::io::stdin().read_to_end(&mut text).await.map_err(cannot_read)?;
    } else {
        text = tokio::fs::read(file).await.map_err(cannot_read)?;
    }
    let messages = parse(&text, &args.channel).map_err(CliError::usage)?;
    let numbered: Vec<(u64, String)> = messages.iter().map(|one| (one.0, one.1.clone())).collect();
    let mut transaction = connect(global).await?.transaction().confirm(args.confirm.into());
    for (_, channel, message, expected_seq) in messages {
        transaction = match expected_seq {
            Some(seq) => transaction.publish_at(channel, message, seq),
            None => transaction.publish(channel, message),
        };
    }
    let published = transaction.commit().await?;
    for ((line, channel), published) in numbered.iter().zip(&published) {
        match global.output {
            OutputFormat::Json => print_json(&Outcome::of(*line, channel, Ok(published)))?,
            OutputFormat::Raw => print_line(&published.seq.to_string())?,
            OutputFormat::Table => print_line(&format!("{channel}@{}{}", published.seq, super::notes(published)))?,
        }
    }
    Ok(())
}

type Numbered = (u64, String, Message, Option<u64>);

fn parse(text: &[u8], channel: &str) -> Result<Vec<Numbered>, String> {
    let mut messages = Vec::new();
    for (number, line) in message_lines(text) {
        let mut line: Line = serde_json::from_slice(line).map_err(|error| format!("line {number}: {error}"))?;
        let payload = line.payload().map_err(|reason| format!("line {number}: {reason}"))?;
        let channel = line.channel.unwrap_or_else(|| channel.to_owned());
        if line.key.as_deref() == Some("") {
            return Err(format!("line {number}: the key is empty: give one, or leave it out"));
        }
        let mut message = Message::new(payload);
        message.key = line.key;
        messages.push((number, channel, message, line.expected_seq));
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_name_another_channel_a_key_and_a_place() {
        let text = "{\"payload\":{\"a\": 1}}\n\n{\"channel\":\"d\",\"payload_base64\":\"eA==\",\"key\":\"k\",\"expected_seq\":3}";
        let messages = parse(text.as_bytes(), "c").unwrap();
        let (number, channel, message, expected) = &messages[0];
        assert_eq!((*number, channel.as_str(), &message.payload[..], *expected), (1, "c", &b"{\"a\": 1}"[..], None));
        let (number, channel, message, expected) = &messages[1];
        assert_eq!((*number, channel.as_str(), &message.payload[..], *expected), (3, "d", &b"x"[..], Some(3)));
        assert_eq!(message.key.as_deref(), Some("k"));
        for wrong in [
            "x",
            "{}",
            r#"{"payload":1,"payload_base64":"eA=="}"#,
            r#"{"payload":1,"chanel":"d"}"#,
            r#"{"payload":1,"key":""}"#,
        ] {
            assert!(parse(wrong.as_bytes(), "c").unwrap_err().starts_with("line 1: "), "{wrong}");
        }
    }
}
