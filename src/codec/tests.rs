mod publishing;
mod security;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Begin, ClaimOperation, Clean, Compact, Comparison, Compatibility, ConsumeOrder, ConsumerConfig, ConsumerId,
    ConsumerOperation, DeliveryToken, Digest, Durability, Gone, Hand, KeyHash, MemberEvent, OrderingKey, PeerVersion,
    Quota, Reclaim, Redrive, Retention, Settlement, StateLimits, Verdict, WhenFull,
};
use crate::proto::v1::Message;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frame(payloads: &[&str]) -> Frame {
    let message = |payload: &&str| Message { payload: Bytes::from(payload.to_string()), ..Message::default() };
    Frame::encode(&payloads.iter().map(message).collect::<Vec<_>>())
}

fn commands() -> Vec<(Command, &'static str)> {
    let name: ChannelName = "orders".parse().unwrap();
    vec![
        (
            Command::Publish {
                time_ms: 7,
                groups: vec![PublishGroup {
                    channel: ChannelId(3),
                    schema_id: 2,
                    rules_version: 4,
                    expected_seq: Some(5),
                    expires: true,
                    routes: vec![Route { target: ChannelId(6), schema_id: 7, positions: vec![1] }],
                    keys: vec![KeyClaim { position: 1, key: KeyHash(*b"0123456789abcdef"), digest: Digest([2; 8]) }],
                    frame: frame(&["a", "bc"]),
                }],
            },
            concat!(
                "0301",
                "86000000",
                "0700000000000000",
                "0100000000000000",
                "0300000000000000",
                "0200000000000000",
                "0400000000000000",
                "010500000000000000",
                "01",
                "0100000000000000",
                "0600000000000000",
                "0700000000000000",
                "0100000000000000",
                "01000000",
                "0100000000000000",
                "01000000",
                "30313233343536373839616263646566",
                "0202020202020202",
                "0b00000000000000",
                "02000000",
                "0a030a0161",
                "0a040a026263",
            ),
        ),
        (
            Command::CreateChannel {
                time_ms: 7,
                name: name.clone(),
                config: ChannelConfig {
                    durability: Durability::Ephemeral,
                    comparison: Comparison::Bytes,
                    schema: Some("{}".into()),
                    dedup_window_ms: 9,
                    compatibility: Compatibility::Full,
                    retention: Retention {
                        max_messages: Some(1),
                        max_bytes: Some(2),
                        max_age_ms: None,
                        when_full: WhenFull::RefuseNew,
                        work_queue: true,
                        compact_by: None,
                    },
                    quarantine: Some("q".parse().unwrap()),
                    quota: Quota { messages_per_second: Some(3), bytes_per_second: None },
                },
            },
            concat!(
                "0302",
                "00000000",
                "0700000000000000",
                "0600000000000000",
                "6f7264657273",
                "01000000",
                "01",
                "0200000000000000",
                "7b7d",
                "0900000000000000",
                "02000000",
                "010100000000000000",
                "010200000000000000",
                "00",
                "01000000",
                "0100",
                "01010000000000000071",
                "01030000000000000000",
            ),
        ),
        (
            Command::UpdateChannel {
                time_ms: 7,
                name: name.clone(),
                update: ChannelUpdate { dedup_window_ms: Some(9), quarantine: Some(None), ..ChannelUpdate::default() },
            },
            concat!(
                "0302",
                "01000000",
                "0700000000000000",
                "0600000000000000",
                "6f7264657273",
                "00",
                "00",
                "010900000000000000",
                "0000",
                "0100",
                "00"
            ),
        ),
        (
            Command::DeleteChannel { time_ms: 7, name: name.clone() },
            concat!("0302", "02000000", "0700000000000000", "0600000000000000", "6f7264657273"),
        ),
        (Command::Tick { time_ms: 7 }, concat!("0302", "03000000", "0700000000000000")),
        (Command::Checkpoint { time_ms: 7 }, concat!("0302", "04000000", "0700000000000000")),
        (
            Command::Calendar { time_ms: 7, ahead_ms: -2 },
            concat!("0302", "07000000", "0700000000000000", "feffffffffffffff"),
        ),
        (
            Command::RaiseVersion { time_ms: 7, version: PeerVersion(4) },
            concat!("0302", "09000000", "0700000000000000", "04"),
        ),
        (
            Command::Member {
                time_ms: 7,
                node: 9,
                name: "n1".into(),
                event: MemberEvent::Started { starts: 2, incarnation: 3, peer: "a:1".into() },
            },
            concat!(
                "0302",
                "05000000",
                "0700000000000000",
                "0900000000000000",
                "0200000000000000",
                "6e31",
                "00000000",
                "0200000000000000",
                "0300000000000000",
                "0300000000000000",
                "613a31"
            ),
        ),
        (
            Command::Operations {
                time_ms: 7,
                operations: vec![
                    Operation::PutRule { source: name.clone(), target: name.clone(), predicate: Some("a".into()) },
                    Operation::DeleteRule { source: name.clone(), target: name.clone() },
                    Operation::Trim { channel: name.clone(), up_to: 9 },
                ],
            },
            concat!(
                "0302",
                "06000000",
                "0700000000000000",
                "0300000000000000",
                "00000000",
                "06000000000000006f7264657273",
                "06000000000000006f7264657273",
                "01010000000000000061",
                "01000000",
                "06000000000000006f7264657273",
                "06000000000000006f7264657273",
                "03000000",
                "06000000000000006f7264657273",
                "0900000000000000",
            ),
        ),
        (
            Command::Operations {
                time_ms: 7,
                operations: vec![Operation::Compact(Compact {
                    channel: ChannelId(1),
                    by: "user".into(),
                    step: 2,
                    gone: vec![Gone { first_seq: 3, count: 4, bytes: 5 }],
                    clean: Some(Clean { first_seq: 6, to: 8, removed: 9 }),
                })],
            },
            concat!(
                "0302",
                "06000000",
                "0700000000000000",
                "0100000000000000",
                "08000000",
                "0100000000000000",
                "040000000000000075736572",
                "0200000000000000",
                "0100000000000000",
                "030000000000000004000000000000000500000000000000",
                "01060000000000000008000000000000000900000000000000",
            ),
        ),
        (
            Command::Operations { time_ms: 7, operations: vec![Operation::Redrive(redrive())] },
            concat!(
                "0302",
                "06000000",
                "0700000000000000",
                "0100000000000000",
                "09000000",
                "0100000000000000",
                "0200000000000000",
                "0100000000000000",
                "030000000000000001000000000000000500000000000000",
                "010400000000000000",
                "0600000000000000",
                "0200000000000000",
                "0400000000000000",
                "00",
                "00",
                "0000000000000000",
                "0000000000000000",
                "0500000000000000",
                "0a030a0161",
                "01000000",
            ),
        ),
        (
            Command::Operations { time_ms: 7, operations: claim_operations(&name) },
            concat!(
                "0302",
                "06000000",
                "0700000000000000",
                "0600000000000000",
                "0200000000000000",
                "06000000000000006f7264657273",
                "01010101010101010101010101010101",
                "01010000000000000077",
                "0900000000000000",
                "0200000001000000",
                "06000000000000006f7264657273",
                "01010101010101010101010101010101",
                "0300000000000000",
                "010000000000000072",
                "0200000002000000",
                "06000000000000006f7264657273",
                "01010101010101010101010101010101",
                "0300000000000000",
                "0200000003000000",
                "06000000000000006f7264657273",
                "01010101010101010101010101010101",
                "0300000000000000",
                "0900000000000000",
                "0200000004000000",
                "06000000000000006f7264657273",
                "0900000000000000",
                "0200000005000000",
                "06000000000000006f7264657273",
            ),
        ),
        (
            Command::Operations {
                time_ms: 7,
                operations: consumer_operations().into_iter().map(Operation::Consumer).collect(),
            },
            concat!(
                "0302",
                "06000000",
                "0700000000000000",
                "0800000000000000",
                // Create
                "0400000000000000",
                "06000000000000006f7264657273",
                "010000000000000077",
                "0500000000000000",
                "03000000",
                "01010000000000000064",
                "04000000",
                "02000000010000000100000000000000",
                "75",
                "01010000000000000066",
                "020000000900000000000000",
                // Update
                "0400000001000000",
                "0100000000000000",
                "3075000000000000",
                "00000000",
                "00",
                "e8030000",
                "00000000",
                "00",
                // Delete, reset
                "0400000002000000",
                "0100000000000000",
                "0400000003000000",
                "0100000000000000",
                "01000000",
                // Assign
                "0400000004000000",
                "0100000000000000",
                "0200000000000000",
                "0500000000000000",
                "0100000000000000",
                "03000000000000000700000000000000010600000000000000",
                "0100000000000000",
                "04000000000000000600000000000000",
                // Settle
                "0400000005000000",
                "0100000000000000",
                "0400000000000000",
                "0300000000000000010000000700000000000000",
                "00000000",
                "0300000000000000010000000700000000000000",
                "01000000",
                "0300000000000000010000000700000000000000",
                "020000000a00000000000000010000000000000072",
                "0300000000000000010000000700000000000000",
                "03000000",
                // Leave, dead letter
                "0400000006000000",
                "0100000000000000",
                "0700000000000000",
                "0400000007000000",
                "0100000000000000",
                "0300000000000000",
                "00",
            ),
        ),
        (Command::Operations { time_ms: 7, operations: publishing::operations() }, publishing::GOLDEN),
    ]
}

#[test]
fn operations_of_earlier_versions_are_read_as_they_were_and_new_ones_come_after_them() {
    let delete = ConsumerOperation::Delete { consumer: ConsumerId(1) };
    let keeping = ConsumerOperation::Keeping(Box::new(delete.clone()));
    let judged = ConsumerOperation::Judged { operation: Box::new(delete.clone()), settle_skipped: true };
    let token = DeliveryToken { seq: 3, attempt: 1, member: 7, of: None };
    let settlements = vec![Settlement { token, verdict: Verdict::Return }];
    let settle = ConsumerOperation::Settle { consumer: ConsumerId(1), settlements };
    let past = ConsumerOperation::AssignPast {
        consumer: ConsumerId(1),
        next: 2,
        until: 70,
        hands: vec![Hand { seq: 3, member: 7, key: None }],
        parked: vec![(4, 6)],
        deferred: vec![(1, 33)],
    };
    let next = ["02000000000000004600000000000000", "0100000000000000", "0300000000000000070000000000000000"].concat();
    let waits =
        ["010000000000000004000000000000000600000000000000", "010000000000000001000000000000002100000000000000"];
    let (id, token) = ("0100000000000000", "0300000000000000010000000700000000000000");
    for (operation, golden) in [
        (delete.clone(), ["02000000", id].concat()),
        (keeping.clone(), ["0800000002000000", id].concat()),
        (settle, ["05000000", id, "0100000000000000", token, "04000000"].concat()),
        (judged.clone(), ["0900000002000000", id, "01"].concat()),
        (past, ["0a000000", id, &next, &waits.concat()].concat()),
    ] {
        let bytes = encode_record(&operation);
        assert_eq!(hex(&bytes[HEAD..bytes.len() - CRC]), golden);
        let command = Command::Operations { time_ms: 7, operations: vec![Operation::Consumer(operation)] };
        assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    }
    for inner in [keeping, judged] {
        let twice = Operation::Consumer(ConsumerOperation::Keeping(Box::new(inner)));
        let twice = encode_command(&Command::Operations { time_ms: 7, operations: vec![twice] });
        assert!(decode_command(&twice).unwrap_err().to_string().contains("twice"));
    }
}

#[test]
fn limits_of_the_state_have_golden_bytes() {
    let limits = StateLimits {
        channels: 1,
        rules: 2,
        claim_namespaces: 3,
        live_claims: 4,
        consumers: 5,
        consumers_per_channel: 6,
        consumer_pending: 7,
        delayed_messages: 8,
        delayed_bytes: 9,
    };
    let operation = Operation::LimitState(limits);
    let bytes = encode_record(&operation);
    let numbers: String = (1..=9).map(|number| format!("0{number}00000000000000")).collect();
    assert_eq!(hex(&bytes[HEAD..bytes.len() - CRC]), ["0c000000", &numbers].concat());
    let command = Command::Operations { time_ms: 7, operations: vec![operation] };
    assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    let update = ChannelUpdate { dedup_window_ms: Some(9), ..ChannelUpdate::default() };
    let (old, new) = (
        Command::UpdateChannel { time_ms: 7, name: "c".parse().unwrap(), update: update.clone() },
        Command::ChangeChannel { time_ms: 7, name: "c".parse().unwrap(), update },
    );
    let [old_bytes, new_bytes] = [&old, &new].map(encode_command);
    let body = |bytes: &[u8]| hex(&bytes[HEAD..bytes.len() - CRC]);
    assert_eq!(body(&new_bytes), body(&old_bytes).replacen("01000000", "08000000", 1));
    assert_eq!(decode_command(&new_bytes).unwrap(), new);
}

#[test]
fn a_configuration_is_written_as_it_ever_was_unless_it_says_more() {
    let said = |durability, comparison| {
        let config = ChannelConfig { durability, comparison, dedup_window_ms: 9, ..ChannelConfig::default() };
        let bytes = encode_record(&config);
        assert_eq!(decode_record::<ChannelConfig>("configuration", &bytes).unwrap(), config);
        let hex = hex(&bytes[HEAD..bytes.len() - CRC]);
        // No schema, and the window.
        hex[..hex.find("000900").unwrap()].to_owned()
    };
    assert_eq!(said(Durability::Durable, Comparison::Bytes), "00000000");
    assert_eq!(said(Durability::Ephemeral, Comparison::Bytes), "01000000");
    assert_eq!(said(Durability::Durable, Comparison::CanonicalJson), "020000000000000001000000");
    assert_eq!(said(Durability::Ephemeral, Comparison::CanonicalJson), "020000000100000001000000");
}

#[test]
fn withdrawals_limits_of_keys_and_reclaims_come_after_the_operations_of_earlier_versions() {
    let reclaim = Reclaim { channel: ChannelId(3), step: 2, gone: vec![Gone { first_seq: 4, count: 5, bytes: 6 }] };
    let reclaimed = ["03", "02", "01", "04", "05", "06"].map(|number| format!("{number}00000000000000")).concat();
    for (operation, golden) in [
        (Operation::Reclaim(reclaim), ["0d000000", &reclaimed].concat().as_str()),
        (Operation::Withdraw { channel: ChannelId(3), id: 8 }, "0a00000003000000000000000800000000000000"),
        (Operation::LimitKeys { live_keys: 9, all_keys: 5 }, "0b00000009000000000000000500000000000000"),
    ] {
        let bytes = encode_record(&operation);
        assert_eq!(hex(&bytes[HEAD..bytes.len() - CRC]), golden);
        let command = Command::Operations { time_ms: 7, operations: vec![operation] };
        assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    }
}

fn consumer_operations() -> Vec<ConsumerOperation> {
    let consumer = ConsumerId(1);
    let token = DeliveryToken { seq: 3, attempt: 1, member: 7, of: None };
    let verdicts =
        [Verdict::Ack, Verdict::AckUpTo, Verdict::Nack { delay_ms: 10, reason: "r".into() }, Verdict::Extend];
    let config = ConsumerConfig {
        ack_timeout_ms: 5,
        max_attempts: 3,
        dead_letter: Some("d".parse().unwrap()),
        max_in_flight: 4,
        order: ConsumeOrder::Key(OrderingKey::Header("u".into())),
        filter: Some("f".into()),
    };
    vec![
        ConsumerOperation::Create {
            channel: "orders".parse().unwrap(),
            name: "w".parse().unwrap(),
            config,
            begin: Begin::Seq(9),
        },
        ConsumerOperation::Update { consumer, config: ConsumerConfig::default() },
        ConsumerOperation::Delete { consumer },
        ConsumerOperation::Reset { consumer, begin: Begin::Latest },
        ConsumerOperation::Assign {
            consumer,
            next: 2,
            until: 5,
            hands: vec![Hand { seq: 3, member: 7, key: Some(6) }],
            parked: vec![(4, 6)],
        },
        ConsumerOperation::Settle {
            consumer,
            settlements: verdicts.map(|verdict| Settlement { token, verdict }).into(),
        },
        ConsumerOperation::Leave { consumer, member: 7 },
        ConsumerOperation::DeadLetter { consumer, seq: 3, letter: None },
    ]
}

fn redrive() -> Redrive {
    let (gone, frame) = (vec![Gone { first_seq: 3, count: 1, bytes: 5 }], frame(&["a"]));
    let group =
        PublishGroup { channel: ChannelId(6), schema_id: 2, rules_version: 4, frame, ..PublishGroup::default() };
    Redrive { letters: ChannelId(1), step: 2, gone, begin: Some(4), group }
}

#[test]
fn a_redrive_has_a_message_for_each_letter() {
    let more = Redrive { gone: vec![Gone { first_seq: 3, count: 2, bytes: 5 }], ..redrive() };
    let entry = encode_command(&Command::Operations { time_ms: 7, operations: vec![Operation::Redrive(more)] });
    assert!(decode_command(&entry).unwrap_err().to_string().contains("1 messages without keys for 2 letters"));
}

/// One of each.
fn claim_operations(name: &ChannelName) -> Vec<Operation> {
    let (namespace, name, key) = (|| name.clone(), name.clone(), KeyHash([1; 16]));
    let operations = [
        ClaimOperation::Take { namespace: namespace(), key, owner: Some("w".into()), lease_ms: 9 },
        ClaimOperation::Complete { namespace: namespace(), key, token: 3, receipt: "r".into() },
        ClaimOperation::Release { namespace: namespace(), key, token: 3 },
        ClaimOperation::Renew { namespace: namespace(), key, token: 3, lease_ms: 9 },
        ClaimOperation::PutNamespace { name: name.clone(), window_ms: 9 },
        ClaimOperation::DeleteNamespace { name },
    ];
    operations.map(Operation::Claim).to_vec()
}

#[test]
fn every_command_has_the_bytes_that_older_logs_hold() {
    for (command, golden) in commands() {
        let bytes = encode_command(&command);
        assert_eq!(hex(&bytes[..bytes.len() - CRC]), golden, "{command:?}");
        assert_eq!(decode_command(&bytes).unwrap(), command);
    }
}

#[test]
fn a_stored_batch_has_the_bytes_that_older_stores_hold() {
    for (expires, kind) in [(false, "03"), (true, "05")] {
        let batch = StoredBatch { first_seq: 5, time_ms: 7, schema_id: 2, expires, frame: frame(&["a"]) };
        let bytes = encode_batch(&batch);
        let golden = "050000000000000007000000000000000200000000000000010000000a030a0161";
        assert_eq!(hex(&bytes[..bytes.len() - CRC]), format!("03{kind}{golden}"));
        assert_eq!(decode_batch(&bytes).unwrap(), batch);
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut bytes = encode_command(&Command::Tick { time_ms: 1 }).to_vec();
    bytes[0] = 4;
    let error = decode_command(&bytes.into()).unwrap_err();
    assert_eq!(error, CodecError::Version { what: "log entry", found: 4, supported: 3 });
}

#[test]
fn a_flipped_bit_or_a_missing_tail_is_noticed() {
    for (command, _) in commands() {
        let bytes = encode_command(&command);
        for position in 1..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[position] ^= 0x10;
            assert!(decode_command(&flipped.into()).is_err());
            assert!(decode_command(&bytes.slice(..position)).is_err());
        }
    }
}

#[test]
fn a_record_comes_back_and_leftovers_are_refused() {
    let bytes = encode_record(&(1u32, "x".to_owned()));
    assert_eq!(decode_record::<(u32, String)>("pair", &bytes).unwrap(), (1, "x".to_owned()));
    assert!(matches!(decode_record::<u32>("number", &bytes), Err(CodecError::Malformed { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_batch(&bytes.clone().into());
        let _ = decode_record::<Vec<String>>("record", &bytes);
        let _ = decode_command(&bytes.into());
    }

    #[test]
    fn a_sealed_body_of_arbitrary_bytes_never_panics(kind in 0u8..7, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut bytes = vec![VERSION, kind];
        bytes.extend(&body);
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_le_bytes());
        let _ = decode_batch(&bytes.clone().into());
        let _ = decode_record::<Vec<String>>("record", &bytes);
        let _ = decode_command(&bytes.into());
    }
}

#[test]
fn the_checksum_is_crc_32_of_everything_before_it() {
    assert_eq!(hex(&encode_command(&Command::Tick { time_ms: 7 })), "0302030000000700000000000000be32ddb0");
    assert_eq!(hex(&encode_record(&7u16)), "03040700e94eb97b");
}

#[test]
fn decoded_frames_share_the_bytes_of_the_entry() {
    let (command, _) = commands().swap_remove(0);
    let entry = encode_command(&command);
    let Command::Publish { groups, .. } = decode_command(&entry).unwrap() else { panic!("no publish") };
    let frame = groups[0].frame.bytes();
    assert!(entry.as_ptr_range().contains(&frame.as_ptr()));
    let batch = encode_batch(&StoredBatch {
        first_seq: 0,
        time_ms: 0,
        schema_id: 0,
        expires: false,
        frame: groups[0].frame.clone(),
    });
    assert!(batch.as_ptr_range().contains(&decode_batch(&batch).unwrap().frame.bytes().as_ptr()));
}

/// Puts a right checksum over a changed body.
fn resealed(bytes: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = bytes[..bytes.len() - CRC].to_vec();
    change(&mut bytes);
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes.into()
}

#[test]
fn a_publish_with_bytes_after_its_frames_is_refused() {
    let entry = resealed(&encode_command(&commands()[0].0), |bytes| bytes.push(0));
    assert!(
        matches!(decode_command(&entry), Err(CodecError::Malformed { detail, .. }) if detail.contains("left over"))
    );
}

#[test]
fn a_publish_whose_frames_end_early_is_refused() {
    let entry = resealed(&encode_command(&commands()[0].0), |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(decode_command(&entry), Err(CodecError::Truncated { what: "log entry" }));
}

#[test]
fn a_key_at_a_position_outside_its_group_is_refused() {
    // The golden bytes above: envelope 2, header length 4, time 8, group count 8, channel 8, schema 8, rules 8,
    // expected number 9, expires 1, route count 8, target 8, schema 8, position count 8, position 4, key count 8.
    for (what, place) in [("routes", 88), ("keys", 100)] {
        let entry = resealed(&encode_command(&commands()[0].0), |bytes| bytes[place] = 2);
        let error = decode_command(&entry).unwrap_err().to_string();
        assert!(error.contains(&format!("the {what} of a group of 2 messages are out of place")), "{error}");
    }
}

#[test]
fn a_length_beyond_all_bounds_is_refused() {
    let record = resealed(&encode_record(&"text"), |bytes| bytes[2..10].fill(0xff));
    assert!(matches!(decode_record::<String>("text", &record), Err(CodecError::Malformed { what: "text", .. })));
}

#[test]
fn bytes_of_another_kind_are_refused() {
    let record = encode_record(&1u64);
    assert!(matches!(decode_command(&record), Err(CodecError::Malformed { .. })));
    assert!(matches!(decode_batch(&record), Err(CodecError::Malformed { .. })));
    let tick = encode_command(&Command::Tick { time_ms: 1 });
    assert!(matches!(decode_record::<u64>("number", &tick), Err(CodecError::Malformed { .. })));
}

fn any_group() -> impl Strategy<Value = PublishGroup> {
    let messages = proptest::collection::vec((".{0,8}", proptest::option::of(any::<([u8; 16], [u8; 8])>())), 0..6);
    (any::<u64>(), any::<u64>(), messages).prop_map(|(channel, schema_id, messages)| {
        let payloads: Vec<&str> = messages.iter().map(|(payload, _)| payload.as_str()).collect();
        let keys = (0u32..)
            .zip(&messages)
            .filter_map(|(position, (_, key))| {
                let (key, digest) = (*key)?;
                Some(KeyClaim { position, key: KeyHash(key), digest: Digest(digest) })
            })
            .collect();
        PublishGroup {
            channel: ChannelId(channel),
            schema_id,
            keys,
            frame: frame(&payloads),
            ..PublishGroup::default()
        }
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = || "[A-Za-z0-9_-]{1,20}".prop_map(|name| name.parse::<ChannelName>().unwrap());
    let schema = || proptest::option::of(".{0,12}");
    prop_oneof![
        (any::<u64>(), proptest::collection::vec(any_group(), 0..4))
            .prop_map(|(time_ms, groups)| Command::Publish { time_ms, groups }),
        (any::<u64>(), name(), any::<bool>(), schema(), any::<u64>()).prop_map(
            |(time_ms, name, durable, schema, dedup_window_ms)| {
                let durability = if durable { Durability::Durable } else { Durability::Ephemeral };
                let config = ChannelConfig { durability, schema, dedup_window_ms, ..ChannelConfig::default() };
                Command::CreateChannel { time_ms, name, config }
            }
        ),
        (any::<u64>(), name(), schema(), any::<Option<u64>>()).prop_map(|(time_ms, name, schema, dedup_window_ms)| {
            let update = ChannelUpdate { schema, dedup_window_ms, ..ChannelUpdate::default() };
            Command::UpdateChannel { time_ms, name, update }
        }),
        (any::<u64>(), name()).prop_map(|(time_ms, name)| Command::DeleteChannel { time_ms, name }),
        any::<u64>().prop_map(|time_ms| Command::Tick { time_ms }),
        any::<u64>().prop_map(|time_ms| Command::Checkpoint { time_ms }),
        any::<(u64, i64)>().prop_map(|(time_ms, ahead_ms)| Command::Calendar { time_ms, ahead_ms }),
        any::<(u64, u8)>()
            .prop_map(|(time_ms, version)| Command::RaiseVersion { time_ms, version: PeerVersion(version) }),
    ]
}

proptest! {
    #[test]
    fn every_command_comes_back(command in any_command()) {
        prop_assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    }

    #[test]
    fn every_batch_comes_back(numbers in any::<(u64, u64, u64)>(), payloads in proptest::collection::vec(".{0,8}", 0..6)) {
        let (first_seq, time_ms, schema_id) = numbers;
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let batch = StoredBatch { first_seq, time_ms, schema_id, expires: first_seq % 2 == 0, frame: frame(&payloads) };
        prop_assert_eq!(decode_batch(&encode_batch(&batch)).unwrap(), batch);
    }
}

#[test]
fn a_frame_that_was_picked_out_of_another_is_recorded_like_a_copy() {
    let frame = frame(&["a", "", "c"]);
    let (picked, copied) = (frame.pick(&[0, 2]), frame.select(&[0, 2]));
    assert_eq!(encode_record(&picked), encode_record(&copied));
    assert_eq!(decode_record::<Frame>("frame", &encode_record(&picked)).unwrap(), copied);
}
