"""The pictures of the documentation: `pytest --screenshots docs/images test_pictures.py`, with a cluster that has something to
show. They are written only when they are asked for."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Cluster, until
from page import PHONE, WIDE, Page

MOST_BYTES = 150_000
# Down to the figures of the cluster.
OVERVIEW = 545
NAMES = ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Barbara Liskov", "Edsger Dijkstra"]

SCHEMA = {
    "type": "object",
    "required": ["id", "amount", "currency"],
    "properties": {
        "id": {"type": "integer"},
        "amount": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "USD"]},
        "customer": {"type": "object", "properties": {"name": {"type": "string"}, "tier": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def shop(pictures: Path, cluster: Cluster) -> Iterator[Cluster]:
    """A shop that goes on selling while its pictures are taken."""
    chance = random.Random(7)

    def order(number: int) -> dict[str, object]:
        customer = {"name": chance.choice(NAMES), "tier": chance.choice(["gold", "silver", "basic"])}
        return {"id": number, "amount": round(chance.uniform(3, 500), 2), "currency": chance.choice(["EUR", "USD"]), "customer": customer}

    cluster.call("PUT", "/v1/channels/orders", {"schema": SCHEMA})
    for name in ("orders.large", "shipments", "mail.outgoing", "payments.settled"):
        cluster.call("PUT", f"/v1/channels/{name}", {})
    cluster.call("PUT", "/v1/rules/orders/orders.large", {"predicate": "amount >= 400"})
    cluster.call("PUT", "/v1/rules/orders/shipments", {})
    mails = [{"to": f"customer{number}@example.com", "template": "receipt", "order": 1000 + number} for number in range(24)]
    cluster.publish("mail.outgoing", *mails)
    for channel, name in (("orders", "billing"), ("orders", "analytics"), ("shipments", "warehouse")):
        cluster.call("POST", f"/v1/channels/{channel}/consumers", {"name": name, "start": "earliest"})
    cluster.call("POST", "/v1/channels/mail.outgoing/consumers", {"name": "mailer", "max_attempts": 1, "start": "earliest"})
    reasons = ["SMTP 550: mailbox unavailable", "SMTP 421: try again later", "the template has no field `total`"]
    cluster.fail_all("mail.outgoing", "mailer", [chance.choice(reasons) for _ in range(12)])
    enough, sold = threading.Event(), threading.Event()

    def sell() -> None:
        number = 1000
        while not enough.wait(chance.uniform(0.02, 0.2)):
            for _ in range(chance.randint(1, 6)):
                number += 1
                cluster.publish("orders", order(number), Idempotency_Key=f"order-{number}")
            pulled = cluster.call("POST", "/v1/channels/orders/consumers/analytics/pull?max=20")
            if pulled["messages"]:
                acks = [one["token"] for one in pulled["messages"]]
                cluster.call("POST", "/v1/channels/orders/consumers/analytics/settle", {"ack": acks})
            if number > 1100:
                sold.set()

    selling = threading.Thread(target=sell)
    selling.start()
    try:
        assert sold.wait(60), "nothing is sold"
        yield cluster
    finally:
        enough.set()
        selling.join()


def take(page: Page, file: Path, height: int) -> None:
    """Made small where a tool for that is there."""
    page.picture(file, height)
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--skip-if-larger", "--ext", ".png", "64", str(file)], check=False)
    if shutil.which("optipng"):
        subprocess.run(["optipng", "-quiet", str(file)], check=True)
    size = file.stat().st_size
    assert size < MOST_BYTES, f"{file} has {size} bytes: pngquant makes it smaller"


def test_pictures(pictures: Path, page: Page, shop: Cluster) -> None:
    page.open("overview")
    # A minute of figures makes the lines of the charts.
    drawn = "return document.querySelector('[data-figure=stored] .line')?.getAttribute('d').split('L').length ?? 0"
    until("there are figures of a minute", lambda: page.run(drawn) > 30, 120)
    take(page, pictures / "console-overview.png", OVERVIEW)

    # The page stays open: what it has seen of the nodes makes the lanes.
    leader = shop.call("GET", "/v1/cluster")["leader"]
    other = next(node.name for node in shop.nodes if node.name != leader)
    page.look(scheme="dark")
    page.click("#nav a", "Cluster")
    page.click(f'[data-testid="lead-{other}"]')
    page.id("confirm").click()
    page.find(f'[data-testid="nodes"] [data-node="{other}"][data-role="leader"]')
    led = f"return document.querySelector('[data-node={leader}] .lane')?.ariaLabel.includes('then followed')"
    until("the lanes show both leaders", lambda: page.run(led))
    take(page, pictures / "console-cluster.png", WIDE[1])

    page.look(scheme="dark")
    page.open("channels/orders")
    page.click("[data-seq] summary")
    page.find(".inside .json")
    take(page, pictures / "console-channel.png", WIDE[1])

    page.look()
    page.open("channels/orders/publish")
    page.write("payload", '{\n  "id": 1042,\n  "amount": -3,\n  "currency": "CHF"\n}')
    page.find('[data-pointer="/amount"]')
    take(page, pictures / "console-publish.png", WIDE[1])

    page.open("consumers/mail.outgoing/mailer")
    page.click('[data-testid="letters"] summary')
    page.find('[data-testid="letters"] .json')
    take(page, pictures / "console-consumer.png", WIDE[1])

    page.look(PHONE)
    page.open("consumers")
    page.find('[data-testid="consumers"] a')
    take(page, pictures / "console-phone.png", PHONE[1])
