//! The body of a request on its way to whoever answers it: its bytes are counted before they are handed on, and it has to
//! come at the least rate. A body over HTTP is one thing; one over gRPC is a row of messages, each with its length in
//! front, for which the decoder takes memory as soon as it has seen that: so a message is counted as a whole from then on.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    account::Account,
    clocks::Why,
    level::{Full, Lease},
    messages::{Brought, Messages},
};
use crate::proto::shapes;

/// How long a request waits for room before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room for its bytes.
    Full(Full),
    /// It did not bring so many bytes in so long a time.
    Slow {
        /// Bytes that have to come.
        bytes: u64,
        /// In this time.
        within: Duration,
    },
    /// It becomes more than one connection may have.
    Large {
        /// Bytes that it takes once it is decoded, as far as it has come.
        bytes: usize,
        /// What one message may take.
        limit: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(Full { whose, held, limit }) => {
                write!(f, "unfinished requests of this {whose} hold {held} bytes; the limit is {limit}")
            }
            Self::Slow { bytes, within } => {
                write!(f, "the request is not complete, and fewer than {bytes} bytes of it came within {within:?}")
            }
            Self::Large { bytes, limit } => {
                write!(f, "the message takes {bytes} bytes or more once it is decoded; the limit is {limit}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// How a request gets on: shared by its body and whoever answers it.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    account: Arc<Account>,
    lease: Lease,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    answered: bool,
    /// Bytes that have come whole and count until the request is answered.
    whole: usize,
    refusal: Option<Refusal>,
}

impl Progress {
    fn new(account: Arc<Account>) -> Self {
        let lease = account.arriving.hold(0);
        Self(Arc::new(Shared { account, lease, told: Mutex::default() }))
    }

    /// The answer begins: what came whole counts no longer, and neither does what comes whole from now on, which is in
    /// other hands.
    pub fn answered(&self) {
        let mut told = self.0.told.lock();
        told.answered = true;
        self.0.lease.shrink(std::mem::take(&mut told.whole));
    }

    /// Why it did not arrive, if it was refused.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.told.lock().refusal
    }

    fn is_answered(&self) -> bool {
        self.0.told.lock().answered
    }

    /// Bytes that are counted have come whole.
    fn whole(&self, bytes: usize) {
        let mut told = self.0.told.lock();
        if told.answered {
            self.0.lease.shrink(bytes);
        } else {
            told.whole += bytes;
        }
    }

    fn refuse(&self, refusal: Refusal) {
        let why = match refusal {
            Refusal::Full(full) => full.whose,
            Refusal::Slow { .. } => Why::Slow.name(),
            Refusal::Large { .. } => "decoded",
        };
        self.0.account.refuse("arriving_bytes", why);
        self.0.told.lock().refusal = Some(refusal);
    }
}

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

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, channel::mpsc, future::poll_fn};

    use super::*;
    use crate::{
        budget::{Budgets, FaceName, Origin, messages::PREFIX},
        model::Limits,
    };

    /// A body whose frames the test sends.
    struct Sent(mpsc::Receiver<Bytes>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_next_unpin(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    async fn next(body: &mut (impl Body<Data = Bytes, Error = BoxError> + Unpin)) -> Option<Result<usize, Refusal>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        let length = frame.map(|frame| frame.into_data().map_or(0, |data| data.len()));
        Some(length.map_err(|error| *error.downcast().expect("a refusal")))
    }

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat()
    }

    fn limits() -> Limits {
        let (arriving_bytes, connection_in_flight_bytes) = (8 << 20, 2 << 20);
        let limits = Limits { arriving_bytes, connection_in_flight_bytes, ..Limits::default() };
        Limits { batch_bytes: 1 << 20, message_bytes: 1 << 20, ..limits }
    }

    /// An account of a new face, and what that holds of arriving bytes.
    fn account(face: FaceName) -> (Arc<Account>, impl Fn() -> u64) {
        let budgets = Budgets::new(&limits());
        let account = budgets.face(face).admit("10.0.0.1:1").unwrap();
        assert_eq!(account.origin, Origin::of("10.0.0.1:2"));
        let held = move || {
            let held = budgets.held().into_iter();
            held.filter(|held| (held.0, held.1) == (face.name(), "arriving_bytes")).map(|held| held.2).sum()
        };
        (account, held)
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_counts_from_its_length_on_until_it_is_whole_and_the_answer_has_begun() {
        let (account, held) = account(FaceName::Grpc);
        let (mut sender, receiver) = mpsc::channel(4);
        let (mut body, progress) = Arriving::messages(Sent(receiver), account, "", 1 << 20, Into::into);
        let data = Bytes::from(message(1000));
        sender.try_send(data.slice(..10)).unwrap();
        assert_eq!((next(&mut body).await, held()), (Some(Ok(10)), 1000));
        sender.try_send(data.slice(10..)).unwrap();
        assert_eq!((next(&mut body).await, held()), (Some(Ok(995)), 1000));
        progress.answered();
        assert_eq!(held(), 0);
        sender.try_send(data.clone()).unwrap();
        assert_eq!((next(&mut body).await, held()), (Some(Ok(1005)), 0), "it is whole at once");
        sender.try_send(data.slice(..10)).unwrap();
        assert_eq!((next(&mut body).await, held()), (Some(Ok(10)), 1000));
        drop((body, progress));
        assert_eq!(held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_waits_a_moment_and_is_refused() {
        let (account, held) = account(FaceName::Grpc);
        let begin = |length: usize| {
            let (mut sender, receiver) = mpsc::channel(4);
            sender.try_send(Bytes::from(message(length)).slice(..PREFIX)).unwrap();
            let (body, progress) = Arriving::messages(Sent(receiver), account.clone(), "", 1 << 20, Into::into);
            (sender, body, progress)
        };
        let mut first: Vec<_> = (0..3).map(|_| begin(1 << 20)).collect();
        for (_, body, _) in &mut first {
            assert_eq!(next(body).await, Some(Ok(PREFIX)));
        }
        assert_eq!(held(), 3 << 20, "a connection has room for the largest request");
        let (_sender, mut refused, progress) = begin(1 << 20);
        let Some(Err(Refusal::Full(full))) = next(&mut refused).await else { panic!("there is no room") };
        assert_eq!((full.whose, progress.refusal()), ("connection", Some(Refusal::Full(full))));
        let (_sender, mut waits, _) = begin(1 << 20);
        assert!(next(&mut waits).now_or_never().is_none());
        first.pop();
        assert_eq!(next(&mut waits).await, Some(Ok(PREFIX)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_counts_with_what_decoding_makes_of_it_and_too_much_of_that_is_refused_before_it_is_done() {
        let empties = |count: usize| {
            let empties = [0x0a, 0].repeat(count);
            Bytes::from([&[0][..], &(empties.len() as u32).to_be_bytes(), &empties].concat())
        };
        let (account, held) = account(FaceName::Grpc);
        let path = "/liminal.v1.Broker/PublishTransaction";
        let begin = || {
            let (sender, receiver) = mpsc::channel(4);
            (sender, Arriving::messages(Sent(receiver), account.clone(), path, 1 << 20, Into::into))
        };
        let (mut sender, (mut body, progress)) = begin();
        let few = empties(1_000);
        sender.try_send(few.clone()).unwrap();
        assert_eq!(next(&mut body).await, Some(Ok(few.len())));
        assert!(held() > 2_000 + 1_000 * 200, "{} bytes of a thousand messages", held());
        progress.answered();
        assert_eq!(held(), 0);
        let (mut sender, (mut body, _progress)) = begin();
        sender.try_send(empties(100_000)).unwrap();
        let Some(Err(Refusal::Large { bytes, limit })) = next(&mut body).await else { panic!("it is not refused") };
        assert!(bytes > limit && limit == 3 << 20, "{bytes} of {limit}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_a_length_counts_as_it_comes_and_has_to_come_at_the_least_rate() {
        let (account, held) = account(FaceName::Http);
        let (mut sender, receiver) = mpsc::channel(4);
        let (mut body, progress) = Arriving::whole(Sent(receiver), account, 1 << 20);
        let least = progress.0.account.clocks().least() as usize;
        for _ in 0..3 {
            sender.try_send(vec![7; least].into()).unwrap();
            assert_eq!(next(&mut body).await, Some(Ok(least)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(held(), 3 * least as u64);
        let began = Instant::now();
        let Some(Err(Refusal::Slow { .. })) = next(&mut body).await else { panic!("nothing comes") };
        assert!(began.elapsed() <= 2 * Limits::default().slow_after);
        drop((body, progress));
        assert_eq!(held(), 0);
    }
}
