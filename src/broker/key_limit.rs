//! The limit of idempotency keys, for as long as this node leads.
//!
//! What the leader's configuration says holds on every node once it is in the log. One that somebody chose is written down
//! at once, because other nodes may have another one. The default is written down when keys come near to what holds now, and
//! not before: most clusters never do, and an entry less is an entry less.

use std::time::Duration;

use super::{Broker, Leader};
use crate::{
    machine::{LiveKeys, MostKeys},
    model::{Limits, Operation},
};

/// From so many of the keys that a channel may have on, its operator is warned.
const NEAR_PERCENT: u128 = 80;

/// How often the counts are looked at. Half of a million keys do not come in a second.
const LOOK: Duration = Duration::from_secs(1);
/// Looking at many channels takes longer, so it is done less often.
const LOOK_AT: usize = 100_000;

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
        let (live_keys, all_keys) = broker.limits().most_keys();
        let wanted = MostKeys { live_keys, all_keys };
        if is_due(inner.view.live_keys(), wanted)
            && broker.refusal().is_none()
            && let Err(error) = broker.submit_operation(Operation::LimitKeys { live_keys, all_keys }).await
        {
            tracing::debug!(?error, "the limit of idempotency keys was not written down");
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
        let LiveKeys { all, most, limit: held, written } = self.inner.view.live_keys();
        let (limit, all_limit) = if written { (held.live_keys, held.all_keys) } else { self.limits().most_keys() };
        let near = |keys: u64, limit: u64| u128::from(keys) * 100 >= u128::from(limit) * NEAR_PERCENT;
        if near(all, all_limit) {
            return Some(format!(
                "all channels together have {all} idempotency keys in their windows, of {all_limit} that they may have \
                 (limits.key_memory): raise the limit, or shorten windows (`liminal channel list` shows KEYS and DEDUP)"
            ));
        }
        near(most, limit).then(|| {
            format!(
                "a channel has {most} idempotency keys in its window, of {limit} that it may have (limits.live_keys): \
                 raise the limit, or shorten the window of the channel (`liminal channel list` shows KEYS and DEDUP)"
            )
        })
    }
}

/// Whether a limit is not in the log that somebody chose, or one that is not the wanted one will soon be felt.
fn is_due(LiveKeys { all, most, limit, written }: LiveKeys, wanted: MostKeys) -> bool {
    let (live_keys, all_keys) = Limits::default().most_keys();
    let chosen = wanted != MostKeys { live_keys, all_keys };
    let felt = |keys: u64, holds: u64, wanted: u64| holds != wanted && keys >= holds.min(wanted) / 2;
    chosen && (!written || limit != wanted)
        || felt(most, limit.live_keys, wanted.live_keys)
        || felt(all, limit.all_keys, wanted.all_keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_written_down_when_there_are_half_of_the_keys_that_there_may_be() {
        let (live_keys, all_keys) = Limits::default().most_keys();
        let default = MostKeys { live_keys, all_keys };
        let with =
            |most, held| LiveKeys { all: most, most, limit: MostKeys { live_keys: held, all_keys }, written: true };
        assert!(!is_due(with(499, 1_000), default));
        assert!(is_due(with(500, 1_000), default));
        assert!(is_due(with(live_keys / 2, 1 << 30), default), "a lower one too");
        assert!(!is_due(with(live_keys, live_keys), default));
        let unlimited = MostKeys { live_keys, all_keys: u64::MAX };
        let with = |all| LiveKeys { all, most: 1, limit: unlimited, written: false };
        assert!(!is_due(with(all_keys / 2 - 1), default));
        assert!(is_due(with(all_keys / 2), default), "all channels' too");
    }

    #[test]
    fn a_limit_that_was_chosen_is_written_down_at_once_and_the_default_is_not() {
        let (live_keys, all_keys) = Limits::default().most_keys();
        let default = MostKeys { live_keys, all_keys };
        let chosen = MostKeys { live_keys: 5, ..default };
        let with = |limit, written| LiveKeys { all: 0, most: 0, limit, written };
        assert!(is_due(with(chosen, false), chosen));
        assert!(!is_due(with(chosen, true), chosen));
        assert!(is_due(with(default, true), chosen), "also in the place of another one");
        assert!(!is_due(with(default, false), default));
    }
}
