//! Whether a node still has what it must have.
//!
//! A member that comes back without entries that it had acknowledged, or without its vote, would break the promises of
//! all: with another node that lacks the same it could elect a leader that does, and what was acknowledged would be gone
//! although a disk holds it. Others cannot always tell: they may be away, or may not know. So the node's identity says
//! what its log must hold, and the log says whose it is and which process wrote to it last. Both are written before a
//! process takes part, in an order that a crash cannot confuse: the identity counts the start, the log takes it down, the
//! identity notes that the log has. A directory that is not what was left is refused by name.
//!
//! Within the life of a process the identity follows what is committed every few seconds, not with each entry, and at
//! an orderly end. What was acknowledged in the last seconds before a crash and then lost shows only to a leader.

use std::{io, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    identity::{self, Held, Identity, IdentityError},
    log::{LogOwner, LogPosition, LogStore, OnDurable},
};

/// How often the identity follows the log.
const INTERVAL: Duration = Duration::from_secs(5);

/// Compares what the identity says with the log, and the log with the state, which is that after `applied`.
///
/// # Errors
/// What is lost, and how it shows.
pub(super) fn check(
    identity: &Identity,
    log: &dyn LogStore,
    applied: Option<LogPosition>,
) -> Result<(), IdentityError> {
    let lost = |part: &str, detail: String| Err(IdentityError::Lost { path: identity.path_of(part), detail });
    let (node, starts, bounds) = (identity.node_id(), identity.starts(), log.bounds());
    let is_empty = bounds.last.is_none() && log.vote().is_none();
    match (identity.held(), log.owner()) {
        (_, Some(owner)) if owner.node != node => {
            return lost(identity::LOG, format!("is the log of node {}, and this node is {node}", owner.node));
        }
        (_, Some(owner)) if owner.start > starts => {
            let start = owner.start;
            return lost("identity.json", format!("is older than the log: it counts {starts} starts, the log {start}"));
        }
        (Some(held), Some(owner)) if owner.start < held.start => {
            let (found, expected) = (owner.start, held.start);
            let detail =
                format!("ends with what start {found} of this node wrote, but start {expected} wrote to it too");
            return lost(identity::LOG, detail);
        }
        (Some(held), None) => {
            let detail = format!("is not the log of this node, whose start {} wrote to it", held.start);
            return lost(identity::LOG, detail);
        }
        (None, None) if is_empty && applied.is_some() => {
            return lost(identity::LOG, "is empty, but the state comes from a log".to_owned());
        }
        // A node that only agreed to a proposal may have none yet; one that was let in has.
        (None, None) if is_empty && identity.cluster_id().is_some() && identity.promise().is_none() => {
            return lost(identity::LOG, "is empty, but this node has been in a cluster".to_owned());
        }
        (None, None) if !is_empty && identity.cluster_id().is_none() => {
            return lost("identity.json", "is of a node in no cluster, but there is a log".to_owned());
        }
        _ => {}
    }
    if let Some(held) = identity.held() {
        let (last, committed) = (index(bounds.last), index(held.committed));
        if last < committed {
            let detail = format!("ends at entry {}, but held entry {}", shown(last), shown(committed));
            return lost(identity::LOG, detail);
        }
        let term = log.vote().map_or(0, |vote| vote.term);
        if term < held.term {
            return lost(
                identity::LOG,
                format!("holds a vote of term {term}, but this node voted in term {}", held.term),
            );
        }
    }
    if index(applied) < index(bounds.purged) {
        let detail = format!(
            "holds the state after log entry {}, but the log begins after entry {}",
            shown(index(applied)),
            shown(index(bounds.purged))
        );
        return lost(identity::STATE, detail);
    }
    let Some(applied) = applied else { return Ok(()) };
    let same = log.read(applied.index..applied.index + 1, 1);
    let same =
        same.map_err(|source| IdentityError::Io { action: "read", path: identity.path_of(identity::LOG), source })?;
    match same.first() {
        // An entry of an older term that was never committed was replaced by what came with a snapshot, and a crash kept
        // the log from being cut.
        Some((position, _))
            if position.term > applied.term
                || position.term < applied.term
                    && applied.index < index(log.committed().max(identity.held().and_then(|held| held.committed))) =>
        {
            let (index, ours, theirs) = (applied.index, position.term, applied.term);
            let detail = format!("comes from an entry {index} of term {theirs}, but the log's is of term {ours}");
            lost(identity::STATE, detail)
        }
        _ => Ok(()),
    }
}

/// One more than the index, so that nothing is less than the first entry.
fn index(position: Option<LogPosition>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

fn shown(index: u64) -> String {
    index.checked_sub(1).map_or("none".to_owned(), |index| index.to_string())
}

/// A process begins to write to the log.
///
/// # Errors
/// When that cannot be written down.
pub(super) async fn begin(identity: &Identity, log: &dyn LogStore) -> Result<(), IdentityError> {
    let start = identity.begin()?;
    let owner = LogOwner { node: identity.node_id(), start };
    durably(identity, |told| log.save_owner(owner, told)).await?;
    let before = identity.held();
    let (committed, term) = (before.and_then(|held| held.committed), before.map_or(0, |held| held.term));
    identity.hold(Held { start, committed, term }).await
}

/// Follows the log as long as the node runs.
pub(super) async fn keep(identity: Identity, log: std::sync::Arc<dyn LogStore>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        if let Err(error) = follow(&identity, &*log).await {
            tracing::warn!(%error, "cannot write down what the log holds; trying again");
        }
    }
}

/// Writes down what the log holds durably.
///
/// # Errors
/// When it cannot be written.
pub(super) async fn follow(identity: &Identity, log: &dyn LogStore) -> Result<(), IdentityError> {
    let Some(before) = identity.held() else { return Ok(()) };
    // What is not committed may yet be replaced by less.
    let committed = log.committed().min(log.bounds().last).max(before.committed);
    let held = Held { committed, term: log.vote().map_or(0, |vote| vote.term).max(before.term), ..before };
    if held == before {
        return Ok(());
    }
    durably(identity, |told| log.append(Vec::new(), told)).await?;
    identity.hold(held).await
}

/// Waits until a write, and all before it, are on disk.
async fn durably(identity: &Identity, write: impl FnOnce(OnDurable) -> io::Result<()>) -> Result<(), IdentityError> {
    let (told, durable) = tokio::sync::oneshot::channel();
    let written = match write(Box::new(move |result| drop(told.send(result)))) {
        Ok(()) => durable.await.unwrap_or_else(|_| Err(io::Error::other("the log went away"))),
        Err(error) => Err(error),
    };
    written.map_err(|source| IdentityError::Io { action: "write", path: identity.path_of(identity::LOG), source })
}

#[cfg(test)]
mod tests;
