//! Real messages: 44 channels with their schemas, and 200 webhook payloads.

use bytes::Bytes;
use liminal::{
    broker::{BrokerError, Consistency, Envelope, Start},
    model::ChannelConfig,
};
use serde_json::{Value, value::RawValue};

use super::support::in_process::Cluster;

#[derive(serde::Deserialize)]
struct Event<'a> {
    event: &'a str,
    example: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_corpus_goes_in_through_one_node_and_comes_out_of_another_once() {
    let home = std::env::var("LIMINAL_TEST_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/github-webhooks").into());
    let Ok(text) = std::fs::read_to_string(format!("{home}/events.ndjson")) else {
        println!("skipped: no corpus at {home}");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("ready").await;
    let (writer, reader) = (cluster.broker(1), cluster.broker(2));
    for file in std::fs::read_dir(format!("{home}/schemas")).unwrap() {
        let path = file.unwrap().path();
        let config =
            ChannelConfig { schema: Some(std::fs::read_to_string(&path).unwrap()), ..ChannelConfig::default() };
        writer.create_channel(path.file_stem().unwrap().to_str().unwrap(), config).await.unwrap();
    }
    let events: Vec<Event<'_>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((events.len(), writer.view().catalog().len()), (200, 45));
    let publish = |event: &Event<'_>| {
        let envelope = Envelope { payload: Bytes::from(event.payload.get().to_owned()), ..Envelope::default() };
        let (channel, key) = (event.event.to_owned(), event.example.to_owned());
        async move { writer.publish(&channel, envelope, Some(&key)).await.unwrap() }
    };
    let mut first = Vec::new();
    for event in &events {
        first.push(publish(event).await);
    }
    assert!(first.iter().all(|outcome| !outcome.duplicate));
    for (event, outcome) in events.iter().zip(&first) {
        let page = reader.read(event.event, Start::Seq(outcome.seq), 1, Consistency::Linearizable, None).await.unwrap();
        let message = page.batches[0].frame.messages().next().unwrap().unwrap();
        assert_eq!(message.payload, event.payload.get().as_bytes());
    }
    let stored = |name: &str| reader.view().stats(reader.view().catalog().get(name).unwrap().id).unwrap().next_seq;
    let before: Vec<u64> = events.iter().map(|event| stored(event.event)).collect();
    for (event, outcome) in events.iter().zip(&first) {
        let again = publish(event).await;
        assert!(again.duplicate && again.seq == outcome.seq);
    }
    let mut broken: Value = serde_json::from_str(events[0].payload.get()).unwrap();
    broken.as_object_mut().unwrap().remove("rule").unwrap();
    let envelope = Envelope { payload: Bytes::from(broken.to_string()), ..Envelope::default() };
    match writer.publish(events[0].event, envelope, None).await {
        Err(BrokerError::SchemaViolation { violations, .. }) => {
            assert!(violations.iter().any(|violation| violation.pointer == "/rule"), "{violations:?}");
        }
        other => panic!("{other:?}"),
    }
    reader.channels().await.unwrap();
    assert_eq!(events.iter().map(|event| stored(event.event)).collect::<Vec<_>>(), before);
    cluster.stop().await;
}
