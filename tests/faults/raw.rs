//! Single attempts on one particular node, with an honest outcome: the library's client repeats what it may repeat and
//! goes on to another node, which hides just what the checker has to see.

use std::{error::Error as _, time::Duration};

use liminal::{
    model::Frame,
    proto::v1::{
        CompleteClaimRequest, Confirm, Message, PublishRequest, PublishTransactionRequest, ReadConsistency,
        ReadRequest, Start, SubscribeRequest, TakeClaimRequest, TransactionMessage, broker_client::BrokerClient,
        claims_client::ClaimsClient, start::From, take_claim_response::Outcome as Asked,
    },
};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::history::{Intent, Outcome};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// One node's address. Cloning shares the connection, which comes about by itself whenever it is needed.
#[derive(Clone)]
pub struct Node {
    pub address: String,
    channel: Channel,
    /// Without a deadline, for what does not end.
    endless: Channel,
}

/// What somebody who asks for a claim is answered.
pub enum Claim {
    Granted(u64),
    InFlight,
    Completed(String),
}

impl Node {
    pub fn new(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_timeout(ANSWER);
        let keepalive = endpoint.clone().http2_keep_alive_interval(ANSWER).keep_alive_timeout(ANSWER);
        Self {
            address: address.to_owned(),
            channel: endpoint.timeout(ANSWER).connect_lazy(),
            endless: keepalive.keep_alive_while_idle(true).connect_lazy(),
        }
    }

    fn broker(&self) -> BrokerClient<Channel> {
        BrokerClient::new(self.channel.clone()).max_decoding_message_size(16 << 20)
    }

    fn claims(&self) -> ClaimsClient<Channel> {
        ClaimsClient::new(self.channel.clone())
    }

    pub async fn publish(&self, intent: &Intent, expected_seq: Option<u64>) -> Outcome<u64> {
        let request = PublishRequest {
            channel: intent.channel.to_owned(),
            message: Some(message(intent)),
            confirm: Confirm::Commit.into(),
            expected_seq,
        };
        outcome(self.broker().publish(request).await, |answer| answer.seq)
    }

    pub async fn transaction(&self, intents: &[Intent]) -> Outcome<Vec<u64>> {
        let part = |intent: &Intent| TransactionMessage {
            channel: intent.channel.to_owned(),
            message: Some(message(intent)),
            expected_seq: None,
        };
        let messages = intents.iter().map(part).collect();
        let request = PublishTransactionRequest { messages, confirm: Confirm::Commit.into(), ..Default::default() };
        outcome(self.broker().publish_transaction(request).await, |answer| {
            answer.results.iter().map(|one| one.seq).collect()
        })
    }

    /// Where a channel ends, for certain.
    pub async fn end(&self, channel: &str) -> Outcome<u64> {
        let request = ReadRequest {
            channel: channel.to_owned(),
            start: Some(Start { from: Some(From::Latest(true)), position: None }),
            limit: 1,
            consistency: ReadConsistency::ReadLinearizable.into(),
            min_seq: None,
            if_changed: 0,
        };
        outcome(self.broker().read(request).await, |page| page.end_seq)
    }

    pub async fn take(&self, namespace: &str, key: &str, owner: &str, lease: Duration) -> Outcome<Claim> {
        let (namespace, key, owner) = (namespace.to_owned(), key.to_owned(), owner.to_owned());
        let request = TakeClaimRequest { namespace, key, lease_ms: lease.as_millis() as u64, owner };
        outcome(self.claims().take_claim(request).await, |answer| match answer.outcome {
            Some(Asked::Claimed(lease)) => Claim::Granted(lease.token),
            Some(Asked::Completed(done)) => Claim::Completed(String::from_utf8_lossy(&done.receipt).into_owned()),
            Some(Asked::InFlight(_)) | None => Claim::InFlight,
        })
    }

    pub async fn complete(&self, namespace: &str, key: &str, token: u64, receipt: &str) -> Outcome<()> {
        let (namespace, key, receipt) = (namespace.to_owned(), key.to_owned(), receipt.to_owned().into());
        outcome(self.claims().complete_claim(CompleteClaimRequest { namespace, key, token, receipt }).await, |_| ())
    }

    /// What the node itself holds of a channel: sequence number, key, payload.
    pub async fn all(&self, channel: &str) -> Result<Vec<(u64, String, String)>, String> {
        let (mut all, mut next) = (Vec::new(), 0);
        loop {
            let request = ReadRequest {
                channel: channel.to_owned(),
                start: Some(Start { from: Some(From::Seq(next)), position: None }),
                limit: 0,
                consistency: ReadConsistency::ReadLocal.into(),
                min_seq: None,
                if_changed: 0,
            };
            let page = self
                .broker()
                .read(request)
                .await
                .map_err(|status| format!("{channel} from {next}: {}", status.message()))?;
            let page = page.into_inner();
            for delivery in page.deliveries {
                let read = messages(delivery)?;
                all.extend(read.into_iter().filter(|(seq, ..)| *seq >= next));
            }
            if page.next_seq >= page.end_seq || page.next_seq <= next {
                return Ok(all);
            }
            next = page.next_seq;
        }
    }

    pub async fn follow(&self, channel: &str, from: u64) -> Result<Streaming<liminal::proto::v1::Delivery>, Status> {
        let start = Some(Start { from: Some(From::Seq(from)), position: None });
        let request = SubscribeRequest { channel: channel.to_owned(), start, ..SubscribeRequest::default() };
        let client = BrokerClient::new(self.endless.clone()).max_decoding_message_size(16 << 20);
        let mut client = client;
        Ok(client.subscribe(request).await?.into_inner())
    }
}

fn message(intent: &Intent) -> Message {
    Message {
        key: Some(intent.key.clone()).filter(|key| !key.is_empty()),
        payload: intent.payload.clone().into(),
        ..Message::default()
    }
}

/// The messages of a delivery: sequence number, key, payload.
pub fn messages(delivery: liminal::proto::v1::Delivery) -> Result<Vec<(u64, String, String)>, String> {
    let frame = Frame::parse(delivery.batch).map_err(|error| error.to_string())?;
    let read = (delivery.first_seq..).zip(frame.messages()).map(|(seq, message)| {
        let message = message.map_err(|error| error.to_string())?;
        Ok((seq, message.key.unwrap_or_default(), String::from_utf8_lossy(&message.payload).into_owned()))
    });
    read.collect()
}

fn outcome<A, T>(answer: Result<tonic::Response<A>, Status>, take: impl FnOnce(A) -> T) -> Outcome<T> {
    let status = match answer {
        Ok(answer) => return Outcome::Done(take(answer.into_inner())),
        Err(status) => status,
    };
    let Some(code) = status.metadata().get("liminal-code").and_then(|code| code.to_str().ok()) else {
        // No liminal answered. Where there was no connection, nothing was sent.
        let mut source = status.source();
        while let Some(error) = source {
            if error.is::<tonic::ConnectError>() {
                return Outcome::Refused("UNREACHABLE".into());
            }
            source = error.source();
        }
        return Outcome::Unknown(format!("{:?}", status.code()));
    };
    let details = status.get_error_details();
    let says = |name: &str| {
        details.error_info().is_some_and(|info| info.metadata.get(name).is_some_and(|value| value == "true"))
    };
    if says("outcome_unknown")
        || says("unknown_outcome")
        || code == "OUTCOME_UNKNOWN"
        || status.code() == Code::Cancelled
    {
        Outcome::Unknown(code.to_owned())
    } else {
        Outcome::Refused(code.to_owned())
    }
}
