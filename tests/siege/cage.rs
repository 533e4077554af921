//! A limit of memory for a process, by a control group of its own, and what its memory is.

use std::{fs, io, path::PathBuf};

/// A control group that goes when it is dropped, once its process has ended.
pub struct Cage(PathBuf);

impl Cage {
    /// Puts a process under a limit of bytes. Needs a system whose control groups this user may change.
    pub fn close(pid: u32, bytes: u64) -> io::Result<Self> {
        let (root, limit) = if fs::exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")? {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")?;
            ("/sys/fs/cgroup", "memory.max")
        };
        let cage = Self(PathBuf::from(root).join(format!("liminal-siege-{pid}")));
        fs::create_dir(&cage.0)?;
        fs::write(cage.0.join(limit), bytes.to_string())?;
        fs::write(cage.0.join("cgroup.procs"), pid.to_string())?;
        Ok(cage)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // A process that has not ended yet keeps its group; an empty group costs nothing.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Resident memory of a process and the most there was since [`forget_peak`], in MiB.
pub fn resident(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib >> 10)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

pub fn forget_peak(pid: u32) {
    // Where the kernel does not let anybody, the peak is that of the process's whole life.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}
