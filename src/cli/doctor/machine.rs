//! This machine: room on the disk and how long it takes to make something durable, file descriptors, ports, and the clock.

use std::{
    fs,
    io::{self, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::{
    budget::descriptors,
    cli::remote::{millis, thousands},
    config::ServerConfig,
    model::Limits,
};

/// Below so many free bytes, or so many hundredths of the disk, there is little room.
const LITTLE: (u64, u64) = (5 << 30, 10);
/// Below so many free bytes a node soon cannot write.
const HARDLY_ANY: u64 = 512 << 20;
/// How often a block is written and made durable.
const WRITES: usize = 20;
/// Every acknowledged message waits for about one such time on a majority of the nodes.
const SLOW: Duration = Duration::from_millis(20);
/// Files may be so much newer than the clock says it is: file systems round.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// What the machine is like for a node of this configuration.
pub(super) fn look(config: &ServerConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(dir) = &config.persistence_path {
        let there = existing(dir);
        findings.push(room(&there));
        findings.push(flushes(&there));
        findings.push(clock(dir));
    }
    findings.push(open_files(&config.limits));
    let mut ports = vec![("listen_address", &config.listen_address)];
    ports.push(("health_listen_address", &config.health_listen_address));
    ports.extend(config.cluster.iter().map(|cluster| ("cluster.listen_address", &cluster.listen_address)));
    findings.extend(ports.into_iter().map(|(key, address)| port(key, address)));
    findings
}

/// The directory, or the closest one above it that is there.
fn existing(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find(|dir| dir.is_dir());
    there.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn room(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let [free, all] = [disk.f_bavail, disk.f_blocks].map(|blocks| blocks.saturating_mul(disk.f_frsize));
            judge_room(dir, free, all)
        }
        Err(error) => {
            Finding::problem("disk", format!("{}: {error}", dir.display()), "set persistence_path to a local disk")
        }
    }
}

fn judge_room(dir: &Path, free: u64, all: u64) -> Finding {
    let found = format!("{}: {} of {} are free", dir.display(), gib(free), gib(all));
    let todo = "make room, take a larger disk, or have channels keep less (`liminal channel update --max-bytes`)";
    let (bytes, hundredths) = LITTLE;
    if free < HARDLY_ANY {
        Finding::problem("disk", found, todo)
    } else if free < bytes && free / 100 < all / 10_000 * hundredths {
        Finding::warning("disk", found, todo)
    } else {
        Finding::ok("disk", found)
    }
}

/// How long the disk takes to make a block durable.
fn flushes(dir: &Path) -> Finding {
    match time_flushes(dir) {
        Ok(times) => judge_flushes(dir, &times),
        Err(error) => Finding::problem(
            "fsync",
            format!("{}: a file cannot be written: {error}", dir.display()),
            "let the user that runs the node write there",
        ),
    }
}

fn time_flushes(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".liminal-doctor-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    // It goes with this process, whatever happens.
    fs::remove_file(&path)?;
    let mut times = Vec::new();
    for _ in 0..WRITES {
        let begun = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times)
}

fn judge_flushes(dir: &Path, sorted: &[Duration]) -> Finding {
    let (Some(median), Some(longest)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return Finding::ok("fsync", format!("{}: not measured", dir.display()));
    };
    let found = format!(
        "{}: a flush takes {}, the longest of {} {}",
        dir.display(),
        millis(*median),
        sorted.len(),
        millis(*longest)
    );
    if *median > SLOW {
        let todo =
            "take a disk with a protected write cache (NVMe); each acknowledgement waits for a flush on a majority";
        Finding::warning("fsync", found, todo)
    } else {
        Finding::ok("fsync", found)
    }
}

/// A clock that is behind the node's own files was set back, or was not set yet.
fn clock(dir: &Path) -> Finding {
    let written = fs::read_dir(dir).into_iter().flatten().flatten();
    let newest = written.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max();
    let now = SystemTime::now();
    match newest.and_then(|newest| newest.duration_since(now).ok()).filter(|ahead| *ahead > CLOCK_SLACK) {
        Some(ahead) => Finding::problem(
            "clock",
            format!(
                "the newest file in {} is {} newer than this machine's clock",
                dir.display(),
                humantime::format_duration(Duration::from_secs(ahead.as_secs()))
            ),
            "set the clock, and have a time service (chrony, systemd-timesyncd) keep it",
        ),
        None => Finding::ok("clock", "it is not behind the node's files; `--server` compares it with the cluster"),
    }
}

fn open_files(limits: &Limits) -> Finding {
    let most = getrlimit(Resource::Nofile).maximum;
    let shown = most.map_or("no limit".to_owned(), thousands);
    let mut clamped = limits.clone();
    match descriptors::clamp(&mut clamped, most, 1) {
        None => Finding::ok("descriptors", format!("{shown}: enough for limits.connections")),
        Some(configured) => Finding::warning(
            "descriptors",
            format!(
                "{shown}: enough for {} connections, and limits.connections is {}",
                thousands(clamped.connections as u64),
                thousands(configured as u64)
            ),
            "raise it (LimitNOFILE of the service, ulimit -Hn), or lower limits.connections",
        ),
    }
}

fn port(key: &str, address: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("ports", format!("{key} {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::warning(
            "ports",
            format!("{key} {address} is in use"),
            "nothing if it is this node that runs; else end what listens there, or take another port",
        ),
        Err(error) => Finding::problem(
            "ports",
            format!("{key} {address}: {error}"),
            "listen on an address that this machine has; ports below 1024 need a right of their own",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn a_disk_is_judged_by_what_is_free_and_by_its_size() {
        let level = |free, all| judge_room(Path::new("/d"), free, all).level;
        assert_eq!(level(100 << 30, 1_000 << 30), Level::Ok);
        assert_eq!(level(4 << 30, 100 << 30), Level::Warning);
        assert_eq!(level(4 << 30, 20 << 30), Level::Ok, "a fifth of a small disk");
        assert_eq!(level(100 << 20, 1 << 30), Level::Problem);
    }

    #[test]
    fn a_flush_is_judged_by_the_median_and_one_that_took_long_is_named() {
        let times = |ms: [u64; 3]| ms.map(Duration::from_millis);
        assert_eq!(judge_flushes(Path::new("/d"), &times([1, 2, 90])).level, Level::Ok);
        let slow = judge_flushes(Path::new("/d"), &times([1, 30, 90]));
        assert_eq!(slow.level, Level::Warning);
        assert!(slow.found.contains("30.0 ms") && slow.found.contains("90.0 ms"), "{}", slow.found);
    }

    #[test]
    fn flushes_are_timed_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(time_flushes(dir.path()).unwrap().len(), WRITES);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_port_that_something_listens_on_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = port("listen_address", &taken.local_addr().unwrap().to_string());
        assert_eq!(found.level, Level::Warning);
        assert!(found.found.contains("in use"), "{}", found.found);
        assert_eq!(port("listen_address", "192.0.2.1:1").level, Level::Problem);
    }
}
