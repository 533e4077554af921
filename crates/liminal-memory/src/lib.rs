//! Memory that a burst took goes back to the machine.
//!
//! The C library's allocator keeps what is freed for whoever asks next. What lies between blocks that are still used stays
//! resident for good that way: a node that held a gigabyte of unfinished requests once would hold it for ever. So a thread
//! looks now and then how much of the resident memory is used, and has the rest given back where it is a lot.

use std::{fs, io, sync::Once, thread, time::Duration};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(10);
/// Looks in a row that find much free before it is given back. Under load, what is free now is taken again soon, and each page
/// that was given back costs a fault then.
const LOOKS: u32 = 3;
/// Bytes that may be resident and free: giving them back and taking them again would cost more than they do.
const SPARE: u64 = 8 << 20;
/// So much of what is used may be resident and free beside it.
const SPARE_SHARE: u64 = 8;

/// Looks after the memory of this process from now on; once, however often it is asked.
///
/// # Errors
/// Where no thread can be started.
pub fn look_after() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut started = Ok(());
    ONCE.call_once(|| {
        started = thread::Builder::new().name("liminal-memory".to_owned()).spawn(tend).map(drop);
    });
    started
}

fn tend() {
    let mut found = 0;
    loop {
        thread::sleep(INTERVAL);
        let Some(resident) = resident() else { return };
        let used = used();
        found = if resident > used + used / SPARE_SHARE + SPARE { found + 1 } else { 0 };
        if found == LOOKS {
            give_back();
            found = 0;
        }
    }
}

/// Bytes of this process that are in memory and in no file; none where the system does not say.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Bytes that the allocator has handed out.
#[cfg(target_env = "gnu")]
fn used() -> u64 {
    // SAFETY: it takes nothing, and locks by itself what it reads.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// Gives whole pages that nobody uses back to the system.
#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: it takes no pointer, and locks by itself what it changes.
    unsafe { libc::malloc_trim(0) };
}

/// Other libraries do not say, and give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn used() -> u64 {
    u64::MAX / 2
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_blocks_that_are_used_is_given_back() {
        const BLOCKS: usize = 400_000;
        let mut blocks: Vec<Option<Box<[u8; 512]>>> = (0..BLOCKS).map(|_| Some(Box::new([1; 512]))).collect();
        for (number, block) in blocks.iter_mut().enumerate() {
            if number % 1000 != 0 {
                *block = None;
            }
        }
        let (before, used) = (resident().unwrap(), used());
        assert!(before > used + (150 << 20), "{before} resident, {used} used");
        give_back();
        let after = resident().unwrap();
        assert!(after + (150 << 20) < before, "{before} resident, then {after}");
        assert_eq!(blocks.iter().flatten().count(), BLOCKS / 1000);
    }
}
