//! `liminal certs`: a CA, certificates of nodes and certificates of clients, to try TLS with. Whoever runs a cluster for others
//! has a CA of their own; what this makes shows what such certificates need.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use liminal_tls::NODE_SUFFIX;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, print_json, print_line},
};
use crate::files::private_dir;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Clocks of machines differ: certificates are valid from so long ago on.
const BEFORE: Duration = Duration::from_secs(3600);
/// Of the CA, which is to outlive what it signs.
const CA_DAYS: u32 = 3650;
/// The CA's files, in which it is found again.
pub(super) const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// What every CA made here is called, so that its key alone is enough to sign with it again.
const CA_NAME: &str = "liminal development CA";
/// Names by which a node on this machine is reached.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What `certs` takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write them. A CA that is there already signs the others; without one it is made
    dir: PathBuf,
    /// Nodes, each of which gets NODE.crt and NODE.key, for clients and for other nodes
    #[arg(long = "node", value_name = "NAME", value_delimiter = ',', default_values = ["n1", "n2", "n3"])]
    nodes: Vec<String>,
    /// Clients, each of which gets NAME.crt and NAME.key
    #[arg(long = "client", value_name = "NAME", value_delimiter = ',', default_value = "client")]
    clients: Vec<String>,
    /// More names or addresses by which clients reach the nodes, beside the nodes' names and localhost
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    hosts: Vec<String>,
    /// How long the certificates of nodes and clients are valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=CA_DAYS as i64))]
    days: u32,
    /// Replace files that are there without asking
    #[arg(long)]
    yes: bool,
}

/// What is to be made.
pub(super) struct Wanted<'a> {
    pub(super) nodes: &'a [String],
    pub(super) clients: &'a [String],
    pub(super) hosts: &'a [String],
    pub(super) days: u32,
}

pub(super) fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let Args { dir, nodes, clients, hosts, days, yes } = &args;
    for name in nodes.iter().chain(clients) {
        check_name(name)?;
    }
    let there: Vec<String> = nodes
        .iter()
        .chain(clients)
        .flat_map(|name| ["crt", "key"].map(|ending| format!("{name}.{ending}")))
        .filter(|file| dir.join(file).exists())
        .collect();
    if !there.is_empty() {
        let what = format!("replace {} in {}", there.join(", "), dir.display());
        confirm(*yes, &what, "nothing was written")?;
    }
    let wanted = Wanted { nodes, clients, hosts, days: *days };
    let made = make(dir, &wanted).map_err(|error| CliError::failed(format!("{}: {error}", dir.display())))?;
    match global.output {
        OutputFormat::Json => {
            let files: Vec<_> = made.iter().map(|file| file.to_string_lossy()).collect();
            print_json(&serde_json::json!({ "files": files }))
        }
        _ => made.iter().try_for_each(|file| print_line(&file.display().to_string())),
    }
}

/// Whether a name will do for a file and in a certificate.
fn check_name(name: &str) -> Result<(), CliError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let taken = name.eq_ignore_ascii_case("ca");
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(fits) || taken {
        return Err(CliError::usage(format!("`{name}` will not do as the name of a certificate"))
            .with_help("take letters, digits, `-`, `_` and `.`; `ca` is the CA itself".into()));
    }
    Ok(())
}

/// Writes what is wanted into a directory, and gives the files that were written. What is there is replaced, but not a CA.
pub(super) fn make(dir: &Path, wanted: &Wanted<'_>) -> io::Result<Vec<PathBuf>> {
    private_dir(dir)?;
    let (ca, mut made) = authority(dir)?;
    let mut hosts: Vec<&str> = LOCAL.to_vec();
    hosts.extend(wanted.hosts.iter().map(String::as_str));
    for node in wanted.nodes {
        let own = format!("{node}{NODE_SUFFIX}");
        let names: Vec<String> =
            [own.as_str(), node.as_str()].into_iter().chain(hosts.iter().copied()).map(str::to_owned).collect();
        // A node is the one that is called, and the one that calls others.
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        made.extend(sign(dir, node, names, purposes, wanted.days, &ca)?);
    }
    for client in wanted.clients {
        made.extend(sign(dir, client, Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth], wanted.days, &ca)?);
    }
    Ok(made)
}

/// The CA of a directory, and its files where it was made just now.
fn authority(dir: &Path) -> io::Result<(Issuer<'static, KeyPair>, Vec<PathBuf>)> {
    let (cert, key) = (dir.join(CA_CERT), dir.join(CA_KEY));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(CA_DAYS);
    match (cert.exists(), key.exists()) {
        (true, true) => {
            let signs = KeyPair::from_pem(&fs::read_to_string(&key)?);
            let signs = signs.map_err(|error| named(&key, &error))?;
            Ok((Issuer::new(params, signs), Vec::new()))
        }
        (false, false) => {
            let signs = KeyPair::generate().map_err(io::Error::other)?;
            let made = params.self_signed(&signs).map_err(io::Error::other)?;
            write(&key, &signs.serialize_pem(), 0o600)?;
            write(&cert, &made.pem(), 0o644)?;
            Ok((Issuer::new(params, signs), vec![cert, key]))
        }
        (true, false) => {
            Err(named(&key, &"it is missing, and nothing can be signed without it; take another directory"))
        }
        (false, true) => Err(named(&cert, &"it is missing; put it back, or take another directory")),
    }
}

fn sign(
    dir: &Path,
    name: &str,
    names: Vec<String>,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    days: u32,
    ca: &Issuer<'static, KeyPair>,
) -> io::Result<[PathBuf; 2]> {
    let mut params = CertificateParams::new(names).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes;
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(days);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let made = params.signed_by(&key, ca).map_err(io::Error::other)?;
    let files = [dir.join(format!("{name}.crt")), dir.join(format!("{name}.key"))];
    write(&files[1], &key.serialize_pem(), 0o600)?;
    write(&files[0], &made.pem(), 0o644)?;
    Ok(files)
}

/// From when on and until when.
fn validity(days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - BEFORE, now + DAY * days)
}

/// Writes a file whole, under another name first: a node may be reading it.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = (|| {
        let _ = fs::remove_file(&draft); // of a process that was killed
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::set_permissions(&draft, Permissions::from_mode(mode))?;
        fs::rename(&draft, path)
    })();
    written.map_err(|error| named(path, &error))
}

fn named(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {what}", path.file_name().unwrap_or_default().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn nodes_and_clients_are_signed_by_one_ca_which_stays_and_keys_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (nodes, clients, hosts) = (names(&["n1"]), names(&["app"]), names(&["broker.example.com", "10.0.0.7"]));
        let wanted = Wanted { nodes: &nodes, clients: &clients, hosts: &hosts, days: 7 };
        let made = make(dir.path(), &wanted).unwrap();
        let files: Vec<_> = made.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(files, ["ca.crt", "ca.key", "n1.crt", "n1.key", "app.crt", "app.key"]);
        for file in &made {
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if file.extension().unwrap() == "key" { 0o600 } else { 0o644 }, "{}", file.display());
        }
        let leaf = liminal_tls::certificates(&dir.path().join("n1.crt")).unwrap().remove(0);
        assert_eq!(liminal_tls::node_of(&leaf).unwrap(), "n1");
        let before = fs::read(dir.path().join(CA_CERT)).unwrap();
        let again = make(dir.path(), &wanted).unwrap();
        assert_eq!((again.len(), fs::read(dir.path().join(CA_CERT)).unwrap() == before), (4, true));
    }

    #[test]
    fn a_ca_without_its_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { nodes: &names(&["n1"]), clients: &[], hosts: &[], days: 7 };
        make(dir.path(), &wanted).unwrap();
        fs::remove_file(dir.path().join(CA_KEY)).unwrap();
        let error = make(dir.path(), &wanted).unwrap_err();
        assert!(error.to_string().contains("ca.key: it is missing"), "{error}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "../n1", "a/b", "ca", "-n1", "n 1"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("liminal-0.example.com").is_ok());
    }
}
