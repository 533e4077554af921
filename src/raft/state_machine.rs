//! The replica behind openraft's state machine trait.

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StoredMembership,
    storage::{EntryResponder, RaftStateMachine},
};

use super::{
    encoding::{
        Applied, EncodedCommand, LogIdOf, Mark, Marking, StoredMembershipOf, TypeConfig, decode_entry, position,
    },
    log::{LogPosition, LogStore},
    log_adapter::Follows,
    snapshot::{SnapshotData, SnapshotOf},
};
use crate::{
    codec,
    replica::{Replica, ReplicaView},
    sequencer::PeerVersion,
    store::StoreError,
};

/// How long to wait before a snapshot that is complete is put in force again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(5);

type SnapshotMetaOf = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// Hands committed entries to the replica one after another.
pub(super) struct StateMachine {
    replica: Replica,
    log: Arc<dyn LogStore>,
    follows: Follows,
    applied: Option<LogIdOf>,
    marking: Marking,
    /// The newest version that this node speaks.
    speaks: PeerVersion,
}

impl StateMachine {
    /// Over a replica that was just opened: what it holds comes from the log position in its store's mark.
    ///
    /// # Errors
    /// When it is of a cluster of a later version than this node speaks.
    pub(super) async fn new(
        replica: Replica,
        log: Arc<dyn LogStore>,
        follows: Follows,
        speaks: PeerVersion,
    ) -> io::Result<Self> {
        let cluster = replica.view().version();
        if cluster > speaks {
            return Err(later(&format!("the state is of a cluster of version {cluster}"), speaks));
        }
        let mark = match replica.view().store().applied().await.map_err(io::Error::other)? {
            Some(bytes) => Mark::decode(&bytes)?,
            None => Mark::default(),
        };
        if let Some(applied) = mark.applied {
            replica.set_applied(applied.index);
        }
        let marking = Marking::new(mark.stored_membership()?);
        Ok(Self { replica, log, follows, applied: mark.log_id(), marking, speaks })
    }

    /// The log position that the state comes from.
    pub(super) fn applied(&self) -> Option<LogPosition> {
        self.applied.as_ref().map(position)
    }

    /// The bytes of a command, which may have been left out: see [`EncodedCommand::left_out`].
    fn whole(&self, at: &LogIdOf, command: EncodedCommand) -> io::Result<EncodedCommand> {
        if !command.is_left_out() {
            return Ok(command);
        }
        let found = self.log.read(at.index..at.index + 1, usize::MAX)?.into_iter().next();
        let entry = found.filter(|(found, _)| *found == position(at)).map(decode_entry).transpose()?;
        match entry.map(|entry| entry.payload) {
            Some(EntryPayload::Normal(command)) => Ok(command),
            _ => Err(io::Error::other(format!("entry {} is not in the log any more", at.index))),
        }
    }
}

/// It would be another state than that of the other nodes.
fn later(what: &str, speaks: PeerVersion) -> io::Error {
    io::Error::other(format!(
        "{what}, and this build knows versions up to {speaks}: use the build that the other nodes have (a cluster's version \
         is never lowered)"
    ))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf>, StoredMembershipOf)> {
        Ok((self.applied, self.marking.membership().clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        if self.follows.holds() {
            // The append that said that these entries are committed has just been synced, and its answer is yet to be sent.
            // The leader waits for that and for no apply here. All that is ready on Raft's thread runs before this goes on.
            tokio::task::yield_now().await;
        }
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let index = entry.log_id.index;
            self.applied = Some(entry.log_id);
            let reply = match entry.payload {
                EntryPayload::Normal(command) => {
                    let command = self.whole(&entry.log_id, command)?;
                    // A command that cannot be read is a broken invariant: an io::Error here stops the node.
                    let command = codec::decode_command(&command.0).map_err(io::Error::other)?;
                    let needs = command.needs();
                    if needs > self.speaks {
                        return Err(later(&format!("log entry {index} needs version {needs}"), self.speaks));
                    }
                    let mark = self.marking.at(self.applied.as_ref());
                    Some(Applied(self.replica.apply(index, command, mark).await))
                }
                EntryPayload::Membership(membership) => {
                    self.marking = Marking::new(StoredMembership::new(Some(entry.log_id), membership));
                    self.replica.skip(index, self.marking.at(self.applied.as_ref())).await;
                    None
                }
                EntryPayload::Blank => {
                    self.replica.skip(index, self.marking.at(self.applied.as_ref())).await;
                    None
                }
            };
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { view: self.replica.view() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Staged(mut staged, hash) = snapshot else {
            return Err(io::Error::other("a snapshot to install must have been received"));
        };
        // Nothing is applied before this returns. What takes long is done while readers go on with the old state.
        let prepared = self.replica.prepare(staged.plain_keys()).await.map_err(io::Error::other)?;
        let mut wait = RETRY_MIN;
        // It is whole and durable: what is left fails for want of space, or not at all, and an error ends the node.
        let _whole = loop {
            let whole = self.replica.replacing().await;
            match staged.finish(hash).await {
                Ok(()) => break whole,
                Err(error @ (StoreError::Closed | StoreError::Corrupt { .. })) => return Err(io::Error::other(error)),
                Err(error) => {
                    tracing::error!(%error, retry_in = ?wait, "cannot put a snapshot in force; the old state stays");
                }
            }
            drop(whole);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        };
        self.replica.view().store().installed().await;
        self.applied = meta.last_log_id;
        self.marking = Marking::new(meta.last_membership.clone());
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.replica.take_over(prepared, index).await.map_err(io::Error::other)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        if self.applied.is_none() {
            return Ok(None);
        }
        SnapshotBuilder { view: self.replica.view() }.build_snapshot().await.map(Some)
    }
}

/// Makes a snapshot of the whole state; the store keeps it readable while the replica goes on.
pub(super) struct SnapshotBuilder {
    view: ReplicaView,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let view = self.view.store().snapshot().await.map_err(io::Error::other)?;
        let mark = match view.applied() {
            Some(bytes) => Mark::decode(&bytes)?,
            None => Mark::default(),
        };
        let meta = SnapshotMeta { last_log_id: mark.log_id(), last_membership: mark.stored_membership()? };
        Ok(SnapshotOf { meta, snapshot: SnapshotData::View(Arc::clone(&view)) })
    }
}
