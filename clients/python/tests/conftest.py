"""Real clusters for the tests, of the binary that LIMINAL_BINARY names: three processes on free ports of this machine, each
of which a test can kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from liminal import ChannelConfig, Client

NODES = 3
UP_WITHIN = 60.0


def binary() -> str:
    given = os.environ.get("LIMINAL_BINARY") or shutil.which("liminal")
    if not given:
        pytest.exit("name the broker's binary in LIMINAL_BINARY: these tests start real clusters", returncode=2)
    return given


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago. They are all held at once, so that no two are the same."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def free_base(nodes: int) -> int:
    """A base port for `liminal dev`, whose nodes listen at fixed distances from it."""
    while True:
        (base,) = free_ports(1)
        wanted = [base + kind + number for kind in (0, 100, 200) for number in range(1, nodes + 1)]
        if max(wanted) > 65_535:
            continue
        held = [socket.socket() for _ in wanted]
        try:
            for one, port in zip(held, wanted):
                one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for one in held:
                one.close()


@dataclass
class Node:
    name: str
    client: int
    http: int
    peer: int
    config: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.client}"


@dataclass
class Cluster:
    dir: Path
    security: str = ""
    nodes: list[Node] = field(default_factory=list)

    def start(self) -> None:
        ports = free_ports(3 * NODES)
        for number in range(NODES):
            client, http, peer = ports[3 * number : 3 * number + 3]
            name = f"n{number + 1}"
            self.nodes.append(Node(name, client, http, peer, self.dir / f"{name}.toml"))
        seeds = ", ".join(f'"127.0.0.1:{node.peer}"' for node in self.nodes)
        for node in self.nodes:
            node.config.write_text(
                f'listen_address = "127.0.0.1:{node.client}"\n'
                f'health_listen_address = "127.0.0.1:{node.http}"\n'
                f'persistence_path = "{self.dir / node.name}"\n'
                f"{self.security}\n"
                "[cluster]\n"
                f'node_name = "{node.name}"\n'
                f'listen_address = "127.0.0.1:{node.peer}"\n'
                f"seed_nodes = [{seeds}]\n"
                'cookie = "a cluster of tests"\n'
            )
            self.launch(node)
        for node in self.nodes:
            self.wait_until_ready(node)

    def launch(self, node: Node) -> None:
        with (self.dir / f"{node.name}.log").open("ab") as log:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("LIMINAL_")}
            node.process = subprocess.Popen(
                [binary(), "serve", "--config", str(node.config)],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def wait_until_ready(self, node: Node) -> None:
        until = time.monotonic() + UP_WITHIN
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{node.http}/ready", timeout=1):
                    return
            except OSError as error:
                ended = node.process is None or node.process.poll() is not None
                if ended or time.monotonic() > until:
                    log = (self.dir / f"{node.name}.log").read_text()[-4000:]
                    raise AssertionError(f"{node.name} is not ready ({error}); its log ends with:\n{log}") from error
                time.sleep(0.05)

    @property
    def servers(self) -> list[str]:
        return [node.address for node in self.nodes]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def kill(self, node: Node) -> None:
        """As a power cut does it: nothing is said or written any more."""
        assert node.process is not None
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        node.process = None

    def end(self, node: Node) -> None:
        """As an operator does it: the node hands over what it leads, and finishes what is under way."""
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(UP_WITHIN)
        node.process = None

    @contextmanager
    def frozen(self, node: Node) -> Iterator[None]:
        """A process that does nothing, and keeps its connections open."""
        assert node.process is not None
        node.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.process.send_signal(signal.SIGCONT)

    def bring_back(self) -> None:
        """Starts again what a test has killed."""
        gone = [node for node in self.nodes if node.process is None]
        for node in gone:
            self.launch(node)
        for node in gone:
            self.wait_until_ready(node)

    async def leader(self, client: Client) -> Node:
        while True:
            status = await client.cluster_status()
            if status.leader is not None:
                return self.node(status.leader)
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client(cluster.servers) as client:
        yield client


@pytest.fixture
async def channel(client: Client, request: pytest.FixtureRequest) -> str:
    """A channel of the test's own."""
    name: str = request.node.name.replace("[", "-").rstrip("]")[:60]
    await client.create_channel(name, ChannelConfig())
    return name


@pytest.fixture
def killable(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster for a test that kills nodes; it is whole again afterwards."""
    yield cluster
    cluster.bring_back()
