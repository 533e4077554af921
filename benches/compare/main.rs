//! liminal next to NATS JetStream on this machine: both in turns, each round with fresh data, the same sizes and
//! numbers in flight, an ack for every publish, three servers and the client on one machine. Prints the medians with
//! their ranges, and the ratios.

mod cluster;
mod nats;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use cluster::{Cluster, System};
use report::{Figures, Report};

/// Compare liminal with NATS JetStream
#[derive(Parser)]
struct Args {
    /// The liminal binary, of the profile `dist`
    #[arg(long, default_value = "target/dist/liminal")]
    liminal: PathBuf,
    /// The nats-server binary
    #[arg(long)]
    nats: PathBuf,
    /// Rounds; figures are medians over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each row is measured, after one of warm-up
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measure only the rows whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// Also measure NATS with an fsync before each ack
    #[arg(long)]
    sync_always: bool,
    /// Where the servers keep their data: on the disk that is to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Publish {
        size: usize,
        in_flight: usize,
        connections: usize,
    },
    OpenLoop {
        size: usize,
        rate: u64,
    },
    /// Subscribers on each of the three servers.
    Fanout {
        size: usize,
        in_flight: usize,
        subscribers: usize,
        rate: Option<u64>,
    },
    /// Fills a stream with so many messages, restarts the servers, and reads it.
    Replay {
        size: usize,
        messages: u64,
    },
}

const ROWS: [(&str, Work); 11] = [
    ("publish, 1 in flight", Work::Publish { size: 256, in_flight: 1, connections: 1 }),
    ("publish, 16 in flight", Work::Publish { size: 256, in_flight: 16, connections: 1 }),
    ("publish, 256 in flight", Work::Publish { size: 256, in_flight: 256, connections: 1 }),
    ("publish, 256 in flight, 8 connections", Work::Publish { size: 256, in_flight: 256, connections: 8 }),
    ("publish 1 KiB, 1 in flight", Work::Publish { size: 1024, in_flight: 1, connections: 1 }),
    ("publish 1 KiB, 256 in flight", Work::Publish { size: 1024, in_flight: 256, connections: 1 }),
    ("ack latency at 2,000/s", Work::OpenLoop { size: 256, rate: 2000 }),
    ("fan-out to 12, 64 in flight", Work::Fanout { size: 256, in_flight: 64, subscribers: 4, rate: None }),
    ("fan-out to 12, 256 in flight", Work::Fanout { size: 256, in_flight: 256, subscribers: 4, rate: None }),
    ("fan-out to 12 at 1,000/s", Work::Fanout { size: 256, in_flight: 64, subscribers: 4, rate: Some(1000) }),
    ("replay of 1 M", Work::Replay { size: 256, messages: 1_000_000 }),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    // As liminal's own client: the servers need the cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut systems =
        vec![System::Liminal(args.liminal.clone()), System::Nats { binary: args.nats.clone(), sync: false }];
    if args.sync_always {
        systems.push(System::Nats { binary: args.nats.clone(), sync: true });
    }
    let rows: Vec<_> =
        ROWS.into_iter().filter(|(name, _)| args.only.as_ref().is_none_or(|only| name.contains(only))).collect();
    let mut report = Report::default();
    // It goes when everything is measured.
    let data = tempfile::Builder::new().prefix("compare-").tempdir_in(&args.dir)?;
    for round in 1..=args.rounds {
        for (name, work) in &rows {
            for system in &systems {
                let mut cluster = Cluster::start(system.clone(), data.path()).await?;
                let figures = measure(&mut cluster, *work, args.seconds).await;
                cluster.stop().await?;
                match figures {
                    Ok(figures) => {
                        eprintln!("{round}/{} {name}: {}: {figures}", args.rounds, system.name());
                        report.add(name, system.name(), figures);
                    }
                    Err(error) => eprintln!("{round}/{} {name}: {}: {error}", args.rounds, system.name()),
                }
            }
        }
    }
    println!("{report}");
    Ok(())
}

async fn measure(cluster: &mut Cluster, work: Work, seconds: u64) -> Result<Figures, Box<dyn std::error::Error>> {
    let time = Duration::from_secs(seconds);
    match cluster.system() {
        System::Liminal(_) => cluster.liminal_bench(work, time).await,
        System::Nats { .. } => nats::measure(cluster, work, time).await,
    }
}
