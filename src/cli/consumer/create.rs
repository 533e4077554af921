//! `liminal consumer create`.

use std::time::{Duration, SystemTime};

use super::{ms, one, parse_order};
use crate::{
    cli::{
        CliError, Global,
        remote::{connect, parse_duration},
        subscribe::From,
    },
    model::Predicate,
    proto::v1::{ConsumeOrder, ConsumerConfig},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel to consume
    pub channel: String,
    /// 1 to 200 of A-Z a-z 0-9 . _ -
    pub name: String,
    /// Where to begin: `earliest`, `latest`, a sequence number, or how long ago, for example 15m
    #[arg(long, default_value = "earliest")]
    pub from: From,
    /// A message that is not settled for so long comes again, for example 30s (the default)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub ack_timeout: Option<Duration>,
    /// A message that was worked on so often without an ack is dead; without it, it comes again for ever. At its last
    /// attempt it is handed out alone
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<u32>,
    /// The channel that dead messages go to; <CHANNEL>.dead unless given, which is made with the consumer
    #[arg(long, value_name = "CHANNEL", requires = "max_attempts")]
    pub dead_letter: Option<String>,
    /// Drop dead messages
    #[arg(long, requires = "max_attempts", conflicts_with = "dead_letter")]
    pub drop_dead: bool,
    /// Messages that members may have at once; 1,000 unless given
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u32>,
    /// `none`, `exclusive` (one member at a time), `key` or `key:HEADER` (one member at a time for each key)
    #[arg(long, default_value = "none", value_parser = parse_order)]
    pub order: (ConsumeOrder, String),
    /// Only messages for which this holds. See docs/PREDICATES.md
    #[arg(long = "where", value_name = "PREDICATE")]
    pub filter: Option<Predicate>,
    /// In a work queue: what --where keeps back counts as settled, and goes if no other consumer wants it
    #[arg(long, requires = "filter")]
    pub settle_skipped: bool,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let config = ConsumerConfig {
        ack_timeout_ms: args.ack_timeout.map_or(0, ms),
        max_attempts: args.max_attempts.unwrap_or(0),
        dead_letter: args.dead_letter.unwrap_or_default(),
        max_in_flight: args.max_in_flight.unwrap_or(0),
        order: args.order.0.into(),
        order_header: args.order.1,
        filter: args.filter.map(|filter| filter.to_string()).unwrap_or_default(),
        drop_dead: args.drop_dead,
        settle_skipped: args.settle_skipped,
    };
    let start = args.from.start(SystemTime::now());
    let consumer = connect(global).await?.create_consumer(&args.channel, &args.name, config.into(), start).await?;
    one(&consumer.into(), global)
}
