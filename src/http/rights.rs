//! What each call over HTTP needs. A call without a row here is answered by nobody, which a test finds.

use axum::http::Method;

use crate::broker::Need;

/// Methods and paths, each with what its call needs before it is read.
const RIGHTS: &[(&str, &str, Need)] = &[
    ("GET", "/", Need::Open),
    ("GET", "/console/{asset}", Need::Open),
    ("GET", "/health", Need::Open),
    ("GET", "/metrics", Need::SEE_CLUSTER),
    ("GET", "/ready", Need::Open),
    ("GET", "/v1/can-i", Need::Known),
    ("GET", "/v1/channels", Need::Known),
    ("DELETE", "/v1/channels/{channel}", Need::MANAGE),
    ("GET", "/v1/channels/{channel}", Need::Known),
    ("PATCH", "/v1/channels/{channel}", Need::MANAGE),
    ("PUT", "/v1/channels/{channel}", Need::MANAGE),
    ("GET", "/v1/channels/{channel}/consumers", Need::Known),
    ("POST", "/v1/channels/{channel}/consumers", Need::MANAGE),
    ("DELETE", "/v1/channels/{channel}/consumers/{consumer}", Need::MANAGE),
    ("GET", "/v1/channels/{channel}/consumers/{consumer}", Need::Known),
    ("PATCH", "/v1/channels/{channel}/consumers/{consumer}", Need::MANAGE),
    ("GET", "/v1/channels/{channel}/consumers/{consumer}/dead-letters", Need::READ),
    ("GET", "/v1/channels/{channel}/consumers/{consumer}/members", Need::Known),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/pull", Need::CONSUME),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/redrive", Need::MANAGE),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/reset", Need::MANAGE),
    ("POST", "/v1/channels/{channel}/consumers/{consumer}/settle", Need::CONSUME),
    ("GET", "/v1/channels/{channel}/delayed", Need::READ),
    ("DELETE", "/v1/channels/{channel}/delayed/{id}", Need::MANAGE),
    ("GET", "/v1/channels/{channel}/events", Need::READ),
    ("GET", "/v1/channels/{channel}/messages", Need::READ),
    ("POST", "/v1/channels/{channel}/messages", Need::PUBLISH),
    ("POST", "/v1/channels/{channel}/request", Need::PUBLISH),
    ("POST", "/v1/channels/{channel}/schema/validate", Need::READ),
    ("GET", "/v1/channels/{channel}/schemas", Need::Known),
    ("POST", "/v1/channels/{channel}/trim", Need::MANAGE),
    ("GET", "/v1/claims", Need::Known),
    ("DELETE", "/v1/claims/{namespace}", Need::MANAGE),
    ("GET", "/v1/claims/{namespace}", Need::Known),
    ("PUT", "/v1/claims/{namespace}", Need::MANAGE),
    ("GET", "/v1/claims/{namespace}/{key}", Need::SEE_CLAIM),
    ("POST", "/v1/claims/{namespace}/{key}", Need::CLAIM),
    ("POST", "/v1/claims/{namespace}/{key}/complete", Need::CLAIM),
    ("POST", "/v1/claims/{namespace}/{key}/release", Need::CLAIM),
    ("POST", "/v1/claims/{namespace}/{key}/renew", Need::CLAIM),
    ("GET", "/v1/cluster", Need::SEE_CLUSTER),
    ("GET", "/v1/cluster/events", Need::SEE_CLUSTER),
    ("DELETE", "/v1/cluster/nodes/{node}", Need::ADMIN),
    ("POST", "/v1/cluster/nodes/{node}/lead", Need::ADMIN),
    ("POST", "/v1/cluster/nodes/{node}/promote", Need::ADMIN),
    ("GET", "/v1/consumers", Need::Known),
    ("GET", "/v1/history", Need::SEE_CLUSTER),
    ("GET", "/v1/live", Need::SEE_CLUSTER),
    ("GET", "/v1/node", Need::SEE_CLUSTER),
    ("GET", "/v1/openapi.json", Need::Open),
    ("POST", "/v1/replies/{inbox}", Need::REPLY),
    ("GET", "/v1/roles", Need::Tokens),
    ("DELETE", "/v1/roles/{role}", Need::Tokens),
    ("GET", "/v1/roles/{role}", Need::Tokens),
    ("PATCH", "/v1/roles/{role}", Need::Tokens),
    ("PUT", "/v1/roles/{role}", Need::Tokens),
    ("DELETE", "/v1/roles/{role}/quota", Need::Tokens),
    ("PUT", "/v1/roles/{role}/quota", Need::Tokens),
    ("GET", "/v1/rules", Need::Known),
    ("DELETE", "/v1/rules/{source}/{target}", Need::MANAGE),
    ("PUT", "/v1/rules/{source}/{target}", Need::MANAGE),
    ("GET", "/v1/tokens", Need::Tokens),
    ("POST", "/v1/tokens", Need::Tokens),
    ("DELETE", "/v1/tokens/{id}", Need::Tokens),
    ("GET", "/v1/tokens/{id}", Need::Tokens),
    ("POST", "/v1/tokens/{id}/rotate", Need::Tokens),
    ("POST", "/v1/transactions", Need::TRANSACT),
    ("GET", "/v1/ws", Need::CONVERSE),
];

/// What a call needs; none for one that is not described.
pub(super) fn need(method: &Method, path: &str) -> Option<Need> {
    let found = RIGHTS.iter().find(|(known, of, _)| *of == path && *known == method.as_str());
    found.map(|(_, _, need)| *need)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// That the document names every path and method that is served is held by tests of its own.
    #[test]
    fn every_call_that_the_document_describes_has_a_row_and_there_are_no_others() {
        let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            described.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
        }
        let rows = RIGHTS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
        assert_eq!(described, rows.collect());
        assert_eq!(need(&Method::PUT, "/v1/channels"), None);
    }
}
