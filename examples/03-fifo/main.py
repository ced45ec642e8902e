"""Handles the messages of one message group in the order in which they were sent, and different groups concurrently.

    rocketmq-thin-proxy topic create parcels --type fifo
    rocketmq-thin-proxy group create tracking --fifo
    python main.py HOST:PORT
"""

import asyncio
import sys
from collections import defaultdict

from rocketmq_thin import Message, Retry, aio


async def main(endpoint="127.0.0.1:8081"):
    handled = asyncio.Queue()

    async def handle(delivery):
        if delivery.body == b"packed" and delivery.attempt == 1:
            # The next message of this parcel is not delivered before this message is acknowledged.
            raise Retry(after=1.0)
        await handled.put((delivery.message_group, delivery.body.decode()))

    async with aio.Client(endpoint) as client:
        producer = await client.producer("parcels")
        async with client.push_consumer("tracking", "parcels", handle):
            for step in ("packed", "shipped", "delivered"):
                for parcel in ("parcel 1", "parcel 2"):
                    await producer.send(Message("parcels", step.encode(), message_group=parcel))

            steps = defaultdict(list)
            for _ in range(6):
                parcel, step = await handled.get()
                steps[parcel].append(step)
            for parcel in sorted(steps):
                print(f"{parcel}     {', '.join(steps[parcel])}")


asyncio.run(main(*sys.argv[1:]))
