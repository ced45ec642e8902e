"""Handles messages as they arrive, several at a time. One fails at its first attempt, and is delivered again.

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
            # Delivered again after 1 s. Without a time, the retry policy of the group decides when.
            raise Retry(after=1.0)
        await handled.put((invoice, delivery.attempt))

    async with aio.Client(endpoint) as client:
        producer = await client.producer("invoices")
        # Leaving the block waits for running handlers, and gives back messages that were not handled.
        async with client.push_consumer("accounting", "invoices", handle, concurrency=16):
            for number in range(1, 4):
                await producer.send(Message("invoices", f"invoice {number}".encode()))

            for invoice, attempt in sorted([await handled.get() for _ in range(3)]):
                print(f"handled      {invoice}, attempt {attempt}")


asyncio.run(main(*sys.argv[1:]))
