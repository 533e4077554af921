//! Channel management.

use tonic::{Request, Response, Status};

use super::{Service, guarding::access, status::detail, subscribing::start_of, to_status};
use crate::{
    broker::{BrokerError, ChannelInfo, DelayedPage, RuleInfo, Start, Trim, Violation},
    model::{
        ChannelConfig, ChannelName, ChannelUpdate, Comparison, Compatibility, Durability, InvalidName, Quota,
        Retention, WhenFull,
    },
    proto::v1::{self, channels_server::Channels},
};

#[tonic::async_trait]
impl Channels for Service {
    async fn create_channel(
        &self,
        request: Request<v1::CreateChannelRequest>,
    ) -> Result<Response<v1::CreateChannelResponse>, Status> {
        let broker = access(&request)?;
        let v1::CreateChannelRequest { name, config } = request.into_inner();
        let config = config_of(config.unwrap_or_default()).map_err(|error| to_status(&error))?;
        let info = broker.create_channel(&name, config).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::CreateChannelResponse { channel: Some(info.to_proto()) }))
    }

    async fn list_channels(
        &self,
        request: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let broker = access(&request)?;
        let v1::ListChannelsRequest { after, limit } = request.into_inner();
        let page = broker.channels_after(&after, limit as usize).await.map_err(|error| to_status(&error))?;
        let channels = page.items.iter().map(ChannelInfo::to_proto).collect();
        Ok(Response::new(v1::ListChannelsResponse { channels, next_after: page.next_after }))
    }

    async fn get_channel(
        &self,
        request: Request<v1::GetChannelRequest>,
    ) -> Result<Response<v1::GetChannelResponse>, Status> {
        let broker = access(&request)?;
        let info = broker.channel(&request.get_ref().name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::GetChannelResponse { channel: Some(info.to_proto()) }))
    }

    async fn update_channel(
        &self,
        request: Request<v1::UpdateChannelRequest>,
    ) -> Result<Response<v1::UpdateChannelResponse>, Status> {
        let broker = access(&request)?;
        let dry_run = request.get_ref().dry_run;
        let (name, update) = update_of(request.into_inner()).map_err(|error| to_status(&error))?;
        let removes = match update.retention.as_ref().filter(|_| dry_run) {
            Some(retention) => broker.would_remove(&name, retention).await.map_err(|error| to_status(&error))?,
            None => 0,
        };
        let (info, incompatibilities) = if dry_run {
            broker.try_update_channel(&name, update.schema.as_deref(), update.compatibility).await
        } else {
            broker.update_channel(&name, update).await.map(|info| (info, Vec::new()))
        }
        .map_err(|error| to_status(&error))?;
        let incompatibilities = incompatibilities.iter().map(detail).collect();
        Ok(Response::new(v1::UpdateChannelResponse { channel: Some(info.to_proto()), incompatibilities, removes }))
    }

    async fn list_schemas(
        &self,
        request: Request<v1::ListSchemasRequest>,
    ) -> Result<Response<v1::ListSchemasResponse>, Status> {
        let broker = access(&request)?;
        let v1::ListSchemasRequest { channel, after_id, limit } = request.into_inner();
        let page = broker.schemas_after(&channel, after_id, limit as usize).await;
        let (schemas, next_after_id) = page.map_err(|error| to_status(&error))?;
        let schemas = schemas.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListSchemasResponse { schemas, next_after_id }))
    }

    async fn validate_history(
        &self,
        request: Request<v1::ValidateHistoryRequest>,
    ) -> Result<Response<v1::ValidateHistoryResponse>, Status> {
        let broker = access(&request)?;
        let v1::ValidateHistoryRequest { channel, schema, start, limit } = request.into_inner();
        let start = start_of(start, Start::Earliest);
        let report = broker.validate_history(&channel, &schema, start, limit).await;
        let report = report.map_err(|error| to_status(&error))?;
        let sample = |(seq, violations): &(u64, Vec<Violation>)| v1::InvalidMessage {
            seq: *seq,
            violations: violations.iter().map(detail).collect(),
        };
        Ok(Response::new(v1::ValidateHistoryResponse {
            checked: report.checked,
            invalid: report.invalid,
            first_seq: report.first_seq,
            next_seq: report.next_seq,
            end_seq: report.end_seq,
            samples: report.samples.iter().map(sample).collect(),
        }))
    }

    async fn delete_channel(
        &self,
        request: Request<v1::DeleteChannelRequest>,
    ) -> Result<Response<v1::DeleteChannelResponse>, Status> {
        let broker = access(&request)?;
        broker.delete_channel(&request.get_ref().name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::DeleteChannelResponse {}))
    }

    async fn put_rule(&self, request: Request<v1::PutRuleRequest>) -> Result<Response<v1::PutRuleResponse>, Status> {
        let broker = access(&request)?;
        let v1::Rule { source, target, predicate } = request.into_inner().rule.unwrap_or_default();
        let rule = broker.put_rule(&source, &target, Some(&predicate)).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::PutRuleResponse { rule: Some(rule.to_proto()) }))
    }

    async fn delete_rule(
        &self,
        request: Request<v1::DeleteRuleRequest>,
    ) -> Result<Response<v1::DeleteRuleResponse>, Status> {
        let broker = access(&request)?;
        let v1::DeleteRuleRequest { source, target } = request.into_inner();
        let rule = broker.delete_rule(&source, &target).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::DeleteRuleResponse { rule: Some(rule.to_proto()) }))
    }

    async fn list_rules(
        &self,
        request: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let broker = access(&request)?;
        let rules = broker.rules().await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::ListRulesResponse { rules: rules.iter().map(RuleInfo::to_proto).collect() }))
    }

    async fn trim_channel(
        &self,
        request: Request<v1::TrimChannelRequest>,
    ) -> Result<Response<v1::TrimChannelResponse>, Status> {
        let broker = access(&request)?;
        let v1::TrimChannelRequest { name, keep } = request.into_inner();
        let nothing = || BrokerError::InvalidArgument { reason: "a trim has to say which messages stay".into() };
        let trim = match keep.ok_or_else(nothing).map_err(|error| to_status(&error))? {
            v1::trim_channel_request::Keep::FromSeq(seq) => Trim::To(seq),
            v1::trim_channel_request::Keep::Newest(messages) => Trim::Keep(messages),
            v1::trim_channel_request::Keep::LastMs(age_ms) => Trim::OlderThan(age_ms),
        };
        let first_seq = broker.trim_channel(&name, trim).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::TrimChannelResponse { first_seq }))
    }

    async fn list_delayed(
        &self,
        request: Request<v1::ListDelayedRequest>,
    ) -> Result<Response<v1::ListDelayedResponse>, Status> {
        let broker = access(&request)?;
        let v1::ListDelayedRequest { channel, after_id, limit } = request.into_inner();
        let page = broker.delayed_messages(&channel, after_id, limit as usize).await;
        let DelayedPage { messages, next_after } = page.map_err(|error| to_status(&error))?;
        let messages = messages.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListDelayedResponse { messages, next_after_id: next_after }))
    }

    async fn withdraw_delayed(
        &self,
        request: Request<v1::WithdrawDelayedRequest>,
    ) -> Result<Response<v1::WithdrawDelayedResponse>, Status> {
        let broker = access(&request)?;
        let v1::WithdrawDelayedRequest { channel, id } = request.into_inner();
        let withdrawn = broker.withdraw_delayed(&channel, id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::WithdrawDelayedResponse { withdrawn }))
    }
}

fn config_of(config: v1::ChannelConfig) -> Result<ChannelConfig, BrokerError> {
    let durability = match config.durability() {
        v1::Durability::Ephemeral => Durability::Ephemeral,
        v1::Durability::Durable | v1::Durability::Unspecified => Durability::Durable,
    };
    let comparison = match config.comparison() {
        v1::Comparison::CanonicalJson => Comparison::CanonicalJson,
        v1::Comparison::Bytes | v1::Comparison::Unspecified => Comparison::Bytes,
    };
    Ok(ChannelConfig {
        durability,
        comparison,
        compatibility: compatibility_of(config.compatibility()),
        dedup_window_ms: match config.dedup_window_ms {
            0 => ChannelConfig::DEFAULT_DEDUP_WINDOW_MS,
            window => window,
        },
        retention: config.retention.map(retention_of).unwrap_or_default(),
        quarantine: quarantine_of(&config.quarantine)?,
        quota: config.quota.map(quota_of).unwrap_or_default(),
        schema: (!config.schema.is_empty()).then_some(config.schema),
    })
}

fn update_of(request: v1::UpdateChannelRequest) -> Result<(String, ChannelUpdate), BrokerError> {
    let update = ChannelUpdate {
        compared_with: None,
        compatibility: request.compatibility.is_some().then(|| compatibility_of(request.compatibility())),
        retention: request.retention.map(retention_of),
        quarantine: request.quarantine.as_deref().map(quarantine_of).transpose()?,
        quota: request.quota.map(quota_of),
        schema: request.schema,
        dedup_window_ms: request.dedup_window_ms,
    };
    Ok((request.name, update))
}

fn compatibility_of(compatibility: v1::Compatibility) -> Compatibility {
    match compatibility {
        v1::Compatibility::Backward | v1::Compatibility::Unspecified => Compatibility::Backward,
        v1::Compatibility::Forward => Compatibility::Forward,
        v1::Compatibility::Full => Compatibility::Full,
        v1::Compatibility::None => Compatibility::None,
    }
}

fn retention_of(retention: v1::Retention) -> Retention {
    let when_full = match retention.when_full() {
        v1::WhenFull::DropOldest | v1::WhenFull::Unspecified => WhenFull::DropOldest,
        v1::WhenFull::RefuseNew => WhenFull::RefuseNew,
    };
    let v1::Retention { max_messages, max_bytes, max_age_ms, work_queue, compact_by, .. } = retention;
    let compact_by = Some(compact_by).filter(|header| !header.is_empty());
    Retention { max_messages, max_bytes, max_age_ms, when_full, work_queue, compact_by }
}

fn quarantine_of(name: &str) -> Result<Option<ChannelName>, BrokerError> {
    let invalid = |error: InvalidName| BrokerError::InvalidChannelName { reason: error.to_string() };
    Some(name).filter(|name| !name.is_empty()).map(|name| name.parse().map_err(invalid)).transpose()
}

fn quota_of(quota: v1::Quota) -> Quota {
    let v1::Quota { messages_per_second, bytes_per_second } = quota;
    Quota { messages_per_second, bytes_per_second }
}
