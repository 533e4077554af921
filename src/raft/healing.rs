//! Where a node gets parts of its state that it cannot read any more: from the other nodes of its cluster, by their
//! hashes. A node hands out only what it has read from its own disk and found to be what its hash says.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::{
    handshake::PeerKeys,
    identity::Identity,
    transport::{Client, Lane, Transport},
};
use crate::{
    env::Env,
    proto::raft::{FetchPartRequest, FetchPartResponse},
    sequencer::{NodeAddress, PeerVersion},
    store::{DurableStore, PartHash, PartSource},
};

/// How long another node may take to read and send a part.
const PATIENCE: Duration = Duration::from_secs(5);
/// Parts that are read for other nodes at once; more wait in their connections.
pub(super) const AT_ONCE: usize = 4;

/// The other members of a cluster.
pub(super) struct Members {
    pub(super) transport: Transport,
    pub(super) others: Box<dyn Fn() -> Vec<NodeAddress> + Send + Sync>,
}

#[async_trait]
impl PartSource for Members {
    async fn part(&self, hash: PartHash) -> Option<Bytes> {
        for node in (self.others)() {
            if let Some(bytes) = fetch(self.transport.client(node.id, &node.peer, Lane::Snapshot), hash).await {
                return Some(bytes);
            }
        }
        None
    }
}

/// The addresses that a node is configured with, before it knows the members.
struct Seeds {
    transport: Transport,
    addresses: Vec<String>,
}

#[async_trait]
impl PartSource for Seeds {
    async fn part(&self, hash: PartHash) -> Option<Bytes> {
        for address in &self.addresses {
            if let Some(bytes) = fetch(self.transport.client_of_anyone(address), hash).await {
                return Some(bytes);
            }
        }
        None
    }
}

async fn fetch(mut client: Client, hash: PartHash) -> Option<Bytes> {
    let request = FetchPartRequest { hash: Bytes::copy_from_slice(&hash) };
    let answer = tokio::time::timeout(PATIENCE, client.fetch_part(request)).await.ok()?.ok()?;
    Some(answer.into_inner().data).filter(|data| !data.is_empty())
}

/// Has a store get what it cannot read from a node's seeds: while the node starts, it takes no part in its cluster yet,
/// but it already reads its state.
pub fn heal_from_seeds(
    store: &dyn DurableStore,
    env: Env,
    identity: &Identity,
    keys: Arc<PeerKeys>,
    seeds: Vec<String>,
) {
    let Some(parts) = store.parts() else { return };
    let transport = Transport::new(env, identity.clone(), keys, PeerVersion::NEWEST);
    parts.heal_from(Arc::new(Seeds { transport, addresses: seeds }));
}

/// Answers another node.
pub(super) async fn serve(
    store: &dyn DurableStore,
    request: Request<FetchPartRequest>,
) -> Result<Response<FetchPartResponse>, Status> {
    let hash = request.into_inner().hash;
    let hash = PartHash::try_from(&hash[..])
        .map_err(|_| Status::invalid_argument(format!("a part's hash has 32 bytes, not {}", hash.len())))?;
    let data = match store.parts() {
        Some(parts) => parts.part(hash).await,
        None => None,
    };
    Ok(Response::new(FetchPartResponse { data: data.unwrap_or_default() }))
}
