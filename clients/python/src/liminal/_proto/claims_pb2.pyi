from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClaimLease(_message.Message):
    __slots__ = ("token", "expires_ms", "repeated")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    token: int
    expires_ms: int
    repeated: bool
    def __init__(self, token: _Optional[int] = ..., expires_ms: _Optional[int] = ..., repeated: bool = ...) -> None: ...

class ClaimHolder(_message.Message):
    __slots__ = ("token", "owner", "since_ms", "expires_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    token: int
    owner: str
    since_ms: int
    expires_ms: int
    def __init__(self, token: _Optional[int] = ..., owner: _Optional[str] = ..., since_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class ClaimReceipt(_message.Message):
    __slots__ = ("token", "owner", "completed_ms", "expires_ms", "receipt")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    token: int
    owner: str
    completed_ms: int
    expires_ms: int
    receipt: bytes
    def __init__(self, token: _Optional[int] = ..., owner: _Optional[str] = ..., completed_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class TakeClaimRequest(_message.Message):
    __slots__ = ("namespace", "key", "lease_ms", "owner")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    lease_ms: int
    owner: str
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., lease_ms: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class TakeClaimResponse(_message.Message):
    __slots__ = ("claimed", "in_flight", "completed")
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    claimed: ClaimLease
    in_flight: ClaimHolder
    completed: ClaimReceipt
    def __init__(self, claimed: _Optional[_Union[ClaimLease, _Mapping]] = ..., in_flight: _Optional[_Union[ClaimHolder, _Mapping]] = ..., completed: _Optional[_Union[ClaimReceipt, _Mapping]] = ...) -> None: ...

class CompleteClaimRequest(_message.Message):
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

class CompleteClaimResponse(_message.Message):
    __slots__ = ("repeated", "expires_ms")
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    repeated: bool
    expires_ms: int
    def __init__(self, repeated: bool = ..., expires_ms: _Optional[int] = ...) -> None: ...

class ReleaseClaimRequest(_message.Message):
    __slots__ = ("namespace", "key", "token")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    token: int
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class ReleaseClaimResponse(_message.Message):
    __slots__ = ("repeated",)
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    repeated: bool
    def __init__(self, repeated: bool = ...) -> None: ...

class RenewClaimRequest(_message.Message):
    __slots__ = ("namespace", "key", "token", "lease_ms")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    token: int
    lease_ms: int
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., token: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class RenewClaimResponse(_message.Message):
    __slots__ = ("expires_ms",)
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    expires_ms: int
    def __init__(self, expires_ms: _Optional[int] = ...) -> None: ...

class ShowClaimRequest(_message.Message):
    __slots__ = ("namespace", "key")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class ShowClaimResponse(_message.Message):
    __slots__ = ("in_flight", "completed")
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    in_flight: ClaimHolder
    completed: ClaimReceipt
    def __init__(self, in_flight: _Optional[_Union[ClaimHolder, _Mapping]] = ..., completed: _Optional[_Union[ClaimReceipt, _Mapping]] = ...) -> None: ...

class ClaimNamespace(_message.Message):
    __slots__ = ("name", "window_ms", "created_ms", "live")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    window_ms: int
    created_ms: int
    live: int
    def __init__(self, name: _Optional[str] = ..., window_ms: _Optional[int] = ..., created_ms: _Optional[int] = ..., live: _Optional[int] = ...) -> None: ...

class PutClaimNamespaceRequest(_message.Message):
    __slots__ = ("name", "window_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    window_ms: int
    def __init__(self, name: _Optional[str] = ..., window_ms: _Optional[int] = ...) -> None: ...

class PutClaimNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: ClaimNamespace
    def __init__(self, namespace: _Optional[_Union[ClaimNamespace, _Mapping]] = ...) -> None: ...

class ListClaimNamespacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListClaimNamespacesResponse(_message.Message):
    __slots__ = ("namespaces",)
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[ClaimNamespace]
    def __init__(self, namespaces: _Optional[_Iterable[_Union[ClaimNamespace, _Mapping]]] = ...) -> None: ...

class GetClaimNamespaceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetClaimNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: ClaimNamespace
    def __init__(self, namespace: _Optional[_Union[ClaimNamespace, _Mapping]] = ...) -> None: ...

class DeleteClaimNamespaceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteClaimNamespaceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
