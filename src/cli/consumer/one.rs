//! `liminal consumer next`, `ack` and `nack`: one message at a time, for shell scripts. The token that `next` prints settles the
//! message, by whichever process and until the consumer's ack timeout is over.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use clap::ValueHint;
use liminal_wire::time::to_ms;
use serde::Serialize;
use serde_json::json;

use super::{CliError, Global, OutputFormat, print_json, print_line};
use crate::{
    cli::remote::{connect, parse_duration, print_bytes, shown},
    client::{Client, ClientError, Code, Nack, Pulled, PulledMessages},
    model::{Form, MessageJson},
};

/// How long one question waits.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A consumer, and what one of its messages is settled by.
#[derive(Clone, Debug, clap::Args)]
pub struct Subject {
    /// The channel
    pub channel: String,
    /// The consumer
    pub name: String,
    /// The token that `liminal consumer next` printed
    #[arg(id = "delivery_token", value_name = "TOKEN")]
    pub token: String,
}

#[derive(Clone, Debug, clap::Args)]
pub struct NextArgs {
    /// The channel
    pub channel: String,
    /// The consumer
    pub name: String,
    /// How long to wait for a message
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Acknowledge the message once it is printed: it never comes again
    #[arg(long)]
    pub ack: bool,
    /// Write the token into this file, for example to print the payload alone with `-o raw`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "ack")]
    pub save_token: Option<std::path::PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct AckArgs {
    /// Which message
    #[command(flatten)]
    pub of: Subject,
}

#[derive(Clone, Debug, clap::Args)]
pub struct NackArgs {
    /// Which message
    #[command(flatten)]
    pub of: Subject,
    /// When it may come again, for example 1m; at once unless given
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub delay: Option<Duration>,
    /// Why: a dead letter carries it
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// Runs `liminal consumer next`: exit code 1 when no message came.
pub async fn next(args: NextArgs, global: &Global) -> Result<(), CliError> {
    let NextArgs { channel, name, wait, ack, save_token } = args;
    let client = connect(global).await?;
    let pulled = pull(&client, &channel, &name, wait).await?;
    if let Some(notice) = &pulled.notice {
        eprintln!("notice: {notice}");
    }
    let Some(pulled) = pulled.messages.into_iter().next() else {
        return match global.output {
            OutputFormat::Table => {
                let wait = humantime::format_duration(wait);
                Err(CliError::failed(format!("no message of `{channel}` came for consumer `{name}` within {wait}")))
            }
            OutputFormat::Json | OutputFormat::Raw => Err(CliError::exit(1)),
        };
    };
    // Before it is printed: who sees a message can settle it.
    if let Some(file) = &save_token {
        std::fs::write(file, format!("{}\n", pulled.token))
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", file.display())))?;
    }
    match global.output {
        OutputFormat::Json => print_handed(&channel, &pulled)?,
        OutputFormat::Raw => print_bytes(&pulled.received.message.payload)?,
        OutputFormat::Table => {
            let Pulled { token, attempt, received, .. } = &pulled;
            print_line(&format!("{channel}@{}  attempt {attempt}  token {token}", received.seq))?;
            print_line(&shown(&received.message.payload))?;
        }
    }
    if ack {
        // What was not seen must not be lost.
        io::stdout().flush().map_err(|error| CliError::failed(format!("cannot write to standard output: {error}")))?;
        client.ack_pulled(&channel, &name, &pulled.token).await?;
    }
    Ok(())
}

/// Nodes do not wait for ever: a long wait is several questions.
async fn pull(client: &Client, channel: &str, name: &str, wait: Duration) -> Result<PulledMessages, CliError> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let pulled = client.pull(channel, name, 1, left.min(AT_ONCE)).await?;
        if !pulled.messages.is_empty() || Instant::now() >= until {
            return Ok(pulled);
        }
    }
}

/// A message with what it is settled by.
#[derive(Debug, Serialize)]
struct Handed<'a> {
    token: &'a str,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(flatten)]
    message: MessageJson<'a>,
}

fn print_handed(channel: &str, pulled: &Pulled) -> Result<(), CliError> {
    let Pulled { token, attempt, received, position, .. } = pulled;
    let message = received.message.clone().into();
    let (time, position) = (to_ms(received.time), position.map(|position| position.to_string()));
    let message = MessageJson::of(channel, received.seq, time, received.schema_id, &message, Form::Line);
    print_json(&Handed { token, attempt: *attempt, position, message })
}

/// Runs `liminal consumer ack`.
pub async fn ack(AckArgs { of }: AckArgs, global: &Global) -> Result<(), CliError> {
    let Subject { channel, name, token } = of;
    let settled = connect(global).await?.ack_pulled(&channel, &name, token.trim()).await;
    settled.map_err(explained)?;
    said(&channel, &name, "acked", global)
}

/// Runs `liminal consumer nack`.
pub async fn nack(NackArgs { of, delay, reason }: NackArgs, global: &Global) -> Result<(), CliError> {
    let Subject { channel, name, token } = of;
    let nack = delay.map_or_else(Nack::now, Nack::after).because(reason);
    let settled = connect(global).await?.nack_pulled(&channel, &name, token.trim(), nack).await;
    settled.map_err(explained)?;
    said(&channel, &name, "nacked", global)
}

fn explained(error: ClientError) -> CliError {
    let late = error.code() == &Code::StaleDelivery;
    let error = CliError::from(error);
    if !late {
        return error;
    }
    error.with_help("the message comes again: take more time with `liminal consumer update --ack-timeout`".to_owned())
}

fn said(channel: &str, name: &str, what: &str, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&json!({ "channel": channel, "name": name, "settled": what })),
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => print_line(&format!("{channel}/{name}  {what}")),
    }
}
