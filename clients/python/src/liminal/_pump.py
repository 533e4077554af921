"""A member's connection."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from . import _retry
from ._error import LiminalError, error_of, lost, malformed, of_proto, of_status, timed_out
from ._pool import Link, Pool
from ._proto import consumers_pb2 as pb
from ._subscription import ended
from ._types import Notice

# Settlements of one request.
AT_ONCE = 1_024
# Settlements that may wait to be sent, beside two for each message that the member has.
SAID = 1_024

Say = Callable[[pb.Settlement], Awaitable[None]]


@dataclass(eq=False)
class Said:
    """What was said of a delivery, on its way."""

    settlement: pb.Settlement
    answer: asyncio.Future[None]

    def resolve(self, error: LiminalError | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(None)
        else:
            self.answer.set_exception(error.copy())


@dataclass(frozen=True)
class Handed:
    """A delivery on its way to the caller."""

    proto: pb.ConsumerDelivery
    notice: Notice | None
    reported: bool
    """The server wants to hear when work on it begins."""


class Pump:
    def __init__(self, pool: Pool, channel: str, consumer: str, credit: int) -> None:
        self._pool = pool
        self._open = pb.ConsumeOpen(channel=channel, consumer=consumer, credit=credit, reports_begun=True)
        self._most = SAID + 2 * credit
        # Received, to be handed over: as many as the member may have.
        self._inbox: deque[Handed] = deque()
        # To be sent; and sent, not answered, in order.
        self._queue: deque[Said] = deque()
        self._sent: deque[Said] = deque()
        self._wake = asyncio.Event()
        self._arrived = asyncio.Event()
        # Nobody takes deliveries any longer; nobody says anything any longer.
        self._full = False
        self._silent = False
        self._report_begun = False
        self._failed: LiminalError | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            call, link = await self._connect()
            self._task = asyncio.create_task(self._run(call, link), name="liminal consumer")
            self._task.add_done_callback(self._ended)

    async def next(self) -> Handed | None:
        """The next delivery; None at the end."""
        while not self._inbox:
            if self._failed is not None:
                raise self._failed.copy()
            if self._full or self._task is None or self._task.done():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    def say(self, settlement: pb.Settlement) -> Awaitable[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Who does not wait for the answer does not want to hear of it either.
        answer.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)
        said = Said(settlement, answer)
        if self._silent or self._task is None or self._task.done():
            said.resolve(self._failed or ended("consumer"))
        elif len(self._queue) + len(self._sent) >= self._most:
            help = "await some of them before more are made"
            said.resolve(error_of("OVERLOADED", "too many settlements wait for their answers", help=help))
        else:
            self._queue.append(said)
            self._wake.set()
        return answer

    async def stop_taking(self) -> None:
        self._full = True
        self._inbox.clear()
        self._open.credit = 0
        self._arrived.set()
        self._wake.set()

    async def close(self) -> None:
        await self.stop_taking()
        self._silent = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and self._failed is None:
            self._failed = error_of("INTERNAL", f"the consumer's task has failed: {task.exception()}")
        for said in (*self._sent, *self._queue):
            said.resolve(self._failed or ended("consumer"))
        self._sent.clear()
        self._queue.clear()
        self._arrived.set()

    async def _run(self, call: Any, link: Link) -> None:
        """Until everybody is gone and everything is answered, or something fails that no other node can mend."""
        try:
            while True:
                try:
                    with link.use():
                        await self._serve(call, link)
                    return
                except LiminalError as error:
                    if not _retry.may_retry(error, safe=True):
                        raise
                    self._pool.give_up(link)
                # What was not answered is said again, before what was not said at all.
                self._queue.extendleft(reversed(self._sent))
                self._sent.clear()
                call, link = await self._connect()
        except LiminalError as error:
            self._failed = error

    async def _connect(self) -> tuple[Any, Link]:
        """On any node that serves. What the last connection has handed over, and nobody has seen, comes again."""
        backoff = _retry.Backoff(self._pool.options.retry_for)
        while True:
            try:
                found = await self._try_connect()
                self._inbox.clear()
                return found
            except LiminalError as error:
                if not _retry.may_retry(error, safe=True) or not await backoff.wait(error):
                    raise

    async def _try_connect(self) -> tuple[Any, Link]:
        link = await self._pool.connect(leader=False)
        call = link.consumers.Consume(metadata=self._pool.options.token.metadata())
        try:
            await self._pool.guard(link, self._accepted(call, link))
        except BaseException:
            call.cancel()
            raise
        return call, link

    async def _accepted(self, call: Any, link: Link) -> None:
        after = self._pool.options.answer_timeout
        try:
            await call.write(pb.ConsumeRequest(open=self._open))
        except asyncio.InvalidStateError:
            pass  # it has ended already, and reading says why
        except grpc.aio.AioRpcError as status:
            self._pool.learn_from(status)
            raise of_status(link.address, status) from status
        try:
            # The first one is empty: it says that the member is accepted.
            async with asyncio.timeout(after):
                first = await call.read()
            self._pool.learn(await call.initial_metadata())
        except TimeoutError:
            raise timed_out(link.address, after) from None
        except grpc.aio.AioRpcError as status:
            self._pool.learn_from(status)
            raise of_status(link.address, status) from status
        if first is grpc.aio.EOF:
            raise lost(link.address)
        self._report_begun = first.report_begun

    async def _serve(self, call: Any, link: Link) -> None:
        writer = asyncio.ensure_future(self._write(call))
        reader = asyncio.ensure_future(self._read(call, link))
        try:
            # Only the reader says that it is over.
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                writer.result()
            await reader
        finally:
            writer.cancel()
            reader.cancel()
            call.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        told_full = self._open.credit == 0
        try:
            while True:
                self._wake.clear()
                if self._full and not told_full:
                    told_full = True
                    # No more credit says that this is an end in order.
                    await call.write(pb.ConsumeRequest(credit=0))
                elif self._queue:
                    count = min(len(self._queue), AT_ONCE)
                    now = [self._queue.popleft() for _ in range(count)]
                    self._sent.extend(now)
                    await call.write(pb.ConsumeRequest(settlements=[said.settlement for said in now]))
                elif self._silent:
                    # The server answers what is left, and ends.
                    await call.done_writing()
                    return
                else:
                    await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader says why

    async def _read(self, call: Any, link: Link) -> None:
        try:
            while True:
                response = await call.read()
                if response is grpc.aio.EOF:
                    break
                self._take(response)
        except grpc.aio.AioRpcError as status:
            self._pool.learn_from(status)
            raise of_status(link.address, status) from status
        if not self._silent or self._queue or self._sent:
            raise lost(link.address)

    def _take(self, response: pb.ConsumeResponse) -> None:
        for result in response.results:
            if not self._sent or self._sent[0].settlement.token != result.token:
                raise malformed("answer to a settlement")
            said = self._sent.popleft()
            said.resolve(of_proto(result.error) if result.HasField("error") else None)
        if self._full:
            return  # nobody takes them: they come again when the stream ends
        notice = Notice._of(self._open.channel, response.notice) if response.HasField("notice") else None
        for delivery in response.deliveries:
            self._inbox.append(Handed(delivery, notice, self._report_begun))
            notice = None
        if response.deliveries:
            self._arrived.set()
