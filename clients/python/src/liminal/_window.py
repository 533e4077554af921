"""The publisher's book: which messages wait, which are under way, and which have to go again. It touches no network, so that
batching, order and the fate of messages after a lost connection can be tested without one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import _retry
from ._error import LiminalError, malformed, of_proto
from ._proto import broker_pb2 as pb
from ._types import Receipt


@dataclass(frozen=True)
class Limits:
    messages: int
    """Messages of one batch."""
    bytes: int
    """Bytes of one batch; a single larger message still goes."""
    under_way: int
    """Batches that are sent before the first of them is acknowledged."""


@dataclass(eq=False)
class Ticket:
    """A message whose outcome somebody waits for, and what may be done to get one."""

    message: pb.Message
    size: int
    cost: int
    """What it holds of the publisher's room."""
    since: float
    """When it was handed in."""
    outcome: asyncio.Future[Receipt]
    unknown: bool = False
    """An earlier attempt may have gone through."""

    @property
    def keyed(self) -> bool:
        return self.message.HasField("key")

    def succeed(self, receipt: Receipt) -> int:
        if not self.outcome.done():
            self.outcome.set_result(receipt)
        return self.cost

    def fail(self, error: LiminalError) -> int:
        if not self.outcome.done():
            self.outcome.set_exception(error.as_unknown() if self.unknown else error.copy())
        return self.cost


@dataclass(eq=False)
class Batch:
    sent: float
    tickets: deque[Ticket]
    """Those that are not acknowledged."""


class Window:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[Ticket] = deque()
        self._under_way: deque[Batch] = deque()
        # Position in the stream of the next ack.
        self._next_ack = 0
        # Messages that were refused for the moment only, to go again once nothing is under way: sending on would put later
        # messages before them.
        self._again: list[Ticket] = []
        self._why_again: LiminalError | None = None

    def push(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)

    def may_send(self) -> bool:
        return self._why_again is None and len(self._under_way) < self._limits.under_way and bool(self._waiting)

    def is_empty(self) -> bool:
        return not (self._waiting or self._under_way or self._again)

    def has_waiting(self) -> bool:
        return bool(self._waiting or self._again)

    def oldest_under_way(self) -> float | None:
        return self._under_way[0].sent if self._under_way else None

    def take(self, now: float) -> list[pb.Message] | None:
        """The next batch to send: all that waits, within the limits."""
        if not self.may_send():
            return None
        tickets: deque[Ticket] = deque()
        size = 0
        while self._waiting and len(tickets) < self._limits.messages:
            if tickets and size + self._waiting[0].size > self._limits.bytes:
                break
            ticket = self._waiting.popleft()
            size += ticket.size
            tickets.append(ticket)
        self._under_way.append(Batch(now, tickets))
        return [ticket.message for ticket in tickets]

    def acks(self, first: int, acks: Sequence[pb.PublishAck]) -> tuple[int, LiminalError | None]:
        """The server answered for some messages. Gives the room that is free again, and why the stream should be left when
        that is so: the acks make no sense, or some message has to go again and nothing else is under way."""
        freed = 0
        if first != self._next_ack:
            return freed, malformed("list of acks")
        for ack in acks:
            if not self._under_way:
                return freed, malformed("list of acks")
            batch = self._under_way[0]
            ticket = batch.tickets.popleft()
            self._next_ack += 1
            freed += self._ack(ticket, ack)
            if not batch.tickets:
                self._under_way.popleft()
        return freed, None if self._under_way else self._why_again

    def _ack(self, ticket: Ticket, ack: pb.PublishAck) -> int:
        if ack.HasField("ok"):
            return ticket.succeed(Receipt._of(ack.ok))
        error = of_proto(ack.error) if ack.HasField("error") else malformed("ack").as_unknown()
        if not _retry.may_retry(error, safe=ticket.keyed):
            return ticket.fail(error)
        ticket.unknown |= error.outcome_unknown
        self._again.append(ticket)
        self._why_again = error
        return 0

    def broken(self, error: LiminalError) -> int:
        """The stream is over. Messages that may safely go again wait in their old order before all others; the rest of those
        under way fail. Gives the room that is free again."""
        freed = 0
        # All of these were sent, so whatever the stream's error says, they may have been stored.
        error = error.as_unknown()
        again = self._again
        for ticket in self._sent():
            if _retry.may_retry(error, safe=ticket.keyed):
                ticket.unknown = True
                again.append(ticket)
            else:
                freed += ticket.fail(error)
        self._waiting.extendleft(reversed(again))
        self._under_way.clear()
        self._again, self._why_again, self._next_ack = [], None, 0
        return freed

    def _sent(self) -> Iterable[Ticket]:
        for batch in self._under_way:
            yield from batch.tickets

    def expire(self, before: float, error: LiminalError) -> int:
        """Fails what was handed in up to `before`; nothing may be under way. Gives the room that is free again."""
        freed = 0
        while self._waiting and self._waiting[0].since <= before:
            freed += self._waiting.popleft().fail(error)
        return freed
