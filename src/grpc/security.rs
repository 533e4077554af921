//! Tokens and roles.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{Service, guarding::access, to_status};
use crate::{
    broker::{NamedPage, RoleInfo, TokenInfo, Verdict},
    proto::v1::{self, security_server::Security},
};

#[tonic::async_trait]
impl Security for Service {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let broker = access(&request)?;
        let v1::CreateTokenRequest { description, roles, lifetime_ms, certificate } = request.into_inner();
        let lifetime = (lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms));
        if !certificate.is_empty() {
            let made = broker.bind_certificate(&certificate, &description, &roles, lifetime).await;
            let token = made.map_err(|error| to_status(&error))?.to_proto();
            return Ok(Response::new(v1::CreateTokenResponse { token: Some(token), text: String::new() }));
        }
        let made = broker.create_token(&description, &roles, lifetime).await;
        let (text, token) = made.map_err(|error| to_status(&error))?;
        let text = text.reveal().to_owned();
        Ok(Response::new(v1::CreateTokenResponse { token: Some(token.to_proto()), text }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let broker = access(&request)?;
        let v1::ListTokensRequest { after, limit } = request.into_inner();
        let page = broker.tokens_after(&after, limit as usize).await.map_err(|error| to_status(&error))?;
        let NamedPage { items, next_after } = page;
        let tokens = items.iter().map(TokenInfo::to_proto).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens, next_after }))
    }

    async fn get_token(&self, request: Request<v1::GetTokenRequest>) -> Result<Response<v1::GetTokenResponse>, Status> {
        let found = access(&request)?.token(&request.get_ref().id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::GetTokenResponse { token: Some(found.to_proto()) }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let v1::RevokeTokenRequest { id, force } = request.get_ref();
        let gone = access(&request)?.revoke_token(id, *force).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::RevokeTokenResponse { token: Some(gone.to_proto()) }))
    }

    async fn rotate_token(
        &self,
        request: Request<v1::RotateTokenRequest>,
    ) -> Result<Response<v1::RotateTokenResponse>, Status> {
        let rotated = access(&request)?.rotate_token(&request.get_ref().id).await;
        let (text, token) = rotated.map_err(|error| to_status(&error))?;
        let text = text.reveal().to_owned();
        Ok(Response::new(v1::RotateTokenResponse { token: Some(token.to_proto()), text }))
    }

    async fn create_role(
        &self,
        request: Request<v1::CreateRoleRequest>,
    ) -> Result<Response<v1::CreateRoleResponse>, Status> {
        let broker = access(&request)?;
        let role = broker.create_role(request.into_inner().role.unwrap_or_default()).await;
        let role = role.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::CreateRoleResponse { role: Some(role.to_proto()) }))
    }

    async fn update_role(
        &self,
        request: Request<v1::UpdateRoleRequest>,
    ) -> Result<Response<v1::UpdateRoleResponse>, Status> {
        let broker = access(&request)?;
        let role = broker.update_role(request.into_inner().role.unwrap_or_default()).await;
        let role = role.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::UpdateRoleResponse { role: Some(role.to_proto()) }))
    }

    async fn list_roles(
        &self,
        request: Request<v1::ListRolesRequest>,
    ) -> Result<Response<v1::ListRolesResponse>, Status> {
        let broker = access(&request)?;
        let v1::ListRolesRequest { after, limit } = request.into_inner();
        let page = broker.roles_after(&after, limit as usize).await.map_err(|error| to_status(&error))?;
        let roles = page.items.iter().map(RoleInfo::to_proto).collect();
        Ok(Response::new(v1::ListRolesResponse { roles, next_after: page.next_after }))
    }

    async fn get_role(&self, request: Request<v1::GetRoleRequest>) -> Result<Response<v1::GetRoleResponse>, Status> {
        let role = access(&request)?.role(&request.get_ref().name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::GetRoleResponse { role: Some(role.to_proto()) }))
    }

    async fn delete_role(
        &self,
        request: Request<v1::DeleteRoleRequest>,
    ) -> Result<Response<v1::DeleteRoleResponse>, Status> {
        access(&request)?.delete_role(&request.get_ref().name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::DeleteRoleResponse {}))
    }

    async fn set_role_quota(
        &self,
        request: Request<v1::SetRoleQuotaRequest>,
    ) -> Result<Response<v1::SetRoleQuotaResponse>, Status> {
        let broker = access(&request)?;
        let v1::SetRoleQuotaRequest { role, quota } = request.into_inner();
        let role = broker.set_role_quota(&role, quota.unwrap_or_default()).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::SetRoleQuotaResponse { role: Some(role.to_proto()) }))
    }

    async fn can_i(&self, request: Request<v1::CanIRequest>) -> Result<Response<v1::CanIResponse>, Status> {
        let broker = access(&request)?;
        let v1::CanIRequest { action, scope, token } = request.into_inner();
        let Verdict { allowed, who, reason } =
            broker.can_i(&action, &scope, &token).map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::CanIResponse { allowed, who, reason }))
    }
}
