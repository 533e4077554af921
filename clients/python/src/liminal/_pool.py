"""The nodes that a client knows, and its connections to them. Every node serves every request, so that any one which answers
will do; the leader saves publishes a hop, and servers name it in the metadata of each answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from . import _retry
from ._address import authority
from ._error import LiminalError, lost, of_status, refused, text_metadata, timed_out, unreachable
from ._proto.admin_pb2_grpc import AdminStub
from ._proto.broker_pb2_grpc import BrokerStub, ChannelsStub
from ._proto.claims_pb2_grpc import ClaimsStub
from ._proto.consumers_pb2_grpc import ConsumersStub
from ._proto.security_pb2_grpc import SecurityStub

# More nodes than any cluster has: a bound on what servers can teach a client.
MAX_NODES = 32
# How long a node that could not be reached is not preferred as the leader, in seconds.
SHUN = 2.0
# An answer may hold a whole log entry.
MAX_ANSWER = 64 << 20
# A server that says nothing for so long is asked whether it is there: a frozen leader keeps its connections, and who
# publishes to it, or follows a channel on it, should go elsewhere.
KEEPALIVE_MS = 1_000
# How long it may take to answer that.
KEEPALIVE_TIMEOUT_MS = 2_000

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.max_send_message_length", MAX_ANSWER),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # What the library waits for in place of the former, in the versions that tell the two apart: a minute unless it is said.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # This package decides what is sent twice.
    ("grpc.enable_retries", 0),
    # A node that was given up is connected to anew, and not by what is left of the former connection.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class TLS:
    """How servers are spoken to over TLS. Without `ca` those that this machine trusts are trusted."""

    ca: str | os.PathLike[str] | None = None
    """The file with the certificates of the CAs to trust."""
    cert: str | os.PathLike[str] | None = None
    """The file with the certificate to show, with `key`."""
    key: str | os.PathLike[str] | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        if (self.cert is None) != (self.key is None):
            raise refused("a client certificate needs its private key, and the key its certificate")
        ca, key, cert = (None if path is None else _file(path) for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)


def _file(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise refused(f"{os.fspath(path)} cannot be read: {error.strerror}") from error


class Token:
    """The token to send. One that comes from a file is read again when the file changes, so that a rotated token is used
    without a restart."""

    def __init__(self, text: str | None = None, file: str | os.PathLike[str] | None = None) -> None:
        if text is not None and file is not None:
            raise refused("a token and a file with a token are given: give one of them")
        self._file = None if file is None else Path(file)
        self._read: tuple[int, int] | None = None
        if self._file is None:
            self._text = (text if text is not None else os.environ.get("LIMINAL_TOKEN", "")).strip()
            self._check()
        else:
            self._text = ""
            self._refresh()

    def _refresh(self) -> None:
        assert self._file is not None
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._read:
                self._text, self._read = self._file.read_text().strip(), seen
        except OSError as error:
            if self._read is None:
                raise refused(f"the token file {self._file} cannot be read: {error.strerror}") from error
            return  # the file is being replaced: the former token may still do
        self._check()

    def _check(self) -> None:
        if not self._text.isascii() or any(not 32 < ord(letter) < 127 for letter in self._text):
            raise refused("the token has characters that no token has", help="give the text as it was printed")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        if self._file is not None:
            self._refresh()
        return (("authorization", f"Bearer {self._text}"),) if self._text else ()


@dataclass(frozen=True)
class Options:
    """How a client behaves."""

    token: Token
    credentials: grpc.ChannelCredentials | None
    retry_for: float
    connect_timeout: float
    answer_timeout: float


def _stub(made: Any, channel: grpc.aio.Channel) -> Any:
    """The generated classes have no types."""
    return made(channel)


class Link:
    """A connection to a node, with the services that it has."""

    def __init__(self, node: Node, channel: grpc.aio.Channel) -> None:
        self.node = node
        self.channel = channel
        self.broker: Any = _stub(BrokerStub, channel)
        self.channels: Any = _stub(ChannelsStub, channel)
        self.claims: Any = _stub(ClaimsStub, channel)
        self.consumers: Any = _stub(ConsumersStub, channel)
        self.security: Any = _stub(SecurityStub, channel)
        self.admin: Any = _stub(AdminStub, channel)
        self._users = 0
        self._given_up = False
        self._closing: asyncio.Task[None] | None = None

    @contextmanager
    def use(self) -> Iterator[None]:
        """For as long as a call or a stream is open: one that is given up is closed after the last of them."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._close_if_unused()

    def give_up(self) -> None:
        self._given_up = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._given_up and self._users == 0 and self._closing is None:
            self._closing = asyncio.ensure_future(self.channel.close())

    def closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    @property
    def address(self) -> str:
        return self.node.address


@dataclass(eq=False)
class Node:
    address: str
    link: Link | None = None
    failed: float | None = None
    # Held while connecting, so that many waiting calls make one connection.
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def shunned(self) -> bool:
        return self.failed is not None and time.monotonic() - self.failed < SHUN


Method = Callable[[Link], Callable[..., Any]]


class Pool:
    def __init__(self, addresses: list[str], options: Options) -> None:
        self.options = options
        self._nodes: list[Node] = []
        self._leader: Node | None = None
        self._current = 0
        self._closed = False
        # Given up, and perhaps not closed yet.
        self._left: list[Link] = []
        for address in addresses:
            self._node(address)

    def _node(self, address: str) -> Node | None:
        """The node of that address, known or new; None when there are too many."""
        for node in self._nodes:
            if node.address == address:
                return node
        if len(self._nodes) >= MAX_NODES:
            return None
        self._nodes.append(Node(address))
        return self._nodes[-1]

    def pick(self, leader: bool) -> Node:
        if leader and self._leader is not None and not self._leader.shunned():
            return self._leader
        return self._nodes[self._current]

    async def connect(self, leader: bool) -> Link:
        """A connection to the preferred node; after a failure the next call gives another one."""
        if self._closed:
            raise refused("the client is closed")
        node = self.pick(leader)
        async with node.connecting:
            if node.link is None:
                try:
                    node.link = await self._open(node)
                except LiminalError:
                    self._leave(node)
                    raise
            return node.link

    async def _open(self, node: Node) -> Link:
        options = self.options
        if options.credentials is None:
            channel = grpc.aio.insecure_channel(node.address, options=CHANNEL_OPTIONS)
        else:
            channel = grpc.aio.secure_channel(node.address, options.credentials, options=CHANNEL_OPTIONS)
        try:
            async with asyncio.timeout(options.connect_timeout):
                await self._ready(node, channel)
        except TimeoutError:
            await channel.close()
            raise unreachable(node.address, f"no connection within {options.connect_timeout:g} s") from None
        except BaseException:
            await channel.close()
            raise
        return Link(node, channel)

    async def _ready(self, node: Node, channel: grpc.aio.Channel) -> None:
        while True:
            state = channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                return
            if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                raise unreachable(node.address, await _why(channel))
            await channel.wait_for_state_change(state)

    def give_up(self, link: Link) -> None:
        """The node could not be reached, or did not serve: try another one next."""
        node = link.node
        if node.link is link:
            node.link = None
            link.give_up()
            self._left = [one for one in self._left if not one.closed()] + [link]
        self._leave(node)

    def _leave(self, node: Node) -> None:
        node.failed = time.monotonic()
        if self._leader is node:
            self._leader = None
        if self._nodes[self._current] is node:
            self._current = (self._current + 1) % len(self._nodes)

    def learn(self, *metadata: Any) -> None:
        """Takes note of the leader that an answer names."""
        value = text_metadata(*metadata).get("liminal-leader")
        if value is None:
            return
        address = value.rpartition(";")[2]
        if not address:
            self._leader = None
            return
        try:
            self._leader = self._node(authority(address)[1])
        except LiminalError:
            return  # an address that cannot be read is no reason to fail an answer

    def learn_from(self, error: grpc.aio.AioRpcError) -> None:
        self.learn(error.initial_metadata(), error.trailing_metadata())

    async def attempt(
        self, method: Method, request: Any, *, leader: bool, within: float | None = None
    ) -> tuple[Any, Link]:
        """One try of a request on one node."""
        link = await self.connect(leader)
        return await self.guard(link, self._unary(link, method, request, within or self.options.answer_timeout)), link

    async def _unary(self, link: Link, method: Method, request: Any, within: float) -> Any:
        call = method(link)(request, metadata=self.options.token.metadata(), timeout=within)
        try:
            with link.use():
                response = await call
                self.learn(await call.initial_metadata())
                return response
        except grpc.aio.AioRpcError as error:
            self.learn_from(error)
            made = of_status(link.address, error)
            raise (timed_out(link.address, within) if made.code == "TIMEOUT" else made) from error
        except asyncio.CancelledError:
            if self.cancelled_by_close(call):
                raise lost(link.address) from None
            raise

    def cancelled_by_close(self, call: Any) -> bool:
        """Closing the client cancels its calls, which looks as if the caller had been cancelled."""
        task = asyncio.current_task()
        caller = task is None or task.cancelling() > 0
        return self._closed and bool(call.cancelled()) and not caller

    async def guard(self, link: Link, answer: Awaitable[Any]) -> Any:
        """Leaves the node when the answer is an error that another node might not give."""
        try:
            return await answer
        except LiminalError as error:
            if _retry.may_retry(error, safe=True) and not _retry.stay(error):
                self.give_up(link)
            raise

    async def call(
        self, method: Method, request: Any, *, leader: bool = False, safe: bool = True, within: float | None = None
    ) -> Any:
        """Tries until it works, it cannot work, or the time is up."""
        backoff = _retry.Backoff(self.options.retry_for)
        unknown = False
        while True:
            try:
                return (await self.attempt(method, request, leader=leader, within=within))[0]
            except LiminalError as error:
                unknown = unknown or error.outcome_unknown
                if not _retry.may_retry(error, safe) or not await backoff.wait(error):
                    # An earlier attempt may have gone through even if this one certainly did not.
                    if unknown and not error.outcome_unknown:
                        raise error.as_unknown() from error
                    raise

    async def close(self) -> None:
        self._closed = True
        links = [node.link for node in self._nodes if node.link is not None] + self._left
        for node in self._nodes:
            node.link = None
        await asyncio.gather(*(link.channel.close() for link in links), return_exceptions=True)


async def _why(channel: grpc.aio.Channel) -> str:
    """The library tells why a connection failed only to a call, so a question that changes nothing is asked."""
    check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        await check(b"", timeout=0.5)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED and error.details():
            return str(error.details()).rpartition("last error: ")[2]
    return "the connection failed"
