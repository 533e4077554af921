//! What a record says, as a message of the channel and as a line of the log.

use std::borrow::Cow;

use serde::Serialize;

use crate::model::timestamp;

/// Bytes of what is said beside the name of an act.
const DETAIL_BYTES: usize = 512;

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::broker) enum Fate {
    /// It was done.
    Done,
    /// It was allowed, and not done.
    Refused,
    /// It may have been done, or may yet be.
    Unknown,
    /// Whoever asked has no right to it, or nobody knows who asked.
    Denied,
}

/// By what a caller is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Who {
    /// The id of a token, `bootstrap`, or nothing.
    pub(in crate::broker) token: String,
    /// Of that token.
    pub(in crate::broker) description: String,
}

/// One act or one refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Record {
    pub(in crate::broker) time_ms: u64,
    /// `channel.create` and the like; for a refusal the action that was asked for.
    pub(in crate::broker) act: Cow<'static, str>,
    /// `channel:orders` and the like.
    pub(in crate::broker) on: String,
    pub(in crate::broker) fate: Fate,
    /// The code of the error, where there is one.
    pub(in crate::broker) code: Option<String>,
    pub(in crate::broker) who: Who,
    /// The address.
    pub(in crate::broker) from: String,
    /// What more there is to know of the act.
    pub(in crate::broker) detail: String,
    /// Refusals of the same address before this one that have no record.
    pub(in crate::broker) skipped: u64,
}

/// The fields are flat, so that filters reach them.
#[derive(Serialize)]
struct Written<'a> {
    time: String,
    node: &'a str,
    act: &'a str,
    on: &'a str,
    result: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    token: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    from: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    skipped: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// No more than a record has room for.
pub(in crate::broker) fn shortened(mut detail: String) -> String {
    detail.truncate(detail.floor_char_boundary(DETAIL_BYTES));
    detail
}

impl Record {
    /// As a message of the channel says it.
    pub(super) fn to_json(&self, node: &str) -> Vec<u8> {
        let Self { time_ms, act, on, fate, code, who, from, detail, skipped } = self;
        let written = Written {
            time: timestamp(*time_ms),
            node,
            act,
            on,
            result: *fate,
            code: code.as_deref(),
            token: &who.token,
            description: &who.description,
            from,
            detail,
            skipped: *skipped,
        };
        serde_json::to_vec(&written).unwrap_or_default() // texts and numbers always can be written
    }

    /// As the log says it.
    pub(super) fn log(&self) {
        let Self { act, on, fate, code, who, from, detail, skipped, .. } = self;
        let (code, token) = (code.as_deref().unwrap_or_default(), &who.token);
        let description = &who.description;
        tracing::info!(target: "liminal::audit", %act, on, ?fate, code, token, description, from, detail, skipped, "audit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_who_did_what_to_what_from_where_and_with_which_result() {
        let record = Record {
            time_ms: 1_000,
            act: "channel.create".into(),
            on: "channel:orders".into(),
            fate: Fate::Refused,
            code: Some("CHANNEL_EXISTS".into()),
            who: Who { token: "00000000000000ff".into(), description: "me".into() },
            from: "10.0.0.1".into(),
            detail: String::new(),
            skipped: 0,
        };
        assert_eq!(
            String::from_utf8(record.to_json("n1")).unwrap(),
            r#"{"time":"1970-01-01T00:00:01.000Z","node":"n1","act":"channel.create","on":"channel:orders","result":"refused","code":"CHANNEL_EXISTS","token":"00000000000000ff","description":"me","from":"10.0.0.1"}"#
        );
        let nobody = Record { who: Who::default(), code: None, fate: Fate::Denied, skipped: 7, ..record };
        assert_eq!(
            String::from_utf8(nobody.to_json("n1")).unwrap(),
            r#"{"time":"1970-01-01T00:00:01.000Z","node":"n1","act":"channel.create","on":"channel:orders","result":"denied","from":"10.0.0.1","skipped":7}"#
        );
    }

    #[test]
    fn what_is_said_of_an_act_is_cut_between_characters() {
        assert_eq!(shortened("ä".repeat(DETAIL_BYTES)), "ä".repeat(DETAIL_BYTES / 2));
        assert_eq!(shortened("short".into()), "short");
    }
}
