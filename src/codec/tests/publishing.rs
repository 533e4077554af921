//! Operations that carry messages.

use super::*;
use crate::model::{Delayed, Due, Schedule, Transaction};

/// Operations that carry messages.
pub(super) fn operations() -> Vec<Operation> {
    let group = PublishGroup { channel: ChannelId(3), schema_id: 2, rules_version: 4, ..PublishGroup::default() };
    let keys = vec![KeyClaim { position: 0, key: KeyHash([1; 16]), digest: Digest([2; 8]) }];
    let keyed = PublishGroup { expected_seq: Some(5), expires: true, keys, frame: frame(&["a"]), ..group.clone() };
    let delayed =
        Delayed { due_ms: 9, claim: Some((KeyHash([1; 16]), Digest([2; 8]))), expires: false, frame: frame(&["a"]) };
    let ack =
        Part::Ack { consumer: ConsumerId(1), tokens: vec![DeliveryToken { seq: 3, attempt: 1, member: 7, of: None }] };
    let (namespace, key) = ("orders".parse().unwrap(), KeyHash([1; 16]));
    let complete = Part::Complete { namespace, key, token: 3, receipt: "r".into() };
    vec![
        Operation::Transaction(Transaction { parts: vec![Part::Publish(keyed)] }),
        Operation::Schedule(Schedule { channel: ChannelId(3), schema_id: 2, messages: vec![delayed] }),
        Operation::Due(Due { ids: vec![8], group: PublishGroup { frame: frame(&["a"]), ..group } }),
        Operation::Transaction(Transaction { parts: vec![ack, complete] }),
    ]
}

pub(super) const GOLDEN: &str = concat!(
    "0302",
    "06000000",
    "0700000000000000",
    "0400000000000000",
    // The transaction.
    "05000000",
    "0100000000000000",
    "00000000",
    "0300000000000000",
    "0200000000000000",
    "0400000000000000",
    "010500000000000000",
    "01",
    "0000000000000000",
    "0100000000000000",
    "00000000",
    "01010101010101010101010101010101",
    "0202020202020202",
    "0500000000000000",
    "0a030a0161",
    "01000000",
    // The message that waits.
    "06000000",
    "0300000000000000",
    "0200000000000000",
    "0100000000000000",
    "0900000000000000",
    "01",
    "01010101010101010101010101010101",
    "0202020202020202",
    "00",
    "0500000000000000",
    "0a030a0161",
    "01000000",
    // The one that is due.
    "07000000",
    "0100000000000000",
    "0800000000000000",
    "0300000000000000",
    "0200000000000000",
    "0400000000000000",
    "00",
    "00",
    "0000000000000000",
    "0000000000000000",
    "0500000000000000",
    "0a030a0161",
    "01000000",
    // The transaction that acknowledges and completes.
    "05000000",
    "0200000000000000",
    "01000000",
    "0100000000000000",
    "0100000000000000",
    "0300000000000000010000000700000000000000",
    "02000000",
    "06000000000000006f7264657273",
    "01010101010101010101010101010101",
    "0300000000000000",
    "010000000000000072",
);

#[test]
fn a_key_of_an_operation_at_a_position_outside_its_group_is_refused() {
    // The golden bytes above: envelope 2, command 4, time 8, count 8, operation 4, parts 8, part 4, channel 8, schema 8,
    // rules 8, expected number 9, expires 1, routes 8, keys 8.
    let (command, _) = commands().pop().unwrap();
    let entry = resealed(&encode_command(&command), |bytes| bytes[88] = 1);
    let error = decode_command(&entry).unwrap_err().to_string();
    assert!(error.contains("the keys of a group of 1 messages are out of place"), "{error}");
}

#[test]
fn operations_on_other_messages_than_they_carry_are_refused() {
    let [_, schedule, due, _] = operations().try_into().unwrap();
    let (Operation::Schedule(mut schedule), Operation::Due(mut due)) = (schedule, due) else { panic!("their order") };
    schedule.messages[0].frame = frame(&["a", "b"]);
    due.ids.clear();
    for (operation, why) in
        [(Operation::Schedule(schedule), "not one message"), (Operation::Due(due), "0 ids for 1 messages")]
    {
        let entry = encode_command(&Command::Operations { time_ms: 7, operations: vec![operation] });
        let error = decode_command(&entry).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
