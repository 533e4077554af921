//! The body of an answer on its way out. With it a request is open, and its bytes count until the connection has sent them:
//! libraries hold what a reader does not take, and an answer that nobody looks at yet is there all the same. So the first
//! part is taken from the body at once, and the parts of a stream wait while too much is unsent.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{
    account::Account,
    level::{Full, Lease},
    open::Open,
};

/// An answer of fewer bytes is given whatever waits to be sent: errors are, and what publishers are told.
const SMALL: usize = 16 << 10;
/// How often one that waits for room looks.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
pub struct Holding<B: Body> {
    body: B,
    account: Arc<Account>,
    _open: Arc<Open>,
    /// What was taken from the body already.
    first: Option<Result<Frame<Bytes>, B::Error>>,
    ended: bool,
    look: Option<Pin<Box<Sleep>>>,
}

/// Bytes that count until nobody holds them any more.
struct Sending {
    bytes: Bytes,
    _counted: Lease,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn sending(frame: Frame<Bytes>, count: impl FnOnce(usize) -> Result<Lease, Full>) -> Result<Frame<Bytes>, Full> {
    match frame.into_data() {
        Ok(bytes) if bytes.is_empty() => Ok(Frame::data(bytes)),
        Ok(bytes) => {
            let counted = count(bytes.len())?;
            Ok(Frame::data(Bytes::from_owner(Sending { bytes, _counted: counted })))
        }
        Err(other) => Ok(other),
    }
}

impl<B: Body<Data = Bytes> + Unpin> Holding<B> {
    /// Open until the body has ended or is dropped.
    pub fn new(body: B, account: Arc<Account>, open: Arc<Open>) -> Self {
        Self { body, account, _open: open, first: None, ended: false, look: None }
    }

    /// Takes what is there of the body.
    ///
    /// # Errors
    /// When it is much, and there is no room for it. Then it is gone, and another body has to take its place.
    pub async fn begin(&mut self) -> Result<(), Full> {
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.body).poll_frame(cx))).await;
        match first {
            Poll::Pending => {}
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(error))) => self.first = Some(Err(error)),
            Poll::Ready(Some(Ok(frame))) => {
                let answers = &self.account.answers;
                let count = |bytes| if bytes < SMALL { Ok(answers.hold(bytes)) } else { answers.take(bytes) };
                let frame =
                    sending(frame, count).inspect_err(|full| self.account.refuse("answer_bytes", full.whose))?;
                self.first = Some(Ok(frame));
            }
        }
        Ok(())
    }

    /// Says something else instead.
    pub fn say_instead(&mut self, body: B) {
        (self.body, self.first, self.ended) = (body, None, false);
    }
}

impl<B: Body> Drop for Holding<B> {
    fn drop(&mut self) {
        self.account.touch();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Holding<B>
where
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        while this.account.answers_are_crowded() {
            let look = this.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            if look.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.look = None;
        }
        this.look = None;
        let next = Pin::new(&mut this.body).poll_frame(cx);
        next.map(|next| {
            let frame = match next? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error)),
            };
            // It is there already.
            let counted = sending(frame, |bytes| Ok(this.account.answers.hold(bytes)));
            counted.ok().map(Ok)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let Some(Ok(frame)) = &self.first else { return hint };
        let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint.set_lower(hint.lower().saturating_add(taken));
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use futures::FutureExt as _;

    use super::*;
    use crate::{
        budget::{Budgets, FaceName},
        model::Limits,
    };

    /// A body of these parts, all of which are there.
    struct Parts(VecDeque<Bytes>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
        }
    }

    fn parts(count: usize, bytes: usize) -> Parts {
        Parts((0..count).map(|_| Bytes::from(vec![7; bytes])).collect())
    }

    async fn next(body: &mut Holding<Parts>) -> Option<Bytes> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        frame.ok()?.into_data().ok()
    }

    fn account(answer_bytes: usize) -> Arc<Account> {
        let budgets = Budgets::new(&Limits { answer_bytes, ..Limits::default() });
        budgets.face(FaceName::Grpc).admit("10.0.0.1:1").unwrap()
    }

    fn holding(account: &Arc<Account>, body: Parts) -> Holding<Parts> {
        Holding::new(body, account.clone(), account.begin_anyway())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_counts_whether_anybody_reads_it_until_it_is_sent() {
        let account = account(1 << 20);
        let mut body = holding(&account, parts(2, 1_000));
        assert_eq!(account.answers.held(), 0);
        body.begin().await.unwrap();
        assert_eq!((account.answers.held(), body.size_hint().exact()), (1_000, Some(2_000)));
        let first = next(&mut body).await.unwrap();
        let second = next(&mut body).await.unwrap();
        assert_eq!((first.len(), account.answers.held()), (1_000, 2_000));
        let part = first.slice(..10);
        drop(first);
        assert_eq!(account.answers.held(), 2_000, "some of it is to be sent yet");
        drop((part, second));
        assert_eq!(account.answers.held(), 0);
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_for_which_there_is_no_room_is_not_given_and_a_small_one_is() {
        let account = account(200_000);
        let mut unread = holding(&account, parts(1, 90_000));
        unread.begin().await.unwrap();
        let mut large = holding(&account, parts(1, 90_000));
        let full = large.begin().await.unwrap_err();
        assert_eq!((full.whose, full.limit), ("connection", 100_000));
        large.say_instead(parts(1, 100));
        large.begin().await.unwrap();
        assert_eq!(next(&mut large).await.unwrap().len(), 100);
        drop(unread);
        holding(&account, parts(1, 90_000)).begin().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_while_its_reader_takes_nothing() {
        let account = account(200_000);
        let mut stream = holding(&account, parts(10, 60_000));
        stream.begin().await.unwrap();
        let [first, second] = [next(&mut stream).await.unwrap(), next(&mut stream).await.unwrap()];
        assert!(next(&mut stream).now_or_never().is_none(), "the connection has more than 100,000 bytes unsent");
        drop(first);
        assert_eq!(next(&mut stream).await.unwrap().len(), 60_000);
        drop(second);
    }
}
