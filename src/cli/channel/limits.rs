//! What a channel keeps and takes, on the command line: the flags, and how it is shown.

use std::time::Duration;

use crate::{
    cli::remote::{parse_duration, thousands},
    model::{self, ChannelJson, QuotaJson, RetentionJson},
    proto::v1::{ChannelConfig, Compatibility, Quota, Retention, UpdateChannelRequest, WhenFull},
};

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(Option<u64>);

fn or_none(text: &str, parse: impl FnOnce(&str) -> Result<u64, String>) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => match parse(text)? {
            0 => Err("it is at least 1; write none for no limit".into()),
            limit => Ok(Limit(Some(limit))),
        },
    }
}

fn count(text: &str) -> Result<Limit, String> {
    or_none(text, |text| text.parse().map_err(|error| format!("{error}; write a number, or none")))
}

fn size(text: &str) -> Result<Limit, String> {
    or_none(text, |text| {
        let size = text.parse::<bytesize::ByteSize>();
        size.map(|size| size.as_u64()).map_err(|_| "write for example 1GiB, 500MiB or none".into())
    })
}

fn age(text: &str) -> Result<Limit, String> {
    or_none(text, |text| parse_duration(text).map(millis))
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Full {
    /// The oldest messages go
    DropOldest,
    /// New messages are refused
    RefuseNew,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Compatible {
    /// New schemas accept all that the old one accepts
    Backward,
    /// The old schema accepts all that new ones accept
    Forward,
    /// Both
    Full,
    /// New schemas may be anything
    None,
}

/// Flags of `create` and `update`.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct LimitArgs {
    /// Keep at most so many messages; none for no limit
    #[arg(long, value_name = "N", value_parser = count, group = "change")]
    max_messages: Option<Limit>,
    /// Keep at most so many bytes, for example 1GiB; none for no limit
    #[arg(long, value_name = "SIZE", value_parser = size, group = "change")]
    max_bytes: Option<Limit>,
    /// Keep messages for so long, for example 7d; none for ever
    #[arg(long, value_name = "TIME", value_parser = age, group = "change")]
    max_age: Option<Limit>,
    /// What happens at the limit of messages or bytes
    #[arg(long, value_enum, group = "change")]
    when_full: Option<Full>,
    /// Messages go as soon as every consumer has acknowledged them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        group = "change")]
    work_queue: Option<bool>,
    /// Keep only the last message of each value of this header; empty to keep all
    #[arg(long, value_name = "HEADER", group = "change")]
    compact_by: Option<String>,
    /// Messages that may be published in a second, by all together; none for no limit
    #[arg(long, value_name = "N", value_parser = count, group = "change")]
    rate: Option<Limit>,
    /// Bytes that may be published in a second, by all together, for example 1MiB; none for no limit
    #[arg(long, value_name = "SIZE", value_parser = size, group = "change")]
    byte_rate: Option<Limit>,
    /// What a new schema has to be to the one before it
    #[arg(long, value_enum, group = "change")]
    compatibility: Option<Compatible>,
    /// The channel that gets samples of the messages which the schema refuses; empty for none
    #[arg(long, value_name = "CHANNEL", group = "change")]
    quarantine: Option<String>,
}

impl LimitArgs {
    /// Whether one of them has to know the others.
    pub fn any(&self) -> bool {
        self.keeps() || self.rate.is_some() || self.byte_rate.is_some()
    }

    /// Whether what it keeps changes.
    pub fn keeps(&self) -> bool {
        let limits = [self.max_messages, self.max_bytes, self.max_age];
        limits.iter().any(Option::is_some)
            || self.when_full.is_some()
            || self.work_queue.is_some()
            || self.compact_by.is_some()
    }

    fn compatibility(&self) -> Option<Compatibility> {
        self.compatibility.map(|compatibility| match compatibility {
            Compatible::Backward => Compatibility::Backward,
            Compatible::Forward => Compatibility::Forward,
            Compatible::Full => Compatibility::Full,
            Compatible::None => Compatibility::None,
        })
    }

    /// What is given, over what is there.
    fn retention(&self, present: Retention) -> Retention {
        let mut retention = present;
        let limit = |given: Option<Limit>, present| given.map_or(present, |Limit(limit)| limit);
        retention.max_messages = limit(self.max_messages, retention.max_messages);
        retention.max_bytes = limit(self.max_bytes, retention.max_bytes);
        retention.max_age_ms = limit(self.max_age, retention.max_age_ms);
        if let Some(full) = self.when_full {
            retention.set_when_full(match full {
                Full::DropOldest => WhenFull::DropOldest,
                Full::RefuseNew => WhenFull::RefuseNew,
            });
        }
        retention.work_queue = self.work_queue.unwrap_or(retention.work_queue);
        retention.compact_by = self.compact_by.clone().unwrap_or(retention.compact_by);
        retention
    }

    fn quota(&self, present: Quota) -> Quota {
        Quota {
            messages_per_second: self.rate.map_or(present.messages_per_second, |Limit(limit)| limit),
            bytes_per_second: self.byte_rate.map_or(present.bytes_per_second, |Limit(limit)| limit),
        }
    }

    /// Of a new channel.
    pub fn config(&self) -> ChannelConfig {
        ChannelConfig {
            compatibility: self.compatibility().unwrap_or_default().into(),
            retention: Some(self.retention(Retention::default())),
            quarantine: self.quarantine.clone().unwrap_or_default(),
            quota: Some(self.quota(Quota::default())),
            ..ChannelConfig::default()
        }
    }

    /// Of a channel that is there.
    pub fn update(&self, present: ChannelConfig) -> UpdateChannelRequest {
        let quota = self.rate.or(self.byte_rate).map(|_| self.quota(present.quota.unwrap_or_default()));
        UpdateChannelRequest {
            compatibility: self.compatibility().map(Into::into),
            retention: self.keeps().then(|| self.retention(present.retention.unwrap_or_default())),
            quarantine: self.quarantine.clone(),
            quota,
            ..UpdateChannelRequest::default()
        }
    }
}

pub fn compatibility(shown: &ChannelJson<'_>) -> &'static str {
    match shown.compatibility {
        model::Compatibility::Backward => "backward",
        model::Compatibility::Forward => "forward",
        model::Compatibility::Full => "full",
        model::Compatibility::None => "none",
    }
}

/// `100 messages, 1.0 GiB, 7days`.
pub fn keeps(retention: &RetentionJson) -> String {
    let mut parts = Vec::new();
    parts.extend(retention.max_messages.map(|most| format!("{} messages", thousands(most))));
    parts.extend(retention.max_bytes.map(|most| bytesize::ByteSize(most).to_string()));
    parts.extend(retention.max_age_ms.map(super::human));
    if retention.work_queue {
        parts.push("until acknowledged".to_owned());
    }
    parts.extend(retention.compact_by.as_ref().map(|header| format!("the last of each {header}")));
    match retention.when_full {
        model::WhenFull::RefuseNew => parts.push("then refuses".to_owned()),
        model::WhenFull::DropOldest if parts.is_empty() => parts.push("all".to_owned()),
        model::WhenFull::DropOldest => {}
    }
    parts.join(", ")
}

/// `100 messages/s, 1.0 MiB/s`.
pub fn quota(quota: &QuotaJson) -> String {
    let messages = quota.messages_per_second.map(|most| format!("{} messages/s", thousands(most)));
    let bytes = quota.bytes_per_second.map(|most| format!("{}/s", bytesize::ByteSize(most)));
    let parts: Vec<String> = messages.into_iter().chain(bytes).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_a_size_or_a_time_and_none_removes_it() {
        assert_eq!(count("100"), Ok(Limit(Some(100))));
        assert_eq!(size("1GiB"), Ok(Limit(Some(1 << 30))));
        assert_eq!(age("7d"), Ok(Limit(Some(604_800_000))));
        assert_eq!((count("none"), size("none"), age("none")), (Ok(Limit(None)), Ok(Limit(None)), Ok(Limit(None))));
        for wrong in [count("0"), count("many"), size("0"), age("0s"), age("soon")] {
            assert!(wrong.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_update_changes_what_is_given_and_keeps_the_rest_of_what_is_replaced_as_a_whole() {
        let present = ChannelConfig {
            retention: Some(Retention { max_messages: Some(5), work_queue: true, ..Retention::default() }),
            quota: Some(Quota { messages_per_second: Some(7), bytes_per_second: None }),
            ..ChannelConfig::default()
        };
        let args = LimitArgs {
            max_messages: Some(Limit(None)),
            max_bytes: Some(Limit(Some(9))),
            when_full: Some(Full::RefuseNew),
            byte_rate: Some(Limit(Some(3))),
            ..LimitArgs::default()
        };
        let update = args.update(present.clone());
        let retention = update.retention.unwrap();
        assert_eq!((retention.max_messages, retention.max_bytes, retention.work_queue), (None, Some(9), true));
        assert_eq!(retention.when_full(), WhenFull::RefuseNew);
        assert_eq!(update.quota, Some(Quota { messages_per_second: Some(7), bytes_per_second: Some(3) }));
        let nothing = LimitArgs::default().update(present);
        assert_eq!((nothing.retention, nothing.quota, nothing.quarantine), (None, None, None));
    }

    #[test]
    fn what_a_channel_keeps_is_told_in_words() {
        assert_eq!(keeps(&RetentionJson::default()), "all");
        let some = RetentionJson {
            max_messages: Some(1000),
            max_bytes: Some(1 << 30),
            max_age_ms: Some(604_800_000),
            when_full: model::WhenFull::RefuseNew,
            ..RetentionJson::default()
        };
        assert_eq!(keeps(&some), "1,000 messages, 1.0 GiB, 7days, then refuses");
        let last = RetentionJson { compact_by: Some("user".into()), ..RetentionJson::default() };
        assert_eq!(keeps(&last), "the last of each user");
        assert_eq!(quota(&QuotaJson::default()), "none");
        let some = QuotaJson { messages_per_second: Some(100), bytes_per_second: Some(1 << 20) };
        assert_eq!(quota(&some), "100 messages/s, 1.0 MiB/s");
    }
}
