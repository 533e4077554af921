//! What the headers of a dead letter say: where the message died, why, and where it had died before. A letter that is
//! redriven keeps its history and says how often it was; so whoever gets it knows, and one that dies each time goes round
//! no more often than [`MOST_HOPS`] allows.

use std::sync::Arc;

use liminal_wire::headers::DEAD_LETTER_PREFIX as PREFIX;
pub use liminal_wire::headers::REDRIVEN;

use super::super::{Broker, BrokerError};
use crate::{
    model::{ChannelMeta, ChannelName, ConsumerId, StoredBatch},
    proto::v1::{self, Header, Message},
};

/// How often a message may die. Channels whose letters come back to them cannot be made, but rules, programs and redrives
/// may send a letter anywhere; at this bound it goes no further.
const MOST_HOPS: usize = 16;
/// The headers that tell of the newest death.
const NEWEST: [&str; 5] = ["channel", "seq", "consumer", "attempts", "reason"];

/// A dead message, and what is known of it.
pub(super) struct Dead {
    pub(super) consumer: ConsumerId,
    pub(super) name: String,
    pub(super) seq: u64,
    pub(super) attempts: u32,
    pub(super) reason: String,
    pub(super) channel: Arc<ChannelMeta>,
    pub(super) target: ChannelName,
}

/// A dead letter as it lies in its channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Its place in the dead-letter channel.
    pub seq: u64,
    /// When it was written, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Bytes of the message with its headers.
    pub bytes: u64,
    /// Its place in the channel in which the message died.
    pub origin_seq: u64,
    /// How often work on it was begun.
    pub attempts: u32,
    /// Why the last attempt came to nothing.
    pub reason: String,
    /// How often the message has died.
    pub hops: u32,
    /// How often it was redriven.
    pub redriven: u32,
    /// The message with all its headers.
    pub message: Message,
}

impl Letter {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::DeadLetter {
        let Self { seq, time_ms, bytes, origin_seq, attempts, reason, hops, redriven, message } = self.clone();
        let message = Some(message);
        v1::DeadLetter { seq, time_ms, bytes, origin_seq, attempts, reason, hops, redriven, message }
    }

    /// The messages of a batch that are letters of one consumer; none in the place of what is something else.
    pub(super) fn read(
        broker: &Broker,
        batch: &StoredBatch,
        channel: &str,
        consumer: &str,
    ) -> Result<Vec<(u64, u64, Option<Self>)>, BrokerError> {
        let time_ms = broker.inner.view.time_of_day(batch.time_ms);
        let messages = batch.frame.messages().zip(batch.frame.sizes());
        let read = (batch.first_seq..).zip(messages).map(|(seq, (message, bytes))| {
            let message = message.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
            let is_of = said(&message, "channel") == channel && said(&message, "consumer") == consumer;
            Ok((seq, bytes, is_of.then(|| Self::of(seq, time_ms, bytes, message))))
        });
        read.collect()
    }

    fn of(seq: u64, time_ms: u64, bytes: u64, message: Message) -> Self {
        let number = |name: &str| said(&message, name).parse().unwrap_or_default();
        let (attempts, hops) = (number("attempts"), number("hops"));
        let origin_seq = said(&message, "seq").parse().unwrap_or_default();
        let (reason, redriven) = (said(&message, "reason").to_owned(), redriven(&message));
        Self { seq, time_ms, bytes, origin_seq, attempts, reason, hops, redriven, message }
    }

    /// The message as it is redriven. It has its own headers and its key, says how often it was redriven and died, and keeps
    /// the history.
    ///
    /// # Errors
    /// `InvalidArgument` when it has died so often that another letter of it could not be written.
    pub(super) fn reborn(&self) -> Result<Message, BrokerError> {
        if self.hops as usize >= MOST_HOPS {
            let reason = format!(
                "the message has died {} times, and may die no more often: find out why, publish it anew, and remove the \
                 letter",
                self.hops
            );
            return Err(BrokerError::InvalidArgument { reason });
        }
        let mut message = self.message.clone();
        let history = line(&message);
        let newest = NEWEST.map(|name| format!("{PREFIX}{name}"));
        message.headers.retain(|header| header.name != REDRIVEN && !newest.contains(&header.name));
        message.headers.extend(history.map(|value| Header { name: format!("{PREFIX}history"), value }));
        message.headers.push(Header { name: REDRIVEN.to_owned(), value: self.redriven.saturating_add(1).to_string() });
        Ok(message)
    }
}

fn said<'a>(message: &'a Message, name: &str) -> &'a str {
    let named = |header: &&Header| header.name.strip_prefix(PREFIX) == Some(name);
    message.headers.iter().find(named).map_or("", |header| header.value.as_str())
}

fn redriven(message: &Message) -> u32 {
    let header = message.headers.iter().find(|header| header.name == REDRIVEN);
    header.and_then(|header| header.value.parse().ok()).unwrap_or_default()
}

/// The newest death as a line of the history; none where the message has none.
fn line(message: &Message) -> Option<String> {
    let [channel, seq, consumer, attempts, reason] = NEWEST.map(|name| said(message, name));
    let told = || format!("{channel}@{seq} consumer={consumer} attempts={attempts} reason={reason}");
    (!channel.is_empty()).then(told)
}

/// Says in a message's headers where it died and why, and where it had died before, oldest first.
pub(super) fn mark(message: &mut Message, dead: &Dead) -> Result<(), BrokerError> {
    let history_name = format!("{PREFIX}history");
    let mut history: Vec<String> = message
        .headers
        .iter()
        .filter(|header| header.name == history_name)
        .map(|header| header.value.clone())
        .collect();
    history.extend(line(message));
    let hops = history.len() + 1;
    if hops > MOST_HOPS {
        let reason = format!(
            "message {} of `{}` has died {MOST_HOPS} times in as many places: its letters go round; end the circle, or \
             have the consumer drop its dead",
            dead.seq, dead.channel.name
        );
        return Err(BrokerError::InvalidArgument { reason });
    }
    message.headers.retain(|header| !header.name.starts_with(PREFIX));
    let said = [
        ("reason", dead.reason.clone()),
        ("channel", dead.channel.name.to_string()),
        ("seq", dead.seq.to_string()),
        ("consumer", dead.name.clone()),
        ("attempts", dead.attempts.to_string()),
        ("hops", hops.to_string()),
    ];
    let said = said.into_iter().chain(history.into_iter().map(|hop| ("history", hop)));
    message.headers.extend(said.map(|(name, value)| Header { name: format!("{PREFIX}{name}"), value }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelConfig, ChannelId};

    fn dead(channel: &str, seq: u64) -> Dead {
        let name: ChannelName = channel.parse().unwrap();
        let (id, config) = (ChannelId(1), ChannelConfig::default());
        let channel = Arc::new(ChannelMeta { id, name: name.clone(), config, schema_id: 0, created_ms: 0 });
        let (consumer, reason) = (ConsumerId(1), "nacked: no".to_owned());
        Dead { consumer, name: "w".into(), seq, attempts: 3, reason, channel, target: name }
    }

    #[test]
    fn a_letter_keeps_its_history_and_goes_no_further_than_the_bound() {
        let mut message = Message { payload: "x".into(), ..Message::default() };
        let headers = |message: &Message, name: &str| -> Vec<String> {
            let name = format!("{PREFIX}{name}");
            message.headers.iter().filter(|header| header.name == name).map(|header| header.value.clone()).collect()
        };
        for hop in 0..MOST_HOPS as u64 {
            mark(&mut message, &dead("a", hop)).unwrap();
            assert_eq!(headers(&message, "seq"), [hop.to_string()]);
            assert_eq!(headers(&message, "hops"), [(hop + 1).to_string()]);
            assert_eq!(headers(&message, "history").len() as u64, hop);
        }
        assert_eq!(headers(&message, "history")[0], "a@0 consumer=w attempts=3 reason=nacked: no");
        let before = message.clone();
        assert!(mark(&mut message, &dead("a", 99)).unwrap_err().to_string().contains("16 times"));
        assert_eq!(message, before);
    }

    #[test]
    fn a_letter_that_is_redriven_is_the_message_again_and_its_next_death_follows_the_last() {
        let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
        let mut message =
            Message { key: Some("k".into()), headers: vec![header("colour", "red")], ..Message::default() };
        for time in 1..=MOST_HOPS {
            mark(&mut message, &dead("a", time as u64)).unwrap();
            let letter = Letter::of(0, 0, 0, message.clone());
            assert_eq!((letter.hops as usize, letter.redriven as usize + 1, letter.attempts), (time, time, 3));
            let Ok(reborn) = letter.reborn() else {
                assert_eq!(time, MOST_HOPS);
                return;
            };
            assert_eq!((reborn.key(), &reborn.headers[0]), ("k", &header("colour", "red")));
            assert_eq!((said(&reborn, "channel"), redriven(&reborn) as usize), ("", time));
            let history = format!("{PREFIX}history");
            assert_eq!(reborn.headers.iter().filter(|header| header.name == history).count(), time);
            message = reborn;
        }
        panic!("it goes round for ever");
    }
}
