//! Creating, changing, deleting and listing channels.

use std::sync::Arc;

use tokio::time::Instant;

pub(super) use super::channel_command::ChannelCommand;
use super::{
    Broker, BrokerError, ChannelInfo, CompiledSchema, NoChannel,
    forward::{Request, Response, not_submitted},
    leader::Asking,
    quotas::over_quota,
    retention,
};
use crate::{
    model::{
        AUDIT_CHANNEL, ChannelConfig, ChannelMeta, ChannelName, ChannelUpdate, Comparison, Compatibility, Durability,
        Quota, Refusal, Reply, Retention, TokenId, WhenFull,
    },
    proto::v1,
};

/// How long the audit's channel knows a record again that is published twice.
const AUDIT_WINDOW_MS: u64 = 10 * 60 * 1000;

impl ChannelInfo {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::Channel {
        let (meta, stats) = (&self.meta, &self.stats);
        v1::Channel {
            name: meta.name.to_string(),
            id: meta.id.0,
            config: Some(config_to_proto(&meta.config)),
            schema_id: meta.schema_id,
            created_ms: meta.created_ms,
            first_seq: stats.first_seq,
            next_seq: stats.next_seq,
            live_keys: stats.live_keys,
            bytes: stats.bytes,
            subscribers: self.subscribers,
            rejected: self.rejected,
            delayed: self.delayed,
            compacted: self.compacted,
        }
    }
}

fn config_to_proto(config: &ChannelConfig) -> v1::ChannelConfig {
    let durability = match config.durability {
        Durability::Durable => v1::Durability::Durable,
        Durability::Ephemeral => v1::Durability::Ephemeral,
    };
    let compatibility = match config.compatibility {
        Compatibility::Backward => v1::Compatibility::Backward,
        Compatibility::Forward => v1::Compatibility::Forward,
        Compatibility::Full => v1::Compatibility::Full,
        Compatibility::None => v1::Compatibility::None,
    };
    let comparison = match config.comparison {
        Comparison::Bytes => v1::Comparison::Bytes,
        Comparison::CanonicalJson => v1::Comparison::CanonicalJson,
    };
    let Retention { max_messages, max_bytes, max_age_ms, when_full, work_queue, compact_by } = config.retention.clone();
    let when_full = match when_full {
        WhenFull::DropOldest => v1::WhenFull::DropOldest,
        WhenFull::RefuseNew => v1::WhenFull::RefuseNew,
    };
    let Quota { messages_per_second, bytes_per_second } = config.quota;
    v1::ChannelConfig {
        durability: durability.into(),
        schema: config.schema.clone().unwrap_or_default(),
        dedup_window_ms: config.dedup_window_ms,
        compatibility: compatibility.into(),
        retention: Some(v1::Retention {
            max_messages,
            max_bytes,
            max_age_ms,
            when_full: when_full.into(),
            work_queue,
            compact_by: compact_by.unwrap_or_default(),
        }),
        quarantine: config.quarantine.as_ref().map(ToString::to_string).unwrap_or_default(),
        quota: Some(v1::Quota { messages_per_second, bytes_per_second }),
        comparison: comparison.into(),
    }
}

impl Broker {
    /// Creates a channel. The same name with the same configuration is no error.
    ///
    /// # Errors
    /// `ChannelExists` when the name is taken by a channel with another configuration; `InvalidArgument` when its
    /// quarantine is no other channel that exists.
    pub async fn create_channel(&self, name: &str, config: ChannelConfig) -> Result<ChannelInfo, BrokerError> {
        self.create_channel_for(name, config, None).await
    }

    /// The same for a token, for which it counts.
    pub(super) async fn create_channel_for(
        &self,
        name: &str,
        config: ChannelConfig,
        token: Option<TokenId>,
    ) -> Result<ChannelInfo, BrokerError> {
        self.check_schema(config.schema.as_deref())?;
        retention::check(Some(&config.retention), Some(&config.quota))?;
        self.check_quarantine(name, config.quarantine.as_ref()).await?;
        let parsed = parse(name)?;
        self.order(match token {
            Some(token) => ChannelCommand::CreateFor { name: parsed, config, token },
            None => ChannelCommand::Create { name: parsed, config },
        })
        .await?;
        self.info(&self.find(name)?)
    }

    /// Changes a channel; absent fields stay, an empty schema removes it.
    ///
    /// # Errors
    /// `ChannelNotFound`, `InvalidSchema`; `SchemaIncompatible` when the new schema is not to the old one what the
    /// channel's compatibility, or that of the update, asks for; `InvalidArgument` as for a new channel, and where one with
    /// filtered consumers would become a work queue.
    pub async fn update_channel(&self, name: &str, mut update: ChannelUpdate) -> Result<ChannelInfo, BrokerError> {
        self.check_schema(update.schema.as_deref().filter(|schema| !schema.is_empty()))?;
        retention::check(update.retention.as_ref(), update.quota.as_ref())?;
        self.check_quarantine(name, update.quarantine.as_ref().and_then(Option::as_ref)).await?;
        loop {
            update.compared_with = self.compare_schema(name, update.schema.as_deref(), update.compatibility).await?;
            match self.order(ChannelCommand::Update { name: parse(name)?, update: update.clone() }).await {
                // Another update came between: the new schema has to be compared with that one's.
                Err(BrokerError::StaleSchema) => self.catch_up().await?,
                ordered => break ordered?,
            }
        }
        self.info(&self.find(name)?)
    }

    /// Deletes a channel with all that it holds.
    ///
    /// # Errors
    /// `ChannelNotFound`.
    pub async fn delete_channel(&self, name: &str) -> Result<(), BrokerError> {
        self.order(ChannelCommand::Delete { name: parse(name)? }).await
    }

    /// Makes the channel of the audit, or has it keep what it should.
    pub(super) async fn keep_audit_channel(&self, retention: &Retention) -> Result<(), BrokerError> {
        let name = ChannelName::audit();
        let present = self.inner.view.catalog().get(AUDIT_CHANNEL).map(|meta| meta.config.retention.clone());
        let command = match present {
            Some(present) if present == *retention => return Ok(()),
            Some(_) => {
                let update = ChannelUpdate { retention: Some(retention.clone()), ..ChannelUpdate::default() };
                ChannelCommand::Update { name, update }
            }
            None => {
                let config = ChannelConfig {
                    retention: retention.clone(),
                    dedup_window_ms: AUDIT_WINDOW_MS,
                    ..ChannelConfig::default()
                };
                ChannelCommand::Create { name, config }
            }
        };
        match self.order(command).await {
            // Another node was faster, or this one has yet to see the channel: what it keeps is changed with the next records.
            Err(BrokerError::ChannelExists { .. }) => Ok(self.catch_up().await?),
            ordered => ordered,
        }
    }

    /// A channel, as of now (linearizable).
    ///
    /// # Errors
    /// `ChannelNotFound`.
    pub async fn channel(&self, name: &str) -> Result<ChannelInfo, BrokerError> {
        self.catch_up().await?;
        self.info(&self.find(name)?)
    }

    /// All channels by name, as of now (linearizable).
    ///
    /// # Errors
    /// `NoLeader` or `NotConfirmed` without a majority.
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, BrokerError> {
        self.catch_up().await?;
        self.inner.view.catalog().iter().map(|meta| self.info(meta)).collect()
    }

    pub(super) fn info(&self, meta: &Arc<ChannelMeta>) -> Result<ChannelInfo, BrokerError> {
        let gone = || BrokerError::ChannelNotFound { name: meta.name.to_string(), similar: None };
        let stats = self.inner.view.stats(meta.id).ok_or_else(gone)?;
        let (subscribers, rejected) = (self.inner.view.fanout().followers(meta.id), self.rejected(meta.id));
        let delayed = self.inner.view.delayed(meta.id);
        // A letter that was redriven and cannot be taken out yet is as good as gone.
        let redriven = u64::from(self.inner.view.redriven(meta.id).is_some());
        let compacted = self.inner.view.compaction(meta.id).unwrap_or_default().removed + redriven;
        Ok(ChannelInfo { meta: meta.clone(), stats, subscribers, rejected, delayed, compacted })
    }

    /// Whether there is room for what a command adds to the schemas of all channels, which every node has in memory. One
    /// that adds nothing is always taken: the limit may have been larger before.
    fn check_all_schemas(&self, command: &ChannelCommand) -> Result<(), BrokerError> {
        let catalog = self.inner.view.catalog();
        let present = catalog.get(command.name().as_str());
        let of = |meta: &Arc<ChannelMeta>| meta.config.schema.as_ref().map_or(0, String::len);
        let (before, after) = match command {
            ChannelCommand::Create { config, .. } | ChannelCommand::CreateFor { config, .. } if present.is_none() => {
                (0, config.schema.as_ref())
            }
            ChannelCommand::Update { update, .. } => (present.map_or(0, of), update.schema.as_ref()),
            // A name that is taken stays with what it has.
            ChannelCommand::Create { .. } | ChannelCommand::CreateFor { .. } | ChannelCommand::Delete { .. } => {
                return Ok(());
            }
        };
        let after = after.map_or(0, String::len);
        if after <= before {
            return Ok(());
        }
        let bytes = catalog.iter().map(of).sum::<usize>() - before + after;
        let limit = self.limits().all_schemas_bytes;
        if bytes > limit {
            let what = "the schemas of all channels together (bytes)".to_owned();
            return Err(BrokerError::LimitExceeded { what, value: bytes as u64, limit: limit as u64 });
        }
        Ok(())
    }

    pub(super) fn check_schema(&self, schema: Option<&str>) -> Result<(), BrokerError> {
        let Some(schema) = schema else { return Ok(()) };
        let compiled = CompiledSchema::compile(schema, self.limits());
        compiled.map(drop).map_err(|reason| BrokerError::InvalidSchema { reason })
    }

    /// Through the log, by way of the leader; waits until this node has applied it.
    async fn order(&self, command: ChannelCommand) -> Result<(), BrokerError> {
        let _request = self.inner.requests.token();
        self.check_running()?;
        let mut asking = Asking::until(Instant::now() + self.limits().publish_timeout);
        match self.ask_leader(&Request::Channel(command), &mut asking).await {
            Ok(Response::Index(index)) => Ok(self.see(index, asking.deadline()).await?),
            Ok(other) => Err(other.unexpected().into()),
            Err(BrokerError::ChannelNotFound { name, .. }) => Err(self.no_channel(&name).into()),
            Err(error) => Err(error),
        }
    }

    /// On the leader.
    pub(super) async fn propose_channel(&self, command: ChannelCommand) -> Response {
        let name = command.name().to_string();
        if let Err(error) = self.check_all_schemas(&command) {
            return Response::Refused(error);
        }
        if let Err(error) = self.write_state_limits().await {
            return not_submitted(error);
        }
        let time_ms = self.inner.view.clock().now_ms();
        match self.inner.sequencer.propose(command.at(time_ms)).await {
            Ok(proposed) => match proposed.reply {
                Reply::Channel(Ok(_)) => Response::Index(proposed.index),
                Reply::Channel(Err(Refusal::ChannelExists(_))) => {
                    Response::Refused(BrokerError::ChannelExists { name })
                }
                Reply::Channel(Err(Refusal::NoSuchChannel)) => {
                    Response::Refused(BrokerError::ChannelNotFound { name, similar: None })
                }
                Reply::Channel(Err(Refusal::FilteredConsumer(consumer))) => {
                    let reason = format!(
                        "consumer `{consumer}` of `{name}` has a filter: in a work queue, what it keeps back would go \
                         without anybody having worked on it. Remove the filter first, and give it again with \
                         settle_skipped if you want that"
                    );
                    Response::Refused(BrokerError::InvalidArgument { reason })
                }
                Reply::Channel(Err(Refusal::StaleSchema { .. })) => Response::Refused(BrokerError::StaleSchema),
                Reply::Channel(Err(Refusal::TooManyChannels { limit })) => {
                    let what = "the number of channels".to_owned();
                    Response::Refused(BrokerError::LimitExceeded { what, value: limit + 1, limit })
                }
                Reply::Channel(Err(refusal @ Refusal::OverQuota { .. })) => Response::Refused(over_quota(refusal)),
                other => Response::Unknown(format!("an unexpected reply: {other:?}")),
            },
            Err(error) => not_submitted(error),
        }
    }
}

pub(super) fn parse(name: &str) -> Result<ChannelName, NoChannel> {
    name.parse().map_err(|error: crate::model::InvalidName| NoChannel::InvalidChannelName { reason: error.to_string() })
}
