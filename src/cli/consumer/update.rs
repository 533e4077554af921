//! `liminal consumer update`.

use std::time::Duration;

use super::{CliError, Global, ms, one, parse_order};
use crate::{
    cli::remote::{connect, parse_duration},
    proto::v1::{ConsumeOrder, UpdateConsumerRequest},
};

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Args {
    /// The channel
    pub channel: String,
    /// The consumer
    pub name: String,
    /// A message that is not settled for so long comes again
    #[arg(long, value_name = "TIME", value_parser = parse_duration, group = "change")]
    pub ack_timeout: Option<Duration>,
    /// A message that was worked on so often without an ack is dead, from the next attempt on; 0: it comes again for ever
    #[arg(long, value_name = "N", group = "change")]
    pub max_attempts: Option<u32>,
    /// The channel that dead messages go to; the empty text: <CHANNEL>.dead
    #[arg(long, value_name = "CHANNEL", group = "change")]
    pub dead_letter: Option<String>,
    /// Drop dead messages, those that wait for their dead-letter channel included
    #[arg(long, group = "change", conflicts_with = "dead_letter")]
    pub drop_dead: bool,
    /// Messages that members may have at once
    #[arg(long, value_name = "N", group = "change")]
    pub max_in_flight: Option<u32>,
    /// `none`, `exclusive`, `key` or `key:HEADER`; for messages that have not been handed out
    #[arg(long, value_parser = parse_order, group = "change")]
    pub order: Option<(ConsumeOrder, String)>,
    /// Only messages for which this holds, of those that have not been handed out; the empty text: all
    #[arg(long = "where", value_name = "PREDICATE", group = "change")]
    pub filter: Option<String>,
    /// In a work queue: what --where keeps back counts as settled, and goes if no other consumer wants it
    #[arg(long, requires = "filter")]
    pub settle_skipped: bool,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let (order, order_header) = args.order.map_or((None, String::new()), |(order, header)| (Some(order), header));
    let request = UpdateConsumerRequest {
        channel: args.channel,
        name: args.name,
        ack_timeout_ms: args.ack_timeout.map(ms),
        max_attempts: args.max_attempts,
        dead_letter: args.dead_letter,
        max_in_flight: args.max_in_flight,
        order: order.map(Into::into),
        order_header,
        filter: args.filter,
        drop_dead: args.drop_dead,
        settle_skipped: args.settle_skipped,
    };
    one(&connect(global).await?.update_consumer(request.into()).await?.into(), global)
}
