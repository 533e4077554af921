"""Claims with receipts, for workers whose effects must happen once."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Union

from ._error import LiminalError, error_of, malformed
from ._pool import Pool
from ._proto import claims_pb2 as pb
from ._types import time_from_ms, to_ms


@dataclass(frozen=True)
class Claimed:
    """The claim is the caller's."""

    token: int
    """Grows with every claim taken in the cluster: let systems that you write to refuse a smaller one than they have seen."""
    expires: datetime
    repeated: bool


@dataclass(frozen=True)
class InFlight:
    """Somebody else holds the claim."""

    token: int
    owner: str
    since: datetime
    expires: datetime

    @classmethod
    def _of(cls, proto: pb.ClaimHolder) -> InFlight:
        return cls(proto.token, proto.owner, time_from_ms(proto.since_ms), time_from_ms(proto.expires_ms))


@dataclass(frozen=True)
class Completed:
    """The work was done, and this is its receipt."""

    token: int
    owner: str
    completed: datetime
    expires: datetime
    receipt: bytes

    @classmethod
    def _of(cls, proto: pb.ClaimReceipt) -> Completed:
        done, expires = time_from_ms(proto.completed_ms), time_from_ms(proto.expires_ms)
        return cls(proto.token, proto.owner, done, expires, proto.receipt)


Taken = Union[Claimed, InFlight, Completed]


@dataclass(frozen=True)
class Ran:
    """The work was done now, with this receipt."""

    receipt: bytes
    token: int


Once = Union[Ran, Completed, InFlight]


@dataclass(frozen=True)
class ClaimNamespace:
    name: str
    window: float
    """How long receipts are kept, in seconds."""
    created: datetime
    live: int
    """Claims that are held or completed."""

    @classmethod
    def _of(cls, proto: pb.ClaimNamespace) -> ClaimNamespace:
        return cls(proto.name, proto.window_ms / 1000, time_from_ms(proto.created_ms), proto.live)


def receipt_bytes(receipt: bytes | str) -> bytes:
    return receipt.encode() if isinstance(receipt, str) else bytes(receipt)


class Claims:
    """Claims of one namespace. The work that a key names is done by whoever takes its claim. A worker that crashes loses the
    claim when the lease ends; a worker that comes later is given the receipt of the one that was done."""

    def __init__(self, pool: Pool, namespace: str, name: str = "") -> None:
        self._pool, self._namespace, self._name = pool, namespace, name

    async def take(self, key: str, lease: float, *, owner: str | None = None) -> Taken:
        """Takes a claim, if it is free, for `lease` seconds. Tried again until the answer is known: a repeat gets the same
        token. An owner of your own outlives the process; no two workers may share it."""
        if owner is None:
            random = secrets.token_hex(16)
            owner = f"{self._name}/{random}" if self._name else random
        request = pb.TakeClaimRequest(
            namespace=self._namespace, key=key, lease_ms=to_ms(lease), owner=owner
        )
        # Without an owner a repeat would find its own claim in flight.
        response: pb.TakeClaimResponse = await self._pool.call(
            lambda link: link.claims.TakeClaim, request, leader=True, safe=bool(owner)
        )
        which = response.WhichOneof("outcome")
        if which == "claimed":
            claimed = response.claimed
            return Claimed(claimed.token, time_from_ms(claimed.expires_ms), claimed.repeated)
        if which == "in_flight":
            return InFlight._of(response.in_flight)
        if which == "completed":
            return Completed._of(response.completed)
        raise malformed("outcome")

    async def complete(self, key: str, token: int, receipt: bytes | str) -> bool:
        """Ends a claim with a receipt. True when it had been completed with this token and receipt before."""
        request = pb.CompleteClaimRequest(
            namespace=self._namespace, key=key, token=token, receipt=receipt_bytes(receipt)
        )
        response: pb.CompleteClaimResponse = await self._pool.call(
            lambda link: link.claims.CompleteClaim, request, leader=True
        )
        return response.repeated

    async def release(self, key: str, token: int) -> bool:
        """Gives a claim back. True when it was free already."""
        request = pb.ReleaseClaimRequest(namespace=self._namespace, key=key, token=token)
        response: pb.ReleaseClaimResponse = await self._pool.call(
            lambda link: link.claims.ReleaseClaim, request, leader=True
        )
        return response.repeated

    async def renew(self, key: str, token: int, lease: float) -> datetime:
        """Makes a lease last until `lease` seconds from now; gives its end."""
        request = pb.RenewClaimRequest(namespace=self._namespace, key=key, token=token, lease_ms=to_ms(lease))
        response: pb.RenewClaimResponse = await self._pool.call(
            lambda link: link.claims.RenewClaim, request, leader=True
        )
        return time_from_ms(response.expires_ms)

    async def show(self, key: str) -> InFlight | Completed | None:
        """A claim as it is now; None when it is free."""
        request = pb.ShowClaimRequest(namespace=self._namespace, key=key)
        response: pb.ShowClaimResponse = await self._pool.call(lambda link: link.claims.ShowClaim, request)
        which = response.WhichOneof("state")
        if which == "in_flight":
            return InFlight._of(response.in_flight)
        return Completed._of(response.completed) if which == "completed" else None

    async def keep_receipts_for(self, window: float) -> ClaimNamespace:
        """Makes the namespace, or changes how long it keeps the receipts that come from now on."""
        request = pb.PutClaimNamespaceRequest(name=self._namespace, window_ms=to_ms(window, 1))
        response: pb.PutClaimNamespaceResponse = await self._pool.call(
            lambda link: link.claims.PutClaimNamespace, request, leader=True
        )
        return ClaimNamespace._of(response.namespace)

    async def delete_namespace(self) -> None:
        """Forgets the namespace with all its claims and receipts."""
        request = pb.DeleteClaimNamespaceRequest(name=self._namespace)
        await self._pool.call(lambda link: link.claims.DeleteClaimNamespace, request, leader=True, safe=False)

    async def once(self, key: str, lease: float, work: Callable[[int], Awaitable[bytes | str]]) -> Once:
        """Does the work of a key at most once in the whole cluster, as long as receipts are kept: takes the claim, runs
        `work` with its token, renews the lease while it runs, and completes the claim with the receipt that it gives. When it
        was done before, that receipt comes back; when `work` raises, the claim is given back and the error goes on.

        Work whose lease could not be renewed in time is cancelled, because another worker may begin, and `ClaimStale` is
        raised. What it had begun elsewhere cannot be undone: let systems that it writes to refuse smaller tokens.
        """
        held_until = time.monotonic() + lease
        taken = await self.take(key, lease)
        if not isinstance(taken, Claimed):
            return taken
        token = taken.token
        if time.monotonic() + lease / 2 > held_until:
            # The answer was long on its way: begin with a lease that is certain.
            held_until = time.monotonic() + lease
            await self.renew(key, token, lease)
        working = asyncio.ensure_future(self._work(key, token, work))
        keeping = asyncio.ensure_future(self._keep(key, token, lease, held_until))
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise keeping.result()
        finally:
            for task in (working, keeping):
                task.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)

    async def _work(self, key: str, token: int, work: Callable[[int], Awaitable[bytes | str]]) -> Ran:
        try:
            receipt = receipt_bytes(await work(token))
        except Exception:
            try:
                await self.release(key, token)
            except LiminalError:
                pass  # it is free when its lease ends
            raise
        await self.complete(key, token, receipt)
        return Ran(receipt, token)

    async def _keep(self, key: str, token: int, lease: float, until: float) -> LiminalError:
        """Renews a lease again and again; ends only when it is certain or possible that it was lost. As seen from here it
        lasts from before a renewal was sent."""
        upcoming = time.monotonic() + lease / 3
        while True:
            await asyncio.sleep(max(min(upcoming, until) - time.monotonic(), 0))
            begun = time.monotonic()
            try:
                async with asyncio.timeout(max(until - begun, 0.001)):
                    await self.renew(key, token, lease)
                until = begun + lease
            except TimeoutError:
                return _lost(key, token)
            except LiminalError as error:
                if error.code == "CLAIM_STALE":
                    return error
                if error.code == "CLAIM_COMPLETED":
                    # The completion went through, and its answer is on its way.
                    await asyncio.Event().wait()
            if time.monotonic() >= until:
                return _lost(key, token)
            upcoming = begun + lease / 3


def _lost(key: str, token: int) -> LiminalError:
    return error_of(
        "CLAIM_STALE",
        f"the lease of claim `{key}` under token {token} ended, and no node could renew it in time",
        help="another worker may have begun; take the claim again to see what became of it",
    )
