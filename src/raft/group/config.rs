//! What a node has to know to take part, and what of that openraft is told.

use std::{sync::Arc, time::Duration};

use openraft::SnapshotPolicy;

use super::super::{handshake::PeerKeys, membership::MembershipPolicy, purge::KeepLog, scrub::ScrubConfig};
use crate::{
    model::JoinToken,
    sequencer::{NodeAddress, PeerVersion},
};

/// Log entries in one message to a follower; the bytes are limited where the log is read.
const ENTRIES_PER_MESSAGE: u64 = 1024;

/// What a node has to know to take part.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Addresses of this node; its id is filled in from its identity.
    pub local: NodeAddress,
    /// Where to look for other nodes.
    pub seeds: Vec<String>,
    /// What lets a new node into a cluster that takes such by invitation only.
    pub join_token: Option<JoinToken>,
    /// The newest version of the nodes' protocol that this one speaks: that of its build, or an earlier one in tests.
    pub speaks: PeerVersion,
    /// The cluster's shared secret.
    pub keys: Arc<PeerKeys>,
    /// How many fresh nodes found a cluster.
    pub expect: usize,
    /// Whether that is how many seeds there are: those that turn out to be one node count once.
    pub counts_seeds: bool,
    /// What the leader does by itself about the membership.
    pub policy: MembershipPolicy,
    /// How much of the log is kept.
    pub keep_log: KeepLog,
    /// How the node looks for damage.
    pub scrub: ScrubConfig,
    /// How often an idle leader shows that it is there.
    pub heartbeat: Duration,
    /// Without a sign of the leader for a random time between these two, a follower stands for election.
    pub election: (Duration, Duration),
}

pub(super) fn raft_config(config: &GroupConfig) -> openraft::Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "liminal".into(),
        heartbeat_interval: ms(config.heartbeat),
        election_timeout_min: ms(config.election.0),
        election_timeout_max: ms(config.election.1),
        install_snapshot_timeout: ms(Duration::from_secs(60)),
        max_payload_entries: ENTRIES_PER_MESSAGE,
        // Entries travel while the leader's own disk still syncs them.
        broadcast_submitted_on_append: Some(true),
        // Snapshots and purges only when `purge` says so.
        snapshot_policy: SnapshotPolicy::Never,
        // Only `purge` cuts the log.
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        purge_batch_size: 1024,
        enable_pre_vote: Some(true),
        // A leader that lost power may have lost entries that it had sent but not synced: were it to go on in its old
        // term, it could give their log ids to other entries.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
}
