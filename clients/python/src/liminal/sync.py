"""The client without asyncio: each call waits for its result. All of it runs on one event loop in a thread of its own, which
is shared by all clients of the process and ends with it.

Any number of threads may use one client.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from . import client as core
from ._admin_types import (
    Channel,
    ChannelConfig,
    ClusterStatus,
    Compatibility,
    ConsumerConfig,
    ConsumerState,
    Delayed,
    Quota,
    Retention,
    Rule,
)
from ._claims import Claims as AsyncClaims
from ._claims import Completed, InFlight, Once, Taken
from ._consumer import Consumer as AsyncConsumer
from ._consumer import Delivery as AsyncDelivery
from ._error import LiminalError
from ._pool import TLS
from ._publisher import Publisher as AsyncPublisher
from ._publisher import PublisherOptions
from ._subscription import HistoryChanged
from ._subscription import Subscription as AsyncSubscription
from ._transaction import Transaction as AsyncTransaction
from ._types import Confirm, IfChanged, Message, MessageLike, Notice, Page, Position, Receipt, Received, Start

T = TypeVar("T")


class _Loop:
    """The event loop, which begins with the first client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # A child of a fork has no thread that would run the parent's loop.
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="liminal", daemon=True).start()
            return self._loop

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.get())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            # Also where the thread that waits was interrupted: nobody is there for the result any more.
            future.cancel()
            raise


_loop = _Loop()


async def _call(function: Callable[..., T], *arguments: Any) -> T:
    """A function on the loop's thread."""
    return function(*arguments)


class Publisher:
    """Publishes many messages over one stream. Use it with `with`, which waits for all outcomes at its end."""

    def __init__(self, inner: AsyncPublisher) -> None:
        self._inner = inner

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(
        self, message: MessageLike, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Receipt:
        """Publishes a message and waits for its receipt."""
        return _loop.run(self._inner.send(message, key=key, headers=headers))

    def enqueue(
        self, message: MessageLike, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> concurrent.futures.Future[Receipt]:
        """Hands a message in, waiting only for room, and gives the future of its receipt."""
        outcome: concurrent.futures.Future[Receipt] = concurrent.futures.Future()

        def settle(done: asyncio.Future[Receipt]) -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            if done.cancelled():
                outcome.set_exception(concurrent.futures.CancelledError())
            elif (error := done.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(done.result())

        async def hand_in() -> None:
            (await self._inner.enqueue(message, key=key, headers=headers)).add_done_callback(settle)

        _loop.run(hand_in())
        return outcome

    def flush(self) -> None:
        """Waits until everything that was handed in before has its outcome."""
        _loop.run(self._inner.flush())

    def close(self) -> None:
        """Takes no more, and waits until everything has its outcome."""
        _loop.run(self._inner.close())


class Subscription:
    """A live follower of a channel. Iterate over it; `close` it, also from another thread, or use it with `with`."""

    def __init__(self, inner: AsyncSubscription) -> None:
        self._inner = inner

    def __enter__(self) -> Subscription:
        _loop.run(self._inner.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        return self

    def __next__(self) -> Received:
        received = self.next()
        if received is None:
            raise StopIteration
        return received

    def next(self, timeout: float | None = None) -> Received | None:
        """The next message; None when none came in so many seconds, or when it is closed."""

        async def one() -> Received | None:
            try:
                return await asyncio.wait_for(self._inner.__anext__(), timeout)
            except (asyncio.TimeoutError, StopAsyncIteration):
                return None

        return _loop.run(one())

    @property
    def position(self) -> Position | None:
        """Where another subscription goes on after all that this one has given."""
        return self._inner.position

    def close(self) -> None:
        _loop.run(self._inner.close())


class Delivery:
    """A message that was handed to this member, to be settled by waiting for the answer."""

    def __init__(self, inner: AsyncDelivery) -> None:
        self.inner = inner
        self.received = inner.received
        self.channel = inner.channel
        self.consumer = inner.consumer
        self.seq = inner.seq
        self.message = inner.message
        self.payload = inner.payload
        self.attempt = inner.attempt
        self.notice = inner.notice

    def ack(self) -> None:
        """Done: it never comes again."""
        _loop.run(_settle(self.inner.ack))

    def ack_up_to(self) -> None:
        """Done, with everything before it that this member has."""
        _loop.run(_settle(self.inner.ack_up_to))

    def nack(self, reason: str = "", *, delay: float = 0.0) -> None:
        """It comes again after `delay` seconds, or is dead after its last attempt."""
        _loop.run(_settle(lambda: self.inner.nack(reason, delay=delay)))

    def extend(self) -> None:
        """Still at it: the ack timeout begins again."""
        _loop.run(_settle(self.inner.extend))


async def _settle(say: Callable[[], Any]) -> None:
    await say()


class Consumer:
    """A member of a consumer's group."""

    def __init__(self, inner: AsyncConsumer) -> None:
        self._inner = inner

    def stop(self) -> None:
        """Ends `run` in order, from another thread, a handler or a signal handler."""
        _loop.get().call_soon_threadsafe(self._inner.stop)

    def run(self, handler: Callable[[Delivery], Any], *, concurrency: int = 1) -> None:
        """Works on messages until it is stopped: `handler` is called in threads, as many as `concurrency` says. What ends well
        is acknowledged; what raises is given back, and `Nack` says when it comes again."""
        with concurrent.futures.ThreadPoolExecutor(max(concurrency, 1), "liminal handler") as threads:

            async def handle(delivery: AsyncDelivery) -> None:
                await asyncio.get_running_loop().run_in_executor(threads, handler, Delivery(delivery))

            future = _loop.start(self._inner.run(handle, concurrency=concurrency))
            try:
                future.result()
            except KeyboardInterrupt:
                self.stop()
                future.result()
                raise


class Claims:
    """Claims of one namespace."""

    def __init__(self, inner: AsyncClaims) -> None:
        self._inner = inner

    def once(self, key: str, lease: float, work: Callable[[int], bytes | str]) -> Once:
        """Does the work of a key at most once in the whole cluster; `work` runs in a thread, with the claim's token. A thread
        cannot be cancelled: when the lease is lost, `ClaimStale` is raised while `work` may still run to its end."""

        async def in_thread(token: int) -> bytes | str:
            return await asyncio.to_thread(work, token)

        return _loop.run(self._inner.once(key, lease, in_thread))

    def take(self, key: str, lease: float, *, owner: str | None = None) -> Taken:
        """Takes a claim, if it is free, for `lease` seconds."""
        return _loop.run(self._inner.take(key, lease, owner=owner))

    def complete(self, key: str, token: int, receipt: bytes | str) -> bool:
        """Ends a claim with a receipt."""
        return _loop.run(self._inner.complete(key, token, receipt))

    def release(self, key: str, token: int) -> bool:
        """Gives a claim back."""
        return _loop.run(self._inner.release(key, token))

    def renew(self, key: str, token: int, lease: float) -> datetime:
        """Makes a lease last until `lease` seconds from now."""
        return _loop.run(self._inner.renew(key, token, lease))

    def show(self, key: str) -> InFlight | Completed | None:
        """A claim as it is now; None when it is free."""
        return _loop.run(self._inner.show(key))


class Transaction:
    """Messages, acknowledgements and completions of claims, of which all is done or nothing."""

    def __init__(self, inner: AsyncTransaction) -> None:
        self._inner = inner

    def publish(
        self,
        channel: str,
        message: MessageLike,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        expected_seq: int | None = None,
    ) -> Transaction:
        """Adds a message."""
        self._inner.publish(channel, message, key=key, headers=headers, expected_seq=expected_seq)
        return self

    def ack(self, delivery: Delivery) -> Transaction:
        """Acknowledges a delivery."""
        self._inner.ack(delivery.inner)
        return self

    def complete(self, namespace: str, key: str, token: int, receipt: bytes | str) -> Transaction:
        """Completes a claim."""
        self._inner.complete(namespace, key, token, receipt)
        return self

    def commit(self) -> list[Receipt]:
        """Does all of it, or nothing; one receipt for each message, in order."""
        return _loop.run(self._inner.commit())


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

        self._inner = _loop.run(_call(make))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        _loop.run(self._inner.close())

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
        return _loop.run(publish)

    def publisher(self, channel: str, options: PublisherOptions = PublisherOptions()) -> Publisher:
        """Publishes many messages over one stream, in batches."""
        return Publisher(_loop.run(_call(self._inner.publisher, channel, options)))

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

        return Subscription(_loop.run(_call(make)))

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
        return _loop.run(read)

    def consumer(self, channel: str, name: str, *, credit: int = 100) -> Consumer:
        """A member of a consumer's group."""
        return Consumer(_loop.run(_call(lambda: self._inner.consumer(channel, name, credit=credit))))

    def pull(self, channel: str, consumer: str, *, max: int = 1, wait: float = 0.0) -> list[Delivery]:
        """Some messages for who keeps no stream."""
        pulled = _loop.run(self._inner.pull(channel, consumer, max=max, wait=wait))
        return [Delivery(delivery) for delivery in pulled.deliveries]

    def settle(self, deliveries: Sequence[Delivery]) -> list[LiminalError | None]:
        """Acknowledges deliveries of one consumer in one call."""
        return _loop.run(self._inner.settle([delivery.inner for delivery in deliveries]))

    def claims(self, namespace: str, *, name: str = "") -> Claims:
        """The claims of a namespace."""
        return Claims(self._inner.claims(namespace, name=name))

    def transaction(self, *, confirm: Confirm = Confirm.DELIVERY) -> Transaction:
        """Begins a transaction."""
        return Transaction(self._inner.transaction(confirm=confirm))

    def request(self, channel: str, message: MessageLike, *, timeout: float = 5.0) -> Message:
        """Publishes a message and waits for the reply of whoever handles it."""
        return _loop.run(self._inner.request(channel, message, timeout=timeout))

    def reply(self, request: Received | str, message: MessageLike) -> None:
        """Answers a request."""
        _loop.run(self._inner.reply(request, message))

    def create_channel(self, name: str, config: ChannelConfig = ChannelConfig()) -> Channel:
        """Creates a channel. The same name with the same configuration is no error."""
        return _loop.run(self._inner.create_channel(name, config))

    def channel(self, name: str) -> Channel:
        """One channel."""
        return _loop.run(self._inner.channel(name))

    def channels(self) -> list[Channel]:
        """All channels by name."""
        return _loop.run(self._inner.channels())

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
        return _loop.run(update)

    def delete_channel(self, name: str) -> None:
        """Deletes a channel with all its messages."""
        _loop.run(self._inner.delete_channel(name))

    def trim_channel(
        self, name: str, *, from_seq: int | None = None, newest: int | None = None, last: float | None = None
    ) -> int:
        """Removes the oldest messages of a channel."""
        return _loop.run(self._inner.trim_channel(name, from_seq=from_seq, newest=newest, last=last))

    def put_rule(self, rule: Rule) -> Rule:
        """Adds a rule between channels, or changes its predicate."""
        return _loop.run(self._inner.put_rule(rule))

    def delete_rule(self, source: str, target: str) -> None:
        """Removes a rule between channels."""
        _loop.run(self._inner.delete_rule(source, target))

    def rules(self) -> list[Rule]:
        """All rules between channels."""
        return _loop.run(self._inner.rules())

    def delayed(self, channel: str) -> list[Delayed]:
        """The messages of a channel that wait for their time."""
        return _loop.run(self._inner.delayed(channel))

    def withdraw_delayed(self, channel: str, id: int) -> bool:
        """Takes a message back that waits for its time."""
        return _loop.run(self._inner.withdraw_delayed(channel, id))

    def create_consumer(
        self, channel: str, name: str, config: ConsumerConfig = ConsumerConfig(), start: Start = "earliest"
    ) -> ConsumerState:
        """Creates a consumer. The same name with the same configuration is no error."""
        return _loop.run(self._inner.create_consumer(channel, name, config, start))

    def consumer_state(self, channel: str, name: str) -> ConsumerState:
        """How far a consumer is."""
        return _loop.run(self._inner.consumer_state(channel, name))

    def consumers(self, channel: str) -> list[ConsumerState]:
        """The consumers of a channel by name."""
        return _loop.run(self._inner.consumers(channel))

    def delete_consumer(self, channel: str, name: str) -> None:
        """Deletes a consumer."""
        _loop.run(self._inner.delete_consumer(channel, name))

    def reset_consumer(self, channel: str, name: str, start: Start) -> ConsumerState:
        """Has a consumer forget what is pending, and go on elsewhere."""
        return _loop.run(self._inner.reset_consumer(channel, name, start))

    def can_i(self, action: str, scope: str) -> bool:
        """Whether this client's token may do something."""
        return _loop.run(self._inner.can_i(action, scope))

    def cluster_status(self) -> ClusterStatus:
        """The nodes, and which of them leads."""
        return _loop.run(self._inner.cluster_status())


__all__ = [
    "Claims",
    "Client",
    "Consumer",
    "Delivery",
    "HistoryChanged",
    "Publisher",
    "Subscription",
    "Transaction",
]
