"""What a client hands out: publishers, subscriptions, consumers, claims and transactions."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any

from .._claims import Claims as AsyncClaims
from .._claims import Completed, InFlight, Once, Taken
from .._consumer import Consumer as AsyncConsumer
from .._consumer import Delivery as AsyncDelivery
from .._publisher import Publisher as AsyncPublisher
from .._subscription import Subscription as AsyncSubscription
from .._transaction import Transaction as AsyncTransaction
from .._types import MessageLike, Position, Receipt, Received
from ._loop import loop


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
        return loop.run(self._inner.send(message, key=key, headers=headers))

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

        loop.run(hand_in())
        return outcome

    def flush(self) -> None:
        """Waits until everything that was handed in before has its outcome."""
        loop.run(self._inner.flush())

    def close(self) -> None:
        """Takes no more, and waits until everything has its outcome."""
        loop.run(self._inner.close())


class Subscription:
    """A live follower of a channel. Iterate over it; `close` it, also from another thread, or use it with `with`."""

    def __init__(self, inner: AsyncSubscription) -> None:
        self._inner = inner

    def __enter__(self) -> Subscription:
        loop.run(self._inner.open())
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

        return loop.run(one())

    @property
    def position(self) -> Position | None:
        """Where another subscription goes on after all that this one has given."""
        return self._inner.position

    def close(self) -> None:
        loop.run(self._inner.close())


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
        loop.run(_settle(self.inner.ack))

    def ack_up_to(self) -> None:
        """Done, with everything before it that this member has."""
        loop.run(_settle(self.inner.ack_up_to))

    def nack(self, reason: str = "", *, delay: float = 0.0) -> None:
        """It comes again after `delay` seconds, or is dead after its last attempt."""
        loop.run(_settle(lambda: self.inner.nack(reason, delay=delay)))

    def extend(self) -> None:
        """Still at it: the ack timeout begins again."""
        loop.run(_settle(self.inner.extend))


async def _settle(say: Callable[[], Any]) -> None:
    await say()


class Consumer:
    """A member of a consumer's group."""

    def __init__(self, inner: AsyncConsumer) -> None:
        self._inner = inner

    def stop(self) -> None:
        """Ends `run` in order, from another thread, a handler or a signal handler."""
        loop.get().call_soon_threadsafe(self._inner.stop)

    def run(self, handler: Callable[[Delivery], Any], *, concurrency: int = 1) -> None:
        """Works on messages until it is stopped: `handler` is called in threads, as many as `concurrency` says. What ends well
        is acknowledged; what raises is given back, and `Nack` says when it comes again."""
        with concurrent.futures.ThreadPoolExecutor(max(concurrency, 1), "liminal handler") as threads:

            async def handle(delivery: AsyncDelivery) -> None:
                await asyncio.get_running_loop().run_in_executor(threads, handler, Delivery(delivery))

            future = loop.start(self._inner.run(handle, concurrency=concurrency))
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

        return loop.run(self._inner.once(key, lease, in_thread))

    def take(self, key: str, lease: float, *, owner: str | None = None) -> Taken:
        """Takes a claim, if it is free, for `lease` seconds."""
        return loop.run(self._inner.take(key, lease, owner=owner))

    def complete(self, key: str, token: int, receipt: bytes | str) -> bool:
        """Ends a claim with a receipt."""
        return loop.run(self._inner.complete(key, token, receipt))

    def release(self, key: str, token: int) -> bool:
        """Gives a claim back."""
        return loop.run(self._inner.release(key, token))

    def renew(self, key: str, token: int, lease: float) -> datetime:
        """Makes a lease last until `lease` seconds from now."""
        return loop.run(self._inner.renew(key, token, lease))

    def show(self, key: str) -> InFlight | Completed | None:
        """A claim as it is now; None when it is free."""
        return loop.run(self._inner.show(key))


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
        return loop.run(self._inner.commit())
