//! Whom the certificate of a client names: the URIs and DNS names among its subject alternative names, and only where there are
//! none of them the common name of its subject, which old tools write. The verifying library keeps that field to itself.

use std::time::SystemTime;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::certificate::{Certificate, Der};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `uri:NAME`, `dns:NAME` or `cn:NAME`: URIs first, each kind in the order of the certificate.
    pub names: Vec<String>,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl Identity {
    /// Of a certificate that a verifier has taken; none where it cannot be read.
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let not_after = Certificate::of(der)?.not_after;
        let certificate = EndEntityCert::try_from(der).ok()?;
        let uris = certificate.valid_uri_names().map(|name| format!("uri:{name}"));
        // A name for many hosts is nobody's.
        let hosts = certificate.valid_dns_names().filter(|name| !name.contains('*'));
        let hosts = hosts.map(|name| format!("dns:{}", name.to_ascii_lowercase()));
        let mut names: Vec<String> = uris.chain(hosts).collect();
        let has_others = certificate.valid_dns_names().next().is_some();
        if names.is_empty() && !has_others {
            names.extend(common_name(der).map(|name| format!("cn:{name}")));
        }
        Some(Self { names, not_after })
    }
}

/// None where there are several, because nobody knows which is meant.
fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let mut subject = Certificate::subject(der)?;
    let mut found = None;
    while let Some((tag, part)) = subject.next() {
        let mut attributes = Der(part);
        while tag == SET
            && let Some((SEQUENCE, attribute)) = attributes.next()
        {
            let mut attribute = Der(attribute);
            let (_, kind) = attribute.next()?;
            let (tag, value) = attribute.next()?;
            if kind != COMMON_NAME {
                continue;
            }
            let text = std::str::from_utf8(value).ok().filter(|_| [UTF8_STRING, PRINTABLE_STRING].contains(&tag))?;
            if found.replace(text.to_owned()).is_some() {
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(uris: &[&str], hosts: &[&str], common: &[&str]) -> Vec<String> {
        let hosts: Vec<String> = hosts.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.distinguished_name.push(DnType::OrganizationName, "Shops");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of(certificate.der()).unwrap().names
    }

    #[test]
    fn a_certificate_names_its_uris_then_its_hosts_and_its_common_name_only_without_them() {
        for (uris, hosts, common, expected) in [
            (
                &["spiffe://shop/eu"][..],
                &["Shop.example.com"][..],
                &["shop"][..],
                &["uri:spiffe://shop/eu", "dns:shop.example.com"][..],
            ),
            (&[], &["b.example.com", "a.example.com"], &["shop"], &["dns:b.example.com", "dns:a.example.com"]),
            (&[], &[], &["shop"], &["cn:shop"]),
            (&[], &["10.0.0.1"], &["shop"], &["cn:shop"]),
            (&[], &["*.example.com"], &["shop"], &[]),
            (&[], &[], &[], &[]),
        ] {
            assert_eq!(named(uris, hosts, common), expected, "{uris:?} {hosts:?} {common:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody_wherever_it_breaks_off() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "shop");
        let whole = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        assert!(Identity::of(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(Identity::of(&CertificateDer::from(&whole[..length])), None, "{length} bytes");
        }
    }
}
