//! Tells a remote leader whom this node serves, and what they were handed: see [`super::delivery`].

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Broker, Leader, NodeAddress,
    delivery::{Handed, Unheard, reports},
    forward::{Request, Response},
};

/// A node that has interest repeats it this often.
const REFRESH: Duration = Duration::from_secs(1);

/// Tells a remote leader of this node's interest and hand-offs, as they change.
pub(super) async fn report(broker: Broker) {
    let inner = &broker.inner;
    let mut leader = inner.sequencer.leader();
    let mut interest = inner.view.fanout().interest_changes();
    let mut handed = inner.delivery.to_report.subscribe();
    let mut told_of_any = false;
    let mut before = None;
    loop {
        let now = leader.borrow_and_update().clone();
        let another = before.as_ref() != Some(&now);
        if another {
            inner.delivery.lead(match &now {
                Leader::Local { term } => Some(*term),
                _ => None,
            });
        }
        before = Some(now.clone());
        interest.mark_unchanged();
        handed.mark_unchanged();
        if let Leader::Remote(node) = &now {
            let any = !inner.view.fanout().interest().is_empty();
            // A new leader is told of no interest too: it cannot know else.
            if any || told_of_any || another {
                told_of_any = any;
                broker.tell_interest(node).await;
            }
        } else {
            *inner.delivery.pending.lock() = Handed::default();
        }
        let refresh =
            async { if told_of_any { tokio::time::sleep(REFRESH).await } else { std::future::pending().await } };
        tokio::select! {
            changed = leader.changed() => if changed.is_err() { return },
            _ = interest.changed() => {}
            _ = handed.changed() => {}
            () = refresh => {}
        }
    }
}

impl Broker {
    /// One report to the leader; a lost one is made good by the next. Gives a log index up to which lies what the leader
    /// has acknowledged.
    pub(super) async fn tell_interest(&self, leader: &NodeAddress) -> Option<u64> {
        let inner = &self.inner;
        // Reports must not overtake each other, and what was handed before an interest went has to go with it.
        let _one_at_a_time = inner.delivery.reporting.lock().await;
        let interest = inner.view.fanout().interest();
        let mut unheard = Unheard::take(&inner.delivery);
        let request = Request::Interest(reports(&interest, &unheard.handed));
        if let Response::Index(applied) = self.ask_node(leader, &request, Instant::now() + REFRESH).await {
            unheard.handed = Handed::default();
            Some(applied)
        } else {
            tracing::debug!(leader = leader.name, "the leader did not take a report of interest");
            None
        }
    }
}
