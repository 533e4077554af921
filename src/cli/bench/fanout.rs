//! Delivery to live subscribers: each message says when it was made, and each subscriber when it came.

use std::time::Duration;

use futures::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    PublishArgs, cpu,
    load::{self, Measured, STAMP, Window, histogram, micros, stamp_of},
};
use crate::{
    cli::{CliError, Global, remote::connect_to},
    client::{ClientError, Start, Subscription},
};

/// How long subscribers may take for what was published last.
const CATCH_UP: Duration = Duration::from_secs(30);
/// The smallest payload with a stamp in it.
const SMALLEST: usize = STAMP + 8;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct FanoutArgs {
    #[command(flatten)]
    load: PublishArgs,
    /// Subscribers on each server
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    subscribers: u32,
}

/// What a subscriber saw.
struct Seen {
    latency: Histogram<u64>,
    next: u64,
    error: Option<ClientError>,
}

/// Publishes to subscribers on all servers, and counts their deliveries within the window.
pub async fn run(args: &FanoutArgs, global: &Global) -> Result<Measured, CliError> {
    args.load.check()?;
    if args.load.payloads.is_some() {
        return Err(CliError::usage("fanout writes times into its payloads; leave --payloads out".to_owned()));
    }
    if args.load.size < SMALLEST {
        return Err(CliError::usage(format!("--size {} leaves no room for a time; give {SMALLEST}", args.load.size)));
    }
    let pids = cpu::servers(&args.load.server_pids, &global.servers());
    let publishers = load::publishers(&args.load, global).await?;
    load::prepare(&publishers[0], &args.load.channel).await?;
    let admin = publishers[0].clone();

    let mut subscriptions = Vec::new();
    for server in &global.servers() {
        for _ in 0..args.subscribers {
            let client = connect_to([server], global).await?;
            subscriptions.push(client.subscribe(&args.load.channel, Start::Latest).await?);
        }
    }
    // Only now: connecting is no part of the warm-up.
    let window = Window::begin(args.load.warmup, args.load.duration);
    let (end, until) = watch::channel(None);
    let follow = |subscription| tokio::spawn(follow(subscription, window, until.clone()));
    let subscribers: Vec<_> = subscriptions.into_iter().map(follow).collect();
    let published = load::publish(&args.load, publishers, &pids, window, true).await?;
    let next = admin.channel(&args.load.channel).await?.next_seq;
    end.send_replace(Some(next));
    let seen = try_join_all(subscribers).await.map_err(|error| CliError::failed(error.to_string()))?;

    let mut measured = Measured { latency: histogram(), messages: 0, ..published };
    for seen in seen {
        measured.messages += seen.latency.len();
        measured.latency.add(seen.latency).map_err(|error| CliError::failed(error.to_string()))?;
        measured.errors += next.saturating_sub(seen.next);
        measured.last_error = seen.error.or(measured.last_error);
    }
    Ok(measured)
}

async fn follow(mut subscription: Subscription, window: Window, mut until: watch::Receiver<Option<u64>>) -> Seen {
    let mut seen = Seen { latency: histogram(), next: 0, error: None };
    loop {
        let end = *until.borrow_and_update();
        if end.is_some_and(|end| seen.next >= end) {
            return seen;
        }
        let limit = if end.is_some() { CATCH_UP } else { Duration::MAX };
        tokio::select! {
            batch = timeout(limit, subscription.next_batch()) => match batch {
                Ok(Some(Ok(messages))) => {
                    let now = Instant::now();
                    let since = micros(now - window.epoch);
                    for message in messages {
                        seen.next = message.seq + 1;
                        if let Some(stamp) = stamp_of(&message.message.payload).filter(|_| window.contains(now)) {
                            seen.latency.saturating_record(since.saturating_sub(stamp).max(1));
                        }
                    }
                }
                Ok(Some(Err(error))) => {
                    seen.error = Some(error);
                    return seen;
                }
                Ok(None) | Err(_) => return seen,
            },
            _ = until.changed(), if end.is_none() => {}
        }
    }
}
