//! Requests as nobody's library would send them.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long an answer may take before it counts as none.
const ANSWER: Duration = Duration::from_secs(30);

/// A request over HTTP/1.1: the status and the body of its answer; 0 where there was none.
pub async fn http(address: &str, method: &str, target: &str, headers: &str, body: &[u8]) -> (u16, String) {
    http_as(address, address, method, target, headers, body).await
}

/// The same to a node that is taken for another host.
pub async fn http_as(
    address: &str,
    host: &str,
    method: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let _ = stream.write_all(body).await; // it may be refused on its way
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // what came before a reset counts
        io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(ANSWER, asked).await.ok().and_then(Result::ok).unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// The code of a problem, or the status.
pub fn code((status, body): &(u16, String)) -> String {
    let code = body.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
    code.map_or_else(|| status.to_string(), str::to_owned)
}

/// Opens connections and says something on each; gives those that are open.
pub async fn connections(address: &str, count: usize, said: &[u8]) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        if stream.write_all(said).await.is_ok() {
            open.push(stream);
        }
    }
    open
}

/// How many are still open: the other side has neither hung up nor reset.
pub fn still_open(streams: &[TcpStream]) -> usize {
    let is_open = |stream: &&TcpStream| matches!(stream.try_read(&mut [0; 512]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    streams.iter().filter(is_open).count()
}

/// Bytes of a protobuf message as they are, for what no generated type would hold.
#[derive(Clone, Copy, Default)]
pub struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = bytes::Bytes;
    type Decode = bytes::Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = bytes::Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: bytes::Bytes, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = bytes::Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<bytes::Bytes>, tonic::Status> {
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, bytes::Buf::remaining(buffer))))
    }
}
