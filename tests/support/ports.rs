//! Addresses for the nodes of tests. A node keeps its address while it is down, so an address must not go to anybody
//! else until its test has ended: not to another test, in this process or another, nor to an outgoing connection.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    ops::Range,
};

use parking_lot::Mutex;

/// Below the ports that the system gives to outgoing connections.
const PORTS: Range<u16> = 10_000..30_000;
/// A test process takes ports by the block. Whoever listens on a block's first port has the block.
const BLOCK: u16 = 40;

/// Addresses on which nobody listens and that nobody else gets until this process ends.
pub fn free_addresses(count: usize) -> Vec<String> {
    static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { claims: Vec::new(), free: Vec::new() });
    let mut blocks = BLOCKS.lock();
    let mut addresses = Vec::new();
    while addresses.len() < count {
        let port = blocks.next();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            addresses.push(format!("127.0.0.1:{port}"));
        }
    }
    addresses
}

/// What this process has taken.
struct Blocks {
    claims: Vec<TcpListener>,
    free: Vec<u16>,
}

impl Blocks {
    fn next(&mut self) -> u16 {
        loop {
            if let Some(port) = self.free.pop() {
                return port;
            }
            let number = RandomState::new().build_hasher().finish() % u64::from((PORTS.end - PORTS.start) / BLOCK);
            let first = PORTS.start + number as u16 * BLOCK;
            if let Ok(claim) = TcpListener::bind(("127.0.0.1", first)) {
                self.claims.push(claim);
                self.free.extend(first + 1..first + BLOCK);
            }
        }
    }
}
