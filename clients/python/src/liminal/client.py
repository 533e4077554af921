"""The client: what a program holds for as long as it talks to a cluster."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from ._address import authorities, servers_of
from ._claims import Claims
from ._consumer import Consumer, Delivery, delivery_of
from ._error import LiminalError, malformed, of_proto, refused
from ._management import Management
from ._pool import TLS, Options, Pool, Token
from ._proto import broker_pb2 as pb
from ._proto import consumers_pb2 as consumers
from ._publisher import Publisher, PublisherOptions
from ._subscription import Request, Subscription
from ._transaction import Transaction
from ._types import (
    IF_CHANGED,
    Confirm,
    IfChanged,
    Message,
    MessageLike,
    Notice,
    Page,
    Position,
    Receipt,
    Received,
    Start,
    start_to_proto,
    to_ms,
    unpack,
)

# How much longer than the server a client waits for an answer that the server itself waits for, in seconds.
GRACE = 5.0


@dataclass(frozen=True)
class Pulled:
    """Deliveries for who keeps no stream. Each is settled with its own `ack`, `nack` and `extend`, or many at once with
    `Client.settle`."""

    deliveries: tuple[Delivery, ...]
    notice: Notice | None


class Client(Management):
    """A client of a cluster. Give it the addresses of several nodes, so that it can go on when one is lost.

        async with Client("n1:7101,n2:7101,n3:7101") as client:
            receipt = await client.publish("orders", b'{"id":7}', key="order-7")

    Nothing is connected before the first call. Without servers it takes those of LIMINAL_SERVER, or those of a cluster on this
    machine; without a token that of LIMINAL_TOKEN. One client serves any number of tasks of one event loop.
    """

    def __init__(
        self,
        servers: str | Iterable[str] | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: TLS | None = None,
        retry_for: float = 30.0,
        connect_timeout: float = 2.0,
        answer_timeout: float = 10.0,
    ) -> None:
        """
        :param servers: `host:port` of nodes, as a list or with commas. With `https://` they are spoken to over TLS.
        :param token: the token to send. Better: `token_file`, which is read again when it changes.
        :param tls: the certificates for TLS; also says that servers without a scheme are spoken to over TLS.
        :param retry_for: for how many seconds a call is tried again, as far as that is safe.
        :param connect_timeout: how many seconds a connection may take.
        :param answer_timeout: how many seconds a node may take to answer.
        """
        addresses, encrypted = authorities(servers_of(servers), tls is not None)
        if tls is not None and not encrypted:
            raise refused("certificates are given, and the servers are http://", help="write https://")
        credentials = (tls or TLS()).credentials() if encrypted else None
        options = Options(Token(token, token_file), credentials, retry_for, connect_timeout, answer_timeout)
        self._pool = Pool(addresses, options)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections. Close publishers, subscriptions and consumers first."""
        await self._pool.close()

    async def publish(
        self,
        channel: str,
        message: MessageLike,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        confirm: Confirm = Confirm.DELIVERY,
        expected_seq: int | None = None,
    ) -> Receipt:
        """Publishes one message. A message with a key is sent again until its outcome is known; one without a key is not sent
        again once it may have been stored, and the error says `outcome_unknown`. With `expected_seq` it is refused with
        `WrongSeq` unless it gets this sequence number.

        For many messages a `publisher` is far faster.
        """
        proto = Message.of(message, key, headers)._proto()
        request = pb.PublishRequest(
            channel=channel,
            message=proto,
            confirm=confirm.value,  # type: ignore[arg-type]
            expected_seq=expected_seq,
        )
        response: pb.PublishResponse = await self._pool.call(
            lambda link: link.broker.Publish, request, leader=True, safe=proto.HasField("key")
        )
        return Receipt._of(response)

    def publisher(self, channel: str, options: PublisherOptions = PublisherOptions()) -> Publisher:
        """Publishes many messages over one stream, in batches."""
        return Publisher(self._pool, channel, options)

    def subscribe(
        self,
        channel: str,
        start: Start = "latest",
        *,
        filter: str = "",
        if_changed: IfChanged | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> Subscription:
        """Follows a channel. `filter` is a predicate: only messages for which it holds travel.

        What happens when the history behind the subscription has changed is `if_changed`. Unless said it is told, and goes on;
        but a sequence number that is not there is refused. Told means: `on_notice` is called, or `HistoryChanged` is raised
        where there is none.
        """
        return Subscription(self._pool, Request(channel, start, filter, if_changed), on_notice)

    async def read(
        self,
        channel: str,
        start: Start = "earliest",
        *,
        limit: int = 0,
        local: bool = False,
        min_seq: int | None = None,
        if_changed: IfChanged | None = None,
    ) -> Page:
        """A page of stored messages: at most `limit`, or as many as fit when it is 0. `local` reads what the node that answers
        has applied, which works without a majority; `min_seq` waits until it has applied that sequence number."""
        request = pb.ReadRequest(
            channel=channel,
            start=start_to_proto(start),
            limit=limit,
            consistency=pb.READ_LOCAL if local else pb.READ_LINEARIZABLE,
            min_seq=min_seq,
            if_changed=IF_CHANGED[if_changed],  # type: ignore[arg-type]
        )
        response: pb.ReadResponse = await self._pool.call(lambda link: link.broker.Read, request)
        messages: list[Received] = []
        for delivery in response.deliveries:
            messages.extend(unpack(channel, delivery, 0))
        return Page(
            messages=tuple(messages),
            next=Position._of(response.next) if response.HasField("next") else None,
            next_seq=response.next_seq,
            first_seq=response.first_seq,
            end_seq=response.end_seq,
            notice=Notice._of(channel, response.notice) if response.HasField("notice") else None,
        )

    def consumer(self, channel: str, name: str, *, credit: int = 100) -> Consumer:
        """A member of a consumer's group, with at most `credit` messages that are not settled."""
        return Consumer(self._pool, channel, name, credit)

    async def pull(self, channel: str, consumer: str, *, max: int = 1, wait: float = 0.0) -> Pulled:
        """Some messages for who keeps no stream; waits up to `wait` seconds for the first one. It is not tried again once
        messages may have been handed out: those come again after the ack timeout."""
        request = consumers.PullRequest(channel=channel, consumer=consumer, max=max, wait_ms=to_ms(wait))
        response: consumers.PullResponse = await self._pool.call(
            lambda link: link.consumers.Pull,
            request,
            leader=True,
            safe=False,
            within=wait + self._pool.options.answer_timeout,
        )

        async def settle_one(settlement: consumers.Settlement) -> None:
            (error,) = await self._settle(channel, consumer, [settlement])
            if error is not None:
                raise error

        notice = Notice._of(channel, response.notice) if response.HasField("notice") else None
        found = (delivery_of(channel, consumer, one, None, settle_one) for one in response.deliveries)
        return Pulled(tuple(found), notice)

    async def settle(self, deliveries: Sequence[Delivery]) -> list[LiminalError | None]:
        """Acknowledges deliveries of one consumer in one call. One answer for each: None, or why it does not count."""
        if not deliveries:
            return []
        channel, consumer = deliveries[0].channel, deliveries[0].consumer
        if any((one.channel, one.consumer) != (channel, consumer) for one in deliveries):
            raise refused("the deliveries are not all of one consumer", help="settle those of each consumer together")
        acks = [consumers.Settlement(token=one.token, verdict=consumers.VERDICT_ACK) for one in deliveries]
        return await self._settle(channel, consumer, acks)

    async def _settle(
        self, channel: str, consumer: str, settlements: list[consumers.Settlement]
    ) -> list[LiminalError | None]:
        request = consumers.SettleRequest(channel=channel, consumer=consumer, settlements=settlements)
        response: consumers.SettleResponse = await self._pool.call(
            lambda link: link.consumers.Settle, request, leader=True
        )
        if len(response.results) != len(settlements):
            raise malformed("list of answers to settlements")
        return [of_proto(result.error) if result.HasField("error") else None for result in response.results]

    def claims(self, namespace: str, *, name: str = "") -> Claims:
        """The claims of a namespace; `name` says who takes them, for people who look at them."""
        return Claims(self._pool, namespace, name)

    def transaction(self, *, confirm: Confirm = Confirm.DELIVERY) -> Transaction:
        """Begins a transaction. Nothing is sent before its `commit`."""
        return Transaction(self._pool, confirm)

    async def request(self, channel: str, message: MessageLike, *, timeout: float = 5.0) -> Message:
        """Publishes a message and waits for the reply of whoever handles it. `NoResponders` at once when nobody listens;
        `ReplyTimeout` when no reply came in time. It is not tried again once it may have been handled."""
        request = pb.RequestRequest(
            channel=channel, message=Message.of(message)._proto(), timeout_ms=to_ms(timeout, 1)
        )
        response: pb.RequestResponse = await self._pool.call(
            lambda link: link.broker.Request, request, safe=False, within=timeout + GRACE
        )
        return Message._of(response.message)

    async def reply(self, request: Received | Delivery | str, message: MessageLike) -> None:
        """Answers a request: the message that was received, or its inbox. `InboxGone` when nobody waits for the reply any
        more."""
        if isinstance(request, Delivery):
            request = request.received
        inbox = request if isinstance(request, str) else request.reply_to
        if not inbox:
            raise refused("the message is no request: it does not say where a reply would go")
        proto = pb.ReplyRequest(inbox=inbox, message=Message.of(message)._proto())
        await self._pool.call(lambda link: link.broker.Reply, proto, safe=False)

    async def respond(
        self, channel: str, handler: Callable[[Received], Awaitable[MessageLike]], *, start: Start = "latest"
    ) -> None:
        """Answers the requests of a channel, one after the other, until it is cancelled. Messages that are no requests are
        passed over; a reply that nobody waits for any more is dropped."""
        async with self.subscribe(channel, start, on_notice=lambda notice: None) as messages:
            async for received in messages:
                if received.reply_to is None:
                    continue
                answer = await handler(received)
                try:
                    await self.reply(received, answer)
                except LiminalError as error:
                    if error.code != "INBOX_GONE":
                        raise
