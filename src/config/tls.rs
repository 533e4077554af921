//! The tables `[tls]` (for clients) and `[peer_tls]` (between nodes): which files certificates are in, and what is required of
//! the other side. Whether the files will do is looked at where a configuration is read, so that `config check` finds
//! what a start would.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::{ServerConfig, reader::Reader, tree::Origin};
use crate::tls::{self, TlsFiles};

/// TLS on the ports for clients; off without `cert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The PEM file with the certificate that clients see on both of their ports, followed by those between it and its CA. It
    /// turns TLS on.
    pub cert: Option<String>,
    /// The PEM file with the certificate's private key.
    pub key: Option<String>,
    /// The PEM file with the CAs of client certificates. With it a client may show a certificate, and a wrong one is refused.
    pub client_ca: Option<String>,
    /// The PEM file with the revocation lists, one of each CA in `client_ca`. A certificate whose CA has none is refused.
    pub crl: Option<String>,
    /// Whether a client without a certificate is refused, monitoring included.
    pub require_client_cert: bool,
    /// The oldest version of TLS that is spoken.
    pub min_version: String,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { cert: None, key: None, client_ca: None, crl: None, require_client_cert: false, min_version: V13.into() }
    }
}

const V13: &str = "1.3";
const V12: &str = "1.2";

/// TLS between nodes, where each shows the other a certificate that names it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PeerTlsConfig {
    /// Whether nodes speak TLS to each other: `optional` takes and makes connections of both kinds, while TLS is turned on or
    /// off in a running cluster.
    pub mode: Option<String>,
    /// The PEM file with the node's certificate, followed by those between it and its CA. It has to have the DNS name
    /// `NODE.liminal`, where `NODE` is `cluster.node_name`.
    pub cert: Option<String>,
    /// The PEM file with the certificate's private key.
    pub key: Option<String>,
    /// The PEM file with the CAs of the nodes' certificates.
    pub ca: Option<String>,
    /// The PEM file with the revocation lists, one of each CA in `ca`. A certificate whose CA has none is refused.
    pub crl: Option<String>,
}

/// Whether connections between nodes are over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerTlsMode {
    /// None is.
    Off,
    /// Those to and from nodes that can: while it is turned on or off in a running cluster.
    Optional,
    /// All are.
    Required,
}

impl PeerTlsMode {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Off, "off"), (Self::Optional, "optional"), (Self::Required, "required")];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(mode, _)| mode)
    }
}

impl TlsConfig {
    /// What it says, if it turns TLS on.
    pub fn files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            cert: PathBuf::from(self.cert.clone()?),
            key: PathBuf::from(self.key.clone()?),
            ca: self.client_ca.clone().map(PathBuf::from),
            crl: self.crl.clone().map(PathBuf::from),
            requires_certificate: self.require_client_cert,
            takes_tls12: self.min_version == V12,
            between_nodes: false,
        })
    }
}

impl PeerTlsConfig {
    /// Whether TLS is on.
    pub fn mode(&self) -> PeerTlsMode {
        let usual = if self.cert.is_some() { PeerTlsMode::Required } else { PeerTlsMode::Off };
        self.mode.as_deref().and_then(PeerTlsMode::of).unwrap_or(usual)
    }

    /// What it says, if it turns TLS on.
    pub fn files(&self) -> Option<TlsFiles> {
        if self.mode() == PeerTlsMode::Off {
            return None;
        }
        Some(TlsFiles {
            cert: PathBuf::from(self.cert.clone()?),
            key: PathBuf::from(self.key.clone()?),
            ca: Some(PathBuf::from(self.ca.clone()?)),
            crl: self.crl.clone().map(PathBuf::from),
            requires_certificate: true,
            takes_tls12: false,
            between_nodes: true,
        })
    }
}

/// Reports what does not fit in both tables, and files that will not do. Gives what a person should know of those that will.
pub(super) fn check(config: &ServerConfig, reader: &mut Reader<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let looks = config.base_dir.is_some();
    if let Some(node) = reader.get("tls") {
        let mut table = Reader::new("tls", node, reader.errors);
        let tls = &config.tls;
        pair(&mut table, tls.cert.is_some(), tls.key.is_some());
        if tls.client_ca.is_none() {
            needs(&mut table, "require_client_cert", tls.require_client_cert, "client_ca");
            needs(&mut table, "crl", tls.crl.is_some(), "client_ca");
        }
        if tls.cert.is_none() {
            needs(&mut table, "client_ca", tls.client_ca.is_some(), "cert");
        }
        if ![V13, V12].contains(&tls.min_version.as_str()) {
            let wrong = format!("`{}` is no version; write \"{V13}\", or \"{V12}\" for old clients", tls.min_version);
            at(&mut table, "min_version", &wrong);
        }
        if let Some(files) = tls.files().filter(|_| looks) {
            look(&mut table, &files, &mut warnings);
        }
    }
    if let Some(node) = reader.get("peer_tls") {
        let mut table = Reader::new("peer_tls", node, reader.errors);
        let tls = &config.peer_tls;
        if let Some(mode) = tls.mode.as_deref().filter(|mode| PeerTlsMode::of(mode).is_none()) {
            let names: Vec<&str> = PeerTlsMode::ALL.iter().map(|(_, name)| *name).collect();
            at(&mut table, "mode", &format!("`{mode}` is none; there are {}", names.join(", ")));
        }
        pair(&mut table, tls.cert.is_some(), tls.key.is_some());
        if tls.mode() != PeerTlsMode::Off {
            let given = [("cert", &tls.cert), ("key", &tls.key), ("ca", &tls.ca)];
            for (key, _) in given.iter().filter(|(_, given)| given.is_none()) {
                table.missing(key, "TLS between nodes needs `cert`, `key` and `ca`");
            }
        }
        if let Some(files) = tls.files().filter(|_| looks) {
            look(&mut table, &files, &mut warnings);
        }
    }
    warnings
}

fn pair(table: &mut Reader<'_>, cert: bool, key: bool) {
    match (cert, key) {
        (true, false) => table.missing("key", "a certificate needs its private key"),
        (false, true) => table.missing("cert", "a private key needs its certificate"),
        _ => {}
    }
}

fn needs(table: &mut Reader<'_>, key: &'static str, given: bool, other: &str) {
    if given {
        at(table, key, &format!("it needs `{other}` as well"));
    }
}

fn at(table: &mut Reader<'_>, key: &'static str, what: &str) {
    let origin = table.get(key).map_or(Origin::Environment, |node| node.origin.clone());
    table.wrong(key, &origin, what);
}

fn look(table: &mut Reader<'_>, files: &TlsFiles, warnings: &mut Vec<String>) {
    for (key, fault) in tls::check(files) {
        at(table, key, &fault);
    }
    let Ok(found) = fs::metadata(&files.key) else { return };
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warnings.push(format!(
            "{}: {}: its mode is {mode:04o}: others can read the private key; `chmod 600` it",
            table.key("key"),
            files.key.display()
        ));
    }
}
