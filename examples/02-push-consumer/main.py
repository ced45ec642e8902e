"""Handle messages as they arrive, several at a time. One fails at first, and comes again.

    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Message, Retry, aio


async def main(endpoint="127.0.0.1:8081"):
    handled = asyncio.Queue()

    async def handle(delivery):
        invoice = delivery.body.decode()
        if invoice == "invoice 2" and delivery.attempt == 1:
            # Not now. Without a time, the retry policy of the group says when it comes again.
            raise Retry(after=1.0)
        await handled.put((invoice, delivery.attempt))

    async with aio.Client(endpoint) as client:
        producer = await client.producer("invoices")
        # Leaving the block lets running handlers finish, and gives back what was not begun.
        async with client.push_consumer("accounting", "invoices", handle, concurrency=16):
            for number in range(1, 4):
                await producer.send(Message("invoices", f"invoice {number}".encode()))

            for invoice, attempt in sorted([await handled.get() for _ in range(3)]):
                print(f"handled      {invoice}, attempt {attempt}")


asyncio.run(main(*sys.argv[1:]))
