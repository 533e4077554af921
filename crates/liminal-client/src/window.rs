//! The publisher's book: which messages wait, which are under way, which have to go again. Pure but for the reply
//! channels, so that batching, order and the fate of messages after a lost connection can be tested without one.

use std::collections::VecDeque;

use prost::Message as _;
use tokio::{sync::oneshot, time::Instant};

use super::{
    error::ClientError,
    message::{Published, malformed},
    retry::{self, Repeat},
};
use liminal_wire::{
    Frame, FrameBuilder,
    v1::{Message, PublishAck},
};

/// How large a batch may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub messages: u32,
    pub bytes: usize,
    /// Batches that are sent before the first of them is acknowledged.
    pub under_way: usize,
}

/// Who waits for a message's outcome, and what may be done to get one.
struct Ticket {
    reply: oneshot::Sender<Result<Published, ClientError>>,
    keyed: bool,
    /// An earlier attempt may have gone through.
    unknown: bool,
    /// What it holds of the publisher's window.
    cost: u32,
    /// When it was handed in.
    since: Instant,
}

impl Ticket {
    fn resolve(self, result: Result<Published, ClientError>) -> u32 {
        let result = result.map_err(|error| if self.unknown { error.unknown() } else { error });
        // Nobody may be waiting any more; the message was sent all the same.
        let _ = self.reply.send(result);
        self.cost
    }
}

#[derive(Default)]
struct Open {
    frame: FrameBuilder,
    tickets: Vec<Ticket>,
}

impl Open {
    fn extend(&mut self, one: &Frame, ticket: Ticket) {
        self.frame.push_frame(one);
        self.tickets.push(ticket);
    }

    fn close(self) -> Batch {
        Batch { frame: self.frame.finish(), tickets: self.tickets.into() }
    }
}

/// Messages in order; `tickets` are those of the last `tickets.len()` messages of the frame: the ones before are
/// acknowledged.
struct Batch {
    frame: Frame,
    tickets: VecDeque<Ticket>,
}

impl Batch {
    /// How many of its messages are acknowledged.
    fn answered(&self) -> u32 {
        self.frame.count() - u32::try_from(self.tickets.len()).unwrap_or(u32::MAX).min(self.frame.count())
    }
}

/// All messages of a publisher that are not acknowledged.
#[derive(Default)]
pub(crate) struct Window {
    open: Open,
    /// To be sent before `open`, in order.
    ready: VecDeque<Batch>,
    /// With the time of sending.
    under_way: VecDeque<(Instant, Batch)>,
    /// Position in the stream of the next ack.
    next_ack: u64,
    /// Messages that were refused for the moment only, to go again once nothing is under way: sending on would put
    /// later messages before them.
    again: Open,
    why_again: Option<ClientError>,
}

impl Window {
    /// Takes a message in.
    pub fn push(
        &mut self,
        message: &Message,
        cost: u32,
        now: Instant,
        limits: BatchLimits,
    ) -> oneshot::Receiver<Result<Published, ClientError>> {
        let (reply, receiver) = oneshot::channel();
        let full = self.open.frame.count() >= limits.messages
            || self.open.frame.len() + message.encoded_len() > limits.bytes && !self.open.frame.is_empty();
        if full {
            self.ready.push_back(std::mem::take(&mut self.open).close());
        }
        self.open.frame.push(message);
        self.open.tickets.push(Ticket { reply, keyed: message.key.is_some(), unknown: false, cost, since: now });
        receiver
    }

    /// The next batch to send: all that waits, within the limits.
    pub fn take(&mut self, now: Instant, limits: BatchLimits) -> Option<Frame> {
        if !self.may_send(limits) {
            return None;
        }
        if self.ready.is_empty() && !self.open.frame.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.open).close());
        }
        let batch = self.ready.pop_front()?;
        let frame = batch.frame.clone();
        self.under_way.push_back((now, batch));
        Some(frame)
    }

    /// Whether another batch may be under way.
    pub fn may_send(&self, limits: BatchLimits) -> bool {
        self.why_again.is_none() && self.under_way.len() < limits.under_way
    }

    /// Whether nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty() && !self.has_waiting()
    }

    /// Whether there is something to send.
    pub fn has_waiting(&self) -> bool {
        !self.ready.is_empty() || !self.open.frame.is_empty() || !self.again.frame.is_empty()
    }

    /// When the oldest batch under way was sent.
    pub fn oldest_under_way(&self) -> Option<Instant> {
        self.under_way.front().map(|(sent, _)| *sent)
    }

    /// The server answered for some messages. Returns what they held of the window, and why the stream should be
    /// left when that is so: the acks make no sense, or some message has to go again and nothing else is under way.
    pub fn acks(&mut self, first: u64, acks: Vec<PublishAck>) -> (u32, Option<ClientError>) {
        let mut freed = 0;
        if first != self.next_ack {
            return (freed, Some(malformed("list of acks")));
        }
        for ack in acks {
            let Some((_, batch)) = self.under_way.front_mut() else {
                return (freed, Some(malformed("list of acks")));
            };
            let position = batch.answered();
            // A batch without a ticket left is taken off below, so there is one.
            let Some(mut ticket) = batch.tickets.pop_front() else { continue };
            self.next_ack += 1;
            let result = match (ack.ok, ack.error) {
                (Some(ok), _) => Ok(Published::from(ok)),
                (None, Some(error)) => Err(ClientError::from_proto(error)),
                (None, None) => Err(malformed("ack").unknown()),
            };
            match result {
                Err(error) if retry::may_retry(&error, Repeat::of_publish(ticket.keyed)) => {
                    ticket.unknown |= error.outcome_unknown();
                    self.again.extend(&batch.frame.skip(position).take(1), ticket);
                    self.why_again = Some(error);
                }
                result => freed += ticket.resolve(result),
            }
            if batch.tickets.is_empty() {
                self.under_way.pop_front();
            }
        }
        (freed, if self.under_way.is_empty() { self.why_again.clone() } else { None })
    }

    /// The stream is over. Messages that may safely go again wait in their old order before all others; the rest of
    /// those under way fail. Returns what the failed ones held of the window.
    pub fn broken(&mut self, error: &ClientError) -> u32 {
        let mut freed = 0;
        let mut again = Vec::from([std::mem::take(&mut self.again).close()]);
        for (_, batch) in self.under_way.drain(..) {
            let mut kept = Open::default();
            for (record, mut ticket) in batch.frame.skip(batch.answered()).records().zip(batch.tickets) {
                // All of these were sent, so whatever the stream's error says, they may have been stored.
                let error = error.clone().unknown();
                if retry::may_retry(&error, Repeat::of_publish(ticket.keyed)) {
                    ticket.unknown = true;
                    kept.frame.push_record(&record);
                    kept.tickets.push(ticket);
                } else {
                    freed += ticket.resolve(Err(error));
                }
            }
            again.push(kept.close());
        }
        for batch in again.into_iter().rev().filter(|batch| !batch.frame.is_empty()) {
            self.ready.push_front(batch);
        }
        self.next_ack = 0;
        self.why_again = None;
        freed
    }

    /// Fails what was handed in before `before`; nothing may be under way. Returns what it held of the window.
    pub fn expire(&mut self, before: Instant, error: &ClientError) -> u32 {
        if !self.open.frame.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.open).close());
        }
        let mut freed = 0;
        while let Some(batch) = self.ready.front_mut() {
            while batch.tickets.front().is_some_and(|ticket| ticket.since <= before) {
                if let Some(ticket) = batch.tickets.pop_front() {
                    freed += ticket.resolve(Err(error.clone()));
                }
            }
            batch.frame = batch.frame.skip(batch.answered());
            if !batch.frame.is_empty() {
                break;
            }
            self.ready.pop_front();
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use liminal_wire::{
        Code,
        v1::{Error, PublishResponse},
    };

    const LIMITS: BatchLimits = BatchLimits { messages: 3, bytes: 1000, under_way: 2 };

    struct Book {
        window: Window,
        now: Instant,
    }

    type Outcome = oneshot::Receiver<Result<Published, ClientError>>;

    impl Book {
        fn new() -> Self {
            Self { window: Window::default(), now: Instant::now() }
        }

        fn push(&mut self, text: &str, key: &str) -> Outcome {
            let key = Some(key.to_owned()).filter(|key| !key.is_empty());
            self.window.push(&Message { key, ..Message::new(text.to_owned()) }, 1, self.now, LIMITS)
        }

        fn take(&mut self) -> Option<Vec<String>> {
            let frame = self.window.take(self.now, LIMITS)?;
            Some(frame.messages().map(|m| String::from_utf8(m.unwrap().payload.to_vec()).unwrap()).collect())
        }
    }

    fn ok(seq: u64) -> PublishAck {
        PublishAck { ok: Some(PublishResponse { seq, ..PublishResponse::default() }), error: None }
    }

    fn refused(code: &str, unknown_outcome: bool) -> PublishAck {
        PublishAck { ok: None, error: Some(Error { code: code.into(), unknown_outcome, ..Error::default() }) }
    }

    fn lost() -> ClientError {
        ClientError::new(Code::ConnectionLost, "").unknown()
    }

    fn seq(outcome: &mut Outcome) -> u64 {
        outcome.try_recv().unwrap().unwrap().seq
    }

    fn failure(outcome: &mut Outcome) -> ClientError {
        outcome.try_recv().unwrap().unwrap_err()
    }

    #[test]
    fn messages_that_come_while_batches_are_under_way_form_the_next_batch() {
        let mut book = Book::new();
        let _a = book.push("a", "");
        assert_eq!(book.take().unwrap(), ["a"]);
        let _b = book.push("b", "");
        assert_eq!(book.take().unwrap(), ["b"]);
        let _rest: Vec<_> = ["c", "d", "e", "f"].map(|text| book.push(text, "")).into();
        assert_eq!(book.take(), None, "two batches are under way, as many as may be");
        assert_eq!(book.window.acks(0, vec![ok(0)]), (1, None));
        assert_eq!(book.take().unwrap(), ["c", "d", "e"]);
        book.window.acks(1, vec![ok(1)]);
        assert_eq!(book.take().unwrap(), ["f"]);
    }

    #[test]
    fn acks_answer_messages_in_order_across_batches() {
        let mut book = Book::new();
        let mut outcomes = ["a", "b", "c"].map(|text| book.push(text, ""));
        book.take();
        let mut last = book.push("d", "");
        book.take();
        assert_eq!(book.window.acks(0, vec![ok(10), ok(11)]), (2, None));
        let (freed, leave) = book.window.acks(2, vec![refused("SCHEMA_VIOLATION", false), ok(12)]);
        assert_eq!((freed, leave.is_none()), (2, true));
        assert_eq!([seq(&mut outcomes[0]), seq(&mut outcomes[1]), seq(&mut last)], [10, 11, 12]);
        assert_eq!(failure(&mut outcomes[2]).code(), "SCHEMA_VIOLATION");
        assert!(book.window.is_empty());
    }

    #[test]
    fn acks_that_answer_nothing_end_the_stream() {
        let mut book = Book::new();
        assert_eq!(book.window.acks(0, vec![ok(0)]).1.unwrap().code(), "INTERNAL");
        let _a = book.push("a", "");
        book.take();
        assert_eq!(book.window.acks(1, vec![ok(0)]).1.unwrap().code(), "INTERNAL");
    }

    #[test]
    fn after_a_lost_connection_keyed_messages_go_again_first_and_others_fail_as_unknown() {
        let mut book = Book::new();
        let mut acked = book.push("a", "ka");
        let mut keyed = book.push("b", "kb");
        let mut plain = book.push("c", "");
        book.take();
        let _d = book.push("d", "kd");
        book.take();
        let _waiting = book.push("e", "");
        book.window.acks(0, vec![ok(0)]);
        assert_eq!(book.window.broken(&lost()), 1);
        assert_eq!(seq(&mut acked), 0);
        assert!(failure(&mut plain).outcome_unknown());
        assert_eq!(book.take().unwrap(), ["b"]);
        assert_eq!(book.take().unwrap(), ["d"]);
        book.window.acks(0, vec![ok(1), ok(2)]);
        assert_eq!(book.take().unwrap(), ["e"]);
        assert_eq!(seq(&mut keyed), 1);
    }

    #[test]
    fn a_message_refused_for_the_moment_goes_again_before_later_ones() {
        let mut book = Book::new();
        let mut first = book.push("a", "");
        book.take();
        let _b = book.push("b", "");
        book.take();
        let _c = book.push("c", "");
        assert_eq!(book.window.acks(0, vec![refused("NO_LEADER", false)]), (0, None));
        assert_eq!(book.take(), None, "nothing may overtake it");
        let (freed, leave) = book.window.acks(1, vec![refused("NO_LEADER", false)]);
        let leave = leave.unwrap();
        assert_eq!((freed, leave.code()), (0, &Code::NoLeader));
        assert_eq!(book.window.broken(&leave), 0);
        assert_eq!(book.take().unwrap(), ["a", "b"]);
        assert_eq!(book.take().unwrap(), ["c"]);
        book.window.acks(0, vec![ok(5)]);
        assert_eq!(seq(&mut first), 5);
    }

    #[test]
    fn a_plain_message_with_an_unknown_outcome_is_not_sent_twice() {
        let mut book = Book::new();
        let mut plain = book.push("a", "");
        let _keyed = book.push("b", "kb");
        book.take();
        let acks = vec![refused("OUTCOME_UNKNOWN", true), refused("OUTCOME_UNKNOWN", true)];
        let (freed, leave) = book.window.acks(0, acks);
        assert_eq!(freed, 1);
        assert!(failure(&mut plain).outcome_unknown());
        book.window.broken(&leave.unwrap());
        assert_eq!(book.take().unwrap(), ["b"]);
    }

    #[test]
    fn what_may_have_been_stored_stays_unknown_when_its_time_is_up() {
        let mut book = Book::new();
        let mut sent = book.push("a", "ka");
        book.take();
        let mut waiting = book.push("b", "kb");
        book.window.broken(&lost());
        book.now += Duration::from_secs(1);
        let mut young = book.push("c", "");
        let error = ClientError::new(Code::Unreachable, "");
        assert_eq!(book.window.expire(book.now - Duration::from_millis(500), &error), 2);
        assert!(failure(&mut sent).outcome_unknown());
        assert!(!failure(&mut waiting).outcome_unknown());
        assert!(young.try_recv().is_err());
        assert_eq!(book.take().unwrap(), ["c"]);
    }
}
