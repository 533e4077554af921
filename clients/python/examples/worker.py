"""Takes orders and publishes an invoice for each, exactly once: the invoice and the ack are one transaction. Start as many as
you like; on SIGTERM or SIGINT one finishes what is in hand.

    python worker.py
"""

import asyncio
import signal

from liminal import Client, ConsumerConfig, Message
from liminal.errors import StaleDelivery


async def main() -> None:
    async with Client() as client:
        await client.create_channel("orders")
        await client.create_channel("invoices")
        await client.create_consumer("orders", "billing", ConsumerConfig(ack_timeout=30.0, max_attempts=5))
        async with client.consumer("orders", "billing", credit=20).open() as deliveries:
            loop = asyncio.get_running_loop()
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(signal_number, lambda: asyncio.ensure_future(deliveries.stop_taking()))
            print("takes orders", flush=True)
            async for delivery in deliveries:
                order = delivery.message.value()
                invoice = Message.json({"order": order["id"], "amount": order.get("amount", 0)})
                transaction = client.transaction().publish("invoices", invoice, key=f"invoice-{order['id']}")
                try:
                    (receipt,) = await transaction.ack(delivery).commit()
                    print(f"order {order['id']}: invoices@{receipt.seq}", flush=True)
                except StaleDelivery:
                    print(f"order {order['id']}: somebody else has it, or has done it", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
