//! What reviews would otherwise have to look for in every change: that modules import only what the map in
//! docs/ARCHITECTURE.md lets them, that files and functions stay short, that limits are in one place, that documents,
//! the dashboard and the alert rules name only what exists, and that all is in plain English. It reads the source tree, and needs no server.

#![allow(missing_docs)]

mod dependencies;
mod imports;
mod limits;
mod links;
mod monitoring;
mod names;
mod sizes;
mod source;
mod words;

/// Fails with all findings at once, so that one run shows everything.
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}
