//! `liminal consumer delete`.

use super::{CliError, Global, OutputFormat, print_json, print_line, thousands};
use crate::cli::remote::{confirm, connect};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel, which keeps its messages; a work queue those that the consumer has not settled
    pub channel: String,
    /// The consumer
    pub name: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let Args { channel, name, yes } = args;
    let client = connect(global).await?;
    if !yes {
        let lag = thousands(client.consumer_status(&channel, &name).await?.lag);
        let what =
            format!("delete consumer `{name}` of `{channel}` with its place; it has not settled {lag} message(s)");
        confirm(yes, &what, "nothing was deleted")?;
    }
    client.delete_consumer(&channel, &name).await?;
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "channel": channel, "name": name, "deleted": true })),
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => print_line(&format!("{channel}/{name}  deleted")),
    }
}
