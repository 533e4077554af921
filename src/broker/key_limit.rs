//! The limit of idempotency keys, for as long as this node leads.
//!
//! What the leader's configuration says holds on every node once it is in the log. It is written down when a channel comes
//! near to what holds now, and not before: most clusters never do, and an entry less is an entry less.

use std::time::Duration;

use super::{Broker, Leader};
use crate::{
    machine::LiveKeys,
    model::{Limits, Operation},
};

/// From so many of the keys that a channel may have on, its operator is warned.
const NEAR_PERCENT: u128 = 80;

/// How often the counts are looked at. Half of a million keys do not come in a second.
const LOOK: Duration = Duration::from_secs(1);
/// Looking at many channels takes longer, so it is done less often.
const LOOK_AT: usize = 10_000;

pub(super) async fn run(broker: Broker) {
    let inner = &broker.inner;
    let (mut leader, mut warned) = (inner.sequencer.leader(), false);
    loop {
        if !matches!(*leader.borrow_and_update(), Leader::Local { .. }) {
            if leader.changed().await.is_err() {
                return;
            }
            continue;
        }
        let wanted = broker.limits().live_keys.min(Limits::MOST_LIVE_KEYS);
        if is_due(inner.view.live_keys(), wanted) && broker.refusal().is_none() {
            if let Err(error) = broker.submit_operation(Operation::LimitKeys { live_keys: wanted }).await {
                tracing::debug!(?error, "the limit of idempotency keys was not written down");
            }
        }
        let warning = broker.near_key_limit();
        if let Some(warning) = warning.as_ref().filter(|_| !warned) {
            tracing::warn!("{warning}");
        }
        warned = warning.is_some();
        let channels = inner.view.catalog().len();
        tokio::time::sleep(LOOK * u32::try_from(1 + channels / LOOK_AT).unwrap_or(u32::MAX)).await;
    }
}

impl Broker {
    /// Says so when a channel has most of the idempotency keys that it may have: when it has all, messages with new keys
    /// are refused until old ones leave the window.
    pub fn near_key_limit(&self) -> Option<String> {
        let (most, limit) = (self.inner.view.live_keys().most, self.limits().live_keys);
        let near = u128::from(most) * 100 >= u128::from(limit) * NEAR_PERCENT;
        near.then(|| {
            format!(
                "a channel has {most} idempotency keys in its window, of {limit} that it may have (limits.live_keys): \
                 raise the limit, or shorten the window of the channel (`liminal channel list` shows KEYS and DEDUP)"
            )
        })
    }
}

/// Whether a limit that is not the wanted one will soon be felt.
fn is_due(LiveKeys { most, limit, .. }: LiveKeys, wanted: u64) -> bool {
    limit != wanted && most >= limit.min(wanted) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_written_down_when_a_channel_has_half_of_the_keys_that_it_may_have() {
        let with = |most, limit| LiveKeys { all: most, most, limit };
        assert!(!is_due(with(499, 1_000), 2_000));
        assert!(is_due(with(500, 1_000), 2_000));
        assert!(is_due(with(500, 2_000), 1_000), "a lower one too");
        assert!(!is_due(with(500, 1_000), 1_000));
    }
}
