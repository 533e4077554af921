"""What a call can fail with: one type for refusals by a server, lost connections and deadlines, because all of them are
handled by the same three questions: which code, did anything happen, and what to do next.

Each code has a class of its own (errors.py), which registers itself here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from ._types import Notice

Outcome = Literal["definite", "unknown", "either"]
E = TypeVar("E", bound="LiminalError")

WITH_THE_SAME_KEY = "retry with the same idempotency key: it is stored at most once"


@dataclass(frozen=True)
class ErrorDetail:
    """One of several things that are wrong with a message or a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the payload, or the name of a request's field."""
    message: str


class LiminalError(Exception):
    """Why something failed. Decide by `code`, or by the class, and by `outcome_unknown`; never by the text.

    A code that this package does not know comes from a newer server, and is of this class.
    """

    CODE: ClassVar[str] = ""
    OUTCOME: ClassVar[Outcome] = "definite"
    RETRY: ClassVar[bool] = False
    NEXT_STEP: ClassVar[str | None] = None
    _classes: ClassVar[dict[str, type[LiminalError]]] = {}

    def __init_subclass__(
        cls, code: str = "", outcome: Outcome = "definite", retry: bool = False, next_step: str | None = None
    ) -> None:
        super().__init_subclass__()
        if code:
            cls.CODE, cls.OUTCOME, cls.RETRY, cls.NEXT_STEP = code, outcome, retry, next_step
            LiminalError._classes[code] = cls

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        help: str | None = None,
        details: tuple[ErrorDetail, ...] = (),
        outcome_unknown: bool = False,
        retry_after: float | None = None,
        admission: Literal["defer", "reject"] | None = None,
        notice: Notice | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.CODE
        """Stable, for programs: see docs/ERRORS.md."""
        self._help = help
        self.details = details
        """Every single thing that is wrong, where the server said so."""
        self.outcome_unknown = outcome_unknown
        """Whether what was asked for may have happened, or may yet happen. When False, nothing happened."""
        self.retry_after = retry_after
        """The earliest time to try again, in seconds from the answer, where the server said so."""
        self.admission = admission
        """Whether to try again, where the server said so."""
        self.notice = notice
        """What has become of the history behind a subscription. It goes on where the notice says."""

    @property
    def help(self) -> str | None:
        """For people: what to do next."""
        return self._help or (WITH_THE_SAME_KEY if self.outcome_unknown else None) or self.NEXT_STEP

    @property
    def transient(self) -> bool:
        """Whether the error says something about the moment and not about the request."""
        if self.admission is not None:
            return self.admission == "defer"
        return self.RETRY

    def __str__(self) -> str:
        unknown = " (outcome unknown)" if self.outcome_unknown else ""
        return f"{self.code}: {self.message}{unknown}"

    def copy(self: E) -> E:
        """The same error once more: one that is raised in several places gets a traceback in each."""
        return type(self)(
            self.message,
            code=self.code,
            help=self._help,
            details=self.details,
            outcome_unknown=self.outcome_unknown,
            retry_after=self.retry_after,
            admission=self.admission,
            notice=self.notice,
        )

    def as_unknown(self: E) -> E:
        """The same error about something that was sent, so that it may have happened all the same."""
        if self.outcome_unknown:
            return self
        error = self.copy()
        error.outcome_unknown = True
        error.__cause__ = self.__cause__
        return error


def error_of(code: str, message: str, **more: Any) -> LiminalError:
    """An error of the class that the code has."""
    cls = LiminalError._classes.get(code, LiminalError)
    return cls(message, code=code, **more)


def refused(message: str, help: str | None = None) -> LiminalError:
    """What this package refuses itself: nothing was sent."""
    return error_of("INVALID_ARGUMENT", message, help=help)


def unreachable(address: str, why: str, help: str | None = None) -> LiminalError:
    """No connection: nothing was sent."""
    return error_of("UNREACHABLE", f"cannot reach {address}: {why}", help=help)


def lost(address: str) -> LiminalError:
    """The connection ended before an answer came."""
    return error_of(
        "CONNECTION_LOST", f"{address} closed the connection before it answered", outcome_unknown=True
    )


def timed_out(address: str, after: float) -> LiminalError:
    """The request was sent, and no answer came in time."""
    return error_of("TIMEOUT", f"{address} did not answer within {after:g} s", outcome_unknown=True)


def malformed(what: str) -> LiminalError:
    """The server sent something that this client cannot read."""
    return error_of(
        "INTERNAL",
        f"the server sent a {what} that cannot be read",
        help="use the same version of liminal on both sides",
    )


def of_proto(error: Any) -> LiminalError:
    """What a server answered for one message of a stream."""
    admission: dict[int, Literal["defer", "reject"]] = {1: "defer", 2: "reject"}
    return error_of(
        error.code,
        error.message,
        details=tuple(ErrorDetail(detail.pointer, detail.message) for detail in error.details),
        outcome_unknown=error.unknown_outcome,
        retry_after=error.retry_after_ms / 1000 or None,
        admission=admission.get(error.admission),
    )


def text_metadata(*groups: Any) -> dict[str, str]:
    """The entries of metadata that are texts, by name."""
    found: dict[str, str] = {}
    for group in groups:
        for name, value in group or ():
            if isinstance(value, str):
                found[name] = value
    return found


def of_status(address: str, error: grpc.aio.AioRpcError) -> LiminalError:
    """What a server, or the connection to it, answered to a call."""
    trailers = error.trailing_metadata()
    metadata = text_metadata(error.initial_metadata(), trailers)
    said = _details(trailers)
    info = said.get("ErrorInfo")
    code = metadata.get("liminal-code") or (info.reason if info is not None else None)
    if not code:
        made = _of_transport(address, error)
    else:
        made = _of_server(code, error.details() or "", said, metadata)
    made.__cause__ = error
    return made


def _of_server(code: str, message: str, said: Mapping[str, Any], metadata: Mapping[str, str]) -> LiminalError:
    info, retry, links, bad = (said.get(name) for name in ("ErrorInfo", "RetryInfo", "Help", "BadRequest"))
    flags = info.metadata if info is not None else {}
    says_unknown = any(flags.get(name) == "true" for name in ("outcome_unknown", "unknown_outcome"))
    admission: dict[str, Literal["defer", "reject"]] = {"defer": "defer", "reject": "reject"}
    made = error_of(
        code,
        message,
        help=links.links[0].description if links is not None and links.links else None,
        details=tuple(ErrorDetail(one.field, one.description) for one in bad.field_violations) if bad else (),
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
        admission=admission.get(metadata.get("liminal-admission", "")),
    )
    made.outcome_unknown = says_unknown or made.OUTCOME == "unknown"
    return made


def _details(trailers: Any) -> dict[str, Any]:
    """The standard details of a status by the names of their types."""
    found: dict[str, Any] = {}
    for name, value in trailers or ():
        if name != "grpc-status-details-bin":
            continue
        status = status_pb2.Status()
        status.ParseFromString(value)
        for packed in status.details:
            kind = packed.type_url.rsplit(".", 1)[-1]
            detail = getattr(error_details_pb2, kind, lambda: None)()
            if detail is not None and packed.Unpack(detail):
                found[kind] = detail
    return found


# What the gRPC library says where a call had no connection to be sent on.
_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")


def _of_transport(address: str, error: grpc.aio.AioRpcError) -> LiminalError:
    """A status that no liminal server wrote: from the connection, a proxy or the gRPC library."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_SENT):
        return unreachable(address, details)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return error_of(
            "UNREACHABLE",
            f"{address} answers, but not as a gRPC port of a node",
            help="give the port for clients (`listen_address`, 7101), not the one for HTTP or for nodes",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return error_of("TIMEOUT", f"{address} did not answer in time", outcome_unknown=True)
    transport = (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    )
    if code in transport:
        return error_of(
            "CONNECTION_LOST", f"the connection to {address} failed: {details}", outcome_unknown=True
        )
    return error_of(code.name, f"{address}: {details}")
