//! `liminal channel delayed`: the messages of a channel that wait for their time.

use serde_json::json;

use super::{CliError, Global, OutputFormat, connect, on_the_wire, print_json, print_line, table, thousands};
use crate::{
    model::{DelayedJson, Form, timestamp},
    proto::v1::{DelayedMessage, Message},
};

/// Look at the messages that wait for their time, and take them back
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// List the messages that wait, in the order in which they were published
    #[command(visible_alias = "ls")]
    List {
        /// The channel
        channel: String,
        /// Only messages with a greater id
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: u64,
        /// At most this many messages
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Take a message back: nobody will see it, and its key is free again. Exit code 1 when it no longer waits
    Withdraw {
        /// The channel
        channel: String,
        /// Its id, as the list gives it
        id: u64,
    },
}

pub(super) async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    match command {
        Command::List { channel, after, limit } => list(&channel, after, limit, global).await,
        Command::Withdraw { channel, id } => withdraw(&channel, id, global).await,
    }
}

async fn list(channel: &str, after: u64, limit: Option<u64>, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    let (mut next, mut left, mut rows) = (Some(after), limit, Vec::new());
    while let Some(after) = next.filter(|_| left != Some(0)) {
        let most = left.map_or(0, |left| u32::try_from(left).unwrap_or(u32::MAX));
        let page = client.delayed(channel, after, most).await?;
        left = left.map(|left| left.saturating_sub(page.messages.len() as u64));
        next = page.next_after_id;
        for waiting in &on_the_wire::<_, DelayedMessage>(page.messages) {
            let nothing = Message::default();
            let message = waiting.message.as_ref().unwrap_or(&nothing);
            match global.output {
                OutputFormat::Json => {
                    print_json(&DelayedJson::of(channel, waiting.id, waiting.due_ms, message, Form::Line))?;
                }
                OutputFormat::Raw => print_line(&waiting.id.to_string())?,
                OutputFormat::Table => rows.push(row(waiting, message)),
            }
        }
    }
    match global.output {
        OutputFormat::Table => print_line(&table(&["ID", "VISIBLE AT", "KEY", "BYTES"], &[0, 3], rows)),
        OutputFormat::Json | OutputFormat::Raw => Ok(()),
    }
}

fn row(waiting: &DelayedMessage, message: &Message) -> Vec<String> {
    // A key must not move a terminal's cursor.
    let key = message.key.as_deref().unwrap_or("-").replace(char::is_control, "\u{fffd}");
    vec![waiting.id.to_string(), timestamp(waiting.due_ms), key, thousands(message.payload.len() as u64)]
}

async fn withdraw(channel: &str, id: u64, global: &Global) -> Result<(), CliError> {
    let withdrawn = connect(global).await?.withdraw_delayed(channel, id).await?;
    match global.output {
        OutputFormat::Json => print_json(&json!({ "channel": channel, "id": id, "withdrawn": withdrawn }))?,
        OutputFormat::Raw => print_line(&withdrawn.to_string())?,
        OutputFormat::Table if withdrawn => print_line(&format!("{channel}  message {id} withdrawn"))?,
        OutputFormat::Table => {
            print_line(&format!(
                "{channel}  no message {id} waits: it is visible, was withdrawn before, or never was"
            ))?;
        }
    }
    if withdrawn { Ok(()) } else { Err(CliError::exit(1)) }
}
