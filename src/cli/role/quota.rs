//! `liminal role quota`: how much each token may take that has a role. What is not given stays as it is.

use serde::{Deserialize, Serialize};

use crate::{
    cli::remote::{parse_duration, thousands},
    client::RoleQuota,
};

impl Shown {
    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(Option<u64>);

fn or_none(text: &str, parse: impl FnOnce(&str) -> Result<u64, String>) -> Result<Limit, String> {
    if text == "none" { Ok(Limit(None)) } else { parse(text).map(|limit| Limit(Some(limit))) }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{error}; write a number, or none"))
}

fn bytes(text: &str) -> Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>();
    size.map(|size| size.as_u64()).map_err(|_| "write for example 64MiB or none".into())
}

/// Of a second, which may be said or not.
fn rate(text: &str, parse: impl FnOnce(&str) -> Result<u64, String>) -> Result<Limit, String> {
    match or_none(text.strip_suffix("/s").unwrap_or(text), parse)? {
        Limit(Some(0)) => Err("it is at least 1; take the right away where nothing is to be allowed".into()),
        limit => Ok(limit),
    }
}

fn count(text: &str) -> Result<Limit, String> {
    or_none(text, number)
}

fn size(text: &str) -> Result<Limit, String> {
    or_none(text, bytes)
}

fn message_rate(text: &str) -> Result<Limit, String> {
    rate(text, number)
}

fn byte_rate(text: &str) -> Result<Limit, String> {
    rate(text, bytes)
}

fn time_rate(text: &str) -> Result<Limit, String> {
    rate(text, |text| {
        let time = parse_duration(text).map_err(|error| format!("{error}; write for example 200ms/s or none"))?;
        Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    })
}

/// What to limit.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Wanted {
    /// Connections of a token to each node; none for no limit by this role, as for all others
    #[arg(long, value_name = "N", value_parser = count)]
    connections: Option<Limit>,
    /// Requests and streams of a token that are open on each node
    #[arg(long, value_name = "N", value_parser = count)]
    streams: Option<Limit>,
    /// Bytes of a token's publishes that each node has not answered yet, for example 16MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    in_flight: Option<Limit>,
    /// Messages that a token may publish in a second through each node, for example 1000/s
    #[arg(long, value_name = "N/s", value_parser = message_rate)]
    publish_rate: Option<Limit>,
    /// Bytes that a token may publish in a second through each node, for example 1MiB/s
    #[arg(long, value_name = "SIZE/s", value_parser = byte_rate)]
    publish_bytes: Option<Limit>,
    /// How long a second each node judges messages by filters of a token's reads and subscriptions, for example 200ms/s
    #[arg(long, value_name = "TIME/s", value_parser = time_rate)]
    filter_time: Option<Limit>,
    /// Channels of the cluster that a token makes
    #[arg(long, value_name = "N", value_parser = count)]
    channels: Option<Limit>,
    /// Consumers of the cluster that a token makes
    #[arg(long, value_name = "N", value_parser = count)]
    consumers: Option<Limit>,
    /// Claims of the cluster that a token takes, until they are given back or forgotten
    #[arg(long, value_name = "N", value_parser = count)]
    claims: Option<Limit>,
    /// Remove all limits of the role first
    #[arg(long)]
    clear: bool,
}

impl Wanted {
    /// What is given, over what is there.
    pub fn over(&self, present: RoleQuota) -> RoleQuota {
        let present = if self.clear { RoleQuota::new() } else { present };
        let limit = |given: Option<Limit>, present| given.map_or(present, |Limit(limit)| limit);
        RoleQuota::new()
            .connections(limit(self.connections, present.connections))
            .streams(limit(self.streams, present.streams))
            .in_flight_bytes(limit(self.in_flight, present.in_flight_bytes))
            .messages_per_second(limit(self.publish_rate, present.messages_per_second))
            .bytes_per_second(limit(self.publish_bytes, present.bytes_per_second))
            .filter_ms_per_second(limit(self.filter_time, present.filter_ms_per_second))
            .channels(limit(self.channels, present.channels))
            .consumers(limit(self.consumers, present.consumers))
            .claims(limit(self.claims, present.claims))
    }
}

/// `10 connections, 1,000 messages/s`; empty where nothing is limited.
pub fn in_words(quota: &RoleQuota) -> String {
    let counts = [
        (quota.connections, " connections"),
        (quota.streams, " streams"),
        (quota.messages_per_second, " messages/s"),
        (quota.channels, " channels"),
        (quota.consumers, " consumers"),
        (quota.claims, " claims"),
    ];
    let mut parts: Vec<String> =
        counts.into_iter().filter_map(|(limit, what)| Some(thousands(limit?) + what)).collect();
    parts.extend(quota.in_flight_bytes.map(|limit| format!("{} in flight", bytesize::ByteSize(limit))));
    parts.extend(quota.bytes_per_second.map(|limit| format!("{}/s", bytesize::ByteSize(limit))));
    parts.extend(quota.filter_ms_per_second.map(|limit| format!("{} ms/s of filters", thousands(limit))));
    parts.join(", ")
}

macro_rules! shown {
    ($($field:ident),+) => {
        /// A quota as JSON says it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Shown {
            $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<u64>,)+
        }

        impl From<&RoleQuota> for Shown {
            fn from(quota: &RoleQuota) -> Self {
                Self { $($field: quota.$field),+ }
            }
        }

        impl From<Shown> for RoleQuota {
            fn from(shown: Shown) -> Self {
                Self::new()$(.$field(shown.$field))+
            }
        }
    };
}

shown! {
    connections, streams, in_flight_bytes, messages_per_second, bytes_per_second, filter_ms_per_second, channels, consumers,
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_a_size_or_a_rate_and_none_removes_it() {
        assert_eq!((count("0"), count("none")), (Ok(Limit(Some(0))), Ok(Limit(None))));
        assert_eq!((message_rate("1000/s"), message_rate("1000")), (Ok(Limit(Some(1000))), Ok(Limit(Some(1000)))));
        assert_eq!((byte_rate("1MiB/s"), size("64MiB")), (Ok(Limit(Some(1 << 20))), Ok(Limit(Some(64 << 20)))));
        assert_eq!((time_rate("200ms/s"), time_rate("none")), (Ok(Limit(Some(200))), Ok(Limit(None))));
        for wrong in [count("many"), message_rate("0/s"), byte_rate("0"), time_rate("0ms/s"), time_rate("soon")] {
            assert!(wrong.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_given_changes_and_the_rest_stays() {
        let present = RoleQuota::new().connections(5).streams(6);
        let wanted = Wanted { streams: Some(Limit(None)), publish_rate: Some(Limit(Some(1_000))), ..Wanted::default() };
        assert_eq!(wanted.over(present), RoleQuota::new().connections(5).messages_per_second(1_000));
        let clear = Wanted { clear: true, ..wanted };
        assert_eq!(clear.over(present), RoleQuota::new().messages_per_second(1_000));
    }

    #[test]
    fn a_quota_is_told_in_words() {
        assert_eq!(in_words(&RoleQuota::new()), "");
        let quota = RoleQuota::new().connections(5).messages_per_second(1_000).bytes_per_second(1 << 20);
        assert_eq!(
            in_words(&quota.filter_ms_per_second(200)),
            "5 connections, 1,000 messages/s, 1.0 MiB/s, 200 ms/s of filters"
        );
    }
}
