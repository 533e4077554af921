"""The scripted exchanges that clients in all languages are held to: clients/conformance."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from liminal import Claimed, Client, LiminalError, Notice, Receipt

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "conformance"
sys.path.insert(0, str(SCRIPTS))

from player import Player, differences  # noqa: E402


def error_of(error: LiminalError) -> dict[str, Any]:
    return {"code": error.code, "outcome_unknown": error.outcome_unknown}


def receipt_of(receipt: Receipt) -> dict[str, Any]:
    return {
        "seq": receipt.seq,
        "duplicate": receipt.duplicate,
        "position": None if receipt.position is None else str(receipt.position),
    }


async def publish(client: Client, action: dict[str, Any]) -> dict[str, Any]:
    receipt = await client.publish(action["channel"], action["payload"], key=action.get("key"))
    return {"receipt": receipt_of(receipt)}


async def publish_stream(client: Client, action: dict[str, Any]) -> dict[str, Any]:
    outcomes: list[dict[str, Any]] = []
    async with client.publisher(action["channel"]) as publisher:
        acks = [await publisher.enqueue(one["payload"], key=one.get("key")) for one in action["messages"]]
        await publisher.flush()
    for ack in acks:
        error = ack.exception()
        if error is None:
            outcomes.append({"receipt": receipt_of(ack.result())})
        else:
            assert isinstance(error, LiminalError)
            outcomes.append({"error": error_of(error)})
    return {"outcomes": outcomes}


async def subscribe(client: Client, action: dict[str, Any]) -> dict[str, Any]:
    notices: list[Notice] = []
    start, filter = action["start"], action.get("filter", "")
    async with client.subscribe(action["channel"], start, filter=filter, on_notice=notices.append) as messages:
        found: list[list[Any]] = []
        while len(found) < action["take"]:
            received = await messages.__anext__()
            found.append([received.seq, received.payload.decode()])
        position = str(messages.position)
    told = [{"code": one.code, "from_seq": one.from_seq, "next": str(one.next)} for one in notices]
    return {"messages": found, "notices": told, "position": position}


async def consume(client: Client, action: dict[str, Any]) -> dict[str, Any]:
    acked: list[Any] = []
    consumer = client.consumer(action["channel"], action["consumer"], credit=action["credit"])
    async with consumer.open() as deliveries:
        while len(acked) < action["take"]:
            delivery = await deliveries.__anext__()
            try:
                await delivery.ack()
                acked.append(delivery.seq)
            except LiminalError as error:
                acked.append(error_of(error))
    return {"acked": acked}


async def take_claim(client: Client, action: dict[str, Any]) -> dict[str, Any]:
    claims = client.claims(action["namespace"])
    taken = await claims.take(action["key"], action["lease_ms"] / 1000, owner=action["owner"])
    return {"claimed": {"token": taken.token}} if isinstance(taken, Claimed) else {}


async def request(client: Client, action: dict[str, Any]) -> dict[str, Any]:
    timeout = action["timeout_ms"] / 1000
    reply = await client.request(action["channel"], action["payload"], timeout=timeout)
    return {"reply": reply.payload.decode()}


ACTIONS = {
    "publish": publish,
    "publish_stream": publish_stream,
    "subscribe": subscribe,
    "consume": consume,
    "take_claim": take_claim,
    "request": request,
}


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.json")), ids=lambda path: path.stem)
async def test_exchange(path: Path) -> None:
    script = json.loads(path.read_text())
    player = Player(script)
    problems: list[str] = []
    servers = await player.start()
    try:
        async with Client(servers, retry_for=5.0, token=script.get("client", {}).get("token")) as client:
            for action in script["actions"]:
                try:
                    outcome = await ACTIONS[action["do"]](client, action)
                except LiminalError as error:
                    outcome = {"error": error_of(error)}
                problems += differences(action["expect"], outcome, f"/{action['do']}")
    finally:
        problems += await player.stop()
    assert problems == [], script["about"]


async def test_what_a_script_does_not_say_is_found() -> None:
    script: dict[str, Any] = {
        "actions": [],
        "exchanges": [
            {"call": "Broker/Publish", "steps": [{"receive": {"channel": "orders"}}, {"send": {"seq": "0"}}]},
            {"call": "Broker/Read", "steps": [{"receive": {}}, {"send": {}}]},
        ],
    }
    player = Player(script)
    async with Client(await player.start(), retry_for=0.2) as client:
        with pytest.raises(LiminalError):
            await client.publish("invoices", "x")
        with pytest.raises(LiminalError):
            await client.publish("orders", "x")
    problems = await player.stop()
    assert [problem.partition(":")[0] for problem in problems] == [
        "Broker/Publish",
        "node 0 got Broker/Publish, and the script has Broker/Read there",
        "Broker/Read was never called",
    ]
