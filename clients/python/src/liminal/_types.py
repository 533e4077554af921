"""What programs give and get: messages, places in channels, and what has become of them. Times are aware datetimes in UTC,
durations are seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Literal, Union

from ._error import malformed, refused
from ._proto import broker_pb2 as pb

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
REPLY_TO = "liminal-reply-to"


def to_ms(seconds: float, least: int = 0) -> int:
    return max(round(seconds * 1000), least)


def time_to_ms(time: datetime) -> int:
    if time.tzinfo is None:
        raise refused(f"the time {time.isoformat()} has no time zone", help="give it one, such as timezone.utc")
    return (time - EPOCH) // timedelta(milliseconds=1)


def time_from_ms(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


@dataclass(frozen=True, order=True)
class Position:
    """A place in a channel together with the history that it is of. Keep it as its text, and give it back as it is."""

    channel_id: int
    epoch: int
    history: int
    seq: int

    def __str__(self) -> str:
        return f"{self.channel_id}.{self.epoch}.{self.history:08x}.{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads the text of a position, such as `str` and the HTTP face write it."""
        match = re.fullmatch(r"([0-9]{1,20})\.([0-9]{1,20})\.([0-9a-fA-F]{8})\.([0-9]{1,20})", text)
        if match is None:
            raise refused(f"`{text}` is no position", help="give back what an earlier answer said, as it is")
        channel, epoch, history, seq = match.groups()
        numbers = (int(channel), int(epoch), int(seq))
        if max(numbers) >= 1 << 64:
            raise refused(f"`{text}` is no position: a number is too large")
        return cls(numbers[0], numbers[1], int(history, 16), numbers[2])

    def at(self, seq: int) -> Position:
        """The same history at another sequence number."""
        return replace(self, seq=seq)

    @classmethod
    def _of(cls, proto: pb.Position) -> Position:
        return cls(proto.channel_id, proto.epoch, proto.history, proto.seq)

    def _proto(self) -> pb.Position:
        return pb.Position(channel_id=self.channel_id, epoch=self.epoch, history=self.history, seq=self.seq)


Start = Union[Literal["earliest", "latest"], int, datetime, Position]
"""Where to begin: at the first stored message, after the last one, at a sequence number, at a time, or where an earlier
reader stopped."""


def start_to_proto(start: Start) -> pb.Start:
    if isinstance(start, Position):
        # Nodes of earlier versions know only the number.
        return pb.Start(seq=start.seq, position=start._proto())
    if isinstance(start, datetime):
        return pb.Start(time_ms=time_to_ms(start))
    if isinstance(start, int) and not isinstance(start, bool) and start >= 0:
        return pb.Start(seq=start)
    if start == "earliest":
        return pb.Start(earliest=True)
    if start == "latest":
        return pb.Start(latest=True)
    raise refused(f"{start!r} is no place to start", help="give 'earliest', 'latest', a number, a time or a Position")


IfChanged = Literal["notice", "fail", "earliest"]
IF_CHANGED: dict[str | None, int] = {None: 0, "notice": 1, "fail": 2, "earliest": 3}


class Confirm(Enum):
    """What an ack of a publish waits for."""

    COMMIT = 1
    """Fsynced on a majority and applied on the leader."""
    DELIVERY = 2
    """Also for the first live subscriber to be handed the message, or for the certainty that there is none."""


@dataclass(frozen=True)
class Message:
    """A message. With a key it can be published again without harm: it is stored once."""

    payload: bytes
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ttl: float | None = None
    """How long after it was sequenced it may be handed to anyone, in seconds."""
    deliver_at: datetime | None = None
    """When it becomes visible."""
    parent_id: str = ""
    """The id of the message that this one answers or follows."""
    vector_clock: tuple[str, int] | None = None
    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def json(cls, value: Any, **more: Any) -> Message:
        """A message with this value as JSON."""
        return cls(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), **more)

    @classmethod
    def of(cls, given: MessageLike, key: str | None = None, headers: Mapping[str, str] | None = None) -> Message:
        if isinstance(given, Message):
            more: dict[str, Any] = {}
            if key is not None:
                more["key"] = key
            if headers is not None:
                more["headers"] = (*given.headers, *headers.items())
            return replace(given, **more) if more else given
        payload = given.encode() if isinstance(given, str) else bytes(given)
        return cls(payload, key, tuple((headers or {}).items()))

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for known, value in self.headers if known == name), None)

    def value(self) -> Any:
        """The payload read as JSON."""
        return json.loads(self.payload)

    def _proto(self) -> pb.Message:
        proto = pb.Message(payload=self.payload, key=self.key)
        for name, value in self.headers:
            proto.headers.add(name=name, value=value)
        if self.ttl is not None:
            proto.ttl_ms = to_ms(self.ttl, 1)
        if self.deliver_at is not None:
            proto.deliver_at_ms = time_to_ms(self.deliver_at)
        if self.parent_id or self.vector_clock:
            proto.causal_context.parent_id = self.parent_id
        if self.vector_clock:
            node, counter = self.vector_clock
            proto.causal_context.vector_clock_entry.node = node
            proto.causal_context.vector_clock_entry.counter = counter
        if self.traceparent or self.tracestate:
            proto.trace_context.traceparent = self.traceparent
            proto.trace_context.tracestate = self.tracestate
        return proto

    @classmethod
    def _of(cls, proto: pb.Message) -> Message:
        clock = proto.causal_context.vector_clock_entry
        has_clock = proto.HasField("causal_context") and proto.causal_context.HasField("vector_clock_entry")
        return cls(
            payload=proto.payload,
            key=proto.key if proto.HasField("key") else None,
            headers=tuple((header.name, header.value) for header in proto.headers),
            ttl=proto.ttl_ms / 1000 if proto.ttl_ms else None,
            deliver_at=time_from_ms(proto.deliver_at_ms) if proto.deliver_at_ms else None,
            parent_id=proto.causal_context.parent_id,
            vector_clock=(clock.node, clock.counter) if has_clock else None,
            traceparent=proto.trace_context.traceparent,
            tracestate=proto.trace_context.tracestate,
        )


MessageLike = Union[Message, bytes, str]


@dataclass(frozen=True)
class Receipt:
    """The answer to a publish that was stored, or that waits for its time."""

    seq: int | None
    """Its place in the channel; None for a message that waits for its time."""
    position: Position | None
    """The same with the history that it is of. None for a message that waits, and where the channel has been deleted."""
    duplicate: bool
    """The key was published before with this payload, and `seq` is the original one."""
    delivered: bool | None
    """Whether a live subscriber was handed it; None where that was not waited for."""
    term: int
    scheduled: datetime | None
    """The time for which it waits."""

    @classmethod
    def _of(cls, proto: pb.PublishResponse) -> Receipt:
        waits = proto.HasField("scheduled_ms")
        return cls(
            seq=None if waits else proto.seq,
            position=Position._of(proto.position) if proto.HasField("position") else None,
            duplicate=proto.duplicate,
            delivered=proto.delivered if proto.HasField("delivered") else None,
            term=proto.term,
            scheduled=time_from_ms(proto.scheduled_ms) if waits else None,
        )


@dataclass(frozen=True)
class Received:
    """A message of a channel."""

    channel: str
    seq: int
    time: datetime
    """When the leader sequenced it."""
    schema_id: int
    """The version of the channel's schema that the payload was checked against; 0 means none."""
    message: Message
    position: Position | None = field(default=None, compare=False)
    """Its place with the history that it is of."""

    @property
    def payload(self) -> bytes:
        return self.message.payload

    @property
    def key(self) -> str | None:
        return self.message.key

    @property
    def reply_to(self) -> str | None:
        """Where the reply goes, if the message is a request."""
        return self.message.header(REPLY_TO)


class HistoryChange(Enum):
    """What has become of the history behind a reader's position."""

    CUT = 1
    """Messages from there on were removed, by retention or a trim."""
    REWOUND = 2
    """The channel was restored from a backup that ends before the position."""
    RECREATED = 3
    """It is another channel of that name."""
    BEYOND_END = 4
    """The channel ends before the position."""


@dataclass(frozen=True)
class Notice:
    """The history behind a reader has changed, and this is where it goes on."""

    channel: str
    change: HistoryChange
    code: str
    message: str
    from_seq: int
    """What the reader wanted next."""
    next: Position
    """Where it goes on."""
    first_seq: int
    """The first sequence number that is stored."""
    end_seq: int
    """The sequence number after the last message."""

    @classmethod
    def _of(cls, channel: str, proto: pb.Notice) -> Notice:
        if not proto.HasField("next") or proto.change not in {change.value for change in HistoryChange}:
            raise malformed("notice")
        return cls(
            channel=channel,
            change=HistoryChange(proto.change),
            code=proto.code,
            message=proto.message,
            from_seq=proto.from_seq,
            next=Position._of(proto.next),
            first_seq=proto.first_seq,
            end_seq=proto.end_seq,
        )


@dataclass(frozen=True)
class Page:
    """A page of stored messages."""

    messages: tuple[Received, ...]
    next: Position | None
    """Where the next page begins."""
    next_seq: int
    first_seq: int
    """The first sequence number still stored."""
    end_seq: int
    """The sequence number after the last message that the answering node has applied."""
    notice: Notice | None

    def __iter__(self) -> Iterator[Received]:
        return iter(self.messages)


def unpack(channel: str, delivery: pb.Delivery, first: int) -> list[Received]:
    """The messages of a delivery from sequence number `first` on."""
    time = time_from_ms(delivery.time_ms)
    place = Position._of(delivery.next) if delivery.HasField("next") else None
    found = []
    for seq, message in enumerate(delivery.batch.messages, delivery.first_seq):
        if seq >= first:
            at = None if place is None else place.at(seq)
            found.append(Received(channel, seq, time, delivery.schema_id, Message._of(message), at))
    return found
