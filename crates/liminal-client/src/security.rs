//! The calls on tokens and roles.

use std::time::Duration;

use tonic::Status;

use super::{
    Client,
    error::ClientError,
    message::malformed,
    pool::{MAX_ANSWER, Prefer},
    retry::Repeat,
};
use crate::types::{Allowed, NewToken, Role, RoleQuota, Token, via::list::from as list_of};
use liminal_wire::{
    time::duration_to_ms,
    v1::{
        CanIRequest, CreateRoleRequest, CreateTokenRequest, DeleteRoleRequest, GetRoleRequest, GetTokenRequest,
        ListRolesRequest, ListTokensRequest, RevokeTokenRequest, RotateTokenRequest, SetRoleQuotaRequest,
        UpdateRoleRequest, security_client::SecurityClient,
    },
};

impl Client {
    /// Makes a token with these roles, for so long or until it is revoked. It is not tried again when the outcome is
    /// unknown: a token whose text nobody knows may be there then, and is seen in the list.
    ///
    /// # Errors
    /// When a role does not exist, or the caller is no administrator.
    pub async fn create_token(
        &self,
        description: &str,
        roles: Vec<String>,
        lifetime: Option<Duration>,
    ) -> Result<NewToken, ClientError> {
        let lifetime_ms = lifetime.map_or(0, |lifetime| duration_to_ms(lifetime).max(1));
        let certificate = String::new();
        let request = CreateTokenRequest { description: description.to_owned(), roles, lifetime_ms, certificate };
        let create = |link| {
            let request = request.clone();
            async move { SecurityClient::new(link).create_token(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, create).await?;
        let token = response.token.map(Token::from).ok_or_else(|| malformed("token"))?;
        Ok(NewToken::of(token, response.text))
    }

    /// Makes a token that has no text: whoever shows a certificate of this name (`uri:NAME`, `dns:NAME` or `cn:NAME`), and no
    /// token, is its holder.
    ///
    /// # Errors
    /// When a role does not exist, the name belongs to another token, or the caller is no administrator.
    pub async fn bind_certificate(
        &self,
        name: &str,
        description: &str,
        roles: Vec<String>,
        lifetime: Option<Duration>,
    ) -> Result<Token, ClientError> {
        let lifetime_ms = lifetime.map_or(0, |lifetime| duration_to_ms(lifetime).max(1));
        let (description, certificate) = (description.to_owned(), name.to_owned());
        let request = CreateTokenRequest { description, roles, lifetime_ms, certificate };
        let create = |link| {
            let request = request.clone();
            async move { SecurityClient::new(link).create_token(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, create).await?;
        response.token.map(Token::from).ok_or_else(|| malformed("token"))
    }

    /// Gives a token another text. The former one is refused from then on.
    ///
    /// # Errors
    /// When there is no such token, or the caller is no administrator.
    pub async fn rotate_token(&self, id: &str) -> Result<NewToken, ClientError> {
        let rotate = |link| {
            let request = RotateTokenRequest { id: id.to_owned() };
            async move { SecurityClient::new(link).rotate_token(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, rotate).await?;
        let token = response.token.map(Token::from).ok_or_else(|| malformed("token"))?;
        Ok(NewToken::of(token, response.text))
    }

    /// Ends a token for good, and whatever is open by it. Gives it as it was.
    ///
    /// # Errors
    /// When there is no such token, when it is the last one by which the cluster can be administered, or when the caller
    /// is no administrator.
    pub async fn revoke_token(&self, id: &str) -> Result<Token, ClientError> {
        self.revoke(id, false).await
    }

    /// The same also when nobody can administer the cluster without it: only a bootstrap token in the nodes'
    /// configurations is a way in then.
    ///
    /// # Errors
    /// When there is no such token, or the caller is no administrator.
    pub async fn revoke_token_by_force(&self, id: &str) -> Result<Token, ClientError> {
        self.revoke(id, true).await
    }

    async fn revoke(&self, id: &str, force: bool) -> Result<Token, ClientError> {
        let revoke = |link| {
            let request = RevokeTokenRequest { id: id.to_owned(), force };
            async move { SecurityClient::new(link).revoke_token(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, revoke).await?;
        response.token.map(Token::from).ok_or_else(|| malformed("token"))
    }

    /// All tokens by id.
    ///
    /// # Errors
    /// When no node can answer, or the caller is no administrator.
    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        let list = |link, after| async move {
            let request = ListTokensRequest { after, limit: 0 };
            let page = SecurityClient::new(link).max_decoding_message_size(MAX_ANSWER).list_tokens(request).await?;
            Ok::<_, Status>(page.map(|page| (page.tokens, page.next_after)))
        };
        Ok(list_of(self.pool.all_pages(list).await?))
    }

    /// One token.
    ///
    /// # Errors
    /// When there is no such token, or the caller is no administrator.
    pub async fn token(&self, id: &str) -> Result<Token, ClientError> {
        let get = |link| {
            let request = GetTokenRequest { id: id.to_owned() };
            async move { SecurityClient::new(link).get_token(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, get).await?;
        response.token.map(Token::from).ok_or_else(|| malformed("token"))
    }

    /// Makes a role. The same once more is no error.
    ///
    /// # Errors
    /// When the name is taken by a role that grants something else, or a grant makes no sense.
    pub async fn create_role(&self, role: Role) -> Result<Role, ClientError> {
        let request = CreateRoleRequest { role: Some(role.into()) };
        let create = |link| {
            let request = request.clone();
            async move { SecurityClient::new(link).create_role(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::Safe, create).await?;
        response.role.map(Role::from).ok_or_else(|| malformed("role"))
    }

    /// Replaces a role as a whole, for all tokens that have it.
    ///
    /// # Errors
    /// When there is no such role, or a grant makes no sense.
    pub async fn update_role(&self, role: Role) -> Result<Role, ClientError> {
        let request = UpdateRoleRequest { role: Some(role.into()) };
        let update = |link| {
            let request = request.clone();
            async move { SecurityClient::new(link).update_role(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, update).await?;
        response.role.map(Role::from).ok_or_else(|| malformed("role"))
    }

    /// All roles by name.
    ///
    /// # Errors
    /// When no node can answer, or the caller is no administrator.
    pub async fn roles(&self) -> Result<Vec<Role>, ClientError> {
        let list = |link, after| async move {
            let request = ListRolesRequest { after, limit: 0 };
            let page = SecurityClient::new(link).max_decoding_message_size(MAX_ANSWER).list_roles(request).await?;
            Ok::<_, Status>(page.map(|page| (page.roles, page.next_after)))
        };
        Ok(list_of(self.pool.all_pages(list).await?))
    }

    /// One role.
    ///
    /// # Errors
    /// When there is no such role, or the caller is no administrator.
    pub async fn role(&self, name: &str) -> Result<Role, ClientError> {
        let get = |link| {
            let request = GetRoleRequest { name: name.to_owned() };
            async move { SecurityClient::new(link).get_role(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, get).await?;
        response.role.map(Role::from).ok_or_else(|| malformed("role"))
    }

    /// Deletes a role that no token has.
    ///
    /// # Errors
    /// When there is no such role, or a token has it.
    pub async fn delete_role(&self, name: &str) -> Result<(), ClientError> {
        let delete = |link| {
            let request = DeleteRoleRequest { name: name.to_owned() };
            async move { SecurityClient::new(link).delete_role(request).await }
        };
        self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, delete).await.map(drop)
    }

    /// Says how much each token may take that has a role, in the place of what was said before; a quota that limits
    /// nothing removes it.
    ///
    /// # Errors
    /// When there is no such role, or a rate is 0.
    pub async fn set_role_quota(&self, role: &str, quota: RoleQuota) -> Result<Role, ClientError> {
        let set = |link| {
            let request = SetRoleQuotaRequest { role: role.to_owned(), quota: Some(quota.into()) };
            async move { SecurityClient::new(link).set_role_quota(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, set).await?;
        response.role.map(Role::from).ok_or_else(|| malformed("role"))
    }

    /// Whether this client's token may do something to `channel:NAME`, `claim:NAME` or `cluster`; or another token, of which
    /// an administrator gives the id.
    ///
    /// # Errors
    /// When what is asked makes no sense, or the token is not valid.
    pub async fn can_i(&self, action: &str, scope: &str, token: Option<&str>) -> Result<Allowed, ClientError> {
        let ask = |link| {
            let token = token.unwrap_or_default().to_owned();
            let request = CanIRequest { action: action.to_owned(), scope: scope.to_owned(), token };
            async move { SecurityClient::new(link).can_i(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, ask).await?;
        Ok(response.into())
    }
}
