"""Transactions: messages for any channels, acknowledgements and completions of claims, of which all is done or nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ._claims import receipt_bytes
from ._consumer import Delivery
from ._pool import Pool
from ._proto import broker_pb2 as pb
from ._types import Confirm, Message, MessageLike, Receipt


class Transaction:
    """Nothing is sent before `commit`. The output of a message is stored exactly once if the transaction that publishes it
    acknowledges the message too."""

    def __init__(self, pool: Pool, confirm: Confirm) -> None:
        self._pool = pool
        self._request = pb.PublishTransactionRequest(confirm=confirm.value)  # type: ignore[arg-type]

    def publish(
        self,
        channel: str,
        message: MessageLike,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        expected_seq: int | None = None,
    ) -> Transaction:
        """Adds a message. All messages have an idempotency key or none has. With `expected_seq` nothing is done unless it
        gets this sequence number."""
        proto = Message.of(message, key, headers)._proto()
        self._request.messages.add(channel=channel, message=proto, expected_seq=expected_seq)
        return self

    def ack(self, delivery: Delivery) -> Transaction:
        """Acknowledges a delivery. `StaleDelivery` refuses the whole: the message has been handed out again, or is settled
        already and would get its output a second time."""
        for known in self._request.acks:
            if (known.channel, known.consumer) == (delivery.channel, delivery.consumer):
                known.tokens.append(delivery.token)
                return self
        self._request.acks.add(channel=delivery.channel, consumer=delivery.consumer, tokens=[delivery.token])
        return self

    def complete(self, namespace: str, key: str, token: int, receipt: bytes | str) -> Transaction:
        """Completes a claim under the token that was given when it was taken."""
        self._request.completions.add(namespace=namespace, key=key, token=token, receipt=receipt_bytes(receipt))
        return self

    async def commit(self) -> list[Receipt]:
        """Does all of it, or nothing; one receipt for each message, in order. With messages that have no keys it is not tried
        again once it may have been done."""
        keyed = all(one.message.HasField("key") for one in self._request.messages)
        response: pb.PublishTransactionResponse = await self._pool.call(
            lambda link: link.broker.PublishTransaction, self._request, leader=True, safe=keyed
        )
        return [Receipt._of(result) for result in response.results]
