//! Files of certificates, keys and revocation lists, in the PEM format that every tool writes. An error names the file, what
//! is wrong with it, and how to mend it; it never shows what is in the file.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem, pem::PemObject},
};

/// A file of certificates is smaller than this.
const LARGEST: u64 = 4 << 20;

/// Why a file will not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct Fault {
    /// Which one.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    /// Of a file.
    pub fn of(file: &Path, reason: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), reason: reason.to_string() }
    }
}

/// What is in a file.
///
/// # Errors
/// When it cannot be read, or is too large to be of certificates.
pub fn read(file: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes));
    opened.map_err(|error: io::Error| Fault::of(file, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Fault::of(
            file,
            format!("it has more than {} MiB, so it is no file of certificates", LARGEST >> 20),
        ));
    }
    Ok(bytes)
}

/// The certificates of a file, in their order; at least one.
///
/// # Errors
/// When there is none, or one of them cannot be read.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    sections(file, "certificate", "CERTIFICATE")
}

/// The revocation lists of a file; at least one.
///
/// # Errors
/// As [`certificates`].
pub fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    sections(file, "revocation list", "X509 CRL")
}

fn sections<T: PemObject>(file: &Path, what: &str, label: &str) -> Result<Vec<T>, Fault> {
    let bytes = read(file)?;
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| Fault::of(file, format!("it is no PEM file: {error}")))?;
    if found.is_empty() {
        return Err(Fault::of(file, format!("there is no {what} in it; a line `-----BEGIN {label}-----` begins one")));
    }
    Ok(found)
}

/// The private key of a file: PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
/// When there is none, or it is encrypted.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = read(file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if bytes.windows(9).any(|word| word == b"ENCRYPTED") {
            return Fault::of(
                file,
                "the key is encrypted, and nobody is there to type the passphrase; `openssl pkey -in FILE -out PLAIN` \
                 writes one that is not",
            );
        }
        match error {
            pem::Error::NoItemsFound => {
                Fault::of(file, "there is no private key in it; a line `-----BEGIN PRIVATE KEY-----` begins one")
            }
            error => Fault::of(file, format!("it is no PEM file: {error}")),
        }
    })
}

/// The CAs of a bundle, to judge certificates by.
///
/// # Errors
/// When one of them cannot be read.
pub fn roots(file: &Path) -> Result<Arc<RootCertStore>, Fault> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in certificates(file)?.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|error| Fault::of(file, format!("certificate {} cannot be read: {error}", number + 1)))?;
    }
    Ok(Arc::new(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("some.pem");
        std::fs::write(&file, text).unwrap();
        (dir, file)
    }

    #[test]
    fn a_file_that_will_not_do_is_named_with_what_is_wrong_and_never_shown() {
        let (_dir, file) = written("hunter2");
        for fault in [certificates(&file).unwrap_err(), private_key(&file).unwrap_err(), roots(&file).unwrap_err()] {
            let text = fault.to_string();
            assert!(text.contains("some.pem: there is no ") && text.contains("-----BEGIN "), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let fault = revocation_lists(&file.with_extension("crl")).unwrap_err();
        assert!(fault.to_string().contains("some.crl: No such file"), "{fault}");
    }

    #[test]
    fn an_encrypted_key_is_told_from_none() {
        let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let (_dir, file) = written(text);
        let fault = private_key(&file).unwrap_err();
        assert!(fault.reason.contains("encrypted") && fault.reason.contains("openssl pkey"), "{fault}");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_to_its_end() {
        let (_dir, file) = written("");
        File::options().write(true).open(&file).unwrap().set_len(LARGEST * 100).unwrap();
        assert!(read(&file).unwrap_err().reason.contains("more than 4 MiB"));
    }
}
