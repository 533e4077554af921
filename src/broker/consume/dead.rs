//! Dead letters: on the leader, messages whose last attempt came to nothing go to their consumer's dead-letter channel.
//! The machine appends the letter and settles the message in one step, so there is exactly one, whoever tries again.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::super::{Broker, BrokerError, Leader, publish::RETRY};
use crate::{
    model::{
        ChannelConfig, ChannelMeta, ChannelName, ConsumerId, ConsumerOperation, Frame, Operation, PublishGroup,
        stream_key,
    },
    proto::v1::Header,
};

/// Letters that are under way at once.
const AT_ONCE: usize = 64;
/// Bytes of them.
const BYTES: usize = 4 << 20;
/// A letter that cannot be written is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// How the names of a dead letter's own headers begin.
const PREFIX: &str = "liminal-dead-letter-";

/// A dead message, and what is known of it.
struct Dead {
    consumer: ConsumerId,
    name: String,
    seq: u64,
    attempts: u32,
    reason: String,
    channel: Arc<ChannelMeta>,
    target: ChannelName,
}

pub(in crate::broker) async fn run(broker: Broker) {
    let view = broker.inner.view.clone();
    let mut leader = broker.inner.sequencer.leader();
    loop {
        if leader.wait_for(|leader| matches!(leader, Leader::Local { .. })).await.is_err() {
            return; // the node is stopping
        }
        let applied = view.applied();
        let dead = find(&broker);
        if dead.is_empty() {
            tokio::select! {
                () = view.wait_applied(applied + 1) => {}
                _ = leader.changed() => {}
            }
            // A busy node has new entries all the time, and hardly ever a dead message.
            tokio::time::sleep(RETRY).await;
            continue;
        }
        if let Err(error) = bury(&broker, dead).await {
            tracing::warn!(%error, "a dead message could not be written to its dead-letter channel yet");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn find(broker: &Broker) -> Vec<Dead> {
    let view = &broker.inner.view;
    let found: Vec<_> = view.consumers(|all| {
        let some = all.dying().take(AT_ONCE);
        some.filter_map(|(id, seq)| {
            let consumer = all.get(id)?;
            let (meta, pending) = (consumer.meta(), consumer.pending().get(&seq)?.clone());
            Some((id, seq, meta.name.to_string(), meta.channel, meta.config.dead_letter.clone()?, pending))
        })
        .collect()
    });
    let described = found.into_iter().filter_map(|(consumer, seq, name, channel, target, pending)| {
        let channel = view.meta(channel)?;
        let reason = pending.failure.map_or_else(String::new, |failure| failure.to_string());
        Some(Dead { consumer, name, seq, attempts: pending.attempts, reason, channel, target })
    });
    described.collect()
}

async fn bury(broker: &Broker, dead: Vec<Dead>) -> Result<(), BrokerError> {
    let mut under_way = Vec::new();
    let mut bytes = 0;
    for dead in dead {
        let letter = letter(broker, &dead).await?;
        bytes += letter.as_ref().map_or(0, |letter| letter.frame.bytes().len());
        let operation = ConsumerOperation::DeadLetter { consumer: dead.consumer, seq: dead.seq, letter };
        under_way.push(broker.submit_operation(Operation::Consumer(operation)));
        if bytes > BYTES {
            break;
        }
    }
    for operated in join_all(under_way).await {
        let failed = match operated {
            // Not dead any more, acknowledged at the last moment: nothing is left to do.
            Ok(operated) => operated.reply.err().filter(|refusal| *refusal != crate::model::Refusal::NotDead),
            Err(error) => return Err(BrokerError::OutcomeUnknown { reason: format!("{error:?}") }),
        };
        if let Some(refusal) = failed {
            return Err(BrokerError::Internal { reason: refusal.to_string() });
        }
    }
    Ok(())
}

/// None when the message itself is gone.
async fn letter(broker: &Broker, dead: &Dead) -> Result<Option<PublishGroup>, BrokerError> {
    let target = match broker.find(dead.target.as_str()) {
        Ok(target) => target,
        // Deleted since: rather a channel that nobody expects than a message that nobody has.
        Err(_) => broker.create_channel(dead.target.as_str(), ChannelConfig::default()).await?.meta,
    };
    let key = stream_key(dead.channel.name.as_str());
    let found = broker.store().read_batches(&key, dead.seq, 1).await.map_err(|error| broker.store_error(&error))?;
    let record = found.first().filter(|batch| batch.first_seq == dead.seq);
    let Some(message) = record.and_then(|batch| batch.frame.messages().next()) else { return Ok(None) };
    let mut message = message.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
    message.ttl_ms = 0;
    message.headers.retain(|header| !header.name.starts_with(PREFIX));
    message.headers.extend(headers(dead));
    let frame = Frame::encode([&message]);
    Ok(Some(PublishGroup {
        channel: target.id,
        schema_id: target.schema_id,
        rules_version: broker.inner.view.catalog().rules().version,
        frame,
        ..PublishGroup::default()
    }))
}

fn headers(dead: &Dead) -> impl Iterator<Item = Header> {
    let said = [
        ("reason", dead.reason.clone()),
        ("channel", dead.channel.name.to_string()),
        ("seq", dead.seq.to_string()),
        ("consumer", dead.name.clone()),
        ("attempts", dead.attempts.to_string()),
    ];
    said.into_iter().map(|(name, value)| Header { name: format!("{PREFIX}{name}"), value })
}
