//! An entry of an earlier log that makes more than memory holds: a node gets past it.

use std::{path::Path, time::Duration};

use liminal::{
    client::{self, Client, Consistency, Start},
    codec,
    model::{ChannelConfig, ChannelId, Command, Frame, PublishGroup, Route},
    proto::v1::Message,
    raft::log::{DiskLog, LogEntry, LogPosition, LogStore as _},
};
use rustix::process::Signal;

use super::support::{
    eventually,
    processes::{Node, Processes},
};

/// Channels that get copies: of all four messages, of some, and of others.
const TARGETS: u64 = 720;
const LARGE: usize = 1 << 20;
/// What a node may have: less than what the entry makes, with stacks, code and what the allocator sets aside.
const ADDRESS_KIB: u32 = 1536 << 10;

/// As an earlier version would have left them in its log, which did not look at how much a command makes.
fn commands(time_ms: u64) -> Vec<Command> {
    // `orders` is the first channel.
    let create = |number: u64| {
        let (name, config) = (format!("t{number:03}").parse().unwrap(), ChannelConfig::default());
        Command::CreateChannel { time_ms, name, config }
    };
    let message = |byte: u8| Message { payload: vec![byte; LARGE].into(), ..Message::default() };
    let positions = |number: u64| match number % 3 {
        0 => vec![0, 1, 2, 3],
        1 => vec![0, 2],
        _ => vec![1, 2, 3],
    };
    let route = |number| Route { target: ChannelId(number + 2), schema_id: 0, positions: positions(number) };
    let group = PublishGroup {
        channel: ChannelId(1),
        routes: (0..TARGETS).map(route).collect(),
        frame: Frame::encode(&[1, 2, 3, 4].map(message)),
        ..PublishGroup::default()
    };
    assert!(group.copied_bytes() > 2 << 30);
    let publish = Command::Publish { time_ms, groups: vec![group] };
    (0..TARGETS).map(create).chain([publish]).collect()
}

/// Writes commands to the log of a node that does not run.
fn append(data: &Path, commands: impl FnOnce(u64) -> Vec<Command>) {
    let log = DiskLog::open(&data.join("raft"), 1 << 20).unwrap();
    let LogPosition { term, index } = log.bounds().last.unwrap();
    let next = |(number, command)| (LogPosition { term, index: index + 1 + number }, codec::encode_command(&command));
    let entries: Vec<LogEntry> = (0..).zip(commands(1)).map(next).collect();
    log.append(entries, Box::new(|written| written.unwrap())).unwrap();
    log.close().unwrap();
}

/// The sizes of all payloads of a channel, and their first bytes.
async fn stored(client: &Client, channel: &str) -> Vec<(usize, u8)> {
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let page = client.read(channel, Start::Seq(next), 10, Consistency::Linearizable).await.unwrap();
        found
            .extend(page.messages.iter().map(|received| (received.message.payload.len(), received.message.payload[0])));
        next = page.next_seq;
        if next >= page.end_seq {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_past_an_entry_of_its_log_that_makes_more_than_its_memory_holds() {
    let mut processes = Processes::prepared(1, Duration::from_secs(2), "");
    processes.run(0);
    processes.ready().await;
    let client = processes.client().await;
    eventually("the channel is created", async || client.channel("orders").await.ok()).await;
    processes.signal(0, Signal::TERM);
    assert_eq!(processes.wait(0).await.code(), Some(0));
    append(&processes.data(0), commands);
    processes.differ(0, Node { address_kib: Some(ADDRESS_KIB), ..Node::default() });
    processes.run(0);
    processes.ready().await;
    let client = processes.client().await;
    for (channel, bytes) in
        [("orders", &[1, 2, 3, 4][..]), ("t000", &[1, 2, 3, 4][..]), ("t001", &[1, 3][..]), ("t719", &[2, 3, 4][..])]
    {
        let expected: Vec<_> = bytes.iter().map(|byte| (LARGE, *byte)).collect();
        assert_eq!(stored(&client, channel).await, expected, "{channel}");
    }
    // It goes on from there, and comes back from what it has written.
    client.publish("orders", client::Message::new("after")).await.unwrap();
    processes.kill(0);
    processes.run(0);
    processes.ready().await;
    let client = processes.client().await;
    assert_eq!(stored(&client, "t719").await.len(), 3);
    assert_eq!(stored(&client, "orders").await.len(), 5);
}
