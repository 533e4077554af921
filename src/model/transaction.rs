//! Parts that are all done or none of them, in one log entry.

use serde::{Deserialize, Serialize};

use super::{Assigned, PublishGroup};

/// What is done together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// In the order in which they are done.
    pub parts: Vec<Part>,
}

/// One part. Variants are append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Publishes to one channel. Its messages all have a key or none has.
    Publish(PublishGroup),
}

/// What was done for a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartReply {
    /// To a publish. Either no message is excepted or, when the whole was done before, all as duplicates.
    Published(Assigned),
}

impl Transaction {
    /// Messages of all parts.
    pub fn messages(&self) -> usize {
        self.parts.iter().map(|Part::Publish(group)| group.frame.count() as usize).sum()
    }

    /// Encoded bytes of the messages of all parts.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|Part::Publish(group)| group.frame.bytes().len()).sum()
    }
}
