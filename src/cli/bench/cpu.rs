//! CPU time and memory of processes, from `/proc`. Where there is no such thing, they are unknown.

use std::{fs, time::Duration};

/// User and system time of a process so far.
fn of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64))
}

/// CPU time that servers and this process take from now on.
pub struct Meter {
    servers: Option<Duration>,
    client: Option<Duration>,
}

impl Meter {
    /// Begins to count.
    pub fn start(servers: &[u32]) -> Self {
        Self { servers: of_all(servers), client: of(std::process::id()) }
    }

    /// What the servers and this process took since.
    pub fn read(&self, servers: &[u32]) -> (Option<Duration>, Option<Duration>) {
        let now = Self::start(servers);
        let spent = |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?));
        (spent(self.servers, now.servers), spent(self.client, now.client))
    }
}

/// Of several processes together; none when one of them cannot be read.
fn of_all(pids: &[u32]) -> Option<Duration> {
    if pids.is_empty() { None } else { pids.iter().map(|pid| of(*pid)).sum() }
}

/// Resident bytes of each process; empty when one of them cannot be read.
pub fn memory_of_all(pids: &[u32]) -> Vec<u64> {
    let resident = |pid: &u32| {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    };
    pids.iter().map(resident).collect::<Option<_>>().unwrap_or_default()
}

/// utime and stime are the 12th and 13th fields after the name, which stands in parentheses and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The processes whose CPU time and memory are told: those that were named, or the servers that are here.
pub fn servers(named: &[u32], addresses: &[String]) -> Vec<u32> {
    if named.is_empty() { servers_here(addresses) } else { named.to_vec() }
}

/// The server processes of this machine, when all servers are on it.
fn servers_here(servers: &[String]) -> Vec<u32> {
    let local = |server: &String| {
        let host = server.strip_prefix("http://").unwrap_or(server);
        ["127.", "localhost:", "[::1]:"].iter().any(|prefix| host.starts_with(prefix))
    };
    if !servers.iter().all(local) {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|cmdline| is_server(&cmdline)))
        .collect()
}

fn is_server(cmdline: &[u8]) -> bool {
    let mut words = cmdline.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name == b"liminal" && words.any(|word| word == b"serve" || word == b"dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_any_process_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn servers_are_told_from_other_commands() {
        assert!(is_server(b"/usr/bin/liminal\0serve\0--config\0f\0"));
        assert!(is_server(b"liminal\0dev\0"));
        assert!(!is_server(b"liminal\0bench\0publish\0"));
        assert!(!is_server(b"/usr/bin/other\0serve\0"));
    }
}
