from . import broker_pb2 as _broker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConsumeOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSUME_ORDER_UNSPECIFIED: _ClassVar[ConsumeOrder]
    CONSUME_ORDER_NONE: _ClassVar[ConsumeOrder]
    CONSUME_ORDER_EXCLUSIVE: _ClassVar[ConsumeOrder]
    CONSUME_ORDER_KEY: _ClassVar[ConsumeOrder]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACK: _ClassVar[Verdict]
    VERDICT_ACK_UP_TO: _ClassVar[Verdict]
    VERDICT_NACK: _ClassVar[Verdict]
    VERDICT_EXTEND: _ClassVar[Verdict]
    VERDICT_BEGUN: _ClassVar[Verdict]
CONSUME_ORDER_UNSPECIFIED: ConsumeOrder
CONSUME_ORDER_NONE: ConsumeOrder
CONSUME_ORDER_EXCLUSIVE: ConsumeOrder
CONSUME_ORDER_KEY: ConsumeOrder
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACK: Verdict
VERDICT_ACK_UP_TO: Verdict
VERDICT_NACK: Verdict
VERDICT_EXTEND: Verdict
VERDICT_BEGUN: Verdict

class ConsumerConfig(_message.Message):
    __slots__ = ("ack_timeout_ms", "max_attempts", "dead_letter", "max_in_flight", "order", "order_header", "filter", "drop_dead", "settle_skipped")
    ACK_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    ORDER_HEADER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DROP_DEAD_FIELD_NUMBER: _ClassVar[int]
    SETTLE_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ack_timeout_ms: int
    max_attempts: int
    dead_letter: str
    max_in_flight: int
    order: ConsumeOrder
    order_header: str
    filter: str
    drop_dead: bool
    settle_skipped: bool
    def __init__(self, ack_timeout_ms: _Optional[int] = ..., max_attempts: _Optional[int] = ..., dead_letter: _Optional[str] = ..., max_in_flight: _Optional[int] = ..., order: _Optional[_Union[ConsumeOrder, str]] = ..., order_header: _Optional[str] = ..., filter: _Optional[str] = ..., drop_dead: bool = ..., settle_skipped: bool = ...) -> None: ...

class Consumer(_message.Message):
    __slots__ = ("channel", "name", "id", "config", "created_ms", "next_seq", "floor_seq", "lag", "in_flight", "waiting", "redelivered", "dead", "dying", "lost")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    FLOOR_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    DYING_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    id: int
    config: ConsumerConfig
    created_ms: int
    next_seq: int
    floor_seq: int
    lag: int
    in_flight: int
    waiting: int
    redelivered: int
    dead: int
    dying: int
    lost: int
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ..., id: _Optional[int] = ..., config: _Optional[_Union[ConsumerConfig, _Mapping]] = ..., created_ms: _Optional[int] = ..., next_seq: _Optional[int] = ..., floor_seq: _Optional[int] = ..., lag: _Optional[int] = ..., in_flight: _Optional[int] = ..., waiting: _Optional[int] = ..., redelivered: _Optional[int] = ..., dead: _Optional[int] = ..., dying: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class CreateConsumerRequest(_message.Message):
    __slots__ = ("channel", "name", "config", "start")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    config: ConsumerConfig
    start: _broker_pb2.Start
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ..., config: _Optional[_Union[ConsumerConfig, _Mapping]] = ..., start: _Optional[_Union[_broker_pb2.Start, _Mapping]] = ...) -> None: ...

class CreateConsumerResponse(_message.Message):
    __slots__ = ("consumer",)
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    consumer: Consumer
    def __init__(self, consumer: _Optional[_Union[Consumer, _Mapping]] = ...) -> None: ...

class ListConsumersRequest(_message.Message):
    __slots__ = ("channel", "after", "limit")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    after: str
    limit: int
    def __init__(self, channel: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListConsumersResponse(_message.Message):
    __slots__ = ("consumers", "next_after")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[Consumer]
    next_after: str
    def __init__(self, consumers: _Optional[_Iterable[_Union[Consumer, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class GetConsumerRequest(_message.Message):
    __slots__ = ("channel", "name")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetConsumerResponse(_message.Message):
    __slots__ = ("consumer",)
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    consumer: Consumer
    def __init__(self, consumer: _Optional[_Union[Consumer, _Mapping]] = ...) -> None: ...

class UpdateConsumerRequest(_message.Message):
    __slots__ = ("channel", "name", "ack_timeout_ms", "max_attempts", "dead_letter", "max_in_flight", "order", "order_header", "filter", "drop_dead", "settle_skipped")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    ORDER_HEADER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DROP_DEAD_FIELD_NUMBER: _ClassVar[int]
    SETTLE_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    ack_timeout_ms: int
    max_attempts: int
    dead_letter: str
    max_in_flight: int
    order: ConsumeOrder
    order_header: str
    filter: str
    drop_dead: bool
    settle_skipped: bool
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ..., ack_timeout_ms: _Optional[int] = ..., max_attempts: _Optional[int] = ..., dead_letter: _Optional[str] = ..., max_in_flight: _Optional[int] = ..., order: _Optional[_Union[ConsumeOrder, str]] = ..., order_header: _Optional[str] = ..., filter: _Optional[str] = ..., drop_dead: bool = ..., settle_skipped: bool = ...) -> None: ...

class UpdateConsumerResponse(_message.Message):
    __slots__ = ("consumer",)
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    consumer: Consumer
    def __init__(self, consumer: _Optional[_Union[Consumer, _Mapping]] = ...) -> None: ...

class DeleteConsumerRequest(_message.Message):
    __slots__ = ("channel", "name")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteConsumerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetConsumerRequest(_message.Message):
    __slots__ = ("channel", "name", "start")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    start: _broker_pb2.Start
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ..., start: _Optional[_Union[_broker_pb2.Start, _Mapping]] = ...) -> None: ...

class ResetConsumerResponse(_message.Message):
    __slots__ = ("consumer",)
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    consumer: Consumer
    def __init__(self, consumer: _Optional[_Union[Consumer, _Mapping]] = ...) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ("open", "settlements", "credit")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    open: ConsumeOpen
    settlements: _containers.RepeatedCompositeFieldContainer[Settlement]
    credit: int
    def __init__(self, open: _Optional[_Union[ConsumeOpen, _Mapping]] = ..., settlements: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ..., credit: _Optional[int] = ...) -> None: ...

class ConsumeOpen(_message.Message):
    __slots__ = ("channel", "consumer", "credit", "reports_begun")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    REPORTS_BEGUN_FIELD_NUMBER: _ClassVar[int]
    channel: str
    consumer: str
    credit: int
    reports_begun: bool
    def __init__(self, channel: _Optional[str] = ..., consumer: _Optional[str] = ..., credit: _Optional[int] = ..., reports_begun: bool = ...) -> None: ...

class ConsumeResponse(_message.Message):
    __slots__ = ("deliveries", "results", "report_begun", "notice")
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REPORT_BEGUN_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[ConsumerDelivery]
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    report_begun: bool
    notice: _broker_pb2.Notice
    def __init__(self, deliveries: _Optional[_Iterable[_Union[ConsumerDelivery, _Mapping]]] = ..., results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ..., report_begun: bool = ..., notice: _Optional[_Union[_broker_pb2.Notice, _Mapping]] = ...) -> None: ...

class ConsumerDelivery(_message.Message):
    __slots__ = ("token", "seq", "attempt", "time_ms", "schema_id", "message", "position")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    token: str
    seq: int
    attempt: int
    time_ms: int
    schema_id: int
    message: _broker_pb2.Message
    position: _broker_pb2.Position
    def __init__(self, token: _Optional[str] = ..., seq: _Optional[int] = ..., attempt: _Optional[int] = ..., time_ms: _Optional[int] = ..., schema_id: _Optional[int] = ..., message: _Optional[_Union[_broker_pb2.Message, _Mapping]] = ..., position: _Optional[_Union[_broker_pb2.Position, _Mapping]] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("token", "verdict", "delay_ms", "reason")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    token: str
    verdict: Verdict
    delay_ms: int
    reason: str
    def __init__(self, token: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., delay_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class SettleResult(_message.Message):
    __slots__ = ("token", "error")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    token: str
    error: _broker_pb2.Error
    def __init__(self, token: _Optional[str] = ..., error: _Optional[_Union[_broker_pb2.Error, _Mapping]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("channel", "consumer", "max", "wait_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    consumer: str
    max: int
    wait_ms: int
    def __init__(self, channel: _Optional[str] = ..., consumer: _Optional[str] = ..., max: _Optional[int] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class PullResponse(_message.Message):
    __slots__ = ("deliveries", "notice")
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[ConsumerDelivery]
    notice: _broker_pb2.Notice
    def __init__(self, deliveries: _Optional[_Iterable[_Union[ConsumerDelivery, _Mapping]]] = ..., notice: _Optional[_Union[_broker_pb2.Notice, _Mapping]] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("channel", "consumer", "settlements")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    consumer: str
    settlements: _containers.RepeatedCompositeFieldContainer[Settlement]
    def __init__(self, channel: _Optional[str] = ..., consumer: _Optional[str] = ..., settlements: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ...) -> None: ...

class DeadLetterSelection(_message.Message):
    __slots__ = ("channel", "consumer", "dead_letter", "filter", "from_seq", "limit")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    consumer: str
    dead_letter: str
    filter: str
    from_seq: int
    limit: int
    def __init__(self, channel: _Optional[str] = ..., consumer: _Optional[str] = ..., dead_letter: _Optional[str] = ..., filter: _Optional[str] = ..., from_seq: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("seq", "time_ms", "bytes", "origin_seq", "attempts", "reason", "hops", "redriven", "message")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_SEQ_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    REDRIVEN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    time_ms: int
    bytes: int
    origin_seq: int
    attempts: int
    reason: str
    hops: int
    redriven: int
    message: _broker_pb2.Message
    def __init__(self, seq: _Optional[int] = ..., time_ms: _Optional[int] = ..., bytes: _Optional[int] = ..., origin_seq: _Optional[int] = ..., attempts: _Optional[int] = ..., reason: _Optional[str] = ..., hops: _Optional[int] = ..., redriven: _Optional[int] = ..., message: _Optional[_Union[_broker_pb2.Message, _Mapping]] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("selection",)
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    selection: DeadLetterSelection
    def __init__(self, selection: _Optional[_Union[DeadLetterSelection, _Mapping]] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letter", "letters", "next_seq", "done")
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    dead_letter: str
    letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next_seq: int
    done: bool
    def __init__(self, dead_letter: _Optional[str] = ..., letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next_seq: _Optional[int] = ..., done: bool = ...) -> None: ...

class RedriveRequest(_message.Message):
    __slots__ = ("selection", "to", "dry_run")
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    selection: DeadLetterSelection
    to: str
    dry_run: bool
    def __init__(self, selection: _Optional[_Union[DeadLetterSelection, _Mapping]] = ..., to: _Optional[str] = ..., dry_run: bool = ...) -> None: ...

class RedriveResponse(_message.Message):
    __slots__ = ("dead_letter", "target", "moved", "unsure", "refused", "refusals", "next_seq", "done", "stopped")
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    UNSURE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    dead_letter: str
    target: str
    moved: int
    unsure: int
    refused: int
    refusals: _containers.RepeatedCompositeFieldContainer[RefusedLetter]
    next_seq: int
    done: bool
    stopped: _broker_pb2.Error
    def __init__(self, dead_letter: _Optional[str] = ..., target: _Optional[str] = ..., moved: _Optional[int] = ..., unsure: _Optional[int] = ..., refused: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[RefusedLetter, _Mapping]]] = ..., next_seq: _Optional[int] = ..., done: bool = ..., stopped: _Optional[_Union[_broker_pb2.Error, _Mapping]] = ...) -> None: ...

class RefusedLetter(_message.Message):
    __slots__ = ("seq", "error")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    seq: int
    error: _broker_pb2.Error
    def __init__(self, seq: _Optional[int] = ..., error: _Optional[_Union[_broker_pb2.Error, _Mapping]] = ...) -> None: ...
