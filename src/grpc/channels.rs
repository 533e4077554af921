//! Channel management.

use tonic::{Request, Response, Status};

use super::{Service, to_status};
use crate::{
    broker::ChannelInfo,
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
        let v1::UpdateChannelRequest { name, schema, dedup_window_ms } = request.into_inner();
        let info = self.broker.update_channel(&name, schema, dedup_window_ms).await;
        let info = info.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::UpdateChannelResponse { channel: Some(info.to_proto()) }))
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
