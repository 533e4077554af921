//! Whether the node's runtimes answer, seen from a thread that stands on neither.
//!
//! A runtime whose threads are all taken by something that never gives way answers nobody: no client, no question about
//! its health. Raft has a thread of its own, so such a node would lead on, and be of no use. Each runtime is therefore
//! given a small task again and again. When one is not run for a second, the node's health says so, and Raft's thread, if
//! it is well, gives leadership away. A runtime that stays so for two minutes does not come back: the process is to end,
//! because whoever starts it again can help, and nobody inside can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::health::{Health, Part};

/// How often a runtime is asked.
const TICK: Duration = Duration::from_millis(250);
/// Ticks without an answer after which a runtime is unwell. Ticks and not time are counted: while the whole process is
/// stopped, nobody is at fault.
const UNWELL: u32 = 4;
/// Ticks without an answer after which it will not come back.
const STUCK: u32 = 480;

/// What to do about a runtime that does not come back; is given the reason.
pub type OnStuck = Box<dyn Fn(&str) + Send>;

/// The thread that asks. It ends when this is dropped.
pub struct Liveness {
    end: Arc<AtomicBool>,
    on_stuck: Arc<Mutex<Option<OnStuck>>>,
}

/// A runtime that is asked.
struct Asked {
    part: Part,
    what: &'static str,
    runtime: Handle,
    questions: u64,
    answered: Arc<AtomicU64>,
    unanswered: u32,
}

impl Liveness {
    /// Starts to ask runtimes, each with the part of the node that it is and what people call it.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(health: Health, runtimes: Vec<(Part, &'static str, Handle)>) -> std::io::Result<Self> {
        Self::start_with(health, runtimes, STUCK)
    }

    fn start_with(health: Health, runtimes: Vec<(Part, &'static str, Handle)>, stuck: u32) -> std::io::Result<Self> {
        let liveness = Self { end: Arc::default(), on_stuck: Arc::default() };
        let (end, on_stuck) = (liveness.end.clone(), liveness.on_stuck.clone());
        let begin = |(part, what, runtime)| Asked {
            part,
            what,
            runtime,
            questions: 0,
            answered: Arc::default(),
            unanswered: 0,
        };
        let mut asked: Vec<Asked> = runtimes.into_iter().map(begin).collect();
        std::thread::Builder::new().name("liminal-alive".into()).spawn(move || {
            while !end.load(Ordering::Acquire) {
                for runtime in &mut asked {
                    runtime.look(&health);
                    if runtime.unanswered >= stuck
                        && let Some(on_stuck) = &*on_stuck.lock()
                    {
                        on_stuck(&format!("{} has not answered for {:?}", runtime.what, TICK * stuck));
                    }
                }
                std::thread::sleep(TICK);
            }
        })?;
        Ok(liveness)
    }

    /// What to do about a runtime that does not come back; nothing until this is called.
    pub fn on_stuck(&self, act: OnStuck) {
        *self.on_stuck.lock() = Some(act);
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
    }
}

impl Asked {
    fn look(&mut self, health: &Health) {
        if self.answered.load(Ordering::Acquire) == self.questions {
            self.unanswered = 0;
            health.set(self.part, None);
            self.questions += 1;
            let (answered, question) = (self.answered.clone(), self.questions);
            drop(self.runtime.spawn(async move { answered.store(question, Ordering::Release) }));
            return;
        }
        self.unanswered += 1;
        if self.unanswered == UNWELL {
            health.set(self.part, Some(format!("{} has not answered for {:?}", self.what, TICK * UNWELL)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::health::Failures;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_runtime_that_does_not_answer_is_unwell_until_it_does_and_stuck_when_it_never_does() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let health = Health::default();
        let mut changes = health.changes();
        let runtimes = vec![(Part::Runtime, "the runtime", runtime.handle().clone())];
        let liveness = Liveness::start_with(health.clone(), runtimes, 2 * UNWELL).unwrap();
        let (stuck, is_stuck) = mpsc::sync_channel(64);
        let stuck = Mutex::new(stuck);
        liveness.on_stuck(Box::new(move |reason| drop(stuck.lock().try_send(reason.to_owned()))));
        let (release, released) = mpsc::sync_channel::<()>(1);
        runtime.spawn(async move { released.recv() });
        let reason = is_stuck.recv_timeout(PATIENCE).unwrap();
        assert!(reason.contains("the runtime has not answered for 2s"), "{reason}");
        assert_eq!(health.of(Part::Runtime).as_deref(), Some("the runtime has not answered for 1s"));
        release.send(()).unwrap();
        let well = async { changes.wait_for(Failures::is_empty).await.map(drop) };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, well).await }).unwrap().unwrap();
    }
}
