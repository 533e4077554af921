//! What channels, consumers and claims count for which token.

use super::*;
use crate::model::{
    Begin, ClaimOperation, ClaimReply, ConsumerConfig, ConsumerOperation, Grant, KeyHash, Made, NewToken, OnBehalf,
    Quantity, Role, RoleQuota, SecurityOperation, TokenHash, TokenId,
};

const TOKEN: TokenId = TokenId(1);
const OTHER: TokenId = TokenId(2);

fn security(node: &mut Node, operation: SecurityOperation) -> Result<OperationReply, Refusal> {
    node.operate(1, Operation::Security(operation)).0
}

fn limit(node: &mut Node, role: &str, quota: RoleQuota) {
    let role = role.parse().unwrap();
    security(node, SecurityOperation::SetRoleQuota { role, quota }).unwrap();
}

/// Two tokens of a role that allows so much.
fn node(quota: RoleQuota) -> Node {
    let mut node = Node::new();
    let grants = vec!["channel:*=manage".parse::<Grant>().unwrap()];
    let role = Role { name: "shop".parse().unwrap(), description: String::new(), grants };
    security(&mut node, SecurityOperation::CreateRole(role)).unwrap();
    for id in [TOKEN, OTHER] {
        let roles = vec!["shop".parse().unwrap()];
        let new = NewToken { id, hash: TokenHash([1; 32]), description: String::new(), roles, lifetime_ms: None };
        security(&mut node, SecurityOperation::CreateToken(new)).unwrap();
    }
    limit(&mut node, "shop", quota);
    node
}

fn create(node: &mut Node, token: TokenId, name: &str) -> Result<(), Refusal> {
    let (name, config) = (name.parse().unwrap(), ChannelConfig::default());
    match node.apply(Command::CreateChannelFor { time_ms: 1, name, config, token }).0 {
        Reply::Channel(reply) => reply.map(drop),
        other => panic!("{other:?}"),
    }
}

fn consume(node: &mut Node, token: TokenId, name: &str) -> Result<(), Refusal> {
    let (channel, config) = ("orders".parse().unwrap(), ConsumerConfig::default());
    let create = ConsumerOperation::Create { channel, name: name.parse().unwrap(), config, begin: Begin::Earliest };
    let operation = ConsumerOperation::Judged { operation: Box::new(create), settle_skipped: false };
    node.operate(1, OnBehalf::operation(Some(token), Made::Consumer(operation))).0.map(drop)
}

fn claim(node: &mut Node, time_ms: u64, token: TokenId, key: u8) -> Result<u64, Refusal> {
    let (namespace, key) = ("jobs".parse().unwrap(), KeyHash([key; 16]));
    let take = ClaimOperation::Take { namespace, key, owner: Some("w".into()), lease_ms: 10 };
    match node.operate(time_ms, OnBehalf::operation(Some(token), Made::Claim(take))).0? {
        OperationReply::Claim(ClaimReply::Taken { claim, .. }) => Ok(claim.token),
        other => panic!("{other:?}"),
    }
}

fn over(quantity: Quantity, limit: u64) -> Refusal {
    Refusal::OverQuota { quantity, held: limit, limit, role: "shop".parse().unwrap() }
}

#[test]
fn a_token_makes_as_many_channels_as_its_role_allows_and_another_one_after_one_has_gone() {
    let mut node = node(RoleQuota { channels: Some(2), ..RoleQuota::default() });
    for name in ["a", "b", "a"] {
        assert_eq!(create(&mut node, TOKEN, name), Ok(()), "{name}: what is there already is no error");
    }
    assert_eq!(create(&mut node, TOKEN, "c"), Err(over(Quantity::Channels, 2)));
    assert_eq!(create(&mut node, OTHER, "c"), Ok(()), "each token has as much");
    node.restart();
    assert_eq!(create(&mut node, TOKEN, "d"), Err(over(Quantity::Channels, 2)));
    node.apply(Command::DeleteChannel { time_ms: 2, name: "c".parse().unwrap() });
    assert_eq!(create(&mut node, TOKEN, "d"), Err(over(Quantity::Channels, 2)), "it was another one's");
    node.apply(Command::DeleteChannel { time_ms: 2, name: "a".parse().unwrap() });
    assert_eq!(create(&mut node, TOKEN, "d"), Ok(()));
    limit(&mut node, "shop", RoleQuota { channels: Some(3), ..RoleQuota::default() });
    assert_eq!(create(&mut node, TOKEN, "e"), Ok(()));
}

#[test]
fn only_what_is_made_while_a_quota_holds_counts_and_it_counts_until_it_is_gone() {
    let mut node = node(RoleQuota::default());
    create(&mut node, TOKEN, "a").unwrap();
    limit(&mut node, "shop", RoleQuota { channels: Some(1), ..RoleQuota::default() });
    create(&mut node, TOKEN, "b").unwrap();
    assert_eq!(create(&mut node, TOKEN, "c"), Err(over(Quantity::Channels, 1)));
    limit(&mut node, "shop", RoleQuota::default());
    create(&mut node, TOKEN, "c").unwrap();
    limit(&mut node, "shop", RoleQuota { channels: Some(1), ..RoleQuota::default() });
    assert_eq!(create(&mut node, TOKEN, "d"), Err(over(Quantity::Channels, 1)));
}

#[test]
fn consumers_count_until_they_or_their_channel_are_deleted() {
    let mut node = node(RoleQuota { consumers: Some(2), ..RoleQuota::default() });
    create(&mut node, TOKEN, "orders").unwrap();
    for name in ["a", "b", "a"] {
        assert_eq!(consume(&mut node, TOKEN, name), Ok(()), "{name}");
    }
    assert_eq!(consume(&mut node, TOKEN, "c"), Err(over(Quantity::Consumers, 2)));
    let first = node.machine.consumers().iter().next().unwrap().meta().id;
    let delete = ConsumerOperation::Keeping(Box::new(ConsumerOperation::Delete { consumer: first }));
    node.operate(2, Operation::Consumer(delete)).0.unwrap();
    node.restart();
    assert_eq!(consume(&mut node, TOKEN, "c"), Ok(()));
    assert_eq!(consume(&mut node, TOKEN, "d"), Err(over(Quantity::Consumers, 2)));
    node.apply(Command::DeleteChannel { time_ms: 3, name: "orders".parse().unwrap() });
    create(&mut node, TOKEN, "orders").unwrap();
    for name in ["a", "b"] {
        assert_eq!(consume(&mut node, TOKEN, name), Ok(()), "{name}");
    }
}

#[test]
fn claims_count_while_they_are_held_and_while_their_receipts_are_kept() {
    let mut node = node(RoleQuota { claims: Some(2), ..RoleQuota::default() });
    let token = claim(&mut node, 1, TOKEN, 1).unwrap();
    assert_eq!(claim(&mut node, 1, TOKEN, 1), Ok(token), "it holds it already");
    claim(&mut node, 1, TOKEN, 2).unwrap();
    assert_eq!(claim(&mut node, 1, TOKEN, 3), Err(over(Quantity::Claims, 2)));
    assert!(claim(&mut node, 1, OTHER, 3).is_ok());
    let (namespace, key) = ("jobs".parse().unwrap(), KeyHash([1; 16]));
    let complete = ClaimOperation::Complete { namespace, key, token, receipt: "done".into() };
    node.operate(2, Operation::Claim(complete)).0.unwrap();
    assert_eq!(claim(&mut node, 3, TOKEN, 4), Err(over(Quantity::Claims, 2)), "its receipt is kept");
    node.restart();
    // The lease of the second one has ended, and the receipt stays.
    claim(&mut node, 12, TOKEN, 4).unwrap();
    assert_eq!(claim(&mut node, 12, TOKEN, 5), Err(over(Quantity::Claims, 2)));
    // What another one takes after that counts for that one.
    assert!(claim(&mut node, 12, OTHER, 2).is_ok());
    let delete = ClaimOperation::DeleteNamespace { name: "jobs".parse().unwrap() };
    node.operate(13, Operation::Claim(delete)).0.unwrap();
    for key in [1, 2] {
        assert!(claim(&mut node, 14, TOKEN, key).is_ok());
    }
    node.restart();
}

#[test]
fn a_quota_goes_with_its_role_and_is_there_after_a_restart() {
    let mut node = Node::new();
    let missing = SecurityOperation::SetRoleQuota { role: "r".parse().unwrap(), quota: RoleQuota::default() };
    assert_eq!(security(&mut node, missing), Err(Refusal::NoSuchRole("r".parse().unwrap())));
    let grants = vec!["cluster=read".parse::<Grant>().unwrap()];
    let role = Role { name: "r".parse().unwrap(), description: String::new(), grants };
    security(&mut node, SecurityOperation::CreateRole(role.clone())).unwrap();
    let quota = RoleQuota { streams: Some(7), ..RoleQuota::default() };
    limit(&mut node, "r", quota);
    node.restart();
    assert_eq!(*node.machine.security().quotas[&role.name], quota);
    security(&mut node, SecurityOperation::DeleteRole(role.name.clone())).unwrap();
    node.restart();
    security(&mut node, SecurityOperation::CreateRole(role)).unwrap();
    assert!(node.machine.security().quotas.is_empty(), "a role of the same name is another one");
}

#[test]
fn a_state_in_which_something_counts_that_is_not_there_is_refused() {
    let mut node = node(RoleQuota { channels: Some(2), consumers: Some(2), claims: Some(2), ..RoleQuota::default() });
    create(&mut node, TOKEN, "orders").unwrap();
    consume(&mut node, TOKEN, "w").unwrap();
    claim(&mut node, 1, TOKEN, 1).unwrap();
    let owner = codec::encode_record(&TOKEN);
    let id = crate::model::NamespaceId(1);
    for key in [
        Key::ChannelOwner(ChannelId(9)),
        Key::ConsumerOwner(crate::model::ConsumerId(9)),
        Key::ClaimOwner(id, KeyHash([9; 16])),
    ] {
        let mut stored: Vec<_> = node.stored.clone().into_iter().collect();
        assert!(Machine::restore(stored.clone()).is_ok());
        stored.push((key.encode(), owner.clone()));
        stored.sort();
        let error = Machine::restore(stored).unwrap_err();
        assert!(error.contains("there is no such thing"), "{error}");
    }
}
