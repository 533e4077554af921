//! What each call over gRPC needs. A call without a row here is for administrators only, until a test finds it.

use crate::broker::Need;

/// Paths, each with what its call needs before it is read, in their order.
const RIGHTS: &[(&str, Need)] = &[
    ("/grpc.health.v1.Health/Check", Need::Open),
    ("/grpc.health.v1.Health/Watch", Need::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Known),
    ("/liminal.v1.Admin/Backup", Need::ADMIN),
    ("/liminal.v1.Admin/ClusterStatus", Need::SEE_CLUSTER),
    ("/liminal.v1.Admin/InviteNode", Need::ADMIN),
    ("/liminal.v1.Admin/JoinNode", Need::ADMIN),
    ("/liminal.v1.Admin/ListEvents", Need::SEE_CLUSTER),
    ("/liminal.v1.Admin/PromoteNode", Need::ADMIN),
    ("/liminal.v1.Admin/RemoveNode", Need::ADMIN),
    ("/liminal.v1.Admin/Snapshot", Need::TEND_CLUSTER),
    ("/liminal.v1.Admin/TransferLeadership", Need::ADMIN),
    ("/liminal.v1.Admin/Verify", Need::TEND_CLUSTER),
    ("/liminal.v1.Admin/VerifyDeep", Need::TEND_CLUSTER),
    ("/liminal.v1.Broker/Publish", Need::PUBLISH),
    ("/liminal.v1.Broker/PublishStream", Need::PUBLISH),
    ("/liminal.v1.Broker/PublishTransaction", Need::TRANSACT),
    ("/liminal.v1.Broker/Read", Need::READ),
    ("/liminal.v1.Broker/Reply", Need::REPLY),
    ("/liminal.v1.Broker/Request", Need::PUBLISH),
    ("/liminal.v1.Broker/Subscribe", Need::READ),
    ("/liminal.v1.Channels/CreateChannel", Need::MANAGE),
    ("/liminal.v1.Channels/DeleteChannel", Need::MANAGE),
    ("/liminal.v1.Channels/DeleteRule", Need::MANAGE),
    ("/liminal.v1.Channels/GetChannel", Need::Known),
    ("/liminal.v1.Channels/ListChannels", Need::Known),
    ("/liminal.v1.Channels/ListDelayed", Need::READ),
    ("/liminal.v1.Channels/ListRules", Need::Known),
    ("/liminal.v1.Channels/ListSchemas", Need::Known),
    ("/liminal.v1.Channels/PutRule", Need::MANAGE),
    ("/liminal.v1.Channels/TrimChannel", Need::MANAGE),
    ("/liminal.v1.Channels/UpdateChannel", Need::MANAGE),
    ("/liminal.v1.Channels/ValidateHistory", Need::READ),
    ("/liminal.v1.Channels/WithdrawDelayed", Need::MANAGE),
    ("/liminal.v1.Claims/CompleteClaim", Need::CLAIM),
    ("/liminal.v1.Claims/DeleteClaimNamespace", Need::MANAGE),
    ("/liminal.v1.Claims/GetClaimNamespace", Need::Known),
    ("/liminal.v1.Claims/ListClaimNamespaces", Need::Known),
    ("/liminal.v1.Claims/PutClaimNamespace", Need::MANAGE),
    ("/liminal.v1.Claims/ReleaseClaim", Need::CLAIM),
    ("/liminal.v1.Claims/RenewClaim", Need::CLAIM),
    ("/liminal.v1.Claims/ShowClaim", Need::SEE_CLAIM),
    ("/liminal.v1.Claims/TakeClaim", Need::CLAIM),
    ("/liminal.v1.Consumers/Consume", Need::CONSUME),
    ("/liminal.v1.Consumers/CreateConsumer", Need::MANAGE),
    ("/liminal.v1.Consumers/DeleteConsumer", Need::MANAGE),
    ("/liminal.v1.Consumers/GetConsumer", Need::Known),
    ("/liminal.v1.Consumers/ListConsumers", Need::Known),
    ("/liminal.v1.Consumers/ListDeadLetters", Need::READ),
    ("/liminal.v1.Consumers/Pull", Need::CONSUME),
    ("/liminal.v1.Consumers/Redrive", Need::MANAGE),
    ("/liminal.v1.Consumers/ResetConsumer", Need::MANAGE),
    ("/liminal.v1.Consumers/Settle", Need::CONSUME),
    ("/liminal.v1.Consumers/UpdateConsumer", Need::MANAGE),
    ("/liminal.v1.Security/CanI", Need::Known),
    ("/liminal.v1.Security/CreateRole", Need::Tokens),
    ("/liminal.v1.Security/CreateToken", Need::Tokens),
    ("/liminal.v1.Security/DeleteRole", Need::Tokens),
    ("/liminal.v1.Security/GetRole", Need::Tokens),
    ("/liminal.v1.Security/GetToken", Need::Tokens),
    ("/liminal.v1.Security/ListRoles", Need::Tokens),
    ("/liminal.v1.Security/ListTokens", Need::Tokens),
    ("/liminal.v1.Security/RevokeToken", Need::Tokens),
    ("/liminal.v1.Security/RotateToken", Need::Tokens),
    ("/liminal.v1.Security/SetRoleQuota", Need::Tokens),
    ("/liminal.v1.Security/UpdateRole", Need::Tokens),
];

/// What a call needs; none for one that is not of the services.
pub(super) fn need(path: &str) -> Option<Need> {
    let at = RIGHTS.binary_search_by_key(&path, |(path, _)| *path).ok()?;
    RIGHTS.get(at).map(|(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::proto::v1;

    #[test]
    fn every_call_of_the_services_has_a_row_and_there_are_no_others() {
        let files: FileDescriptorSet = prost::Message::decode(v1::DESCRIPTORS).unwrap();
        let mut calls = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                let calls_of = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                calls.extend(service.method.iter().map(|method| calls_of(method.name())));
            }
        }
        assert!(calls.len() > 50, "the descriptors name the calls: {}", calls.len());
        let own = RIGHTS.iter().map(|(path, _)| (*path).to_owned()).filter(|path| path.starts_with("/liminal."));
        assert_eq!(calls, own.collect());
    }

    #[test]
    fn the_rows_are_in_order_so_that_each_is_found() {
        assert!(RIGHTS.is_sorted_by_key(|(path, _)| *path));
        assert!(RIGHTS.iter().all(|(path, expected)| need(path) == Some(*expected)));
        assert_eq!(need("/liminal.v1.Broker/Nothing"), None);
    }
}
