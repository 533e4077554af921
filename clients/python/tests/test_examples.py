"""The examples do what they say."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import Cluster
from liminal import Client, Completed

EXAMPLES = Path(__file__).parent.parent / "examples"


def start(cluster: Cluster, name: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"LIMINAL_SERVER": ",".join(cluster.servers), "PYTHONUNBUFFERED": "1"}
    line = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def finish(process: subprocess.Popen[str]) -> str:
    output, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0, errors
    return output


async def test_a_file_is_published_once_though_the_program_runs_twice(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "lines"
    file.write_text("one\ntwo\nthree\n")
    for _ in range(2):
        output = await finish(start(cluster, "publish.py", "published", file))
        assert output == "3 of 3 messages are stored\n"
    assert [received.payload for received in await client.read("published")] == [b"one", b"two", b"three"]


async def test_a_follower_goes_on_where_it_stopped(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    await client.create_channel("followed")
    for number in range(4):
        await client.publish("followed", f"message {number}")
        if number % 2 == 0:
            continue
        follower = start(cluster, "follow.py", "followed", tmp_path / "position")
        assert follower.stdout is not None
        lines = [await asyncio.to_thread(follower.stdout.readline) for _ in range(2)]
        assert lines == [f"followed@{number - 1} message {number - 1}\n", f"followed@{number} message {number}\n"]
        while not (tmp_path / "position").exists() or not (tmp_path / "position").read_text().endswith(f".{number + 1}"):
            await asyncio.sleep(0.01)
        follower.send_signal(signal.SIGTERM if number == 1 else signal.SIGINT)
        assert await finish(follower) == ""


async def test_a_worker_publishes_an_invoice_for_each_order_and_stops_in_order(
    cluster: Cluster, client: Client
) -> None:
    await client.create_channel("orders")
    for number in range(10):
        await client.publish("orders", f'{{"id":{number},"amount":{number * 10}}}', key=f"order-{number}")
    workers = [start(cluster, "worker.py") for _ in range(2)]
    for worker in workers:
        # From then on it stops in order when it is told to.
        assert worker.stdout is not None
        assert await asyncio.to_thread(worker.stdout.readline) == "takes orders\n"
    while not any(one.name == "billing" and one.lag == 0 for one in await client.consumers("orders")):
        await asyncio.sleep(0.02)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        await finish(worker)
    invoices = [received.message.value() for received in await client.read("invoices")]
    assert sorted(invoice["order"] for invoice in invoices) == list(range(10))


async def test_a_mail_is_sent_once_though_two_try(cluster: Cluster, client: Client) -> None:
    await asyncio.gather(*(finish(start(cluster, "once.py", "welcome")) for _ in range(2)))
    shown = await client.claims("mails").show("welcome")
    assert isinstance(shown, Completed)
    output = await finish(start(cluster, "once.py", "welcome"))
    assert output == f"before: sent under {shown.token}\n"
