//! Creates what the configuration says should be there, as soon as the cluster can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    broker::{Broker, BrokerError},
    config::ServerConfig,
};

/// How soon the creation of a channel is tried again.
const CREATE_RETRY: Duration = Duration::from_millis(100);

/// Creates the channels and rules of the configuration as soon as the cluster can.
pub(super) async fn create_channels(broker: Broker, config: ServerConfig, done: Arc<AtomicBool>) {
    for channel in &config.channels {
        loop {
            match broker.create_configured(channel, config.base_dir.as_deref()).await {
                Ok(()) => break,
                Err(error) if passes(&error) => tokio::time::sleep(CREATE_RETRY).await,
                Err(error) => {
                    tracing::error!(%error, channel = channel.name, "cannot create a channel of the configuration");
                    break;
                }
            }
        }
    }
    for rule in &config.routing_rules {
        loop {
            match broker.create_configured_rule(rule).await {
                Ok(()) => break,
                Err(error) if passes(&error) => tokio::time::sleep(CREATE_RETRY).await,
                Err(error) => {
                    let (source, target) = (&rule.source_channel, &rule.target_channel);
                    tracing::error!(%error, source, target, "cannot create a rule of the configuration");
                    break;
                }
            }
        }
    }
    done.store(true, Ordering::Release);
}

/// Whether an error says something of the moment only.
fn passes(error: &BrokerError) -> bool {
    let moment = matches!(error, BrokerError::NoLeader { .. } | BrokerError::NoMajority { .. });
    moment || matches!(error, BrokerError::OutcomeUnknown { .. } | BrokerError::StoreFailed { .. })
}
