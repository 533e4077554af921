"""Publishing many messages over one stream. Messages that are handed in while others are being sent become the next batch,
without a timer: alone, a message goes at once; under load, batches grow by themselves."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc.aio

from . import _retry
from ._error import LiminalError, error_of, lost, of_status, timed_out
from ._pool import Link, Pool
from ._proto import broker_pb2 as pb
from ._types import Confirm, Message, MessageLike, Receipt
from ._window import Limits, Ticket, Window

# Bytes of messages that a publisher holds until they are acknowledged.
WINDOW_BYTES = 64 << 20
# The largest message that is sent at all: a server takes no larger batch. Its own limit is usually lower.
MAX_MESSAGE = 4 << 20
# The most messages that a server takes in one batch.
MAX_BATCH = 4096


@dataclass(frozen=True)
class PublisherOptions:
    """How a publisher works."""

    confirm: Confirm = Confirm.DELIVERY
    in_flight: int = 8192
    """Messages that may be unacknowledged at a time (all of them together at most 64 MiB); more have to wait."""
    batch_messages: int = MAX_BATCH
    batch_bytes: int = 1 << 20
    batches_under_way: int = 4
    """Batches that are sent before the first of them is acknowledged. With 1 no message overtakes another one, whatever
    happens to it; with more, one that is refused for the moment goes again behind those that were under way with it."""


class Room:
    """What messages may hold together. Who waits for room is served in turn."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, cost: int) -> None:
        if not self._waiting and self._free >= cost:
            self._free -= cost
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(cost)
            else:
                self._waiting = deque(one for one in self._waiting if one[1] is not turn)
                self._serve()
            raise

    def give(self, cost: int) -> None:
        self._free += cost
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._free >= self._waiting[0][0]:
            cost, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= cost
                turn.set_result(None)


class Publisher:
    """Publishes to one channel over one stream. Use it with `async with`, which waits for all outcomes at its end.

    After a lost connection messages with a key are sent again in their order; those without a key that were under way fail
    with `outcome_unknown`. A message that is refused for the moment, such as by a quota or while there is no leader, is sent
    again behind the batches that were under way with it: where order matters more than the rate, set `batches_under_way` to 1.
    """

    def __init__(self, pool: Pool, channel: str, options: PublisherOptions) -> None:
        self._pool = pool
        self._channel = channel
        self._confirm = options.confirm.value
        in_flight = max(options.in_flight, 1)
        self._least = max(WINDOW_BYTES // in_flight, 1)
        self._room = Room(min(self._least * in_flight, WINDOW_BYTES))
        messages = min(max(options.batch_messages, 1), MAX_BATCH)
        self._window = Window(Limits(messages, options.batch_bytes, max(options.batches_under_way, 1)))
        self._work = asyncio.Event()
        self._closed = False
        self._driver: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(
        self, message: MessageLike, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Receipt:
        """Publishes a message and waits for its receipt. Many of these may be pending at a time."""
        return await (await self.enqueue(message, key=key, headers=headers))

    async def enqueue(
        self, message: MessageLike, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[Receipt]:
        """Hands a message in, waiting only for room, and gives the future of its receipt."""
        proto = Message.of(message, key, headers)._proto()
        size = proto.ByteSize()
        if size > MAX_MESSAGE:
            raise error_of("LIMIT_EXCEEDED", f"the message is {size} bytes; the limit is {MAX_MESSAGE}")
        cost = min(max(size, self._least), self._room.capacity)
        await self._room.take(cost)
        if self._closed:
            self._room.give(cost)
            raise error_of("STOPPING", "the publisher is closed: nothing was sent")
        if self._driver is None:
            self._driver = asyncio.create_task(self._run(), name=f"liminal publisher of {self._channel}")
            self._driver.add_done_callback(self._ended)
        outcome: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._window.push(Ticket(proto, size, cost, time.monotonic(), outcome))
        self._work.set()
        return outcome

    async def flush(self) -> None:
        """Waits until everything that was handed in before has its outcome."""
        # All room is free exactly when nothing is unacknowledged.
        await self._room.take(self._room.capacity)
        self._room.give(self._room.capacity)

    async def close(self) -> None:
        """Takes no more, and waits until everything has its outcome."""
        self._closed = True
        self._work.set()
        if self._driver is not None:
            await asyncio.wait({self._driver})

    def _ended(self, driver: asyncio.Task[None]) -> None:
        """Nobody is left without an outcome, even if the task was cancelled with its event loop."""
        self._closed = True
        why = error_of("STOPPING", "the publisher has ended before the answer came")
        if not driver.cancelled() and driver.exception() is not None:
            why.__cause__ = driver.exception()
        freed = self._window.broken(why.as_unknown()) + self._window.expire(time.monotonic(), why)
        self._room.give(freed)

    async def _run(self) -> None:
        backoff: _retry.Backoff | None = None
        while await self._wait_for_work():
            try:
                progress = await self._stream()
                continue
            except _Left as left:
                error, progress = left.error, left.progress
            if progress:
                backoff = None
            self._settle(error)
            backoff = backoff or _retry.Backoff(self._pool.options.retry_for)
            if not await backoff.wait(error):
                # Single messages expire in `_settle`; the pauses begin anew.
                backoff = None

    async def _wait_for_work(self) -> bool:
        """False when there never will be any."""
        while not self._window.has_waiting():
            if self._closed:
                return False
            self._work.clear()
            await self._work.wait()
        return True

    def _settle(self, error: LiminalError) -> None:
        """After a stream's end: who goes again, and who fails."""
        freed = self._window.broken(error)
        before = time.monotonic()
        if _retry.may_retry(error, safe=True):
            before -= self._pool.options.retry_for
        # Otherwise it would happen to all that wait as well.
        freed += self._window.expire(before, error)
        self._room.give(freed)

    async def _stream(self) -> bool:
        """Sends and reads until all is done."""
        try:
            link = await self._pool.connect(leader=True)
        except LiminalError as error:
            raise _Left(error, False) from error
        stream = _Stream(self, link)
        try:
            with link.use():
                await self._pool.guard(link, stream.follow())
        except LiminalError as error:
            raise _Left(error, stream.progress) from error
        return stream.progress


class _Left(Exception):
    """The stream was left; says whether it worked for a while."""

    def __init__(self, error: LiminalError, progress: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.progress = progress


class _Stream:
    """One stream to one node."""

    def __init__(self, publisher: Publisher, link: Link) -> None:
        self._publisher = publisher
        self._link = link
        self._call: Any = None
        self.progress = False

    async def follow(self) -> None:
        publisher = self._publisher
        pool = publisher._pool
        self._call = self._link.broker.PublishStream(metadata=pool.options.token.metadata())
        tasks = {asyncio.ensure_future(part) for part in (self._write(), self._read(), self._watch())}
        try:
            # The reader ends last: when it has ended without an error, all is done.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            self._call.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self) -> None:
        publisher, window = self._publisher, self._publisher._window
        try:
            while True:
                messages = window.take(time.monotonic())
                if messages is not None:
                    batch = pb.MessageBatch(messages=messages)
                    confirm: Any = publisher._confirm
                    await self._call.write(
                        pb.PublishBatch(channel=publisher._channel, batch=batch, confirm=confirm)
                    )
                elif publisher._closed and window.is_empty():
                    await self._call.done_writing()
                    await asyncio.Event().wait()
                else:
                    publisher._work.clear()
                    await publisher._work.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reader says why.
            await asyncio.Event().wait()

    async def _read(self) -> None:
        publisher, pool, address = self._publisher, self._publisher._pool, self._link.address
        try:
            pool.learn(await self._call.initial_metadata())
            while True:
                acks = await self._call.read()
                if acks is grpc.aio.EOF:
                    break
                self.progress = True
                freed, leave = publisher._window.acks(acks.first, acks.acks)
                publisher._room.give(freed)
                publisher._work.set()
                if leave is not None:
                    raise leave
            if not publisher._window.is_empty():
                raise lost(address)
        except grpc.aio.AioRpcError as error:
            pool.learn_from(error)
            raise of_status(address, error) from error

    async def _watch(self) -> None:
        """A server that does not answer in time is left."""
        after = self._publisher._pool.options.answer_timeout
        while True:
            await asyncio.sleep(max(after / 8, 0.05))
            sent = self._publisher._window.oldest_under_way()
            if sent is not None and time.monotonic() - sent > after:
                raise timed_out(self._link.address, after)
