//! Looks for damage before it is met: everything of a node's state and log is read from the disk, again and again, and
//! compared with its checksums; what is damaged is healed where that is possible.
//!
//! A *pass* reads the state from its first key to its last, then the log from its first file to what is durable, at a
//! bounded rate. How far it is stands in a small file, so that a restart goes on there. An operator may ask for a pass at
//! once (`cluster verify --deep`), at a rate of its own.
//!
//! Parts of the state come from other nodes (see `healing`). A damaged file of the log cannot: entries have no hash that
//! names them. But what this node has applied and made durable in its state is not needed from its log any more: the log
//! begins another file, and the damaged one is purged. What is not applied yet waits until it is.

mod position;
mod report;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use self::position::{Position, Stage};
pub use self::report::{ScrubConfig, ScrubReport};
use super::log::{LogChecked, LogDamage, LogPlace, LogStore};
use crate::{
    env::Env,
    health::{Health, Part},
    store::{CheckedParts, Damage, DurableStore, StoreError, StoreParts},
};

/// Read at a time, at most.
const PIECE: u64 = 1 << 20;
/// Read at a time, at least: a unit of work costs more than its bytes.
const SMALL_PIECE: u64 = 64 << 10;
/// The lowest rate: a pass should end.
const LOWEST_RATE: u64 = 64 << 10;
/// How often the position is written down.
const SAVE: Duration = Duration::from_secs(10);
/// How long after a piece that the system refused to read, and between two tries to heal.
const AGAIN: Duration = Duration::from_secs(5);
/// How often to look whether a pass is due.
const LOOK: Duration = Duration::from_secs(10);
/// How long the log may take to let go of a file.
const PURGED: Duration = Duration::from_secs(2);

/// Makes the state durable and has the log let go of everything that is in it.
pub(super) type PurgeNow = Box<dyn Fn() -> BoxFuture<'static, Result<u64, StoreError>> + Send + Sync>;

/// One node's search for damage.
pub(super) struct Scrub {
    config: ScrubConfig,
    env: Env,
    parts: Option<Arc<dyn StoreParts>>,
    log: Arc<dyn LogStore>,
    purge: PurgeNow,
    health: Health,
    state: Mutex<State>,
    /// After a pass was asked for.
    asked: Notify,
    /// After damage to the log was found.
    log_damaged: Notify,
}

#[derive(Default)]
struct State {
    report: ScrubReport,
    /// The rate of a pass that was asked for and has not begun.
    asked: Option<u64>,
    /// Whether the present pass was asked for.
    is_asked: bool,
    log: Vec<LogDamage>,
    log_found: u64,
    log_healed: u64,
}

/// Another pass was asked for.
struct Abandoned;

impl Scrub {
    pub(super) fn new(
        config: ScrubConfig,
        env: Env,
        store: &dyn DurableStore,
        log: Arc<dyn LogStore>,
        purge: PurgeNow,
        health: Health,
    ) -> Self {
        let (state, asked, log_damaged) = Default::default();
        Self { config, env, parts: store.parts(), log, purge, health, state, asked, log_damaged }
    }

    /// Whether there is anything to look at.
    fn is_idle(&self) -> bool {
        self.parts.is_none() && self.log.files().is_none()
    }

    /// Begins a pass at a rate, instead of one that is under way unless that was asked for, too. Gives its number.
    pub(super) fn ask(&self, bytes_per_second: u64) -> u64 {
        let mut state = self.state.lock();
        if state.is_asked && state.report.running {
            return state.report.pass;
        }
        state.asked = Some(bytes_per_second);
        self.asked.notify_one();
        state.report.pass + 1
    }

    pub(super) fn report(&self) -> ScrubReport {
        let healing = self.parts.as_ref().map(|parts| parts.healing()).unwrap_or_default();
        let mut left = self.parts.as_ref().map(|parts| parts.damaged()).unwrap_or_default();
        let state = self.state.lock();
        left.extend(
            state
                .log
                .iter()
                .map(|LogDamage { file, detail, .. }| Damage { file: file.clone(), detail: detail.clone() }),
        );
        ScrubReport {
            left,
            total_found: healing.found + state.log_found,
            total_healed: healing.healed + state.log_healed,
            ..state.report.clone()
        }
    }

    /// Runs as long as the node does.
    pub(super) async fn run(self: Arc<Self>) {
        if self.is_idle() {
            return;
        }
        tokio::join!(self.passes(), self.heal());
    }

    async fn passes(&self) {
        let mut position = Position::load(self.config.file.clone()).await;
        self.state.lock().report.completed_ms = position.completed_ms;
        loop {
            let asked = self.state.lock().asked.take();
            let now = self.env.clock.now_ms();
            let due = self.config.interval.is_some_and(|interval| {
                let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
                // A clock that was set back makes no pass wait.
                !(position.began_ms..position.began_ms.saturating_add(interval)).contains(&now)
            });
            if asked.is_some() || (position.stage == Stage::Done && due) {
                position = Position { completed_ms: position.completed_ms, ..Position::default() };
            }
            if position.began_ms == 0 {
                position.began_ms = now;
            }
            if position.stage == Stage::Done || (asked.is_none() && self.config.interval.is_none()) {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.asked.notified() => {}
                }
                continue;
            }
            let rate = asked.unwrap_or(self.config.bytes_per_second).max(LOWEST_RATE);
            self.begin(&position, asked.is_some());
            if self.pass(&mut position, rate).await.is_ok() {
                position.completed_ms = self.env.clock.now_ms();
                position.save(&self.config.file).await;
                self.end(position.completed_ms);
            }
        }
    }

    fn begin(&self, position: &Position, is_asked: bool) {
        let mut state = self.state.lock();
        let State { report, .. } = &mut *state;
        let (state_bytes, log_bytes, found, healed) =
            (position.state_bytes, position.log_bytes, position.found, position.healed);
        *report = ScrubReport {
            pass: report.pass + 1,
            running: true,
            state_bytes,
            log_bytes,
            found,
            healed,
            ..report.clone()
        };
        state.is_asked = is_asked;
    }

    fn end(&self, completed_ms: u64) {
        let report = {
            let mut state = self.state.lock();
            state.report.running = false;
            state.report.completed_ms = completed_ms;
            state.report.clone()
        };
        let ScrubReport { state_bytes, log_bytes, found, healed, .. } = report;
        tracing::info!(state_bytes, log_bytes, found, healed, "state and log were read from the disk");
    }

    /// Reads everything from a position on.
    async fn pass(&self, position: &mut Position, rate: u64) -> Result<(), Abandoned> {
        let mut saved = Instant::now();
        while position.stage != Stage::Done {
            let begun = Instant::now();
            let bytes = match position.stage.clone() {
                Stage::State(from) => self.state_piece(position, from.into(), piece(rate)).await,
                Stage::Log(from) => self.log_piece(position, from, piece(rate)).await,
                Stage::Done => 0,
            };
            let paced = begun + Duration::from_secs_f64(bytes as f64 / rate as f64);
            tokio::select! {
                () = tokio::time::sleep_until(paced) => {}
                () = self.asked.notified() => {}
            }
            if self.state.lock().asked.is_some() {
                return Err(Abandoned);
            }
            if saved.elapsed() >= SAVE {
                position.save(&self.config.file).await;
                saved = Instant::now();
            }
            let mut state = self.state.lock();
            let Position { state_bytes, log_bytes, found, healed, .. } = *position;
            let total_bytes = state.report.total_bytes + bytes;
            state.report =
                ScrubReport { state_bytes, log_bytes, found, healed, total_bytes, ..std::mem::take(&mut state.report) };
        }
        Ok(())
    }

    /// Reads a piece of the state; gives its bytes.
    async fn state_piece(&self, position: &mut Position, from: Bytes, max_bytes: u64) -> u64 {
        let Some(parts) = &self.parts else {
            position.stage = Stage::Log(LogPlace::default());
            return 0;
        };
        let CheckedParts { next, bytes, damage } = match parts.check(from, max_bytes).await {
            Ok(checked) => checked,
            Err(error) => {
                tracing::warn!(%error, "cannot look for damage in the state; it is tried again");
                tokio::time::sleep(AGAIN).await;
                return 0;
            }
        };
        if let Some(damage) = damage {
            position.found += 1;
            position.healed += u64::from(parts.damaged().iter().all(|left| left.file != damage.file));
            self.announce();
        }
        position.state_bytes += bytes;
        position.stage = next.map_or(Stage::Log(LogPlace::default()), |next| Stage::State(next.to_vec()));
        bytes
    }

    /// Reads a piece of the log; gives its bytes.
    async fn log_piece(&self, position: &mut Position, from: LogPlace, max_bytes: u64) -> u64 {
        let log = self.log.clone();
        let checked = tokio::task::spawn_blocking(move || log.files().map(|files| files.check(from, max_bytes))).await;
        let LogChecked { next, bytes, damage } = match checked {
            Ok(Some(Ok(checked))) => checked,
            Ok(None) => LogChecked::default(),
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "cannot look for damage in the log; it is tried again");
                tokio::time::sleep(AGAIN).await;
                return 0;
            }
            Err(error) => {
                tracing::error!(%error, "cannot look for damage in the log");
                LogChecked::default()
            }
        };
        if let Some(damage) = damage {
            position.found += 1;
            position.healed += u64::from(self.log_is_damaged(damage).await);
        }
        position.log_bytes += bytes;
        position.stage = next.map_or(Stage::Done, Stage::Log);
        bytes
    }

    /// Whether it could be healed at once.
    async fn log_is_damaged(&self, damage: LogDamage) -> bool {
        let number = damage.number;
        let is_new = {
            let mut state = self.state.lock();
            let is_new = state.log.iter().all(|known| known.number != number);
            if is_new {
                tracing::error!(file = damage.file, detail = damage.detail, "a file of the log is damaged");
                state.log_found += 1;
                state.log.push(damage);
            }
            is_new
        };
        if is_new && let Some(files) = self.log.files() {
            files.end_file();
        }
        let healed = self.purge_damaged().await;
        if !healed {
            self.log_damaged.notify_one();
        }
        self.announce();
        healed
    }

    /// Has the log let go of its damaged files, as far as their entries are applied and durable in the state. Whether
    /// none is left.
    async fn purge_damaged(&self) -> bool {
        if let Err(error) = (self.purge)().await {
            tracing::warn!(%error, "the state cannot be made durable, so damaged files of the log stay");
        }
        // Where all that is durable was purged before, nothing more was: the file that has ended goes all the same.
        let has_ended = |damage: &LogDamage| self.log.files().is_some_and(|files| files.has_file(damage.number));
        if self.state.lock().log.iter().any(has_ended)
            && let Some(purged) = self.log.bounds().purged
            && let Err(error) = self.log.purge(purged)
        {
            tracing::warn!(%error, "the log cannot let go of its damaged files");
        }
        let give_up = Instant::now() + PURGED;
        loop {
            {
                let mut state = self.state.lock();
                let files = self.log.files();
                let (gone, left) = std::mem::take(&mut state.log)
                    .into_iter()
                    .partition::<Vec<_>, _>(|damage| files.is_none_or(|files| !files.has_file(damage.number)));
                for LogDamage { file, .. } in &gone {
                    tracing::info!(file, "a damaged file of the log was purged: its entries are in the state");
                }
                state.log_healed += gone.len() as u64;
                state.log = left;
                if state.log.is_empty() {
                    return true;
                }
            }
            if Instant::now() >= give_up {
                return false;
            }
            tokio::time::sleep(PURGED / 20).await;
        }
    }

    /// Says what is damaged and could not be healed.
    fn announce(&self) {
        let left = self.report().left;
        let reason = left.first().map(|first| match left.len() {
            1 => format!("{first}; no other node that answers could replace it"),
            count => format!(
                "{first}, and {} more files are damaged; no other node that answers could replace them",
                count - 1
            ),
        });
        self.health.set(Part::Damage, reason);
    }

    /// Tries again and again to heal what could not be healed at once.
    async fn heal(&self) {
        let found = async || match &self.parts {
            Some(parts) => parts.found_damage().await,
            None => std::future::pending().await,
        };
        loop {
            let left = !self.report().left.is_empty();
            tokio::select! {
                () = found() => {}
                () = self.log_damaged.notified() => {}
                () = tokio::time::sleep(AGAIN), if left => {}
            }
            if let Some(parts) = &self.parts {
                parts.heal().await;
            }
            if !self.state.lock().log.is_empty() {
                self.purge_damaged().await;
            }
            self.announce();
            // What is reported again meanwhile waits.
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// How much is read at a time at a rate.
fn piece(rate: u64) -> u64 {
    (rate / 4).clamp(SMALL_PIECE, PIECE)
}
