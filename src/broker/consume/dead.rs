//! Dead letters: on the leader, messages whose last attempt came to nothing go to their consumer's dead-letter channel.
//! The machine appends the letter and settles the message in one step, so there is exactly one, whoever tries again. What
//! the channel refuses stays dead in its consumer, where it is counted, and is tried again from time to time, one letter
//! of a consumer at a time, so that it costs little and holds up no other consumer's letters.

use std::{collections::HashMap, time::Duration};

use futures::future::join_all;
use tokio::time::Instant;

use super::{
    super::{Broker, BrokerError, Leader, leader::RETRY, routing::Judged},
    letters::{Dead, mark},
};
use crate::model::{ChannelConfig, ConsumerId, ConsumerOperation, Frame, Operation, PublishGroup, Refusal, stream_key};

/// Letters that are under way at once.
const AT_ONCE: usize = 64;
/// Bytes of them.
const BYTES: usize = 4 << 20;
/// A letter that cannot be written is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// A consumer whose last letter was refused.
struct Stuck {
    /// When to try again.
    until: Instant,
    /// With the first dead message after this one.
    after: u64,
}

pub(in crate::broker) async fn run(broker: Broker) {
    let view = broker.inner.view.clone();
    let mut leader = broker.inner.sequencer.leader();
    let mut stuck: HashMap<ConsumerId, Stuck> = HashMap::new();
    loop {
        if leader.wait_for(|leader| matches!(leader, Leader::Local { .. })).await.is_err() {
            return; // the node is stopping
        }
        let applied = view.applied();
        let dead = find(&broker, &stuck);
        if dead.is_empty() {
            let again = stuck.values().map(|stuck| stuck.until).min();
            let again = async {
                match again {
                    Some(again) => tokio::time::sleep_until(again).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = view.wait_applied(applied + 1) => {}
                () = again => {}
                _ = leader.changed() => {}
            }
            // A busy node has new entries all the time, and hardly ever a dead message.
            tokio::time::sleep(RETRY).await;
            // Those that have nothing dead any longer are forgotten.
            stuck.retain(|id, _| view.consumers(|all| all.dying().any(|(consumer, _)| consumer == *id)));
            continue;
        }
        if let Err(error) = bury(&broker, dead, &mut stuck).await {
            tracing::warn!(%error, "a dead message could not be written to its dead-letter channel yet");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Of a consumer whose last letter was refused one at a time, when it is time for that.
fn find(broker: &Broker, stuck: &HashMap<ConsumerId, Stuck>) -> Vec<Dead> {
    let (view, now) = (&broker.inner.view, Instant::now());
    let found: Vec<_> = view.consumers(|all| {
        let due = all.dying_of_each().filter_map(|(id, dying)| match stuck.get(&id) {
            Some(stuck) if stuck.until > now => None,
            Some(stuck) => {
                let next = dying.clone().find(|seq| *seq > stuck.after).or_else(|| dying.clone().next())?;
                Some((id, vec![next]))
            }
            None => Some((id, dying.take(AT_ONCE).collect())),
        });
        let due = due.flat_map(|(id, dying)| dying.into_iter().map(move |seq| (id, seq))).take(AT_ONCE);
        due.filter_map(|(id, seq)| {
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

async fn bury(broker: &Broker, dead: Vec<Dead>, stuck: &mut HashMap<ConsumerId, Stuck>) -> Result<(), BrokerError> {
    let mut under_way = Vec::new();
    let mut bytes = 0;
    for dead in dead {
        let letter = match letter(broker, &dead).await {
            Ok(letter) => letter,
            Err(refused) => {
                refuse(stuck, &dead, &refused);
                continue;
            }
        };
        bytes += letter.as_ref().map_or(0, |letter| letter.frame.len());
        let operation = ConsumerOperation::DeadLetter { consumer: dead.consumer, seq: dead.seq, letter };
        let operation = ConsumerOperation::Judged { operation: Box::new(operation), settle_skipped: false };
        let operation = Operation::Consumer(operation);
        let operated = broker.submit_operation(operation);
        under_way.push(async { (dead, operated.await) });
        if bytes > BYTES {
            break;
        }
    }
    for (dead, operated) in join_all(under_way).await {
        let operated = operated.map_err(|error| BrokerError::OutcomeUnknown { reason: format!("{error:?}") })?;
        match operated.reply {
            // Or not dead any more, acknowledged at the last moment: nothing is left to do.
            Ok(_) | Err(Refusal::NotDead | Refusal::NoSuchConsumer) => drop(stuck.remove(&dead.consumer)),
            Err(refusal) => refuse(stuck, &dead, &BrokerError::Internal { reason: refusal.to_string() }),
        }
    }
    Ok(())
}

fn refuse(stuck: &mut HashMap<ConsumerId, Stuck>, dead: &Dead, why: &BrokerError) {
    let Dead { consumer, name, seq, channel, target, .. } = dead;
    let channel = &channel.name;
    tracing::warn!(
        %channel, consumer = name, seq, %target, %why,
        "a dead message could not be written to its dead-letter channel: it stays with its consumer and is tried again"
    );
    stuck.insert(*consumer, Stuck { until: Instant::now() + AGAIN, after: *seq });
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
    mark(&mut message, dead)?;
    let mut routing = broker.routing(target.id);
    routing.add(broker, 0, &message, Judged::Here)?;
    Ok(Some(PublishGroup {
        channel: target.id,
        rules_version: routing.version(),
        routes: routing.finish(),
        frame: Frame::encode([&message]),
        ..PublishGroup::default()
    }))
}
