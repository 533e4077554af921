//! Looking for a consumer's dead letters: page by page for whoever wants to see them, and piece by piece for a redrive.

use std::{borrow::Cow, sync::Arc};

use super::{
    super::{Broker, BrokerError, filter_of},
    letters::Letter,
};
use crate::model::{ChannelMeta, Durability, Limits, MessageView, Predicate, stream_key};

/// Letters of a listing where nothing is said.
const LISTED: u64 = 100;
/// Bytes that are read at a time.
const READ: usize = 512 << 10;

/// Which letters.
#[derive(Clone, Debug, Default)]
pub struct Letters {
    /// The channel in which their messages died.
    pub channel: String,
    /// The consumer that gave them up. It may be gone by now.
    pub consumer: String,
    /// The channel in which they lie; none: the consumer's dead-letter channel.
    pub dead_letter: Option<String>,
    /// Only those for which this predicate holds; the empty text: all.
    pub filter: String,
    /// Not those before this place in the dead-letter channel.
    pub from_seq: u64,
    /// At most so many; 0: as many as one call takes.
    pub limit: u64,
}

/// Some letters.
#[derive(Clone, Debug, Default)]
pub struct LetterPage {
    /// The channel in which they lie.
    pub dead_letter: String,
    /// In order.
    pub letters: Vec<Letter>,
    /// Where the next page begins.
    pub next_seq: u64,
    /// Whether that is the end.
    pub done: bool,
}

/// A piece of a dead-letter channel.
#[derive(Default)]
pub(super) struct Piece {
    /// The letters that are wanted.
    pub(super) letters: Vec<Letter>,
    /// The first place that holds something else; none where there is nothing else.
    pub(super) other: Option<u64>,
    /// Where the next piece begins.
    pub(super) next_seq: u64,
    /// Bytes that were looked through.
    pub(super) looked_at: usize,
    pub(super) done: bool,
    /// Where the channel began, and the piece.
    pub(super) first_seq: u64,
    pub(super) from: u64,
}

impl Broker {
    /// Some dead letters of a consumer, as of now (linearizable).
    ///
    /// # Errors
    /// `ChannelNotFound`; `ConsumerNotFound` where no dead-letter channel is named; `InvalidArgument` for a predicate that
    /// cannot be read, or a consumer that keeps no letters.
    pub async fn dead_letters_of(&self, wanted: &Letters) -> Result<LetterPage, BrokerError> {
        self.catch_up().await?;
        let meta = self.letters_channel(wanted).await?;
        let filter = filter_of(&wanted.filter)?;
        let limit = if wanted.limit == 0 { LISTED } else { wanted.limit.min(Limits::LETTERS_PER_CALL) };
        let bytes = self.limits().page_bytes;
        let mut page =
            LetterPage { dead_letter: meta.name.to_string(), next_seq: wanted.from_seq, ..LetterPage::default() };
        let (mut looked_at, mut taken) = (0, 0);
        while !page.done && (page.letters.len() as u64) < limit && taken < bytes {
            let left = limit - page.letters.len() as u64;
            let most = (usize::try_from(left).unwrap_or(usize::MAX), bytes - taken);
            let piece = self.piece(&meta, wanted, filter.as_ref(), page.next_seq, most).await?;
            taken += piece.letters.iter().map(|letter| letter.bytes as usize).sum::<usize>();
            looked_at += piece.looked_at;
            page.letters.extend(piece.letters);
            (page.next_seq, page.done) = (piece.next_seq, piece.done);
            if looked_at >= Limits::LETTER_BYTES_PER_CALL {
                break;
            }
        }
        Ok(page)
    }

    /// Where a channel begins, and which message at its end was redriven.
    pub(super) fn bounds(&self, meta: &ChannelMeta) -> (u64, Option<u64>) {
        let stats = self.inner.view.stats(meta.id).unwrap_or_default();
        (stats.first_seq, self.inner.view.redriven(meta.id))
    }

    /// Looks for letters from a place on: at most so many, and about so many bytes of them, in one page of the store.
    pub(super) async fn piece(
        &self,
        meta: &ChannelMeta,
        wanted: &Letters,
        filter: Option<&Predicate>,
        from: u64,
        (most, most_bytes): (usize, usize),
    ) -> Result<Piece, BrokerError> {
        let _whole = self.inner.view.whole().await;
        let stats = self.inner.view.stats(meta.id).unwrap_or_default();
        let (first_seq, redriven) = self.bounds(meta);
        let from = from.max(first_seq);
        let key = stream_key(meta.name.as_str());
        let found = self.store().read_batches(&key, from, READ).await.map_err(|error| self.store_error(&error))?;
        let mut piece = Piece { next_seq: from, first_seq, from, ..Piece::default() };
        let mut bytes = 0;
        for batch in found {
            piece.looked_at += batch.frame.len();
            for (seq, size, letter) in Letter::read(self, &batch, &wanted.channel, &wanted.consumer)? {
                if seq < from || Some(seq) == redriven {
                    piece.next_seq = piece.next_seq.max(seq + 1);
                    continue;
                }
                let fits =
                    |letter: &Letter| filter.is_none_or(|filter| filter.matches(&MessageView::of(&letter.message)));
                let letter = letter.filter(fits);
                let full = piece.letters.len() >= most || bytes > 0 && bytes + size as usize > most_bytes;
                if letter.is_some() && full {
                    return Ok(piece);
                }
                piece.next_seq = seq + 1;
                match letter {
                    Some(letter) => {
                        bytes += size as usize;
                        piece.letters.push(letter);
                    }
                    None => piece.other = piece.other.or(Some(seq)),
                }
            }
        }
        piece.done = piece.next_seq >= stats.next_seq || piece.looked_at == 0;
        Ok(piece)
    }

    /// The channel in which a consumer's letters lie.
    pub(in crate::broker) async fn letters_channel(&self, wanted: &Letters) -> Result<Arc<ChannelMeta>, BrokerError> {
        let name = match &wanted.dead_letter {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => {
                let consumer = self.consumer(&wanted.channel, &wanted.consumer).await?;
                let config = consumer.status.meta.config;
                let none = || BrokerError::InvalidArgument {
                    reason: format!(
                        "consumer `{}` of `{}` has no dead-letter channel: name the one in which its letters are",
                        wanted.consumer, wanted.channel
                    ),
                };
                Cow::Owned(config.dead_letter.ok_or_else(none)?.to_string())
            }
        };
        let meta = self.find(&name)?;
        if meta.config.durability == Durability::Ephemeral {
            return Err(BrokerError::NotStored { channel: name.into_owned() });
        }
        Ok(meta)
    }
}

impl Piece {
    /// Lets it end before one of its letters.
    pub(super) fn end_at(&mut self, number: usize, seq: u64) {
        self.letters.truncate(number);
        self.other = self.other.filter(|other| *other < seq);
        (self.next_seq, self.done) = (seq, false);
    }

    /// Whether nothing is stored before it.
    pub(super) fn begins(&self) -> bool {
        self.from <= self.first_seq
    }
}
