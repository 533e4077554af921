//! What a simulated node takes from the world around it: turmoil's network, the simulation's clock with an error of
//! its own, and seeded randomness.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use liminal::env::{Clock, Connection, Env, Listener, Network, Random};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Some day in 2026: a clock that begins at 0 would hide mistakes with times.
const EPOCH: Duration = Duration::from_secs(1_790_000_000);

/// A simulation that has to be over within `patience`, whose messages take up to `latency`.
pub fn sim<'a>(seed: u64, patience: Duration, latency: Duration) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .simulation_duration(patience)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(latency)
        .tcp_capacity(4096)
        .build()
}

/// How long a clock that has leapt stays wrong.
const LEAP: Duration = Duration::from_secs(4);
/// Ten years and an hour, milliseconds.
const LEAPS: [i64; 2] = [315_360_000_000, -3_600_000];

/// The world of one node, whose clock is `skew` ahead of the others'. Of up to four machines, whose seeds are
/// consecutive thousands, one at a time has a clock that has leapt.
pub fn env(seed: u64, skew: Duration) -> Env {
    Env {
        clock: Arc::new(SimClock { skew, machine: seed / 1_000 }),
        random: Arc::new(SimRandom(Mutex::new(StdRng::seed_from_u64(seed)))),
        network: Arc::new(SimNetwork),
        threads: false,
    }
}

struct SimClock {
    skew: Duration,
    machine: u64,
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let turn = elapsed.as_secs() / LEAP.as_secs();
        let leap = if turn % 4 == self.machine % 4 { LEAPS[(turn / 4) as usize % 2] } else { 0 };
        ((EPOCH + elapsed + self.skew).as_millis() as u64).saturating_add_signed(leap)
    }
}

struct SimRandom(Mutex<StdRng>);

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

struct SimNetwork;

fn host_and_port(address: &str) -> io::Result<(&str, u16)> {
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    split.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("`{address}` is no HOST:PORT")))
}

#[async_trait]
impl Network for SimNetwork {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        Ok(Connection::new(turmoil::net::TcpStream::connect(host_and_port(address)?).await?))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let (_, port) = host_and_port(address)?;
        let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(Box::new(SimListener { listener, address: address.to_owned() }))
    }
}

struct SimListener {
    listener: turmoil::net::TcpListener,
    address: String,
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        let (stream, from) = self.listener.accept().await?;
        Ok((Connection::new(stream), from.to_string()))
    }

    fn local_address(&self) -> String {
        self.address.clone()
    }
}
