//! When each address was last complained of in the log. A search for the cluster goes round many times a second, and says
//! of a node with another cookie the same each time.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two log lines about one address.
const PAUSE: Duration = Duration::from_secs(30);

/// Addresses that are remembered.
const MOST: usize = 1024;

/// See the module. Knows only the addresses of the last half minute.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<String, Instant>>);

impl Complaints {
    /// Whether a line about the address is to be written now, which it then is.
    pub(crate) fn is_due(&self, address: &str) -> bool {
        let mut last = self.0.lock();
        last.retain(|_, at| at.elapsed() < PAUSE);
        // Those beyond are told of when others are forgotten.
        let due = last.len() < MOST && !last.contains_key(address);
        if due {
            last.insert(address.to_owned(), Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_complained_of_once_in_a_while() {
        let complaints = Complaints::default();
        assert!(complaints.is_due("n2:7301") && complaints.is_due("n3:7301"));
        tokio::time::advance(PAUSE / 2).await;
        assert!(!complaints.is_due("n2:7301"));
        tokio::time::advance(PAUSE / 2).await;
        assert!(complaints.is_due("n2:7301") && !complaints.is_due("n2:7301"));
    }
}
