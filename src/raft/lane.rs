//! Log entries and the answers to them travel on a connection of their own to each follower, as protobuf messages with
//! their length in front. HTTP/2 around them would add a layer of frames, tasks and allocations for each message, which is
//! nothing for other requests but shows in what a small entry costs.
//!
//! A lane is on the peers' one port (see `port`), and what it is for is in the proof with which the connection begins. The
//! follower says first whether it takes entries at all.

#[cfg(test)]
mod tests;

use std::{
    io,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, BytesMut};
use futures::{Sink as _, SinkExt as _, Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};

use super::sizes::MAX_MESSAGE;
use crate::{
    budget::{Account, Lease, Refusal, made_of},
    env::Connection,
    proto::raft::{AppendRequest, AppendResponse},
};

/// A message of the usual size is read at once.
const BUFFER: usize = 64 << 10;
/// How often each side of a lane shows the other that it is there: a partition drops packets silently.
const BEAT: Duration = Duration::from_millis(500);
/// A lane on which a side waits in vain for so long is given up.
const SILENCE: Duration = Duration::from_secs(2);

/// The method whose requests are of the kind that lanes carry.
const ENTRIES: &str = "/liminal.raft.v1.Peer/Heartbeat";

/// The longest reason of a follower that takes no entries, bytes.
const REASON: usize = 1024;

/// The follower's side of a fresh lane: says that it takes entries, or why not.
///
/// # Errors
/// When the connection breaks, or it takes none.
pub(super) async fn admit(connection: &mut Connection, refusal: Option<String>) -> io::Result<()> {
    let reason = refusal.as_deref().unwrap_or_default();
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON)];
    let len = u16::try_from(reason.len()).map_err(io::Error::other)?;
    connection.write_all(&[&len.to_be_bytes(), reason].concat()).await?;
    refusal.map_or(Ok(()), |reason| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason)))
}

/// The leader's side: whether the follower takes entries.
///
/// # Errors
/// When the connection breaks, or the follower takes none.
pub(super) async fn admitted(connection: &mut Connection) -> io::Result<()> {
    let len = usize::from(connection.read_u16().await?);
    if len == 0 {
        return Ok(());
    }
    let mut reason = vec![0; len.min(REASON)];
    connection.read_exact(&mut reason).await?;
    Err(io::Error::new(io::ErrorKind::PermissionDenied, String::from_utf8_lossy(&reason)))
}

/// Messages of one kind go out, those of another come in; an empty frame only says that its sender is there.
struct Codec<Out, In> {
    lengths: LengthDelimitedCodec,
    account: Arc<Account>,
    /// Of the message that has begun: memory is taken for all of it as soon as its length is there.
    begun: Option<Lease>,
    kinds: PhantomData<fn(Out) -> In>,
}

impl<Out, In> Codec<Out, In> {
    fn over(connection: Connection) -> (Framed<Heard, Self>, Quiet) {
        let lengths = LengthDelimitedCodec::builder().max_frame_length(MAX_MESSAGE).new_codec();
        let quiet = Quiet::default();
        let codec = Self { lengths, account: connection.account(), begun: None, kinds: PhantomData };
        let heard = Heard { connection, quiet: quiet.clone() };
        (Framed::with_capacity(heard, codec, BUFFER), quiet)
    }
}

/// Since when somebody has been waiting for the other side's bytes; none when there are some, or nobody waits. Bytes
/// count and not messages, because a large one takes its time.
#[derive(Clone, Default)]
struct Quiet(Arc<Mutex<Option<Instant>>>);

impl Quiet {
    fn check(&self) -> io::Result<()> {
        match *self.0.lock() {
            Some(since) if since.elapsed() > SILENCE => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {SILENCE:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// A connection that notes whether something comes.
struct Heard {
    connection: Connection,
    quiet: Quiet,
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.connection).poll_read(cx, buffer);
        let mut quiet = self.quiet.0.lock();
        if read.is_ready() {
            *quiet = None;
        } else {
            quiet.get_or_insert_with(Instant::now);
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

fn beats() -> Interval {
    let mut beats = interval_at(Instant::now() + BEAT, BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

impl<Out: prost::Message, In> Encoder<Option<Out>> for Codec<Out, In> {
    type Error = io::Error;

    fn encode(&mut self, message: Option<Out>, buffer: &mut BytesMut) -> io::Result<()> {
        let len = message.as_ref().map_or(0, prost::Message::encoded_len);
        if len > MAX_MESSAGE {
            return Err(io::Error::other(format!("a message of {len} bytes is larger than {MAX_MESSAGE}")));
        }
        buffer.reserve(size_of::<u32>() + len);
        buffer.put_u32(u32::try_from(len).map_err(io::Error::other)?);
        message.map_or(Ok(()), |message| message.encode(buffer).map_err(io::Error::other))
    }
}

impl<Out, In: prost::Message + Default> Decoder for Codec<Out, In> {
    type Item = Option<In>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Option<In>>> {
        if self.begun.is_none()
            && let Some(length) = buffer.first_chunk()
        {
            let length = (u32::from_be_bytes(*length) as usize).min(MAX_MESSAGE);
            let room = self.account.arriving(length);
            self.begun = Some(room.map_err(|full| io::Error::other(Refusal::Full(full)))?);
        }
        let Some(frame) = self.lengths.decode(buffer)? else { return Ok(None) };
        self.begun = None;
        if frame.is_empty() {
            return Ok(Some(None));
        }
        // Nothing in an answer is repeated, so it may be taken for a request here.
        let made = made_of(ENTRIES, &frame);
        if made > MAX_MESSAGE {
            return Err(io::Error::other(Refusal::Large { bytes: made, limit: MAX_MESSAGE }));
        }
        In::decode(frame.freeze()).map(|message| Some(Some(message))).map_err(io::Error::other)
    }
}

/// The leader's side: sends requests as they come and yields the answers. Ends when the requests have ended and all of
/// them are answered, or with an error.
pub(super) struct Lane<S> {
    framed: Framed<Heard, Codec<AppendRequest, AppendResponse>>,
    quiet: Quiet,
    /// None once they have ended.
    requests: Option<S>,
    /// The follower was told that.
    closed: bool,
    /// Everything was answered, or the lane is broken.
    ended: bool,
    beats: Interval,
    beat_due: bool,
}

impl<S: Stream<Item = AppendRequest> + Unpin> Lane<S> {
    /// On a connection whose follower takes entries.
    pub(super) fn new(connection: Connection, requests: S) -> Self {
        let (framed, quiet) = Codec::over(connection);
        Self { framed, quiet, requests: Some(requests), closed: false, ended: false, beats: beats(), beat_due: false }
    }

    /// Sends what there is, as far as the connection takes it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut framed = Pin::new(&mut self.framed);
        while let Some(requests) = &mut self.requests {
            match framed.as_mut().poll_ready(cx)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(()) if std::mem::take(&mut self.beat_due) => framed.as_mut().start_send(None)?,
                Poll::Ready(()) => match Pin::new(requests).poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(request)) => framed.as_mut().start_send(Some(request))?,
                    Poll::Ready(None) => self.requests = None,
                },
            }
        }
        if self.requests.is_some() {
            let (Poll::Pending | Poll::Ready(())) = framed.poll_flush(cx)?;
        } else if !self.closed {
            // Who cannot be told is gone, which reading will show.
            self.closed = framed.poll_close(cx).is_ready();
        }
        Ok(())
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<AppendResponse>>> {
        let mut check = false;
        while self.beats.poll_tick(cx).is_ready() {
            self.beat_due = true;
            check = true;
        }
        let sent = self.poll_send(cx);
        // What was answered before the lane broke counts.
        while let Poll::Ready(frame) = self.framed.poll_next_unpin(cx)? {
            match frame {
                Some(Some(answer)) => return Poll::Ready(Some(Ok(answer))),
                Some(None) => {}
                None if self.requests.is_none() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            }
        }
        sent?;
        if check {
            self.quiet.check()?;
        }
        Poll::Pending
    }
}

impl<S: Stream<Item = AppendRequest> + Unpin> Stream for Lane<S> {
    type Item = io::Result<AppendResponse>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let answer = this.poll_answer(cx);
        this.ended = matches!(answer, Poll::Ready(None | Some(Err(_))));
        answer
    }
}

/// The follower's side: has the requests answered, and sends the answers, until the leader closes the lane or it breaks.
///
/// # Errors
/// When answers cannot be sent, or the leader is silent.
pub(super) async fn serve<A>(
    connection: Connection,
    answer: impl FnOnce(stream::BoxStream<'static, AppendRequest>) -> A,
) -> io::Result<()>
where
    A: Stream<Item = AppendResponse>,
{
    let (framed, quiet) = Codec::<AppendResponse, AppendRequest>::over(connection);
    let (mut sink, frames) = framed.split();
    let requests = frames.filter_map(|frame| {
        std::future::ready(match frame {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(%error, "a lane broke");
                None // and nothing follows
            }
        })
    });
    let mut answers = pin!(answer(requests.boxed()));
    let mut beats = beats();
    loop {
        let frame = tokio::select! {
            answer = answers.next() => match answer {
                Some(answer) => Some(answer),
                None => return sink.close().await,
            },
            _ = beats.tick() => {
                quiet.check()?;
                None
            }
        };
        sink.send(frame).await?;
    }
}
