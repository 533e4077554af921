//! The port for nodes, and nodes that are made to call others.

use std::time::Duration;

use liminal::proto::v1::{JoinNodeRequest, admin_client::AdminClient};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::Target;
use crate::raw::{connections, still_open};

pub async fn garbage(target: Target) -> String {
    let peer = &target.peers[target.leader];
    let sent = (0..30).map(|_| async {
        let Ok(mut stream) = TcpStream::connect(peer).await else { return 0 };
        let (piece, mut sent) = (vec![7; 1 << 20], 0);
        for _ in 0..60 {
            match timeout(Duration::from_secs(10), stream.write_all(&piece)).await {
                Ok(Ok(())) => sent += piece.len(),
                _ => break,
            }
        }
        sent
    });
    let sent: usize = futures::future::join_all(sent).await.into_iter().sum();
    format!("{} MiB were taken", sent >> 20)
}

pub async fn idle(target: Target) -> String {
    let streams = connections(&target.peers[target.leader], 1_000, b"").await;
    sleep(target.time).await;
    format!("{} of {} stayed for {} s", still_open(&streams), streams.len(), target.time.as_secs())
}

/// It must not call, let alone show anything.
pub async fn join(target: Target) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap().to_string();
    let mut admin = AdminClient::connect(format!("http://{}", target.grpc())).await.unwrap();
    let (answer, called) =
        tokio::join!(admin.join_node(JoinNodeRequest { node }), timeout(Duration::from_millis(500), listener.accept()));
    assert!(called.is_err(), "the node called a stranger");
    format!("{:?}", answer.unwrap_err().code())
}
