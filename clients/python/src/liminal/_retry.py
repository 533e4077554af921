"""When to try again. Pure decisions, so that the rules which keep a message from being stored twice can be read and
tested without a network."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from ._error import LiminalError

log = logging.getLogger("liminal")

# How long attempts fail before that is said.
QUIET = 2.0


def may_retry(error: LiminalError, safe: bool) -> bool:
    """Whether another attempt can succeed and can do no harm. `safe`: doing it twice is the same as doing it once, as with
    reads and with publishes that have a key."""
    return error.transient and (safe or not error.outcome_unknown)


def stay(error: LiminalError) -> bool:
    """Whether the same node is as good as any other for the next attempt: it answered, and is only busy."""
    return error.code == "OVERLOADED" or error.admission == "defer"


def pause(failures: int, retry_after: float | None, chance: float) -> float:
    """How long to wait before an attempt: doubling from 20 ms to 1 s, spread by up to a half so that clients which lost
    the same node do not come back in step; never sooner than the server asked."""
    base = min(0.02 * (1 << min(max(failures - 1, 0), 6)), 1.0)
    return max(base * (1 - chance / 2), retry_after or 0.0)


class Backoff:
    """Waits longer and longer, until the time for retries is up."""

    def __init__(self, retry_for: float) -> None:
        now = time.monotonic()
        self._until = now + retry_for
        self._tell: float | None = now + QUIET
        self._failures = 0

    async def wait(self, error: LiminalError) -> bool:
        """Waits before the next attempt; False when there is no time left for one."""
        self._failures += 1
        seconds = pause(self._failures, error.retry_after, random.random())
        now = time.monotonic()
        if now + seconds >= self._until:
            return False
        if self._tell is not None and now >= self._tell:
            self._tell = None
            log.warning("%s; trying again for up to %d s", error, self._until - now)
        await asyncio.sleep(seconds)
        return True
