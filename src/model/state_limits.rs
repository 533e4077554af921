//! Limits by which every node has to judge alike, because what they refuse is state: the log says them, and not each node's
//! configuration.

use serde::{Deserialize, Serialize};

use super::Limits;

/// Such limits, as the log says them. Those of idempotency keys are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in the configuration")]
pub struct StateLimits {
    pub channels: u64,
    pub rules: u64,
    pub claim_namespaces: u64,
    pub live_claims: u64,
    pub consumers: u64,
    pub consumers_per_channel: u64,
    pub consumer_pending: u64,
    pub delayed_messages: u64,
    pub delayed_bytes: u64,
}

impl StateLimits {
    /// What holds before the log says anything: what every configuration that said nothing meant when the log began to say
    /// it. It never changes.
    pub const BEFORE_ANY: Self = Self {
        channels: 100_000,
        rules: 1_000,
        claim_namespaces: 1_000,
        live_claims: 1_000_000,
        consumers: 100_000,
        consumers_per_channel: 50_000,
        consumer_pending: 10_000,
        delayed_messages: 100_000,
        delayed_bytes: 256 << 20,
    };
}

impl From<&Limits> for StateLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            channels: limits.channels,
            rules: limits.rules,
            claim_namespaces: limits.claim_namespaces,
            live_claims: limits.live_claims,
            consumers: limits.consumers,
            consumers_per_channel: limits.consumers_per_channel,
            consumer_pending: limits.consumer_pending,
            delayed_messages: limits.delayed_messages,
            delayed_bytes: limits.delayed_bytes as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limits_need_not_be_in_the_log() {
        assert_eq!(StateLimits::from(&Limits::default()), StateLimits::BEFORE_ANY);
    }
}
