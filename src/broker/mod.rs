//! What publishing, subscribing, reading and managing channels mean.

mod error;
mod sequencer;

pub use error::{BrokerError, Code, Violation};
pub use sequencer::{Leader, NodeAddress, Peers, Proposed, Sequencer, SequencerError};
