//! What clients did and what they saw, with the times of each call and of its answer: all that the checker may know
//! of a run, beside what the nodes hold in the end.

use std::{
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;

/// Microseconds since the run began.
pub type Moment = u64;

/// How a call ended, as its caller knows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Outcome<T> {
    Done(T),
    /// It certainly did not happen, with the code.
    Refused(String),
    /// It may have happened, or may yet happen, with the code.
    Unknown(String),
}

/// A message that somebody wants stored. No two that mean different messages have the same payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Intent {
    pub channel: &'static str,
    /// Empty: none.
    pub key: String,
    pub payload: String,
}

/// One thing that a client did or saw.
#[derive(Clone, Debug, Serialize)]
pub enum Record {
    Publish {
        begun: Moment,
        ended: Moment,
        message: Intent,
        expected: Option<u64>,
        outcome: Outcome<u64>,
    },
    /// All of the messages or none.
    Transaction {
        begun: Moment,
        ended: Moment,
        messages: Vec<Intent>,
        outcome: Outcome<Vec<u64>>,
    },
    /// A linearizable read that found the channel ending at `end`.
    Read {
        begun: Moment,
        ended: Moment,
        channel: &'static str,
        end: u64,
    },
    /// A subscription was handed a message.
    Seen {
        reader: String,
        channel: &'static str,
        seq: u64,
        payload: String,
    },
    /// A claim was asked for; done with a token when it was granted, without one when it was not.
    Take {
        begun: Moment,
        ended: Moment,
        key: String,
        lease: Duration,
        outcome: Outcome<Option<u64>>,
    },
    Complete {
        begun: Moment,
        ended: Moment,
        key: String,
        token: u64,
        receipt: String,
        outcome: Outcome<()>,
    },
    /// Somebody who asked for a claim was told that it was completed, with this receipt.
    Told {
        key: String,
        receipt: String,
    },
    /// A consumer's member was handed a message.
    Handed {
        at: Moment,
        member: String,
        seq: u64,
        attempt: u32,
    },
    /// A member acknowledged it.
    Settle {
        begun: Moment,
        ended: Moment,
        seq: u64,
        attempt: u32,
        outcome: Outcome<()>,
    },
}

/// The records of a run. Cloning shares them.
#[derive(Clone)]
pub struct History {
    origin: Instant,
    records: Arc<Mutex<Vec<Record>>>,
}

impl History {
    pub fn new() -> Self {
        Self { origin: Instant::now(), records: Arc::default() }
    }

    pub fn now(&self) -> Moment {
        self.origin.elapsed().as_micros() as Moment
    }

    pub fn add(&self, record: Record) {
        self.records.lock().push(record);
    }

    pub fn records(&self) -> Vec<Record> {
        self.records.lock().clone()
    }

    /// Whether so many publishes that began at a moment or later were acknowledged.
    pub fn acknowledged_since(&self, moment: Moment) -> usize {
        let acknowledged = |record: &&Record| matches!(record, Record::Publish { begun, outcome: Outcome::Done(_), .. } if *begun >= moment);
        self.records.lock().iter().rev().filter(acknowledged).count()
    }

    /// One record on each line.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for record in self.records.lock().iter() {
            writeln!(file, "{}", serde_json::to_string(record)?)?;
        }
        file.flush()
    }
}
