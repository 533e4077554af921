//! The name by which a client's certificate is known: `uri:NAME`, `dns:NAME` or `cn:NAME`.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Limits;

/// The kinds of names that a certificate has.
const KINDS: [&str; 3] = ["uri:", "dns:", "cn:"];

/// See the module. Hosts are in small letters, and none is a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateName(Arc<str>);

impl CertificateName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit = Limits::CERTIFICATE_NAME_BYTES;
        if text.len() > limit {
            return Err(format!("a name of a certificate has at most {limit} bytes; this one has {}", text.len()));
        }
        let Some(kind) = KINDS.into_iter().find(|kind| text.starts_with(kind) && text.len() > kind.len()) else {
            return Err(format!(
                "`{text}` is no name of a certificate: write uri:NAME or dns:NAME (subjectAltName), or cn:NAME for a \
                 certificate without either"
            ));
        };
        if text.chars().any(char::is_control) {
            return Err("a name of a certificate has no control characters".to_owned());
        }
        if kind != "dns:" {
            return Ok(Self(text.into()));
        }
        if text.contains('*') {
            return Err(format!("`{text}` is a pattern, which many hosts may show: name one host"));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl TryFrom<String> for CertificateName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_of_which_kind_it_is_and_names_one_holder() {
        let long = format!("cn:{}", "a".repeat(Limits::CERTIFICATE_NAME_BYTES));
        for (text, expected) in [
            ("uri:spiffe://Shop/eu", Ok("uri:spiffe://Shop/eu")),
            ("dns:Shop.example.com", Ok("dns:shop.example.com")),
            ("cn:The shop", Ok("cn:The shop")),
            ("shop.example.com", Err("is no name")),
            ("dns:", Err("is no name")),
            ("ip:10.0.0.1", Err("is no name")),
            ("dns:*.example.com", Err("is a pattern")),
            ("cn:a\nb", Err("control characters")),
            (&long, Err("at most")),
        ] {
            match (text.parse::<CertificateName>(), expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name.as_str(), expected),
                (Err(error), Err(why)) => assert!(error.contains(why), "{text}: {error}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
