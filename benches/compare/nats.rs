//! The same work on NATS JetStream: a stream with three replicas and file storage, an ack awaited for every publish.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::push, stream};
use bytes::Bytes;
use futures::{StreamExt as _, future::try_join_all};
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    Work,
    cluster::Cluster,
    report::{Figures, cpu_seconds},
};

const WARMUP: Duration = Duration::from_secs(1);
const STREAM: &str = "bench";
/// A reader that gets nothing for so long is done.
const SILENCE: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) async fn measure(cluster: &mut Cluster, work: Work, time: Duration) -> Result<Figures> {
    create_stream(cluster).await?;
    match work {
        Work::Publish { size, in_flight, connections } => {
            let load = Load { size, in_flight, connections, rate: None };
            publish(cluster, load, Window::begin(time)).await
        }
        Work::OpenLoop { size, rate } => {
            let load = Load { size, in_flight: 0, connections: 1, rate: Some(rate) };
            publish(cluster, load, Window::begin(time)).await
        }
        Work::Fanout { size, in_flight, subscribers, rate } => {
            let load = Load { size, in_flight, connections: 1, rate };
            fanout(cluster, load, subscribers, time).await
        }
        Work::Replay { size, messages } => replay(cluster, size, messages).await,
    }
}

#[derive(Clone, Copy)]
struct Load {
    size: usize,
    in_flight: usize,
    connections: usize,
    rate: Option<u64>,
}

#[derive(Clone, Copy)]
struct Window {
    epoch: Instant,
    from: Instant,
    until: Instant,
}

impl Window {
    fn begin(time: Duration) -> Self {
        let epoch = Instant::now();
        Self { epoch, from: epoch + WARMUP, until: epoch + WARMUP + time }
    }

    fn contains(&self, moment: Instant) -> bool {
        (self.from..self.until).contains(&moment)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3).expect("a valid range")
}

fn figures(latency: &Histogram<u64>, messages: u64, took: Duration, cpu: f64, errors: u64) -> Figures {
    Figures {
        rate: messages as f64 / took.as_secs_f64(),
        p50_us: latency.value_at_quantile(0.5),
        p99_us: latency.value_at_quantile(0.99),
        p999_us: latency.value_at_quantile(0.999),
        server_cpu_s_per_million: Some(cpu * 1e6 / messages.max(1) as f64),
        errors,
    }
}

async fn connect(addresses: &[String]) -> Result<async_nats::Client> {
    let servers: Vec<async_nats::ServerAddr> =
        addresses.iter().map(|address| address.parse()).collect::<std::result::Result<_, _>>()?;
    let options = async_nats::ConnectOptions::new().retain_servers_order().ignore_discovered_servers();
    Ok(options.client_capacity(4096).subscription_capacity(1 << 20).connect(servers).await?)
}

fn context(client: async_nats::Client) -> jetstream::Context {
    context_with(client, Duration::from_secs(30))
}

fn context_with(client: async_nats::Client, limit: Duration) -> jetstream::Context {
    jetstream::context::ContextBuilder::new().timeout(limit).ack_timeout(limit).max_ack_inflight(100_000).build(client)
}

async fn create_stream(cluster: &Cluster) -> Result<()> {
    // What is asked while the servers elect is not answered at all.
    let context = context_with(connect(&cluster.addresses()).await?, Duration::from_secs(1));
    let config = stream::Config {
        name: STREAM.into(),
        subjects: vec![STREAM.into()],
        num_replicas: 3,
        storage: stream::StorageType::File,
        ..stream::Config::default()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match context.create_stream(config.clone()).await {
            Ok(_) => break,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
    // Until a publish is acknowledged the stream has no leader.
    while context.publish(STREAM, "0".into()).await?.await.is_err() {
        if Instant::now() > deadline {
            return Err("the stream has no leader".into());
        }
    }
    Ok(())
}

/// JSON of the size that was asked for, with the time since `epoch` in it.
fn payload(size: usize, epoch: Instant) -> Bytes {
    let stamp = format!("{:016x}", epoch.elapsed().as_micros());
    format!("{{\"p\":\"{stamp}{}\"}}", "x".repeat(size.saturating_sub(stamp.len() + 8))).into()
}

fn stamp_of(payload: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(payload.get(6..22)?).ok()?, 16).ok()
}

async fn publish(cluster: &Cluster, load: Load, window: Window) -> Result<Figures> {
    let mut contexts = Vec::new();
    for index in 0..load.connections {
        let mut addresses = cluster.addresses();
        addresses.rotate_left(index % 3);
        contexts.push(context(connect(&addresses).await?));
    }
    let publishing = async {
        match load.rate {
            Some(rate) => open_loop(&contexts[0], load.size, rate, window).await,
            None => closed_loop(&contexts, load, window).await,
        }
    };
    let cpu = async {
        sleep_until(window.from).await;
        let before = cpu_seconds(&cluster.pids());
        sleep_until(window.until).await;
        cpu_seconds(&cluster.pids()) - before
    };
    let (published, cpu) = tokio::join!(publishing, cpu);
    let (latency, errors) = published?;
    Ok(figures(&latency, latency.len(), window.until - window.from, cpu, errors))
}

/// Each message in flight is a task that awaits its ack.
async fn closed_loop(contexts: &[jetstream::Context], load: Load, window: Window) -> Result<(Histogram<u64>, u64)> {
    let tasks = (0..load.in_flight).map(|index| {
        let context = contexts[index % contexts.len()].clone();
        tokio::spawn(async move {
            let (mut latency, mut errors) = (histogram(), 0);
            while Instant::now() < window.until {
                let begun = Instant::now();
                let acked = match context.publish(STREAM, payload(load.size, window.epoch)).await {
                    Ok(ack) => ack.await.is_ok(),
                    Err(_) => false,
                };
                match acked {
                    true if window.contains(Instant::now()) => {
                        latency.saturating_record(begun.elapsed().as_micros() as u64)
                    }
                    true => {}
                    false => errors += 1,
                }
            }
            (latency, errors)
        })
    });
    let (mut latency, mut errors) = (histogram(), 0);
    for (one, failed) in try_join_all(tasks.collect::<Vec<_>>()).await? {
        latency.add(one)?;
        errors += failed;
    }
    Ok((latency, errors))
}

/// Latencies begin when a message was due.
async fn open_loop(
    context: &jetstream::Context,
    size: usize,
    rate: u64,
    window: Window,
) -> Result<(Histogram<u64>, u64)> {
    // A thread keeps the time: the runtime's timers are only exact to a millisecond.
    let (tick, mut ticks) = tokio::sync::mpsc::channel(8192);
    let clock = tokio::task::spawn_blocking(move || {
        let due = |n: u64| window.epoch + Duration::from_nanos(n * 1_000_000_000 / rate);
        for due in (0..).map(due).take_while(|due| *due < window.until) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if tick.blocking_send(due).is_err() {
                return;
            }
        }
    });
    let mut tasks = Vec::new();
    while let Some(due) = ticks.recv().await {
        let context = context.clone();
        tasks.push(tokio::spawn(async move {
            let acked = match context.publish(STREAM, payload(size, window.epoch)).await {
                Ok(ack) => ack.await.is_ok(),
                Err(_) => false,
            };
            (due, acked, due.elapsed())
        }));
    }
    clock.await?;
    let (mut latency, mut errors) = (histogram(), 0);
    for (due, acked, took) in try_join_all(tasks).await? {
        match acked {
            true if window.contains(due) => latency.saturating_record(took.as_micros() as u64),
            true => {}
            false => errors += 1,
        }
    }
    Ok((latency, errors))
}

/// Ordered push consumers: what JetStream offers a live reader that must not miss anything.
async fn consumer(cluster: &Cluster, index: usize, policy: DeliverPolicy) -> Result<push::Ordered> {
    let mut addresses = cluster.addresses();
    addresses.rotate_left(index % 3);
    let client = connect(&addresses[..1]).await?;
    let stream = context(client.clone()).get_stream(STREAM).await?;
    let config = push::OrderedConfig {
        deliver_subject: client.new_inbox(),
        deliver_policy: policy,
        ..push::OrderedConfig::default()
    };
    Ok(stream.create_consumer(config).await?.messages().await?)
}

async fn fanout(cluster: &Cluster, load: Load, subscribers: usize, time: Duration) -> Result<Figures> {
    let mut consumers = Vec::new();
    for index in 0..subscribers * 3 {
        consumers.push(consumer(cluster, index, DeliverPolicy::New).await?);
    }
    let window = Window::begin(time);
    let total = Arc::new(AtomicU64::new(0));
    let tasks = consumers.into_iter().map(|mut messages| {
        let total = total.clone();
        tokio::spawn(async move {
            let mut latency = histogram();
            // What has not come a moment after the window does not count.
            while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(2), messages.next()).await {
                let now = Instant::now();
                if window.contains(now)
                    && let Some(stamp) = stamp_of(&message.payload)
                {
                    latency.saturating_record(((now - window.epoch).as_micros() as u64).saturating_sub(stamp).max(1));
                    total.fetch_add(1, Ordering::Relaxed);
                }
                if now > window.until + Duration::from_secs(1) {
                    break;
                }
            }
            latency
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let published = publish(cluster, load, window).await?;
    let mut latency = histogram();
    for one in try_join_all(tasks).await? {
        latency.add(one)?;
    }
    let delivered = total.load(Ordering::Relaxed);
    let cpu = published.server_cpu_s_per_million.unwrap_or(0.0) * published.rate * time.as_secs_f64() / 1e6;
    Ok(figures(&latency, delivered, time, cpu, published.errors))
}

async fn replay(cluster: &mut Cluster, size: usize, messages: u64) -> Result<Figures> {
    let context = context(connect(&cluster.addresses()).await?);
    let (next, epoch) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let tasks = (0..256).map(|_| {
        let (context, next) = (context.clone(), next.clone());
        tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < messages {
                if let Ok(ack) = context.publish(STREAM, payload(size, epoch)).await {
                    let _ = ack.await; // what is not stored is not read
                }
            }
        })
    });
    try_join_all(tasks.collect::<Vec<_>>()).await?;
    drop(context);
    cluster.restart().await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut reader = loop {
        match consumer(cluster, 0, DeliverPolicy::All).await {
            Ok(reader) => break reader,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    let (before, begun, mut read) = (cpu_seconds(&cluster.pids()), Instant::now(), 0);
    let mut last = begun;
    while read < messages {
        let Ok(Some(Ok(_))) = timeout(SILENCE, reader.next()).await else { break };
        read += 1;
        last = Instant::now();
    }
    Ok(figures(&histogram(), read, last - begun, cpu_seconds(&cluster.pids()) - before, messages - read))
}
