//! A subscriber's way through a channel: pages of the store up to its tail, then the tail; and back to the store when
//! it falls behind.

use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{runtime::Handle, task::JoinHandle};

use super::super::{Broker, BrokerError};
use crate::{
    fanout::{Follower, Next},
    model::{ChannelMeta, Durability, IfChanged, Notice, Place, Position, StoredBatch, stream_key},
    store::StoreError,
};

pub(super) struct Reader {
    pub(super) broker: Broker,
    pub(super) meta: Arc<ChannelMeta>,
    pub(super) follower: Follower,
    /// Up to here batches were taken from the page or the tail.
    position: u64,
    /// The history that it follows.
    history: Position,
    if_changed: IfChanged,
    /// What the subscriber is told before anything else.
    notice: Option<Box<Notice>>,
    /// Read from the store, not yet taken.
    page: VecDeque<StoredBatch>,
    /// What follows the page, on its way from the store while the page is sent.
    ahead: Option<Ahead>,
    /// The node serves nobody any more. Kept, because to begin to wait for it costs more than most waits for messages do.
    unserved: BoxFuture<'static, BrokerError>,
}

fn unserved(broker: Broker) -> BoxFuture<'static, BrokerError> {
    async move { BrokerError::from(broker.unserved().await) }.boxed()
}

/// A page that is being read before it is asked for.
struct Ahead {
    from: u64,
    read: JoinHandle<Result<Vec<StoredBatch>, StoreError>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.read.abort();
    }
}

impl Reader {
    /// Begins at a place in the channel's history.
    pub(super) fn new(
        broker: Broker,
        meta: Arc<ChannelMeta>,
        follower: Follower,
        history: Position,
        if_changed: IfChanged,
        notice: Option<Notice>,
    ) -> Self {
        let (position, page, notice) = (history.seq, VecDeque::new(), notice.map(Box::new));
        let unserved = unserved(broker.clone());
        Self { broker, meta, follower, position, history, if_changed, notice, page, ahead: None, unserved }
    }

    /// What may be skipped is told first: the subscriber goes on where the notice says, or ends.
    fn told(&mut self, notice: Notice) -> Result<(), BrokerError> {
        if self.if_changed == IfChanged::Fail {
            return Err(BrokerError::of_notice(notice));
        }
        (self.page, self.ahead) = (VecDeque::new(), None);
        (self.position, self.history) = (notice.next.seq, notice.next);
        self.follower.passed(self.position);
        // Nobody has heard yet of one that waits: it is told with the place where the newer one goes on.
        self.notice = Some(Box::new(match self.notice.take() {
            Some(earlier) => Notice { change: earlier.change, from_seq: earlier.from_seq, ..notice },
            None => notice,
        }));
        Ok(())
    }

    /// Looks whether what was followed so far is in the state that took the place of the one before.
    fn look_again(&mut self) -> Result<(), BrokerError> {
        (self.page, self.ahead) = (VecDeque::new(), None);
        if self.is_stored() {
            let history = self.broker.inner.view.history(self.meta.id).ok_or_else(|| gone(&self.meta))?;
            match history.judge(Place::Position(self.history.at(self.position)), self.if_changed) {
                Some(notice) => self.told(notice)?,
                None => self.history = history.position(self.position),
            }
        }
        self.follower.looked();
        Ok(())
    }

    /// Whether there is something to be told before anything else.
    pub(super) fn is_told(&self) -> bool {
        self.notice.is_some()
    }

    /// Whether it goes on after a change of its history.
    pub(super) fn goes_on(&self) -> bool {
        self.if_changed != IfChanged::Fail
    }

    /// The sequence number that comes next.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next messages that have not expired, as a subscriber without a filter takes them.
    pub(super) async fn next(&mut self) -> Result<StoredBatch, BrokerError> {
        loop {
            match self.upcoming()? {
                Some(batch) if batch.expires => {
                    // It stays where it is meanwhile.
                    self.page.push_front(batch.clone());
                    self.broker.let_time_pass([&batch]).await;
                    if let Some(batch) = self.try_next()? {
                        return Ok(batch);
                    }
                }
                Some(batch) => {
                    self.position = batch.end_seq();
                    let batch = self.handed_on(batch);
                    self.follower.passed(self.in_hand());
                    return Ok(batch);
                }
                None => {
                    self.follower.passed(self.in_hand());
                    self.more().await?;
                }
            }
        }
    }

    /// Counts what the subscriber gets, and gives it the time of day.
    fn handed_on(&self, mut batch: StoredBatch) -> StoredBatch {
        self.follower.taken(u64::from(batch.frame.count()));
        batch.time_ms = self.broker.inner.view.time_of_day(batch.time_ms);
        batch
    }

    /// The same as far as it is in memory. What is not is on its way from the store after that.
    pub(super) fn try_next(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        let live = self.take()?.map(|batch| self.handed_on(batch));
        self.follower.passed(self.in_hand());
        if live.is_none() && self.is_behind() {
            self.read_on(self.position);
        }
        Ok(live)
    }

    /// Everything below is here already.
    fn in_hand(&self) -> u64 {
        self.page.back().map_or(self.position, StoredBatch::end_seq)
    }

    /// What comes next, without what has expired; none where nothing is in memory.
    pub(super) fn take(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        while let Some(batch) = self.upcoming()? {
            let end = batch.end_seq();
            let (live, rest) = self.broker.live(batch);
            self.position = live.as_ref().map_or(end, StoredBatch::end_seq);
            if let Some(rest) = rest {
                self.page.push_front(rest);
            }
            if live.is_some() {
                return Ok(live);
            }
        }
        Ok(None)
    }

    /// The next batch from the page or the tail.
    fn upcoming(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        self.broker.check_shown()?;
        if self.follower.is_replaced() {
            self.look_again()?;
        }
        if self.page.is_empty() && self.ahead.is_some() {
            self.take_page()?;
        }
        if let Some(notice) = self.notice.take() {
            return Err(BrokerError::HistoryChanged(notice));
        }
        if let Some(batch) = self.page.pop_front() {
            return Ok(Some(batch));
        }
        match self.follower.at(self.position) {
            Next::Batch(batch) => {
                self.ahead = None; // it has caught up
                Ok(Some(batch))
            }
            Next::Behind(end) if !self.is_stored() => {
                // At most once: what its inbox had no room for is lost to this subscriber.
                self.position = end;
                Ok(None)
            }
            Next::Behind(_) | Next::Nothing => Ok(None),
            Next::Closed => Err(gone(&self.meta)),
        }
    }

    fn is_stored(&self) -> bool {
        self.meta.config.durability == Durability::Durable
    }

    /// Whether what it takes next is what other followers get too, and not a page of its own.
    pub(super) fn takes_from_the_tail(&self) -> bool {
        self.page.is_empty() && self.ahead.is_none()
    }

    /// Whether what comes next has to be read from the store.
    pub(super) fn is_behind(&self) -> bool {
        self.is_stored() && self.page.is_empty() && matches!(self.follower.at(self.position), Next::Behind(_))
    }

    /// Waits until there may be more.
    pub(super) async fn more(&mut self) -> Result<(), BrokerError> {
        if self.is_behind() {
            let applied = self.broker.inner.view.applied();
            if self.fill().await? {
                return Ok(());
            }
            // The machine is ahead of the store for the moment, or for as long as the store fails.
            let view = self.broker.inner.view.clone();
            return tokio::select! {
                () = view.wait_applied(applied + 1) => Ok(()),
                error = &mut self.unserved => Err(self.ended(error)),
            };
        }
        tokio::select! {
            () = self.follower.changed(self.position) => Ok(()),
            error = &mut self.unserved => Err(self.ended(error)),
        }
    }

    /// Whoever asks again waits again.
    fn ended(&mut self, error: BrokerError) -> BrokerError {
        self.unserved = unserved(self.broker.clone());
        error
    }

    /// Reads the next page. False where the store does not have it yet.
    pub(super) async fn fill(&mut self) -> Result<bool, BrokerError> {
        let (view, broker) = (self.broker.inner.view.clone(), self.broker.clone());
        let ahead = self.read_ahead().await;
        // No other state takes the place of the one by which the page is judged.
        let _whole = view.whole().await;
        if let Some(page) = ahead
            && self.accept(page)?
        {
            return Ok(true);
        }
        let (key, bytes) = (stream_key(self.meta.name.as_str()), self.page_bytes());
        let page = broker.store().read_batches(&key, self.position, bytes).await;
        let page = page.map_err(|error| broker.store_error(&error))?;
        self.accept(page)
    }

    fn page_bytes(&self) -> usize {
        self.broker.limits().page_of(self.broker.inner.view.fanout().all_followers())
    }

    /// The page that was read ahead, if it is the next one. One that could not be read, or was empty and so is out of
    /// date, is read again.
    async fn read_ahead(&mut self) -> Option<Vec<StoredBatch>> {
        let mut ahead = self.ahead.take().filter(|ahead| ahead.from == self.position)?;
        let read = (&mut ahead.read).await;
        read.ok()?.ok().filter(|page| !page.is_empty())
    }

    /// Takes a page that has been read by now.
    fn take_page(&mut self) -> Result<(), BrokerError> {
        let view = self.broker.inner.view.clone();
        let Some(_whole) = view.whole().now_or_never() else { return Ok(()) };
        if !self.ahead.as_ref().is_some_and(|ahead| ahead.read.is_finished()) {
            return Ok(());
        }
        let page = self.read_ahead().now_or_never().flatten();
        page.map_or(Ok(false), |page| self.accept(page)).map(drop)
    }

    /// Whether a page that was read is the next one; it is taken then, and the one behind it is read.
    fn accept(&mut self, page: Vec<StoredBatch>) -> Result<bool, BrokerError> {
        // The store may still hold what is gone, and so may what was read before. It is read by name: what is there may
        // be another channel's.
        let first = self.broker.inner.view.stats(self.meta.id).ok_or_else(|| gone(&self.meta))?.first_seq;
        if first > self.position {
            let history = self.broker.inner.view.history(self.meta.id).ok_or_else(|| gone(&self.meta))?;
            // It may have gone on in another way meanwhile, but that it begins later stays so.
            if let Some(notice) = history.judge(Place::Seq(self.position), self.if_changed) {
                self.told(notice)?;
                return Ok(true);
            }
        }
        let Some(begins) = page.first().map(|first| first.first_seq) else { return Ok(false) };
        if begins > self.position && !self.broker.has_gap(self.meta.id, self.position) {
            return Ok(false);
        }
        self.position = self.position.max(begins);
        self.page = page.into();
        let next = self.in_hand();
        self.follower.passed(next);
        if matches!(self.follower.at(next), Next::Behind(_)) {
            self.read_on(next);
        }
        Ok(true)
    }

    /// Has a page read, unless it is being read.
    fn read_on(&mut self, from: u64) {
        if self.ahead.as_ref().is_some_and(|ahead| ahead.from == from) {
            return;
        }
        // `try_next` may be called from a thread that serves no tasks.
        let Ok(runtime) = Handle::try_current() else { return };
        let (broker, key) = (self.broker.clone(), stream_key(self.meta.name.as_str()));
        let bytes = self.page_bytes();
        if bytes < broker.limits().page_bytes {
            return; // there are many, and others read meanwhile
        }
        let read = async move { broker.store().read_batches(&key, from, bytes).await };
        self.ahead = Some(Ahead { from, read: runtime.spawn(read) });
    }
}

impl Broker {
    /// The first messages of a batch that may still be handed to anybody, and what comes after them. What lies before
    /// them, or is all of the batch, has expired and is handed to nobody.
    pub(super) fn live(&self, batch: StoredBatch) -> (Option<StoredBatch>, Option<StoredBatch>) {
        if !batch.expires {
            return (Some(batch), None);
        }
        let live = batch.live_runs(self.inner.view.time_ms()).next();
        let rest = live.as_ref().map(|live| batch.from_seq(live.end_seq())).filter(|rest| !rest.frame.is_empty());
        (live, rest)
    }
}

pub(super) fn gone(meta: &ChannelMeta) -> BrokerError {
    BrokerError::ChannelNotFound { name: meta.name.to_string(), similar: None }
}
