//! What the files of one table are made into: the settings of both sides of a connection, and what is known of each certificate.
//! It is made whole or not at all, so that a key is never used with another key's certificate.

use std::{fmt::Display, path::Path, sync::Arc, time::SystemTime};

use liminal_tls::{
    Certificate, Fault, NODE_SUFFIX, certificates, node_of, private_key, provider, revocation_lists, roots,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
        SupportedProtocolVersion,
        client::{
            Resumption, WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime},
        server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
        sign::CertifiedKey,
        version::{TLS12, TLS13},
    },
};

use super::TlsFiles;
use crate::budget::FaceName;

/// What a client that speaks gRPC asks for, one that speaks HTTP, and a node.
const GRPC: &[u8] = b"h2";
const HTTP: &[u8] = b"http/1.1";
const PEERS: &[u8] = b"liminal-peer";

/// Which protocol is spoken on a port.
pub(super) fn protocol(face: FaceName) -> &'static [u8] {
    match face {
        FaceName::Grpc => GRPC,
        FaceName::Http => HTTP,
        FaceName::Peers => PEERS,
    }
}

/// A certificate of one of the files.
pub(super) struct Known {
    /// The key of the table that names the file.
    pub(super) key: &'static str,
    pub(super) certificate: Certificate,
}

impl Known {
    fn order(&self) -> (&'static str, &str, SystemTime) {
        (self.key, self.certificate.serial.as_str(), self.certificate.not_after)
    }
}

/// See the module.
pub(super) struct Material {
    server: ServerConfig,
    /// Of the side that calls; none where the others are clients.
    pub(super) client: Option<Arc<ClientConfig>>,
    /// Judges certificates of the other side; none where none is asked for.
    pub(super) judge: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) known: Vec<Known>,
    /// The node that the own certificate names.
    pub(super) node: Option<String>,
}

/// What is wrong: the key of the table, and the fault.
pub(super) type Faults = Vec<(&'static str, String)>;

impl Material {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn load(files: &TlsFiles) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let chain = noted(&mut faults, "cert", certificates(&files.cert));
        let key = noted(&mut faults, "key", private_key(&files.key));
        let ca = files.ca.as_deref();
        let trusted = ca.and_then(|file| noted(&mut faults, files.ca_key(), roots(file)));
        let authorities = ca.filter(|_| trusted.is_some()).and_then(|file| certificates(file).ok());
        let lists =
            files.crl.as_deref().map_or(Some(Vec::new()), |file| noted(&mut faults, "crl", revocation_lists(file)));
        let provider = provider();
        let pair = chain.clone().zip(key).and_then(|(chain, key)| {
            let made = CertifiedKey::from_der(chain, key, &provider);
            let made = made.map_err(|error| Fault::of(&files.key, mismatch(&error, &files.cert)));
            noted(&mut faults, "key", made)
        });
        let judge = trusted.clone().zip(lists.clone()).and_then(|(trusted, lists)| {
            let file = files.crl.as_deref().or(ca).unwrap_or(&files.cert);
            let made = client_judge(trusted, lists, files.requires_certificate);
            let made = made.map_err(|reason| Fault::of(file, reason));
            noted(&mut faults, if files.crl.is_some() { "crl" } else { files.ca_key() }, made)
        });
        let node = chain.as_deref().and_then(<[_]>::first).filter(|_| files.between_nodes).and_then(|leaf| {
            noted(&mut faults, "cert", node_of(leaf).map_err(|reason| Fault::of(&files.cert, reason)))
        });
        let (Some(pair), true) = (pair, faults.is_empty()) else { return Err(faults) };
        let pair = Arc::new(pair);
        let client = match (trusted, lists) {
            (Some(trusted), Some(lists)) if files.between_nodes => {
                let made = calling(trusted, lists, pair.clone());
                Some(Arc::new(made.map_err(|reason| vec![(files.ca_key(), reason)])?))
            }
            _ => None,
        };
        let mut known = read("cert", chain.as_deref().unwrap_or_default());
        known.extend(read(files.ca_key(), authorities.as_deref().unwrap_or_default()));
        // One figure for each: a bundle may have a certificate twice. Of equal numbers the one that expires first counts.
        known.sort_by(|a, b| a.order().cmp(&b.order()));
        known.dedup_by(|later, first| (later.key, &later.certificate.serial) == (first.key, &first.certificate.serial));
        Ok(Self { server: answering(files, pair, judge.clone()), client, judge, known, node })
    }

    /// The settings of a port.
    pub(super) fn server(&self, face: FaceName) -> Arc<ServerConfig> {
        let mut server = self.server.clone();
        server.alpn_protocols = vec![protocol(face).to_vec()];
        Arc::new(server)
    }
}

fn noted<T>(faults: &mut Faults, key: &'static str, result: Result<T, impl Display>) -> Option<T> {
    result.map_err(|fault| faults.push((key, fault.to_string()))).ok()
}

fn mismatch(error: &rustls::Error, cert: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => format!("it is not the key of the certificate in {}", cert.display()),
        error => format!("it cannot be used with the certificate in {}: {error}", cert.display()),
    }
}

fn read(key: &'static str, found: &[CertificateDer<'static>]) -> Vec<Known> {
    found.iter().filter_map(|der| Some(Known { key, certificate: Certificate::of(der)? })).collect()
}

fn client_judge(
    trusted: Arc<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let judge = WebPkiClientVerifier::builder_with_provider(trusted, provider());
    let judge = judge.with_crls(lists).only_check_end_entity_revocation();
    let judge = if required { judge } else { judge.allow_unauthenticated() };
    judge.build().map_err(|error| error.to_string())
}

/// The settings of the side that is called.
fn answering(files: &TlsFiles, pair: Arc<CertifiedKey>, judge: Option<Arc<dyn ClientCertVerifier>>) -> ServerConfig {
    let versions: &[&'static SupportedProtocolVersion] = if files.takes_tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider has both versions");
    let asks = judge.is_some();
    let server = match judge {
        Some(judge) => server.with_client_cert_verifier(judge),
        None => server.with_no_client_auth(),
    };
    let mut server = server.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    if asks {
        // A session that is resumed would bring along a certificate that nobody judges again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
    }
    server
}

/// The settings of a node that calls another.
fn calling(
    trusted: Arc<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    pair: Arc<CertifiedKey>,
) -> Result<ClientConfig, String> {
    let judge = WebPkiServerVerifier::builder_with_provider(trusted, provider());
    let judge = judge.with_crls(lists).only_check_end_entity_revocation().build();
    let judge = judge.map_err(|error| error.to_string())?;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has this version")
        .dangerous() // only in that the name is looked for in another way
        .with_custom_certificate_verifier(Arc::new(AnyNode(judge)))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    client.alpn_protocols = vec![PEERS.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok(client)
}

/// Takes the certificate of any node. Which node it names is compared with the id that the node proves afterwards: an
/// address may be another node's by now, and that is no mistake.
#[derive(Debug)]
struct AnyNode(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let nameless = |_| rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        let node = node_of(end_entity).map_err(nameless)?;
        let name = ServerName::try_from(format!("{node}{NODE_SUFFIX}"))
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::NotValidForName))?;
        self.0.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
