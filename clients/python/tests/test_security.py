"""Tokens and TLS, against nodes that ask for them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cluster, binary, free_base
from liminal import TLS, Client, errors


def command(cluster: Cluster, token: Path, *words: str) -> str:
    servers = ",".join(f"http://{address}" for address in cluster.servers)
    line = [binary(), "--server", servers, "--token-file", str(token), *words, "-o", "raw"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    """A cluster that asks for tokens, and the file with the token of a shop."""
    dir = tmp_path_factory.mktemp("closed")
    made = subprocess.run([binary(), "token", "bootstrap", "-o", "json"], check=True, capture_output=True)
    bootstrap = json.loads(made.stdout)
    hash = bootstrap["bootstrap_token_hash"]
    cluster = Cluster(dir, f'[security]\nmode = "enforce"\nbootstrap_token_hash = "{hash}"\n')
    first, shop = dir / "bootstrap.token", dir / "shop.token"
    first.write_text(bootstrap["token"])
    try:
        cluster.start()
        command(cluster, first, "role", "create", "shop", "--grant", "channel:orders=publish,read,manage")
        shop.write_text(command(cluster, first, "token", "create", "--role", "shop", "--description", "the shop"))
        yield cluster, shop
    finally:
        cluster.stop()


async def test_without_a_token_everything_is_refused_at_once(closed: tuple[Cluster, Path]) -> None:
    cluster, _ = closed
    async with Client(cluster.servers) as client:
        with pytest.raises(errors.Unauthenticated) as refusal:
            await client.publish("orders", "x", key="k")
        assert not refusal.value.outcome_unknown
        async with client.publisher("orders") as publisher:
            with pytest.raises(errors.Unauthenticated):
                await publisher.send("x")


async def test_a_token_lets_through_what_its_roles_grant(closed: tuple[Cluster, Path]) -> None:
    cluster, token = closed
    async with Client(cluster.servers, token_file=token) as client:
        await client.create_channel("orders")
        async with client.publisher("orders") as publisher:
            assert (await publisher.send("x")).seq == 0
        async with client.subscribe("orders", "earliest") as messages:
            assert (await messages.__anext__()).payload == b"x"
        assert await client.can_i("publish", "channel:orders")
        assert not await client.can_i("publish", "channel:invoices")
        with pytest.raises(errors.PermissionDenied):
            await client.publish("invoices", "x")
        with pytest.raises(errors.PermissionDenied):
            await client.claims("mails").take("key", 5.0)


async def test_a_token_is_taken_from_the_environment(
    closed: tuple[Cluster, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, token = closed
    monkeypatch.setenv("LIMINAL_TOKEN", token.read_text())
    monkeypatch.setenv("LIMINAL_SERVER", ",".join(cluster.servers))
    async with Client() as client:
        assert await client.can_i("read", "channel:orders")


@pytest.fixture(scope="module")
def encrypted() -> Iterator[tuple[str, Path]]:
    """A node that speaks TLS: its address, and the file with the certificate of its CA."""
    line = [binary(), "dev", "--ephemeral", "--tls", "--nodes", "1", "--base-port", str(free_base(1))]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        found: dict[str, str] = {}
        for text in process.stdout:
            match = re.search(r"export (LIMINAL_CA|LIMINAL_SERVER)=(\S+)", text)
            if match:
                found[match[1]] = match[2]
            if len(found) == 2:
                break
        yield found["LIMINAL_SERVER"], Path(found["LIMINAL_CA"])
    finally:
        process.terminate()
        process.wait(30)


async def test_nodes_are_spoken_to_over_tls(encrypted: tuple[str, Path]) -> None:
    server, ca = encrypted
    async with Client(server, tls=TLS(ca=ca)) as client:
        await client.create_channel("orders")
        assert (await client.publish("orders", "x")).seq == 0


async def test_a_node_whose_certificate_nobody_trusts_is_unreachable(encrypted: tuple[str, Path]) -> None:
    server, _ = encrypted
    async with Client(server, retry_for=0.5) as client:
        with pytest.raises(errors.Unreachable) as refusal:
            await client.publish("orders", "x")
        assert not refusal.value.outcome_unknown
        assert "certificate" in refusal.value.message.lower()
