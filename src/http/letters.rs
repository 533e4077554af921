//! Dead letters over HTTP: looking at them, and sending them back.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};

use super::{channels::parse, problem::Problem};
use crate::{
    broker::{Access, BrokerError, Letter, Letters, RedriveTo, Redriven},
    model::{Form, LetterJson},
};

type Names = Path<(String, String)>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    dead_letter: Option<String>,
    filter: Option<String>,
    from_seq: Option<u64>,
    limit: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    dead_letter: &'a str,
    letters: Vec<LetterJson<'a>>,
    next_seq: u64,
    done: bool,
}

pub(super) async fn list(
    Extension(broker): Extension<Access>,
    Path((channel, consumer)): Names,
    Query(ListQuery { dead_letter, filter, from_seq, limit }): Query<ListQuery>,
) -> Result<Response, Problem> {
    let wanted = Letters {
        channel,
        consumer,
        dead_letter,
        filter: filter.unwrap_or_default(),
        from_seq: from_seq.unwrap_or(0),
        limit: limit.unwrap_or(0),
    };
    let page = broker.dead_letters_of(&wanted).await?;
    let letters: Vec<_> = page.letters.iter().map(Letter::to_proto).collect();
    let dead_letter = page.dead_letter.as_str();
    let json = letters.iter().filter_map(|letter| {
        let message = letter.message.as_ref()?;
        Some(LetterJson::of(&wanted.channel, &wanted.consumer, dead_letter, letter, message, Form::Document))
    });
    let (letters, next_seq, done) = (json.collect(), page.next_seq, page.done);
    Ok(Json(Listed { dead_letter, letters, next_seq, done }).into_response())
}

/// The body of a redrive. Everything may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    to: Option<String>,
    dead_letter: Option<String>,
    filter: String,
    from_seq: u64,
    limit: u64,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    dead_letter: String,
    target: String,
    moved: u64,
    unsure: u64,
    refused: u64,
    refusals: Vec<Refused>,
    next_seq: u64,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Problem>,
}

#[derive(Debug, Serialize)]
struct Refused {
    seq: u64,
    error: Problem,
}

pub(super) async fn redrive(
    Extension(broker): Extension<Access>,
    Path((channel, consumer)): Names,
    body: Bytes,
) -> Result<Response, Problem> {
    let body: Wanted = if body.trim_ascii().is_empty() { Wanted::default() } else { parse(&body)? };
    let Wanted { to, dead_letter, filter, from_seq, limit, dry_run } = body;
    let wanted = Letters { channel, consumer, dead_letter, filter, from_seq, limit };
    let done = broker.redrive(&wanted, &RedriveTo { channel: to, dry_run }).await?;
    let Redriven { dead_letter, target, moved, unsure, refused, refusals, next_seq, done, stopped } = done;
    let told = |(seq, error): (u64, BrokerError)| Refused { seq, error: error.into() };
    let refusals = refusals.into_iter().map(told).collect();
    let stopped = stopped.map(Problem::from);
    let answer = Answer { dead_letter, target, moved, unsure, refused, refusals, next_seq, done, stopped };
    Ok(Json(answer).into_response())
}
