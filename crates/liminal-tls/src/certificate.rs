//! What is read from a certificate: until when it is valid, its serial number, and which node it names. The validity is the
//! only field that the verifying library keeps to itself, and it is the fifth of a fixed order, so four lines of DER find it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// A certificate for the node `n1` has the DNS name `n1.liminal`: nobody runs a web server under that name, so a
/// certificate for one is never a node's.
pub const NODE_SUFFIX: &str = ".liminal";

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// What people are told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// In hexadecimal digits, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads a certificate; none where it is malformed, which a verifier refuses anyway.
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let mut fields = fields_of(der)?;
        let (_, serial) = fields.next().filter(|(tag, _)| *tag == INTEGER)?;
        let (_signature, _issuer) = (fields.next()?, fields.next()?);
        let mut validity = fields.inside(SEQUENCE)?;
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let serial = serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial);
        let serial = serial.iter().map(|byte| format!("{byte:02X}")).collect();
        Some(Self { serial, not_before, not_after })
    }

    /// The parts of its subject.
    pub(crate) fn subject<'a>(der: &'a CertificateDer<'_>) -> Option<Der<'a>> {
        let mut fields = fields_of(der)?;
        let (_serial, _signature, _issuer, _validity) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        fields.inside(SEQUENCE)
    }
}

/// The fields of a certificate, from its serial number on.
fn fields_of<'a>(der: &'a CertificateDer<'_>) -> Option<Der<'a>> {
    let mut fields = Der(der).inside(SEQUENCE)?.inside(SEQUENCE)?;
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    Some(fields)
}

/// The node that a certificate names, by the one DNS name that ends in `.liminal`.
///
/// # Errors
/// Says what is wrong where it names none, or several.
pub fn node_of(der: &CertificateDer<'_>) -> Result<String, String> {
    let certificate = EndEntityCert::try_from(der).map_err(|error| format!("it cannot be read: {error:?}"))?;
    let names: Vec<&str> = certificate.valid_dns_names().collect();
    let nodes: Vec<&str> = names.iter().filter_map(|name| node_in(name)).collect();
    match nodes[..] {
        [node] => Ok(node.to_ascii_lowercase()),
        [] => Err(format!(
            "it names no node: it needs the DNS name NODE{NODE_SUFFIX} (subjectAltName), and has {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        )),
        _ => Err(format!("it names several nodes, and every node needs its own: {}", nodes.join(", "))),
    }
}

fn node_in(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(NODE_SUFFIX.len()).filter(|at| *at > 0 && name.is_char_boundary(*at))?;
    let (node, suffix) = name.split_at(at);
    (suffix.eq_ignore_ascii_case(NODE_SUFFIX) && !node.contains('*')).then_some(node)
}

/// Bytes that are values in DER, one after the other.
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

impl<'a> Der<'a> {
    /// The tag and the content of the next value.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            // More than three bytes would be more than any file may have.
            (bytes.len() <= 3).then(|| bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)))?
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The values inside the next one, which has this tag.
    fn inside(&mut self, wanted: u8) -> Option<Der<'a>> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| Der(content))
    }
}

/// `YYMMDDHHMMSSZ` of the years 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let seconds = days(year, month, day) * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?;
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    UNIX_EPOCH.checked_add(since)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. A year begins in March here, so that the leap day ends it.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SerialNumber, date_time_ymd};

    use super::*;

    fn made(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn serial_and_validity_are_read_of_both_kinds_of_time() {
        let certificate = made(&["n1.liminal"], |params| {
            params.serial_number = Some(SerialNumber::from(vec![0xab, 0x01]));
            params.not_before = date_time_ymd(2024, 2, 29);
            params.not_after = date_time_ymd(2100, 3, 1);
        });
        let read = Certificate::of(&certificate).unwrap();
        assert_eq!(read.serial, "AB01");
        assert_eq!(seconds(read.not_before), 1_709_164_800); // date -u -d 2024-02-29 +%s
        assert_eq!(seconds(read.not_after), 4_107_542_400); // date -u -d 2100-03-01 +%s
    }

    #[test]
    fn what_is_no_certificate_is_read_as_none_wherever_it_breaks_off() {
        let whole = made(&["n1.liminal"], |_| ());
        for length in 0..whole.len() {
            assert_eq!(Certificate::of(&CertificateDer::from(&whole[..length])), None, "{length} bytes");
        }
    }

    #[test]
    fn a_certificate_names_one_node_or_will_not_do_for_one() {
        let named = |names: &[&str]| node_of(&made(names, |_| ()));
        assert_eq!(named(&["localhost", "N1.liminal", "n1.example.com"]).unwrap(), "n1");
        assert_eq!(named(&["box.example.com.liminal"]).unwrap(), "box.example.com");
        let none = named(&["n1.example.com", "liminal"]).unwrap_err();
        assert!(none.contains("NODE.liminal") && none.contains("n1.example.com, liminal"), "{none}");
        assert!(named(&[]).unwrap_err().contains("has none"));
        assert!(named(&["*.liminal"]).is_err(), "no certificate is for all nodes");
        let several = named(&["n1.liminal", "n2.liminal"]).unwrap_err();
        assert!(several.contains("n1, n2"), "{several}");
    }
}
