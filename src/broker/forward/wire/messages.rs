//! Requests and answers of brokers, each with what is its own.

use super::{Kinds, Misread, Wire, choices, kinds, only_kinds, peer, records, required};
use crate::broker::{
    BrokerError, Confirm, Outcome,
    delivery::{ChannelReport, Place},
    forward::{Deliveries, Request, Response},
    operation_queue::Operated,
};

choices! {
    Confirm { Commit, Delivery, Certainty }
}

records! {
    Outcome = Outcome { seq, duplicate, delivered, term, scheduled_ms, position }
    ChannelReport = ChannelReport { channel, place, handed, known_from }
    Place = Place { passed, lagging }
}

kinds! { Request in request {
    unit [ReadIndex, PassTime]
    one [Channel, Operate]
    list [Interest = Interest.reports]
    with [
        Publish = Publish { confirm; group },
        SeatMember = SeatMember { consumer, member, window, once },
        ForgetMember = ForgetMember { consumer, member },
        Transact = Transact { confirm; transaction },
        Reply = Reply { reply; token },
        Listens = Listens { channel },
    ]
} }

kinds! { Response in response {
    unit [NotProposed, Stale, Done, NoInbox]
    one [Published, Unknown, Refused, Index, Operated, Listens]
    with [Transacted = Transacted { delivered; operated }]
} }

only_kinds!(Request, Response);

impl Wire for Vec<Result<Outcome, BrokerError>> {
    type Message = peer::Published;

    fn to_wire(&self) -> peer::Published {
        let mut published = peer::Published::default();
        for (position, result) in (0u32..).zip(self) {
            match result {
                Ok(outcome) => published.outcomes.push(outcome.to_wire()),
                Err(error) => {
                    published.errors.push(peer::PublishError { position, error: Some(error.to_wire()) });
                }
            }
        }
        published
    }

    fn from_wire(message: peer::Published) -> Result<Self, Misread> {
        let mut results = Self::with_capacity(message.outcomes.len() + message.errors.len());
        let mut outcomes = message.outcomes.into_iter();
        for peer::PublishError { position, error } in message.errors {
            while results.len() < position as usize {
                let outcome = outcomes.next().ok_or_else(|| {
                    Misread::Malformed(format!("message {position} has an error, but there are not so many messages"))
                })?;
                results.push(Ok(Wire::from_wire(outcome)?));
            }
            results.push(Err(required(error, "error")?));
        }
        for outcome in outcomes {
            results.push(Ok(Wire::from_wire(outcome)?));
        }
        Ok(results)
    }
}

impl Wire for Operated {
    type Message = peer::Operated;

    fn to_wire(&self) -> peer::Operated {
        let Self { index, term, reply } = self;
        let kind = match reply {
            Ok(reply) => peer::operated::Kind::Reply(reply.to_wire()),
            Err(refusal) => peer::operated::Kind::Refusal(refusal.to_wire()),
        };
        peer::Operated { index: *index, term: *term, kind: Some(kind) }
    }

    fn from_wire(message: peer::Operated) -> Result<Self, Misread> {
        let peer::Operated { index, term, kind } = message;
        let reply = match kind.ok_or_else(|| Misread::unknown("Operated"))? {
            peer::operated::Kind::Reply(reply) => Ok(Wire::from_wire(reply)?),
            peer::operated::Kind::Refusal(refusal) => Err(Wire::from_wire(refusal)?),
        };
        Ok(Self { index, term, reply })
    }
}

impl Wire for Deliveries {
    type Message = peer::Deliveries;

    fn to_wire(&self) -> peer::Deliveries {
        let said = |delivered: &Option<bool>| match delivered {
            None => peer::Delivered::Unspecified,
            Some(true) => peer::Delivered::Yes,
            Some(false) => peer::Delivered::No,
        };
        peer::Deliveries { messages: self.0.iter().map(|delivered| said(delivered).into()).collect() }
    }

    fn from_wire(message: peer::Deliveries) -> Result<Self, Misread> {
        let heard = |number: i32| match peer::Delivered::try_from(number) {
            Ok(peer::Delivered::Yes) => Some(true),
            Ok(peer::Delivered::No) => Some(false),
            Ok(peer::Delivered::Unspecified) | Err(_) => None,
        };
        Ok(Self(message.messages.into_iter().map(heard).collect()))
    }
}
