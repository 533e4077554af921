//! Marks on their own: what they say of batches of any size, and that there are never too many.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::proto::v1::Message;

/// Marks with the counters of their channel, and every message's size and time beside them.
#[derive(Default)]
struct Channel {
    marks: Marks,
    stats: ChannelStats,
    messages: Vec<(u64, u64)>,
}

impl Channel {
    fn append(&mut self, sizes: &[usize], time_ms: u64, retention: &Retention) {
        let message = |size: &usize| Message { payload: Bytes::from(vec![0; *size]), ..Message::default() };
        let frame = Frame::encode(&sizes.iter().map(message).collect::<Vec<_>>());
        self.messages.extend(frame.sizes().map(|size| (size, time_ms)));
        self.marks.append(&frame, time_ms, &self.stats, retention);
        self.stats.appended_bytes += frame.len() as u64;
        self.stats.newest_ms = time_ms;
        self.stats.next_seq += u64::from(frame.count());
    }

    fn advance(&mut self, first_seq: u64, at_once: bool) {
        if first_seq > self.stats.first_seq {
            self.stats.first_seq = first_seq;
            self.marks.advance(first_seq, at_once, &self.stats);
        }
        self.stats.bytes = self.marks.bytes(self.stats.first_seq, &self.stats);
    }

    /// Bytes of the messages that are really there.
    fn bytes(&self) -> u64 {
        self.messages[self.stats.first_seq as usize..].iter().map(|(size, _)| size).sum()
    }
}

proptest! {
    #[test]
    fn no_limit_is_exceeded_and_little_more_goes_than_has_to(
        batches in vec((vec(0usize..3000, 1..20), 0u64..50), 1..150),
        max_bytes in 4000u64..200_000,
        max_age_ms in option::of(1u64..5000),
    ) {
        let retention = Retention { max_bytes: Some(max_bytes), max_age_ms, ..Retention::default() };
        let mut channel = Channel::default();
        let mut now = 0;
        for (sizes, pause) in batches {
            now += pause;
            channel.append(&sizes, now, &retention);
            let from_bytes = channel.marks.newest_within(max_bytes, &channel.stats);
            let from_age = max_age_ms.map_or(0, |age| channel.marks.younger_than(age, now, &channel.stats));
            channel.advance(from_bytes.max(from_age), false);
            channel.marks.check(&channel.stats).unwrap();
            prop_assert!(channel.bytes() <= max_bytes);
            if from_bytes > from_age && from_bytes == channel.stats.first_seq {
                // What went last was not much more than a stretch and a message.
                let largest = 3010;
                prop_assert!(channel.bytes() + max_bytes / 32 + 2 * largest >= max_bytes);
            }
            if let Some(age) = max_age_ms {
                let wrongly = channel.messages[..from_age as usize].iter().filter(|(_, time)| time + age > now).count();
                prop_assert_eq!(wrongly, 0);
                let late = channel.messages[channel.stats.first_seq as usize..].iter();
                prop_assert!(late.copied().all(|(_, time)| time + age + age / 16 + 50 > now));
            }
        }
    }

    #[test]
    fn there_are_never_too_many_marks_and_restored_ones_go_on_alike(
        batches in vec((1usize..200_000, 0u64..1000), 300..600),
        max_messages in option::of(1u64..500),
        max_age_ms in option::of(1u64..300_000),
    ) {
        let retention = Retention { max_messages, max_age_ms, ..Retention::default() };
        let (mut channel, mut stored) = (Channel::default(), std::collections::BTreeMap::new());
        let mut now = 0;
        for (size, pause) in batches {
            now += pause;
            channel.append(&[size], now, &retention);
            let first = max_messages.map_or(0, |most| channel.stats.next_seq.saturating_sub(most));
            let old = max_age_ms.map_or(0, |age| channel.marks.younger_than(age, now, &channel.stats));
            channel.advance(first.max(old), false);
            prop_assert!(channel.marks.list.len() <= MOST);
            for (seq, mark) in channel.marks.take_changes() {
                match mark {
                    Some(mark) => stored.insert(seq, mark),
                    None => stored.remove(&seq),
                };
            }
            prop_assert!(stored.iter().map(|(seq, mark)| (*seq, *mark)).eq(channel.marks.list.iter().copied()));
            channel.marks.check(&channel.stats).unwrap();
        }
    }

    #[test]
    fn a_new_limit_of_bytes_splits_what_was_not_measured_so_finely(
        batches in vec(vec(10usize..20, 1..50), 1..40),
        max_bytes in 100u64..20_000,
    ) {
        let mut channel = Channel::default();
        for sizes in &batches {
            channel.append(sizes, 1, &Retention::default());
        }
        let retention = Retention { max_bytes: Some(max_bytes), ..Retention::default() };
        channel.marks.refine(&channel.stats, &retention);
        let first = channel.marks.newest_within(max_bytes, &channel.stats);
        channel.advance(first, false);
        channel.marks.check(&channel.stats).unwrap();
        prop_assert!(channel.marks.list.len() <= MOST && channel.stats.bytes <= max_bytes);
        // Sizes differ by less than two times; so do estimates from what is true.
        let (all, kept) = (channel.stats.appended_bytes, channel.bytes());
        prop_assert!(kept <= 2 * max_bytes && (kept == all || 3 * kept >= max_bytes || max_bytes < 200));
        for sizes in batches.iter().take(3) {
            channel.append(sizes, 2, &retention);
            let first = channel.marks.newest_within(max_bytes, &channel.stats);
            channel.advance(first, true);
            channel.marks.check(&channel.stats).unwrap();
        }
    }
}
