//! Dead letters that are sent back while the leader is killed.

use std::{collections::BTreeMap, time::Duration};

use liminal::client::{Client, Confirm, Consistency, ConsumerConfig, DeadLetterSelection, Message, Redrive, Start};

use super::support::{PATIENCE, eventually, processes::Processes};

const LETTERS: u64 = 400;

/// As the cluster writes one.
fn letter(number: u64) -> Message {
    let seq = number.to_string();
    let said = [("channel", "orders"), ("seq", &seq), ("consumer", "w"), ("attempts", "1"), ("hops", "1")];
    let message = Message::new(number.to_string()).with_key(format!("k{number}"));
    said.into_iter()
        .fold(message, |message, (name, value)| message.with_header(format!("liminal-dead-letter-{name}"), value))
}

/// Calls again and again until nothing is left; gives how many letters went, and how many went without an answer.
async fn redrive(client: &Client, limit: u64, told: &tokio::sync::watch::Sender<u64>) -> (u64, u64) {
    let (mut from_seq, mut moved, mut unsure) = (0, 0, 0);
    loop {
        let selection = DeadLetterSelection::new().channel("orders").consumer("w").from_seq(from_seq).limit(limit);
        let Ok(done) = client.redrive(Redrive::new().selection(selection)).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        moved += done.moved;
        unsure += done.unsure;
        told.send_modify(|sum| *sum += done.moved);
        assert_eq!(done.refused, 0, "{done:?}");
        if done.done && done.stopped.is_none() {
            return (moved, unsure);
        }
        from_seq = done.next_seq;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_letter_is_lost_and_none_goes_twice_though_the_leader_is_killed_in_the_middle_of_two_redrives() {
    let mut processes = Processes::start(3, Duration::from_secs(2)).await;
    let client = processes.client().await;
    let config = ConsumerConfig::new().max_attempts(1);
    eventually("the consumer is made", async || {
        client.create_consumer("orders", "w", config.clone(), Start::Earliest).await.ok()
    })
    .await;
    let written =
        (0..LETTERS).map(|number| client.publish("orders.dead", letter(number)).confirm(Confirm::Commit).into_future());
    for written in futures::future::join_all(written).await {
        written.unwrap();
    }

    let (told, mut moved) = tokio::sync::watch::channel(0);
    let mut redrives = Vec::new();
    for limit in [7, 11] {
        let (client, told) = (processes.client().await, told.clone());
        redrives.push(tokio::spawn(async move { redrive(&client, limit, &told).await }));
    }
    let some = moved.wait_for(|moved| *moved > LETTERS / 4);
    let some = *tokio::time::timeout(PATIENCE, some).await.expect("some letters go").unwrap();
    assert!(some < LETTERS, "the leader is killed in the middle");
    let leader = processes.leader().await;
    processes.kill(leader);
    let (mut counted, mut unsure) = (0, 0);
    for redrive in redrives {
        let (moved, gone) = tokio::time::timeout(PATIENCE, redrive).await.expect("all letters go").unwrap();
        counted += moved;
        unsure += gone;
    }
    processes.run(leader);
    processes.ready().await;
    // An answer that was lost with the leader is counted by nobody.
    assert!(counted <= LETTERS && counted + unsure + 2 * 11 >= LETTERS, "{counted} and {unsure}");
    let mut found = BTreeMap::<String, u32>::new();
    let mut from = 0;
    loop {
        let page = client.read("orders", Start::Seq(from), 0, Consistency::Linearizable).await.unwrap();
        for received in &page.messages {
            *found.entry(String::from_utf8(received.message.payload.to_vec()).unwrap()).or_default() += 1;
        }
        from = page.next_seq;
        if from >= page.end_seq {
            break;
        }
    }
    assert_eq!(found.len() as u64, LETTERS, "none is lost");
    assert!(found.values().all(|times| *times == 1), "none went twice: {found:?}");
    assert_eq!(client.channel("orders").await.unwrap().next_seq, LETTERS);
    let left = client.dead_letters(DeadLetterSelection::new().channel("orders").consumer("w"));
    let left = left.await.unwrap();
    assert!(left.letters.is_empty() && left.done, "{left:?}");
    processes.caught_up().await;
    let states = processes.stop_and_hash().await;
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
}
