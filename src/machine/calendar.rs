//! What day it is in the log.
//!
//! Time in the log only ever goes forward, as time passes, and everything that lasts for a while goes by it. Where it was
//! led astray once, by years perhaps, it cannot go back. Then the leader has written down how far it is ahead of the
//! time of day from then on, and nothing that lasts ends sooner or later for it. What is meant by the calendar (when
//! something happened, when a delayed message is due) is told by this record.

use serde::{Deserialize, Serialize};

use super::{
    Effects, Machine,
    keys::{Key, record},
};

/// Changes that are remembered. The oldest are forgotten together: what came before them is told by the one that is left.
const REMEMBERED: usize = 64;

/// How far the log's time is, and was, ahead of the time of day. Empty: it is the time of day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Calendar {
    /// From which of the log's times on, and by how many milliseconds; oldest first.
    changes: Vec<(u64, i64)>,
}

/// The time of day when the log's time is so far ahead of it.
pub fn behind(log_ms: u64, ahead_ms: i64) -> u64 {
    log_ms.saturating_add_signed(ahead_ms.saturating_neg())
}

impl Calendar {
    /// How far it is ahead now.
    pub(super) fn ahead_ms(&self) -> i64 {
        self.changes.last().map_or(0, |(_, ahead_ms)| *ahead_ms)
    }

    /// The time of day at one of the log's times. It never falls where the log's time grows: what was stamped before a
    /// change that turned the calendar back happened before it.
    fn time_of_day(&self, log_ms: u64) -> u64 {
        let mut told = u64::MAX;
        for (since_ms, ahead_ms) in self.changes.iter().rev() {
            if log_ms >= *since_ms {
                return behind(log_ms, *ahead_ms).min(told);
            }
            told = told.min(behind(*since_ms, *ahead_ms));
        }
        log_ms.min(told)
    }

    fn change(&mut self, log_ms: u64, ahead_ms: i64) {
        self.changes.push((log_ms, ahead_ms));
        let forgotten = self.changes.len().saturating_sub(REMEMBERED);
        self.changes.drain(..forgotten);
    }
}

impl Machine {
    pub(super) fn restore_calendar(&mut self, value: &[u8]) -> Result<(), String> {
        self.calendar = record("calendar", value)?;
        Ok(())
    }

    /// How far the log's time is ahead of the time of day, in milliseconds.
    pub fn ahead_ms(&self) -> i64 {
        self.calendar.ahead_ms()
    }

    /// The time of day at one of the log's times, milliseconds since the Unix epoch.
    pub fn time_of_day(&self, log_ms: u64) -> u64 {
        self.calendar.time_of_day(log_ms)
    }

    /// The time of day at the newest command.
    pub(super) fn today_ms(&self) -> u64 {
        self.time_of_day(self.record.time_ms)
    }

    /// Whether the log's time ever was anything else than the time of day.
    pub fn has_calendar(&self) -> bool {
        self.calendar != Calendar::default()
    }

    pub(super) fn set_ahead(&mut self, ahead_ms: i64, effects: &mut Effects) {
        if ahead_ms != self.ahead_ms() {
            self.calendar.change(self.record.time_ms, ahead_ms);
            effects.put(Key::Calendar, &self.calendar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stamped_before_the_calendar_was_turned_back_happened_before_it() {
        let mut calendar = Calendar::default();
        assert_eq!(calendar.time_of_day(7), 7);
        calendar.change(1_000, 900);
        let told: Vec<u64> = [50, 100, 999, 1_000, 1_020].map(|log_ms| calendar.time_of_day(log_ms)).into();
        assert_eq!(told, [50, 100, 100, 100, 120]);
        calendar.change(1_100, 1_050);
        let told: Vec<u64> = [40, 1_000, 1_099, 1_100, 1_101].map(|log_ms| calendar.time_of_day(log_ms)).into();
        assert_eq!(told, [40, 50, 50, 50, 51]);
        calendar.change(1_200, -100);
        assert_eq!([1_150, 1_200].map(|log_ms| calendar.time_of_day(log_ms)), [100, 1_300]);
    }

    #[test]
    fn only_so_many_changes_are_remembered() {
        let mut calendar = Calendar::default();
        (0..1_000).for_each(|change| calendar.change(change, change as i64));
        assert_eq!((calendar.changes.len(), calendar.ahead_ms()), (REMEMBERED, 999));
    }
}
