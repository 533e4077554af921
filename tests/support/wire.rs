//! Questions to one particular node. The client of the library goes on to another node when one fails, which is
//! just what a comparison of the nodes must not do.

use std::time::Duration;

use liminal::{
    client::Consistency,
    model::Frame,
    proto::v1::{
        ClusterStatusRequest, ClusterStatusResponse, Message, ReadConsistency, ReadRequest, Start,
        admin_client::AdminClient, broker_client::BrokerClient, start::From,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint, Error};

const ANSWER: Duration = Duration::from_secs(10);

async fn connect(address: &str) -> Result<Channel, Error> {
    Endpoint::from_shared(format!("http://{address}"))?.timeout(ANSWER).connect().await
}

/// The status code of a GET; none when nobody answers.
pub async fn http_status(address: &str, path: &str) -> Option<u16> {
    get(address, path).await?.split(' ').nth(1)?.parse().ok()
}

/// What comes after the head of the answer to a GET; none when nobody answers.
pub async fn http_body(address: &str, path: &str) -> Option<String> {
    get(address, path).await?.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

async fn get(address: &str, path: &str) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    tokio::time::timeout(ANSWER, asked).await.ok().flatten()
}

/// The cluster as one node sees it.
pub async fn status(address: &str) -> Option<ClusterStatusResponse> {
    let channel = connect(address).await.ok()?;
    let answer = AdminClient::new(channel).cluster_status(ClusterStatusRequest {}).await;
    answer.ok().map(tonic::Response::into_inner)
}

/// Everything that a node has of a channel, from the first message on: (seq, time, message).
pub async fn read_all(address: &str, channel: &str, consistency: Consistency) -> Vec<(u64, u64, Message)> {
    let consistency = match consistency {
        Consistency::Linearizable => ReadConsistency::ReadLinearizable,
        Consistency::Local => ReadConsistency::ReadLocal,
    };
    let mut client = BrokerClient::new(connect(address).await.unwrap()).max_decoding_message_size(16 << 20);
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        let request = ReadRequest {
            channel: channel.to_owned(),
            start: Some(Start { from: Some(From::Seq(next)), position: None }),
            limit: 0,
            consistency: consistency.into(),
            min_seq: None,
            if_changed: 0,
        };
        let page = client.read(request).await.unwrap().into_inner();
        for delivery in page.deliveries {
            let frame = Frame::parse(delivery.batch).unwrap();
            for (seq, message) in (delivery.first_seq..).zip(frame.messages()) {
                // A page may begin with the whole batch that contains its start.
                if seq >= next {
                    all.push((seq, delivery.time_ms, message.unwrap()));
                }
            }
        }
        if page.next_seq >= page.end_seq {
            return all;
        }
        assert!(page.next_seq > next, "a page without messages before the end");
        next = page.next_seq;
    }
}
