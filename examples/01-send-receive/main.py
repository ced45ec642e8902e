"""Sends a message, receives it, changes its invisible time, receives it again, and acknowledges it.

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

        # Waits for a message. It is invisible to other consumers of the group for 30 s, the default.
        for delivery in await consumer.receive():
            print(f"received     {delivery.body.decode()}, attempt {delivery.attempt}")
            # Not processed: after one second, any consumer of the group may receive it again.
            await consumer.change_invisible(delivery, 1.0)
            print("put back     for 1 s")

        for delivery in await consumer.receive():
            print(f"received     {delivery.body.decode()}, attempt {delivery.attempt}")
            # Processed: it is not delivered again. Without the ack, it would be, after the invisible time.
            await consumer.ack(delivery)
            print("acknowledged")


asyncio.run(main(*sys.argv[1:]))
