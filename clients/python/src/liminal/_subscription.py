"""Following a channel through failures: the position that comes next is all that a follower has to remember, so a stream
that breaks on one node goes on at the same place on another, and a changed history is told. Behind a filter the servers say
now and then how far they have looked, so that the next one need not look there again."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc.aio

from . import _retry
from ._error import LiminalError, error_of, lost, of_status, text_metadata, timed_out
from ._pool import Link, Pool
from ._proto import broker_pb2 as pb
from ._types import IF_CHANGED, IfChanged, Notice, Position, Received, Start, start_to_proto, unpack


# How long a status may come after the headers that it goes with, in seconds.
REFUSAL = 0.5


class HistoryChanged(LiminalError):
    """The history behind a subscription has changed. It has not ended: iterate again, and it goes on at `notice.next`."""

    notice: Notice


def of_notice(notice: Notice) -> HistoryChanged:
    return HistoryChanged(
        notice.message, code=notice.code, help=f"the subscription goes on at {notice.next}", notice=notice
    )


@dataclass(frozen=True)
class Request:
    """What a subscription was asked for."""

    channel: str
    start: Start
    filter: str
    if_changed: IfChanged | None


class Subscription:
    """A live follower of a channel: its messages, in order, with `async for`. Use it with `async with`, or `close` it.

    A durable channel's messages all come, but for those that have expired and those that a filter does not let through, and
    none comes twice, whichever nodes fail. An ephemeral channel's messages that are published while it reconnects are missed.

    A changed history is given to `on_notice`, or raised as `HistoryChanged` where there is none. After any other error the
    subscription has ended.
    """

    def __init__(self, pool: Pool, request: Request, on_notice: Callable[[Notice], None] | None) -> None:
        self._follower = Follower(pool, request)
        self._on_notice = on_notice
        self._current: deque[Received] = deque()
        self._next: Position | None = None
        # The batch that is awaited: a task, because a read that is cancelled would end the whole stream.
        self._awaited: asyncio.Task[list[Received]] | None = None
        self._ended = False

    async def open(self) -> Subscription:
        """Begins now, and not with the first message that is wanted."""
        if self._awaited is None and self._follower.fresh():
            try:
                await self._follower.reconnect()
            except BaseException:
                self._ended = True
                await self._follower.leave()
                raise
        return self

    async def __aenter__(self) -> Subscription:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Received:
        if not self._current:
            self._current.extend(await self._more())
        return self._current.popleft()

    async def next_batch(self) -> list[Received]:
        """The next messages, as many as came together; none only when it is closed. Nothing is lost when the wait is
        cancelled."""
        if not self._current:
            try:
                return await self._more()
            except StopAsyncIteration:
                return []
        batch = list(self._current)
        self._current.clear()
        return batch

    @property
    def position(self) -> Position | None:
        """Where another subscription goes on after all that this one has given, on any node and after any time; None before
        the first message."""
        if self._current:
            return self._current[0].position
        return self._next

    async def _more(self) -> list[Received]:
        while True:
            if self._ended:
                raise StopAsyncIteration
            if self._awaited is None:
                self._awaited = asyncio.create_task(self._follower.batch())
            awaited = self._awaited
            await asyncio.wait({awaited})
            if self._awaited is awaited:
                self._awaited = None
            try:
                batch = awaited.result()
            except HistoryChanged as changed:
                self._next = self._follower.place
                if self._on_notice is None:
                    raise
                self._on_notice(changed.notice)
                continue
            except asyncio.CancelledError:
                self._ended = True
                raise StopAsyncIteration from None
            except LiminalError:
                self._ended = True
                await self._follower.leave()
                raise
            self._next = self._follower.place
            return batch

    async def close(self) -> None:
        """Ends it. Where it stopped is its `position`."""
        self._ended = True
        if self._awaited is not None:
            self._awaited.cancel()
            await asyncio.gather(self._awaited, return_exceptions=True)
        await self._follower.leave()


class Follower:
    """The stream of the moment, and what the next one has to know."""

    def __init__(self, pool: Pool, request: Request) -> None:
        self._pool = pool
        self._request = request
        # The sequence number that comes next, once the server has said where the subscription begins.
        self._next: int | None = None
        # The same with the history that it is of, if the server said so.
        self.place: Position | None = None
        self._ephemeral: bool | None = None
        self._call: Any = None
        self._link: Link | None = None
        self._in_use = contextlib.ExitStack()

    def fresh(self) -> bool:
        return self._call is None

    async def batch(self) -> list[Received]:
        while True:
            if self._call is None or self._link is None:
                await self.reconnect()
                continue
            try:
                delivery = await self._call.read()
                if delivery is not grpc.aio.EOF:
                    received = self._take(delivery)
                    if received:
                        return received
                    continue
                error = lost(self._link.address)
            except grpc.aio.AioRpcError as status:
                self._pool.learn_from(status)
                error = of_status(self._link.address, status)
            # It was opened at a number that had to be there; from now on it is told, and goes on.
            told_again = (
                self._request.if_changed is None
                and self.place is not None
                and error.code in ("OUT_OF_RANGE", "HISTORY_REWOUND")
            )
            link = self._link
            await self.leave()
            if not told_again:
                if not _retry.may_retry(error, safe=True):
                    raise error
                self._pool.give_up(link)

    def _take(self, delivery: pb.Delivery) -> list[Received]:
        """Takes what comes after the last delivery. It may begin after a gap, where messages have expired or a filter did not
        let them through; only the servers can tell these from a loss."""
        place = Position._of(delivery.next) if delivery.HasField("next") else None
        if delivery.HasField("notice"):
            # Also back, where the history was rewound.
            self._next, self.place = delivery.first_seq, place
            raise of_notice(Notice._of(self._request.channel, delivery.notice))
        start = self._request.start
        if self._next is not None:
            first = self._next
        elif place is None and isinstance(start, int):
            first = start
        else:
            first = delivery.first_seq
        received = unpack(self._request.channel, delivery, first)
        self._next = max(first, delivery.first_seq + delivery.count)
        self.place = None if place is None else place.at(self._next)
        return received

    async def _start(self) -> Start:
        if self._next is None:
            return self._request.start
        if await self._is_ephemeral():
            return "latest"
        return self._next if self.place is None else self.place.at(self._next)

    async def reconnect(self) -> None:
        """Subscribes where the last stream ended, on any node that serves."""
        backoff = _retry.Backoff(self._pool.options.retry_for)
        while True:
            resuming = self._next is not None
            start = await self._start()
            wanted = self._request.if_changed
            if wanted is None:
                wanted = "fail" if isinstance(start, int) and not resuming else "notice"
            request = pb.SubscribeRequest(
                channel=self._request.channel,
                start=start_to_proto(start),
                filter=self._request.filter,
                if_changed=IF_CHANGED[wanted],  # type: ignore[arg-type]
            )
            try:
                await self._open(request)
            except LiminalError as error:
                if not _retry.may_retry(error, safe=True) or not await backoff.wait(error):
                    raise
                continue
            if resuming and start == "latest":
                self._next = None
            return

    async def _open(self, request: pb.SubscribeRequest) -> None:
        link = await self._pool.connect(leader=False)
        call = link.broker.Subscribe(request, metadata=self._pool.options.token.metadata())
        try:
            await self._pool.guard(link, accepted(self._pool, link, call))
        except BaseException:
            call.cancel()
            raise
        self._in_use.enter_context(link.use())
        self._call, self._link = call, link

    async def leave(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._link = None
        self._in_use.close()

    async def _is_ephemeral(self) -> bool:
        if self._ephemeral is None:
            get = pb.GetChannelRequest(name=self._request.channel)
            response: pb.GetChannelResponse = await self._pool.call(lambda link: link.channels.GetChannel, get)
            self._ephemeral = response.channel.config.durability == pb.DURABILITY_EPHEMERAL
        return self._ephemeral


async def accepted(pool: Pool, link: Link, call: Any) -> None:
    """Waits until a node has accepted a stream: its headers come at once, or the status that refuses it."""
    after = pool.options.answer_timeout
    try:
        async with asyncio.timeout(after):
            metadata = await call.initial_metadata()
    except TimeoutError:
        raise timed_out(link.address, after) from None
    except grpc.aio.AioRpcError as status:
        pool.learn_from(status)
        raise of_status(link.address, status) from status
    pool.learn(metadata)
    if "liminal-leader" not in text_metadata(metadata):
        # A refusal has no headers of its own, and its status is there in a moment.
        await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=REFUSAL)
    if call.done() and await call.code() is not grpc.StatusCode.OK:
        trailers = await call.trailing_metadata()
        refusal = grpc.aio.AioRpcError(await call.code(), metadata, trailers, details=await call.details())
        pool.learn_from(refusal)
        raise of_status(link.address, refusal) from refusal


def ended(what: str) -> LiminalError:
    return error_of("CONNECTION_LOST", f"the {what} has ended", outcome_unknown=True)
