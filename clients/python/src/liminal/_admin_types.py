"""Channels, consumers and rules as programs manage them. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from ._error import LiminalError
from ._proto import broker_pb2 as pb
from ._proto import consumers_pb2 as consumers
from ._types import Message, time_from_ms, to_ms


class Compatibility(Enum):
    """What a new schema has to be to the one before it."""

    BACKWARD = 1
    FORWARD = 2
    FULL = 3
    NONE = 4


class Comparison(Enum):
    """By what payloads under the same idempotency key are the same."""

    BYTES = 1
    CANONICAL_JSON = 2


class WhenFull(Enum):
    DROP_OLDEST = 1
    REFUSE_NEW = 2


class Order(Enum):
    """In which order a consumer hands messages out."""

    NONE = 1
    EXCLUSIVE = 2
    KEY = 3


@dataclass(frozen=True)
class Retention:
    """What a channel keeps. Limits that are None do not limit."""

    max_messages: int | None = None
    max_bytes: int | None = None
    max_age: float | None = None
    when_full: WhenFull = WhenFull.DROP_OLDEST
    work_queue: bool = False
    """Messages go as soon as every consumer of the channel has acknowledged them."""
    compact_by: str = ""
    """Of the messages with the same value in this header only the last one is kept."""

    def _proto(self) -> pb.Retention:
        return pb.Retention(
            max_messages=self.max_messages,
            max_bytes=self.max_bytes,
            max_age_ms=None if self.max_age is None else to_ms(self.max_age, 1),
            when_full=self.when_full.value,  # type: ignore[arg-type]
            work_queue=self.work_queue,
            compact_by=self.compact_by,
        )

    @classmethod
    def _of(cls, proto: pb.Retention) -> Retention:
        return cls(
            proto.max_messages if proto.HasField("max_messages") else None,
            proto.max_bytes if proto.HasField("max_bytes") else None,
            proto.max_age_ms / 1000 if proto.HasField("max_age_ms") else None,
            WhenFull(proto.when_full or 1),
            proto.work_queue,
            proto.compact_by,
        )


@dataclass(frozen=True)
class Quota:
    """How much may be published by all publishers together."""

    messages_per_second: int | None = None
    bytes_per_second: int | None = None

    def _proto(self) -> pb.Quota:
        return pb.Quota(messages_per_second=self.messages_per_second, bytes_per_second=self.bytes_per_second)

    @classmethod
    def _of(cls, proto: pb.Quota) -> Quota:
        return cls(
            proto.messages_per_second if proto.HasField("messages_per_second") else None,
            proto.bytes_per_second if proto.HasField("bytes_per_second") else None,
        )


@dataclass(frozen=True)
class ChannelConfig:
    ephemeral: bool = False
    """At most once, never stored."""
    schema: str = ""
    """A JSON Schema; empty means any payload."""
    dedup_window: float | None = None
    """How long an idempotency key is remembered; None means the default (24 hours)."""
    compatibility: Compatibility = Compatibility.BACKWARD
    retention: Retention = field(default_factory=Retention)
    quarantine: str = ""
    """The channel that gets samples of the messages which the schema refuses."""
    quota: Quota = field(default_factory=Quota)
    comparison: Comparison = Comparison.BYTES

    def _proto(self) -> pb.ChannelConfig:
        return pb.ChannelConfig(
            durability=pb.DURABILITY_EPHEMERAL if self.ephemeral else pb.DURABILITY_DURABLE,
            schema=self.schema,
            dedup_window_ms=0 if self.dedup_window is None else to_ms(self.dedup_window, 1),
            compatibility=self.compatibility.value,  # type: ignore[arg-type]
            retention=self.retention._proto(),
            quarantine=self.quarantine,
            quota=self.quota._proto(),
            comparison=self.comparison.value,  # type: ignore[arg-type]
        )

    @classmethod
    def _of(cls, proto: pb.ChannelConfig) -> ChannelConfig:
        return cls(
            ephemeral=proto.durability == pb.DURABILITY_EPHEMERAL,
            schema=proto.schema,
            dedup_window=proto.dedup_window_ms / 1000 if proto.dedup_window_ms else None,
            compatibility=Compatibility(proto.compatibility or 1),
            retention=Retention._of(proto.retention),
            quarantine=proto.quarantine,
            quota=Quota._of(proto.quota),
            comparison=Comparison(proto.comparison or 1),
        )


@dataclass(frozen=True)
class Channel:
    name: str
    id: int
    config: ChannelConfig
    schema_id: int
    created: datetime
    first_seq: int
    next_seq: int
    live_keys: int
    bytes: int
    subscribers: int
    rejected: int
    delayed: int
    compacted: int

    @classmethod
    def _of(cls, proto: pb.Channel) -> Channel:
        return cls(
            proto.name,
            proto.id,
            ChannelConfig._of(proto.config),
            proto.schema_id,
            time_from_ms(proto.created_ms),
            proto.first_seq,
            proto.next_seq,
            proto.live_keys,
            proto.bytes,
            proto.subscribers,
            proto.rejected,
            proto.delayed,
            proto.compacted,
        )


@dataclass(frozen=True)
class Rule:
    """What is published to `source` and matches is appended to `target` too."""

    source: str
    target: str
    predicate: str = ""


@dataclass(frozen=True)
class Delayed:
    """A message that waits for its time."""

    id: int
    due: datetime
    message: Message


@dataclass(frozen=True)
class ConsumerConfig:
    ack_timeout: float = 30.0
    """A message that is not settled for so long comes again."""
    max_attempts: int = 0
    """A message that was worked on so often without an ack is dead; 0: it comes again for ever."""
    dead_letter: str = ""
    """The channel that dead messages go to; empty: `<channel>.dead`."""
    max_in_flight: int = 0
    """Messages that members may have at once; 0 means the default."""
    order: Order = Order.NONE
    order_header: str = ""
    filter: str = ""
    drop_dead: bool = False
    settle_skipped: bool = False

    def _proto(self) -> consumers.ConsumerConfig:
        return consumers.ConsumerConfig(
            ack_timeout_ms=to_ms(self.ack_timeout, 1),
            max_attempts=self.max_attempts,
            dead_letter=self.dead_letter,
            max_in_flight=self.max_in_flight,
            order=self.order.value,  # type: ignore[arg-type]
            order_header=self.order_header,
            filter=self.filter,
            drop_dead=self.drop_dead,
            settle_skipped=self.settle_skipped,
        )

    @classmethod
    def _of(cls, proto: consumers.ConsumerConfig) -> ConsumerConfig:
        return cls(
            proto.ack_timeout_ms / 1000,
            proto.max_attempts,
            proto.dead_letter,
            proto.max_in_flight,
            Order(proto.order or 1),
            proto.order_header,
            proto.filter,
            proto.drop_dead,
            proto.settle_skipped,
        )


@dataclass(frozen=True)
class ConsumerState:
    channel: str
    name: str
    config: ConsumerConfig
    created: datetime
    next_seq: int
    """The first message that was never handed out."""
    floor_seq: int
    """The lowest sequence number that is not settled."""
    lag: int
    """Messages that are not settled."""
    in_flight: int
    waiting: int
    redelivered: int
    dead: int
    dying: int
    lost: int

    @classmethod
    def _of(cls, proto: consumers.Consumer) -> ConsumerState:
        return cls(
            proto.channel,
            proto.name,
            ConsumerConfig._of(proto.config),
            time_from_ms(proto.created_ms),
            proto.next_seq,
            proto.floor_seq,
            proto.lag,
            proto.in_flight,
            proto.waiting,
            proto.redelivered,
            proto.dead,
            proto.dying,
            proto.lost,
        )


@dataclass(frozen=True)
class DeadLetter:
    """A message that a consumer gave up."""

    seq: int
    """Its place in the dead-letter channel."""
    time: datetime
    origin_seq: int
    """Its place in the channel in which it died."""
    attempts: int
    """How often work on it was begun."""
    reason: str
    """Why the last attempt came to nothing."""
    redriven: int
    """How often it was sent back."""
    message: Message

    @classmethod
    def _of(cls, proto: consumers.DeadLetter) -> DeadLetter:
        time, message = time_from_ms(proto.time_ms), Message._of(proto.message)
        return cls(proto.seq, time, proto.origin_seq, proto.attempts, proto.reason, proto.redriven, message)


@dataclass(frozen=True)
class Redriven:
    """What became of dead letters that were sent back."""

    moved: int
    unsure: int
    """Letters that are gone after a step of which no answer came: they were moved by this call or by another one."""
    refused: int
    """Letters that stay, because they cannot go there."""
    refusals: tuple[tuple[int, LiminalError], ...]
    """The first of them, with the reasons."""
    stopped: LiminalError | None
    """Why nothing more can be moved now, for example `ChannelFull`."""


@dataclass(frozen=True)
class NodeStatus:
    name: str
    role: str
    """`leader`, `follower` or `learner`."""
    health: str
    """`ok`, `behind`, `unreachable`, `failed` or `unwell`."""
    client_address: str
    applied: int
    failure: str


@dataclass(frozen=True)
class ClusterStatus:
    cluster_id: str
    leader: str | None
    epoch: int
    nodes: tuple[NodeStatus, ...]
