//! Channel management.

use tonic::{Request, Response, Status};

use super::{Service, status::detail, subscribing::start_of, to_status};
use crate::{
    broker::{ChannelInfo, Compatibility, Start, Violation},
    model::{ChannelConfig, Durability},
    proto::v1::{self, channels_server::Channels},
};

#[tonic::async_trait]
impl Channels for Service {
    async fn create_channel(
        &self,
        request: Request<v1::CreateChannelRequest>,
    ) -> Result<Response<v1::CreateChannelResponse>, Status> {
        let v1::CreateChannelRequest { name, config } = request.into_inner();
        let config = config_of(config.unwrap_or_default());
        let info = self.broker.create_channel(&name, config).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::CreateChannelResponse { channel: Some(info.to_proto()) }))
    }

    async fn list_channels(
        &self,
        _: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let channels = self.broker.channels().await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::ListChannelsResponse { channels: channels.iter().map(ChannelInfo::to_proto).collect() }))
    }

    async fn get_channel(
        &self,
        request: Request<v1::GetChannelRequest>,
    ) -> Result<Response<v1::GetChannelResponse>, Status> {
        let info = self.broker.channel(&request.get_ref().name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::GetChannelResponse { channel: Some(info.to_proto()) }))
    }

    async fn update_channel(
        &self,
        request: Request<v1::UpdateChannelRequest>,
    ) -> Result<Response<v1::UpdateChannelResponse>, Status> {
        let v1::UpdateChannelRequest { name, schema, dedup_window_ms, dry_run } = request.into_inner();
        let mode = Compatibility::default();
        let (info, incompatibilities) = if dry_run {
            self.broker.try_update_channel(&name, schema.as_deref(), mode).await
        } else {
            self.broker.update_channel(&name, schema, dedup_window_ms, mode).await.map(|info| (info, Vec::new()))
        }
        .map_err(|error| to_status(&error))?;
        let incompatibilities = incompatibilities.iter().map(detail).collect();
        Ok(Response::new(v1::UpdateChannelResponse { channel: Some(info.to_proto()), incompatibilities }))
    }

    async fn validate_history(
        &self,
        request: Request<v1::ValidateHistoryRequest>,
    ) -> Result<Response<v1::ValidateHistoryResponse>, Status> {
        let v1::ValidateHistoryRequest { channel, schema, start, limit } = request.into_inner();
        let start = start_of(start, Start::Earliest);
        let report = self.broker.validate_history(&channel, &schema, start, limit).await;
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
        self.broker.delete_channel(&request.get_ref().name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::DeleteChannelResponse {}))
    }
}

fn config_of(config: v1::ChannelConfig) -> ChannelConfig {
    let durability = match config.durability() {
        v1::Durability::Ephemeral => Durability::Ephemeral,
        v1::Durability::Durable | v1::Durability::Unspecified => Durability::Durable,
    };
    let dedup_window_ms = match config.dedup_window_ms {
        0 => ChannelConfig::DEFAULT_DEDUP_WINDOW_MS,
        window => window,
    };
    ChannelConfig { durability, schema: (!config.schema.is_empty()).then_some(config.schema), dedup_window_ms }
}
