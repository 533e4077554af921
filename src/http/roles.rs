//! Roles over HTTP.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::{
    channels::{PageQuery, parse},
    pages::page,
    problem::Problem,
};
use crate::{
    broker::{Access, RoleInfo},
    proto::v1,
};

/// The body of a PUT and of a PATCH, which replaces the whole role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    description: String,
    grants: Vec<GrantJson>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantJson {
    scope: String,
    actions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RoleJson {
    name: String,
    description: String,
    grants: Vec<GrantJson>,
    quota: QuotaJson,
}

macro_rules! quota {
    ($($field:ident),+) => {
        /// What a role limits; what is absent it does not.
        #[derive(Debug, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct QuotaJson {
            $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<u64>,)+
        }

        impl From<QuotaJson> for v1::RoleQuota {
            fn from(QuotaJson { $($field),+ }: QuotaJson) -> Self {
                Self { $($field),+ }
            }
        }

        impl From<v1::RoleQuota> for QuotaJson {
            fn from(v1::RoleQuota { $($field),+ }: v1::RoleQuota) -> Self {
                Self { $($field),+ }
            }
        }
    };
}

quota! {
    connections, streams, in_flight_bytes, messages_per_second, bytes_per_second, filter_ms_per_second, channels, consumers,
    claims
}

impl Wanted {
    fn role(self, name: String) -> v1::Role {
        let grant = |GrantJson { scope, actions }| v1::Grant { scope, actions };
        let grants = self.grants.into_iter().map(grant).collect();
        v1::Role { name, description: self.description, grants, quota: None }
    }
}

impl RoleJson {
    fn of(role: &RoleInfo) -> Self {
        let v1::Role { name, description, grants, quota } = role.to_proto();
        let grant = |v1::Grant { scope, actions }| GrantJson { scope, actions };
        Self {
            name,
            description,
            grants: grants.into_iter().map(grant).collect(),
            quota: quota.unwrap_or_default().into(),
        }
    }
}

fn shown(role: &RoleInfo) -> Response {
    Json(RoleJson::of(role)).into_response()
}

pub(super) async fn list(
    Extension(broker): Extension<Access>,
    Query(PageQuery { after, limit }): Query<PageQuery>,
) -> Result<Response, Problem> {
    page("roles", broker.roles_after(&after, limit).await?, |role| to_raw_value(&RoleJson::of(role))).await
}

pub(super) async fn show(Extension(broker): Extension<Access>, Path(name): Path<String>) -> Result<Response, Problem> {
    Ok(shown(&broker.role(&name).await?))
}

pub(super) async fn create(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted: Wanted = parse(&body)?;
    Ok(shown(&broker.create_role(wanted.role(name)).await?))
}

pub(super) async fn update(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted: Wanted = parse(&body)?;
    Ok(shown(&broker.update_role(wanted.role(name)).await?))
}

pub(super) async fn set_quota(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let quota: QuotaJson = parse(&body)?;
    Ok(shown(&broker.set_role_quota(&name, quota.into()).await?))
}

pub(super) async fn clear_quota(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    Ok(shown(&broker.set_role_quota(&name, v1::RoleQuota::default()).await?))
}

pub(super) async fn delete(
    Extension(broker): Extension<Access>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    broker.delete_role(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
