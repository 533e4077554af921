//! Certificates for development, and a configuration that names them.

use std::os::unix::fs::PermissionsExt as _;

use super::{file, liminal, run};

#[test]
fn certificates_are_made_once_and_replaced_only_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let make = |more: &[&str]| run(liminal(&["certs"]).arg(&certs).args(["--node", "n1"]).args(more));
    let (code, out, err) = make(&[]);
    assert_eq!(code, 0, "{err}");
    let made: Vec<&str> = out.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(made, ["ca.crt", "ca.key", "n1.crt", "n1.key", "client.crt", "client.key"]);
    let read = |name: &str| std::fs::read_to_string(certs.join(name)).unwrap();
    let (authority, key) = (read("ca.crt"), read("n1.key"));
    let (code, _, err) = make(&[]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("n1.crt, n1.key") && err.contains("--yes"), "{err}");
    assert!(!err.contains(key.lines().nth(1).unwrap()), "no key is ever shown");
    assert_eq!(read("n1.key"), key);
    let (code, _, err) = make(&["--yes"]);
    assert_eq!(code, 0, "{err}");
    assert!(read("n1.key") != key && read("ca.crt") == authority, "the CA stays");
    let (code, _, err) = run(liminal(&["certs", "x", "--node", "../n1"]).current_dir(dir.path()));
    assert!(code == 2 && err.contains("`../n1`"), "{err}");
}

#[test]
fn a_configuration_of_tls_is_checked_with_its_files_and_every_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let (code, _, err) = run(liminal(&["certs"]).arg(&certs).args(["--node", "n1,n2"]));
    assert_eq!(code, 0, "{err}");
    let place = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    let check = |tables: &str| {
        let path = file(&dir, &format!("ephemeral_node = true\n{tables}"));
        run(liminal(&["config", "check"]).arg(path))
    };
    let pair = |cert: &str, key: &str| format!("cert = {:?}\nkey = {:?}\n", place(cert), place(key));
    let right = format!("[tls]\n{}[peer_tls]\n{0}ca = {:?}\n", pair("n1.crt", "n1.key"), place("ca.crt"));
    assert_eq!(check(&right).0, 0, "{}", check(&right).2);
    let (code, _, err) = check(&format!("[tls]\n{}", pair("n1.crt", "n2.key")));
    assert!(code == 1 && err.contains("liminal.toml:4:1: tls.key: ") && err.contains("not the key of"), "{err}");
    let (code, _, err) = check(&format!("[tls]\n{}", pair("n3.crt", "n1.key")));
    assert!(code == 1 && err.contains("liminal.toml:3:1: tls.cert: ") && err.contains("n3.crt: No such file"), "{err}");
    let wrong =
        "[tls]\nkey = \"n1.key\"\nmin_version = \"1.1\"\nrequire_client_cert = true\n[peer_tls]\nmode = \"on\"\n";
    let (code, _, err) = check(wrong);
    assert_eq!(code, 1);
    for what in [
        "tls.cert: it is missing",
        "tls.min_version: `1.1`",
        "tls.require_client_cert: it needs `client_ca`",
        "liminal.toml:7:1: peer_tls.mode: `on`",
    ] {
        assert!(err.contains(what), "{what} is not in\n{err}");
    }
    let (code, _, err) =
        check(&format!("[peer_tls]\n{}ca = {:?}\n", pair("client.crt", "client.key"), place("ca.crt")));
    assert!(code == 1 && err.contains("peer_tls.cert: ") && err.contains("NODE.liminal"), "{err}");
    std::fs::set_permissions(place("n1.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, _, err) = check(&right);
    assert!(code == 0 && err.contains("tls.key: ") && err.contains("0640") && err.contains("chmod 600"), "{err}");
}
