//! What publishing, subscribing, reading and managing channels mean.

mod access;
mod admission;
mod api;
mod audit;
mod batcher;
mod blocking;
mod channel_command;
mod channels;
mod checks;
mod claims;
mod compaction;
mod consume;
mod counting;
mod delayed;
mod delivery;
mod error;
mod evolution;
mod filter;
mod forward;
mod groups;
mod handle;
mod housekeeping;
mod inboxes;
mod interest;
mod joins;
mod key_limit;
mod leader;
mod listing;
mod local;
mod operation_queue;
mod operations;
mod outcomes;
mod place;
mod publish;
mod quarantine;
mod quotas;
mod read;
mod reclaim;
mod request;
mod retention;
mod router;
mod routing;
mod rules;
mod runs;
mod samples;
mod schema;
mod start;
mod stats;
mod submission;
mod subscribe;
mod transaction;
mod transaction_part;
mod turns;
mod verdicts;
mod version;

pub use crate::sequencer::{Leader, NodeAddress, PeerMessage, PeerVersion, Peers, Proposed, Sequencer, SequencerError};
pub use access::{
    Access, Act, Caller, Delay, Gate, Need, Object, Payer, Refused, RoleInfo, Standing, TokenInfo, TokenText, Turned,
    Verdict,
};
pub use api::{ChannelInfo, Envelope, Outcome, Page};
pub use audit::{Audit, AuditWriter, Audited};
pub use claims::{Claim, Completed};
pub use consume::{
    ConsumerDelivery, ConsumerInfo, ConsumerUpdate, DeadLetters, Holding, Letter, LetterPage, Letters, Member,
    REDRIVEN, RedriveTo, Redriven,
};
pub use delayed::{DelayedMessage, DelayedPage};
pub use error::{BrokerError, ClaimError, NoChannel, RuleError, Unserved, Violation};
pub use evolution::HistoryReport;
pub use filter::filter_of;
pub use handle::Broker;
pub use liminal_schema::Incompatibility;
pub use liminal_wire::{Admission, Code, Confirm, Consistency, PublishOptions, Start};
pub use listing::NamedPage;
pub use place::{ReadOptions, SubscribeOptions};
pub use quarantine::{REJECTED_CHANNEL, REJECTED_REASON};
pub use quotas::{Held, over_budget, place_on_connection};
pub use request::REPLY_TO;
pub use retention::Trim;
pub use rules::RuleInfo;
pub use schema::{CompiledSchema, Unfit};
pub use stats::Stats;
pub use subscribe::Subscription;
pub use transaction::{TransactionAck, TransactionCompletion, TransactionMessage, TransactionRequest};
pub use transaction_part::TransactionPart;
