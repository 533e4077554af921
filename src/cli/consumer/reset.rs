//! `liminal consumer reset`.

use std::time::SystemTime;

use super::{CliError, Global, one, thousands};
use crate::{
    cli::{
        remote::{confirm, connect},
        subscribe::From,
    },
    client::{Client, Position, Start},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel
    pub channel: String,
    /// The consumer
    pub name: String,
    /// Where to go on: `earliest`, `latest`, a sequence number, a position, or how long ago, for example 15m
    #[arg(long)]
    pub to: From,
    /// Do not ask before messages of a work queue are left behind
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let start = args.to.start(SystemTime::now());
    let client = connect(global).await?;
    if !args.yes {
        ask(&client, &args, start).await?;
    }
    one(&client.reset_consumer(&args.channel, &args.name, start).await?.into(), global)
}

/// Asks where work would be left that nobody does any longer.
async fn ask(client: &Client, args: &Args, start: Start) -> Result<(), CliError> {
    let Args { channel, name, .. } = args;
    let consumer = client.consumer_status(channel, name).await?;
    let left = match start {
        Start::Earliest => false,
        Start::Latest | Start::Time(_) => consumer.lag > 0,
        Start::Seq(seq) | Start::Position(Position { seq, .. }) => seq > consumer.floor_seq,
    };
    if !left || !client.channel(channel).await?.config.retention.is_some_and(|kept| kept.work_queue) {
        return Ok(());
    }
    let lag = thousands(consumer.lag);
    let what = format!(
        "move consumer `{name}` past messages of the work queue `{channel}`; it has not settled {lag}, and those that it \
         leaves behind stay until another consumer takes them"
    );
    confirm(false, &what, "nothing was moved")
}
