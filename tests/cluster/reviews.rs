//! The whole way of an event: webhooks are routed by a rule to a review queue, and a group of workers on three nodes
//! handles each review once by its claim, while one of the workers and one of the nodes are killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use liminal::client::{
    Channel, ChannelConfig, Claims, Client, ConsumerConfig, Message, Nack, Once, Rule, Start, Taken,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::support::{eventually, processes::Processes};

const LEASE: Duration = Duration::from_secs(2);
/// How often all events are published, under other keys each time.
const ROUNDS: usize = 5;
const RULE: &str = r#"action == "opened" and pull_request.draft == false"#;

/// Kind and payload of each event: the real ones where they are, else some that are like them.
fn events() -> Vec<(String, Value)> {
    let home = std::env::var("LIMINAL_TEST_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/github-webhooks").into());
    let Ok(text) = std::fs::read_to_string(format!("{home}/events.ndjson")) else {
        println!("made-up events: no corpus at {home}");
        let pull = |action: &str, draft: bool| {
            let payload = json!({"action": action, "pull_request": {"draft": draft}});
            ("pull_request".to_owned(), payload)
        };
        let mut made_up =
            vec![pull("closed", false), pull("opened", true), ("push".to_owned(), json!({"ref": "main"}))];
        made_up.extend((0..5).map(|_| pull("opened", false)));
        return made_up;
    };
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        (event["event"].as_str().unwrap().to_owned(), event["payload"].take())
    };
    text.lines().map(event).collect()
}

fn is_review((kind, payload): &(String, Value)) -> bool {
    kind == "pull_request" && payload["action"] == "opened" && payload["pull_request"]["draft"] == false
}

/// Which worker finished which review.
type Done = Arc<Mutex<BTreeMap<String, Vec<usize>>>>;

/// One worker, which prefers one node. Without `done` it never finishes what it has begun.
async fn work(servers: Vec<String>, number: usize, done: Option<Done>) {
    let client = Client::builder().servers(servers).retry_for(Duration::from_secs(60)).connect().await.unwrap();
    let claims: Claims = client.claims("reviews").named(format!("worker-{number}"));
    let reviews = client.consumer("reviews", "reviewers").credit(4).concurrency(4);
    let run = reviews.run(|delivery| {
        let (claims, done) = (claims.clone(), done.clone());
        async move {
            let key = delivery.received.message.key().to_owned();
            let endless = done.is_none();
            let review = |_token| async move {
                if endless {
                    std::future::pending::<()>().await;
                }
                Ok::<_, String>(format!("worker-{number}"))
            };
            match claims.once(&key, LEASE, review).await {
                Ok(Once::Ran(_)) => {
                    let done = done.expect("only one that ends");
                    done.lock().entry(key).or_default().push(number);
                    Ok(())
                }
                Ok(Once::DoneBefore(_)) => Ok(()),
                Ok(Once::InFlight(_)) => Err(Nack::after(Duration::from_millis(200)).because("somebody has it")),
                Err(error) => Err(Nack::after(Duration::from_millis(200)).because(error.to_string())),
            }
        }
    });
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_review_is_handled_once_by_its_claim_though_a_worker_and_a_node_are_killed() {
    let mut processes = Processes::start(3, Duration::from_secs(2)).await;
    let (client, events) = (processes.client().await, events());
    let kinds: BTreeSet<&String> = events.iter().map(|(kind, _)| kind).collect();
    for name in kinds.into_iter().map(String::as_str).chain(["reviews"]) {
        let _: Channel = client.create_channel(name, ChannelConfig::default()).await.unwrap();
    }
    let (source, target) = ("pull_request".to_owned(), "reviews".to_owned());
    client.put_rule(Rule::new().source(source).target(target).predicate(RULE)).await.unwrap();
    // When a member's node dies with it, nobody can say that it is gone: what it had comes again after this time.
    let config = ConsumerConfig::new().ack_timeout(Duration::from_secs(4));
    client.create_consumer("reviews", "reviewers", config, Start::Earliest).await.unwrap();

    let done = Done::default();
    let servers = |number: usize| {
        let mut servers = processes.clients.clone();
        servers.rotate_left(number % 3);
        servers
    };
    // The first one takes what it is given and never finishes; it is killed while it holds claims.
    let lost = tokio::spawn(work(servers(0), 0, None));
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        for (number, event) in events.iter().enumerate() {
            let key = format!("event-{number}-{round}");
            let message = Message::new(event.1.to_string()).with_key(key.clone());
            client.publish(&event.0, message).await.unwrap();
            if is_review(event) {
                expected.push(key);
            }
        }
    }
    let claims = client.claims("reviews");
    eventually("the first worker holds a claim", async || match claims.show(&expected[0]).await {
        Ok(Some(Taken::InFlight(_))) => Some(()),
        _ => None,
    })
    .await;
    let workers: Vec<_> =
        (1..4).map(|number| tokio::spawn(work(servers(number), number, Some(done.clone())))).collect();
    lost.abort();
    eventually("some reviews are done", async || (done.lock().len() > 2).then_some(())).await;
    let leader = processes.leader().await;
    processes.kill(leader);

    eventually("every review is done and acknowledged", async || {
        let lag = client.consumer_status("reviews", "reviewers").await.ok()?.lag;
        (done.lock().len() == expected.len() && lag == 0).then_some(())
    })
    .await;
    let done = done.lock().clone();
    assert_eq!(done.keys().cloned().collect::<Vec<_>>(), {
        expected.sort();
        expected.clone()
    });
    assert!(done.values().all(|workers| workers.len() == 1), "{done:?}");
    for (key, workers) in &done {
        match claims.show(key).await.unwrap() {
            Some(Taken::Completed(receipt)) => {
                assert_eq!(receipt.receipt, format!("worker-{}", workers[0]), "{key}");
            }
            other => panic!("{key}: {other:?}"),
        }
    }
    workers.into_iter().for_each(|worker| worker.abort());
}
