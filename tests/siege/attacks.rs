//! The attacks. Each has what it needs prepared before anything is measured.

mod bulk;
mod connections;
mod copies;
mod lists;
mod nodes;
mod schemas;
mod web;

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};

/// Where it goes.
#[derive(Clone)]
pub struct Target {
    pub grpc: Vec<String>,
    pub http: Vec<String>,
    pub peers: Vec<String>,
    pub leader: usize,
    /// How long an attack that goes on by itself goes on.
    pub time: Duration,
}

impl Target {
    /// Attackers ask the node that has most to lose.
    fn http(&self) -> &str {
        &self.http[self.leader]
    }

    fn grpc(&self) -> &str {
        &self.grpc[self.leader]
    }
}

pub struct Attack {
    pub name: &'static str,
    /// It takes about a second, and runs with the other tests.
    pub short: bool,
    pub prepare: fn(Target) -> BoxFuture<'static, ()>,
    /// Says what the attacker got.
    pub attack: fn(Target) -> BoxFuture<'static, String>,
}

impl Attack {
    fn new(name: &'static str, attack: fn(Target) -> BoxFuture<'static, String>) -> Self {
        Self { name, short: false, prepare: |_| async {}.boxed(), attack }
    }

    fn prepared(self, prepare: fn(Target) -> BoxFuture<'static, ()>) -> Self {
        Self { prepare, ..self }
    }

    fn short(self) -> Self {
        Self { short: true, ..self }
    }
}

pub fn all() -> Vec<Attack> {
    vec![
        Attack::new("990 rules and a batch of 4 MB", |t| copies::batch(t).boxed())
            .prepared(|t| copies::rules(t).boxed()),
        Attack::new("990 rules and a transaction of 4 MB", |t| copies::transaction(t).boxed())
            .prepared(|t| copies::rules(t).boxed()),
        Attack::new("990 rules and 8 delayed MB", |t| copies::delayed(t).boxed())
            .prepared(|t| copies::rules(t).boxed()),
        Attack::new("20,000 lines under a header of 300 KB", |t| bulk::header_over_lines(t).boxed()).short(),
        Attack::new("20,000 lines under 60 headers of 4 KB", |t| bulk::headers_over_lines(t).boxed()).short(),
        Attack::new("20,000 lines under a key of 4 KB", |t| bulk::key_over_lines(t).boxed()).short(),
        Attack::new("a stream message of 2.6 million empty messages", |t| bulk::empties(t, "PublishStream").boxed()),
        Attack::new("a transaction of 2.6 million empty messages", |t| bulk::empties(t, "PublishTransaction").boxed()),
        Attack::new("100,000 tokens settled at once", |t| bulk::tokens(t).boxed()).short(),
        Attack::new("a schema that doubles 45 times, by anchor", |t| schemas::doubling(t, "anchor").boxed()).short(),
        Attack::new("a schema that doubles 45 times, by id", |t| schemas::doubling(t, "id").boxed()).short(),
        Attack::new("a schema that doubles 45 times, percent-encoded", |t| schemas::doubling(t, "percent").boxed())
            .short(),
        Attack::new("a schema of 62 bytes and 20 levels", |t| schemas::recursion(t).boxed()).short(),
        Attack::new("a schema with 1,200 violations an item", |t| schemas::violations(t).boxed()),
        Attack::new("stored messages against a doubling schema", |t| schemas::validate(t).boxed()).short(),
        Attack::new("240 bodies that never end", |t| connections::bodies(t).boxed()),
        Attack::new("240 chunked bodies that never end", |t| connections::chunks(t).boxed()),
        Attack::new("200 unfinished WebSocket fragments", |t| connections::fragments(t).boxed()),
        Attack::new("256 connections that say one byte", |t| connections::single_bytes(t).boxed()),
        Attack::new("HTTP/2 without TLS on the HTTP port", |t| connections::h2c(t).boxed()).short(),
        Attack::new("10,000 publish streams on one connection", |t| connections::streams(t).boxed()),
        Attack::new("3,000 filters of 250 comparisons", |t| lists::filters(t).boxed()),
        Attack::new("2,000 channels, 128 at a time", |t| lists::channels(t).boxed()),
        Attack::new("lists of 2,000 channels, 16 at a time", |t| lists::listings(t).boxed())
            .prepared(|t| lists::many_channels(t).boxed()),
        Attack::new("60 MB on each of 30 connections between nodes", |t| nodes::garbage(t).boxed()),
        Attack::new("1,000 idle connections to the port for nodes", |t| nodes::idle(t).boxed()),
        Attack::new("a node is made to call a stranger", |t| nodes::join(t).boxed()).short(),
        Attack::new("a web page publishes", |t| web::publish(t).boxed()).short(),
        Attack::new("a web page opens a WebSocket", |t| web::socket(t).boxed()).short(),
        Attack::new("a web page reaches a node by another name", |t| web::rebinding(t).boxed()).short(),
    ]
}
