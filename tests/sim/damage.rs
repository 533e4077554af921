//! One seed: disks that stall, disks that forget what they had synced, and followers that were away for so long that only
//! a snapshot helps. Who stalls hands over; who has forgotten something takes no part until it is replaced.

use std::sync::{Arc, atomic::Ordering};

use liminal::store::MemoryStore;
use rand::RngExt as _;

use super::{
    machine::Machine,
    run::{self, NODES, World},
};

/// So little of the log is kept that whoever is away for a while needs a snapshot.
const KEPT: u64 = 10;

/// Simulates a seed; gives a line that says what happened.
///
/// # Panics
/// When a promise is broken.
pub fn simulate(seed: u64) -> String {
    let mut told = Vec::new();
    let line = run::with(seed, |world| {
        world.pass(100, 1_000);
        world.stall();
        world.keep_little();
        world.need_a_snapshot();
        told.push(world.forget());
    });
    format!("{line}; {}", told.join(", "))
}

impl World<'_> {
    fn machine(&self, number: usize) -> Arc<Machine> {
        self.machines[number].clone()
    }

    fn a_follower(&mut self) -> usize {
        (self.some_leader() + self.random.random_range(1..NODES.len())) % NODES.len()
    }

    /// The leader's log or store answers nothing for a while: the others go on without it.
    fn stall(&mut self) {
        let machine = {
            let leader = self.some_leader();
            self.machine(leader)
        };
        if self.random.random_bool(0.5) {
            machine.disk.stall(true);
            self.progress();
            machine.disk.stall(false);
        } else {
            let store = machine.seen_store.lock().clone().expect("the leader has a store");
            store.stall_commits(true);
            self.progress();
            store.stall_commits(false);
        }
        self.progress();
    }

    /// From their next start on, the machines keep little of their log.
    fn keep_little(&mut self) {
        for number in 0..NODES.len() {
            self.machines[number].log_keep_entries.store(KEPT, Ordering::SeqCst);
            self.cut(number);
            self.restart(number);
            self.progress();
        }
    }

    /// A follower is without power until the others have purged what it lacks.
    fn need_a_snapshot(&mut self) {
        let victim = self.a_follower();
        self.cut(victim);
        let last = self.machines[victim].disk.bounds().last.map_or(0, |last| last.index);
        self.wait("the log to be cut behind what the follower has", move |world| {
            let beyond =
                |machine: &Arc<Machine>| machine.disk.bounds().purged.is_some_and(|purged| purged.index > last);
            world.machines.iter().filter(|machine| beyond(machine)).count() == NODES.len() - 1
        });
        self.restart(victim);
        self.wait("the follower to have what the log lacks", move |world| {
            world.machines[victim].applied() > last + KEPT
        });
        self.progress();
    }

    /// A follower's disk forgets something. It must not take part with what is left; it is replaced and joins anew. Only
    /// the state may be made again, from the log or a snapshot. Says what was forgotten.
    fn forget(&mut self) -> String {
        let victim = self.a_follower();
        let machine = self.machine(victim);
        let (name, applied) = (machine.name, machine.applied());
        self.cut(victim);
        machine.damaged.store(true, Ordering::SeqCst);
        let (what, may_heal) = match self.random.random_range(0..3) {
            0 => {
                let count = self.random.random_range(1..5);
                (format!("{} entries", machine.disk.lose_newest(count)), false)
            }
            1 => {
                machine.disk.lose_everything();
                ("its log".to_owned(), false)
            }
            _ => {
                *machine.store.lock() = Arc::new(MemoryStore::flushing_every(10));
                ("its state".to_owned(), true)
            }
        };
        self.restart(victim);
        let seen = machine.clone();
        self.wait(&format!("{name}, which has lost {what}, to be refused"), move |_| {
            seen.refusal.lock().is_some() || may_heal && seen.applied() > applied
        });
        let Some(_) = machine.refusal.lock().clone() else {
            machine.damaged.store(false, Ordering::SeqCst);
            return format!("{name} lost {what} and healed");
        };
        self.progress();
        self.cut(victim);
        *self.history.remove.lock() = Some(name);
        self.wait("the node to be removed", |world| world.history.remove.lock().is_none());
        machine.replace();
        self.restart(victim);
        self.wait("the new node to vote", move |_| {
            let members = machine.group().map(|group| group.members()).unwrap_or_default();
            members.len() == NODES.len() && members.iter().all(|(_, votes)| *votes)
        });
        self.progress();
        format!("{name} lost {what} and was refused")
    }
}
