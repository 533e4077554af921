//! How far the log is committed travels with the next entry. When there is none, it takes a message of its own, which
//! wakes every follower once more for each entry: half of the messages of a leader with one publisher. Where nobody
//! waits for it, that message is held back for a moment, in which the next entry usually comes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, task::AtomicWaker};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, Sleep, sleep};

use super::encoding::TypeConfig;

/// How long a follower hears nothing of a commit that nobody on it waits for.
const HOLD: Duration = Duration::from_millis(2);

type Append = AppendEntriesRequest<TypeConfig>;

/// Whether somebody on a follower waits for commits. The follower says so with each answer.
#[derive(Default)]
pub(super) struct Awaited {
    quiet: AtomicBool,
    waker: AtomicWaker,
}

impl Awaited {
    pub(super) fn set(&self, awaited: bool) {
        if self.quiet.swap(!awaited, Ordering::Relaxed) && awaited {
            self.waker.wake();
        }
    }

    fn get(&self) -> bool {
        !self.quiet.load(Ordering::Relaxed)
    }
}

/// A leader's messages to one follower, without those that the next one makes superfluous.
pub(super) struct HeldCommits<S> {
    input: S,
    awaited: Arc<Awaited>,
    /// The first message asks the follower what it has.
    begun: bool,
    held: Option<Append>,
    until: Pin<Box<Sleep>>,
}

impl<S> HeldCommits<S> {
    pub(super) fn new(input: S, awaited: Arc<Awaited>) -> Self {
        Self { input, awaited, begun: false, held: None, until: Box::pin(sleep(HOLD)) }
    }
}

impl<S: Stream<Item = Append> + Unpin> Stream for HeldCommits<S> {
    type Item = Append;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Append>> {
        let this = &mut *self;
        while let Poll::Ready(next) = Pin::new(&mut this.input).poll_next(cx) {
            // The stream's end is no reason to send what is held: the next stream begins with a question.
            let Some(request) = next else { return Poll::Ready(None) };
            let begun = std::mem::replace(&mut this.begun, true);
            if !begun || !request.entries.is_empty() || this.awaited.get() {
                // It says how far the log is committed, too.
                this.held = None;
                return Poll::Ready(Some(request));
            }
            if this.held.replace(request).is_none() {
                this.until.as_mut().reset(Instant::now() + HOLD);
            }
        }
        if this.held.is_none() {
            return Poll::Pending;
        }
        this.awaited.waker.register(cx.waker());
        if this.awaited.get() || this.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(this.held.take());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use openraft::entry::RaftEntry as _;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::{
        super::{
            encoding::{EntryOf, VoteOf, log_id},
            log::LogPosition,
        },
        *,
    };

    fn message(entries: u64, committed: u64) -> Append {
        let id = |index| log_id(LogPosition { term: 1, index });
        AppendEntriesRequest {
            vote: VoteOf::new_committed(1, 1),
            prev_log_id: Some(id(9)),
            entries: (0..entries).map(|entry| EntryOf::new_blank(id(10 + entry))).collect(),
            leader_commit: Some(id(committed)),
        }
    }

    /// The messages, the follower's word, and what is sent.
    fn messages() -> (mpsc::Sender<Append>, Arc<Awaited>, HeldCommits<ReceiverStream<Append>>) {
        let (sender, receiver) = mpsc::channel(8);
        let awaited = Arc::new(Awaited::default());
        awaited.set(false);
        (sender, awaited.clone(), HeldCommits::new(ReceiverStream::new(receiver), awaited))
    }

    fn sent(stream: &mut (impl Stream<Item = Append> + Unpin)) -> Option<(usize, u64)> {
        sent_next(stream).now_or_never().flatten()
    }

    async fn sent_next(stream: &mut (impl Stream<Item = Append> + Unpin)) -> Option<(usize, u64)> {
        let request = stream.next().await?;
        Some((request.entries.len(), request.leader_commit.map_or(0, |id| id.index)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_nobody_waits_for_travels_with_the_next_entry() {
        let (sender, _, mut stream) = messages();
        for request in [message(0, 1), message(0, 2), message(1, 3)] {
            sender.try_send(request).unwrap();
        }
        assert_eq!(sent(&mut stream), Some((0, 1)), "the first message of a stream is a question");
        assert_eq!(sent(&mut stream), Some((1, 3)));
        assert_eq!(sent(&mut stream), None);
        tokio::time::advance(2 * HOLD).await;
        assert_eq!(sent(&mut stream), None, "what the entry said is not said again");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_next_entry_it_is_told_a_little_later() {
        let (sender, _, mut stream) = messages();
        for request in [message(1, 1), message(0, 2), message(0, 3)] {
            sender.try_send(request).unwrap();
        }
        assert_eq!((sent(&mut stream), sent(&mut stream)), (Some((1, 1)), None));
        tokio::time::advance(2 * HOLD).await;
        assert_eq!((sent(&mut stream), sent(&mut stream)), (Some((0, 3)), None));
    }

    #[tokio::test(start_paused = true)]
    async fn where_somebody_waits_it_is_told_at_once() {
        let (sender, awaited, mut stream) = messages();
        for request in [message(1, 1), message(0, 2)] {
            sender.try_send(request).unwrap();
        }
        assert_eq!((sent(&mut stream), sent(&mut stream)), (Some((1, 1)), None));
        let waits = tokio::spawn(async move { (sent_next(&mut stream).await, stream) });
        tokio::task::yield_now().await;
        awaited.set(true);
        let (told, mut stream) = waits.await.unwrap();
        assert_eq!(told, Some((0, 2)), "also what is held already");
        sender.try_send(message(0, 3)).unwrap();
        assert_eq!(sent(&mut stream), Some((0, 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ends_takes_what_is_held_with_it() {
        let (sender, _, mut stream) = messages();
        for request in [message(1, 1), message(0, 2)] {
            sender.try_send(request).unwrap();
        }
        drop(sender);
        assert_eq!(sent(&mut stream), Some((1, 1)));
        assert!(matches!(stream.next().now_or_never(), Some(None)));
    }
}
