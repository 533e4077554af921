"""A cluster of the binary that LIMINAL_BINARY names: three processes on free ports of this machine, each of which a test can
kill, and the HTTP calls by which tests prepare what the console then shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

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


def until(what: str, true: Callable[[], Any], within: float = 30.0) -> Any:
    """Waits for a condition and gives what it says; asks it often, and tells what did not come."""
    end = time.monotonic() + within
    while True:
        if said := true():
            return said
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {within:.0f} s")
        time.sleep(0.05)


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status}: {problem}")
        self.problem = problem


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
        return f"http://127.0.0.1:{self.http}"


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
            command = [binary(), "serve", "--config", str(node.config)]
            node.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait_until_ready(self, node: Node) -> None:
        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"{node.address}/ready", timeout=1):
                    return True
            except OSError:
                log = (self.dir / f"{node.name}.log").read_text()[-4000:]
                assert node.process is not None and node.process.poll() is None, f"{node.name} has ended:\n{log}"
                return False

        until(f"{node.name} is ready", ready, UP_WITHIN)

    def kill(self, node: Node) -> None:
        """As a power cut does it: nothing is said or written any more."""
        assert node.process is not None
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        node.process = None

    def bring_back(self) -> None:
        """Starts again what a test has killed."""
        gone = [node for node in self.nodes if node.process is None]
        for node in gone:
            self.launch(node)
        for node in gone:
            self.wait_until_ready(node)

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()

    def call(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, token: str = "", **headers: str
    ) -> Any:
        """A call of the first node's HTTP API. `body` becomes JSON, `raw` is sent as it is."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.nodes[0].address + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, json.loads(error.read())) from error
        return json.loads(text) if text else None

    def publish(self, channel: str, *payloads: Any, **headers: str) -> None:
        for payload in payloads:
            raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            self.call("POST", f"/v1/channels/{channel}/messages?confirm=commit", raw=raw, **headers)

    def fail_all(self, channel: str, consumer: str, reasons: list[str]) -> None:
        """Has a consumer with one attempt give up messages, each for its reason."""
        path = f"/v1/channels/{channel}/consumers/{consumer}"
        for reason in reasons:
            pulled = self.call("POST", f"{path}/pull?max=1&wait=10s")
            assert pulled["messages"], f"{consumer} got no message"
            nacks = [{"token": one["token"], "reason": reason} for one in pulled["messages"]]
            self.call("POST", f"{path}/settle", {"nack": nacks})
        until("the dead letters are put away", lambda: self.call("GET", path)["dead"] == len(reasons))
