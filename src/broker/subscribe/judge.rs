//! A subscription with a filter: a task follows the channel and judges its messages, whether the subscriber looks or
//! not, and puts what passes into the subscriber's inbox. While the inbox is full the task waits, and publishers are
//! told at once that nothing was handed on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    super::{
        Broker, BrokerError, Payer,
        filter::Filter,
        turns::{Asker, Turn},
    },
    reader::Reader,
};
use crate::{
    budget::Account,
    fanout::{Inbox, Observer as _},
    model::{Frame, Notice, Predicate, StoredBatch},
};

/// Who asks for a subscription with a filter.
pub(super) struct Asking {
    /// By which it takes turns with others; none: the node's own.
    pub(super) connection: Option<Arc<Account>>,
    /// For whom the time counts.
    pub(super) payer: Option<Payer>,
}

/// The subscriber's side.
pub(super) struct Judged {
    broker: Broker,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    /// What was taken from the inbox and not handed on: some of it may have expired.
    front: VecDeque<StoredBatch>,
    position: u64,
}

/// Between the task and the subscriber.
struct Shared {
    inbox: Inbox,
    said: Mutex<Said>,
    /// There is something for the subscriber.
    filled: Notify,
    /// The subscriber has taken something.
    emptied: Notify,
}

/// What the task has to say behind what is in the inbox.
#[derive(Default)]
struct Said {
    /// Nothing below it will come.
    passed: Option<u64>,
    /// What the subscriber is told before anything else comes.
    notice: Option<Notice>,
    /// Why nothing comes any more.
    ended: Option<BrokerError>,
}

impl Drop for Judged {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Judged {
    pub(super) fn start(reader: Reader, filter: Predicate, Asking { connection, payer }: Asking) -> Self {
        let (broker, position) = (reader.broker.clone(), reader.position());
        let shared = Arc::new(Shared {
            inbox: reader.follower.inbox(),
            said: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        });
        let (engaged, filter) = (!reader.is_behind(), Filter::new(filter));
        let asker = connection.as_ref().map_or(Asker::Node, |connection| Asker::Address(connection.origin().clone()));
        let judge = Judge { engaged, reader, filter, connection, payer, asker, shared: shared.clone() };
        let task = tokio::spawn(judge.run());
        Self { broker, shared, task, front: VecDeque::new(), position }
    }

    pub(super) fn position(&self) -> u64 {
        self.front.front().map_or(self.position, |front| front.first_seq)
    }

    pub(super) async fn next(&mut self) -> Result<StoredBatch, BrokerError> {
        loop {
            self.refill();
            if let Some(batch) = self.front.front().filter(|batch| batch.expires) {
                self.broker.let_time_pass([batch]).await;
            }
            if let Some(batch) = self.pop().or_else(|| self.word()) {
                return Ok(batch);
            }
            self.check_notice()?;
            self.check_end()?;
            self.shared.filled.notified().await;
        }
    }

    pub(super) fn try_next(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        match self.pop() {
            Some(batch) => Ok(Some(batch)),
            None => self.check_notice().and_then(|()| self.check_end()).map(|()| None),
        }
    }

    /// The next of what was handed over, without what has expired.
    fn pop(&mut self) -> Option<StoredBatch> {
        loop {
            self.refill();
            let batch = self.front.pop_front()?;
            self.position = batch.end_seq();
            let (live, rest) = self.broker.live(batch);
            self.front.extend(rest);
            if let Some(mut live) = live {
                self.position = live.end_seq();
                live.time_ms = self.broker.inner.view.time_of_day(live.time_ms);
                self.shared.inbox.taken(u64::from(live.frame.count()));
                return Some(live);
            }
        }
    }

    /// How far the filter has looked, where the task wants it to be known.
    fn word(&mut self) -> Option<StoredBatch> {
        let passed = self.shared.said.lock().passed.take();
        let first_seq = passed.filter(|passed| *passed > self.position)?;
        self.position = first_seq;
        Some(StoredBatch { first_seq, time_ms: 0, schema_id: 0, expires: false, frame: Frame::default() })
    }

    /// The task waits until the subscriber has been told.
    fn check_notice(&mut self) -> Result<(), BrokerError> {
        let Some(notice) = self.shared.said.lock().notice.take() else { return Ok(()) };
        self.position = notice.next.seq;
        self.shared.emptied.notify_one();
        Err(BrokerError::HistoryChanged(Box::new(notice)))
    }

    fn check_end(&self) -> Result<(), BrokerError> {
        match &self.shared.said.lock().ended {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn refill(&mut self) {
        if self.front.is_empty()
            && let Some(batch) = self.shared.inbox.take()
        {
            self.front.push_back(batch);
            self.shared.emptied.notify_one();
        }
    }
}

/// The task's side.
struct Judge {
    reader: Reader,
    filter: Filter,
    connection: Option<Arc<Account>>,
    payer: Option<Payer>,
    /// With whom its judgements take turns.
    asker: Asker,
    shared: Arc<Shared>,
    /// It has caught up: publishers wait for its judgement.
    engaged: bool,
}

/// Tells the subscriber that nothing comes any more, however the task ends.
struct End {
    shared: Arc<Shared>,
    error: BrokerError,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.said.lock().ended = Some(self.error.clone());
        self.shared.filled.notify_one();
    }
}

impl Judge {
    async fn run(mut self) {
        let panicked = BrokerError::Internal { reason: "the filter of the subscription ended by a bug".to_owned() };
        let mut end = End { shared: self.shared.clone(), error: panicked };
        if !self.engaged {
            self.pause();
        }
        end.error = loop {
            match self.step().await {
                Ok(()) => {}
                Err(BrokerError::HistoryChanged(notice)) if self.reader.goes_on() => self.tell(*notice).await,
                Err(error) => break error,
            }
        };
        self.pause();
    }

    /// Goes on once the subscriber has been told, so that nothing overtakes it.
    async fn tell(&mut self, notice: Notice) {
        self.pause();
        {
            let mut said = self.shared.said.lock();
            // What was passed of another history is no place in this one.
            (said.notice, said.passed) = (Some(notice), None);
        }
        self.shared.filled.notify_one();
        while self.shared.said.lock().notice.is_some() {
            self.shared.emptied.notified().await;
        }
    }

    /// Judges one batch, or waits for one.
    async fn step(&mut self) -> Result<(), BrokerError> {
        let shared = self.reader.takes_from_the_tail();
        if let Some(batch) = self.reader.take()? {
            let whole = batch.frame.len();
            if self.engaged && self.reader.broker.inner.verdicts.is_crowded_by(&self.asker) {
                if let Some(connection) = &self.connection {
                    connection.lags_behind();
                }
                self.pause();
            }
            let verdicts = &self.reader.broker.inner.verdicts;
            let (passes, time) = verdicts.of(&self.asker, self.filter.judgement(), &batch, shared).await?;
            self.filter.look(batch, &passes);
            self.hand_over(whole).await;
            self.give_word(false);
            // A filter that lets little through takes long; others have their turn.
            tokio::task::yield_now().await;
            self.pay(time).await;
            return Ok(());
        }
        if self.reader.is_behind() {
            self.pause();
            self.filter.page();
        } else {
            self.engaged = true;
            self.tell_place();
        }
        self.give_word(!self.reader.is_behind());
        let due = self.filter.word_due();
        let word_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            more = self.reader.more() => more,
            () = word_due => Ok(()),
        }
    }

    /// Waits where so much was judged for a token that no more may be: it is behind then, and publishers do not wait.
    async fn pay(&mut self, time: Duration) {
        let wait = self.payer.as_ref().filter(|_| !time.is_zero()).and_then(|payer| payer.pay(time));
        if let Some(wait) = wait {
            self.pause();
            tokio::time::sleep(wait).await;
        }
    }

    /// Puts what passed, of a batch of so many bytes, into the inbox.
    async fn hand_over(&mut self, whole: usize) {
        while let Some(mut run) = self.filter.pop() {
            self.shared.said.lock().passed = None; // the run says it
            if run.frame.len() < whole / 4 {
                // It would hold all of the batch.
                run.frame = run.frame.apart();
            }
            while !self.shared.inbox.offer(&run) {
                self.pause();
                self.shared.emptied.notified().await;
            }
            if self.engaged {
                let range = run.first_seq..run.end_seq();
                self.reader.broker.inner.delivery.handed(self.reader.meta.id, range);
            }
            self.shared.filled.notify_one();
        }
        if self.engaged {
            self.tell_place();
        }
    }

    fn tell_place(&self) {
        self.reader.follower.passed(self.reader.position());
        self.reader.broker.inner.delivery.settled();
    }

    /// Nobody waits for this subscription's judgement until it has caught up.
    fn pause(&mut self) {
        self.engaged = false;
        self.reader.follower.pause();
        self.reader.broker.inner.delivery.settled();
    }

    fn give_word(&mut self, at_tail: bool) {
        if self.filter.has_word(at_tail) {
            self.filter.told(at_tail);
            self.shared.said.lock().passed = Some(self.reader.position());
            self.shared.filled.notify_one();
        }
    }
}

impl Broker {
    /// A turn to judge messages for a client, until it is dropped.
    ///
    /// # Errors
    /// `Internal` when there will be none.
    pub(crate) async fn turn_to_judge(&self, connection: &Account) -> Result<Turn, BrokerError> {
        self.inner.verdicts.turn(&Asker::Address(connection.origin().clone())).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use crate::{
        broker::{Broker, Envelope, Start, SubscribeOptions, turns::Asker},
        budget::{Budgets, FaceName},
        config::ServerConfig,
        env::{Env, accept},
        model::Limits,
        store::MemoryStore,
    };

    #[tokio::test]
    async fn subscriptions_of_an_address_that_has_much_judged_are_behind_and_get_everything_later() {
        const MORE: usize = 10;
        let config = ServerConfig::default().with_channel("orders", true);
        let store = std::sync::Arc::new(MemoryStore::new());
        let broker = Broker::embedded(&config, store).await.unwrap();
        let (env, budgets) = (Env::real(), Budgets::new(&Limits::default()));
        let mut listener = budgets.guard(FaceName::Grpc, env.network.bind("127.0.0.1:0").await.unwrap());
        let _client = env.network.connect(&listener.local_address()).await.unwrap();
        let (served, _) = accept(&mut listener).await;
        let mut turns = Vec::new();
        while let Some(turn) = broker.inner.verdicts.turn(&Asker::Node).now_or_never() {
            turns.push(turn.unwrap());
        }
        let mut following = Vec::new();
        for number in 0..Limits::JUDGEMENTS_AWAITED + MORE {
            let filter = Some(format!("n == {number}").parse().unwrap());
            let connection = Some(served.account());
            let options = SubscribeOptions { filter, connection, ..SubscribeOptions::default() };
            following.push(broker.subscribe_with("orders", Start::Latest, options).await.unwrap());
        }
        let publisher = broker.clone();
        let last = following.len() - 1;
        let publishing = tokio::spawn(async move {
            let envelope = Envelope { payload: format!("{{\"n\":{last}}}").into(), ..Envelope::default() };
            publisher.publish("orders", envelope, None).await
        });
        let behind = async {
            let count = || budgets.refused().into_iter().find(|refused| refused.1 == "judgements").map_or(0, |r| r.3);
            while count() < MORE as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), behind).await.expect("they are told to be behind");
        drop(turns);
        publishing.await.unwrap().unwrap();
        let got = following[last].next().await.unwrap();
        assert_eq!((got.first_seq, got.frame.count()), (0, 1));
    }
}
