//! The calls with one answer: managing consumers.

use std::time::Duration;

use tonic::Status;

use super::Consumer;
use crate::{
    Client,
    error::ClientError,
    message::{Start, malformed},
    pool::{MAX_ANSWER, Prefer},
    retry::Repeat,
    types::{
        ConsumerConfig, ConsumerState, DeadLetterPage, DeadLetterSelection, Redrive, Redriven, UpdateConsumer,
        via::list::from as list_of,
    },
};
use liminal_wire::v1::{
    self, CreateConsumerRequest, DeleteConsumerRequest, GetConsumerRequest, ListConsumersRequest,
    ListDeadLettersRequest, ResetConsumerRequest, consumers_client::ConsumersClient,
};

/// How long one call of a redrive may take: it goes on for some seconds, and then waits for what is under way.
const REDRIVE: Duration = Duration::from_secs(30);

impl Client {
    /// A member of a consumer's group, which does nothing yet: see [`Consumer::run`] and [`Consumer::open`].
    pub fn consumer(&self, channel: impl Into<String>, name: impl Into<String>) -> Consumer {
        Consumer::new(self.pool.clone(), channel.into(), name.into())
    }

    /// Creates a consumer. The same name with the same configuration is no error, and leaves it where it is.
    ///
    /// ```no_run
    /// use liminal_client::{Client, ConsumerConfig, Start};
    ///
    /// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
    /// let config = ConsumerConfig::new().max_attempts(5).dead_letter("orders.dead".to_owned());
    /// let consumer = client.create_consumer("orders", "billing", config, Start::Earliest).await?;
    /// println!("{} behind", consumer.lag);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the name cannot be used or is taken by a consumer with another configuration.
    pub async fn create_consumer(
        &self,
        channel: &str,
        name: &str,
        config: ConsumerConfig,
        start: Start,
    ) -> Result<ConsumerState, ClientError> {
        let request = CreateConsumerRequest {
            channel: channel.to_owned(),
            name: name.to_owned(),
            config: Some(config.into()),
            start: Some(start.into()),
        };
        let create = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).create_consumer(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::Safe, create).await?;
        response.consumer.map(ConsumerState::from).ok_or_else(|| malformed("consumer"))
    }

    /// The consumers of a channel by name.
    ///
    /// # Errors
    /// When the channel does not exist.
    pub async fn list_consumers(&self, channel: &str) -> Result<Vec<ConsumerState>, ClientError> {
        let list = |link, after| async move {
            let request = ListConsumersRequest { channel: channel.to_owned(), after, limit: 0 };
            let page = ConsumersClient::new(link).max_decoding_message_size(MAX_ANSWER).list_consumers(request).await?;
            Ok::<_, Status>(page.map(|page| (page.consumers, page.next_after)))
        };
        Ok(list_of(self.pool.all_pages(list).await?))
    }

    /// One consumer, and how far it is.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn consumer_status(&self, channel: &str, name: &str) -> Result<ConsumerState, ClientError> {
        let get = |link| {
            let request = GetConsumerRequest { channel: channel.to_owned(), name: name.to_owned() };
            async move { ConsumersClient::new(link).get_consumer(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, get).await?;
        response.consumer.map(ConsumerState::from).ok_or_else(|| malformed("consumer"))
    }

    /// Changes a consumer: absent fields stay as they are.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn update_consumer(&self, request: UpdateConsumer) -> Result<ConsumerState, ClientError> {
        let request = v1::UpdateConsumerRequest::from(request);
        let update = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).update_consumer(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, update).await?;
        response.consumer.map(ConsumerState::from).ok_or_else(|| malformed("consumer"))
    }

    /// Has a consumer forget what is pending, and go on elsewhere.
    ///
    /// # Errors
    /// When it does not exist, or `start` is no longer stored.
    pub async fn reset_consumer(&self, channel: &str, name: &str, start: Start) -> Result<ConsumerState, ClientError> {
        let request =
            ResetConsumerRequest { channel: channel.to_owned(), name: name.to_owned(), start: Some(start.into()) };
        let reset = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).reset_consumer(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, reset).await?;
        response.consumer.map(ConsumerState::from).ok_or_else(|| malformed("consumer"))
    }

    /// Deletes a consumer with its cursor.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn delete_consumer(&self, channel: &str, name: &str) -> Result<(), ClientError> {
        let request = DeleteConsumerRequest { channel: channel.to_owned(), name: name.to_owned() };
        let delete = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).delete_consumer(request).await }
        };
        self.pool.call(Prefer::Leader, Repeat::OnlyIfNothingHappened, delete).await?;
        Ok(())
    }

    /// Some dead letters of a consumer. The next page begins at the answer's `next_seq`.
    ///
    /// # Errors
    /// When the consumer does not exist, or keeps no letters.
    pub async fn dead_letters(&self, selection: DeadLetterSelection) -> Result<DeadLetterPage, ClientError> {
        let selection = v1::DeadLetterSelection::from(selection);
        let list = |link| {
            let request = ListDeadLettersRequest { selection: Some(selection.clone()) };
            async move { ConsumersClient::new(link).max_decoding_message_size(MAX_ANSWER).list_dead_letters(request).await }
        };
        Ok(self.pool.call(Prefer::Any, Repeat::Safe, list).await?.0.into())
    }

    /// Sends dead letters of a consumer to another channel, a bounded number at a time: call again with the answer's
    /// `next_seq` until it is `done`. A letter is moved once, whatever becomes of an answer.
    ///
    /// ```no_run
    /// use liminal_client::{Client, DeadLetterSelection, Redrive};
    ///
    /// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
    /// let mut selection = DeadLetterSelection::new().channel("orders").consumer("billing");
    /// loop {
    ///     let redriven = client.redrive(Redrive::new().selection(selection.clone())).await?;
    ///     println!("{} moved, {} refused", redriven.moved, redriven.refused);
    ///     if redriven.done || redriven.stopped.is_some() {
    ///         return Ok(());
    ///     }
    ///     selection.from_seq = redriven.next_seq;
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the consumer or the target does not exist. Where the outcome is unknown, letters may have been moved; those that
    /// were not are there still, so the same call may be made again.
    pub async fn redrive(&self, request: Redrive) -> Result<Redriven, ClientError> {
        let request = v1::RedriveRequest::from(request);
        let redrive = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).redrive(request).await }
        };
        Ok(self.pool.call_within(REDRIVE, Prefer::Leader, Repeat::OnlyIfNothingHappened, redrive).await?.0.into())
    }
}
