use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::proto::raft::{Entry, LogId, Matched, append_response::Outcome};

fn request(index: u64, bytes: usize) -> AppendRequest {
    let entry = Entry { id: Some(LogId { term: 1, index }), data: vec![7; bytes].into() };
    AppendRequest { entries: vec![entry], ..AppendRequest::default() }
}

/// Answers with the id of what it was sent.
fn answer(request: &AppendRequest) -> AppendResponse {
    let id = request.entries.last().and_then(|entry| entry.id);
    AppendResponse { outcome: Some(Outcome::Matched(Matched { id })), awaited: false }
}

/// The leader's end of a connection, and the follower's.
fn connected() -> (Connection, Connection) {
    let (ours, other) = tokio::io::duplex(64 << 10);
    (Connection::new(ours), Connection::new(other))
}

async fn follow(connection: Connection) {
    serve(connection, |requests| requests.map(|request| answer(&request))).await.unwrap();
}

#[tokio::test]
async fn requests_are_answered_in_order_and_the_lane_ends_with_them() {
    let (connection, other) = connected();
    let follower = tokio::spawn(follow(other));
    // Some of them larger than what the connection takes at a time.
    let requests = [request(1, 10), request(2, 1 << 20), request(3, 0), request(4, 300_000)];
    let wanted: Vec<_> = requests.iter().map(answer).collect();
    let lane = Lane::new(connection, stream::iter(requests));
    let answers: Vec<_> = lane.map(Result::unwrap).collect().await;
    assert_eq!(answers, wanted);
    follower.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_stays_open() {
    let (connection, other) = connected();
    tokio::spawn(follow(other));
    let (sender, requests) = mpsc::channel(1);
    let mut lane = Lane::new(connection, ReceiverStream::new(requests));
    assert!(timeout(10 * SILENCE, lane.next()).await.is_err());
    sender.try_send(request(1, 1)).unwrap();
    assert_eq!(lane.next().await.unwrap().unwrap(), answer(&request(1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_lane_on_which_nothing_comes_back_is_given_up() {
    let (connection, _kept) = connected();
    let mut lane = Lane::new(connection, stream::pending());
    let error = timeout(2 * SILENCE, lane.next()).await.expect("within the time").unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(lane.next().await.is_none(), "a broken lane has ended");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_falls_silent_is_given_up() {
    let (_silent, other) = connected();
    let served = serve(other, |requests| requests.map(|request| answer(&request)));
    let error = timeout(2 * SILENCE, served).await.expect("within the time").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_large_message_may_take_its_time() {
    let (mut connection, other) = connected();
    let follower = tokio::spawn(follow(other));
    let mut bytes = BytesMut::new();
    let (mut framed, _) = Codec::<AppendRequest, AppendResponse>::over(Connection::new(tokio::io::empty()));
    framed.codec_mut().encode(Some(request(1, 1 << 20)), &mut bytes).unwrap();
    for part in bytes.chunks(100_000) {
        connection.write_all(part).await.unwrap();
        tokio::time::sleep(SILENCE / 2).await;
    }
    connection.shutdown().await.unwrap();
    follower.await.unwrap();
}

#[test]
fn a_message_has_room_from_its_length_on_and_one_that_becomes_too_much_is_refused() {
    let account = Arc::new(Account::default());
    let (mut framed, _) = Codec::<AppendResponse, AppendRequest>::over(Connection::new(tokio::io::empty()));
    let codec = framed.codec_mut();
    codec.account = account.clone();
    let mut buffer = BytesMut::new();
    buffer.put_u32(1 << 20);
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert_eq!(account.arriving_bytes(), 1 << 20);
    buffer.put_bytes(0, 1 << 20);
    assert!(codec.decode(&mut buffer).is_err(), "these are no entries");
    assert_eq!(account.arriving_bytes(), 0);
    // Entries of two bytes each.
    let empties = [0x1a, 0].repeat(1 << 20);
    buffer.clear();
    buffer.put_u32(empties.len() as u32);
    buffer.put_slice(&empties);
    let error = codec.decode(&mut buffer).unwrap_err();
    assert!(error.to_string().contains(&MAX_MESSAGE.to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_disk_is_slow_is_not_given_up() {
    let (connection, other) = connected();
    let slow = async |request: AppendRequest| {
        tokio::time::sleep(5 * SILENCE).await;
        answer(&request)
    };
    tokio::spawn(serve(other, move |requests| requests.then(slow)));
    let lane = Lane::new(connection, stream::iter([request(1, 1), request(2, 1)]));
    assert_eq!(lane.map(Result::unwrap).count().await, 2);
}

#[tokio::test]
async fn a_follower_that_takes_no_entries_says_why() {
    let (mut connection, mut other) = connected();
    admit(&mut other, None).await.unwrap();
    admitted(&mut connection).await.unwrap();
    let (long, text) = ("not let in yet, ".repeat(100), |error: io::Error| error.to_string());
    let refused = admit(&mut other, Some(long.clone())).await.map_err(text);
    assert_eq!(refused, Err(long.clone()));
    assert_eq!(admitted(&mut connection).await.map_err(text), Err(long[..REASON].to_owned()));
}
