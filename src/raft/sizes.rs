//! How much may travel between two nodes at once: both ends of a connection, and lanes, keep to the same sizes.

use crate::model::Limits;

/// HTTP/2 flow-control windows: bulk data between nodes must not wait for window updates.
pub(super) const STREAM_WINDOW: u32 = 8 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest HTTP/2 frame to take: each one is read and written by a system call of its own.
pub(super) const MAX_FRAME: u32 = 256 << 10;
/// The largest message.
pub(super) const MAX_MESSAGE: usize = Limits::PEER_MESSAGE_BYTES;
