"""Consumers, claims, and transactions over both."""

from __future__ import annotations

import asyncio

import pytest
from liminal import Claimed, Client, Completed, ConsumerConfig, Delivery, InFlight, Nack, Ran, errors


async def publish(client: Client, channel: str, count: int) -> None:
    async with client.publisher(channel) as publisher:
        for number in range(count):
            await publisher.enqueue(str(number), key=f"k{number}")


async def test_what_is_acknowledged_never_comes_again(client: Client, channel: str) -> None:
    await client.create_consumer(channel, "work")
    await publish(client, channel, 10)
    async with client.consumer(channel, "work").open() as deliveries:
        seen = []
        async for delivery in deliveries:
            assert (delivery.attempt, delivery.received.position is not None) == (1, True)
            await delivery.ack()
            seen.append(delivery.seq)
            if len(seen) == 10:
                break
    assert seen == list(range(10))
    assert (await client.consumer_state(channel, "work")).lag == 0


async def test_what_is_given_back_comes_again_with_its_attempt(client: Client, channel: str) -> None:
    await client.create_consumer(channel, "work")
    await publish(client, channel, 1)
    attempts: list[int] = []
    consumer = client.consumer(channel, "work")

    async def handle(delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise Nack("not yet", delay=0.05)
        consumer.stop()

    await asyncio.wait_for(consumer.run(handle), 20)
    assert attempts == [1, 2]


async def test_a_message_that_fails_too_often_goes_to_the_dead_letters_with_its_reason(
    client: Client, channel: str
) -> None:
    await client.create_consumer(channel, "work", ConsumerConfig(max_attempts=1))
    await publish(client, channel, 1)
    consumer = client.consumer(channel, "work")
    running = asyncio.create_task(consumer.run(_always_fail))
    while (await client.consumer_state(channel, "work")).lag:
        await asyncio.sleep(0.02)
    consumer.stop()
    await running
    (letter,) = await client.dead_letters(channel, "work")
    assert (letter.message.payload, letter.attempts, letter.reason) == (b"0", 1, "nacked: out of paper")
    redriven = await client.redrive(channel, "work")
    assert (redriven.moved, redriven.refused, redriven.stopped) == (1, 0, None)
    assert await client.dead_letters(channel, "work") == []
    state = await client.update_consumer(channel, "work", max_attempts=0)
    assert (state.lag, state.config.max_attempts) == (1, 0), "it waits to be worked on again"


async def _always_fail(delivery: Delivery) -> None:
    raise Nack("out of paper")


async def test_a_stop_finishes_what_is_in_hand_and_gives_the_rest_to_others(client: Client, channel: str) -> None:
    await client.create_consumer(channel, "work", ConsumerConfig(max_attempts=3))
    await publish(client, channel, 20)
    first = client.consumer(channel, "work")
    done: list[int] = []

    async def handle(delivery: Delivery) -> None:
        if len(done) == 4:
            first.stop()
            await asyncio.sleep(0)
        done.append(delivery.seq)

    await asyncio.wait_for(first.run(handle), 20)
    assert (await client.consumer_state(channel, "work")).lag == 20 - len(done)
    async with client.consumer(channel, "work").open() as deliveries:
        delivery = await deliveries.__anext__()
        assert (delivery.seq, delivery.attempt) == (len(done), 1), "what nobody began has cost no attempt"


async def test_work_that_takes_long_is_extended(client: Client, channel: str) -> None:
    await client.create_consumer(channel, "work", ConsumerConfig(ack_timeout=1.0))
    await publish(client, channel, 1)
    async with client.consumer(channel, "work").open() as deliveries:
        delivery = await deliveries.__anext__()
        for _ in range(6):
            await asyncio.sleep(0.4)
            await delivery.extend()
        await delivery.ack()
    state = await client.consumer_state(channel, "work")
    assert (state.lag, state.redelivered) == (0, 0)


async def test_an_ack_that_comes_too_late_is_said_to_be_stale(client: Client, channel: str) -> None:
    await client.create_consumer(channel, "work", ConsumerConfig(ack_timeout=0.2))
    await publish(client, channel, 1)
    (first,) = (await client.pull(channel, "work", wait=5.0)).deliveries
    (second,) = (await client.pull(channel, "work", wait=5.0)).deliveries
    assert second.attempt == 2
    with pytest.raises(errors.StaleDelivery):
        await first.ack()


async def test_pulled_messages_are_settled_one_by_one_or_together(client: Client, channel: str) -> None:
    await client.create_consumer(channel, "work")
    assert (await client.pull(channel, "work")).deliveries == ()
    await publish(client, channel, 5)
    pulled = await client.pull(channel, "work", max=5, wait=5.0)
    assert [delivery.seq for delivery in pulled.deliveries] == list(range(5))
    await pulled.deliveries[0].ack()
    await pulled.deliveries[1].nack("busy", delay=0.0)
    assert await client.settle(pulled.deliveries[2:]) == [None, None, None]
    (again,) = (await client.pull(channel, "work", wait=5.0)).deliveries
    assert (again.seq, again.attempt) == (1, 2)


async def test_a_consumer_that_does_not_exist_is_refused(client: Client, channel: str) -> None:
    with pytest.raises(errors.ConsumerNotFound):
        await client.consumer(channel, "nobody").open().open()


async def test_work_of_a_key_is_done_once(client: Client, channel: str) -> None:
    claims = client.claims(channel, name="worker")
    ran = []

    async def work(token: int) -> str:
        ran.append(token)
        return "charged"

    first = await claims.once("order-7", 10.0, work)
    assert first == Ran(b"charged", ran[0])
    second = await claims.once("order-7", 10.0, work)
    assert isinstance(second, Completed) and second.receipt == b"charged"
    assert len(ran) == 1


async def test_a_claim_of_another_is_in_flight_until_it_is_given_back(client: Client, channel: str) -> None:
    mine, other = client.claims(channel, name="mine"), client.claims(channel, name="other")
    taken = await mine.take("key", 30.0)
    assert isinstance(taken, Claimed)
    seen = await other.take("key", 30.0)
    assert isinstance(seen, InFlight) and seen.owner.startswith("mine/")
    await mine.release("key", taken.token)
    again = await other.take("key", 30.0)
    assert isinstance(again, Claimed) and again.token > taken.token
    with pytest.raises(errors.ClaimStale):
        await mine.complete("key", taken.token, "late")


async def test_a_lease_lasts_as_long_as_the_work(client: Client, channel: str) -> None:
    claims = client.claims(channel)

    async def work(token: int) -> bytes:
        await asyncio.sleep(1.5)
        return b"done"

    assert isinstance(await claims.once("key", 0.6, work), Ran)


async def test_work_that_fails_gives_its_claim_back(client: Client, channel: str) -> None:
    claims = client.claims(channel)

    async def work(token: int) -> bytes:
        raise ValueError("no paper")

    with pytest.raises(ValueError, match="no paper"):
        await claims.once("key", 30.0, work)
    assert await claims.show("key") is None


async def test_a_transaction_does_all_of_it_or_nothing(client: Client, channel: str) -> None:
    output = f"{channel}-output"
    await client.create_channel(output)
    await client.create_consumer(channel, "work")
    await publish(client, channel, 1)
    claims = client.claims(channel)
    taken = await claims.take("order", 30.0)
    assert isinstance(taken, Claimed)
    (delivery,) = (await client.pull(channel, "work", wait=5.0)).deliveries
    transaction = client.transaction().publish(output, "invoice", key="i").ack(delivery)
    (receipt,) = await transaction.complete(channel, "order", taken.token, "invoiced").commit()
    assert receipt.seq == 0
    assert (await client.consumer_state(channel, "work")).lag == 0
    shown = await claims.show("order")
    assert isinstance(shown, Completed) and shown.receipt == b"invoiced"

    with pytest.raises(errors.StaleDelivery):
        await client.transaction().publish(output, "second", key="j").ack(delivery).commit()
    assert (await client.channel(output)).next_seq == 1
