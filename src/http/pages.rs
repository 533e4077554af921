//! Pages of lists as JSON. A page holds up to a thousand items, which take a worker milliseconds: they are written a few at a
//! time, so that whoever publishes has a turn in between.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::problem::Problem;
use crate::broker::{BrokerError, NamedPage};

/// Items that are written in one turn.
const TURN: usize = 32;

/// A page whose items are JSON already.
struct Written {
    name: &'static str,
    items: Vec<Box<RawValue>>,
    next_after: Option<String>,
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut page = serializer.serialize_map(Some(2))?;
        page.serialize_entry(self.name, &self.items)?;
        page.serialize_entry("next_after", &self.next_after)?;
        page.end()
    }
}

/// A page, with its items under this name.
pub(super) async fn page<T>(
    name: &'static str,
    NamedPage { items, next_after }: NamedPage<T>,
    write: impl Fn(&T) -> serde_json::Result<Box<RawValue>>,
) -> Result<Response, Problem> {
    let mut written = Vec::with_capacity(items.len());
    for some in items.chunks(TURN) {
        for item in some {
            written.push(write(item).map_err(|error| BrokerError::Internal { reason: error.to_string() })?);
        }
        tokio::task::yield_now().await;
    }
    Ok(Json(Written { name, items: written, next_after }).into_response())
}
