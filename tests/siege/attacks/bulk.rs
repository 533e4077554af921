//! Little on the wire that is much in memory.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};

use super::Target;
use crate::raw::{RawCodec, code, http};

const LINES: &str = "/v1/channels/orders/messages";

async fn lines(target: &Target, headers: String) -> String {
    let headers = format!("Content-Type: application/x-ndjson\r\n{headers}");
    code(&http(target.http(), "POST", LINES, &headers, "1\n".repeat(20_000).as_bytes()).await)
}

pub async fn header_over_lines(target: Target) -> String {
    lines(&target, format!("Liminal-Header-X: {}\r\n", "x".repeat(300_000))).await
}

pub async fn headers_over_lines(target: Target) -> String {
    let header = |number| format!("Liminal-Header-X{number}: {}\r\n", "x".repeat(4_000));
    lines(&target, (0..60).map(header).collect()).await
}

pub async fn key_over_lines(target: Target) -> String {
    lines(&target, format!("Idempotency-Key: {}\r\n", "k".repeat(4_000))).await
}

/// Two bytes each on the wire.
pub async fn empties(target: Target, method: &'static str) -> String {
    const MESSAGES: usize = 2_600_000;
    let empty = |field: u8| [field << 3 | 2, 0];
    let mut message = BytesMut::new();
    if method == "PublishStream" {
        message.put_slice(b"\x0a\x06orders\x12");
        let mut len = 2 * MESSAGES;
        while len >= 0x80 {
            message.put_u8(len as u8 | 0x80);
            len >>= 7;
        }
        message.put_u8(len as u8);
    }
    (0..MESSAGES).for_each(|_| message.put_slice(&empty(1)));
    let endpoint = Endpoint::from_shared(format!("http://{}", target.grpc())).unwrap();
    let mut grpc = Grpc::new(endpoint.connect().await.unwrap());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/liminal.v1.Broker/{method}")).unwrap();
    let request = Request::new(stream::iter([Bytes::from(message)]));
    let answer = match grpc.streaming(request, path, RawCodec).await {
        Ok(answers) => answers.into_inner().message().await,
        Err(status) => Err(status),
    };
    match answer {
        Ok(answer) => format!("an answer of {} bytes", answer.unwrap_or_default().len()),
        Err(status) => format!("{:?}", status.code()),
    }
}

pub async fn tokens(target: Target) -> String {
    http(target.http(), "POST", "/v1/channels/orders/consumers", "", br#"{"name":"w"}"#).await;
    let tokens = vec!["\"1.1.1\""; 100_000].join(",");
    let body = format!(r#"{{"ack":[{tokens}]}}"#);
    code(&http(target.http(), "POST", "/v1/channels/orders/consumers/w/settle", "", body.as_bytes()).await)
}
