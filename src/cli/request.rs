//! `liminal request`: ask whoever handles a channel's messages.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::{
    CliError, Global, OutputFormat,
    remote::{connect, parse_duration, print_bytes, print_json, print_line, shown},
};
use crate::{
    client::Message,
    model::{Form, ReplyJson},
};

/// Publish a message and wait for the reply of whoever handles it
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel to publish to
    pub channel: String,
    /// The message; `-` reads it from standard input
    pub body: String,
    /// How long to wait for the reply
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Runs `liminal request`.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let message = Message::new(body(&args.body).await?);
    let reply = connect(global).await?.request(&args.channel, message, args.timeout).await?;
    match global.output {
        OutputFormat::Json => print_json(&ReplyJson::of(&reply.into(), Form::Line)),
        OutputFormat::Raw => print_bytes(&reply.payload),
        OutputFormat::Table => print_line(&shown(&reply.payload)),
    }
}

/// A payload of the command line; `-` stands for standard input.
pub(super) async fn body(text: &str) -> Result<Vec<u8>, CliError> {
    if text != "-" {
        return Ok(text.as_bytes().to_vec());
    }
    let mut body = Vec::new();
    let read = tokio::io::stdin().read_to_end(&mut body).await;
    read.map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))?;
    Ok(body)
}
