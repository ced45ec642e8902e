"""Processes a message for longer than its lease: the client renews the lease, so no other consumer gets the message.

    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Message, aio

# The shortest lease that servers allow, in seconds.
LEASE = 10.0


async def main(endpoint="127.0.0.1:8081"):
    async with aio.Client(endpoint) as client:
        producer = await client.producer("videos")
        worker = await client.simple_consumer("encoders", "videos")
        colleague = await client.simple_consumer("encoders", "videos")

        await producer.send(Message("videos", b"a long film"))
        for delivery in await worker.receive(invisible_duration=LEASE):
            print(f"received     {delivery.body.decode()}, for 10 s")
            # Renews the lease in the background until the delivery is settled or dropped, for at most an hour.
            worker.keep_lease(delivery, 3600.0)

            print(f"elsewhere    {len(await colleague.receive(await_duration=15.0))} messages in 15 s")

            await worker.ack(delivery)
            print("acknowledged after 15 s")


asyncio.run(main(*sys.argv[1:]))
