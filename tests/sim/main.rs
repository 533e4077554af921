//! Whole clusters simulated from a seed: three real nodes, their network, disks, clocks and randomness in one
//! process, with faults at the worst moments. The same seed gives the same run.
//!
//! The randomness of a process can be fixed once only, so every seed runs in a process of its own.
//! `LIMINAL_SIM_SEEDS=50` says how many seeds, `LIMINAL_SIM_SEED=7` runs one here (`LIMINAL_SIM_OF=forming` that of how
//! nodes become a cluster, `LIMINAL_SIM_OF=damage` that of disks that stall and forget), with a log if `RUST_LOG` asks for one.

#![allow(missing_docs)]

mod damage;
mod forming;
mod machine;
mod run;
mod world;

use std::process::{Child, Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use rand::{SeedableRng as _, rngs::StdRng};

const ONE: &str = "LIMINAL_SIM_SEED";
const OF: &str = "LIMINAL_SIM_OF";
const HOW_MANY: &str = "LIMINAL_SIM_SEEDS";
const DEFAULT_SEEDS: u64 = 4;
/// Seeds simulated side by side.
const AT_ONCE: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable}={value}: no number")))
}

fn main() {
    if let Some(seed) = number(ONE) {
        // First of all: the first hash map of a thread takes its keys for all that follow.
        mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
        liminal::telemetry::init(liminal::telemetry::LogFormat::Text, "off").expect("RUST_LOG is a filter");
        let simulate = match std::env::var(OF).as_deref() {
            Ok("forming") => forming::simulate,
            Ok("damage") => damage::simulate,
            Ok(other) => panic!("{OF}={other}: there are `forming` and `damage`"),
            Err(_) => run::simulate,
        };
        println!("{}", simulate(seed));
        return;
    }
    let trial = |name: &str, test: fn() -> Result<(), Failed>| Trial::test(name, test);
    let trials = vec![
        trial("every_acknowledged_message_is_there_once_after_partitions_and_power_cuts", || many_seeds(None, 1)),
        trial("fresh_nodes_become_one_cluster_through_partitions_and_power_cuts", || many_seeds(Some("forming"), 10)),
        trial("nothing_is_lost_or_stuck_when_disks_stall_and_forget_and_followers_need_snapshots", || {
            many_seeds(Some("damage"), 1)
        }),
        trial("the_same_seed_gives_the_same_run", one_seed_twice),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// `factor` times as many as usual, where a seed is short.
fn many_seeds(of: Option<&str>, factor: u64) -> Result<(), Failed> {
    let seeds: Vec<u64> = (0..number(HOW_MANY).unwrap_or(DEFAULT_SEEDS) * factor).collect();
    for seeds in seeds.chunks(AT_ONCE) {
        let running: Result<Vec<_>, Failed> = seeds.iter().map(|seed| Ok((*seed, start(*seed, of)?))).collect();
        for (seed, process) in running? {
            println!("{}", summary(seed, process, of)?);
        }
    }
    Ok(())
}

fn one_seed_twice() -> Result<(), Failed> {
    for of in [None, Some("damage")] {
        let [first, second] = [start(7, of)?, start(7, of)?];
        let (first, second) = (summary(7, first, of)?, summary(7, second, of)?);
        if first != second {
            return Err(format!("one run: {first}; another: {second}").into());
        }
    }
    Ok(())
}

/// A process of this program for one seed.
fn start(seed: u64, of: Option<&str>) -> Result<Child, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    of.map(|of| command.env(OF, of));
    command.env(ONE, seed.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// What the process of a seed says in the end.
fn summary(seed: u64, process: Child, of: Option<&str>) -> Result<String, Failed> {
    let output = process.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let log = String::from_utf8_lossy(&output.stderr);
    let of = of.map(|of| format!(" {OF}={of}")).unwrap_or_default();
    Err(format!("seed {seed} failed ({}); run it again with {ONE}={seed}{of}\n{log}", output.status).into())
}
