"""The client without asyncio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

from .. import client as core
from .._admin_types import (
    Channel,
    ChannelConfig,
    ClusterStatus,
    Compatibility,
    ConsumerConfig,
    ConsumerState,
    DeadLetter,
    Delayed,
    Quota,
    Redriven,
    Retention,
    Rule,
)
from .._error import LiminalError
from .._pool import TLS
from .._publisher import PublisherOptions
from .._subscription import Subscription as AsyncSubscription
from .._types import Confirm, IfChanged, Message, MessageLike, Notice, Page, Receipt, Received, Start
from ._loop import call, loop
from ._parts import Claims, Consumer, Delivery, Publisher, Subscription, Transaction


class Client:
    """A client of a cluster: see `liminal.Client` for what its arguments and calls mean.

    with Client("n1:7101,n2:7101,n3:7101") as client:
        client.publish("orders", b'{"id":7}', key="order-7")
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
        def make() -> core.Client:
            return core.Client(
                servers,
                token=token,
                token_file=token_file,
                tls=tls,
                retry_for=retry_for,
                connect_timeout=connect_timeout,
                answer_timeout=answer_timeout,
            )

        self._inner = loop.run(call(make))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        loop.run(self._inner.close())

    def publish(
        self,
        channel: str,
        message: MessageLike,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        confirm: Confirm = Confirm.DELIVERY,
        expected_seq: int | None = None,
    ) -> Receipt:
        """Publishes one message."""
        publish = self._inner.publish(
            channel, message, key=key, headers=headers, confirm=confirm, expected_seq=expected_seq
        )
        return loop.run(publish)

    def publisher(self, channel: str, options: PublisherOptions = PublisherOptions()) -> Publisher:
        """Publishes many messages over one stream, in batches."""
        return Publisher(loop.run(call(self._inner.publisher, channel, options)))

    def subscribe(
        self,
        channel: str,
        start: Start = "latest",
        *,
        filter: str = "",
        if_changed: IfChanged | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> Subscription:
        """Follows a channel. `on_notice` is called in the loop's thread: it must not wait for this client."""

        def make() -> AsyncSubscription:
            return self._inner.subscribe(
                channel, start, filter=filter, if_changed=if_changed, on_notice=on_notice
            )

        return Subscription(loop.run(call(make)))

    def read(
        self,
        channel: str,
        start: Start = "earliest",
        *,
        limit: int = 0,
        local: bool = False,
        min_seq: int | None = None,
        if_changed: IfChanged | None = None,
    ) -> Page:
        """A page of stored messages."""
        read = self._inner.read(
            channel, start, limit=limit, local=local, min_seq=min_seq, if_changed=if_changed
        )
        return loop.run(read)

    def consumer(self, channel: str, name: str, *, credit: int = 100) -> Consumer:
        """A member of a consumer's group."""
        return Consumer(loop.run(call(lambda: self._inner.consumer(channel, name, credit=credit))))

    def pull(self, channel: str, consumer: str, *, max: int = 1, wait: float = 0.0) -> list[Delivery]:
        """Some messages for who keeps no stream."""
        pulled = loop.run(self._inner.pull(channel, consumer, max=max, wait=wait))
        return [Delivery(delivery) for delivery in pulled.deliveries]

    def settle(self, deliveries: Sequence[Delivery]) -> list[LiminalError | None]:
        """Acknowledges deliveries of one consumer in one call."""
        return loop.run(self._inner.settle([delivery.inner for delivery in deliveries]))

    def claims(self, namespace: str, *, name: str = "") -> Claims:
        """The claims of a namespace."""
        return Claims(self._inner.claims(namespace, name=name))

    def transaction(self, *, confirm: Confirm = Confirm.DELIVERY) -> Transaction:
        """Begins a transaction."""
        return Transaction(self._inner.transaction(confirm=confirm))

    def request(self, channel: str, message: MessageLike, *, timeout: float = 5.0) -> Message:
        """Publishes a message and waits for the reply of whoever handles it."""
        return loop.run(self._inner.request(channel, message, timeout=timeout))

    def reply(self, request: Received | str, message: MessageLike) -> None:
        """Answers a request."""
        loop.run(self._inner.reply(request, message))

    def create_channel(self, name: str, config: ChannelConfig = ChannelConfig()) -> Channel:
        """Creates a channel. The same name with the same configuration is no error."""
        return loop.run(self._inner.create_channel(name, config))

    def channel(self, name: str) -> Channel:
        """One channel."""
        return loop.run(self._inner.channel(name))

    def channels(self) -> list[Channel]:
        """All channels by name."""
        return loop.run(self._inner.channels())

    def update_channel(
        self,
        name: str,
        *,
        schema: str | None = None,
        dedup_window: float | None = None,
        compatibility: Compatibility | None = None,
        retention: Retention | None = None,
        quarantine: str | None = None,
        quota: Quota | None = None,
    ) -> Channel:
        """Changes a channel: what is None stays as it is."""
        update = self._inner.update_channel(
            name,
            schema=schema,
            dedup_window=dedup_window,
            compatibility=compatibility,
            retention=retention,
            quarantine=quarantine,
            quota=quota,
        )
        return loop.run(update)

    def delete_channel(self, name: str) -> None:
        """Deletes a channel with all its messages."""
        loop.run(self._inner.delete_channel(name))

    def trim_channel(
        self, name: str, *, from_seq: int | None = None, newest: int | None = None, last: float | None = None
    ) -> int:
        """Removes the oldest messages of a channel."""
        return loop.run(self._inner.trim_channel(name, from_seq=from_seq, newest=newest, last=last))

    def put_rule(self, rule: Rule) -> Rule:
        """Adds a rule between channels, or changes its predicate."""
        return loop.run(self._inner.put_rule(rule))

    def delete_rule(self, source: str, target: str) -> None:
        """Removes a rule between channels."""
        loop.run(self._inner.delete_rule(source, target))

    def rules(self) -> list[Rule]:
        """All rules between channels."""
        return loop.run(self._inner.rules())

    def delayed(self, channel: str) -> list[Delayed]:
        """The messages of a channel that wait for their time."""
        return loop.run(self._inner.delayed(channel))

    def withdraw_delayed(self, channel: str, id: int) -> bool:
        """Takes a message back that waits for its time."""
        return loop.run(self._inner.withdraw_delayed(channel, id))

    def create_consumer(
        self, channel: str, name: str, config: ConsumerConfig = ConsumerConfig(), start: Start = "earliest"
    ) -> ConsumerState:
        """Creates a consumer. The same name with the same configuration is no error."""
        return loop.run(self._inner.create_consumer(channel, name, config, start))

    def consumer_state(self, channel: str, name: str) -> ConsumerState:
        """How far a consumer is."""
        return loop.run(self._inner.consumer_state(channel, name))

    def consumers(self, channel: str) -> list[ConsumerState]:
        """The consumers of a channel by name."""
        return loop.run(self._inner.consumers(channel))

    def delete_consumer(self, channel: str, name: str) -> None:
        """Deletes a consumer."""
        loop.run(self._inner.delete_consumer(channel, name))

    def reset_consumer(self, channel: str, name: str, start: Start) -> ConsumerState:
        """Has a consumer forget what is pending, and go on elsewhere."""
        return loop.run(self._inner.reset_consumer(channel, name, start))

    def dead_letters(self, channel: str, consumer: str, *, filter: str = "", limit: int = 0) -> list[DeadLetter]:
        """The messages that a consumer gave up."""
        return loop.run(self._inner.dead_letters(channel, consumer, filter=filter, limit=limit))

    def redrive(self, channel: str, consumer: str, *, filter: str = "", to: str = "") -> Redriven:
        """Sends dead letters to another channel, or back to the one in which they died."""
        return loop.run(self._inner.redrive(channel, consumer, filter=filter, to=to))

    def can_i(self, action: str, scope: str) -> bool:
        """Whether this client's token may do something."""
        return loop.run(self._inner.can_i(action, scope))

    def cluster_status(self) -> ClusterStatus:
        """The nodes, and which of them leads."""
        return loop.run(self._inner.cluster_status())
