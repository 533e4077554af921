//! Tokens by which one node joins a cluster: `limj_<id>_<secret>`.
//!
//! The secret does not travel. A node that has one proves it for the connection on which it announces itself, by a hash of
//! that connection's handshake under a key that is derived from the token. The state keeps the key: it says who may join
//! for as long as the invitation lasts, and is worth nothing once a node has joined with it.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{TokenHash, TokenId};

/// How every one begins, so that searches for secrets in files find them.
const PREFIX: &str = "limj_";
/// Of a whole one; a text that grows would leave copies behind.
const BYTES: usize = 65;
/// Apart from every other use of the hash function.
const CONTEXT: &str = "liminal 2026-11-29 join token";

/// A whole one. It is shown to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: TokenId,
    text: Zeroizing<String>,
}

impl JoinToken {
    /// Of a random number and a random secret.
    pub fn of(id: TokenId, secret: &[u8; 32]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(BYTES));
        text.push_str(&format!("{PREFIX}{id}_"));
        URL_SAFE_NO_PAD.encode_string(secret, &mut text);
        Self { id, text }
    }

    /// Which one it is.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What the state keeps of it.
    pub fn key(&self) -> TokenHash {
        TokenHash(blake3::derive_key(CONTEXT, self.text.as_bytes()))
    }

    /// For whoever it was made for, once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Shows whoever has the key that this side has the token, for one connection.
    pub fn proof(&self, connection: &[u8; 32]) -> [u8; 32] {
        *blake3::keyed_hash(&self.key().0, connection).as_bytes()
    }

    /// Whether a proof for a connection was made with the token of a key. Takes the same time wherever they differ.
    pub fn is_proof(key: &TokenHash, connection: &[u8; 32], proof: &[u8]) -> bool {
        blake3::Hash::from_slice(proof).is_ok_and(|proof| proof == blake3::keyed_hash(&key.0, connection))
    }
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let secret_of = |secret: &str| URL_SAFE_NO_PAD.decode(secret).ok().and_then(|bytes| bytes.try_into().ok());
        let found = parts.and_then(|(id, secret)| Some((id.parse().ok()?, Zeroizing::new(secret_of(secret)?))));
        // What is wrong may be another secret: it is not repeated.
        let (id, secret) = found.ok_or("it is no join token; `liminal cluster invite` makes one")?;
        Ok(Self::of(id, &secret))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_token_and_one_connection() {
        let (token, other) = (JoinToken::of(TokenId(1), &[7; 32]), JoinToken::of(TokenId(1), &[8; 32]));
        let proof = token.proof(&[1; 32]);
        assert!(JoinToken::is_proof(&token.key(), &[1; 32], &proof));
        assert!(!JoinToken::is_proof(&token.key(), &[2; 32], &proof), "another connection");
        assert!(!JoinToken::is_proof(&other.key(), &[1; 32], &proof), "another token");
        assert!(!JoinToken::is_proof(&token.key(), &[1; 32], &proof[1..]));
    }

    #[test]
    fn a_token_comes_back_from_its_text_and_is_shown_to_nobody_by_accident() {
        let token = JoinToken::of(TokenId(255), &[7; 32]);
        assert_eq!(token.reveal().len(), BYTES);
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "JoinToken(00000000000000ff)");
        let client = token.reveal().replacen("limj_", "lim_", 1);
        for wrong in [&client, &token.reveal()[..60], "", "limj_ff_x"] {
            let error = wrong.parse::<JoinToken>().unwrap_err();
            assert!(error.contains("liminal cluster invite") && !error.contains("BwcH"), "{error}");
        }
    }
}
