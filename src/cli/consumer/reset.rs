//! `liminal consumer reset`.

use std::time::SystemTime;

use super::{CliError, Global, one};
use crate::cli::{remote::connect, subscribe::From};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel
    pub channel: String,
    /// The consumer
    pub name: String,
    /// Where to go on: `earliest`, `latest`, a sequence number, or how long ago, for example 15m
    #[arg(long)]
    pub to: From,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let start = args.to.start(SystemTime::now());
    one(&connect(global).await?.reset_consumer(&args.channel, &args.name, start).await?, global)
}
