//! Names one delivery of a message to a member, so that it can be settled later, and elsewhere.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ChannelId, ConsumerId, Position};

/// Names one handing-out of one message.
///
/// As a text it is `<seq>.<attempt>.<member>.<consumer>.<channel>.<epoch>.<history>`, which is only meant to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryToken {
    /// The message.
    pub seq: u64,
    /// Which time it was.
    pub attempt: u32,
    /// To whom.
    pub member: u64,
    /// Of what; none where an earlier version handed it out. It is not in the log: a settlement names the consumer there by its
    /// id, which no other one gets in the same history, and is judged before.
    #[serde(skip)]
    pub of: Option<DeliveryOrigin>,
}

/// What a delivery is of. A message is known by its number in one history only, and an id names a consumer in one history only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryOrigin {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The message's place in its channel's history.
    pub position: Position,
}

impl fmt::Display for DeliveryToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, attempt, member, of } = self;
        write!(f, "{seq}.{attempt}.{member}")?;
        match of {
            Some(DeliveryOrigin { consumer, position: Position { channel, epoch, history, .. } }) => {
                write!(f, ".{}.{}.{epoch}.{history:08x}", consumer.0, channel.0)
            }
            None => Ok(()),
        }
    }
}

/// A text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no delivery token: send back the one that came with the message")]
pub struct InvalidToken {
    text: String,
}

impl FromStr for DeliveryToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let parse = || {
            let parts: Vec<&str> = text.splitn(8, '.').collect();
            let ([seq, attempt, member], of) = parts.split_first_chunk::<3>()?;
            let seq = seq.parse().ok()?;
            let of = match of {
                [] => None,
                [consumer, channel, epoch, history] => {
                    let history = Some(*history).filter(|history| history.len() == 8);
                    let position = Position {
                        channel: ChannelId(channel.parse().ok()?),
                        epoch: epoch.parse().ok()?,
                        history: u32::from_str_radix(history?, 16).ok()?,
                        seq,
                    };
                    Some(DeliveryOrigin { consumer: ConsumerId(consumer.parse().ok()?), position })
                }
                _ => return None,
            };
            Some(Self { seq, attempt: attempt.parse().ok()?, member: member.parse().ok()?, of })
        };
        parse().ok_or_else(|| InvalidToken { text: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_nothing_else_does() {
        let position = Position { channel: ChannelId(9), epoch: 2, history: 0x2a, seq: 3 };
        let of = Some(DeliveryOrigin { consumer: ConsumerId(4), position });
        let token = DeliveryToken { seq: 3, attempt: 1, member: 7, of };
        assert_eq!(token.to_string(), "3.1.7.4.9.2.0000002a");
        assert_eq!("3.1.7.4.9.2.0000002a".parse(), Ok(token));
        assert_eq!("3.1.7".parse(), Ok(DeliveryToken { of: None, ..token }), "as an earlier version handed it out");
        for text in
            ["", "3", "3.1", "3.1.7.4", "3.1.7.4.9.2", "3.1.7.4.9.2.2a", "3.1.7.4.9.2.0000002a.1", "3.1.x", "3.1.7."]
        {
            assert!(text.parse::<DeliveryToken>().is_err(), "{text}");
        }
    }
}
