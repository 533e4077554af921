//! The log's time, as this node reckons it: what a leader stamps entries with.
//!
//! Time in the log passes as time passes: it goes on from the newest entry by this node's monotonic clock, which nobody
//! sets. Clocks of the wall only correct it, and no single one can. Of all voters' clocks the log's time is pulled
//! forward only to what a majority has reached, and held back only at what a majority has not reached yet, by at most
//! `CORRECTION` of what passes. So a clock that leaps, on whatever node, by whatever distance, moves nothing.
//!
//! Two things cannot be corrected so. Where nobody knows how much time has passed (every node was down), the new leader
//! sets the log's time forward, at once, to what a majority of clocks has reached. And where it is off by more than
//! `FAR` for longer than `LASTING` (an older version had followed a wrong clock, or a backup of such a state was
//! restored), time goes on as it does, so that every duration stays right, and the leader has written down how far the
//! log's time is from the time of day: see the machine's calendar.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{env::Clock, machine::behind};

/// At most so many thousandths of what passes are added or left out.
const CORRECTION: i64 = 50;
/// A difference of one of these is corrected at one thousandth: what is smaller is none.
const STEP_MS: i64 = 20;
/// A greater difference is not corrected but written down.
const FAR: Duration = Duration::from_secs(60);
/// Once it has lasted for so long.
const LASTING: Duration = Duration::from_secs(15);

/// A node's reckoning of the log's time.
pub struct LogClock {
    wall: Arc<dyn Clock>,
    line: Mutex<Line>,
}

struct Line {
    /// The log's time at a moment.
    time: Duration,
    at: Instant,
    /// Thousandths of what has passed since then that are added to it.
    rate: i64,
    /// The newest time that was applied here: the log's time is never before it.
    applied: Duration,
    /// How far the log's time is ahead of the time of day, milliseconds.
    ahead_ms: i64,
    /// Whether what passed since the newest entry is known, from this process's own life or from a node that knows.
    certain: bool,
    /// Since when, and in which direction, the time of day has been far off.
    far: Option<(Instant, bool)>,
}

/// What a clock showed at some moment between a question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What it showed, in milliseconds.
    pub ms: u64,
    /// When it was asked for.
    pub asked: Instant,
    /// When the answer came.
    pub answered: Instant,
}

impl Reading {
    /// The least and the most that it can show now.
    fn range(&self, now: Instant) -> (u64, u64) {
        let later = |since: Instant| self.ms.saturating_add(millis(now.saturating_duration_since(since)));
        (later(self.answered), later(self.asked))
    }

    /// How far the clock is certainly ahead of a time, milliseconds; below 0 where it is behind.
    pub fn ahead_of(&self, time_ms: u64, now: Instant) -> i64 {
        let (least, most) = self.range(now);
        if least > time_ms { signed(least - time_ms) } else { -signed(time_ms.saturating_sub(most)) }
    }
}

impl Line {
    fn now(&self, at: Instant) -> Duration {
        let passed = at.saturating_duration_since(self.at);
        let correction = passed.saturating_mul(u32::try_from(self.rate.unsigned_abs()).unwrap_or(0)) / 1000;
        let time = self.time.saturating_add(passed);
        if self.rate < 0 { time.saturating_sub(correction) } else { time.saturating_add(correction) }
    }

    fn set(&mut self, time: Duration, at: Instant, rate: i64) {
        (self.time, self.at, self.rate) = (time.max(self.applied), at, rate);
    }
}

impl LogClock {
    /// A reckoning that knows nothing yet, on a node with this clock.
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        let line = Line {
            time: Duration::ZERO,
            at: Instant::now(),
            rate: 0,
            applied: Duration::ZERO,
            ahead_ms: 0,
            certain: false,
            far: None,
        };
        Self { wall, line: Mutex::new(line) }
    }

    /// What this node's own clock of the wall shows: for comparing it, for nothing else.
    pub fn wall_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// The log's time: milliseconds since the Unix epoch, or as far from that as the calendar says.
    pub fn now_ms(&self) -> u64 {
        let line = self.line.lock();
        // A cluster that has just been founded has no time to go on from.
        if line.applied.is_zero() && !line.certain { self.wall.now_ms() } else { millis(line.now(Instant::now())) }
    }

    /// The time of day: milliseconds since the Unix epoch.
    pub fn time_of_day_ms(&self) -> u64 {
        let ahead_ms = self.line.lock().ahead_ms;
        behind(self.now_ms(), ahead_ms)
    }

    /// Whether this node knows how much time has passed since the newest entry.
    pub fn is_certain(&self) -> bool {
        self.line.lock().certain
    }

    /// An entry with this time was applied, after which the log's time is so far ahead of the time of day.
    pub fn applied(&self, time_ms: u64, ahead_ms: i64) {
        let mut line = self.line.lock();
        line.applied = line.applied.max(Duration::from_millis(time_ms));
        line.ahead_ms = ahead_ms;
        let (now, rate) = (Instant::now(), line.rate);
        if line.now(now) < line.applied {
            let applied = line.applied;
            line.set(applied, now, rate);
        }
    }

    /// While another node leads: what the log's time is there. It is as good from any node that is certain for one that
    /// is not.
    pub fn follow(&self, log: Reading) {
        let (now, mut line) = (Instant::now(), self.line.lock());
        let (least, most) = log.range(now);
        let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
        let own = line.now(now);
        let time = if line.certain { own.clamp(least, most) } else { least };
        line.set(time, now, 0);
        line.certain = true;
        line.far = None;
    }

    /// While nothing is known of the others: time passes.
    pub fn coast(&self) {
        let (now, mut line) = (Instant::now(), self.line.lock());
        let own = line.now(now);
        line.set(own, now, 0);
        line.far = None;
    }

    /// While this node leads: the clocks of all voters, none for one that did not answer. Gives how far the log's time
    /// is ahead of the time of day, if that has to be written down anew.
    pub fn lead(&self, clocks: &[Option<Reading>]) -> Option<i64> {
        let (now, mut line) = (Instant::now(), self.line.lock());
        let own = line.now(now);
        let Some(off) = off(clocks, behind(millis(own), line.ahead_ms), now) else {
            line.set(own, now, 0);
            line.far = None;
            return None;
        };
        if !line.certain {
            line.certain = true;
            let time = own.saturating_add(Duration::from_millis(u64::try_from(off).unwrap_or(0)));
            line.set(time, now, 0);
            return None;
        }
        if off.unsigned_abs() < millis(FAR) {
            line.set(own, now, (off / STEP_MS).clamp(-CORRECTION, CORRECTION));
            line.far = None;
            return None;
        }
        line.set(own, now, 0);
        let (since, _) = *line.far.get_or_insert((now, off > 0));
        if line.far != Some((since, off > 0)) {
            line.far = Some((now, off > 0));
        } else if now.saturating_duration_since(since) >= LASTING {
            line.far = None;
            return Some(line.ahead_ms.saturating_sub(off));
        }
        None
    }
}

/// How far clocks say that the time of day is off: it is behind (above 0) what a majority has reached, or ahead (below
/// 0) of what a majority has not passed. None where no majority answered.
fn off(clocks: &[Option<Reading>], day_ms: u64, now: Instant) -> Option<i64> {
    let majority = clocks.len() / 2 + 1;
    let ranges: Vec<(u64, u64)> = clocks.iter().flatten().map(|clock| clock.range(now)).collect();
    if ranges.len() < majority {
        return None;
    }
    let (mut least, mut most): (Vec<u64>, Vec<u64>) = ranges.into_iter().unzip();
    least.sort_unstable_by_key(|ms| std::cmp::Reverse(*ms));
    most.sort_unstable();
    let (reached, limit) = (least[majority - 1], most[majority - 1]);
    Some(if day_ms < reached { signed(reached - day_ms) } else { -signed(day_ms.saturating_sub(limit)) })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
