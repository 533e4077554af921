//! Transactions that acknowledge deliveries and complete claims together with what they publish.

use std::time::Duration;

use liminal::{
    broker::{
        Claim, Confirm, ConsumerDelivery, TransactionAck, TransactionCompletion, TransactionMessage, TransactionPart,
        TransactionRequest,
    },
    model::{ConsumerConfig, DeliveryToken},
};

use super::*;

const LEASE: Duration = Duration::from_secs(3600);

/// With a consumer of `orders` and a channel for its output.
async fn working() -> Broker {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    broker.create_channel("invoices", ChannelConfig::default()).await.unwrap();
    let config = ConsumerConfig { ack_timeout_ms: 600_000, ..ConsumerConfig::default() };
    broker.create_consumer("orders", "billing", config, Start::Earliest).await.unwrap();
    broker.publish("orders", envelope("order"), None).await.unwrap();
    broker
}

async fn pulled(broker: &Broker) -> ConsumerDelivery {
    broker.pull("orders", "billing", 1, Duration::from_secs(60)).await.unwrap().remove(0)
}

async fn claimed(broker: &Broker, key: &str) -> u64 {
    match broker.claim("jobs", key, LEASE, None).await.unwrap() {
        Claim::Claimed { claim, .. } => claim.token,
        other => panic!("{other:?}"),
    }
}

fn invoice(key: &str) -> TransactionMessage {
    let key = Some(key.to_owned()).filter(|key| !key.is_empty());
    let message = Message { payload: "invoice".into(), key, ..Message::default() };
    TransactionMessage { channel: "invoices".into(), message, expected_seq: None }
}

fn ack(consumer: &str, tokens: &[DeliveryToken]) -> TransactionAck {
    TransactionAck { channel: "orders".into(), consumer: consumer.into(), tokens: tokens.to_vec() }
}

fn completion(key: &str, token: u64) -> TransactionCompletion {
    TransactionCompletion { namespace: "jobs".into(), key: key.into(), token, receipt: "done".into() }
}

async fn invoices(broker: &Broker) -> u64 {
    broker.read("invoices", Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap().end_seq
}

#[tokio::test]
async fn a_publish_an_ack_and_a_completion_are_done_together_and_a_retry_is_told_so() {
    let broker = working().await;
    let (delivery, token) = (pulled(&broker).await, claimed(&broker, "k").await);
    let request = TransactionRequest {
        messages: vec![invoice("i-1")],
        acks: vec![ack("billing", &[delivery.token])],
        completions: vec![completion("k", token)],
    };
    let outcome = broker.transact(&request, Confirm::Delivery).await.unwrap().remove(0);
    assert_eq!((outcome.seq, outcome.duplicate, outcome.delivered), (0, false, Some(false)));
    assert_eq!(broker.consumer("orders", "billing").await.unwrap().status.lag, 0);
    let Some(Claim::Completed { receipt, .. }) = broker.show_claim("jobs", "k").await.unwrap() else { panic!("it is") };
    assert_eq!(receipt, "done");
    let again = broker.transact(&request, Confirm::Delivery).await.unwrap().remove(0);
    assert_eq!((again.seq, again.duplicate), (0, true));
    let without = TransactionRequest { messages: vec![], ..request };
    assert!(broker.transact(&without, Confirm::Commit).await.unwrap().is_empty());
    assert_eq!(invoices(&broker).await, 1);
}

#[tokio::test]
async fn whatever_part_cannot_be_done_is_named_and_nothing_is_done() {
    let broker = working().await;
    let (delivery, token) = (pulled(&broker).await, claimed(&broker, "k").await);
    let handed_on = DeliveryToken { attempt: delivery.token.attempt + 1, ..delivery.token };
    let right = TransactionRequest {
        messages: vec![invoice("")],
        acks: vec![ack("billing", &[delivery.token])],
        completions: vec![completion("k", token)],
    };
    let with_ack = |wrong| TransactionRequest { acks: vec![right.acks[0].clone(), wrong], ..right.clone() };
    let with_completion = |wrong| TransactionRequest { completions: vec![wrong], ..right.clone() };
    for (request, part, code) in [
        (with_ack(ack("billing", &[handed_on])), TransactionPart::Ack(1), "STALE_DELIVERY"),
        (with_ack(ack("nobody", &[])), TransactionPart::Ack(1), "CONSUMER_NOT_FOUND"),
        (with_completion(completion("k", token + 1)), TransactionPart::Completion(0), "CLAIM_STALE"),
        (with_completion(completion("", token)), TransactionPart::Completion(0), "INVALID_ARGUMENT"),
    ] {
        let error = broker.transact(&request, Confirm::Commit).await.unwrap_err();
        assert!(matches!(&error, BrokerError::InTransaction { part: named, .. } if *named == part), "{error}");
        assert_eq!(error.code().as_str(), code);
    }
    assert_eq!(invoices(&broker).await, 0);
    assert_eq!(broker.consumer("orders", "billing").await.unwrap().status.in_flight, 1);
    assert!(matches!(broker.show_claim("jobs", "k").await.unwrap(), Some(Claim::InFlight(_))));
    broker.transact(&right, Confirm::Commit).await.unwrap();
    let error = broker.transact(&right, Confirm::Commit).await.unwrap_err();
    assert_eq!((error.code().as_str(), invoices(&broker).await), ("STALE_DELIVERY", 1));
}
