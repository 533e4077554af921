//! `liminal consumer show`.

use super::{CliError, Global, one};
use crate::cli::remote::connect;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel
    pub channel: String,
    /// The consumer
    pub name: String,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let consumer = connect(global).await?.consumer_status(&args.channel, &args.name).await?;
    one(&consumer.into(), global)
}
