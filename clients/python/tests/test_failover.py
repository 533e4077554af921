"""What a program sees when nodes are killed in the middle of its work."""

from __future__ import annotations

import asyncio

import pytest
from conftest import Cluster, free_ports
from liminal import Client, ConsumerConfig, Delivery, LiminalError, PublisherOptions, Receipt, errors

MESSAGES = 2_000


async def stored(client: Client, channel: str) -> list[bytes]:
    """All payloads of a channel in their order."""
    found: list[bytes] = []
    page = await client.read(channel)
    while page.messages:
        found.extend(received.payload for received in page)
        assert page.next is not None
        page = await client.read(channel, page.next)
    return found


def assert_each_once(payloads: list[bytes], outcomes: list[asyncio.Future[Receipt]]) -> None:
    """Every message is stored, once, and where its receipt says."""
    assert len(payloads) == len(outcomes)
    for number, outcome in enumerate(outcomes):
        seq = outcome.result().seq
        assert seq is not None and payloads[seq] == str(number).encode()


async def publish_and_kill(cluster: Cluster, client: Client, channel: str, options: PublisherOptions) -> None:
    outcomes = []
    async with client.publisher(channel, options) as publisher:
        for number in range(MESSAGES):
            outcomes.append(await publisher.enqueue(str(number), key=f"k{number}"))
            if number == MESSAGES // 2:
                assert not publisher._window.is_empty(), "the leader is killed with messages under way"
                cluster.kill(await cluster.leader(client))
    assert_each_once(await stored(client, channel), outcomes)


async def test_keyed_messages_are_stored_once_when_the_leader_is_killed(
    killable: Cluster, client: Client, channel: str
) -> None:
    await publish_and_kill(killable, client, channel, PublisherOptions(in_flight=200, batch_messages=20))


async def test_one_batch_under_way_keeps_the_order_when_the_leader_is_killed(
    killable: Cluster, client: Client, channel: str
) -> None:
    options = PublisherOptions(in_flight=200, batch_messages=20, batches_under_way=1)
    await publish_and_kill(killable, client, channel, options)
    assert await stored(client, channel) == [str(number).encode() for number in range(MESSAGES)]


async def test_messages_without_keys_are_stored_or_refused_or_said_to_be_unknown_and_never_twice(
    killable: Cluster, client: Client, channel: str
) -> None:
    options = PublisherOptions(in_flight=200, batch_messages=20)
    outcomes = []
    async with client.publisher(channel, options) as publisher:
        for number in range(MESSAGES):
            outcomes.append(await publisher.enqueue(str(number)))
            if number == MESSAGES // 2:
                killable.kill(await killable.leader(client))
    payloads = await stored(client, channel)
    assert len(payloads) == len(set(payloads)), "none is stored twice"
    for number, outcome in enumerate(outcomes):
        error = outcome.exception()
        if error is None:
            seq = outcome.result().seq
            assert seq is not None and payloads[seq] == str(number).encode()
        else:
            assert isinstance(error, LiminalError)
            assert error.outcome_unknown or str(number).encode() not in payloads


async def test_a_subscription_gives_each_message_once_though_its_node_is_killed(
    killable: Cluster, client: Client, channel: str
) -> None:
    node = killable.nodes[1]
    others = [node.address, *(other.address for other in killable.nodes if other is not node)]
    async with Client(others) as follower, follower.subscribe(channel, "earliest") as messages:

        async def publish(first: int, end: int) -> None:
            async with client.publisher(channel) as publisher:
                for number in range(first, end):
                    await publisher.enqueue(str(number), key=f"k{number}")

        await publish(0, 100)
        found = [(await messages.__anext__()).payload for _ in range(50)]
        killable.kill(node)
        await publish(100, 200)
        found += [(await messages.__anext__()).payload for _ in range(150)]
    assert found == [str(number).encode() for number in range(200)]


async def test_a_consumer_works_on_everything_though_its_node_is_killed(
    killable: Cluster, client: Client, channel: str
) -> None:
    node = killable.nodes[2]
    others = [node.address, *(other.address for other in killable.nodes if other is not node)]
    await client.create_consumer(channel, "work", ConsumerConfig(ack_timeout=5.0))
    async with client.publisher(channel) as publisher:
        for number in range(300):
            await publisher.enqueue(str(number), key=f"k{number}")
    done: set[bytes] = set()
    async with Client(others) as worker:
        consumer = worker.consumer(channel, "work", credit=20)

        async def handle(delivery: Delivery) -> None:
            done.add(delivery.payload)
            if len(done) == 100 and node.process is not None:
                killable.kill(node)
            if len(done) == 300:
                consumer.stop()

        await asyncio.wait_for(consumer.run(handle, concurrency=4), 60)
    assert done == {str(number).encode() for number in range(300)}
    state = await client.consumer_state(channel, "work")
    assert (state.lag, state.in_flight) == (0, 0), "the acks were confirmed before the consumer ended"


async def test_a_node_that_stops_in_order_costs_no_message(killable: Cluster, client: Client, channel: str) -> None:
    async with client.publisher(channel, PublisherOptions(in_flight=100, batch_messages=10)) as publisher:
        outcomes = [await publisher.enqueue(str(number), key=f"k{number}") for number in range(200)]
        leader = await killable.leader(client)
        ending = asyncio.ensure_future(asyncio.to_thread(killable.end, leader))
        outcomes += [await publisher.enqueue(str(number), key=f"k{number}") for number in range(200, 1_000)]
        await ending
    assert_each_once(await stored(client, channel), outcomes)


async def test_a_frozen_leader_is_left_long_before_its_answers_are_given_up(cluster: Cluster, channel: str) -> None:
    async with Client(cluster.servers, answer_timeout=300.0) as client:
        leader = await cluster.leader(client)
    others = [leader.address, *(node.address for node in cluster.nodes if node is not leader)]
    async with (
        Client(others, answer_timeout=300.0) as client,
        client.publisher(channel) as publisher,
        client.subscribe(channel, "earliest") as messages,
    ):
        await publisher.send("0", key="k0")
        with cluster.frozen(leader):
            outcomes = [await publisher.enqueue(str(number), key=f"k{number}") for number in range(1, 100)]
            await asyncio.wait_for(publisher.flush(), 60)
            found: list[bytes] = []
            while len(found) < 100:
                found += [received.payload for received in await asyncio.wait_for(messages.next_batch(), 60)]
    assert found == [str(number).encode() for number in range(100)]
    assert [outcome.result().seq for outcome in outcomes] == list(range(1, 100))


async def test_a_client_goes_to_the_nodes_that_are_there(cluster: Cluster, channel: str) -> None:
    (nobody,) = free_ports(1)
    async with Client([f"127.0.0.1:{nobody}", *cluster.servers]) as client:
        assert (await client.publish(channel, "x")).seq == 0


async def test_without_any_node_nothing_happened_for_certain() -> None:
    (nobody,) = free_ports(1)
    async with Client(f"127.0.0.1:{nobody}", retry_for=0.3) as client:
        with pytest.raises(errors.Unreachable) as refusal:
            await client.publish("orders", "x")
        assert not refusal.value.outcome_unknown
        assert f"127.0.0.1:{nobody}" in refusal.value.message
        async with client.publisher("orders") as publisher:
            with pytest.raises(errors.Unreachable):
                await publisher.send("x")


async def test_without_a_majority_a_message_is_not_said_to_be_stored(killable: Cluster, channel: str) -> None:
    async with Client(killable.servers, retry_for=1.0, answer_timeout=2.0) as client:
        for node in killable.nodes[1:]:
            killable.kill(node)
        with pytest.raises(LiminalError) as refusal:
            await client.publish(channel, "x", key="k")
        assert refusal.value.transient
    killable.bring_back()
    async with Client(killable.servers) as client:
        receipt = await client.publish(channel, "x", key="k")
        assert receipt.seq == 0
        assert await stored(client, channel) == [b"x"]


async def test_publishing_goes_to_the_leader_that_answers_name(cluster: Cluster, client: Client, channel: str) -> None:
    await client.publish(channel, "x")
    leader = await cluster.leader(client)
    assert client._pool.pick(leader=True).address == leader.address
