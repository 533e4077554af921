"""Sends a mail once, however often and wherever this is started, without asyncio.

    python once.py welcome-ada
"""

import sys
import time

from liminal import Completed, InFlight, Ran
from liminal.sync import Client


def send(token: int) -> str:
    time.sleep(1)  # here a mail server would be asked, with the token to tell late attempts from the newest
    return f"sent under {token}"


def main(key: str) -> None:
    with Client() as client:
        outcome = client.claims("mails").once(key, 10.0, lambda token: send(token))
    if isinstance(outcome, Ran):
        print(f"now: {outcome.receipt.decode()}")
    elif isinstance(outcome, Completed):
        print(f"before: {outcome.receipt.decode()}")
    elif isinstance(outcome, InFlight):
        print(f"{outcome.owner} is at it until {outcome.expires:%H:%M:%S}")


if __name__ == "__main__":
    main(sys.argv[1])
