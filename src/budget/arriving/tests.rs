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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
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
