"""Send a message, receive it, keep it from others for a moment, receive it again, acknowledge it.

    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Message, aio


async def main(endpoint="127.0.0.1:8081"):
    async with aio.Client(endpoint) as client:
        producer = await client.producer(topics=["greetings"])
        consumer = await client.simple_consumer("readers", ["greetings"])

        await producer.send(Message("greetings", b"hello", tag="en"))
        print("sent         hello")

        # Waits until there is a message. Nobody else gets it for the invisible duration, 30 s by default.
        for delivery in await consumer.receive():
            print(f"received     {delivery.body.decode()}, attempt {delivery.attempt}")
            # Not done with it: from one second on it may be received again, by anybody in the group.
            await consumer.change_invisible(delivery, 1.0)
            print("put back     for 1 s")

        for delivery in await consumer.receive():
            print(f"received     {delivery.body.decode()}, attempt {delivery.attempt}")
            # Done: it never comes back. Without this it would, after the invisible duration.
            await consumer.ack(delivery)
            print("acknowledged")


asyncio.run(main(*sys.argv[1:]))
