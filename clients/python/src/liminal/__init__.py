"""A client of liminal, a replicated message broker.

    import asyncio
    from liminal import Client

    async def main() -> None:
        async with Client("127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103") as client:
            await client.create_channel("orders")
            receipt = await client.publish("orders", b'{"id":7}', key="order-7")
            print(receipt.seq, receipt.position)

    asyncio.run(main())

`liminal.sync.Client` is the same without asyncio. `liminal.errors` has a class for each error code.
"""

from . import errors
from ._admin_types import (
    Channel,
    ChannelConfig,
    ClusterStatus,
    Comparison,
    Compatibility,
    ConsumerConfig,
    ConsumerState,
    DeadLetter,
    Delayed,
    NodeStatus,
    Order,
    Quota,
    Redriven,
    Retention,
    Rule,
    WhenFull,
)
from ._claims import Claimed, ClaimNamespace, Claims, Completed, InFlight, Once, Ran, Taken
from ._consumer import Consumer, Deliveries, Delivery, Nack
from ._error import ErrorDetail, LiminalError
from ._pool import TLS
from ._publisher import Publisher, PublisherOptions
from ._subscription import HistoryChanged, Subscription
from ._transaction import Transaction
from ._types import Confirm, HistoryChange, IfChanged, Message, Notice, Page, Position, Receipt, Received, Start
from .client import Client, Pulled

__all__ = [
    "TLS",
    "Channel",
    "ChannelConfig",
    "ClaimNamespace",
    "Claimed",
    "Claims",
    "Client",
    "ClusterStatus",
    "Comparison",
    "Compatibility",
    "Completed",
    "Confirm",
    "Consumer",
    "ConsumerConfig",
    "ConsumerState",
    "DeadLetter",
    "Delayed",
    "Deliveries",
    "Delivery",
    "ErrorDetail",
    "HistoryChange",
    "HistoryChanged",
    "IfChanged",
    "InFlight",
    "LiminalError",
    "Message",
    "Nack",
    "NodeStatus",
    "Notice",
    "Once",
    "Order",
    "Page",
    "Position",
    "Publisher",
    "PublisherOptions",
    "Pulled",
    "Quota",
    "Ran",
    "Receipt",
    "Received",
    "Redriven",
    "Retention",
    "Rule",
    "Start",
    "Subscription",
    "Taken",
    "Transaction",
    "WhenFull",
    "errors",
]
