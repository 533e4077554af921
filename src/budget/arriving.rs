//! The body of a request on its way to whoever answers it: its bytes are counted before they are handed on, and it has to
//! come at the least rate. A body over HTTP is one thing; one over gRPC is a row of messages, each with its length in
//! front, for which the decoder takes memory as soon as it has seen that: so a message is counted as a whole from then on.

#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    account::Account,
    messages::{Brought, Messages},
    progress::{Progress, Refusal},
};
use crate::proto::shapes;

/// How long a request waits for room before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a body is made of.
enum Shape {
    /// One thing; all of it is counted already where its length was told.
    Whole { counted: bool },
    /// Messages.
    Messages(Messages),
}

/// A body that is counted as it comes.
pub struct Arriving<B> {
    body: B,
    progress: Progress,
    /// Makes the error that whoever reads the body gets.
    explain: fn(Refusal) -> BoxError,
    shape: Shape,
    /// What came and waits for room, and its bytes: they are unread until then.
    ready: Option<Frame<Bytes>>,
    unread: usize,
    /// Bytes for which there has to be room before anything is handed on.
    wanted: usize,
    /// Those of them that are whole by then.
    whole: usize,
    room: Option<Room>,
    pace: Option<Pace>,
    /// Nothing more of it is there now.
    waits: bool,
    ended: bool,
}

/// A wait for room.
struct Room {
    until: Instant,
    look: Pin<Box<Sleep>>,
}

/// How much came since the body was last waited for in vain.
struct Pace {
    bytes: u64,
    check: Pin<Box<Sleep>>,
}

impl<B: Body> Arriving<B> {
    /// One thing of at most so many bytes; whoever reads it refuses more.
    pub fn whole(body: B, account: Arc<Account>, most: usize) -> (Self, Progress) {
        let length = body.size_hint().exact();
        let length = length.map(|length| usize::try_from(length).map_or(most, |length| length.min(most)));
        let shape = Shape::Whole { counted: length.is_some() };
        Self::new(body, account, shape, length.unwrap_or(0), Into::into)
    }

    /// Messages over gRPC for a method with this path, of at most so many bytes; whoever decodes them refuses more, and
    /// gets what `explain` makes of a refusal.
    pub fn messages(
        body: B,
        account: Arc<Account>,
        path: &str,
        most: usize,
        explain: fn(Refusal) -> BoxError,
    ) -> (Self, Progress) {
        let messages = Messages::of_at_most(most, shapes::of(path));
        Self::new(body, account, Shape::Messages(messages), 0, explain)
    }

    fn new(
        body: B,
        account: Arc<Account>,
        shape: Shape,
        wanted: usize,
        explain: fn(Refusal) -> BoxError,
    ) -> (Self, Progress) {
        account.body_begins();
        let progress = Progress::new(account);
        let arriving = Self {
            body,
            progress: progress.clone(),
            explain,
            shape,
            ready: None,
            unread: 0,
            wanted,
            whole: wanted,
            room: None,
            pace: None,
            waits: false,
            ended: false,
        };
        (arriving, progress)
    }
}

impl<B> Arriving<B> {
    /// What is wanted is counted, once there is room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while self.wanted > 0 {
            let Err(full) = self.progress.0.lease.grow(self.wanted) else {
                (self.wanted, self.room) = (0, None);
                self.progress.whole(std::mem::take(&mut self.whole));
                break;
            };
            let room =
                self.room.get_or_insert_with(|| Room { until: Instant::now() + PATIENCE, look: Box::pin(sleep(LOOK)) });
            if room.look.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= room.until {
                return Poll::Ready(Err(Refusal::Full(full)));
            }
            room.look.as_mut().reset(Instant::now() + LOOK);
        }
        Poll::Ready(Ok(()))
    }

    /// Counts what came.
    ///
    /// # Errors
    /// When decoding it would make more than one connection may have arriving.
    fn came(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.unread = data.len();
        if let Some(pace) = &mut self.pace {
            pace.bytes += data.len() as u64;
        }
        match &mut self.shape {
            Shape::Whole { counted: true } => {}
            Shape::Whole { counted: false } => (self.wanted, self.whole) = (data.len(), data.len()),
            Shape::Messages(messages) => {
                let Brought { whole, begun, ended, most_made } = messages.walk(data);
                let limit = self.progress.0.account.most_arriving();
                if most_made > limit {
                    return Err(Refusal::Large { bytes: most_made, limit });
                }
                if ended > 0 {
                    self.progress.whole(ended);
                }
                // Once the answer has begun, what is whole at once is in other hands at once.
                self.whole = if self.progress.is_answered() { 0 } else { whole };
                self.wanted = begun + self.whole;
            }
        }
        if !self.is_within() {
            self.pace = None;
        }
        Ok(())
    }

    fn took(&mut self) {
        match std::mem::take(&mut self.unread) {
            0 => {}
            bytes => self.progress.0.account.took(bytes),
        }
    }

    /// Whether more has to come before anything can be done with what is there.
    fn is_within(&self) -> bool {
        match &self.shape {
            Shape::Whole { .. } => true,
            Shape::Messages(messages) => messages.is_within() || !self.progress.is_answered(),
        }
    }

    /// Pending, unless what is awaited takes too long.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        if !self.is_within() {
            self.pace = None;
            return Poll::Pending;
        }
        let clocks = self.progress.0.account.clocks();
        let (within, least) = (clocks.slow, clocks.least());
        let pace = self.pace.get_or_insert_with(|| Pace { bytes: 0, check: Box::pin(sleep(within)) });
        while pace.check.as_mut().poll(cx).is_ready() {
            if std::mem::take(&mut pace.bytes) < least {
                return Poll::Ready(Refusal::Slow { bytes: least, within });
            }
            pace.check.as_mut().reset(Instant::now() + within);
        }
        Poll::Pending
    }

    fn waits(&mut self, waits: bool) {
        if self.waits != waits && !self.ended {
            self.waits = waits;
            self.progress.0.account.body_waits(waits);
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.took();
            self.progress.0.account.body_ends(self.waits);
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> BoxError {
        self.progress.refuse(refusal);
        self.end();
        (self.explain)(refusal)
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.poll_room(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(refusal)) => return Poll::Ready(Some(Err(this.refuse(refusal)))),
                Poll::Ready(Ok(())) => {}
            }
            if let Some(frame) = this.ready.take() {
                this.took();
                return Poll::Ready(Some(Ok(frame)));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.waits(false);
                    if let Some(data) = frame.data_ref()
                        && let Err(refusal) = this.came(data)
                    {
                        return Poll::Ready(Some(Err(this.refuse(refusal))));
                    }
                    this.ready = Some(frame);
                }
                Poll::Ready(Some(Err(error))) => {
                    this.end();
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    this.end();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    this.waits(true);
                    return this.poll_pace(cx).map(|slow| Some(Err(this.refuse(slow))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.end();
    }
}
