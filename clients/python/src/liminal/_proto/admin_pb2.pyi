from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_ROLE_UNSPECIFIED: _ClassVar[NodeRole]
    NODE_ROLE_LEADER: _ClassVar[NodeRole]
    NODE_ROLE_FOLLOWER: _ClassVar[NodeRole]
    NODE_ROLE_LEARNER: _ClassVar[NodeRole]

class NodeHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_HEALTH_UNSPECIFIED: _ClassVar[NodeHealth]
    NODE_HEALTH_OK: _ClassVar[NodeHealth]
    NODE_HEALTH_BEHIND: _ClassVar[NodeHealth]
    NODE_HEALTH_UNREACHABLE: _ClassVar[NodeHealth]
    NODE_HEALTH_FAILED: _ClassVar[NodeHealth]
    NODE_HEALTH_UNWELL: _ClassVar[NodeHealth]
NODE_ROLE_UNSPECIFIED: NodeRole
NODE_ROLE_LEADER: NodeRole
NODE_ROLE_FOLLOWER: NodeRole
NODE_ROLE_LEARNER: NodeRole
NODE_HEALTH_UNSPECIFIED: NodeHealth
NODE_HEALTH_OK: NodeHealth
NODE_HEALTH_BEHIND: NodeHealth
NODE_HEALTH_UNREACHABLE: NodeHealth
NODE_HEALTH_FAILED: NodeHealth
NODE_HEALTH_UNWELL: NodeHealth

class ClusterStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClusterStatusResponse(_message.Message):
    __slots__ = ("cluster_id", "leader", "nodes", "epoch")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    leader: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    epoch: int
    def __init__(self, cluster_id: _Optional[str] = ..., leader: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., epoch: _Optional[int] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("name", "id", "role", "health", "term", "commit", "applied", "lag", "state_hash", "state_hash_at", "client_address", "http_address", "peer_address", "failure", "clock_ahead_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_AT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_AHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    role: NodeRole
    health: NodeHealth
    term: int
    commit: int
    applied: int
    lag: int
    state_hash: str
    state_hash_at: int
    client_address: str
    http_address: str
    peer_address: str
    failure: str
    clock_ahead_ms: int
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., role: _Optional[_Union[NodeRole, str]] = ..., health: _Optional[_Union[NodeHealth, str]] = ..., term: _Optional[int] = ..., commit: _Optional[int] = ..., applied: _Optional[int] = ..., lag: _Optional[int] = ..., state_hash: _Optional[str] = ..., state_hash_at: _Optional[int] = ..., client_address: _Optional[str] = ..., http_address: _Optional[str] = ..., peer_address: _Optional[str] = ..., failure: _Optional[str] = ..., clock_ahead_ms: _Optional[int] = ...) -> None: ...

class JoinNodeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class InviteNodeRequest(_message.Message):
    __slots__ = ("description", "lifetime_ms")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_MS_FIELD_NUMBER: _ClassVar[int]
    description: str
    lifetime_ms: int
    def __init__(self, description: _Optional[str] = ..., lifetime_ms: _Optional[int] = ...) -> None: ...

class InviteNodeResponse(_message.Message):
    __slots__ = ("id", "text", "expires_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    expires_ms: int
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class PromoteNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class MembershipChange(_message.Message):
    __slots__ = ("done",)
    DONE_FIELD_NUMBER: _ClassVar[int]
    done: str
    def __init__(self, done: _Optional[str] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ClusterEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[ClusterEvent, _Mapping]]] = ...) -> None: ...

class ClusterEvent(_message.Message):
    __slots__ = ("time_ms", "node_id", "node", "event", "detail")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    node_id: int
    node: str
    event: str
    detail: str
    def __init__(self, time_ms: _Optional[int] = ..., node_id: _Optional[int] = ..., node: _Optional[str] = ..., event: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("applied", "log_entries")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    LOG_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    applied: int
    log_entries: int
    def __init__(self, applied: _Optional[int] = ..., log_entries: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("index", "nodes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    index: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeHash]
    def __init__(self, index: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeHash, _Mapping]]] = ...) -> None: ...

class NodeHash(_message.Message):
    __slots__ = ("name", "state_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    state_hash: str
    def __init__(self, name: _Optional[str] = ..., state_hash: _Optional[str] = ...) -> None: ...

class VerifyDeepRequest(_message.Message):
    __slots__ = ("bytes_per_second",)
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    bytes_per_second: int
    def __init__(self, bytes_per_second: _Optional[int] = ...) -> None: ...

class VerifyDeepResponse(_message.Message):
    __slots__ = ("nodes", "done")
    NODES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeScrub]
    done: bool
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeScrub, _Mapping]]] = ..., done: bool = ...) -> None: ...

class NodeScrub(_message.Message):
    __slots__ = ("name", "answered", "done", "state_bytes", "expected_state_bytes", "log_bytes", "found", "healed", "left")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    HEALED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    name: str
    answered: bool
    done: bool
    state_bytes: int
    expected_state_bytes: int
    log_bytes: int
    found: int
    healed: int
    left: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., answered: bool = ..., done: bool = ..., state_bytes: _Optional[int] = ..., expected_state_bytes: _Optional[int] = ..., log_bytes: _Optional[int] = ..., found: _Optional[int] = ..., healed: _Optional[int] = ..., left: _Optional[_Iterable[str]] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BackupChunk(_message.Message):
    __slots__ = ("head", "page")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    head: BackupHead
    page: bytes
    def __init__(self, head: _Optional[_Union[BackupHead, _Mapping]] = ..., page: _Optional[bytes] = ...) -> None: ...

class BackupHead(_message.Message):
    __slots__ = ("cluster_id", "epoch", "log_index", "state_hash", "created_ms", "bytes")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    epoch: int
    log_index: int
    state_hash: bytes
    created_ms: int
    bytes: int
    def __init__(self, cluster_id: _Optional[str] = ..., epoch: _Optional[int] = ..., log_index: _Optional[int] = ..., state_hash: _Optional[bytes] = ..., created_ms: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...
