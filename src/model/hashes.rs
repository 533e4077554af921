//! What idempotency keys and payloads are told apart by: short, because there are many of them.

use serde::{Deserialize, Serialize};

/// The first 16 bytes of the BLAKE3 hash of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u128", into = "u128")]
pub struct KeyHash(pub [u8; 16]);

/// The first 8 bytes of the BLAKE3 hash of a payload. It only tells a key's conflict from its retry, so it is shorter
/// than what two keys are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Digest(pub [u8; 8]);

/// Serialized as a number, because serde takes arrays byte by byte: in the codec's format the bytes are the same.
macro_rules! as_number {
    ($($hash:ty: $number:ty),*) => {$(
        impl From<$number> for $hash {
            fn from(number: $number) -> Self {
                Self(number.to_le_bytes())
            }
        }

        impl From<$hash> for $number {
            fn from(hash: $hash) -> Self {
                Self::from_le_bytes(hash.0)
            }
        }
    )*};
}

as_number!(KeyHash: u128, Digest: u64);

impl KeyHash {
    /// Of a key's text.
    pub fn of(key: &str) -> Self {
        Self(hash(key.as_bytes()))
    }
}

impl Digest {
    /// Of a payload.
    pub fn of(payload: &[u8]) -> Self {
        Self(hash(payload))
    }
}

fn hash<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let mut short = [0; LEN];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..LEN]);
    short
}
