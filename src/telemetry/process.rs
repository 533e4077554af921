//! What the process takes of its machine, as the system tells it. What the system does not tell is left out.

use std::{fs, time::Duration};

use rustix::{
    param,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// The process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Bytes of memory that it holds; 0 where the system does not say.
    pub resident_bytes: u64,
    /// How long it has worked, on all processors together.
    pub cpu: Duration,
    /// File descriptors that it has open.
    pub open_descriptors: Option<u64>,
    /// How many it may have; none where there is no limit.
    pub descriptors_limit: Option<u64>,
    /// When it started, in seconds since the Unix epoch.
    pub started: Option<u64>,
}

impl Process {
    /// This process. Reads files of the system, which are in memory.
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let nanoseconds = u32::try_from(cpu.tv_nsec).unwrap_or(0);
        Self {
            resident_bytes: resident_bytes(),
            cpu: Duration::new(u64::try_from(cpu.tv_sec).unwrap_or(0), nanoseconds),
            // The one by which the directory is read is in it too.
            open_descriptors: fs::read_dir("/proc/self/fd").ok().map(|open| (open.count() as u64).saturating_sub(1)),
            descriptors_limit: getrlimit(Resource::Nofile).current,
            started: started(
                &fs::read_to_string("/proc/self/stat").unwrap_or_default(),
                &fs::read_to_string("/proc/stat").unwrap_or_default(),
                param::clock_ticks_per_second(),
            ),
        }
    }
}

/// Bytes of this process in memory. The second figure of `statm` counts resident pages: proc(5).
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * param::page_size() as u64
}

/// The 22nd figure of a process's `stat` is its start in ticks since the machine booted, and `btime` is when that was.
fn started(own: &str, machine: &str, ticks_per_second: u64) -> Option<u64> {
    // The second one is the name of the program in parentheses, which may hold anything.
    let (_, behind_name) = own.rsplit_once(')')?;
    let ticks: u64 = behind_name.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let booted: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + ticks.checked_div(ticks_per_second)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 9 0 12345 1000 200 18446744073709551615";
        let machine = "cpu 1 2 3\nbtime 1700000000\nprocesses 9\n";
        assert_eq!(started(stat, machine, 100), Some(1_700_000_123));
        assert_eq!(started("", machine, 100), None);
        assert_eq!(started(stat, "", 100), None);
    }

    #[test]
    fn a_process_holds_memory_and_descriptors_and_has_begun_in_the_past() {
        let process = Process::now();
        assert!(process.resident_bytes > 0 && process.cpu > Duration::ZERO, "{process:?}");
        assert!(process.open_descriptors.is_some_and(|open| open >= 3), "{process:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        // The machine's clock may have been set since it booted, but not by years.
        let year = 365 * 24 * 60 * 60;
        assert!(process.started.is_some_and(|started| started.abs_diff(now) < year), "{process:?}");
    }
}
