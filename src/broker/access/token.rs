//! The text of tokens: `lim_<id>_<secret>`. The id says which one it is and is no secret; the rest is 32 random bytes.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    env::Random,
    model::{TokenHash, TokenId},
};

/// How every token begins, so that searches for secrets in files find them.
const PREFIX: &str = "lim_";
/// Of a whole token; a text that grows would leave copies behind.
const BYTES: usize = 64;

/// A whole token. It is shown to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    id: TokenId,
    text: Zeroizing<String>,
}

impl TokenText {
    /// A new one.
    pub fn random(random: &dyn Random) -> Self {
        Self::with_id(TokenId(random.next_u64()), random)
    }

    /// A new secret for a token that has an id.
    pub fn with_id(id: TokenId, random: &dyn Random) -> Self {
        let (nonce, mut text) = (Zeroizing::new(random.nonce()), Zeroizing::new(String::with_capacity(BYTES)));
        text.push_str(&format!("{PREFIX}{id}_"));
        URL_SAFE_NO_PAD.encode_string(*nonce, &mut text);
        Self { id, text }
    }

    /// Which token it is.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.text)
    }

    /// For whoever it was made for, once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The id that a text names, if it has the form of a token.
    pub(super) fn id_in(text: &str) -> Option<TokenId> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = id.parse().ok()?;
        (URL_SAFE_NO_PAD.decode(secret).ok()?.len() == 32).then_some(id)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    #[test]
    fn a_token_names_its_id_and_shows_its_secret_to_nobody_by_accident() {
        let token = TokenText::random(&*Env::real().random);
        assert_eq!(TokenText::id_in(token.reveal()), Some(token.id()));
        let secret = token.reveal().splitn(3, '_').nth(2).unwrap();
        assert_eq!(secret.len(), 43);
        assert!(!format!("{token:?}").contains(secret));
        assert_eq!(token.reveal().len(), BYTES);
        let another = TokenText::with_id(token.id(), &*Env::real().random);
        assert_ne!(another.hash(), token.hash());
    }

    #[test]
    fn what_has_not_the_form_of_a_token_names_none() {
        let secret = "A".repeat(43);
        assert!(TokenText::id_in(&format!("lim_00000000000000ff_{secret}")).is_some());
        for wrong in
            [format!("lim_ff_{secret}"), format!("00000000000000ff_{secret}"), "lim_00000000000000ff_AAAA".into()]
        {
            assert_eq!(TokenText::id_in(&wrong), None, "{wrong}");
        }
    }
}
