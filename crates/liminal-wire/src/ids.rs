//! Ids that stand in answers as numbers.

use serde::{Deserialize, Serialize};

/// Never reused: a channel that is deleted and created again has another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId(pub u64);
