//! Consuming without a stream: messages are asked for, and settled by their tokens, possibly by another process and later. For
//! programs that live as long as one message, such as shell scripts; anything else is better off with a
//! [`Consumer`](super::Consumer).

use std::time::Duration;

use crate::{
    Client,
    error::ClientError,
    message::{Received, malformed, notice_of},
    pool::{MAX_ANSWER, Prefer},
    retry::Repeat,
};
use liminal_wire::{
    Notice, Position,
    time::{duration_to_ms, from_ms},
    v1::{self, PullRequest, SettleRequest, Settlement, Verdict, consumers_client::ConsumersClient},
};

use super::Nack;

/// What an answer may take beyond the time that the call was to wait.
const ANSWER: Duration = Duration::from_secs(10);

/// A message that was handed out to whoever has its token.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pulled {
    /// By this it is settled, until the consumer's ack timeout is over.
    pub token: String,
    /// Which time it is handed out, from 1.
    pub attempt: u32,
    /// The message and its place.
    pub received: Received,
    /// Its place with the history that it is of; none from an older node.
    pub position: Option<Position>,
}

/// What a pull gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PulledMessages {
    /// The messages; none when none came in time.
    pub messages: Vec<Pulled>,
    /// What was removed before them that the consumer had not settled.
    pub notice: Option<Notice>,
}

impl Client {
    /// Asks for at most so many messages of a consumer, and waits so long for the first one.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use liminal_client::Client;
    ///
    /// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
    /// let pulled = client.pull("orders", "billing", 1, Duration::from_secs(5)).await?;
    /// for message in pulled.messages {
    ///     client.ack_pulled("orders", "billing", &message.token).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the consumer does not exist, or no node serves in time. Messages of an answer that is lost come again after the
    /// consumer's ack timeout.
    pub async fn pull(
        &self,
        channel: &str,
        consumer: &str,
        most: u32,
        wait: Duration,
    ) -> Result<PulledMessages, ClientError> {
        let request = PullRequest {
            channel: channel.to_owned(),
            consumer: consumer.to_owned(),
            max: most,
            wait_ms: duration_to_ms(wait),
        };
        let pull = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).max_decoding_message_size(MAX_ANSWER).pull(request).await }
        };
        let within = wait.saturating_add(ANSWER);
        let (response, _) = self.pool.call_within(within, Prefer::Any, Repeat::OnlyIfNothingHappened, pull).await?;
        let v1::PullResponse { deliveries, notice } = response;
        let messages = deliveries.into_iter().map(pulled).collect::<Result<_, _>>()?;
        let notice = notice.map(|notice| notice_of(channel, notice)).transpose()?;
        Ok(PulledMessages { messages, notice })
    }

    /// Done: the message of this token never comes again.
    ///
    /// # Errors
    /// `STALE_DELIVERY` when it came too late, and the message has been handed out again.
    pub async fn ack_pulled(&self, channel: &str, consumer: &str, token: &str) -> Result<(), ClientError> {
        self.settle_pulled(channel, consumer, token, Verdict::Ack, Nack::now()).await
    }

    /// The message of this token comes again, to anyone; or is dead after its last attempt.
    ///
    /// # Errors
    /// As [`Client::ack_pulled`].
    pub async fn nack_pulled(&self, channel: &str, consumer: &str, token: &str, nack: Nack) -> Result<(), ClientError> {
        self.settle_pulled(channel, consumer, token, Verdict::Nack, nack).await
    }

    /// To settle twice is to settle once, so it is tried again whatever became of it.
    async fn settle_pulled(
        &self,
        channel: &str,
        consumer: &str,
        token: &str,
        verdict: Verdict,
        Nack { delay, reason }: Nack,
    ) -> Result<(), ClientError> {
        let settlement =
            Settlement { token: token.to_owned(), verdict: verdict.into(), delay_ms: duration_to_ms(delay), reason };
        let request =
            SettleRequest { channel: channel.to_owned(), consumer: consumer.to_owned(), settlements: vec![settlement] };
        let settle = |link| {
            let request = request.clone();
            async move { ConsumersClient::new(link).settle(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, settle).await?;
        let result = response.results.into_iter().next().ok_or_else(|| malformed("settlement"))?;
        result.error.map_or(Ok(()), |error| Err(ClientError::from_proto(error)))
    }
}

fn pulled(delivery: v1::ConsumerDelivery) -> Result<Pulled, ClientError> {
    let v1::ConsumerDelivery { token, seq, attempt, time_ms, schema_id, message, position } = delivery;
    let message = message.ok_or_else(|| malformed("message"))?;
    let received = Received::new(seq, from_ms(time_ms), schema_id, message.into());
    Ok(Pulled { token, attempt, received, position: position.map(Into::into) })
}
