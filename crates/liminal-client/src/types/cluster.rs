//! What a cluster says of its nodes.

use std::time::SystemTime;

use bytes::Bytes;

use super::{choices, mirror};

choices! {
    /// What a node is in the cluster.
    NodeRole {
        /// Nobody knows.
        Unspecified,
        /// It orders what is published.
        Leader,
        /// It votes.
        Follower,
        /// It does not vote, or not yet.
        Learner,
    }

    /// How a node is.
    NodeHealth {
        /// Nobody knows.
        Unspecified,
        /// Well.
        Ok,
        /// Its applied index is far behind the commit index.
        Behind,
        /// It does not answer.
        Unreachable,
        /// It answers, but takes no part.
        Failed,
        /// It answers, but cannot do its work now.
        Unwell,
    }
}

mirror! {
    /// A cluster as the node that answered sees it.
    ClusterStatus = ClusterStatusResponse {
        /// Which cluster.
        cluster_id: String = cluster_id as same,
        /// The name of the leader; empty when there is none.
        leader: String = leader as same,
        /// Its nodes.
        nodes: Vec<NodeStatus> = nodes as list,
        /// 1, and one more each time that the state was restored from a backup.
        epoch: u64 = epoch as same,
        /// What all nodes are known to speak; 0 from a version before 4.
        cluster_version: u32 = cluster_version as same,
    }

    /// A node as the node that answered sees it.
    NodeStatus = NodeStatus {
        /// Its name.
        name: String = name as same,
        /// Its id.
        id: u64 = id as same,
        /// What it is.
        role: NodeRole = role as choice,
        /// How it is.
        health: NodeHealth = health as choice,
        /// This and the next three mean nothing for a node that is unreachable.
        term: u64 = term as same,
        /// The last log entry that it knows to be committed.
        commit: u64 = commit as same,
        /// The last one that it has applied.
        applied: u64 = applied as same,
        /// How many it has to apply.
        lag: u64 = lag as same,
        /// Hash over its whole stored state at log index `state_hash_at`, in hexadecimal.
        state_hash: String = state_hash as same,
        /// The log index of that.
        state_hash_at: u64 = state_hash_at as same,
        /// The newest version of the nodes' protocol that it has shown to speak; 0 where that is not known.
        version: u32 = version as same,
        /// Where it serves clients.
        client_address: String = client_address as same,
        /// Where it serves HTTP.
        http_address: String = http_address as same,
        /// Where it serves other nodes.
        peer_address: String = peer_address as same,
        /// Why it is not well.
        failure: Option<String> = failure as some_text,
        /// By how many milliseconds its clock is ahead of the log's time of day; below 0: behind.
        clock_ahead_ms: Option<i64> = clock_ahead_ms as same,
    }

    /// Something that happened to a node.
    ClusterEvent = ClusterEvent {
        /// When.
        time: SystemTime = time_ms as time,
        /// The node's id.
        node_id: u64 = node_id as same,
        /// Its name.
        node: String = node as same,
        /// What: `started`, `joined`, `promoted`, `moved`, `removed`, `departed`, `readmitted` or `transferred`.
        event: String = event as same,
        /// The address, or the number of starts; may be empty.
        detail: String = detail as same,
    }

    /// A node's state was made durable, and its log was cut.
    Snapshot = SnapshotResponse {
        /// Up to this index the state survives without the log.
        applied: u64 = applied as same,
        /// Entries that are left in the log.
        log_entries: u64 = log_entries as same,
    }

    /// The states of all nodes, compared at one log index.
    Verified = VerifyResponse {
        /// That index.
        index: u64 = index as same,
        /// What each node says.
        nodes: Vec<NodeHash> = nodes as list,
    }

    /// What a node says of its state.
    NodeHash = NodeHash {
        /// The node.
        name: String = name as same,
        /// In hexadecimal; none when it did not answer in time.
        state_hash: Option<String> = state_hash as some_text,
    }

    /// How far the nodes are with reading everything that they hold.
    Scrub = VerifyDeepResponse {
        /// Each of them.
        nodes: Vec<NodeScrub> = nodes as list,
        /// Every node has read everything, or does not answer.
        done: bool = done as same,
    }

    /// How far a node is with reading everything that it holds.
    NodeScrub = NodeScrub {
        /// The node.
        name: String = name as same,
        /// Whether it answered; otherwise nothing else is known of it.
        answered: bool = answered as same,
        /// It has read everything.
        done: bool = done as same,
        /// Bytes of its state that it has read.
        state_bytes: u64 = state_bytes as same,
        /// About how many there are.
        expected_state_bytes: u64 = expected_state_bytes as same,
        /// Bytes of its log that it has read.
        log_bytes: u64 = log_bytes as same,
        /// Damaged files that it found.
        found: u64 = found as same,
        /// Of them: those that are well again.
        healed: u64 = healed as same,
        /// What is damaged now, each with its file.
        left: Vec<String> = left as same,
    }

    /// Part of a backup.
    BackupPart = BackupChunk {
        /// In the first part only.
        head: Option<BackupHead> = head as optional,
        /// As the store holds it.
        page: Bytes = page as same,
    }

    /// What a backup is of.
    BackupHead = BackupHead {
        /// Which cluster.
        cluster_id: String = cluster_id as same,
        /// Its epoch.
        epoch: u64 = epoch as same,
        /// The state is that after this log entry.
        log_index: u64 = log_index as same,
        /// Over the whole state, 32 bytes.
        state_hash: Bytes = state_hash as same,
        /// When it was made.
        created: SystemTime = created_ms as time,
        /// About how much follows; 0 when that is not known.
        bytes: u64 = bytes as same,
    }
}
