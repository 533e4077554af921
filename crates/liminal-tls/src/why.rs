//! Why a connection over TLS failed, in words that say what to do: `UnknownCA` and `invalid peer certificate` tell most people
//! nothing.

use std::{fmt, io};

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// What failed and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub what: String,
    /// The next step.
    pub help: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

const RENEW: &str = "issue a new certificate (`liminal certs` for development); check the clocks of both machines too";
const TRUST: &str =
    "name the CA's certificate: `--ca FILE` or LIMINAL_CA for commands, `tls.client_ca` or `peer_tls.ca` for a node";
const OWN: &str = "name a certificate that the other side trusts: `--client-cert FILE` and `--client-key FILE`, or \
                   LIMINAL_CLIENT_CERT and LIMINAL_CLIENT_KEY";
const NAME: &str = "connect by a name in the certificate, or issue one with this name as subjectAltName";
const LIST: &str = "put a current revocation list of every CA into the file that `crl` names";
const PORT: &str = "check the port, and whether TLS is on there: `http://` is without it, `https://` with it";
const VERSION: &str = "upgrade the older side, or allow TLS 1.2 with `tls.min_version = \"1.2\"`";

/// Explains an error of a connection to, or from, `other`.
pub fn explain(error: &Error, other: &str) -> Failure {
    let (what, help) = match error {
        Error::InvalidCertificate(reason) => return judged(reason, other),
        Error::AlertReceived(alert) => return refused(*alert, other),
        Error::InvalidMessage(_) => (format!("{other} does not speak TLS there"), PORT),
        Error::NoCertificatesPresented => (format!("{other} shows no certificate, and one is required"), OWN),
        Error::NoApplicationProtocol => (format!("{other} offers no protocol that is spoken here"), PORT),
        Error::PeerIncompatible(reason) => (format!("{other} speaks no TLS version in common: {reason:?}"), VERSION),
        other_error => (format!("the connection with {other} failed: {other_error}"), PORT),
    };
    Failure { what, help }
}

/// What is wrong with the certificate of the other side.
fn judged(reason: &CertificateError, other: &str) -> Failure {
    use CertificateError as C;
    let (what, help) = match reason {
        C::Expired | C::ExpiredContext { .. } => (format!("the certificate of {other} has expired"), RENEW),
        C::NotValidYet | C::NotValidYetContext { .. } => {
            (format!("the certificate of {other} is not valid yet"), RENEW)
        }
        C::Revoked => (format!("the certificate of {other} is revoked"), RENEW),
        C::UnknownIssuer => {
            (format!("the certificate of {other} is from a CA that is unknown here (unknown issuer)"), TRUST)
        }
        C::BadSignature => {
            (format!("the certificate of {other} is signed by another key than the CA's that is known here"), TRUST)
        }
        C::NotValidForName => (format!("the certificate of {other} is for another name"), NAME),
        C::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            (format!("the certificate of {other} has no name"), NAME)
        }
        C::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| plain(name)).collect();
            (format!("the certificate of {other} is for another name: it is for {}", names.join(", ")), NAME)
        }
        C::UnknownRevocationStatus => (format!("no revocation list covers the certificate of {other}"), LIST),
        C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. } => {
            (format!("the revocation list for the certificate of {other} is out of date"), LIST)
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => (
            format!("the certificate of {other} is for another purpose"),
            "issue it with extendedKeyUsage serverAuth for a server, clientAuth for a client, and both for a node",
        ),
        reason => (format!("the certificate of {other} will not do: {reason}"), RENEW),
    };
    Failure { what, help }
}

/// What the other side says to this side's certificate, or to how it speaks.
fn refused(alert: AlertDescription, other: &str) -> Failure {
    use AlertDescription as A;
    let (what, help) = match alert {
        A::CertificateRequired | A::NoCertificate => (format!("{other} requires a client certificate"), OWN),
        A::CertificateExpired => (format!("{other} refuses this side's certificate: it has expired"), RENEW),
        A::CertificateRevoked => (format!("{other} refuses this side's certificate: it is revoked"), OWN),
        A::UnknownCA => (format!("{other} refuses this side's certificate: its CA is unknown there"), OWN),
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown | A::AccessDenied => {
            (format!("{other} refuses this side's certificate ({alert:?})"), OWN)
        }
        A::ProtocolVersion => (format!("{other} speaks other versions of TLS only"), VERSION),
        A::NoApplicationProtocol => (format!("{other} speaks another protocol on that port"), PORT),
        alert => (format!("{other} ended the connection ({alert:?})"), PORT),
    };
    Failure { what, help }
}

/// `n1` of `DnsName("n1")`.
fn plain(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inside.trim_matches('"')
}

/// The same for an error of a connection, with what explains it as its source; other errors stay what they are.
pub fn of_io(error: io::Error, other: &str) -> io::Error {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match reason.map(|reason| explain(reason, other)) {
        Some(failure) => io::Error::new(error.kind(), failure),
        None => error,
    }
}
