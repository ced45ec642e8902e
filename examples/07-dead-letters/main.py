"""Moves messages that can't be processed to the dead letters, after the last attempt or at once, and reads them.

    rocketmq-thin-proxy group create parsers --max-retries 1
    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Message, aio


async def main(endpoint="127.0.0.1:8081"):
    async with aio.Client(endpoint) as client:
        producer = await client.producer("documents")
        consumer = await client.simple_consumer("parsers", "documents")

        await producer.send(Message("documents", b"half a document"))
        for _ in range(2):
            delivery = await receive_one(consumer)
            print(f"failed       {delivery.body.decode()}, attempt {delivery.attempt}")
            # Delivered again at once. The group allows one retry.
            await consumer.nack(delivery, 0)

        await producer.send(Message("documents", b"no document"))
        delivery = await receive_one(consumer)
        print(f"gave up      {delivery.body.decode()}")
        await consumer.dead_letter(delivery)

        # Each group has a topic for its dead letters.
        reader = await client.simple_consumer("support", "%DLQ%parsers")
        letters = []
        for _ in range(2):
            delivery = await receive_one(reader)
            letters.append(delivery.body.decode())
            await reader.ack(delivery)
        for letter in sorted(letters):
            print(f"dead letter  {letter}")


async def receive_one(consumer):
    while not (received := await consumer.receive(max_messages=1)):
        pass
    return received[0]


asyncio.run(main(*sys.argv[1:]))
