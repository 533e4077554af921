"""The client without asyncio. These tests wait in threads of their own, so that nothing runs on the tests' event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from conftest import Cluster
from liminal import Completed, Nack, Ran, errors
from liminal.sync import Client, Delivery


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.servers) as client:
        yield client


@pytest.fixture
def channel(client: Client, request: pytest.FixtureRequest) -> str:
    client.create_channel(request.node.name[:60])
    return str(request.node.name[:60])


def test_messages_are_published_and_followed_without_asyncio(client: Client, channel: str) -> None:
    with client.publisher(channel) as publisher:
        outcomes = [publisher.enqueue(str(number), key=f"k{number}") for number in range(100)]
    assert [outcome.result().seq for outcome in outcomes] == list(range(100))
    with client.subscribe(channel, "earliest") as messages:
        found = [next(messages).payload for _ in range(100)]
        assert messages.next(timeout=0.05) is None
        position = messages.position
    assert found == [str(number).encode() for number in range(100)]
    client.publish(channel, "more")
    assert position is not None
    assert [received.payload for received in client.read(channel, position)] == [b"more"]


def test_a_subscription_that_another_thread_closes_ends(client: Client, channel: str) -> None:
    with client.subscribe(channel, "earliest") as messages:
        closing = threading.Timer(0.1, messages.close)
        closing.start()
        assert list(messages) == []
        closing.join()


def test_handlers_run_in_threads_until_the_consumer_is_stopped(client: Client, channel: str) -> None:
    client.create_consumer(channel, "work")
    for number in range(20):
        client.publish(channel, str(number))
    consumer = client.consumer(channel, "work")
    lock, done, threads = threading.Lock(), set[int](), set[str]()

    def handle(delivery: Delivery) -> None:
        if delivery.seq == 3 and delivery.attempt == 1:
            raise Nack("not yet")
        with lock:
            done.add(delivery.seq)
            threads.add(threading.current_thread().name)
            if len(done) == 20:
                consumer.stop()

    consumer.run(handle, concurrency=3)
    assert done == set(range(20))
    assert all(name.startswith("liminal handler") for name in threads)
    assert client.consumer_state(channel, "work").lag == 0


def test_pulled_messages_are_settled_in_a_transaction(client: Client, channel: str) -> None:
    client.create_channel(f"{channel}-out")
    client.create_consumer(channel, "work")
    client.publish(channel, "order")
    (delivery,) = client.pull(channel, "work", wait=5.0)
    (receipt,) = client.transaction().publish(f"{channel}-out", "invoice", key="i").ack(delivery).commit()
    assert receipt.seq == 0
    with pytest.raises(errors.StaleDelivery):
        client.transaction().publish(f"{channel}-out", "again", key="j").ack(delivery).commit()


def test_work_is_done_once_in_a_thread(client: Client, channel: str) -> None:
    claims = client.claims(channel)
    assert isinstance(claims.once("key", 5.0, lambda token: f"under {token}"), Ran)
    again = claims.once("key", 5.0, lambda token: pytest.fail("it was done before"))
    assert isinstance(again, Completed)


def test_an_error_reaches_the_thread_that_asked(client: Client) -> None:
    with pytest.raises(errors.ChannelNotFound):
        client.publish("nowhere", "x")
