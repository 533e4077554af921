//! How long a connection may take for what, and why it was ended.

use std::time::Duration;

use crate::model::Limits;

/// How long a connection that was let in for monitoring stays, milliseconds.
pub(super) const MONITORING_TIME: u64 = 2_000;

/// Why a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// It did not ask for anything in time.
    FirstRequest = 1,
    /// What it asks for comes too slowly.
    Slow,
    /// It did not ask for anything for too long.
    Idle,
    /// It does not read its answers.
    Reader,
    /// Another one needed the room.
    Room,
    /// The process has no file descriptors left.
    Descriptors,
    /// It was let in for monitoring, and that takes no longer.
    Served,
    /// Its certificate is not valid any more.
    Certificate,
}

impl Why {
    pub(super) const ALL: [Self; 8] = [
        Self::FirstRequest,
        Self::Slow,
        Self::Idle,
        Self::Reader,
        Self::Room,
        Self::Descriptors,
        Self::Served,
        Self::Certificate,
    ];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstRequest => "first_request",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Reader => "reader",
            Self::Room => "room",
            Self::Descriptors => "descriptors",
            Self::Served => "served",
            Self::Certificate => "certificate",
        }
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|why| *why as u8 == number)
    }
}

/// How long things may take; milliseconds where it is a number.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    pub(super) first_request: u64,
    pub(super) idle: u64,
    pub(super) reader: u64,
    pub(super) monitoring: u64,
    /// What is on its way has to bring as much as the least rate in each of these.
    pub(super) slow: Duration,
    least_per_second: u64,
}

impl Clocks {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            first_request: millis(limits.handshake_timeout),
            idle: millis(limits.idle_timeout),
            reader: millis(limits.reader_timeout),
            monitoring: MONITORING_TIME,
            slow: limits.slow_after,
            least_per_second: limits.least_bytes_per_second as u64,
        }
    }

    pub(super) fn slow_ms(&self) -> u64 {
        millis(self.slow)
    }

    /// Bytes that have to come in [`Clocks::slow`].
    pub(super) fn least(&self) -> u64 {
        (self.least_per_second.saturating_mul(self.slow_ms()) / 1000).max(1)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
