//! What tests of whole clusters share: free addresses, nodes in this process and nodes in processes of their own.
//!
//! Everything listens on loopback and writes to a directory of its own, waits for conditions instead of for time to
//! pass, and ends only what it started itself.

#![allow(dead_code, reason = "no test binary uses all of it")]

pub mod certificates;
pub mod cut;
pub mod damage;
pub mod in_process;
pub mod ports;
pub mod processes;
pub mod wire;

use std::time::Duration;

pub use ports::free_addresses;

/// How long a condition may take to come true on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; panics with what it waited for when there is none in time.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
