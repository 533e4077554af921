//! The calls with one answer: publishing a single message, reading, managing channels, looking at the cluster.

use std::time::Duration;

use tonic::Status;

use super::{
    Client,
    error::{ClientError, ErrorDetail},
    message::{Consistency, Message, Page, Start, malformed},
    pool::{MAX_ANSWER, Prefer},
    retry::Repeat,
};
use crate::types::{
    BackupPart, Channel, ChannelConfig, ClusterEvent, ClusterStatus, DelayedPage, HistoryReport, Keep, Rule,
    SchemaVersion, Scrub, Snapshot, UpdateChannel, Verified, via::list::from as list_of,
};
use crate::{requests::Publish, streams::Progress};
use liminal_wire::v1::{
    self, BackupRequest, ClusterStatusRequest, CreateChannelRequest, DeleteChannelRequest, DeleteRuleRequest,
    GetChannelRequest, JoinNodeRequest, ListChannelsRequest, ListDelayedRequest, ListEventsRequest, ListRulesRequest,
    ListSchemasRequest, PromoteNodeRequest, PutRuleRequest, ReadRequest, RemoveNodeRequest, SnapshotRequest,
    TransferLeadershipRequest, TrimChannelRequest, UpdateChannelRequest, ValidateHistoryRequest, VerifyDeepRequest,
    VerifyRequest, WithdrawDelayedRequest, admin_client::AdminClient, broker_client::BrokerClient,
    channels_client::ChannelsClient,
};

/// How long the nodes may take to make their state durable.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// Publishes one message; the ack says whether a live subscriber was handed it. For many messages a
    /// [`Publisher`](super::Publisher) is far faster.
    ///
    /// # Errors
    /// When the message was refused, or when there was no certainty before the deadline for retries. A message
    /// without a key is not tried again once it may have been stored.
    ///
    /// ```no_run
    /// use liminal_client::{Client, Confirm, Message};
    ///
    /// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
    /// let message = Message::new("{}").with_key("order-7");
    /// let published = client.publish("orders", message).confirm(Confirm::Commit).expected_seq(7).await?;
    /// # drop(published);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish(&self, channel: impl Into<String>, message: Message) -> Publish<'_> {
        Publish::new(self, channel.into(), message)
    }

    /// Reads stored messages: at most `limit`, or as many as fit a page when it is 0.
    ///
    /// # Errors
    /// When the channel does not exist or stores nothing, or `start` is not in its history; from a [`Start::Position`] the
    /// page says so itself.
    pub async fn read(
        &self,
        channel: &str,
        start: Start,
        limit: u32,
        consistency: Consistency,
    ) -> Result<Page, ClientError> {
        let request = ReadRequest {
            channel: channel.to_owned(),
            start: Some(start.into()),
            limit,
            consistency: v1::ReadConsistency::from(consistency).into(),
            min_seq: None,
            if_changed: 0,
        };
        let read = |link| {
            let request = request.clone();
            async move { BrokerClient::new(link).max_decoding_message_size(MAX_ANSWER).read(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, read).await?;
        Page::from_proto(channel, response)
    }

    /// Creates a channel. The same name with the same configuration is no error.
    ///
    /// # Errors
    /// When the name cannot be used or is taken, or the schema cannot be used.
    pub async fn create_channel(&self, name: &str, config: ChannelConfig) -> Result<Channel, ClientError> {
        let request = CreateChannelRequest { name: name.to_owned(), config: Some(config.into()) };
        let create = |link| {
            let request = request.clone();
            async move { ChannelsClient::new(link).create_channel(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::Safe, create).await?;
        response.channel.map(Channel::from).ok_or_else(|| malformed("channel"))
    }

    /// All channels by name.
    ///
    /// # Errors
    /// When no node can answer.
    pub async fn list_channels(&self) -> Result<Vec<Channel>, ClientError> {
        let list = |link, after| async move {
            let request = ListChannelsRequest { after, limit: 0 };
            let page = ChannelsClient::new(link).max_decoding_message_size(MAX_ANSWER).list_channels(request).await?;
            Ok::<_, Status>(page.map(|page| (page.channels, page.next_after)))
        };
        Ok(list_of(self.pool.all_pages(list).await?))
    }

    /// One channel.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn channel(&self, name: &str) -> Result<Channel, ClientError> {
        let get = |link| {
            let request = GetChannelRequest { name: name.to_owned() };
            async move { ChannelsClient::new(link).get_channel(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, get).await?;
        response.channel.map(Channel::from).ok_or_else(|| malformed("channel"))
    }

    /// Changes a channel: absent fields stay as they are, an empty schema removes it.
    ///
    /// # Errors
    /// When it does not exist, or the schema cannot be used.
    pub async fn update_channel(&self, request: UpdateChannel) -> Result<Channel, ClientError> {
        let request = UpdateChannelRequest::from(request);
        let update = |link| {
            let request = request.clone();
            async move { ChannelsClient::new(link).update_channel(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, update).await?;
        response.channel.map(Channel::from).ok_or_else(|| malformed("channel"))
    }

    /// Adds a rule between channels, or changes its predicate.
    ///
    /// # Errors
    /// When a channel does not exist, the predicate cannot be read, or messages would go round in a circle.
    pub async fn put_rule(&self, rule: Rule) -> Result<Rule, ClientError> {
        let put = |link| {
            let request = PutRuleRequest { rule: Some(rule.clone().into()) };
            async move { ChannelsClient::new(link).put_rule(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::Safe, put).await?;
        response.rule.map(Rule::from).ok_or_else(|| malformed("rule"))
    }

    /// Removes a rule between channels.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_rule(&self, source: &str, target: &str) -> Result<Rule, ClientError> {
        let delete = |link| {
            let request = DeleteRuleRequest { source: source.to_owned(), target: target.to_owned() };
            async move { ChannelsClient::new(link).delete_rule(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, delete).await?;
        response.rule.map(Rule::from).ok_or_else(|| malformed("rule"))
    }

    /// All rules between channels, by source and target.
    ///
    /// # Errors
    /// When no node can answer.
    pub async fn rules(&self) -> Result<Vec<Rule>, ClientError> {
        let list = |link| async move { ChannelsClient::new(link).list_rules(ListRulesRequest {}).await };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, list).await?;
        Ok(list_of(response.rules))
    }

    /// Why a schema could not take the place of the channel's; nothing when it could. Changes nothing.
    ///
    /// # Errors
    /// When the channel does not exist, or the schema cannot be used.
    pub async fn compare_schema(&self, name: &str, schema: String) -> Result<Vec<ErrorDetail>, ClientError> {
        let request = UpdateChannelRequest {
            name: name.to_owned(),
            schema: Some(schema),
            dry_run: true,
            ..UpdateChannelRequest::default()
        };
        let update = |link| {
            let request = request.clone();
            async move { ChannelsClient::new(link).max_decoding_message_size(MAX_ANSWER).update_channel(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, update).await?;
        let places = response.incompatibilities.into_iter();
        Ok(places.map(|place| ErrorDetail { pointer: place.pointer, message: place.message }).collect())
    }

    /// About how many messages would go at once under the limits of an update. Changes nothing.
    ///
    /// # Errors
    /// When the channel does not exist, or the limits cannot be kept.
    pub async fn would_remove(&self, request: UpdateChannel) -> Result<u64, ClientError> {
        let request = UpdateChannelRequest { dry_run: true, ..request.into() };
        let update = |link| {
            let request = request.clone();
            async move { ChannelsClient::new(link).max_decoding_message_size(MAX_ANSWER).update_channel(request).await }
        };
        Ok(self.pool.call(Prefer::Any, Repeat::Safe, update).await?.0.removes)
    }

    /// The schemas that a channel has, or has had, oldest first; the last 100 are kept.
    ///
    /// # Errors
    /// When the channel does not exist.
    pub async fn schemas(&self, channel: &str) -> Result<Vec<SchemaVersion>, ClientError> {
        let list = |link, after_id| async move {
            let request = ListSchemasRequest { channel: channel.to_owned(), after_id, limit: 0 };
            let page = ChannelsClient::new(link).max_decoding_message_size(MAX_ANSWER).list_schemas(request).await?;
            Ok::<_, Status>(page.map(|page| (page.schemas, page.next_after_id)))
        };
        Ok(list_of(self.pool.all_pages(list).await?))
    }

    /// Checks stored messages against a schema that the channel does not have: at most `limit`, or all when it is 0.
    /// A call looks for about a second; go on from `next_seq` where that is below `end_seq`. Changes nothing.
    ///
    /// # Errors
    /// When the channel does not exist or stores nothing, the schema cannot be used, or `start` is no longer stored.
    pub async fn validate_history(
        &self,
        channel: &str,
        schema: &str,
        start: Start,
        limit: u64,
    ) -> Result<HistoryReport, ClientError> {
        let request = ValidateHistoryRequest {
            channel: channel.to_owned(),
            schema: schema.to_owned(),
            start: Some(start.into()),
            limit,
        };
        let validate = |link| {
            let request = request.clone();
            async move { ChannelsClient::new(link).max_decoding_message_size(MAX_ANSWER).validate_history(request).await }
        };
        Ok(self.pool.call(Prefer::Any, Repeat::Safe, validate).await?.0.into())
    }

    /// Deletes a channel with all that it holds.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn delete_channel(&self, name: &str) -> Result<(), ClientError> {
        let delete = |link| {
            let request = DeleteChannelRequest { name: name.to_owned() };
            async move { ChannelsClient::new(link).delete_channel(request).await }
        };
        self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, delete).await?;
        Ok(())
    }

    /// Removes the oldest messages of a channel; gives the first sequence number that is left.
    ///
    /// # Errors
    /// When it does not exist or stores nothing, or ends before that.
    pub async fn trim_channel(&self, name: &str, keep: Keep) -> Result<u64, ClientError> {
        let trim = |link| {
            let request = TrimChannelRequest { name: name.to_owned(), keep: Some(keep.into()) };
            async move { ChannelsClient::new(link).trim_channel(request).await }
        };
        // A second time it would remove what came meanwhile.
        let repeat = if matches!(keep, Keep::FromSeq(_)) { Repeat::Safe } else { Repeat::OnlyIfNothingHappened };
        Ok(self.pool.call(Prefer::Leader, repeat, trim).await?.0.first_seq)
    }

    /// The messages of a channel that wait for their time, those with ids above `after` (0 for all), in the order of
    /// publishing: at most `limit`, or as many as fit a page when it is 0. Go on with the answer's `next_after_id`.
    ///
    /// # Errors
    /// When the channel does not exist.
    pub async fn delayed(&self, channel: &str, after: u64, limit: u32) -> Result<DelayedPage, ClientError> {
        let request = ListDelayedRequest { channel: channel.to_owned(), after_id: after, limit };
        let list = |link| {
            let request = request.clone();
            async move { ChannelsClient::new(link).max_decoding_message_size(MAX_ANSWER).list_delayed(request).await }
        };
        Ok(self.pool.call(Prefer::Any, Repeat::Safe, list).await?.0.into())
    }

    /// Takes back a message that waits for its time: nobody will see it. Says whether it still waited. Its idempotency key
    /// is free from then on: a retry of its publish that comes later waits anew.
    ///
    /// # Errors
    /// When the channel does not exist; `OUTCOME_UNKNOWN` when it may have been withdrawn: the list says.
    pub async fn withdraw_delayed(&self, channel: &str, id: u64) -> Result<bool, ClientError> {
        let withdraw = |link| {
            let request = WithdrawDelayedRequest { channel: channel.to_owned(), id };
            async move { ChannelsClient::new(link).withdraw_delayed(request).await }
        };
        // A second time it would say that the message no longer waited.
        Ok(self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, withdraw).await?.0.withdrawn)
    }

    /// The cluster as the first node that answers sees it; asks the nodes in turn.
    ///
    /// # Errors
    /// When none answers.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, ClientError> {
        let mut last = None;
        for _ in 0..self.pool.len() {
            let status = |link| async move { AdminClient::new(link).cluster_status(ClusterStatusRequest {}).await };
            match self.pool.attempt(Prefer::Any, status).await {
                Ok((response, _)) => return Ok(response.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| malformed("status")))
    }

    /// Lets a node in that had been removed and asks to come back: by its name, its id, or its address for other nodes. Says
    /// what was done.
    ///
    /// # Errors
    /// When no such node asked within the last minute.
    pub async fn join_node(&self, node: &str) -> Result<String, ClientError> {
        let request = JoinNodeRequest { node: node.to_owned() };
        let call = |link| {
            let request = request.clone();
            async move { AdminClient::new(link).join_node(request).await }
        };
        Ok(self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, call).await?.0.done)
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// When there is no such learner, or it has not caught up.
    pub async fn promote_node(&self, name: &str) -> Result<String, ClientError> {
        let request = PromoteNodeRequest { name: name.to_owned() };
        let call = |link| {
            let request = request.clone();
            async move { AdminClient::new(link).promote_node(request).await }
        };
        Ok(self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, call).await?.0.done)
    }

    /// Takes a node out of the cluster; if it leads, it hands leadership over first.
    ///
    /// # Errors
    /// When there is no such node, or too few of the others could be reached without it.
    pub async fn remove_node(&self, name: &str) -> Result<String, ClientError> {
        let request = RemoveNodeRequest { name: name.to_owned() };
        let call = |link| {
            let request = request.clone();
            async move { AdminClient::new(link).remove_node(request).await }
        };
        Ok(self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, call).await?.0.done)
    }

    /// Hands leadership to a voter; an empty name chooses the one with the newest log.
    ///
    /// # Errors
    /// When there is no such voter, or it does not take over in time.
    pub async fn transfer_leadership(&self, name: &str) -> Result<String, ClientError> {
        let request = TransferLeadershipRequest { name: name.to_owned() };
        let call = |link| {
            let request = request.clone();
            async move { AdminClient::new(link).transfer_leadership(request).await }
        };
        Ok(self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, call).await?.0.done)
    }

    /// What happened to the cluster's nodes, oldest first.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn cluster_events(&self) -> Result<Vec<ClusterEvent>, ClientError> {
        let call = |link| async move {
            AdminClient::new(link).max_decoding_message_size(MAX_ANSWER).list_events(ListEventsRequest {}).await
        };
        Ok(list_of(self.pool.call(Prefer::Any, Repeat::Safe, call).await?.0.events))
    }

    /// Makes one node's state durable and cuts its log.
    ///
    /// # Errors
    /// When the node's store fails.
    pub async fn snapshot_node(&self) -> Result<Snapshot, ClientError> {
        let call = |link| async move { AdminClient::new(link).snapshot(SnapshotRequest {}).await };
        Ok(self.pool.call(Prefer::Any, Repeat::Safe, call).await?.0.into())
    }

    /// Has all nodes hash their state at one log index.
    ///
    /// # Errors
    /// When there is no leader.
    pub async fn verify_cluster(&self) -> Result<Verified, ClientError> {
        let verify = |link| async move { AdminClient::new(link).verify(VerifyRequest {}).await };
        // The nodes fold before they hash, which may take longer than other answers.
        Ok(self.pool.call_within(VERIFY_TIMEOUT, Prefer::Any, Repeat::Safe, verify).await?.0.into())
    }

    /// Has all nodes read their whole state and log, so many bytes in a second at most (0: 64 MiB); they say how far they
    /// are until the last answer, which is `done`.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn verify_cluster_deep(&self, bytes_per_second: u64) -> Result<Progress<Scrub>, ClientError> {
        let verify =
            |link| async move { AdminClient::new(link).verify_deep(VerifyDeepRequest { bytes_per_second }).await };
        Ok(Progress::of(self.pool.call_within(VERIFY_TIMEOUT, Prefer::Any, Repeat::Safe, verify).await?))
    }

    /// The whole state of one node: a head, then pages.
    ///
    /// # Errors
    /// When the node's store fails.
    pub async fn backup(&self) -> Result<Progress<BackupPart>, ClientError> {
        let backup = |link| async move {
            AdminClient::new(link).max_decoding_message_size(MAX_ANSWER).backup(BackupRequest {}).await
        };
        Ok(Progress::of(self.pool.call_within(VERIFY_TIMEOUT, Prefer::Any, Repeat::Safe, backup).await?))
    }
}
