//! Tokens and roles.

use super::*;
use crate::model::{
    ADMIN_ROLE, CertificateName, Grant, NewInvitation, NewToken, Role, RoleName, SecurityOperation, SecurityReply,
    SecurityState, Token, TokenHash, TokenId,
};

fn name(text: &str) -> RoleName {
    text.parse().unwrap()
}

fn role(text: &str, grants: &[&str]) -> Role {
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap());
    Role { name: name(text), description: String::new(), grants: grants.collect() }
}

fn token(id: u64, roles: &[&str]) -> NewToken {
    let roles = roles.iter().map(|role| name(role)).collect();
    NewToken { id: TokenId(id), hash: TokenHash([1; 32]), description: "ci".into(), roles, lifetime_ms: None }
}

fn operate(node: &mut Node, time_ms: u64, operation: SecurityOperation) -> Result<SecurityReply, Refusal> {
    let before = node.machine.security().clone();
    let (reply, effects) = node.operate(time_ms, Operation::Security(operation));
    let told = effects.security.is_some();
    assert_eq!(told, before != *node.machine.security(), "whoever checks is told of every change, and of nothing else");
    reply.map(|reply| match reply {
        OperationReply::Security(reply) => reply,
        other => panic!("{other:?}"),
    })
}

fn made(node: &mut Node, time_ms: u64, new: NewToken) -> Result<Token, Refusal> {
    operate(node, time_ms, SecurityOperation::CreateToken(new)).map(|reply| match reply {
        SecurityReply::Token(token) => token,
        other => panic!("{other:?}"),
    })
}

#[test]
fn tokens_and_roles_are_made_changed_and_ended_and_are_there_after_a_restart() {
    let mut node = Node::new();
    let reader = role("reader", &["channel:*=read"]);
    assert_eq!(operate(&mut node, 1, SecurityOperation::CreateRole(reader.clone())), Ok(SecurityReply::Role(reader)));
    let made_at_5 =
        made(&mut node, 5, NewToken { lifetime_ms: Some(10), ..token(1, &["reader", ADMIN_ROLE]) }).unwrap();
    assert_eq!((made_at_5.created_ms, made_at_5.rotated_ms, made_at_5.expires_ms), (5, 5, Some(15)));
    let wider = role("reader", &["channel:*=read,publish"]);
    operate(&mut node, 6, SecurityOperation::UpdateRole(wider.clone())).unwrap();
    let hash = TokenHash([2; 32]);
    operate(&mut node, 7, SecurityOperation::RotateToken { id: TokenId(1), hash }).unwrap();
    let before = SecurityState::clone(node.machine.security());
    node.restart();
    assert_eq!(**node.machine.security(), before);
    assert_eq!(*before.roles[&name("reader")], wider);
    assert_eq!(*before.tokens[&TokenId(1)], Token { hash, rotated_ms: 7, ..made_at_5 });
    operate(&mut node, 8, SecurityOperation::RevokeToken(TokenId(1))).unwrap();
    operate(&mut node, 9, SecurityOperation::DeleteRole(name("reader"))).unwrap();
    node.restart();
    assert_eq!(**node.machine.security(), SecurityState::default());
}

#[test]
fn a_request_that_comes_twice_is_done_once() {
    let mut node = Node::new();
    for time in [1, 2] {
        operate(&mut node, time, SecurityOperation::CreateRole(role("r", &["cluster=read"]))).unwrap();
        assert_eq!(made(&mut node, time, token(1, &["r"])).unwrap().created_ms, 1);
        operate(&mut node, 3, SecurityOperation::RotateToken { id: TokenId(1), hash: TokenHash([1; 32]) }).unwrap();
    }
    let other = NewToken { hash: TokenHash([9; 32]), ..token(1, &["r"]) };
    assert_eq!(made(&mut node, 4, other), Err(Refusal::TokenExists(TokenId(1))));
    let another = SecurityOperation::CreateRole(role("r", &["cluster=manage"]));
    assert_eq!(operate(&mut node, 4, another), Err(Refusal::RoleExists(name("r"))));
}

#[test]
fn a_role_that_a_token_has_stays_and_one_that_is_not_there_is_not_given() {
    let mut node = Node::new();
    assert_eq!(made(&mut node, 1, token(1, &["r"])), Err(Refusal::NoSuchRole(name("r"))));
    operate(&mut node, 1, SecurityOperation::CreateRole(role("r", &["cluster=read"]))).unwrap();
    made(&mut node, 1, token(1, &["r"])).unwrap();
    let delete = SecurityOperation::DeleteRole(name("r"));
    let in_use = Refusal::RoleInUse { role: name("r"), token: TokenId(1) };
    assert_eq!(operate(&mut node, 2, delete.clone()), Err(in_use));
    operate(&mut node, 3, SecurityOperation::RevokeToken(TokenId(1))).unwrap();
    operate(&mut node, 4, delete).unwrap();
}

#[test]
fn the_role_of_administrators_cannot_be_replaced() {
    let mut node = Node::new();
    let admin = role(ADMIN_ROLE, &["cluster=read"]);
    let create = SecurityOperation::CreateRole(admin.clone());
    assert_eq!(operate(&mut node, 1, create), Err(Refusal::RoleExists(name(ADMIN_ROLE))));
    let update = SecurityOperation::UpdateRole(admin);
    assert_eq!(operate(&mut node, 1, update), Err(Refusal::NoSuchRole(name(ADMIN_ROLE))));
    let delete = SecurityOperation::DeleteRole(name(ADMIN_ROLE));
    assert_eq!(operate(&mut node, 1, delete), Err(Refusal::NoSuchRole(name(ADMIN_ROLE))));
}

#[test]
fn the_last_token_that_administers_the_cluster_stays_unless_that_is_meant() {
    let mut node = Node::new();
    operate(&mut node, 1, SecurityOperation::CreateRole(role("ops", &["cluster=admin"]))).unwrap();
    operate(&mut node, 1, SecurityOperation::CreateRole(role("reader", &["cluster=read"]))).unwrap();
    made(&mut node, 1, token(1, &[ADMIN_ROLE])).unwrap();
    made(&mut node, 1, token(2, &["ops"])).unwrap();
    made(&mut node, 1, token(3, &["reader"])).unwrap();
    made(&mut node, 1, NewToken { lifetime_ms: Some(10), ..token(4, &[ADMIN_ROLE]) }).unwrap();
    let revoke = |id| SecurityOperation::RevokeTokenUnlessLast(TokenId(id));
    operate(&mut node, 20, revoke(1)).unwrap();
    let last = Err(Refusal::LastAdministrator(TokenId(2)));
    assert_eq!(operate(&mut node, 20, revoke(2)), last, "token 4 has expired, and token 3 may only look");
    operate(&mut node, 20, revoke(3)).unwrap();
    assert_eq!(operate(&mut node, 21, revoke(9)), Err(Refusal::NoSuchToken(TokenId(9))));
    operate(&mut node, 22, SecurityOperation::RevokeToken(TokenId(2))).unwrap();
    assert!(!node.machine.security().tokens.contains_key(&TokenId(2)));
}

#[test]
fn what_is_not_there_is_neither_ended_nor_changed() {
    let mut node = Node::new();
    let id = TokenId(4);
    assert_eq!(operate(&mut node, 1, SecurityOperation::RevokeToken(id)), Err(Refusal::NoSuchToken(id)));
    let rotate = SecurityOperation::RotateToken { id, hash: TokenHash([3; 32]) };
    assert_eq!(operate(&mut node, 1, rotate), Err(Refusal::NoSuchToken(id)));
}

#[test]
fn tokens_and_roles_have_limits() {
    let mut node = Node::new();
    let grants = vec!["cluster=read"; Limits::ROLE_GRANTS + 1];
    let large = SecurityOperation::CreateRole(role("large", &grants));
    assert_eq!(operate(&mut node, 1, large), Err(Refusal::RoleTooLarge(name("large"))));
    let many = vec![ADMIN_ROLE; Limits::TOKEN_ROLES + 1];
    assert_eq!(made(&mut node, 1, token(1, &many)), Err(Refusal::TokenTooLarge));
    let description = "d".repeat(Limits::DESCRIPTION_BYTES + 1);
    assert_eq!(made(&mut node, 1, NewToken { description, ..token(1, &[]) }), Err(Refusal::TokenTooLarge));
    for number in 0..Limits::ROLES {
        operate(&mut node, 1, SecurityOperation::CreateRole(role(&format!("r{number}"), &[]))).unwrap();
    }
    let limit = Limits::ROLES as u64;
    let one_more = SecurityOperation::CreateRole(role("one-more", &[]));
    assert_eq!(operate(&mut node, 1, one_more), Err(Refusal::TooManyRoles { limit }));
}

#[test]
fn a_token_that_expired_long_ago_makes_room_with_the_next_change() {
    let mut node = Node::new();
    made(&mut node, 1, NewToken { lifetime_ms: Some(10), ..token(1, &[]) }).unwrap();
    const WEEK: u64 = 7 * 24 * 60 * 60 * 1000;
    made(&mut node, WEEK, token(2, &[])).unwrap();
    assert!(node.machine.security().tokens.contains_key(&TokenId(1)), "its owner may want to know why it is refused");
    made(&mut node, WEEK + 11, token(3, &[])).unwrap();
    let left: Vec<u64> = node.machine.security().tokens.keys().map(|id| id.0).collect();
    assert_eq!(left, [2, 3]);
    node.restart();
    assert_eq!(node.machine.security().tokens.len(), 2);
}

fn invitation(id: u64) -> SecurityOperation {
    let (key, description) = (TokenHash([4; 32]), "n4".to_owned());
    SecurityOperation::Invite(NewInvitation { id: TokenId(id), key, description, lifetime_ms: 10 })
}

#[test]
fn an_invitation_lets_the_first_node_in_that_uses_it_and_no_other() {
    let mut node = Node::new();
    let by = |node| SecurityOperation::UseInvitation { id: TokenId(1), node };
    assert_eq!(operate(&mut node, 1, by(7)), Err(Refusal::NoSuchInvitation(TokenId(1))));
    operate(&mut node, 1, invitation(1)).unwrap();
    operate(&mut node, 2, invitation(1)).unwrap();
    operate(&mut node, 3, by(7)).unwrap();
    node.restart();
    assert_eq!(operate(&mut node, 4, by(8)), Err(Refusal::NoSuchInvitation(TokenId(1))));
    operate(&mut node, 5, by(7)).unwrap();
    assert_eq!(node.machine.security().invitations[&TokenId(1)].used_by, Some(7));
}

#[test]
fn an_invitation_ends_by_itself_and_there_are_only_so_many() {
    let mut node = Node::new();
    for id in 0..Limits::INVITATIONS as u64 {
        operate(&mut node, 1, invitation(id)).unwrap();
    }
    let limit = Limits::INVITATIONS as u64;
    assert_eq!(operate(&mut node, 2, invitation(1_000)), Err(Refusal::TooManyInvitations { limit }));
    let late = SecurityOperation::UseInvitation { id: TokenId(1), node: 7 };
    assert_eq!(operate(&mut node, 11, late), Err(Refusal::NoSuchInvitation(TokenId(1))));
    assert!(node.machine.security().invitations.is_empty());
    node.restart();
    assert!(node.machine.security().invitations.is_empty());
    operate(&mut node, 12, invitation(1_000)).unwrap();
}

#[test]
fn a_store_with_a_token_of_a_role_that_is_not_there_is_refused() {
    let mut node = Node::new();
    operate(&mut node, 1, SecurityOperation::CreateRole(role("r", &["cluster=read"]))).unwrap();
    made(&mut node, 1, token(1, &["r"])).unwrap();
    node.stored.remove(&Key::Role(KeyHash::of("r")).encode());
    let error = Machine::restore(node.stored).unwrap_err();
    assert!(error.contains("there is no role `r`"), "{error}");
}

fn bind(node: &mut Node, time_ms: u64, name: &str, new: NewToken) -> Result<Token, Refusal> {
    let name: CertificateName = name.parse().unwrap();
    let token = NewToken { hash: TokenHash::of_certificate(&name), ..new };
    operate(node, time_ms, SecurityOperation::BindCertificate { name, token }).map(|reply| match reply {
        SecurityReply::Token(token) => token,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_name_of_certificates_belongs_to_one_token_until_that_is_gone() {
    let mut node = Node::new();
    operate(&mut node, 1, SecurityOperation::CreateRole(role("r", &["cluster=read"]))).unwrap();
    let first = bind(&mut node, 1, "dns:a", token(1, &["r"])).unwrap();
    assert_eq!(bind(&mut node, 2, "dns:a", token(1, &["r"])), Ok(first), "the same once more");
    assert_eq!(bind(&mut node, 2, "dns:a", token(2, &["r"])), Err(Refusal::CertificateBound(TokenId(1))));
    assert_eq!(bind(&mut node, 2, "dns:b", token(1, &["r"])), Err(Refusal::TokenExists(TokenId(1))));
    assert_eq!(bind(&mut node, 2, "dns:b", token(2, &["none"])), Err(Refusal::NoSuchRole(name("none"))));
    let rotate = SecurityOperation::RotateToken { id: TokenId(1), hash: TokenHash([2; 32]) };
    assert_eq!(operate(&mut node, 2, rotate), Err(Refusal::TokenOfCertificate(TokenId(1))));
    node.restart();
    assert_eq!(node.machine.security().certificates.len(), 1);
    operate(&mut node, 3, SecurityOperation::RevokeToken(TokenId(1))).unwrap();
    node.restart();
    assert!(node.machine.security().certificates.is_empty());
    let short = NewToken { lifetime_ms: Some(1), ..token(3, &["r"]) };
    bind(&mut node, 4, "dns:a", short).unwrap();
    let week = 7 * 24 * 60 * 60 * 1000;
    bind(&mut node, 5 + week, "dns:c", token(4, &["r"])).unwrap();
    assert_eq!(node.machine.security().certificates.len(), 1, "one that has expired goes with its token");
    bind(&mut node, 6 + week, "dns:a", token(5, &["r"])).unwrap();
}
