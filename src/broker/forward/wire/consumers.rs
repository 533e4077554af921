//! Operations on consumers, and their answers, as brokers say them.

use super::{Kinds, Misread, Wire, as_texts, kinds, only_kinds, peer, records, required};
use crate::model::{
    Begin, ConsumeOrder, ConsumerConfig, ConsumerMeta, ConsumerName, ConsumerOperation, ConsumerReply, ConsumerStatus,
    Cursor, DeliveryToken, Hand, OrderingKey, Settlement, Verdict,
};

as_texts!(ConsumerName);

records! {
    ConsumerConfig = ConsumerConfig { ack_timeout_ms, max_attempts, dead_letter, max_in_flight, filter; order }
    ConsumerMeta = ConsumerMeta { id, channel, name, created_ms; config }
    ConsumerStatus = ConsumerStatus { in_flight, waiting, dying, floor, lag, lost; meta, cursor }
    Cursor = Cursor { next, redelivered, dead }
    Hand = Hand { seq, member, key }
    Settlement = Settlement { ; token, verdict }
}

kinds! { Begin in begin { unit [Earliest, Latest] one [Seq] } }
kinds! { ConsumeOrder in consume_order { unit [None, Exclusive] one [Key] } }
kinds! { OrderingKey in ordering_key { unit [MessageKey] one [Header] } }
kinds! { Verdict in verdict { unit [Ack, AckUpTo, Extend, Return] with [Nack = Nack { delay_ms, reason }] } }
kinds! { ConsumerReply in consumer_reply { unit [Done] one [Consumer] with [Settled = Settled { stale }] } }
only_kinds!(Begin, ConsumeOrder, OrderingKey, Verdict, ConsumerReply);

kinds! { ConsumerOperation in consumer_operation {
    with [
        Create = CreateConsumer { channel, name; config, begin },
        Update = UpdateConsumer { consumer; config },
        Delete = DeleteConsumer { consumer },
        Reset = ResetConsumer { consumer; begin },
        Assign = Assign { consumer, next, until, hands, parked },
        Settle = Settle { consumer, settlements },
        Leave = Leave { consumer, member },
        DeadLetter = DeadLetter { consumer, seq, letter },
        AssignPast = AssignPast { consumer, next, until, hands, parked, deferred },
    ]
    apart [Self::Keeping(_), Self::Judged { .. }]
} }

impl Wire for ConsumerOperation {
    type Message = peer::ConsumerOperation;

    fn to_wire(&self) -> peer::ConsumerOperation {
        let (judgement, settle_skipped, operation) = match self {
            Self::Keeping(operation) => (peer::Judgement::Keeping, false, &**operation),
            Self::Judged { operation, settle_skipped } => (peer::Judgement::Judged, *settle_skipped, &**operation),
            operation => (peer::Judgement::Unspecified, false, operation),
        };
        peer::ConsumerOperation { judgement: judgement.into(), settle_skipped, kind: operation.kind() }
    }

    fn from_wire(message: peer::ConsumerOperation) -> Result<Self, Misread> {
        let peer::ConsumerOperation { judgement, settle_skipped, kind } = message;
        let operation = Self::of_kind(kind.ok_or_else(|| Misread::unknown("ConsumerOperation"))?)?;
        match peer::Judgement::try_from(judgement).map_err(|_| Misread::unknown("Judgement"))? {
            peer::Judgement::Unspecified => Ok(operation),
            peer::Judgement::Keeping => Ok(Self::Keeping(Box::new(operation))),
            peer::Judgement::Judged => Ok(Self::Judged { operation: Box::new(operation), settle_skipped }),
        }
    }
}

/// Of what it is a delivery was judged before: it is not said.
impl Wire for DeliveryToken {
    type Message = peer::DeliveryToken;

    fn to_wire(&self) -> peer::DeliveryToken {
        let Self { seq, attempt, member, of: _ } = *self;
        peer::DeliveryToken { seq, attempt, member }
    }

    fn from_wire(message: peer::DeliveryToken) -> Result<Self, Misread> {
        let peer::DeliveryToken { seq, attempt, member } = message;
        Ok(Self { seq, attempt, member, of: None })
    }
}

impl Wire for (u64, u64) {
    type Message = peer::Pair;

    fn to_wire(&self) -> peer::Pair {
        peer::Pair { first: self.0, second: self.1 }
    }

    fn from_wire(message: peer::Pair) -> Result<Self, Misread> {
        Ok((message.first, message.second))
    }
}
