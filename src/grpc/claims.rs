//! Claims with receipts.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{Service, guarding::access, to_status};
use crate::{
    broker::{Claim, Completed},
    model::{ClaimInfo, DEFAULT_RECEIPT_WINDOW_MS, NamespaceInfo},
    proto::v1::{self, claims_server::Claims, show_claim_response::State, take_claim_response::Outcome},
};

#[tonic::async_trait]
impl Claims for Service {
    async fn take_claim(
        &self,
        request: Request<v1::TakeClaimRequest>,
    ) -> Result<Response<v1::TakeClaimResponse>, Status> {
        let broker = access(&request)?;
        let v1::TakeClaimRequest { namespace, key, lease_ms, owner } = request.into_inner();
        let owner = Some(owner.as_str()).filter(|owner| !owner.is_empty());
        let claim = broker.claim(&namespace, &key, Duration::from_millis(lease_ms), owner).await;
        let outcome = match claim.map_err(|error| to_status(&error))? {
            Claim::Claimed { claim, repeated } => Outcome::Claimed(claim.to_lease(repeated)),
            Claim::InFlight(claim) => Outcome::InFlight(claim.to_holder()),
            Claim::Completed { claim, receipt } => Outcome::Completed(claim.to_receipt(receipt)),
        };
        Ok(Response::new(v1::TakeClaimResponse { outcome: Some(outcome) }))
    }

    async fn complete_claim(
        &self,
        request: Request<v1::CompleteClaimRequest>,
    ) -> Result<Response<v1::CompleteClaimResponse>, Status> {
        let broker = access(&request)?;
        let v1::CompleteClaimRequest { namespace, key, token, receipt } = request.into_inner();
        let completed = broker.complete_claim(&namespace, &key, token, receipt).await;
        let Completed { claim, repeated } = completed.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::CompleteClaimResponse { repeated, expires_ms: claim.expires_ms }))
    }

    async fn release_claim(
        &self,
        request: Request<v1::ReleaseClaimRequest>,
    ) -> Result<Response<v1::ReleaseClaimResponse>, Status> {
        let broker = access(&request)?;
        let v1::ReleaseClaimRequest { namespace, key, token } = request.into_inner();
        let released = broker.release_claim(&namespace, &key, token).await;
        let repeated = released.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::ReleaseClaimResponse { repeated }))
    }

    async fn renew_claim(
        &self,
        request: Request<v1::RenewClaimRequest>,
    ) -> Result<Response<v1::RenewClaimResponse>, Status> {
        let broker = access(&request)?;
        let v1::RenewClaimRequest { namespace, key, token, lease_ms } = request.into_inner();
        let renewed = broker.renew_claim(&namespace, &key, token, Duration::from_millis(lease_ms)).await;
        let ClaimInfo { expires_ms, .. } = renewed.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::RenewClaimResponse { expires_ms }))
    }

    async fn show_claim(
        &self,
        request: Request<v1::ShowClaimRequest>,
    ) -> Result<Response<v1::ShowClaimResponse>, Status> {
        let broker = access(&request)?;
        let v1::ShowClaimRequest { namespace, key } = request.into_inner();
        let found = broker.show_claim(&namespace, &key).await.map_err(|error| to_status(&error))?;
        let state = found.map(|claim| match claim {
            Claim::Claimed { claim, .. } | Claim::InFlight(claim) => State::InFlight(claim.to_holder()),
            Claim::Completed { claim, receipt } => State::Completed(claim.to_receipt(receipt)),
        });
        Ok(Response::new(v1::ShowClaimResponse { state }))
    }

    async fn put_claim_namespace(
        &self,
        request: Request<v1::PutClaimNamespaceRequest>,
    ) -> Result<Response<v1::PutClaimNamespaceResponse>, Status> {
        let broker = access(&request)?;
        let v1::PutClaimNamespaceRequest { name, window_ms } = request.into_inner();
        let window_ms = if window_ms == 0 { DEFAULT_RECEIPT_WINDOW_MS } else { window_ms };
        let put = broker.put_claim_namespace(&name, Duration::from_millis(window_ms)).await;
        let namespace = put.map_err(|error| to_status(&error))?.to_proto();
        Ok(Response::new(v1::PutClaimNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn list_claim_namespaces(
        &self,
        request: Request<v1::ListClaimNamespacesRequest>,
    ) -> Result<Response<v1::ListClaimNamespacesResponse>, Status> {
        let broker = access(&request)?;
        let namespaces = broker.claim_namespaces().await.map_err(|error| to_status(&error))?;
        let namespaces = namespaces.iter().map(NamespaceInfo::to_proto).collect();
        Ok(Response::new(v1::ListClaimNamespacesResponse { namespaces }))
    }

    async fn get_claim_namespace(
        &self,
        request: Request<v1::GetClaimNamespaceRequest>,
    ) -> Result<Response<v1::GetClaimNamespaceResponse>, Status> {
        let broker = access(&request)?;
        let found = broker.claim_namespace(&request.get_ref().name).await;
        let namespace = found.map_err(|error| to_status(&error))?.to_proto();
        Ok(Response::new(v1::GetClaimNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn delete_claim_namespace(
        &self,
        request: Request<v1::DeleteClaimNamespaceRequest>,
    ) -> Result<Response<v1::DeleteClaimNamespaceResponse>, Status> {
        let broker = access(&request)?;
        let deleted = broker.delete_claim_namespace(&request.get_ref().name).await;
        deleted.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::DeleteClaimNamespaceResponse {}))
    }
}
