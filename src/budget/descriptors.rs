//! File descriptors: every connection takes one, and a log or store that gets none fails. So the process asks for as many
//! as it may have, and lets no more clients in than leave enough for the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::model::Limits;

/// For the log, the store, its folds and snapshots.
const FOR_STORAGE: u64 = 256;
/// For files of idempotency keys, however many there are.
const FOR_KEYS: u64 = (Limits::OPEN_KEY_FILES + Limits::KEPT_KEY_FILES) as u64;
/// For other nodes, both ways, and for monitoring.
const FOR_PEERS: u64 = 64;
/// Clients that a node takes at least.
const LEAST: u64 = 64;

/// Raises the process's soft limit to its hard limit. Gives how many descriptors it may have; none where there is no
/// limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum || current.is_none() {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, ?maximum, "cannot raise the limit of file descriptors");
            current
        }
    }
}

/// Lowers the limit of connections to what so many descriptors allow one of so many nodes. Says what the limit was, if it
/// was higher.
pub fn clamp(limits: &mut Limits, descriptors: Option<u64>, nodes: u16) -> Option<usize> {
    let share = descriptors? / u64::from(nodes.max(1));
    let usable = share.saturating_sub(FOR_STORAGE + FOR_KEYS + FOR_PEERS).max(LEAST);
    let usable = usize::try_from(usable).unwrap_or(usize::MAX);
    (limits.connections > usable).then(|| std::mem::replace(&mut limits.connections, usable))
}

/// What the process does for one of so many nodes that it runs: raises the limit, and adapts the node to its share of it
/// with a warning.
pub fn prepare(limits: &mut Limits, nodes: u16) {
    let descriptors = raise();
    if let Some(configured) = clamp(limits, descriptors, nodes) {
        tracing::warn!(
            descriptors,
            nodes,
            configured,
            connections = limits.connections,
            "the limit of file descriptors allows fewer connections than limits.connections: raise it (ulimit -Hn, \
             LimitNOFILE), or lower limits.connections"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_store_keys_and_peers_keep_their_descriptors() {
        let clamped = |descriptors, nodes| {
            let mut limits = Limits { connections: 10_000, ..Limits::default() };
            let before = clamp(&mut limits, descriptors, nodes);
            (before, limits.connections)
        };
        assert_eq!(clamped(Some(1024), 1), (Some(10_000), 544));
        assert_eq!(clamped(Some(100), 1), (Some(10_000), 64), "a node without clients is none");
        assert_eq!(clamped(Some(1 << 20), 1), (None, 10_000));
        assert_eq!(clamped(None, 3), (None, 10_000));
    }

    #[test]
    fn nodes_of_one_process_share_its_descriptors() {
        let mut limits = Limits { connections: 10_000, ..Limits::default() };
        clamp(&mut limits, Some(12_000), 3);
        assert_eq!(limits.connections, 4_000 - 480);
    }
}
