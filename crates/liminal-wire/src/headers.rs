//! Names with a meaning: of the metadata that goes with requests and answers, and of the headers of messages. Clients and
//! nodes take them from here, so that they cannot differ.

/// The metadata entry in which a server repeats the stable code of an error: see [`Code`](crate::Code).
pub const CODE: &str = "liminal-code";
/// The metadata entry in which a server says what a publisher should do after an error: [`DEFER`] or [`REJECT`].
pub const ADMISSION: &str = "liminal-admission";
/// Nothing happened: try again, not before the delay that the error names.
pub const DEFER: &str = "defer";
/// Nothing happened, and nothing will: do not try again unchanged.
pub const REJECT: &str = "reject";
/// The metadata entry in which every answer names the leader: `<node name>;<client address>`.
pub const LEADER: &str = "liminal-leader";

/// The header of a request that says where its reply goes.
pub const REPLY_TO: &str = "liminal-reply-to";
/// How the headers begin that say where a dead letter came from and why.
pub const DEAD_LETTER_PREFIX: &str = "liminal-dead-letter-";
/// The header of a message that says how often it was sent back from a dead-letter channel.
pub const REDRIVEN: &str = "liminal-redriven";
/// The header of a quarantined message that says for which channel it was meant.
pub const REJECTED_CHANNEL: &str = "liminal-rejected-channel";
/// The header of a quarantined message that says why its channel refused it.
pub const REJECTED_REASON: &str = "liminal-rejected-reason";
