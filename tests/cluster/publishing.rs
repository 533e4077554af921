//! Transactions, delayed messages and requests on three nodes, with the loss of the leader.

use std::time::Duration;

use futures::StreamExt as _;
use liminal::{
    broker::{BrokerError, Confirm, Envelope, REPLY_TO, Start, TransactionMessage},
    client::{Client, Code, Confirm::Commit, Message},
    model::ConsumerConfig,
    proto::v1 as proto,
};
use liminal_wire::time::from_ms;

use super::support::{
    PATIENCE, eventually,
    in_process::{Cluster, envelope, payloads},
};

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_come_exactly_once_when_the_leader_is_lost_before_they_are_due() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let due = cluster.broker(other).now_ms() + 3000;
    for number in 0..20 {
        let message = Envelope { deliver_at_ms: due + number, ..envelope(&number.to_string()) };
        let outcome = cluster.broker(other).publish("orders", message, Some(&format!("k{number}"))).await.unwrap();
        assert!(outcome.scheduled_ms.is_none_or(|at| at == due + number), "{outcome:?}");
    }
    cluster.stop_node(leader).await;
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    eventually("all have come", async || {
        let page = cluster.broker(other).read("orders", Start::Earliest, 0, Default::default(), None).await.ok()?;
        (page.end_seq >= 20).then_some(())
    })
    .await;
    assert_eq!(payloads(cluster.broker(other), "orders").await, expected);
    let again = Envelope { deliver_at_ms: due, ..envelope("7") };
    let again = cluster.broker(other).publish("orders", again, Some("k7")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (7, true));
    // The one that was away has the same.
    cluster.start_node(leader).await;
    eventually("the restarted node catches up", async || {
        let page = cluster.broker(leader).read("orders", Start::Earliest, 0, Default::default(), None).await.ok()?;
        (page.end_seq == 20).then_some(())
    })
    .await;
    assert_eq!(payloads(cluster.broker(leader), "orders").await, expected);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_withdrawn_through_one_node_never_comes_on_any_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let address = format!("http://{}", cluster.nodes[one].as_ref().unwrap().client_address());
    let client = Client::connect([address]).await.unwrap();
    let due = cluster.broker(one).now_ms() + 8_000;
    for number in 0..3 {
        let message = Message::new(number.to_string()).with_key(format!("k{number}")).with_deliver_at(from_ms(due));
        assert_eq!(client.publish("orders", message).await.unwrap().scheduled, Some(from_ms(due)));
    }
    let waiting = client.delayed("orders", 0, 0).await.unwrap().messages;
    let id = waiting.iter().find(|waiting| waiting.message.key() == "k1").unwrap().id;
    assert!(client.withdraw_delayed("orders", id).await.unwrap());
    let left = cluster.broker(other).delayed_messages("orders", 0, 0).await.unwrap().messages;
    let left: Vec<_> = left.iter().map(|waiting| waiting.message.key().to_owned()).collect();
    assert_eq!(left, ["k0", "k2"], "another node says the same");
    cluster.stop_node(leader).await;
    eventually("the others have come", async || {
        let page = cluster.broker(other).read("orders", Start::Earliest, 0, Default::default(), None).await.ok()?;
        (page.end_seq >= 2).then_some(())
    })
    .await;
    assert_eq!(payloads(cluster.broker(other), "orders").await, ["0", "2"]);
    assert!(!cluster.broker(other).withdraw_delayed("orders", id).await.unwrap());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_all_or_nothing_across_the_loss_of_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    cluster.create("audit").await;
    let leader = cluster.leader().await;
    let broker = cluster.broker((leader + 1) % 3).clone();
    let publisher = tokio::spawn(async move {
        for number in 0..60 {
            let one = |channel: &str| TransactionMessage {
                channel: channel.into(),
                message: proto::Message::new(number.to_string()).with_key(format!("k{number}")),
                expected_seq: None,
            };
            // With keys it may be repeated until there is an answer.
            let done = async {
                while broker.publish_transaction(vec![one("orders"), one("audit")], Confirm::Commit).await.is_err() {}
            };
            tokio::time::timeout(PATIENCE, done).await.expect("the transaction is done");
        }
    });
    eventually("some are done", async || {
        (payloads(cluster.broker((leader + 1) % 3), "audit").await.len() >= 10).then_some(())
    })
    .await;
    cluster.stop_node(leader).await;
    publisher.await.unwrap();
    let survivor = cluster.broker((leader + 1) % 3);
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(payloads(survivor, "orders").await, expected);
    assert_eq!(payloads(survivor, "audit").await, expected);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_each_message_is_stored_exactly_once_across_the_loss_of_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    cluster.create("audit").await;
    let leader = cluster.leader().await;
    let survivor = (leader + 1) % 3;
    let broker = cluster.broker(survivor).clone();
    let config = ConsumerConfig { ack_timeout_ms: 2000, ..ConsumerConfig::default() };
    broker.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
    for number in 0..60 {
        broker.publish("orders", envelope(&number.to_string()), None).await.unwrap();
    }
    let address = format!("http://{}", cluster.nodes[survivor].as_ref().unwrap().client_address());
    let client = Client::connect([address]).await.unwrap();
    let worker = tokio::spawn(async move {
        let mut deliveries = client.consumer("orders", "w").credit(8).open().await.unwrap();
        while let Some(Ok(delivery)) = deliveries.next().await {
            // No key: what may have been done is not tried again, and comes again if it was not.
            let output = Message::new(delivery.received.message.payload.clone());
            let transaction = client.transaction().publish("audit", output).ack(&delivery).confirm(Commit);
            let _ = transaction.commit().await; // as above
        }
    });
    let audited = async |least: usize| {
        eventually("outputs are stored", async || {
            let page = broker.read("audit", Start::Earliest, 0, Default::default(), None).await.ok()?;
            (page.end_seq >= least as u64).then_some(())
        })
        .await;
    };
    audited(10).await;
    cluster.stop_node(leader).await;
    audited(60).await;
    eventually("all is settled", async || {
        let consumer = broker.consumer("orders", "w").await.ok()?;
        (consumer.status.lag == 0).then_some(())
    })
    .await;
    worker.abort();
    let mut outputs: Vec<u32> = payloads(&broker, "audit").await.iter().map(|output| output.parse().unwrap()).collect();
    outputs.sort_unstable();
    assert_eq!(outputs, (0..60).collect::<Vec<_>>());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_from_another_node_and_only_without_subscribers_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let [asker, responder] = [(leader + 1) % 3, (leader + 2) % 3];
    let nobody = cluster.broker(asker).request("orders", envelope("ping"), PATIENCE).await.unwrap_err();
    assert_eq!(nobody, BrokerError::NoResponders { channel: "orders".into() });
    assert_eq!(
        cluster.broker(asker).channel("orders").await.unwrap().stats.next_seq,
        0,
        "nothing is stored for nobody"
    );
    let broker = cluster.broker(responder).clone();
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let responding = tokio::spawn(async move {
        for _ in 0..2 {
            let batch = subscription.next().await.unwrap();
            let message = batch.frame.messages().next().unwrap().unwrap();
            let inbox = &message.headers.iter().find(|header| header.name == REPLY_TO).unwrap().value;
            broker.reply(inbox, envelope("pong")).await.unwrap();
        }
    });
    let reply = cluster.broker(asker).request("orders", envelope("ping"), PATIENCE).await.unwrap();
    assert_eq!(reply.payload, "pong");
    // Right after an election the new leader does not know yet that somebody listens.
    cluster.stop_node(leader).await;
    let reply = cluster.broker(asker).request("orders", envelope("ping"), PATIENCE).await.unwrap();
    assert_eq!(reply.payload, "pong");
    responding.await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_commits_transactions_asks_and_replies() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let address = |number: usize| format!("http://{}", cluster.nodes[number].as_ref().unwrap().client_address());
    let client = Client::connect([address(0), address(1), address(2)]).await.unwrap();
    let done = client
        .transaction()
        .publish_at("orders", Message::new("a").with_key("1"), 0)
        .publish("orders", Message::new("b").with_key("2"))
        .commit()
        .await
        .unwrap();
    assert_eq!(done.iter().map(|published| published.seq).collect::<Vec<_>>(), [0, 1]);
    let refused = client.transaction().publish_at("orders", Message::new("c"), 9).commit().await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome_unknown()), (&Code::WrongSeq, false));
    let nobody = client.request("orders", Message::new("ping"), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(nobody.code(), "NO_RESPONDERS");
    let mut messages = client.subscribe("orders", liminal::client::Start::Latest).await.unwrap();
    let responder = client.clone();
    let responding = tokio::spawn(async move {
        let request = messages.next().await.unwrap().unwrap();
        responder.reply(&request, Message::new("pong").with_header("h", "v")).await.unwrap();
    });
    let reply = client.request("orders", Message::new("ping"), Duration::from_secs(60)).await.unwrap();
    assert_eq!((&reply.payload[..], reply.headers[0].value.as_str()), (&b"pong"[..], "v"));
    responding.await.unwrap();
    cluster.stop().await;
}

/// Exit code of a command, and its results, or its error.
async fn command(server: &str, args: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_liminal"));
    let output = command.args(["--server", server, "-o", "json"]).args(args).output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_publish_with_conditions_and_times_ask_and_reply() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let server = format!("http://{}", cluster.nodes[0].as_ref().unwrap().client_address());
    let publish = async |args: &[&str]| {
        let args = [&["publish", "orders", "--confirm", "commit"], args].concat();
        let (code, out) = command(&server, &args).await;
        let json: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        (code, json)
    };
    let (code, done) = publish(&["a", "--expected-seq", "0", "--ttl", "1h"]).await;
    assert_eq!((code, &done["seq"]), (0, &serde_json::json!(0)));
    let (code, refused) = publish(&["b", "--expected-seq", "0"]).await;
    assert_eq!((code, &refused["error"]["code"]), (1, &serde_json::json!("WRONG_SEQ")));
    let (code, later) = publish(&["c", "--at", "2100-01-01T00:00:00Z"]).await;
    assert_eq!((code, &later["error"]["code"]), (1, &serde_json::json!("LIMIT_EXCEEDED")));
    let (code, later) = publish(&["c", "--delay", "1h"]).await;
    assert!(code == 0 && later["scheduled"].is_string() && later.get("seq").is_none(), "{later}");
    let file = dir.path().join("transaction.ndjson");
    std::fs::write(&file, "{\"payload\":1}\n{\"payload\":2,\"expected_seq\":2}\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, first) = publish(&["--atomic", "--file", file]).await;
    assert_eq!((code, &first["seq"]), (0, &serde_json::json!(1)));
    let (code, refused) = publish(&["--atomic", "--file", file]).await;
    assert_eq!((code, &refused["error"]["code"]), (1, &serde_json::json!("WRONG_SEQ")));
    assert_eq!(payloads(cluster.broker(0), "orders").await, ["a", "1", "2"]);

    let (code, _) = command(&server, &["request", "orders", "ping"]).await;
    assert_eq!(code, 1, "nobody listens");
    let mut subscription = cluster.broker(1).subscribe("orders", Start::Latest).await.unwrap();
    let asking = {
        let server = server.clone();
        tokio::spawn(async move { command(&server, &["request", "orders", "ping", "--timeout", "60s"]).await })
    };
    let request = subscription.next().await.unwrap().frame.messages().next().unwrap().unwrap();
    let inbox = &request.headers.iter().find(|header| header.name == REPLY_TO).unwrap().value;
    assert_eq!(command(&server, &["reply", inbox, r#"{"pong":1}"#]).await, (0, String::new()));
    assert_eq!(asking.await.unwrap(), (0, "{\"headers\":{},\"payload\":{\"pong\":1}}\n".to_owned()));
    cluster.stop().await;
}
