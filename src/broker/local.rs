//! A broker of one process: commands are ordered here and applied to the replica at once, without a log. What was
//! acknowledged is as durable as the store's newest flush.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::{
    Broker, BrokerError, Leader, NodeAddress, PeerMessage, PeerVersion, Peers, Proposed, Sequencer, SequencerError,
};
use crate::{
    codec,
    config::{ChannelEntry, RoutingRule, ServerConfig},
    env::Env,
    fanout::Fanout,
    log_clock::Reading,
    model::{ChannelConfig, Command, Durability},
    replica::Replica,
    store::DurableStore,
};

/// How often the log's time is compared with this process's clock.
const COMPARE: Duration = Duration::from_secs(1);

struct Local {
    state: Arc<Mutex<State>>,
    leader: watch::Sender<Leader>,
    /// Always nothing: there is nobody to compare the state with.
    withheld: watch::Sender<Option<String>>,
    local: NodeAddress,
}

struct State {
    replica: Replica,
    index: u64,
}

impl Broker {
    /// A broker of this process alone, over any store: publishes are ordered here and are as durable as the store's
    /// flush. Creates the channels of the configuration that are missing.
    ///
    /// # Errors
    /// When the store cannot be read, or a schema of the configuration cannot be used.
    pub async fn embedded(config: &ServerConfig, store: Arc<dyn DurableStore>) -> Result<Self, BrokerError> {
        Ok(Self::open_local(config, store).await?.0)
    }

    async fn open_local(
        config: &ServerConfig,
        store: Arc<dyn DurableStore>,
    ) -> Result<(Self, Arc<Local>), BrokerError> {
        let failed = |reason: String| BrokerError::StoreFailed { node: String::new(), reason, proposed: false };
        let fanout = Fanout::new(config.limits.subscriber_bytes, config.limits.fanout_bytes);
        let index = match store.applied().await.map_err(|error| failed(error.to_string()))? {
            Some(mark) => codec::decode_record("applied mark", &mark).map_err(|error| failed(error.to_string()))?,
            None => 0,
        };
        let replica = Replica::open(store, fanout, config.limits.clone(), Env::real().clock).await;
        let replica = replica.map_err(|error| failed(error.to_string()))?;
        replica.set_applied(index);
        let view = replica.view();
        let leader = watch::channel(Leader::Local { term: 0 }).0;
        let local = Arc::new(Local {
            state: Arc::new(Mutex::new(State { replica, index })),
            leader,
            withheld: watch::Sender::default(),
            local: NodeAddress { name: "local".into(), ..NodeAddress::default() },
        });
        let broker = Self::clustered(view, local.clone(), local.clone(), Env::real());
        broker.compare_clock().await;
        broker
            .inner
            .tasks
            .spawn(broker.inner.stopping.clone().run_until_cancelled_owned(keep_time(broker.for_tasks())));
        for channel in &config.channels {
            broker.create_configured(channel, config.base_dir.as_deref()).await?;
        }
        for rule in &config.routing_rules {
            broker.create_configured_rule(rule).await?;
        }
        Ok((broker, local))
    }

    /// Creates a channel of the configuration unless there is one of that name.
    ///
    /// # Errors
    /// When its schema cannot be read or used.
    pub async fn create_configured(&self, channel: &ChannelEntry, base_dir: Option<&Path>) -> Result<(), BrokerError> {
        if self.find(&channel.name).is_ok() {
            return Ok(());
        }
        let schema =
            match (&channel.schema_ref, base_dir) {
                (Some(schema_ref), Some(base_dir)) => {
                    let path = base_dir.join(schema_ref);
                    let text = tokio::fs::read_to_string(&path).await;
                    Some(text.map_err(|error| BrokerError::InvalidSchema {
                        reason: format!("{}: {error}", path.display()),
                    })?)
                }
                // Without a directory the name is only a label.
                _ => None,
            };
        let durability = if channel.durable { Durability::Durable } else { Durability::Ephemeral };
        let config = ChannelConfig { durability, schema, ..ChannelConfig::default() };
        match self.create_channel(&channel.name, config).await {
            // Made meanwhile by another node with its own file: the first one counts.
            Ok(_) | Err(BrokerError::ChannelExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Broker {
    /// Creates a rule of the configuration unless there is one between its channels.
    ///
    /// # Errors
    /// When a channel does not exist, or the rule cannot be.
    pub async fn create_configured_rule(&self, rule: &RoutingRule) -> Result<(), BrokerError> {
        let (source, target) = (self.resolve(&rule.source_channel).await?, self.resolve(&rule.target_channel).await?);
        if self.inner.view.catalog().rules().get(source.id, target.id).is_some() {
            return Ok(());
        }
        self.put_rule(&rule.source_channel, &rule.target_channel, rule.predicate.as_deref()).await?;
        Ok(())
    }
}

impl Broker {
    /// The only clock that there is, is what all agree on.
    async fn compare_clock(&self) {
        let (clock, now) = (self.inner.view.clock(), Instant::now());
        let own = Reading { ms: clock.wall_ms(), asked: now, answered: now };
        if let Some(ahead_ms) = clock.lead(&[Some(own)]) {
            let command = Command::Calendar { time_ms: clock.now_ms(), ahead_ms };
            if let Err(error) = self.inner.sequencer.propose(command).await {
                tracing::debug!(%error, "the calendar was not written down");
            }
        }
    }
}

async fn keep_time(broker: Broker) {
    loop {
        tokio::time::sleep(COMPARE).await;
        broker.compare_clock().await;
    }
}

#[async_trait]
impl Sequencer for Local {
    async fn propose(&self, command: Command) -> Result<Proposed, SequencerError> {
        let mut state = self.state.clone().lock_owned().await;
        // A task of its own: the command is applied to the end even when the caller gives up.
        let applied = tokio::spawn(async move {
            let index = state.index + 1;
            let reply = state.replica.apply(index, command, codec::encode_record(&index)).await;
            state.index = index;
            (index, reply)
        });
        let (index, reply) = applied.await.map_err(|error| SequencerError::Unknown(error.to_string()))?;
        Ok(Proposed { index, term: 0, reply })
    }

    fn leader(&self) -> watch::Receiver<Leader> {
        self.leader.subscribe()
    }

    async fn read_index(&self) -> Result<u64, SequencerError> {
        Ok(self.state.lock().await.index)
    }

    fn withheld(&self) -> watch::Receiver<Option<String>> {
        self.withheld.subscribe()
    }
}

#[async_trait]
impl Peers for Local {
    async fn call(&self, node: &NodeAddress, _: PeerMessage) -> Result<PeerMessage, SequencerError> {
        tracing::debug!(node = node.name, "a process alone has no peers");
        Err(SequencerError::NotLeader)
    }

    fn version(&self, _: &NodeAddress) -> PeerVersion {
        PeerVersion::NEWEST
    }

    fn others(&self) -> Vec<NodeAddress> {
        Vec::new()
    }

    fn local(&self) -> &NodeAddress {
        &self.local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Code, Envelope, Start, SubscribeOptions},
        machine,
        model::{ChannelStats, HistoryChange},
        store::{MemoryStore, WriteBatch},
    };

    #[tokio::test]
    async fn who_follows_a_state_whose_place_is_taken_by_one_of_another_history_is_told() {
        let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
        let config = ServerConfig::default().with_channel("orders", true);
        let (broker, local) = Broker::open_local(&config, store.clone()).await.unwrap();
        let filters = [None, Some("not $key == \"x\"".parse().unwrap())];
        let mut following = Vec::new();
        for filter in filters {
            let options = SubscribeOptions {
                filter,
                if_changed: Some(crate::model::IfChanged::Notice),
                ..SubscribeOptions::default()
            };
            following.push(broker.subscribe_with("orders", Start::Earliest, options).await.unwrap());
        }
        let mut strict = broker.subscribe("orders", Start::Earliest).await.unwrap();
        for payload in ["a", "b", "c", "d", "e"] {
            let envelope = Envelope { payload: payload.into(), ..Envelope::default() };
            broker.publish("orders", envelope, None).await.unwrap();
        }
        for subscription in following.iter_mut().chain([&mut strict]) {
            while subscription.position() < 5 {
                subscription.next().await.unwrap();
            }
        }
        // The same messages, but those from the third on are of another history.
        let parted = ChannelStats { next_seq: 2, ..ChannelStats::default() };
        let [_, counters] = machine::HISTORY_PREFIXES;
        let stored = store.range(counters, None, 10).await.unwrap();
        let entries = stored.into_iter().map(|(key, _)| (key, codec::encode_record(&parted)));
        let begun = machine::begin_epoch(2, 9, entries).unwrap();
        let puts = begun.into_iter().map(|(key, value)| (key, Some(value))).collect();
        store.commit(WriteBatch { puts, ..WriteBatch::default() }).await.unwrap();
        {
            let state = local.state.lock().await;
            let _replacing = state.replica.replacing().await;
            state.replica.reload(state.index).await.unwrap();
        }
        for mut subscription in following {
            let error = subscription.next().await.unwrap_err();
            let notice = error.notice().unwrap();
            assert_eq!((notice.change, notice.from_seq, notice.next.seq), (HistoryChange::Rewound, 5, 2));
            assert_eq!(subscription.next().await.unwrap().first_seq, 2);
            assert_eq!(subscription.next_position().epoch, 2);
        }
        assert_eq!(strict.next().await.unwrap_err().code(), "HISTORY_REWOUND");
    }

    /// Takes no log entry that is larger than this, as the nodes of a cluster do not take it from each other.
    const ENTRY: usize = 4096;

    struct Narrow(Arc<Local>);

    #[async_trait]
    impl Sequencer for Narrow {
        async fn propose(&self, command: Command) -> Result<Proposed, SequencerError> {
            let bytes = codec::encode_command(&command).len();
            if bytes > ENTRY {
                return Err(SequencerError::TooLarge { bytes: bytes as u64, limit: ENTRY as u64 });
            }
            self.0.propose(command).await
        }

        fn leader(&self) -> watch::Receiver<Leader> {
            self.0.leader()
        }

        async fn read_index(&self) -> Result<u64, SequencerError> {
            self.0.read_index().await
        }

        fn withheld(&self) -> watch::Receiver<Option<String>> {
            Sequencer::withheld(&*self.0)
        }
    }

    #[tokio::test]
    async fn what_would_make_a_log_entry_too_large_is_refused_for_certain_with_its_size_and_the_limit() {
        let config = ServerConfig::default().with_channel("orders", true);
        let (_whole, local) = Broker::open_local(&config, Arc::new(MemoryStore::new())).await.unwrap();
        let view = local.state.lock().await.replica.view();
        let broker = Broker::clustered(view, Arc::new(Narrow(local.clone())), local, Env::real());
        let sized = |bytes: usize| Envelope { payload: vec![b'x'; bytes].into(), ..Envelope::default() };
        let published = broker.publish("orders", sized(ENTRY), Some("large")).await.unwrap_err();
        let config =
            ChannelConfig { schema: Some(format!(r#"{{"title":"{}"}}"#, "x".repeat(ENTRY))), ..Default::default() };
        let created = broker.create_channel("described", config).await.unwrap_err();
        let completed = broker.complete_claim("jobs", "k", 1, vec![b'x'; ENTRY].into()).await.unwrap_err().into();
        for error in [published, created, completed] {
            assert_eq!((error.code(), error.outcome_unknown()), (&Code::LimitExceeded, false), "{error}");
            let BrokerError::LimitExceeded { value, limit, .. } = error else { panic!("{error}") };
            assert!(limit == ENTRY as u64 && value > limit, "{value} {limit}");
        }
        let kept = broker.publish("orders", sized(100), Some("large")).await.unwrap();
        assert_eq!((kept.seq, kept.duplicate), (0, false), "the large one has left nothing behind");
    }
}
