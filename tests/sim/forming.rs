//! One seed: fresh nodes that know all or only some of the others, many more than found a cluster, begin at different times,
//! are cut off from each other and lose their power while they form a cluster. In the end they are one, so there were
//! never two: clusters do not merge.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{machine::Machine, world};

/// As many as may vote.
const NODES: [&str; 7] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
/// There are enough for two clusters of so many.
const EXPECT: usize = 3;
/// Simulated time in which everything has to be over.
const PATIENCE: Duration = Duration::from_secs(120);

/// Simulates a seed; gives a line that says what happened.
///
/// # Panics
/// When the nodes do not become one cluster.
pub fn simulate(seed: u64) -> String {
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let mut random = StdRng::seed_from_u64(seed ^ 0x666f_726d_696e_6721);
    let sim = world::sim(seed, PATIENCE, Duration::from_millis(random.random_range(2..80)));
    let looks = [Looks::All, Looks::Down, Looks::Up][random.random_range(0..3)];
    let machines = machines(seed, looks, &mut random);
    let mut world = World { sim, machines, off: Vec::new(), apart: Vec::new(), cuts: 0, partitions: 0, random };
    world.start();
    world.disturb();
    world.mend();
    let cluster = world.wait();
    let World { sim, machines, cuts, partitions, .. } = &world;
    let (count, elapsed) = (machines.len(), sim.elapsed());
    format!(
        "seed {seed}: {count} nodes that look {looks:?} are cluster {cluster} after {elapsed:?}, {cuts} power cuts, \
         {partitions} partitions"
    )
}

/// Where the nodes look.
#[derive(Clone, Copy, Debug)]
enum Looks {
    /// At all of them.
    All,
    /// At themselves and one of a lower name, so that they hang together.
    Down,
    /// At themselves and one of a higher name.
    Up,
}

fn machines(seed: u64, looks: Looks, random: &mut StdRng) -> Vec<Arc<Machine>> {
    let count = random.random_range(EXPECT..=NODES.len());
    let mut machine = |(number, name)| {
        let seeds = match looks {
            Looks::All => NODES[..count].to_vec(),
            Looks::Down if number > 0 => vec![name, NODES[random.random_range(0..number)]],
            Looks::Up if number + 1 < count => vec![name, NODES[random.random_range(number + 1..count)]],
            Looks::Down | Looks::Up => vec![name],
        };
        Arc::new(Machine::new(seed * 10 + number as u64, name, seeds, EXPECT, random))
    };
    NODES.into_iter().enumerate().take(count).map(&mut machine).collect()
}

struct World<'a> {
    sim: turmoil::Sim<'a>,
    machines: Vec<Arc<Machine>>,
    /// Machines without power.
    off: Vec<usize>,
    /// Machines that do not reach each other.
    apart: Vec<(usize, usize)>,
    cuts: usize,
    partitions: usize,
    random: StdRng,
}

impl World<'_> {
    /// Some of the machines; the others come later.
    fn start(&mut self) {
        for (number, machine) in self.machines.iter().enumerate() {
            let node = machine.clone();
            self.sim.host(machine.name, move || node.clone().serve());
            if self.random.random_bool(0.3) {
                self.sim.crash(machine.name);
                self.off.push(number);
            }
        }
    }

    fn step(&mut self) {
        self.sim.step().unwrap_or_else(|error| panic!("after {:?}: {error}", self.sim.elapsed()));
    }

    /// For a while, one thing after another happens.
    fn disturb(&mut self) {
        let end = Duration::from_millis(self.random.random_range(0..6_000));
        let mut next = Duration::ZERO;
        while self.sim.elapsed() < end {
            if self.sim.elapsed() >= next {
                next += Duration::from_millis(self.random.random_range(5..200));
                self.happen();
            }
            self.step();
        }
    }

    fn happen(&mut self) {
        let mend = self.random.random_bool(0.5);
        let [one, other] = [(); 2].map(|()| self.random.random_range(0..self.machines.len()));
        if let Some(number) = mend.then(|| self.off.pop()).flatten() {
            self.sim.bounce(NODES[number]);
        } else if let Some((one, other)) = mend.then(|| self.apart.pop()).flatten() {
            self.sim.repair(NODES[one], NODES[other]);
        } else if one != other {
            self.sim.partition(NODES[one], NODES[other]);
            self.apart.push((one, other));
            self.partitions += 1;
        } else if !self.off.contains(&one) {
            self.machines[one].cut();
            self.sim.crash(NODES[one]);
            self.off.push(one);
            self.cuts += 1;
        }
    }

    fn mend(&mut self) {
        for number in self.off.drain(..) {
            self.sim.bounce(NODES[number]);
        }
        for (one, other) in self.apart.drain(..) {
            self.sim.repair(NODES[one], NODES[other]);
        }
    }

    /// The cluster in which a node sees all of them vote.
    fn cluster_of(&self, machine: &Machine) -> Option<String> {
        let group = machine.group()?;
        let members = group.members();
        let all = members.len() == self.machines.len() && members.iter().all(|(_, votes)| *votes);
        group.cluster_id().filter(|_| all)
    }

    /// Waits until all are one cluster; gives its id.
    fn wait(&mut self) -> String {
        loop {
            let clusters: Vec<_> = self.machines.iter().map(|machine| self.cluster_of(machine)).collect();
            if let Some(Some(cluster)) = clusters.first()
                && clusters.iter().all(|other| other.as_ref() == Some(cluster))
            {
                return cluster.clone();
            }
            assert!(self.sim.elapsed() + Duration::from_secs(1) < PATIENCE, "they are not one cluster: {clusters:?}");
            self.step();
        }
    }
}
