//! Reading what is stored, from the beginning, as fast as one subscriber can.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    cpu,
    load::{Measured, histogram, micros},
};
use crate::{
    cli::{CliError, Global, remote::connect},
    client::Start,
};

/// A subscription that brings nothing for so long will bring nothing more.
const SILENCE: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// The channel to read; fill it with `bench publish`
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Messages to read at most; all that are stored when it is not given
    #[arg(long)]
    count: Option<u64>,
    /// Processes whose CPU time to report; found by name when the servers are on this machine
    #[arg(long, value_delimiter = ',')]
    server_pids: Vec<u32>,
}

/// Subscribes from the earliest message and reads to the one that is the last now. Latencies are the times between
/// batches: what a reader waits for.
pub async fn run(args: &ReplayArgs, global: &Global) -> Result<Measured, CliError> {
    let pids = cpu::servers(&args.server_pids, &global.servers());
    let client = connect(global).await?;
    let channel = client.channel(&args.channel).await?;
    let stored = (channel.next_seq - channel.first_seq).saturating_sub(channel.compacted);
    let wanted = args.count.unwrap_or(stored).min(stored);
    if wanted == 0 {
        let name = &args.channel;
        return Err(CliError::failed(format!("channel `{name}` holds no message; fill it: liminal bench publish")));
    }
    let meter = cpu::Meter::start(&pids);
    let begun = Instant::now();
    let mut subscription = client.subscribe(&args.channel, Start::Earliest).await?;
    let (mut latency, mut messages, mut last) = (histogram(), 0, begun);
    while messages < wanted {
        let Ok(batch) = timeout(SILENCE, subscription.next_batch()).await else { break };
        let Some(batch) = batch else { break };
        messages += batch?.len() as u64;
        let now = Instant::now();
        latency.saturating_record(micros(now - last));
        last = now;
    }
    let (server_cpu, client_cpu) = meter.read(&pids);
    Ok(Measured {
        messages,
        latency,
        errors: wanted.saturating_sub(messages),
        last_error: None,
        took: begun.elapsed(),
        server_cpu,
        client_cpu,
        server_rss: cpu::memory_of_all(&pids),
    })
}
