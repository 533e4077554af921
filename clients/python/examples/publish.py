"""Publishes a file's lines to a channel, each with a key, so that the program can be run again after any failure.

    python publish.py orders orders.ndjson
"""

import asyncio
import sys
from pathlib import Path

from liminal import Client, LiminalError


async def main(channel: str, path: Path) -> int:
    failed = 0
    async with Client() as client:
        await client.create_channel(channel)
        async with client.publisher(channel) as publisher:
            lines = path.read_bytes().splitlines()
            outcomes = [
                await publisher.enqueue(line, key=f"{path.name}:{number}") for number, line in enumerate(lines)
            ]
        for number, outcome in enumerate(outcomes):
            error = outcome.exception()
            if isinstance(error, LiminalError):
                failed += 1
                print(f"line {number}: {error}; {error.help}", file=sys.stderr)
    print(f"{len(outcomes) - failed} of {len(outcomes)} messages are stored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], Path(sys.argv[2]))))
