//! The files of one table, looked at again and again. New ones hold from the next handshake on. Files that will not do leave the
//! old ones in use, and the log says which file and why, once for each change.
//!
//! Contents are compared, not times: Kubernetes swaps a link of a directory above, and tools write files that are the same.
//! Whoever replaces a certificate and its key does it in two steps, so a change that will not do is looked at twice before
//! anybody is told of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use liminal_tls::{
    read,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, UnixTime},
    },
};
use parking_lot::{Mutex, RwLock};

use super::{
    TlsFigures, TlsFiles, expiry,
    material::{Faults, Material},
};
use crate::budget::{Account, FaceName};

/// Connections with certificates are gone through for closed ones when there are so many more than were open.
const SLACK: usize = 64;

/// See the module.
pub(super) struct Reloading {
    files: TlsFiles,
    /// The node that the own certificate has to name.
    node: Option<String>,
    current: RwLock<Arc<Current>>,
    state: Mutex<State>,
    live: Mutex<Live>,
    failures: AtomicU64,
    refusals: AtomicU64,
    /// The whole days that were left of each certificate when it was warned of, by its serial number.
    warned: Mutex<BTreeMap<String, u64>>,
}

/// What is in use, with the settings of each port made once.
struct Current {
    material: Material,
    servers: [(FaceName, Arc<ServerConfig>); 3],
}

impl Current {
    fn of(material: Material) -> Arc<Self> {
        let servers = [FaceName::Grpc, FaceName::Http, FaceName::Peers].map(|face| (face, material.server(face)));
        Arc::new(Self { material, servers })
    }
}

struct State {
    /// What was in the files that are in use.
    loaded: blake3::Hash,
    /// What was in those that will not do, and whether somebody was told.
    failing: Option<(blake3::Hash, bool)>,
}

/// Connections whose other side has shown a certificate, and that certificate with those between it and its CA.
#[derive(Default)]
struct Live {
    connections: Vec<(Weak<Account>, Vec<CertificateDer<'static>>)>,
    /// How many were open when they were gone through last.
    open: usize,
}

impl Live {
    fn forget_closed(&mut self) {
        self.connections.retain(|(account, _)| account.strong_count() > 0);
        self.open = self.connections.len();
    }
}

impl Reloading {
    /// Reads the files for the first time. `node` is the node that the certificate has to name. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn open(files: TlsFiles, node: Option<String>) -> Result<Self, String> {
        let loaded = contents(&files);
        let material = load(&files, node.as_deref()).map_err(|faults| told(&files, &faults))?;
        Ok(Self {
            files,
            node,
            current: RwLock::new(Current::of(material)),
            state: Mutex::new(State { loaded, failing: None }),
            live: Mutex::default(),
            failures: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            warned: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// The settings of a port, as of now.
    pub(super) fn server(&self, face: FaceName) -> Arc<ServerConfig> {
        let current = self.current.read();
        let (_, server) = current.servers.iter().find(|(known, _)| *known == face).expect("each face has settings");
        server.clone()
    }

    /// The settings for calls to other nodes, as of now.
    pub(super) fn client(&self) -> Option<Arc<liminal_tls::rustls::ClientConfig>> {
        self.current.read().material.client.clone()
    }

    /// Looks at the files. Blocks.
    pub(super) fn look(&self) {
        // Before they are read: what changes in between is seen the next time.
        let found = contents(&self.files);
        let mut state = self.state.lock();
        if found == state.loaded {
            state.failing = None;
            return;
        }
        match load(&self.files, self.node.as_deref()) {
            Ok(material) => {
                *state = State { loaded: found, failing: None };
                *self.current.write() = Current::of(material);
                tracing::info!(table = self.files.table(), "new certificates are in use");
            }
            Err(faults) => match state.failing {
                Some((known, true)) if known == found => return,
                Some((known, false)) if known == found => {
                    state.failing = Some((found, true));
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    let reason = told(&self.files, &faults);
                    tracing::warn!(reason, "new files of TLS will not do, so the old certificates stay in use");
                    return;
                }
                _ => {
                    state.failing = Some((found, false));
                    return;
                }
            },
        }
        drop(state);
        self.judge_again();
    }

    /// Remembers a connection that has shown these certificates.
    pub(super) fn remember(&self, account: &Arc<Account>, shown: Vec<CertificateDer<'static>>) {
        let mut live = self.live.lock();
        if live.connections.len() > 2 * live.open + SLACK {
            live.forget_closed();
        }
        live.connections.push((Arc::downgrade(account), shown));
    }

    /// Ends connections whose certificates would not be taken any more, by new CAs and revocation lists.
    fn judge_again(&self) {
        let Some(judge) = self.current.read().material.judge.clone() else { return };
        let mut live = self.live.lock();
        live.forget_closed();
        let now = UnixTime::now();
        for (account, shown) in &live.connections {
            let (Some(account), Some((leaf, between))) = (account.upgrade(), shown.split_first()) else { continue };
            if let Err(error) = judge.verify_client_cert(leaf, between, now) {
                tracing::warn!(from = ?account.origin(), %error, "ends a connection: its certificate is not valid any more");
                account.distrust();
            }
        }
    }

    /// A connection was refused.
    pub(super) fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Warns of certificates that expire soon, or have expired, once a day.
    pub(super) fn warn_of_expiry(&self, now_ms: u64) {
        let current = self.current.read().clone();
        let mut warned = self.warned.lock();
        warned.retain(|serial, _| current.material.known.iter().any(|known| known.certificate.serial == *serial));
        for known in &current.material.known {
            let Some(days) = expiry::warns_at(known.certificate.not_after, now_ms) else { continue };
            if warned.insert(known.certificate.serial.clone(), days) != Some(days) {
                let (table, key, serial) = (self.files.table(), known.key, &known.certificate.serial);
                tracing::warn!(table, key, serial, "{}", expiry::warning(known.certificate.not_after, now_ms));
            }
        }
    }

    pub(super) fn figures(&self, now_ms: u64) -> TlsFigures {
        let current = self.current.read();
        let left = current.material.known.iter().map(|known| {
            (known.key, known.certificate.serial.clone(), expiry::seconds_left(known.certificate.not_after, now_ms))
        });
        TlsFigures {
            table: self.files.table(),
            seconds_left: left.collect(),
            reload_failures: self.failures.load(Ordering::Relaxed),
            refused: self.refusals.load(Ordering::Relaxed),
        }
    }
}

fn load(files: &TlsFiles, node: Option<&str>) -> Result<Material, Faults> {
    let material = Material::load(files)?;
    match (node, material.node.as_deref()) {
        (Some(node), Some(named)) if !node.eq_ignore_ascii_case(named) => {
            let file = files.cert.display();
            Err(vec![("cert", format!("{file}: it is the certificate of node `{named}`, and this node is `{node}`"))])
        }
        _ => Ok(material),
    }
}

fn told(files: &TlsFiles, faults: &Faults) -> String {
    let lines: Vec<String> = faults.iter().map(|(key, fault)| format!("{}.{key}: {fault}", files.table())).collect();
    lines.join("; ")
}

/// Stands for what is in the files, and for why one cannot be read.
fn contents(files: &TlsFiles) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    for file in [Some(&files.cert), Some(&files.key), files.ca.as_ref(), files.crl.as_ref()].into_iter().flatten() {
        let found = read(file).unwrap_or_else(|fault| fault.to_string().into_bytes());
        hash.update(&(found.len() as u64).to_be_bytes());
        hash.update(&found);
    }
    hash.finalize()
}
