//! Certificates: until when they are valid, and whether they have the names under which others will look for them. Whether
//! keys fit them, and who may read those, is looked at where a configuration is read.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use liminal_tls::{
    Certificate, certificates, node_of,
    rustls::{
        client::verify_server_name,
        pki_types::{CertificateDer, ServerName},
        server::ParsedCertificate,
    },
};
use liminal_wire::time::to_ms;

use super::Finding;
use crate::{address, cli::Global, config::ServerConfig, model::timestamp};

const CHECK: &str = "certificates";
/// A certificate that ends sooner is told of.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The certificates of a node's configuration.
pub(super) fn of_node(config: &ServerConfig) -> Vec<Finding> {
    let now = SystemTime::now();
    let mut findings = Vec::new();
    if let Some(files) = config.tls.files() {
        findings.extend(dates(&files.cert, now));
        findings.extend(files.ca.iter().flat_map(|ca| dates(ca, now)));
        findings.extend(client_names(config, &files.cert));
    }
    if let Some(files) = config.peer_tls.files() {
        findings.extend(dates(&files.cert, now));
        findings.extend(files.ca.iter().flat_map(|ca| dates(ca, now)));
        findings.extend(node_name(config, &files.cert));
    }
    findings
}

/// Those that this command shows and trusts.
pub(super) fn of_client(global: &Global) -> Vec<Finding> {
    let now = SystemTime::now();
    let files = global.ca.iter().chain(&global.client_cert);
    let mut findings: Vec<Finding> = files.flat_map(|file| dates(file, now)).collect();
    findings.extend(global.client_key.as_deref().and_then(readable_by_others));
    findings
}

fn readable_by_others(key: &Path) -> Option<Finding> {
    let mode = fs::metadata(key).ok()?.permissions().mode() & 0o777;
    let found = format!("{}: its mode is {mode:04o}: others can read the private key", key.display());
    (mode & 0o077 != 0).then(|| Finding::warning(CHECK, found, format!("chmod 600 {}", key.display())))
}

/// Until when the certificates of a file are valid.
fn dates(file: &Path, now: SystemTime) -> Vec<Finding> {
    let found = match certificates(file) {
        Ok(found) => found,
        Err(fault) => return vec![Finding::problem(CHECK, fault.to_string(), "name a PEM file with certificates")],
    };
    let read = found.iter().filter_map(Certificate::of);
    let judged: Vec<Finding> = read.filter_map(|certificate| date(file, &certificate, now)).collect();
    if !judged.is_empty() {
        return judged;
    }
    let first = found.iter().filter_map(Certificate::of).map(|certificate| certificate.not_after).min();
    let until = first.map_or_else(String::new, |until| format!(" until {}", timestamp(to_ms(until))));
    vec![Finding::ok(CHECK, format!("{} is valid{until}", file.display()))]
}

/// What is wrong with one certificate's dates.
fn date(file: &Path, certificate: &Certificate, now: SystemTime) -> Option<Finding> {
    let Certificate { serial, not_before, not_after } = certificate;
    let of = format!("{}: the certificate with serial number {serial}", file.display());
    let at = |time: &SystemTime| timestamp(to_ms(*time));
    let renew = "renew it and replace the file; running nodes read it again by themselves";
    if now > *not_after {
        return Some(Finding::problem(CHECK, format!("{of} has expired: {}", at(not_after)), renew));
    }
    if now < *not_before {
        let found = format!("{of} is not valid before {}", at(not_before));
        return Some(Finding::problem(CHECK, found, "look whether this machine's clock is right"));
    }
    let left = not_after.duration_since(now).unwrap_or_default();
    let days = left.as_secs() / (24 * 60 * 60);
    let found = format!("{of} expires in {days} day(s): {}", at(not_after));
    (left < SOON).then(|| Finding::warning(CHECK, found, renew))
}

/// Whether clients that are told the node's addresses find these in its certificate.
fn client_names(config: &ServerConfig, file: &Path) -> Vec<Finding> {
    let machine = crate::env::hostname();
    let grpc = config.advertised(config.advertise_address.as_ref(), &config.listen_address, &machine);
    let http = config.advertised(config.advertise_http_address.as_ref(), &config.health_listen_address, &machine);
    let Some(certificate) = certificates(file).ok().and_then(|all| all.into_iter().next()) else { return Vec::new() };
    let mut hosts: Vec<&str> = [&grpc, &http].iter().filter_map(|at| Some(address::split(at).ok()?.0)).collect();
    hosts.dedup();
    let lacking = hosts.into_iter().filter(|host| !is_for(&certificate, host));
    lacking
        .map(|host| {
            let found = format!("{}: the certificate lacks the name {host}, which clients are told", file.display());
            let todo = "issue one with it among its alternative names, or set advertise_address to a name that it has";
            Finding::problem(CHECK, found, todo)
        })
        .collect()
}

fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(host)) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

/// Whether other nodes take the certificate for this node's.
fn node_name(config: &ServerConfig, file: &Path) -> Option<Finding> {
    let wanted = config.cluster.as_ref().map(|cluster| cluster.node_name.as_str()).filter(|name| !name.is_empty())?;
    let certificate = certificates(file).ok()?.into_iter().next()?;
    let todo = "issue one with the DNS name NODE.liminal, where NODE is cluster.node_name; `liminal certs` does";
    match node_of(&certificate) {
        Ok(node) if node.eq_ignore_ascii_case(wanted) => None,
        Ok(node) => {
            let found = format!("{}: the certificate is for node {node}, and this is {wanted}", file.display());
            Some(Finding::problem(CHECK, found, todo))
        }
        Err(why) => Some(Finding::problem(CHECK, format!("{}: {why}", file.display()), todo)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn a_certificate_is_told_of_before_it_begins_after_it_ended_and_soon_before_that() {
        let day = Duration::from_secs(24 * 60 * 60);
        let begin = SystemTime::UNIX_EPOCH + 1_000 * day;
        let certificate = Certificate { serial: "0A".into(), not_before: begin, not_after: begin + 90 * day };
        let level = |now| date(Path::new("a.pem"), &certificate, now).map(|finding| finding.level);
        assert_eq!(level(begin - day), Some(Level::Problem));
        assert_eq!(level(begin + day), None);
        assert_eq!(level(begin + 80 * day), Some(Level::Warning));
        assert_eq!(level(begin + 91 * day), Some(Level::Problem));
    }

    #[test]
    fn the_names_of_a_certificate_are_compared_with_hosts() {
        let made =
            rcgen::generate_simple_self_signed(vec!["broker.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.der();
        assert!(is_for(certificate, "broker.example") && is_for(certificate, "127.0.0.1"));
        assert!(!is_for(certificate, "other.example") && !is_for(certificate, "[::1]"));
    }
}
