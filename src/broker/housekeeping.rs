//! What the leader does when nobody asks: lets time pass in the log, and has the state hashed.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Broker;
use crate::model::Command;

const INTERVAL: Duration = Duration::from_secs(1);
/// As fine as the log's time passes when nothing else happens.
const FINEST: Duration = Duration::from_millis(50);
/// How often all nodes hash their state at one log index.
const CHECKPOINT: Duration = Duration::from_secs(60);

pub(super) async fn run(broker: Broker) {
    let inner = &broker.inner;
    let (mut applied, mut checkpointed) = (0, 0);
    let mut checkpoint_due = Instant::now() + CHECKPOINT;
    loop {
        let now = inner.env.clock.now_ms();
        let leads = broker.leads();
        let expiry = inner.view.next_expiry_ms().filter(|_| leads);
        let due = expiry.map(|expiry| Duration::from_millis(expiry.saturating_sub(now)));
        let pause = due.map_or(INTERVAL, |due| due.clamp(FINEST, INTERVAL));
        if timeout(pause, inner.groups.scheduled.notified()).await.is_ok() {
            sleep(FINEST).await;
        }
        inner.delivery.tidy(|channel| inner.view.stats(channel).is_some());
        if !broker.leads() || broker.refusal().is_some() {
            continue;
        }
        let now = inner.env.clock.now_ms();
        let time_ms = now.max(inner.view.time_ms());
        let idle = applied == inner.view.applied();
        applied = inner.view.applied();
        let command = if Instant::now() >= checkpoint_due && applied > checkpointed {
            checkpoint_due = Instant::now() + CHECKPOINT;
            checkpointed = applied + 1; // its own entry is no reason for another one
            Command::Checkpoint { time_ms }
        } else if idle && inner.view.next_expiry_ms().is_some_and(|expiry| expiry <= now) {
            Command::Tick { time_ms }
        } else {
            continue;
        };
        if let Err(error) = inner.sequencer.propose(command).await {
            tracing::debug!(%error, "housekeeping was not ordered");
        }
    }
}
