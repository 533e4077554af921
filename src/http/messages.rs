//! Publishing and reading messages over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use liminal_wire::time::{duration_to_ms, from_ms};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::{
    broker::{
        Access, BrokerError, Confirm, Consistency, Outcome, Page, PublishOptions, ReadOptions, Start, SubscribeOptions,
        filter_of,
    },
    budget::Account,
    model::{
        Form, Frame, FrameBuilder, IfChanged, Limits, MessageJson, MessageView, NoticeJson, Position, Predicate,
        StoredBatch, foreign_charset, is_ndjson, message_lines, time_ms, timestamp,
    },
    proto::v1::{Header, Message, TraceContext},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TTL: HeaderName = HeaderName::from_static("liminal-ttl");
const DELIVER_AT: HeaderName = HeaderName::from_static("liminal-deliver-at");
const DELAY: HeaderName = HeaderName::from_static("liminal-delay");
/// A request's header of this name and more is a message's header of what comes after.
pub(super) const MESSAGE_HEADER: &str = "liminal-header-";
/// Messages of one page unless the reader asks for fewer.
const PAGE_MESSAGES: usize = 1000;
/// Pages of the store that one request looks through for messages that its filter lets through.
const SEARCHED_PAGES: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishQuery {
    #[serde(default)]
    confirm: ConfirmQuery,
    /// The channel has to end here.
    expected_seq: Option<u64>,
    /// Only say whether the message would be taken.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ConfirmQuery {
    Commit,
    #[default]
    Delivery,
}

impl From<ConfirmQuery> for Confirm {
    fn from(confirm: ConfirmQuery) -> Self {
        match confirm {
            ConfirmQuery::Commit => Self::Commit,
            ConfirmQuery::Delivery => Self::Delivery,
        }
    }
}

/// What became of a message.
#[derive(Debug, Serialize)]
pub(super) struct Acked<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// When a message that waits becomes visible.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

impl<'a> Acked<'a> {
    pub(super) fn of(channel: &'a str, line: Option<u64>, outcome: &Outcome) -> Self {
        let Outcome { seq, duplicate, delivered, scheduled_ms, position, .. } = *outcome;
        let seq = scheduled_ms.is_none().then_some(seq);
        let (scheduled, position) = (scheduled_ms.map(timestamp), position.map(|position| position.to_string()));
        Self { line, channel, seq, scheduled, duplicate, delivered, position }
    }
}

/// A line that was refused.
#[derive(Debug, Serialize)]
struct Failed {
    line: u64,
    error: Problem,
}

/// One message, whatever the body; or with a media type of lines, such as `application/x-ndjson`, one for each line.
pub(super) async fn publish(
    Extension(broker): Extension<Access>,
    Extension(connection): Extension<Arc<Account>>,
    Path(channel): Path<String>,
    Query(PublishQuery { confirm, expected_seq, dry_run }): Query<PublishQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let options = PublishOptions::new().confirm(confirm.into()).expected_seq(expected_seq);
    let template = template(&headers, broker.now_ms())?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if is_ndjson(kind) {
        if let Some(charset) = foreign_charset(kind) {
            let why =
                format!("the lines are said to be {charset}: send them as UTF-8, and say so or leave the charset out");
            return Err(Problem::invalid(why));
        }
        if dry_run {
            return Err(Problem::invalid("dry_run is for one message: send it alone, as another media type"));
        }
        return publish_lines(&broker, &connection, &channel, &template, &body, options).await;
    }
    let frame = Frame::encode([&Message { payload: body, ..template }]);
    let _held = broker.admit_from(&connection, &frame)?;
    if dry_run {
        broker.check_frame(&channel, &frame).await?;
        return Ok(Json(serde_json::json!({ "channel": channel, "valid": true })).into_response());
    }
    let result = broker.publish_frame_with(&channel, frame, options).await.pop();
    let missing = || Err(BrokerError::Internal { reason: "a publish without a result".into() });
    let outcome = result.unwrap_or_else(missing)?;
    Ok(Json(Acked::of(&channel, None, &outcome)).into_response())
}

async fn publish_lines(
    broker: &Access,
    connection: &Account,
    channel: &str,
    template: &Message,
    body: &Bytes,
    options: PublishOptions,
) -> Result<Response, Problem> {
    let lines = check_lines(broker, template, body)?;
    let limits = broker.limits();
    if options.expected_seq.is_some() && lines > limits.batch_messages {
        let batch = limits.batch_messages;
        return Err(Problem::invalid(format!("expected_seq is for one batch: at most {batch} lines, and not {lines}")));
    }
    let mut out = Vec::new();
    let mut whole = Vec::new();
    let mut rest = message_lines(body).peekable();
    while rest.peek().is_some() {
        let (mut numbers, mut frame) = (Vec::new(), FrameBuilder::default());
        while numbers.len() < limits.batch_messages
            && (options.expected_seq.is_some() || frame.len() < limits.batch_bytes / 2)
            && let Some((number, line)) = rest.next()
        {
            // The request repeated is each of its messages repeated.
            let key = template.key.as_ref().map(|key| format!("{key}/{number}"));
            frame.push(&Message { payload: body.slice_ref(line), key, ..template.clone() });
            numbers.push(number);
        }
        let frame = frame.finish();
        let results = match broker.admit_from(connection, &frame) {
            Ok(_held) => broker.publish_frame_with(channel, frame, options).await,
            Err(error) => vec![Err(error); numbers.len()],
        };
        for (line, result) in numbers.into_iter().zip(results) {
            let written = match result {
                Ok(outcome) => serde_json::to_writer(&mut out, &Acked::of(channel, Some(line), &outcome)),
                Err(error) => {
                    whole.push(error.clone());
                    serde_json::to_writer(&mut out, &Failed { line, error: error.into() })
                }
            };
            written.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
            out.push(b'\n');
        }
    }
    // What was refused altogether, for one reason, is a request that failed.
    match whole.first() {
        Some(first) if whole.len() == lines && whole.iter().all(|error| error == first) => Err(first.clone().into()),
        _ => Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], out).into_response()),
    }
}

/// Counts the lines of a request, and refuses what would become too much of them, before anything is copied or stored.
fn check_lines(broker: &Access, template: &Message, body: &Bytes) -> Result<usize, Problem> {
    let (mut lines, mut last) = (0, 0);
    message_lines(body).for_each(|(number, _)| (lines, last) = (lines + 1, number));
    if lines == 0 {
        return Err(Problem::invalid("the body has no line with a message"));
    }
    broker.check_size(template)?;
    let limits = broker.limits();
    let within = |what: String, value: usize, limit: usize| {
        let (value, limit) = (value as u64, limit as u64);
        if value > limit { Err(BrokerError::LimitExceeded { what, value, limit }) } else { Ok(()) }
    };
    within("the lines of the request".into(), lines, Limits::REQUEST_BATCHES * limits.batch_messages)?;
    let repeated = lines.saturating_mul(prost::Message::encoded_len(template));
    within("what the headers of the request add to all its lines (bytes)".into(), repeated, limits.copied_bytes)?;
    // The last line has the longest key. One that is too long is told before any line is stored.
    if let Some(key) = &template.key {
        let what = format!("the idempotency key of line {last}, the request's with `/{last}` behind it (bytes)");
        within(what, format!("{key}/{last}").len(), limits.key_bytes)?;
    }
    Ok(lines)
}

/// What the request's headers say of its messages.
pub(super) fn template(headers: &HeaderMap, now_ms: u64) -> Result<Message, Problem> {
    let text = |name: &HeaderName, value: &HeaderValue| {
        std::str::from_utf8(value.as_bytes())
            .map(str::to_owned)
            .map_err(|_| Problem::invalid(format!("the header {name} is no UTF-8 text")))
    };
    let one = |name: &HeaderName| headers.get(name).map(|value| text(name, value)).transpose();
    // The standard has it in quotes; most clients leave them out.
    let unquoted = |key: String| match key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
        Some(key) => key.to_owned(),
        None => key,
    };
    let key = one(&IDEMPOTENCY_KEY)?.map(unquoted);
    if key.as_deref() == Some("") {
        return Err(Problem::invalid("the Idempotency-Key is empty: give one, or leave the header out"));
    }
    let mut carried = Vec::new();
    for (name, value) in headers {
        if let Some(of) = name.as_str().strip_prefix(MESSAGE_HEADER) {
            carried.push(Header { name: of.to_owned(), value: text(name, value)? });
        }
    }
    let trace_context = match one(&TRACEPARENT)? {
        Some(traceparent) => Some(TraceContext { traceparent, tracestate: one(&TRACESTATE)?.unwrap_or_default() }),
        None => None,
    };
    let span = |name: &HeaderName| {
        let text = one(name)?;
        text.map(|text| {
            let wrong = |_| Problem::invalid(format!("{name} is `{text}`: write a time like 30s"));
            humantime::parse_duration(&text)
                .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
                .map_err(wrong)
        })
        .transpose()
    };
    let ttl_ms = span(&TTL)?;
    if ttl_ms == Some(0) {
        return Err(Problem::invalid("Liminal-Ttl is 0: give at least 1ms, or leave the header out"));
    }
    let deliver_at_ms = match (one(&DELIVER_AT)?, span(&DELAY)?) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("Liminal-Deliver-At and Liminal-Delay say the same: leave one out"));
        }
        (Some(at), None) => time_ms(&at).map_err(|why| Problem::invalid(format!("Liminal-Deliver-At: {why}")))?,
        (None, delay) => delay.map_or(0, |delay| now_ms.saturating_add(delay)),
    };
    let ttl_ms = ttl_ms.unwrap_or(0);
    Ok(Message { key, headers: carried, trace_context, ttl_ms, deliver_at_ms, ..Message::default() })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    from: Option<String>,
    limit: Option<usize>,
    wait: Option<String>,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    consistency: ConsistencyQuery,
    if_changed: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ConsistencyQuery {
    #[default]
    Linearizable,
    Local,
}

#[derive(Debug, Serialize)]
struct PageJson<'a> {
    channel: &'a str,
    messages: Vec<MessageJson<'a>>,
    /// Where the next page begins.
    next_seq: u64,
    /// The same with the history that it is of.
    next: Position,
    first_seq: u64,
    end_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<NoticeJson>,
}

/// A page of stored messages; with `wait`, and nothing there yet, the next ones.
pub(super) async fn read(
    Extension(broker): Extension<Access>,
    Extension(connection): Extension<Arc<Account>>,
    Path(channel): Path<String>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Problem> {
    let start = start(query.from.as_deref().unwrap_or("earliest"), broker.now_ms())?;
    let limit = query.limit.unwrap_or(PAGE_MESSAGES);
    if limit == 0 {
        return Err(Problem::invalid("limit is 0: ask for at least one message"));
    }
    let wait = query.wait.as_deref().map(duration).transpose()?.unwrap_or_default();
    let longest = broker.limits().long_poll;
    if wait > longest {
        let (value, limit) = (wait.as_millis(), longest.as_millis());
        return Err(Problem::invalid(format!("wait is {value} ms; the limit is {limit} ms: ask again after that")));
    }
    let consistency = match query.consistency {
        ConsistencyQuery::Linearizable => Consistency::Linearizable,
        ConsistencyQuery::Local => Consistency::Local,
    };
    let filter = filter_of(&query.filter)?;
    let if_changed = Some(if_changed_of(query.if_changed.as_deref())?.unwrap_or_else(|| start.if_changed()));
    let options = ReadOptions { limit, consistency, min_seq: None, if_changed };
    let (mut page, mut messages) = match &filter {
        None => {
            let mut page = broker.read_with(&channel, start, options).await?;
            let mut messages = Vec::new();
            for batch in std::mem::take(&mut page.batches) {
                unpack(batch, &mut messages)?;
            }
            (page, messages)
        }
        Some(filter) => search(&broker, &connection, &channel, start, options, filter).await?,
    };
    if messages.is_empty() && !wait.is_zero() {
        let options = SubscribeOptions { filter, if_changed, connection: Some(connection), payer: None };
        let mut following = broker.subscribe_with(&channel, Start::Position(page.next), options).await?;
        let first = async {
            loop {
                let batch = following.next().await?;
                if !batch.frame.is_empty() {
                    return Ok::<_, BrokerError>(batch);
                }
            }
        };
        match tokio::time::timeout(wait, first).await {
            Ok(Ok(mut batch)) => {
                batch.frame = batch.frame.take(u32::try_from(limit).unwrap_or(u32::MAX));
                page.next = following.position_at(batch.end_seq());
                unpack(batch, &mut messages)?;
            }
            Ok(Err(BrokerError::HistoryChanged(notice))) if following.goes_on() => {
                page.next = notice.next;
                page.notice = Some(*notice);
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => page.next = following.next_position(),
        }
        // What was followed is not beyond the channel's end.
        page.end_seq = page.end_seq.max(page.next.seq);
    }
    let messages: Vec<_> = messages.iter().map(|message| message.json(&channel)).collect();
    let Page { next, first_seq, end_seq, notice, .. } = page;
    let (next_seq, notice) = (next.seq, notice.as_ref().map(NoticeJson::of));
    Ok(Json(PageJson { channel: &channel, messages, next_seq, next, first_seq, end_seq, notice }).into_response())
}

/// Reads on until there are enough messages for which a predicate holds, by their number or their bytes, or the channel
/// ends, or [`SEARCHED_PAGES`] were looked through: the answer says where the next search begins.
async fn search(
    broker: &Access,
    connection: &Account,
    channel: &str,
    mut start: Start,
    options: ReadOptions,
    filter: &Predicate,
) -> Result<(Page, Vec<Stored>), BrokerError> {
    let limit = options.limit;
    let mut options = ReadOptions { limit: 0, ..options };
    let mut found = Vec::new();
    let mut searched = 0;
    let mut notice = None;
    loop {
        let mut page = broker.read_with(channel, start, options).await?;
        // What is told first holds for all that follows.
        notice = notice.or(page.notice.take());
        let mut messages = Vec::new();
        for batch in std::mem::take(&mut page.batches) {
            unpack(batch, &mut messages)?;
        }
        let turn = broker.turn_to_judge(connection).await?;
        found.extend(messages.into_iter().filter(|stored| filter.matches(&MessageView::of(&stored.message))));
        drop(turn);
        searched += 1;
        found.truncate(limit);
        let full = found.len() == limit;
        let bytes: u64 = found.iter().map(|stored: &Stored| Frame::size_of(&stored.message)).sum();
        if let Some(last) = found.last()
            && full
        {
            page.next = page.next.at(last.seq + 1);
        }
        let page_is_full = full || bytes >= broker.limits().page_bytes as u64;
        if page_is_full || page.next.seq >= page.end_seq || searched == SEARCHED_PAGES {
            page.notice = notice;
            return Ok((page, found));
        }
        // The first page was as new as was asked for.
        (start, options.consistency) = (Start::Position(page.next), Consistency::Local);
    }
}

/// A message on its way to a reader.
pub(super) struct Stored {
    pub(super) seq: u64,
    time_ms: u64,
    schema_id: u64,
    message: Message,
}

impl Stored {
    pub(super) fn json<'a>(&'a self, channel: &'a str) -> MessageJson<'a> {
        MessageJson::of(channel, self.seq, self.time_ms, self.schema_id, &self.message, Form::Document)
    }
}

/// Decodes the messages of a batch.
pub(super) fn unpack(batch: StoredBatch, into: &mut impl Extend<Stored>) -> Result<(), BrokerError> {
    let StoredBatch { first_seq, time_ms, schema_id, frame, .. } = batch;
    for (seq, message) in (first_seq..).zip(frame.messages()) {
        let message = message.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
        into.extend([Stored { seq, time_ms, schema_id, message }]);
    }
    Ok(())
}

/// What a reader wants to happen when the history behind its place has changed; none where it says nothing.
pub(super) fn if_changed_of(text: Option<&str>) -> Result<Option<IfChanged>, Problem> {
    text.map(str::parse).transpose().map_err(|why: String| Problem::invalid(format!("if_changed: {why}")))
}

/// `earliest`, `latest`, a sequence number, a position, or how long ago.
pub(super) fn start(text: &str, now_ms: u64) -> Result<Start, Problem> {
    if let Ok(seq) = text.parse() {
        return Ok(Start::Seq(seq));
    }
    if let Ok(position) = text.parse() {
        return Ok(Start::Position(position));
    }
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => {
            let wrong = |_| {
                Problem::invalid(format!(
                    "from is `{text}`: write earliest, latest, a sequence number, a position as an answer gave it, or a \
                     time like 15m"
                ))
            };
            let ago = humantime::parse_duration(text).map_err(wrong)?;
            Ok(Start::Time(from_ms(now_ms.saturating_sub(duration_to_ms(ago)))))
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text).map_err(|_| Problem::invalid(format!("`{text}` is no time: write one like 5s")))
}
