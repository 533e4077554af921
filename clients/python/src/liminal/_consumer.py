"""Consuming: a member of a consumer's group that goes on through failures, and settles what it was handed.

The connection is a task of its own (_pump.py), which gathers what is said of deliveries into as few requests as there is time
for, and repeats on another node what was not answered. That does no harm, because to settle twice is to settle once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ._error import LiminalError, malformed
from ._pool import Pool
from ._proto import consumers_pb2 as pb
from ._pump import Pump, Say
from ._types import Message, Notice, Position, Received, time_from_ms, to_ms

log = logging.getLogger("liminal")

# Messages that a member has at once that are not settled, unless it says otherwise.
CREDIT = 100
# What a server keeps of a reason, in bytes.
REASON = 256
# How long a message waits that a handler failed on without saying how long, in seconds.
RETRY_DELAY = 1.0


class Nack(Exception):
    """Raised by a handler to give its message back: it comes again after `delay` seconds, or is dead after its last attempt.
    The dead letter carries the reason."""

    def __init__(self, reason: str = "", *, delay: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


@dataclass(frozen=True)
class Delivery:
    """A message that was handed to this member. One that is never settled comes again after the ack timeout."""

    received: Received
    consumer: str
    attempt: int
    """Which attempt to work on it this is, from 1."""
    notice: Notice | None
    """Messages before it were removed before the consumer had settled them."""
    token: str
    """By this it is settled."""
    _say: Say

    @property
    def channel(self) -> str:
        return self.received.channel

    @property
    def seq(self) -> int:
        return self.received.seq

    @property
    def message(self) -> Message:
        return self.received.message

    @property
    def payload(self) -> bytes:
        return self.received.message.payload

    def ack(self) -> Awaitable[None]:
        """Done: it never comes again. It is sent at once; await the answer to be certain. The error `StaleDelivery` says that
        it came too late, and that the message was handed out again."""
        return self._say(pb.Settlement(token=self.token, verdict=pb.VERDICT_ACK))

    def ack_up_to(self) -> Awaitable[None]:
        """Done, with everything before it that this member has."""
        return self._say(pb.Settlement(token=self.token, verdict=pb.VERDICT_ACK_UP_TO))

    def nack(self, reason: str = "", *, delay: float = 0.0) -> Awaitable[None]:
        """It comes again after `delay` seconds, to any member; or is dead after its last attempt."""
        return self._say(
            pb.Settlement(token=self.token, verdict=pb.VERDICT_NACK, delay_ms=to_ms(delay), reason=_cut(reason))
        )

    def extend(self) -> Awaitable[None]:
        """Still at it: the ack timeout begins again."""
        return self._say(pb.Settlement(token=self.token, verdict=pb.VERDICT_EXTEND))


def _cut(reason: str) -> str:
    return reason.encode()[:REASON].decode(errors="ignore")


def delivery_of(channel: str, consumer: str, proto: pb.ConsumerDelivery, notice: Notice | None, say: Say) -> Delivery:
    if not proto.HasField("message"):
        raise malformed("delivery")
    received = Received(
        channel,
        proto.seq,
        time_from_ms(proto.time_ms),
        proto.schema_id,
        Message._of(proto.message),
        Position._of(proto.position) if proto.HasField("position") else None,
    )
    return Delivery(received, consumer, proto.attempt, notice, proto.token, say)


Handler = Callable[[Delivery], Awaitable[Any]]


class Deliveries:
    """The messages that this member is handed, with `async for`. Use it with `async with`: at its end it takes no more, and
    waits for the answers to what was said. What is not settled then comes again at once, to anyone.

    An attempt begins when a message is yielded: what was not yielded comes again and has cost none.
    """

    def __init__(self, pool: Pool, channel: str, consumer: str, credit: int) -> None:
        self._channel, self._consumer = channel, consumer
        self._pump = Pump(pool, channel, consumer, credit)

    async def open(self) -> Deliveries:
        """Becomes a member. When this returns, a node has accepted it."""
        await self._pump.start()
        return self

    async def __aenter__(self) -> Deliveries:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Deliveries:
        return self

    async def __anext__(self) -> Delivery:
        handed = await self._pump.next()
        if handed is None:
            raise StopAsyncIteration
        if handed.reported:
            # It needs no answer.
            self._pump.say(pb.Settlement(token=handed.proto.token, verdict=pb.VERDICT_BEGUN))
        return delivery_of(self._channel, self._consumer, handed.proto, handed.notice, self._pump.say)

    async def stop_taking(self) -> None:
        """Takes no more; what is in hand can still be settled. Iterating ends."""
        await self._pump.stop_taking()

    async def close(self) -> None:
        """Takes no more, and waits until everything that was said is answered."""
        await self._pump.close()


class Consumer:
    """A member of a consumer's group; the consumer has to exist. Nothing is consumed before `run` or `open`."""

    def __init__(self, pool: Pool, channel: str, name: str, credit: int) -> None:
        self._pool, self._channel, self._name, self._credit = pool, channel, name, max(credit, 1)
        self._stop = asyncio.Event()

    def open(self) -> Deliveries:
        """The messages one by one, to be settled by the caller: `async with consumer.open() as deliveries`."""
        return Deliveries(self._pool, self._channel, self._name, self._credit)

    def stop(self) -> None:
        """Ends `run` in order: it takes no more, finishes what is in hand, and has its acks confirmed."""
        self._stop.set()

    async def run(self, handler: Handler, *, concurrency: int = 1) -> None:
        """Works on messages until it is stopped: what ends well is acknowledged, what raises is given back. Raise `Nack` to
        say when it comes again. With a concurrency of 1 messages are handled in the order in which they come.

        When the task that runs this is cancelled, what is in hand comes again at once.
        """
        deliveries = await self.open().open()
        working: set[asyncio.Task[Any]] = set()
        stop = asyncio.ensure_future(self._stop.wait())
        upcoming: asyncio.Task[Delivery] | None = None
        try:
            while not self._stop.is_set():
                if upcoming is None and len(working) < max(concurrency, 1):
                    upcoming = asyncio.ensure_future(deliveries.__anext__())
                waits = {stop, *working} | ({upcoming} if upcoming is not None else set())
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                working -= done
                if upcoming is not None and upcoming in done:
                    delivery, upcoming = upcoming.result(), None
                    working.add(asyncio.ensure_future(_work(handler, delivery)))
            if upcoming is not None and upcoming.done():
                # It came in the moment of the stop, and counts as begun.
                working.add(asyncio.ensure_future(_work(handler, upcoming.result())))
                upcoming = None
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            for task in working:
                task.cancel()
            raise
        finally:
            stop.cancel()
            await deliveries.stop_taking()
            if upcoming is not None:
                upcoming.cancel()
            await asyncio.gather(*working, *([upcoming] if upcoming else []), return_exceptions=True)
            await deliveries.close()


async def _work(handler: Handler, delivery: Delivery) -> None:
    try:
        await handler(delivery)
        settled = delivery.ack()
    except Nack as nack:
        settled = delivery.nack(nack.reason, delay=nack.delay)
    except Exception as error:
        log.exception("the handler failed on %s@%d", delivery.channel, delivery.seq)
        settled = delivery.nack(f"{type(error).__name__}: {error}", delay=RETRY_DELAY)
    try:
        await settled
    except LiminalError as error:
        # Too late, or not at all: it is, or will be, handed out again.
        log.debug("%s@%d was not settled: %s", delivery.channel, delivery.seq, error)
