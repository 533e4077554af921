"""Plays the nodes of a scripted exchange (see README.md), so that a client in any language can be run against it.

    python player.py SCRIPT.json

prints a line of JSON with the addresses of the nodes, plays until its standard input is closed, and then prints what did not
go as the script says; it ends with 0 when everything did. It needs the Python client, whose generated messages it uses.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2
from liminal._proto import admin_pb2, broker_pb2, claims_pb2, consumers_pb2, security_pb2

PACKAGE = "liminal.v1."
# Importing them makes their messages known by name.
KNOWN = (admin_pb2, broker_pb2, claims_pb2, consumers_pb2, security_pb2)

Script = dict[str, Any]


class Mismatch(Exception):
    """The client did something else than the script says."""


def with_bytes(value: Any) -> Any:
    """JSON of protobuf from a script: `{"$text": "abc"}` stands for those bytes."""
    if isinstance(value, dict):
        if set(value) == {"$text"}:
            return base64.b64encode(value["$text"].encode()).decode()
        return {name: with_bytes(inner) for name, inner in value.items()}
    return [with_bytes(inner) for inner in value] if isinstance(value, list) else value


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks what `wanted` says. It may say more, in objects."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [f"{path or '/'}: wanted an object, found {found!r}"]
        return [
            text
            for name, inner in wanted.items()
            for text in differences(inner, found.get(name), f"{path}/{name}")
        ]
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return [f"{path or '/'}: wanted {len(wanted)} items, found {found!r}"]
        pairs = enumerate(zip(wanted, found))
        return [text for at, (one, other) in pairs for text in differences(one, other, f"{path}/{at}")]
    return [] if wanted == found else [f"{path or '/'}: wanted {wanted!r}, found {found!r}"]


class Method:
    """A call of the public API by its short name, such as `Broker/Publish`."""

    def __init__(self, name: str) -> None:
        service, _, method = name.partition("/")
        found = descriptor_pool.Default().FindServiceByName(PACKAGE + service).methods_by_name[method]
        self._request: Any = message_factory.GetMessageClass(found.input_type)
        self._response: Any = message_factory.GetMessageClass(found.output_type)

    def read(self, request: bytes) -> Any:
        return json_format.MessageToDict(
            self._request.FromString(request), preserving_proto_field_name=True, use_integers_for_enums=False
        )

    def normal(self, wanted: Any) -> Any:
        """A part of a request as `read` gives it, so that numbers and enums compare."""
        parsed = json_format.ParseDict(with_bytes(wanted), self._request())
        return json_format.MessageToDict(parsed, preserving_proto_field_name=True)

    def write(self, response: Any) -> bytes:
        return bytes(json_format.ParseDict(with_bytes(response), self._response()).SerializeToString())


class Player:
    """The nodes of one script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._next = 0
        self._servers: list[grpc.aio.Server] = []
        self.addresses: list[str] = []
        self.problems: list[str] = []

    async def start(self) -> list[str]:
        for number in range(self._script.get("nodes", 1)):
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            server.add_generic_rpc_handlers((Handler(self, number),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            self._servers.append(server)
            self.addresses.append(f"127.0.0.1:{port}")
        return self.addresses

    async def stop(self) -> list[str]:
        """What did not go as the script says."""
        await asyncio.gather(*(server.stop(None) for server in self._servers))
        for left in self._script["exchanges"][self._next :]:
            self.problems.append(f"{left['call']} was never called")
        return self.problems

    async def play(self, node: int, call: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        method = Method(call)
        incidental = self._script.get("incidental", {})
        if call in incidental:
            await self._headers(context, None)
            yield method.write(incidental[call])
            return
        exchanges = self._script["exchanges"]
        if self._next >= len(exchanges) or exchanges[self._next]["call"] != call:
            wanted = exchanges[self._next]["call"] if self._next < len(exchanges) else "no call"
            self.problems.append(f"node {node} got {call}, and the script has {wanted} there")
            await self._fail(context, {"grpc": "INTERNAL", "code": "INTERNAL", "message": "not in the script"})
            return
        exchange = exchanges[self._next]
        self._next += 1
        try:
            self._check(exchange, node, context)
            await self._headers(context, exchange.get("leader"), refused="fail" in exchange["steps"][-1])
            for step in exchange["steps"]:
                if "send" in step:
                    yield method.write(step["send"])
                else:
                    await self._step(step, method, requests, context)
        except Mismatch as mismatch:
            self.problems.append(f"{call}: {mismatch}")
            await self._fail(context, {"grpc": "INTERNAL", "code": "INTERNAL", "message": str(mismatch)})

    def _check(self, exchange: Script, node: int, context: Any) -> None:
        if exchange.get("node", node) != node:
            raise Mismatch(f"node {node} was called, and not node {exchange['node']}")
        found = dict(context.invocation_metadata() or ())
        problems = differences(exchange.get("metadata", {}), found)
        if problems:
            raise Mismatch(f"metadata: {'; '.join(problems)}")

    async def _headers(self, context: Any, leader: int | None, refused: bool = False) -> None:
        named = "" if leader is None else f"n{leader + 1};{self.addresses[leader]}"
        self._leader = (("liminal-leader", named or ";"),)
        if not refused:
            await context.send_initial_metadata(self._leader)

    async def _step(self, step: Script, method: Method, requests: AsyncIterator[bytes], context: Any) -> None:
        if "receive" in step:
            problems = differences(method.normal(step["receive"]), method.read(await self._request(requests)))
            if problems:
                raise Mismatch("; ".join(problems))
        elif "receive_messages" in step:
            await self._gather(step["receive_messages"], method, requests, self._payloads)
        elif "receive_settlements" in step:
            wanted = [method.normal({"settlements": [one]})["settlements"][0] for one in step["receive_settlements"]]
            await self._gather(wanted, method, requests, lambda request: list(request.get("settlements", [])))
        elif "half_close" in step:
            rest = [method.read(request) async for request in requests]
            if rest:
                raise Mismatch(f"after what the script says came {rest}")
        elif "fail" in step:
            await self._fail(context, step["fail"])
        elif "hang" in step:
            await asyncio.Event().wait()
        else:
            raise Mismatch(f"the script has a step that is not known: {step}")

    @staticmethod
    async def _request(requests: AsyncIterator[bytes]) -> bytes:
        async for request in requests:
            return request
        raise Mismatch("the client sent nothing more")

    @staticmethod
    def _payloads(request: Script) -> list[str]:
        messages = request.get("batch", {}).get("messages", [])
        return [base64.b64decode(message.get("payload", "")).decode() for message in messages]

    async def _gather(self, wanted: list[Any], method: Method, requests: AsyncIterator[bytes], items: Any) -> None:
        """Reads until so many have come, in however many requests."""
        found: list[Any] = []
        while len(found) < len(wanted):
            found.extend(items(method.read(await self._request(requests))))
        problems = differences(wanted, found)
        if problems:
            raise Mismatch("; ".join(problems))

    async def _fail(self, context: Any, failure: Script) -> None:
        """A status as a node writes it; without a code as a lost connection looks."""
        code = grpc.StatusCode[failure["grpc"]]
        message = failure.get("message", "as the script says")
        if "code" not in failure:
            await context.abort(code, message)
        flags = {"outcome_unknown": "true"} if failure.get("outcome_unknown") else {}
        details: list[Any] = [
            error_details_pb2.ErrorInfo(reason=failure["code"], domain="liminal", metadata=flags)
        ]
        if "retry_after_ms" in failure:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(failure["retry_after_ms"])
            details.append(retry)
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = Packed()
            packed.Pack(detail)
            status.details.append(packed)
        trailers = [
            ("liminal-code", failure["code"]),
            ("grpc-status-details-bin", status.SerializeToString()),
            *self._leader,
        ]
        if "admission" in failure:
            trailers.append(("liminal-admission", failure["admission"]))
        await context.abort(code, message, tuple(trailers))


class Handler(grpc.GenericRpcHandler):
    """All calls of one node. One request and a stream of one look the same on the wire."""

    def __init__(self, player: Player, node: int) -> None:
        self._player, self._node = player, node

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path = str(details.method).lstrip("/")
        if not path.startswith(PACKAGE):
            return None

        async def handle(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for response in self._player.play(self._node, path.removeprefix(PACKAGE), requests, context):
                yield response

        return grpc.stream_stream_rpc_method_handler(handle)


async def main(path: str) -> int:
    player = Player(json.loads(Path(path).read_text()))
    print(json.dumps({"nodes": await player.start()}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    problems = await player.stop()
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
