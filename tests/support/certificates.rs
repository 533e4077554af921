//! CAs and certificates for tests: right ones, and ones that are wrong in one thing.

#![allow(dead_code, reason = "no test binary uses all of it")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For these names and addresses.
    pub fn sign(&self, names: &[&str]) -> Pair {
        self.sign_with(names, |_| ())
    }

    /// The same, of this serial number.
    pub fn sign_numbered(&self, names: &[&str], serial: u64) -> Pair {
        self.sign_with(names, |params| params.serial_number = Some(SerialNumber::from(serial)))
    }

    /// One that was valid until a day ago.
    pub fn sign_expired(&self, names: &[&str]) -> Pair {
        self.sign_with(names, |params| {
            let now = SystemTime::now();
            (params.not_before, params.not_after) = ((now - 9 * DAY).into(), (now - DAY).into());
        })
    }

    /// For these hosts, and for these URIs.
    pub fn sign_uris(&self, hosts: &[&str], uris: &[&str]) -> Pair {
        self.sign_with(hosts, |params| {
            let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
            params.subject_alt_names.extend(uris);
        })
    }

    /// For these hosts, with this common name.
    pub fn sign_common(&self, hosts: &[&str], name: &str) -> Pair {
        self.sign_with(hosts, |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair { cert: params.signed_by(&key, &*self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A list of those that are revoked, by their serial numbers.
    pub fn revocation_list(&self, serials: &[u64]) -> String {
        let now = SystemTime::now();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (now - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&*self.0).unwrap().pem().unwrap()
    }
}

impl Pair {
    /// Writes both into a directory, under this name.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let files = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&files.0, &self.cert).unwrap();
        std::fs::write(&files.1, &self.key).unwrap();
        files
    }
}
