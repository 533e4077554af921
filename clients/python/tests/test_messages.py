"""Publishing, reading and following while all nodes are well."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from liminal import (
    ChannelConfig,
    Client,
    Confirm,
    HistoryChange,
    HistoryChanged,
    Message,
    Notice,
    Position,
    PublisherOptions,
    Retention,
    errors,
)


async def test_a_receipt_says_where_the_message_is(client: Client, channel: str) -> None:
    first = await client.publish(channel, "one", key="a")
    second = await client.publish(channel, b"two", confirm=Confirm.COMMIT)
    assert (first.seq, first.duplicate, second.seq, second.delivered) == (0, False, 1, None)
    assert second.position is not None and second.position.seq == 1
    page = await client.read(channel, second.position)
    assert [received.payload for received in page] == [b"two"]
    assert page.messages[0].position == second.position


async def test_the_same_key_is_stored_once(client: Client, channel: str) -> None:
    first = await client.publish(channel, "one", key="a")
    again = await client.publish(channel, "one", key="a")
    assert (again.seq, again.duplicate) == (first.seq, True)
    with pytest.raises(errors.KeyConflict) as refusal:
        await client.publish(channel, "two", key="a")
    assert not refusal.value.outcome_unknown


async def test_a_message_comes_back_as_it_was_published(client: Client, channel: str) -> None:
    message = Message(
        b"\x00\xff",
        key="k",
        headers=(("a", "1"), ("a", "2")),
        ttl=3600.0,
        parent_id="p",
        vector_clock=("n", 7),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="x=y",
    )
    await client.publish(channel, message)
    page = await client.read(channel)
    assert page.messages[0].message == message
    assert abs(page.messages[0].time - datetime.now(timezone.utc)) < timedelta(minutes=5)


async def test_a_publisher_gives_the_receipts_of_many_messages_in_their_order(client: Client, channel: str) -> None:
    options = PublisherOptions(in_flight=50, batch_messages=7)
    async with client.publisher(channel, options) as publisher:
        outcomes = [await publisher.enqueue(str(number), key=f"k{number}") for number in range(500)]
        await publisher.flush()
        assert all(outcome.done() for outcome in outcomes)
    assert [outcome.result().seq for outcome in outcomes] == list(range(500))
    assert (await client.channel(channel)).next_seq == 500


async def test_one_refused_message_of_a_batch_fails_alone(client: Client, channel: str) -> None:
    await client.update_channel(channel, schema='{"type":"object","required":["id"]}')
    async with client.publisher(channel) as publisher:
        good = await publisher.enqueue('{"id":1}')
        bad = await publisher.enqueue("{}")
        last = await publisher.enqueue('{"id":2}')
    assert (good.result().seq, last.result().seq) == (0, 1)
    with pytest.raises(errors.SchemaViolation) as refusal:
        bad.result()
    assert [detail.pointer for detail in refusal.value.details] == ["/id"]


async def test_a_publish_at_another_place_than_expected_is_refused(client: Client, channel: str) -> None:
    await client.publish(channel, "one", expected_seq=0)
    with pytest.raises(errors.WrongSeq):
        await client.publish(channel, "two", expected_seq=0)


async def test_an_unknown_channel_is_an_error_of_its_own_class(client: Client) -> None:
    for call in (client.publish("nowhere", "x"), client.read("nowhere"), client.subscribe("nowhere").open()):
        with pytest.raises(errors.ChannelNotFound) as refusal:
            await call
        assert refusal.value.code == "CHANNEL_NOT_FOUND" and not refusal.value.outcome_unknown
        assert refusal.value.help
    async with client.publisher("nowhere") as publisher:
        with pytest.raises(errors.ChannelNotFound):
            await publisher.send("x")


async def test_a_subscription_gives_what_was_and_what_comes(client: Client, channel: str) -> None:
    await client.publish(channel, "0")
    async with client.subscribe(channel, "earliest") as messages:
        assert (await messages.__anext__()).payload == b"0"
        # A wait that is given up loses nothing.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(messages.next_batch(), 0.2)
        receipt = await client.publish(channel, "1")
        received = await messages.__anext__()
        assert (received.payload, receipt.delivered) == (b"1", True)
        kept = str(messages.position)
    await client.publish(channel, "2")
    async with client.subscribe(channel, Position.parse(kept)) as messages:
        assert (await messages.__anext__()).payload == b"2"


async def test_a_filter_lets_through_what_it_names(client: Client, channel: str) -> None:
    async with client.publisher(channel) as publisher:
        for number in range(20):
            await publisher.enqueue(Message.json({"number": number, "even": number % 2 == 0}))
    async with client.subscribe(channel, "earliest", filter="even == true") as messages:
        found = [(await messages.__anext__()).message.value()["number"] for _ in range(10)]
    assert found == list(range(0, 20, 2))


async def test_a_reader_is_told_that_messages_were_removed_and_goes_on(client: Client, channel: str) -> None:
    for number in range(10):
        await client.publish(channel, str(number))
    start = (await client.read(channel, "earliest", limit=2)).next
    assert start is not None
    await client.trim_channel(channel, from_seq=5)

    messages = client.subscribe(channel, start)
    with pytest.raises(HistoryChanged) as told:
        await messages.__anext__()
    notice = told.value.notice
    assert (notice.change, notice.from_seq, notice.next.seq) == (HistoryChange.CUT, 2, 5)
    assert told.value.code == "OUT_OF_RANGE"
    assert (await messages.__anext__()).seq == 5
    await messages.close()

    notices: list[Notice] = []
    async with client.subscribe(channel, start, on_notice=notices.append) as messages:
        assert (await messages.__anext__()).seq == 5
    assert [notice.change for notice in notices] == [HistoryChange.CUT]

    with pytest.raises(errors.OutOfRange):
        await client.subscribe(channel, 2).__anext__()


async def test_a_reader_is_told_that_the_channel_was_made_again(client: Client, channel: str) -> None:
    await client.publish(channel, "old")
    async with client.subscribe(channel, "earliest") as messages:
        await messages.__anext__()
        position = messages.position
    assert position is not None
    await client.delete_channel(channel)
    await client.create_channel(channel)
    await client.publish(channel, "new")
    page = await client.read(channel, position)
    assert page.notice is not None and page.notice.change is HistoryChange.RECREATED
    assert [received.payload for received in page] == [b"new"]


async def test_channels_are_managed(client: Client, channel: str) -> None:
    config = ChannelConfig(retention=Retention(max_messages=10), dedup_window=60.0)
    made = await client.create_channel(f"{channel}-b", config)
    assert made.config == config
    assert (await client.create_channel(f"{channel}-b", config)).id == made.id
    with pytest.raises(errors.ChannelExists):
        await client.create_channel(f"{channel}-b")
    assert {channel, f"{channel}-b"} <= {one.name for one in await client.channels()}
    await client.delete_channel(f"{channel}-b")
    with pytest.raises(errors.ChannelNotFound):
        await client.channel(f"{channel}-b")


async def test_a_delayed_message_waits_and_can_be_withdrawn(client: Client, channel: str) -> None:
    due = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    receipt = await client.publish(channel, Message(b"later", key="a", deliver_at=due))
    assert (receipt.seq, receipt.scheduled) == (None, due)
    (waiting,) = await client.delayed(channel)
    assert (waiting.due, waiting.message.payload) == (due, b"later")
    assert await client.withdraw_delayed(channel, waiting.id)
    assert await client.delayed(channel) == []


async def test_a_request_gets_its_reply(client: Client, channel: str) -> None:
    with pytest.raises(errors.NoResponders):
        await client.request(channel, "ping")
    subscription = client.subscribe(channel, "latest")
    async with subscription as messages:

        async def answer() -> None:
            received = await messages.__anext__()
            await client.reply(received, b"re: " + received.payload)

        answering = asyncio.create_task(answer())
        reply = await client.request(channel, "ping", timeout=10.0)
        await answering
    assert reply.payload == b"re: ping"
    await client.publish(channel, "no request")
    page = await client.read(channel)
    with pytest.raises(errors.InvalidArgument):
        await client.reply(page.messages[-1], "x")
