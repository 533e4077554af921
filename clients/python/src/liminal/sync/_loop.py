"""The event loop in a thread of its own, on which the calls of all clients without asyncio run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """The event loop, which begins with the first client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # A child of a fork has no thread that would run the parent's loop.
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="liminal", daemon=True).start()
            return self._loop

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.get())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            # Also where the thread that waits was interrupted: nobody is there for the result any more.
            future.cancel()
            raise


loop = Loop()


async def call(function: Callable[..., T], *arguments: Any) -> T:
    """A function on the loop's thread."""
    return function(*arguments)
