"""The client without asyncio: each call waits for its result. All of it runs on one event loop in a thread of its own, which
is shared by all clients of the process and ends with it.

Any number of threads may use one client.
"""

from ._client import Client
from ._parts import Claims, Consumer, Delivery, Publisher, Subscription, Transaction

__all__ = ["Claims", "Client", "Consumer", "Delivery", "Publisher", "Subscription", "Transaction"]
