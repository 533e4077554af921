//! What clients that mean harm, or are broken, can do to three real nodes with default limits, each of which may take 512 MiB
//! of memory, while a well-behaved client publishes 200 messages a second.
//!
//! `cluster/siege.sh` runs all of it and prints the table of `docs/SECURITY.md`. A few attacks run with the other tests, without
//! the limit of memory and without looking at times. An attack is a row in `attacks.rs`; it says what it was told, and panics
//! when it got what it must not get.

#![allow(missing_docs)]

mod attacks;
mod cage;
mod citizen;
mod raw;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use self::{
    attacks::{Attack, all},
    scene::{Line, Scene},
};

/// Attacks whose names contain one of these, between commas.
const ONLY: &str = "LIMINAL_SIEGE";
/// How much slower a well-behaved client may get.
const SLOWER: u32 = 3;
/// Below this a latency says more about the machine than about the attack.
const NOISE: Duration = Duration::from_millis(25);
/// How much more memory may be resident a minute later, in percent and in MiB.
const MORE_MEMORY: (u64, u64) = (25, 16);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_attacks_kill_nobody_and_store_nothing() {
    let scene = Scene::start(None).await;
    for attack in all().into_iter().filter(|attack| attack.short) {
        let line = scene.line(&attack, Duration::from_secs(1)).await;
        println!("{line}");
        assert_eq!(line.broken(), None, "{}", attack.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour, and may have to be allowed to limit memory: run cluster/siege.sh"]
async fn the_whole_siege() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let wanted = |attack: &Attack| only.split(',').any(|part| attack.name.contains(part.trim()));
    let (mut failed, mut count) = (Vec::new(), 0);
    println!("\n{}", Line::HEAD);
    for attack in all().into_iter().filter(wanted) {
        // Each on nodes of its own: what one leaves behind is not the next one's.
        let scene = Scene::start(Some(512 << 20)).await;
        let line = scene.line(&attack, Duration::from_secs(10)).await;
        println!("{line}");
        count += 1;
        failed.extend(line.broken().or_else(|| line.slow()).map(|why| format!("{}: {why}", attack.name)));
    }
    println!("\n{count} attacks, {} failed", failed.len());
    assert!(failed.is_empty(), "failed: {failed:#?}");
    assert!(count > 0, "no attack is called like `{only}`");
}
