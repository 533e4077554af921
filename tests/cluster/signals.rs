//! How a process begins and ends, as a service manager and an impatient operator see it: exit codes, who leads
//! afterwards, and that two processes never share a data directory. Only a real process has signals and exit codes.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use liminal::client::{Consistency, Message};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{
    eventually,
    processes::{Processes, serve},
    wire,
};

/// A request whose end never comes: it holds a stopping node back until its drain timeout.
async fn unfinished_request(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/channels/orders/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // That comes when the node waits for the body.
    let mut answer = [0; 21];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 100 Continue");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let mut processes = Processes::start(1, Duration::from_secs(300)).await;
    let _holds = unfinished_request(&processes.http[0]).await;
    processes.signal(0, Signal::TERM);
    eventually("the node takes no more connections", async || {
        TcpStream::connect(&processes.http[0]).await.is_err().then_some(())
    })
    .await;
    assert_eq!(processes.ended(0), None, "{}", processes.log(0));
    processes.signal(0, Signal::INT);
    assert_eq!(processes.wait(0).await.code(), Some(1));
    assert!(processes.log(0).contains("error: stopped at once, without draining"), "{}", processes.log(0));
    // Nothing is in the way of the next start.
    processes.run(0);
    processes.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_exits_0_and_hands_leadership_over() {
    let drain = Duration::from_secs(6);
    let mut processes = Processes::start(3, drain).await;
    let client = processes.client().await;
    let message = |text: &str| Message::new(text.to_owned()).with_key(text);
    assert_eq!(client.publish("orders", message("before")).await.unwrap().seq, 0);
    let old = processes.leader().await;
    let others: Vec<usize> = (0..3).filter(|number| *number != old).collect();
    let _holds = unfinished_request(&processes.http[old]).await;
    let begin = Instant::now();
    processes.signal(old, Signal::TERM);
    // The old leader still runs and would still lead, had it not handed over.
    let new = eventually("another node leads", async || {
        let leader = wire::status(&processes.clients[others[0]]).await?.leader;
        others.iter().copied().find(|number| leader == format!("n{number}"))
    })
    .await;
    assert_eq!(processes.ended(old), None, "{}", processes.log(old));
    assert!(begin.elapsed() < drain, "it took {:?}", begin.elapsed());
    assert_ne!(wire::http_status(&processes.http[old], "/ready").await, Some(200));
    assert_eq!(client.publish("orders", message("after")).await.unwrap().seq, 1);
    assert_eq!(processes.wait(old).await.code(), Some(0), "{}", processes.log(old));
    assert!(begin.elapsed() < 3 * drain, "it took {:?}", begin.elapsed());
    let stored = wire::read_all(&processes.clients[new], "orders", Consistency::Linearizable).await;
    assert_eq!(
        stored.iter().map(|(_, _, message)| &message.payload[..]).collect::<Vec<_>>(),
        [b"before".as_slice(), b"after"]
    );
    for number in others {
        processes.signal(number, Signal::TERM);
        assert_eq!(processes.wait(number).await.code(), Some(0), "{}", processes.log(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_locked_against_a_second_process() {
    let mut processes = Processes::start(1, Duration::from_secs(2)).await;
    let second = serve(&processes.config(0)).stderr(Stdio::piped()).spawn().unwrap();
    let second = tokio::task::spawn_blocking(|| second.wait_with_output().unwrap());
    let second = tokio::time::timeout(Duration::from_secs(20), second).await.expect("it ends by itself").unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let directory = processes.data(0);
    assert!(said.contains(directory.to_str().unwrap()) && said.contains("another process"), "{said}");
    // The first one is none the worse for it.
    assert_eq!(processes.client().await.publish("orders", Message::new("a")).await.unwrap().seq, 0);
    processes.signal(0, Signal::TERM);
    assert_eq!(processes.wait(0).await.code(), Some(0), "{}", processes.log(0));
}
