//! Keeps the leader knowing of a member for as long as the member lives, whatever its reader does meanwhile: a member that
//! is not heard of is taken for lost, and its messages go to others.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::super::{
    Broker, BrokerError,
    forward::{Request, Response},
    leader::RETRY,
};
use crate::model::ConsumerId;

/// A member that is not heard of for so long is forgotten.
pub(super) const LEASE: Duration = Duration::from_secs(6);

/// How long the leader may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Tells the leader of a member until it is dropped.
pub(super) struct Presence {
    window: watch::Sender<u32>,
    refused: watch::Receiver<Option<BrokerError>>,
    task: AbortHandle,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Presence {
    pub(super) fn begin(broker: &Broker, consumer: ConsumerId, member: u64, window: u32, once: bool) -> Self {
        let (refusal, refused) = watch::channel(None);
        let (window, mut wanted) = watch::channel(window);
        let of_task = broker.for_tasks();
        let announced = async move {
            let broker = of_task;
            let mut leader = broker.inner.sequencer.leader();
            loop {
                let (to, window) = (leader.borrow_and_update().clone(), *wanted.borrow_and_update());
                let seat = Request::SeatMember { consumer, member, window, once };
                let again = match broker.ask(&to, &seat, Instant::now() + ANSWER).await {
                    Response::Done => LEASE / 3,
                    Response::Refused(error @ BrokerError::LimitExceeded { .. }) => {
                        refusal.send_replace(Some(error));
                        return;
                    }
                    _ => RETRY,
                };
                tokio::select! {
                    () = sleep(again) => {}
                    changed = wanted.changed() => if changed.is_err() { return },
                    changed = leader.changed() => if changed.is_err() { return },
                }
            }
        };
        let stopping = broker.inner.stopping.clone();
        let task = broker.inner.tasks.spawn(stopping.run_until_cancelled_owned(announced)).abort_handle();
        Self { window, refused, task }
    }

    /// How many messages the member takes from now on, those that it has included.
    pub(super) fn set_window(&self, window: u32) {
        self.window.send_if_modified(|present| std::mem::replace(present, window) != window);
    }

    /// Waits until the leader does not let the member in.
    pub(super) async fn refused(&mut self) -> BrokerError {
        match self.refused.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // The task ends otherwise only with the broker, of which the member hears by itself.
            _ => std::future::pending().await,
        }
    }
}
