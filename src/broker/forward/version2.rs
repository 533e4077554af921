//! Version 2 of the nodes' protocol, for as long as nodes of the version before this one may be in a cluster that is being
//! upgraded: all is said by its position, in the encoding of the disk. Nothing is ever changed here. What is said since
//! then is not for a node that speaks only this: it is asked nothing that it does not know, and told of errors in words.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Deliveries, Misread};
use crate::{
    broker::{
        self, BrokerError, Confirm, TransactionPart, Violation, channel_command::ChannelCommand,
        delivery::ChannelReport,
    },
    codec,
    model::{
        ChannelId, ClaimInfo, ConsumerId, Frame, Notice, Operation, OperationReply, PublishGroup, Refusal, Transaction,
    },
};

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Publish { group: PublishGroup, confirm: Confirm },
    ReadIndex,
    Channel(ChannelCommand),
    Interest(Vec<ChannelReport>),
    Operate(Operation),
    SeatMember { consumer: ConsumerId, member: u64, window: u32, once: bool },
    ForgetMember { consumer: ConsumerId, member: u64 },
    Transact { transaction: Transaction, confirm: Confirm },
    PassTime,
    Reply { token: u128, reply: Frame },
    Listens { channel: ChannelId },
}

/// An outcome without its position, which came later.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    seq: u64,
    duplicate: bool,
    delivered: Option<bool>,
    term: u64,
    scheduled_ms: Option<u64>,
}

impl From<Outcome> for broker::Outcome {
    fn from(outcome: Outcome) -> Self {
        let Outcome { seq, duplicate, delivered, term, scheduled_ms } = outcome;
        Self { seq, duplicate, delivered, term, scheduled_ms, position: None }
    }
}

impl From<broker::Outcome> for Outcome {
    fn from(outcome: broker::Outcome) -> Self {
        let broker::Outcome { seq, duplicate, delivered, term, scheduled_ms, position: _ } = outcome;
        Self { seq, duplicate, delivered, term, scheduled_ms }
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Response {
    Published(Vec<Result<Outcome, Error>>),
    NotProposed,
    Unknown(String),
    Stale,
    Refused(Error),
    Index(u64),
    Done,
    Operated(Operated),
    Transacted(Operated, Vec<Vec<Option<bool>>>),
    NoInbox,
    Listens(bool),
}

#[derive(Debug, Serialize, Deserialize)]
struct Operated {
    index: u64,
    term: u64,
    reply: Result<OperationReply, Refusal>,
}

/// The errors in their order, with the fields of each.
macro_rules! errors {
    (
        [$($first:ident { $($first_field:ident: $first_type:ty),* })*]
        InTransaction
        [$($next:ident { $($next_field:ident: $next_type:ty),* })*]
        HistoryChanged
        [$($last:ident { $($last_field:ident: $last_type:ty),* })*]
    ) => {
        #[derive(Debug, Serialize, Deserialize)]
        enum Error {
            $($first { $($first_field: $first_type),* },)*
            InTransaction { part: TransactionPart, error: Box<Error> },
            $($next { $($next_field: $next_type),* },)*
            HistoryChanged(Box<Notice>),
            $($last { $($last_field: $last_type),* },)*
        }

        impl From<Error> for BrokerError {
            fn from(error: Error) -> Self {
                match error {
                    $(Error::$first { $($first_field),* } => Self::$first { $($first_field),* },)*
                    Error::InTransaction { part, error } => {
                        Self::InTransaction { part, error: Box::new(Self::from(*error)) }
                    }
                    $(Error::$next { $($next_field),* } => Self::$next { $($next_field),* },)*
                    Error::HistoryChanged(notice) => Self::HistoryChanged(notice),
                    $(Error::$last { $($last_field),* } => Self::$last { $($last_field),* },)*
                }
            }
        }

        impl From<BrokerError> for Error {
            fn from(error: BrokerError) -> Self {
                match error {
                    $(BrokerError::$first { $($first_field),* } => Self::$first { $($first_field),* },)*
                    BrokerError::InTransaction { part, error } => {
                        Self::InTransaction { part, error: Box::new(Self::from(*error)) }
                    }
                    $(BrokerError::$next { $($next_field),* } => Self::$next { $($next_field),* },)*
                    BrokerError::HistoryChanged(notice) => Self::HistoryChanged(notice),
                    $(BrokerError::$last { $($last_field),* } => Self::$last { $($last_field),* },)*
                    BrokerError::ForeignDelivery { seq, .. } => Self::StaleDelivery { seq },
                    BrokerError::NotUnderstood { .. }
                    | BrokerError::OfNewerVersion { .. }
                    | BrokerError::Unauthenticated { .. }
                    | BrokerError::PermissionDenied { .. }
                    | BrokerError::TokenNotFound { .. }
                    | BrokerError::RoleNotFound { .. }
                    | BrokerError::RoleExists { .. }
                    | BrokerError::RoleInUse { .. }
                    | BrokerError::LastAdministrator { .. }
                    | BrokerError::RoleQuotaExceeded { .. } => {
                        let reason = error.to_string();
                        if error.outcome_unknown() { Self::OutcomeUnknown { reason } } else { Self::Internal { reason } }
                    }
                }
            }
        }
    };
}

errors! {
    [
        ChannelNotFound { name: String, similar: Option<String> }
        ChannelExists { name: String }
        InvalidChannelName { reason: String }
        SchemaViolation { channel: String, violations: Vec<Violation> }
        SchemaTooExpensive { channel: String, reason: String }
        InvalidSchema { reason: String }
        KeyConflict { channel: String, key: String, seq: u64 }
        LimitExceeded { what: String, value: u64, limit: u64 }
        TooManyKeys { channel: String, limit: u64 }
        Overloaded { in_flight: u64, limit: u64, retry_after_ms: u64 }
        OutOfRange { channel: String, seq: u64, first: u64 }
        InvalidArgument { reason: String }
        NotStored { channel: String }
        NoLeader { waited_ms: u64 }
        NotConfirmed { waited_ms: u64 }
        OutcomeUnknown { reason: String }
        StoreFailed { node: String, reason: String, proposed: bool }
        Stopping {}
        Internal { reason: String }
        NotAMember { reason: String }
        StaleSchema {}
        RuleNotFound { source_channel: String, target_channel: String }
        RuleRefused { reason: String }
        ConsumerNotFound { channel: String, name: String, similar: Option<String> }
        ConsumerExists { channel: String, name: String }
        InvalidConsumerName { reason: String }
        StaleDelivery { seq: u64 }
        ChangeRefused { reason: String }
        SchemaIncompatible { channel: String, reasons: Vec<Violation> }
        NamespaceNotFound { name: String }
        TooManyClaims { namespace: String, limit: u64 }
        ClaimInFlight { namespace: String, key: String, holder: ClaimInfo, retry_after_ms: u64 }
        ClaimStale { namespace: String, key: String, token: u64, current: Option<ClaimInfo> }
        ClaimCompleted { namespace: String, key: String, token: u64, completed_ms: u64 }
        ClaimOutcomeUnknown { reason: String }
        ChannelFull { channel: String, what: String, limit: u64 }
        QuotaExceeded { what: String, limit: u64, retry_after_ms: u64 }
        WrongSeq { channel: String, expected: u64, actual: u64 }
        KeyWaits { channel: String, key: String, due_ms: u64 }
        KeyUsedApart { channel: String, key: String }
    ]
    InTransaction
    [
        NoResponders { channel: String }
        ReplyTimeout { waited_ms: u64 }
        InboxGone { inbox: String, reason: String }
        NoMajority { reason: String }
    ]
    HistoryChanged
    [
        TooManyKeysInAll { limit: u64 }
    ]
}

impl From<super::Request> for Request {
    fn from(request: super::Request) -> Self {
        use super::Request as Now;
        match request {
            Now::Publish { group, confirm } => Self::Publish { group, confirm },
            Now::ReadIndex => Self::ReadIndex,
            Now::Channel(command) => Self::Channel(command),
            Now::Interest(reports) => Self::Interest(reports),
            Now::Operate(operation) => Self::Operate(operation),
            Now::SeatMember { consumer, member, window, once } => Self::SeatMember { consumer, member, window, once },
            Now::ForgetMember { consumer, member } => Self::ForgetMember { consumer, member },
            Now::Transact { transaction, confirm } => Self::Transact { transaction, confirm },
            Now::PassTime => Self::PassTime,
            Now::Reply { token, reply } => Self::Reply { token, reply },
            Now::Listens { channel } => Self::Listens { channel },
        }
    }
}

impl From<Request> for super::Request {
    fn from(request: Request) -> Self {
        match request {
            Request::Publish { group, confirm } => Self::Publish { group, confirm },
            Request::ReadIndex => Self::ReadIndex,
            Request::Channel(command) => Self::Channel(command),
            Request::Interest(reports) => Self::Interest(reports),
            Request::Operate(operation) => Self::Operate(operation),
            Request::SeatMember { consumer, member, window, once } => {
                Self::SeatMember { consumer, member, window, once }
            }
            Request::ForgetMember { consumer, member } => Self::ForgetMember { consumer, member },
            Request::Transact { transaction, confirm } => Self::Transact { transaction, confirm },
            Request::PassTime => Self::PassTime,
            Request::Reply { token, reply } => Self::Reply { token, reply },
            Request::Listens { channel } => Self::Listens { channel },
        }
    }
}

impl From<super::Response> for Response {
    fn from(response: super::Response) -> Self {
        use super::Response as Now;
        match response {
            Now::Published(results) => Self::Published(
                results.into_iter().map(|result| result.map(Outcome::from).map_err(Error::from)).collect(),
            ),
            Now::NotProposed => Self::NotProposed,
            Now::Unknown(reason) => Self::Unknown(reason),
            Now::Stale => Self::Stale,
            Now::Refused(error) => Self::Refused(error.into()),
            Now::Index(index) => Self::Index(index),
            Now::Done => Self::Done,
            Now::Operated(operated) => Self::Operated(operated.into()),
            Now::Transacted { operated, delivered } => {
                Self::Transacted(operated.into(), delivered.into_iter().map(|Deliveries(of_part)| of_part).collect())
            }
            Now::NoInbox => Self::NoInbox,
            Now::Listens(listens) => Self::Listens(listens),
        }
    }
}

impl From<Response> for super::Response {
    fn from(response: Response) -> Self {
        match response {
            Response::Published(results) => Self::Published(
                results
                    .into_iter()
                    .map(|result| result.map(broker::Outcome::from).map_err(BrokerError::from))
                    .collect(),
            ),
            Response::NotProposed => Self::NotProposed,
            Response::Unknown(reason) => Self::Unknown(reason),
            Response::Stale => Self::Stale,
            Response::Refused(error) => Self::Refused(error.into()),
            Response::Index(index) => Self::Index(index),
            Response::Done => Self::Done,
            Response::Operated(operated) => Self::Operated(operated.into()),
            Response::Transacted(operated, delivered) => {
                let delivered = delivered.into_iter().map(Deliveries).collect();
                Self::Transacted { operated: operated.into(), delivered }
            }
            Response::NoInbox => Self::NoInbox,
            Response::Listens(listens) => Self::Listens(listens),
        }
    }
}

impl From<super::Operated> for Operated {
    fn from(super::Operated { index, term, reply }: super::Operated) -> Self {
        Self { index, term, reply }
    }
}

impl From<Operated> for super::Operated {
    fn from(Operated { index, term, reply }: Operated) -> Self {
        Self { index, term, reply }
    }
}

pub(super) fn encode_request(request: &super::Request) -> Bytes {
    codec::encode_record(&Request::from(request.clone()))
}

pub(super) fn encode_response(response: super::Response) -> Bytes {
    codec::encode_record(&Response::from(response))
}

pub(super) fn decode_request(bytes: &[u8]) -> Result<super::Request, Misread> {
    let request: Request = codec::decode_record("request", bytes).map_err(Misread::malformed)?;
    Ok(request.into())
}

pub(super) fn decode_response(bytes: &[u8]) -> Result<super::Response, Misread> {
    let response: Response = codec::decode_record("answer", bytes).map_err(Misread::malformed)?;
    Ok(response.into())
}
