//! The nodes that were ever in the cluster, and the last things that happened to them.

use std::collections::BTreeMap;

use super::{
    Effects,
    keys::{Key, record},
};
use crate::model::{MemberEvent, MemberLogEntry, MemberRecord, Refusal};

/// Events that are kept for operators; older ones are forgotten.
const EVENTS: usize = 1_000;
/// Nodes that are remembered; those that left longest ago are forgotten first.
const NODES: usize = 1_000;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) records: BTreeMap<u64, MemberRecord>,
    /// By consecutive numbers.
    pub(super) log: BTreeMap<u64, MemberLogEntry>,
}

impl Members {
    pub(super) fn restore(&mut self, key: Key, value: &[u8]) -> Result<(), String> {
        match key {
            Key::Member(id) => drop(self.records.insert(id, record("member", value)?)),
            Key::MemberEvent(number) => drop(self.log.insert(number, record("member event", value)?)),
            _ => return Err("it has nothing to do with nodes".into()),
        }
        Ok(())
    }

    /// Takes an event, or refuses it.
    pub(super) fn apply(&mut self, entry: MemberLogEntry, effects: &mut Effects) -> Result<(), Refusal> {
        let MemberLogEntry { time_ms, node, .. } = entry;
        let known = self.records.get(&node);
        let mut record = known.cloned().unwrap_or_default();
        match &entry.event {
            MemberEvent::Started { starts, incarnation, .. } => {
                if record.removed {
                    return Err(Refusal::NodeRemoved);
                }
                let again = (*starts, *incarnation) == (record.starts, record.incarnation);
                if *starts <= record.starts && !again {
                    return Err(Refusal::OldDisk { starts: *starts, seen: record.starts });
                }
                if again {
                    return Ok(());
                }
                (record.starts, record.incarnation) = (*starts, *incarnation);
            }
            MemberEvent::Removed { by_operator } => record.removed = *by_operator,
            MemberEvent::Readmitted => record.removed = false,
            MemberEvent::Joined | MemberEvent::Promoted | MemberEvent::Moved { .. } | MemberEvent::Transferred => {}
        }
        record.name.clone_from(&entry.name);
        record.seen_ms = time_ms;
        effects.put(Key::Member(node), &record);
        self.records.insert(node, record);
        if self.records.len() > NODES {
            self.forget_a_node(node, effects);
        }
        let number = self.log.last_key_value().map_or(0, |(number, _)| number + 1);
        effects.put(Key::MemberEvent(number), &entry);
        self.log.insert(number, entry);
        if self.log.len() > EVENTS
            && let Some((oldest, _)) = self.log.pop_first()
        {
            effects.delete(Key::MemberEvent(oldest));
        }
        Ok(())
    }

    fn forget_a_node(&mut self, except: u64, effects: &mut Effects) {
        let others = self.records.iter().filter(|(id, _)| **id != except);
        let oldest = others.min_by_key(|(id, record)| (record.seen_ms, **id)).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.records.remove(&oldest);
            effects.delete(Key::Member(oldest));
        }
    }
}
