//! The bytes of operations on tokens and roles, and of what the state keeps of them.

use super::{super::*, hex};
use crate::model::{
    Action, ClaimOperation, ConsumerId, ConsumerOperation, Grant, Invitation, KeyHash, NewInvitation, NewToken,
    Quantity, Refusal, Role, RoleQuota, Scope, SecurityOperation, SecurityReply, Token, TokenHash, TokenId,
};

fn role() -> Role {
    let grant = |scope: Scope, action| Grant { scope, actions: [action].into_iter().collect() };
    Role {
        name: "ops".parse().unwrap(),
        description: "d".into(),
        grants: vec![
            grant(Scope::Channels("a*".parse().unwrap()), Action::Publish),
            grant(Scope::Claims("b".parse().unwrap()), Action::Claim),
            grant(Scope::Cluster, Action::Admin),
        ],
    }
}

const ROLE: &str = concat!(
    "0300000000000000",
    "6f7073",
    "0100000000000000",
    "64",
    "0300000000000000",
    "00000000",
    "0200000000000000",
    "612a",
    "01",
    "01000000",
    "0100000000000000",
    "62",
    "08",
    "02000000",
    "20",
);

/// The id, the hash, the description and the roles of a token.
const NEW: &str = concat!(
    "0700000000000000",
    "0505050505050505050505050505050505050505050505050505050505050505",
    "0100000000000000",
    "74",
    "0100000000000000",
    "0300000000000000",
    "6f7073",
);

/// What limits connections and claims.
const QUOTA: &str = concat!("010100000000000000", "00000000000000", "010900000000000000");

fn body<T: serde::Serialize>(value: &T) -> String {
    let bytes = encode_record(value);
    hex(&bytes[HEAD..bytes.len() - CRC])
}

#[test]
fn operations_on_tokens_and_roles_have_golden_bytes() {
    let hash = TokenHash([5; 32]);
    let roles = vec!["ops".parse().unwrap()];
    let new = NewToken { id: TokenId(7), hash, description: "t".into(), roles, lifetime_ms: Some(9) };
    let hash_text = "05".repeat(32);
    for (operation, expected) in [
        (SecurityOperation::CreateRole(role()), ["00000000", ROLE].concat()),
        (SecurityOperation::UpdateRole(role()), ["01000000", ROLE].concat()),
        (SecurityOperation::DeleteRole("ops".parse().unwrap()), "0200000003000000000000006f7073".into()),
        (SecurityOperation::CreateToken(new), ["03000000", NEW, "010900000000000000"].concat()),
        (SecurityOperation::RevokeToken(TokenId(7)), "040000000700000000000000".into()),
        (SecurityOperation::RotateToken { id: TokenId(7), hash }, ["050000000700000000000000", &hash_text].concat()),
        (SecurityOperation::RevokeTokenUnlessLast(TokenId(7)), "060000000700000000000000".into()),
        (
            SecurityOperation::Invite(NewInvitation {
                id: TokenId(7),
                key: hash,
                description: "t".into(),
                lifetime_ms: 9,
            }),
            ["07000000", "0700000000000000", &hash_text, "010000000000000074", "0900000000000000"].concat(),
        ),
        (
            SecurityOperation::UseInvitation { id: TokenId(7), node: 8 },
            "0800000007000000000000000800000000000000".into(),
        ),
        (
            SecurityOperation::SetRoleQuota {
                role: "ops".parse().unwrap(),
                quota: RoleQuota { connections: Some(1), claims: Some(9), ..RoleQuota::default() },
            },
            ["09000000", "0300000000000000", "6f7073", QUOTA].concat(),
        ),
        (
            SecurityOperation::BindCertificate {
                name: "cn:a".parse().unwrap(),
                token: NewToken {
                    id: TokenId(7),
                    hash,
                    description: "t".into(),
                    roles: vec!["ops".parse().unwrap()],
                    lifetime_ms: None,
                },
            },
            ["0a000000", "0400000000000000", "636e3a61", NEW, "00"].concat(),
        ),
    ] {
        let operation = Operation::Security(operation);
        assert_eq!(body(&operation), ["0e000000", &expected].concat());
        let command = Command::Operations { time_ms: 7, operations: vec![operation] };
        assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    }
}

#[test]
fn what_is_made_for_a_token_has_golden_bytes() {
    let leave = ConsumerOperation::Leave { consumer: ConsumerId(2), member: 3 };
    let consumer = OnBehalf { token: TokenId(7), made: Made::Consumer(leave) };
    let release = ClaimOperation::Release { namespace: "n".parse().unwrap(), key: KeyHash([8; 16]), token: 9 };
    let claim = OnBehalf { token: TokenId(7), made: Made::Claim(release) };
    let (token, number) = ("0700000000000000", |number| format!("0{number}00000000000000"));
    for (made, expected) in [
        (consumer, ["00000000", "06000000", &number(2), &number(3)].concat()),
        (claim, ["01000000", "02000000", &number(1), "6e", &"08".repeat(16), &number(9)].concat()),
    ] {
        let operation = Operation::OnBehalf(made);
        assert_eq!(body(&operation), ["0f000000", token, &expected].concat());
        let command = Command::Operations { time_ms: 7, operations: vec![operation] };
        assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    }
    let (name, config) = ("n".parse().unwrap(), ChannelConfig::default());
    let plain = encode_command(&Command::CreateChannel { time_ms: 7, name, config });
    let (name, config) = ("n".parse().unwrap(), ChannelConfig::default());
    let command = Command::CreateChannelFor { time_ms: 7, name, config, token: TokenId(7) };
    let bytes = encode_command(&command);
    let (plain, own) = (hex(&plain[HEAD..plain.len() - CRC]), hex(&bytes[HEAD..bytes.len() - CRC]));
    assert_eq!(own, ["0a000000", &plain[8..], token].concat(), "as that of nobody, with the token behind it");
    assert_eq!(decode_command(&bytes).unwrap(), command);
}

#[test]
fn an_invitation_of_the_state_has_golden_bytes() {
    let key = TokenHash([5; 32]);
    let used = Invitation { id: TokenId(7), key, description: "t".into(), expires_ms: 9, used_by: Some(8) };
    let head = ["0700000000000000", &"05".repeat(32), "010000000000000074", "0900000000000000"].concat();
    assert_eq!(body(&used), [&head, "010800000000000000"].concat());
    assert_eq!(body(&Invitation { used_by: None, ..used }), [&head, "00"].concat());
}

#[test]
fn a_role_and_a_token_of_the_state_have_golden_bytes() {
    assert_eq!(body(&role()), ROLE);
    let token = Token {
        id: TokenId(7),
        hash: TokenHash([5; 32]),
        description: "t".into(),
        roles: vec!["ops".parse().unwrap()],
        created_ms: 1,
        rotated_ms: 2,
        expires_ms: None,
    };
    assert_eq!(body(&token), [NEW, "0100000000000000", "0200000000000000", "00"].concat());
    let replies: Vec<Result<crate::model::OperationReply, Refusal>> = vec![
        Ok(crate::model::OperationReply::Security(SecurityReply::Token(token))),
        Err(Refusal::NoSuchRole("ops".parse().unwrap())),
        Err(Refusal::TooManyTokens { limit: 9 }),
        Err(Refusal::LastAdministrator(TokenId(7))),
        Err(Refusal::NoSuchInvitation(TokenId(7))),
        Err(Refusal::TooManyInvitations { limit: 9 }),
        Err(Refusal::OverQuota { quantity: Quantity::Claims, held: 8, limit: 9, role: "ops".parse().unwrap() }),
        Err(Refusal::CertificateBound(TokenId(7))),
        Err(Refusal::TokenOfCertificate(TokenId(7))),
    ];
    let bytes = encode_record(&replies);
    let again: Vec<Result<crate::model::OperationReply, Refusal>> = decode_record("replies", &bytes).unwrap();
    assert_eq!(again, replies);
}
