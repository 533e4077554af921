//! `liminal consumer delete`.

use super::{CliError, Global, OutputFormat, print_json, print_line};
use crate::cli::remote::connect;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel, which keeps its messages
    pub channel: String,
    /// The consumer
    pub name: String,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let Args { channel, name } = args;
    connect(global).await?.delete_consumer(&channel, &name).await?;
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "channel": channel, "name": name, "deleted": true })),
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => print_line(&format!("{channel}/{name}  deleted")),
    }
}
