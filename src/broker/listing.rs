//! Lists of names come in pages: a list of all channels or consumers may be of any length, and whoever asks for it decides
//! how often.

use std::ops::Bound;

use super::{Broker, BrokerError, ChannelInfo, ConsumerInfo};
use crate::model::Limits;

/// A part of a list that is in the order of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPage<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The name after which the next page begins; none at the end.
    pub next_after: Option<String>,
}

impl<T> NamedPage<T> {
    /// Takes what fits: up to `limit` items (0: as many as fit) and [`Limits::LIST_BYTES`]; at least one.
    pub(super) fn take(
        all: impl Iterator<Item = Result<T, BrokerError>>,
        limit: usize,
        name: impl Fn(&T) -> &str,
        bytes: impl Fn(&T) -> usize,
    ) -> Result<Self, BrokerError> {
        let limit = most_items(limit);
        let (mut items, mut taken) = (Vec::new(), 0_usize);
        for item in all {
            let item = item?;
            taken = taken.saturating_add(bytes(&item));
            if items.len() == limit || taken > Limits::LIST_BYTES && !items.is_empty() {
                let next_after = items.last().map(|last| name(last).to_owned());
                return Ok(Self { items, next_after });
            }
            items.push(item);
        }
        Ok(Self { items, next_after: None })
    }
}

/// How many items a page may have of which somebody asked for so many, 0 being as many as fit.
pub(super) fn most_items(limit: usize) -> usize {
    if limit == 0 { Limits::LIST_ITEMS } else { limit.min(Limits::LIST_ITEMS) }
}

/// What comes after a name; all for an empty one.
fn after(name: &str) -> (Bound<&str>, Bound<&str>) {
    let begin = if name.is_empty() { Bound::Unbounded } else { Bound::Excluded(name) };
    (begin, Bound::Unbounded)
}

impl Broker {
    /// Channels whose names come after one, in their order, as of now (linearizable).
    ///
    /// # Errors
    /// `NoLeader` or `NotConfirmed` without a majority.
    pub async fn channels_after(&self, name: &str, limit: usize) -> Result<NamedPage<ChannelInfo>, BrokerError> {
        self.channels_seen(name, limit, |_| true).await
    }

    /// The same of those channels that somebody may see.
    pub(super) async fn channels_seen(
        &self,
        name: &str,
        limit: usize,
        sees: impl Fn(&str) -> bool,
    ) -> Result<NamedPage<ChannelInfo>, BrokerError> {
        self.catch_up().await?;
        let catalog = self.inner.view.catalog();
        let seen = catalog.range(after(name)).filter(|meta| sees(meta.name.as_str()));
        let all = seen.map(|meta| self.info(meta));
        let schema = |info: &ChannelInfo| info.meta.config.schema.as_ref().map_or(0, String::len);
        NamedPage::take(all, limit, |info| info.meta.name.as_str(), schema)
    }

    /// Consumers of a channel whose names come after one, in their order, as of now (linearizable).
    ///
    /// # Errors
    /// `ChannelNotFound`; `NoLeader` or `NotConfirmed` without a majority.
    pub async fn consumers_after(
        &self,
        channel: &str,
        name: &str,
        limit: usize,
    ) -> Result<NamedPage<ConsumerInfo>, BrokerError> {
        self.catch_up().await?;
        let meta = self.find(channel)?;
        let statuses = self.inner.view.consumer_statuses(meta.id, after(name), Limits::LIST_ITEMS + 1);
        let all = statuses.into_iter().map(|status| Ok(ConsumerInfo { channel: channel.to_owned(), status }));
        let filter = |info: &ConsumerInfo| info.status.meta.config.filter.as_ref().map_or(0, String::len);
        NamedPage::take(all, limit, |info| info.status.meta.name.as_str(), filter)
    }

    /// Consumers of all channels that somebody may see, in the order of channels and names, after a place that an earlier
    /// page ended at: `channel/consumer` (linearizable).
    pub(super) async fn consumers_seen(
        &self,
        place: &str,
        limit: usize,
        sees: impl Fn(&str) -> bool,
    ) -> Result<NamedPage<ConsumerInfo>, BrokerError> {
        self.catch_up().await?;
        let (first, name) = place.split_once('/').unwrap_or((place, ""));
        let begin = if first.is_empty() { Bound::Unbounded } else { Bound::Included(first) };
        let catalog = self.inner.view.catalog();
        let seen = catalog.range((begin, Bound::Unbounded)).filter(|meta| sees(meta.name.as_str()));
        let all = seen.flat_map(|meta| {
            let names = after(if meta.name.as_str() == first { name } else { "" });
            let statuses = self.inner.view.consumer_statuses(meta.id, names, Limits::LIST_ITEMS + 1);
            let channel = meta.name.to_string();
            statuses.into_iter().map(move |status| Ok(ConsumerInfo { channel: channel.clone(), status }))
        });
        let filter = |info: &ConsumerInfo| info.status.meta.config.filter.as_ref().map_or(0, String::len);
        let page = NamedPage::take(all, limit, |info| info.status.meta.name.as_str(), filter)?;
        let last = page.items.last().filter(|_| page.next_after.is_some());
        let next_after = last.map(|last| format!("{}/{}", last.channel, last.status.meta.name));
        Ok(NamedPage { next_after, ..page })
    }
}
