from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Confirm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFIRM_UNSPECIFIED: _ClassVar[Confirm]
    CONFIRM_COMMIT: _ClassVar[Confirm]
    CONFIRM_DELIVERY: _ClassVar[Confirm]

class Admission(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADMISSION_UNSPECIFIED: _ClassVar[Admission]
    ADMISSION_DEFER: _ClassVar[Admission]
    ADMISSION_REJECT: _ClassVar[Admission]

class IfChanged(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IF_CHANGED_UNSPECIFIED: _ClassVar[IfChanged]
    IF_CHANGED_NOTICE: _ClassVar[IfChanged]
    IF_CHANGED_FAIL: _ClassVar[IfChanged]
    IF_CHANGED_EARLIEST: _ClassVar[IfChanged]

class HistoryChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HISTORY_CHANGE_UNSPECIFIED: _ClassVar[HistoryChange]
    HISTORY_CHANGE_CUT: _ClassVar[HistoryChange]
    HISTORY_CHANGE_REWOUND: _ClassVar[HistoryChange]
    HISTORY_CHANGE_RECREATED: _ClassVar[HistoryChange]
    HISTORY_CHANGE_BEYOND_END: _ClassVar[HistoryChange]

class ReadConsistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    READ_UNSPECIFIED: _ClassVar[ReadConsistency]
    READ_LINEARIZABLE: _ClassVar[ReadConsistency]
    READ_LOCAL: _ClassVar[ReadConsistency]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_DURABLE: _ClassVar[Durability]
    DURABILITY_EPHEMERAL: _ClassVar[Durability]

class Comparison(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPARISON_UNSPECIFIED: _ClassVar[Comparison]
    COMPARISON_BYTES: _ClassVar[Comparison]
    COMPARISON_CANONICAL_JSON: _ClassVar[Comparison]

class Compatibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPATIBILITY_UNSPECIFIED: _ClassVar[Compatibility]
    COMPATIBILITY_BACKWARD: _ClassVar[Compatibility]
    COMPATIBILITY_FORWARD: _ClassVar[Compatibility]
    COMPATIBILITY_FULL: _ClassVar[Compatibility]
    COMPATIBILITY_NONE: _ClassVar[Compatibility]

class WhenFull(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHEN_FULL_UNSPECIFIED: _ClassVar[WhenFull]
    WHEN_FULL_DROP_OLDEST: _ClassVar[WhenFull]
    WHEN_FULL_REFUSE_NEW: _ClassVar[WhenFull]
CONFIRM_UNSPECIFIED: Confirm
CONFIRM_COMMIT: Confirm
CONFIRM_DELIVERY: Confirm
ADMISSION_UNSPECIFIED: Admission
ADMISSION_DEFER: Admission
ADMISSION_REJECT: Admission
IF_CHANGED_UNSPECIFIED: IfChanged
IF_CHANGED_NOTICE: IfChanged
IF_CHANGED_FAIL: IfChanged
IF_CHANGED_EARLIEST: IfChanged
HISTORY_CHANGE_UNSPECIFIED: HistoryChange
HISTORY_CHANGE_CUT: HistoryChange
HISTORY_CHANGE_REWOUND: HistoryChange
HISTORY_CHANGE_RECREATED: HistoryChange
HISTORY_CHANGE_BEYOND_END: HistoryChange
READ_UNSPECIFIED: ReadConsistency
READ_LINEARIZABLE: ReadConsistency
READ_LOCAL: ReadConsistency
DURABILITY_UNSPECIFIED: Durability
DURABILITY_DURABLE: Durability
DURABILITY_EPHEMERAL: Durability
COMPARISON_UNSPECIFIED: Comparison
COMPARISON_BYTES: Comparison
COMPARISON_CANONICAL_JSON: Comparison
COMPATIBILITY_UNSPECIFIED: Compatibility
COMPATIBILITY_BACKWARD: Compatibility
COMPATIBILITY_FORWARD: Compatibility
COMPATIBILITY_FULL: Compatibility
COMPATIBILITY_NONE: Compatibility
WHEN_FULL_UNSPECIFIED: WhenFull
WHEN_FULL_DROP_OLDEST: WhenFull
WHEN_FULL_REFUSE_NEW: WhenFull

class Rule(_message.Message):
    __slots__ = ("source", "target", "predicate")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PREDICATE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    predicate: str
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., predicate: _Optional[str] = ...) -> None: ...

class PutRuleRequest(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: Rule
    def __init__(self, rule: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...

class PutRuleResponse(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: Rule
    def __init__(self, rule: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...

class DeleteRuleRequest(_message.Message):
    __slots__ = ("source", "target")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ...) -> None: ...

class DeleteRuleResponse(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: Rule
    def __init__(self, rule: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...

class ListRulesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRulesResponse(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    def __init__(self, rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class CausalContext(_message.Message):
    __slots__ = ("parent_id", "vector_clock_entry")
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_CLOCK_ENTRY_FIELD_NUMBER: _ClassVar[int]
    parent_id: str
    vector_clock_entry: VectorClockEntry
    def __init__(self, parent_id: _Optional[str] = ..., vector_clock_entry: _Optional[_Union[VectorClockEntry, _Mapping]] = ...) -> None: ...

class VectorClockEntry(_message.Message):
    __slots__ = ("node", "counter")
    NODE_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    node: str
    counter: int
    def __init__(self, node: _Optional[str] = ..., counter: _Optional[int] = ...) -> None: ...

class TraceContext(_message.Message):
    __slots__ = ("traceparent", "tracestate")
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    traceparent: str
    tracestate: str
    def __init__(self, traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("payload", "key", "headers", "causal_context", "trace_context", "ttl_ms", "deliver_at_ms")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRACE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    DELIVER_AT_MS_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    key: str
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    causal_context: CausalContext
    trace_context: TraceContext
    ttl_ms: int
    deliver_at_ms: int
    def __init__(self, payload: _Optional[bytes] = ..., key: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., causal_context: _Optional[_Union[CausalContext, _Mapping]] = ..., trace_context: _Optional[_Union[TraceContext, _Mapping]] = ..., ttl_ms: _Optional[int] = ..., deliver_at_ms: _Optional[int] = ...) -> None: ...

class MessageBatch(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("channel", "message", "confirm", "expected_seq")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SEQ_FIELD_NUMBER: _ClassVar[int]
    channel: str
    message: Message
    confirm: Confirm
    expected_seq: int
    def __init__(self, channel: _Optional[str] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., confirm: _Optional[_Union[Confirm, str]] = ..., expected_seq: _Optional[int] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("seq", "duplicate", "delivered", "term", "scheduled_ms", "position")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    seq: int
    duplicate: bool
    delivered: bool
    term: int
    scheduled_ms: int
    position: Position
    def __init__(self, seq: _Optional[int] = ..., duplicate: bool = ..., delivered: bool = ..., term: _Optional[int] = ..., scheduled_ms: _Optional[int] = ..., position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class PublishBatch(_message.Message):
    __slots__ = ("channel", "batch", "confirm", "expected_seq")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SEQ_FIELD_NUMBER: _ClassVar[int]
    channel: str
    batch: MessageBatch
    confirm: Confirm
    expected_seq: int
    def __init__(self, channel: _Optional[str] = ..., batch: _Optional[_Union[MessageBatch, _Mapping]] = ..., confirm: _Optional[_Union[Confirm, str]] = ..., expected_seq: _Optional[int] = ...) -> None: ...

class PublishAcks(_message.Message):
    __slots__ = ("first", "acks")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    first: int
    acks: _containers.RepeatedCompositeFieldContainer[PublishAck]
    def __init__(self, first: _Optional[int] = ..., acks: _Optional[_Iterable[_Union[PublishAck, _Mapping]]] = ...) -> None: ...

class PublishAck(_message.Message):
    __slots__ = ("ok", "error")
    OK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ok: PublishResponse
    error: Error
    def __init__(self, ok: _Optional[_Union[PublishResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "details", "unknown_outcome", "retry_after_ms", "admission")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    details: _containers.RepeatedCompositeFieldContainer[ErrorDetail]
    unknown_outcome: bool
    retry_after_ms: int
    admission: Admission
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[ErrorDetail, _Mapping]]] = ..., unknown_outcome: bool = ..., retry_after_ms: _Optional[int] = ..., admission: _Optional[_Union[Admission, str]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("pointer", "message")
    POINTER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    pointer: str
    message: str
    def __init__(self, pointer: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("channel", "start", "filter", "if_changed")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    IF_CHANGED_FIELD_NUMBER: _ClassVar[int]
    channel: str
    start: Start
    filter: str
    if_changed: IfChanged
    def __init__(self, channel: _Optional[str] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., filter: _Optional[str] = ..., if_changed: _Optional[_Union[IfChanged, str]] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("earliest", "latest", "seq", "time_ms", "position")
    EARLIEST_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    earliest: bool
    latest: bool
    seq: int
    time_ms: int
    position: Position
    def __init__(self, earliest: bool = ..., latest: bool = ..., seq: _Optional[int] = ..., time_ms: _Optional[int] = ..., position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("channel_id", "epoch", "history", "seq")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    channel_id: int
    epoch: int
    history: int
    seq: int
    def __init__(self, channel_id: _Optional[int] = ..., epoch: _Optional[int] = ..., history: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("change", "code", "message", "from_seq", "next", "first_seq", "end_seq")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    END_SEQ_FIELD_NUMBER: _ClassVar[int]
    change: HistoryChange
    code: str
    message: str
    from_seq: int
    next: Position
    first_seq: int
    end_seq: int
    def __init__(self, change: _Optional[_Union[HistoryChange, str]] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., from_seq: _Optional[int] = ..., next: _Optional[_Union[Position, _Mapping]] = ..., first_seq: _Optional[int] = ..., end_seq: _Optional[int] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("first_seq", "time_ms", "batch", "count", "schema_id", "next", "notice")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    time_ms: int
    batch: MessageBatch
    count: int
    schema_id: int
    next: Position
    notice: Notice
    def __init__(self, first_seq: _Optional[int] = ..., time_ms: _Optional[int] = ..., batch: _Optional[_Union[MessageBatch, _Mapping]] = ..., count: _Optional[int] = ..., schema_id: _Optional[int] = ..., next: _Optional[_Union[Position, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("channel", "start", "limit", "consistency", "min_seq", "if_changed")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQ_FIELD_NUMBER: _ClassVar[int]
    IF_CHANGED_FIELD_NUMBER: _ClassVar[int]
    channel: str
    start: Start
    limit: int
    consistency: ReadConsistency
    min_seq: int
    if_changed: IfChanged
    def __init__(self, channel: _Optional[str] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., limit: _Optional[int] = ..., consistency: _Optional[_Union[ReadConsistency, str]] = ..., min_seq: _Optional[int] = ..., if_changed: _Optional[_Union[IfChanged, str]] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("deliveries", "next_seq", "first_seq", "end_seq", "next", "notice")
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    END_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    next_seq: int
    first_seq: int
    end_seq: int
    next: Position
    notice: Notice
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., next_seq: _Optional[int] = ..., first_seq: _Optional[int] = ..., end_seq: _Optional[int] = ..., next: _Optional[_Union[Position, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class PublishTransactionRequest(_message.Message):
    __slots__ = ("messages", "confirm", "acks", "completions")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[TransactionMessage]
    confirm: Confirm
    acks: _containers.RepeatedCompositeFieldContainer[TransactionAck]
    completions: _containers.RepeatedCompositeFieldContainer[TransactionCompletion]
    def __init__(self, messages: _Optional[_Iterable[_Union[TransactionMessage, _Mapping]]] = ..., confirm: _Optional[_Union[Confirm, str]] = ..., acks: _Optional[_Iterable[_Union[TransactionAck, _Mapping]]] = ..., completions: _Optional[_Iterable[_Union[TransactionCompletion, _Mapping]]] = ...) -> None: ...

class TransactionAck(_message.Message):
    __slots__ = ("channel", "consumer", "tokens")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    consumer: str
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channel: _Optional[str] = ..., consumer: _Optional[str] = ..., tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class TransactionCompletion(_message.Message):
    __slots__ = ("namespace", "key", "token", "receipt")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    token: int
    receipt: bytes
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., token: _Optional[int] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class TransactionMessage(_message.Message):
    __slots__ = ("channel", "message", "expected_seq")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SEQ_FIELD_NUMBER: _ClassVar[int]
    channel: str
    message: Message
    expected_seq: int
    def __init__(self, channel: _Optional[str] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., expected_seq: _Optional[int] = ...) -> None: ...

class PublishTransactionResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[PublishResponse]
    def __init__(self, results: _Optional[_Iterable[_Union[PublishResponse, _Mapping]]] = ...) -> None: ...

class RequestRequest(_message.Message):
    __slots__ = ("channel", "message", "timeout_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    message: Message
    timeout_ms: int
    def __init__(self, channel: _Optional[str] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class RequestResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ...) -> None: ...

class ReplyRequest(_message.Message):
    __slots__ = ("inbox", "message")
    INBOX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    inbox: str
    message: Message
    def __init__(self, inbox: _Optional[str] = ..., message: _Optional[_Union[Message, _Mapping]] = ...) -> None: ...

class ReplyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChannelConfig(_message.Message):
    __slots__ = ("durability", "schema", "dedup_window_ms", "compatibility", "retention", "quarantine", "quota", "comparison")
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    DEDUP_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    COMPATIBILITY_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    durability: Durability
    schema: str
    dedup_window_ms: int
    compatibility: Compatibility
    retention: Retention
    quarantine: str
    quota: Quota
    comparison: Comparison
    def __init__(self, durability: _Optional[_Union[Durability, str]] = ..., schema: _Optional[str] = ..., dedup_window_ms: _Optional[int] = ..., compatibility: _Optional[_Union[Compatibility, str]] = ..., retention: _Optional[_Union[Retention, _Mapping]] = ..., quarantine: _Optional[str] = ..., quota: _Optional[_Union[Quota, _Mapping]] = ..., comparison: _Optional[_Union[Comparison, str]] = ...) -> None: ...

class Retention(_message.Message):
    __slots__ = ("max_messages", "max_bytes", "max_age_ms", "when_full", "work_queue", "compact_by")
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    WHEN_FULL_FIELD_NUMBER: _ClassVar[int]
    WORK_QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPACT_BY_FIELD_NUMBER: _ClassVar[int]
    max_messages: int
    max_bytes: int
    max_age_ms: int
    when_full: WhenFull
    work_queue: bool
    compact_by: str
    def __init__(self, max_messages: _Optional[int] = ..., max_bytes: _Optional[int] = ..., max_age_ms: _Optional[int] = ..., when_full: _Optional[_Union[WhenFull, str]] = ..., work_queue: bool = ..., compact_by: _Optional[str] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("messages_per_second", "bytes_per_second")
    MESSAGES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    messages_per_second: int
    bytes_per_second: int
    def __init__(self, messages_per_second: _Optional[int] = ..., bytes_per_second: _Optional[int] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("name", "id", "config", "schema_id", "created_ms", "first_seq", "next_seq", "live_keys", "bytes", "subscribers", "rejected", "delayed", "compacted")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIVE_KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    config: ChannelConfig
    schema_id: int
    created_ms: int
    first_seq: int
    next_seq: int
    live_keys: int
    bytes: int
    subscribers: int
    rejected: int
    delayed: int
    compacted: int
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., config: _Optional[_Union[ChannelConfig, _Mapping]] = ..., schema_id: _Optional[int] = ..., created_ms: _Optional[int] = ..., first_seq: _Optional[int] = ..., next_seq: _Optional[int] = ..., live_keys: _Optional[int] = ..., bytes: _Optional[int] = ..., subscribers: _Optional[int] = ..., rejected: _Optional[int] = ..., delayed: _Optional[int] = ..., compacted: _Optional[int] = ...) -> None: ...

class CreateChannelRequest(_message.Message):
    __slots__ = ("name", "config")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    name: str
    config: ChannelConfig
    def __init__(self, name: _Optional[str] = ..., config: _Optional[_Union[ChannelConfig, _Mapping]] = ...) -> None: ...

class CreateChannelResponse(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: Channel
    def __init__(self, channel: _Optional[_Union[Channel, _Mapping]] = ...) -> None: ...

class ListChannelsRequest(_message.Message):
    __slots__ = ("after", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: str
    limit: int
    def __init__(self, after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListChannelsResponse(_message.Message):
    __slots__ = ("channels", "next_after")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    next_after: str
    def __init__(self, channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class GetChannelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetChannelResponse(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: Channel
    def __init__(self, channel: _Optional[_Union[Channel, _Mapping]] = ...) -> None: ...

class UpdateChannelRequest(_message.Message):
    __slots__ = ("name", "schema", "dedup_window_ms", "compatibility", "retention", "quarantine", "quota", "dry_run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    DEDUP_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    COMPATIBILITY_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: str
    dedup_window_ms: int
    compatibility: Compatibility
    retention: Retention
    quarantine: str
    quota: Quota
    dry_run: bool
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[str] = ..., dedup_window_ms: _Optional[int] = ..., compatibility: _Optional[_Union[Compatibility, str]] = ..., retention: _Optional[_Union[Retention, _Mapping]] = ..., quarantine: _Optional[str] = ..., quota: _Optional[_Union[Quota, _Mapping]] = ..., dry_run: bool = ...) -> None: ...

class UpdateChannelResponse(_message.Message):
    __slots__ = ("channel", "incompatibilities", "removes")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    INCOMPATIBILITIES_FIELD_NUMBER: _ClassVar[int]
    REMOVES_FIELD_NUMBER: _ClassVar[int]
    channel: Channel
    incompatibilities: _containers.RepeatedCompositeFieldContainer[ErrorDetail]
    removes: int
    def __init__(self, channel: _Optional[_Union[Channel, _Mapping]] = ..., incompatibilities: _Optional[_Iterable[_Union[ErrorDetail, _Mapping]]] = ..., removes: _Optional[int] = ...) -> None: ...

class DeleteChannelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteChannelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSchemasRequest(_message.Message):
    __slots__ = ("channel", "after_id", "limit")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    after_id: int
    limit: int
    def __init__(self, channel: _Optional[str] = ..., after_id: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListSchemasResponse(_message.Message):
    __slots__ = ("schemas", "next_after_id")
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    schemas: _containers.RepeatedCompositeFieldContainer[SchemaVersion]
    next_after_id: int
    def __init__(self, schemas: _Optional[_Iterable[_Union[SchemaVersion, _Mapping]]] = ..., next_after_id: _Optional[int] = ...) -> None: ...

class SchemaVersion(_message.Message):
    __slots__ = ("id", "version", "time_ms", "schema")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    id: int
    version: int
    time_ms: int
    schema: str
    def __init__(self, id: _Optional[int] = ..., version: _Optional[int] = ..., time_ms: _Optional[int] = ..., schema: _Optional[str] = ...) -> None: ...

class ValidateHistoryRequest(_message.Message):
    __slots__ = ("channel", "schema", "start", "limit")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    schema: str
    start: Start
    limit: int
    def __init__(self, channel: _Optional[str] = ..., schema: _Optional[str] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class ValidateHistoryResponse(_message.Message):
    __slots__ = ("checked", "invalid", "first_seq", "next_seq", "end_seq", "samples")
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    INVALID_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    END_SEQ_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    checked: int
    invalid: int
    first_seq: int
    next_seq: int
    end_seq: int
    samples: _containers.RepeatedCompositeFieldContainer[InvalidMessage]
    def __init__(self, checked: _Optional[int] = ..., invalid: _Optional[int] = ..., first_seq: _Optional[int] = ..., next_seq: _Optional[int] = ..., end_seq: _Optional[int] = ..., samples: _Optional[_Iterable[_Union[InvalidMessage, _Mapping]]] = ...) -> None: ...

class InvalidMessage(_message.Message):
    __slots__ = ("seq", "violations")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    violations: _containers.RepeatedCompositeFieldContainer[ErrorDetail]
    def __init__(self, seq: _Optional[int] = ..., violations: _Optional[_Iterable[_Union[ErrorDetail, _Mapping]]] = ...) -> None: ...

class TrimChannelRequest(_message.Message):
    __slots__ = ("name", "from_seq", "newest", "last_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    LAST_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    from_seq: int
    newest: int
    last_ms: int
    def __init__(self, name: _Optional[str] = ..., from_seq: _Optional[int] = ..., newest: _Optional[int] = ..., last_ms: _Optional[int] = ...) -> None: ...

class TrimChannelResponse(_message.Message):
    __slots__ = ("first_seq",)
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    def __init__(self, first_seq: _Optional[int] = ...) -> None: ...

class ListDelayedRequest(_message.Message):
    __slots__ = ("channel", "after_id", "limit")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    after_id: int
    limit: int
    def __init__(self, channel: _Optional[str] = ..., after_id: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class DelayedMessage(_message.Message):
    __slots__ = ("id", "due_ms", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    DUE_MS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    due_ms: int
    message: Message
    def __init__(self, id: _Optional[int] = ..., due_ms: _Optional[int] = ..., message: _Optional[_Union[Message, _Mapping]] = ...) -> None: ...

class ListDelayedResponse(_message.Message):
    __slots__ = ("messages", "next_after_id")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[DelayedMessage]
    next_after_id: int
    def __init__(self, messages: _Optional[_Iterable[_Union[DelayedMessage, _Mapping]]] = ..., next_after_id: _Optional[int] = ...) -> None: ...

class WithdrawDelayedRequest(_message.Message):
    __slots__ = ("channel", "id")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    channel: str
    id: int
    def __init__(self, channel: _Optional[str] = ..., id: _Optional[int] = ...) -> None: ...

class WithdrawDelayedResponse(_message.Message):
    __slots__ = ("withdrawn",)
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    withdrawn: bool
    def __init__(self, withdrawn: bool = ...) -> None: ...
