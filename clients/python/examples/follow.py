"""Prints a channel's messages, and goes on where it stopped when it is started again, after any time and on any node. SIGTERM
and SIGINT end it.

    python follow.py orders orders.position
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from liminal import Client, HistoryChanged, Position, Start


async def main(channel: str, kept: Path) -> None:
    # Python's own handler of SIGINT is not there in a program that a shell starts in the background.
    task = asyncio.current_task()
    assert task is not None
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, task.cancel)
    start: Start = Position.parse(kept.read_text().strip()) if kept.exists() else "earliest"
    async with Client() as client, client.subscribe(channel, start) as messages:
        while True:
            try:
                async for received in messages:
                    print(f"{channel}@{received.seq} {received.payload.decode(errors='replace')}", flush=True)
                    # What was printed and not yet kept is printed again after a crash.
                    kept.write_text(str(messages.position))
            except HistoryChanged as changed:
                print(f"{changed.message}; {changed.help}", file=sys.stderr)


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
