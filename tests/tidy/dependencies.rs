//! Where dependencies come from, by Cargo.lock: the registry, or this repository. `cargo deny` checks that too, with
//! licences; this holds where it cannot be installed.

use super::{
    report,
    source::{files, read},
};

/// The only source besides this repository.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
fn packages_come_from_the_registry_with_a_checksum_or_from_this_repository() {
    let lock = read("Cargo.lock");
    let manifests = ["", "crates", "patches", "benches"].map(|dir| files(dir, &["Cargo.toml"]));
    let ours: Vec<String> = manifests.iter().flatten().map(|file| file.text.clone()).collect();
    let mut findings = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find(|line| line.starts_with(&format!("{key} = ")));
            line.and_then(|line| line.split('"').nth(1)).map(str::to_owned)
        };
        let name = value("name").unwrap_or_default();
        match value("source") {
            Some(source) if source == REGISTRY && value("checksum").is_some() => {}
            Some(source) => findings.push(format!("{name}: it comes from {source}, or has no checksum")),
            None if ours.iter().any(|manifest| manifest.contains(&format!("name = \"{name}\""))) => {}
            None => findings.push(format!("{name}: it has no source and is not in this repository")),
        }
    }
    report(findings);
}
