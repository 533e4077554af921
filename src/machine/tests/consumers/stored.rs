//! The very bytes of what is stored of consumers.

use super::*;

fn body<T: Serialize>(record: &T) -> String {
    let bytes = codec::encode_record(record);
    bytes[2..bytes.len() - 4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_record_of_a_consumer_has_the_bytes_that_older_stores_hold() {
    let orphans = crate::model::Orphans { from: 5, until: 6 };
    assert_eq!(body(&orphans), "05000000000000000600000000000000");
    let lost = crate::model::Lost { messages: 7, from_seq: 5, to_seq: 6 };
    assert_eq!(body(&lost), "070000000000000005000000000000000600000000000000");
    let settled = vec![(5u64, 6u64)];
    let runs: crate::machine::consumers::Runs = codec::decode_record("runs", &codec::encode_record(&settled)).unwrap();
    assert_eq!(body(&runs), "010000000000000005000000000000000600000000000000");
    assert_eq!(body(&33u64), "2100000000000000", "messages passed over");
    let cursor = Cursor { next: 5, redelivered: 6, dead: 7 };
    assert_eq!(body(&cursor), "050000000000000006000000000000000700000000000000");
    let failure = Some(Failure::Nacked("r".into()));
    let pending = Pending { member: Some(7), attempts: 2, due_ms: 9, key: Some(3), failure };
    let golden = [
        "0100000000000000",
        "3f",
        "010700000000000000",
        "02000000",
        "0900000000000000",
        "010300000000000000",
        "0102000000010000000000000072",
    ];
    assert_eq!(body(&crate::machine::consumers::PendingBlock(vec![(63, pending)])), golden.concat());
    let (id, channel, name) = (ConsumerId(1), ChannelId(2), "w".parse().unwrap());
    let meta = crate::model::ConsumerMeta { id, channel, name, config: ConsumerConfig::default(), created_ms: 8 };
    let golden = [
        "0100000000000000",
        "0200000000000000",
        "010000000000000077",
        "3075000000000000",
        "00000000",
        "00",
        "e8030000",
        "00000000",
        "00",
        "0800000000000000",
    ];
    assert_eq!(body(&meta), golden.concat());
}
