//! `liminal bench`: measure a cluster with real publishes. Latencies are taken per message, from the time when it
//! was to be sent; CPU time is what the kernel charged to the processes.

mod cpu;
mod failover;
mod fanout;
mod floor;
mod load;
mod replay;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{
    CliError, Global, OutputFormat,
    remote::{Confirm, parse_duration, print_json, print_line, thousands},
};
use load::{Measured, Window};

/// Measure a cluster
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Measure publishing
    Publish(PublishArgs),
    /// Measure delivery to live subscribers on every server
    Fanout(fanout::FanoutArgs),
    /// Measure reading a channel from its beginning
    Replay(replay::ReplayArgs),
    /// Measure how long publishers wait when the leader is lost; starts a cluster of its own
    Failover(failover::FailoverArgs),
    /// Measure this machine: the least that any replicated log must do, without a broker
    Floor(floor::FloorArgs),
}

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct PublishArgs {
    /// The channel to publish to; created when it is missing
    #[arg(long, default_value = "bench")]
    pub channel: String,
    /// Bytes of each payload
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// A file of payloads, one a line, which the messages take turns with, instead of random ones of --size bytes
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub payloads: Option<PathBuf>,
    /// Messages that wait for their ack at a time, over all connections; with --rate, the most that may
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: u32,
    /// Connections, each with one publish stream
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    /// Messages a second over all connections, sent on schedule whether or not acks come back; without it, as many
    /// as acks allow
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// How long to measure
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Give each message an idempotency key
    #[arg(long)]
    pub keys: bool,
    /// What the acknowledgement waits for
    #[arg(long, value_enum, default_value_t = Confirm::Commit)]
    pub confirm: Confirm,
    /// Processes whose CPU time to report; found by name when the servers are on this machine
    #[arg(long, value_delimiter = ',')]
    pub server_pids: Vec<u32>,
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    let measured = match command {
        Command::Publish(args) => {
            args.check()?;
            // Before anything is made: a file that cannot be used leaves no channel behind.
            load::payloads(args.payloads.as_deref(), args.size)?;
            let pids = cpu::servers(&args.server_pids, &global.servers());
            let clients = load::publishers(&args, global).await?;
            load::prepare(&clients[0], &args.channel).await?;
            load::publish(&args, clients, &pids, Window::begin(args.warmup, args.duration), false).await?
        }
        Command::Fanout(args) => fanout::run(&args, global).await?,
        Command::Failover(args) => return failover::run(&args, global).await,
        Command::Replay(args) => replay::run(&args, global).await?,
        Command::Floor(args) => {
            let measured = tokio::task::spawn_blocking(move || floor::run(&args)).await;
            measured.map_err(|error| CliError::failed(error.to_string()))??
        }
    };
    let figures = Figures::of(&measured);
    match global.output {
        OutputFormat::Json => print_json(&figures)?,
        OutputFormat::Raw => print_line(&format!("{:.0}", figures.rate))?,
        OutputFormat::Table => print_line(&figures.table())?,
    }
    match measured.last_error {
        Some(error) if figures.rate == 0.0 => Err(error.into()),
        Some(error) => {
            let message = format!("the last of {} errors: {}: {error}", figures.errors, error.code());
            Err(CliError::failed(message).with_code(error.code().clone()))
        }
        None if figures.errors > 0 => Err(CliError::failed(format!("{} deliveries are missing", figures.errors))),
        None => Ok(()),
    }
}

impl PublishArgs {
    fn check(&self) -> Result<(), CliError> {
        if self.duration.is_zero() {
            return Err(CliError::usage("--duration 0 measures nothing; give some seconds".to_owned()));
        }
        if self.in_flight < self.connections {
            let (few, many) = (self.in_flight, self.connections);
            return Err(CliError::usage(format!("{few} in flight leave some of {many} connections without a message")));
        }
        Ok(())
    }
}

/// The figures as `-o json` says them.
#[derive(Debug, Serialize)]
struct Figures {
    /// Messages a second: acknowledged, delivered or read.
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    errors: u64,
    server_cpu_s_per_million: Option<f64>,
    client_cpu_s_per_million: Option<f64>,
    /// Resident memory of each server at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    server_rss_mib: Vec<u64>,
}

impl Figures {
    fn of(measured: &Measured) -> Self {
        let latency = &measured.latency;
        let acked = measured.messages;
        let round = |value: f64| (value * 100.0).round() / 100.0;
        let per_million = |cpu: Option<Duration>| {
            cpu.filter(|_| acked > 0).map(|cpu| round(cpu.as_secs_f64() * 1_000_000.0 / acked as f64))
        };
        Self {
            rate: round(acked as f64 / measured.took.as_secs_f64()),
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            p999_us: latency.value_at_quantile(0.999),
            max_us: latency.max(),
            errors: measured.errors,
            server_cpu_s_per_million: per_million(measured.server_cpu),
            client_cpu_s_per_million: per_million(measured.client_cpu),
            server_rss_mib: measured.server_rss.iter().map(|bytes| bytes >> 20).collect(),
        }
    }

    fn table(&self) -> String {
        let ms = |us: u64| format!("{:.2} ms", us as f64 / 1000.0);
        let cpu = |cpu: Option<f64>| cpu.map_or("unknown".to_owned(), |cpu| format!("{cpu:.1} s per million"));
        let [p50, p99, p999, max] = [self.p50_us, self.p99_us, self.p999_us, self.max_us].map(ms);
        format!(
            "rate        {}/s\nlatency     p50 {p50}  p99 {p99}  p99.9 {p999}  max {max}\nerrors      {}\n\
             server cpu  {}\nclient cpu  {}",
            thousands(self.rate as u64),
            thousands(self.errors),
            cpu(self.server_cpu_s_per_million),
            cpu(self.client_cpu_s_per_million),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_acknowledged_message() {
        let mut latency = load::histogram();
        for us in 1..=1000 {
            latency.record(us).unwrap();
        }
        let measured = Measured {
            messages: latency.len(),
            server_rss: vec![3 << 20],
            latency,
            errors: 3,
            last_error: None,
            took: Duration::from_secs(2),
            server_cpu: Some(Duration::from_millis(50)),
            client_cpu: None,
        };
        let json = serde_json::to_value(Figures::of(&measured)).unwrap();
        assert_eq!(json["rate"], 500.0);
        assert_eq!((&json["p50_us"], &json["p99_us"], &json["max_us"]), (&500.into(), &990.into(), &1000.into()));
        assert_eq!(json["server_cpu_s_per_million"], 50.0);
        assert!(json["client_cpu_s_per_million"].is_null());
    }
}
