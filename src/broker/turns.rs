//! Whose turn it is to judge by a filter. Judging takes time of the processor, and who asks for it chooses how much: a
//! thousand filters of one client would have all others wait for a thousand judgements. So those who ask take turns, one
//! judgement each, however many they wait for: who asks for little waits for as many judgements as there are others that
//! ask, and never for all that one of them wants.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{budget::Origin, model::Limits};

/// Who asks. All connections from one address are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// The node itself, or whoever embeds it.
    Node,
    /// All consumers whose messages are planned here.
    Consumers,
    /// A client.
    Address(Origin),
}

/// See the module; cloning shares it.
#[derive(Clone)]
pub(super) struct Turns {
    queue: Arc<Mutex<Queue>>,
}

struct Queue {
    /// Turns that nobody has; none while somebody waits.
    free: usize,
    /// By who asks, oldest first; nobody's is empty.
    waiting: HashMap<Asker, VecDeque<oneshot::Sender<Turn>>>,
    /// Who asks, each once: the next one first.
    order: VecDeque<Asker>,
}

/// A turn, until it is dropped.
pub(crate) struct Turn {
    /// None once somebody else has it.
    of: Option<Turns>,
}

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Self {
        let queue = Queue { free: at_once.max(1), waiting: HashMap::new(), order: VecDeque::new() };
        Self { queue: Arc::new(Mutex::new(queue)) }
    }

    /// Waits for a turn; none where there will be no more.
    pub(super) async fn take(&self, asker: &Asker) -> Option<Turn> {
        let waits = {
            let mut queue = self.queue.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Some(Turn { of: Some(self.clone()) });
            }
            let (passed, waits) = oneshot::channel();
            queue.wait(asker, passed);
            waits
        };
        waits.await.ok()
    }

    /// Whether so much is asked for already that more of it should hold up nobody.
    pub(super) fn is_crowded_by(&self, asker: &Asker) -> bool {
        self.queue.lock().waiting.get(asker).is_some_and(|waiting| waiting.len() >= Limits::JUDGEMENTS_AWAITED)
    }

    /// Gives a turn to who is next.
    fn pass(&self) {
        loop {
            let Some(next) = self.queue.lock().next() else { return };
            let Err(mut turn) = next.send(Turn { of: Some(self.clone()) }) else { return };
            // It waits no longer.
            turn.of = None;
        }
    }
}

impl Queue {
    fn wait(&mut self, asker: &Asker, passed: oneshot::Sender<Turn>) {
        let waiting = self.waiting.entry(asker.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(asker.clone());
        }
        waiting.push_back(passed);
    }

    /// Who is next; a turn is free where nobody is.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(asker) = self.order.pop_front() {
            let Some(waiting) = self.waiting.get_mut(&asker) else { continue };
            let next = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&asker);
            } else {
                self.order.push_back(asker);
            }
            if next.is_some() {
                return next;
            }
        }
        self.free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.of.take() {
            turns.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::BoxFuture};

    use super::*;

    fn address(name: &str) -> Asker {
        Asker::Address(Origin::of(&format!("{name}:1")))
    }

    /// Somebody who waits.
    fn waiting(turns: &Turns, asker: &Asker) -> BoxFuture<'static, Option<Turn>> {
        let (turns, asker) = (turns.clone(), asker.clone());
        let mut waiting = async move { turns.take(&asker).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    }

    #[tokio::test]
    async fn who_asks_for_little_does_not_wait_for_who_asks_for_much() {
        let turns = Turns::new(1);
        let (greedy, modest) = (address("10.0.0.1"), address("10.0.0.2"));
        let held = turns.take(&greedy).await.unwrap();
        let mut many: Vec<_> = (0..1_000).map(|_| waiting(&turns, &greedy)).collect();
        let mut little = waiting(&turns, &modest);
        assert!(turns.is_crowded_by(&greedy) && !turns.is_crowded_by(&modest));
        drop(held);
        let first = (&mut many[0]).now_or_never().expect("who asked first").unwrap();
        assert!((&mut little).now_or_never().is_none() && (&mut many[1]).now_or_never().is_none());
        drop(first);
        let second = (&mut little).now_or_never().expect("another's turn").unwrap();
        assert!((&mut many[1]).now_or_never().is_none());
        drop(second);
        assert!((&mut many[1]).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_waits_no_longer_is_passed_over_and_no_turn_is_lost() {
        let turns = Turns::new(2);
        let asker = address("10.0.0.1");
        let (one, two) = (turns.take(&asker).await.unwrap(), turns.take(&Asker::Node).await.unwrap());
        let gone: Vec<_> = (0..10_000).map(|_| waiting(&turns, &asker)).collect();
        let mut there = waiting(&turns, &Asker::Consumers);
        drop(gone);
        drop(one);
        // One whose turn has come, and who goes before it is looked at, passes it on.
        let three = (&mut there).now_or_never().expect("it is there").unwrap();
        let unseen = waiting(&turns, &asker);
        drop(two);
        drop(unseen);
        drop(three);
        let queue = turns.queue.lock();
        assert_eq!((queue.free, queue.waiting.len(), queue.order.len()), (2, 0, 0));
    }
}
