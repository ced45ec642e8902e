"""Uses lite topics, small topics within a topic: a consumer receives only the lite topics that it subscribes to.

    rocketmq-thin-proxy topic create chats --type lite
    rocketmq-thin-proxy group create phones --lite-bind-topic chats
    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Lite, Message, aio


async def main(endpoint="127.0.0.1:8081"):
    handled = asyncio.Queue()

    async with aio.Client(endpoint) as client:
        producer = await client.producer("chats")
        async with client.push_consumer("phones", Lite("chats"), handled.put) as consumer:
            await consumer.subscribe_lite("alice")

            await producer.send(Message("chats", b"hello Bob", lite_topic="bob"))
            await producer.send(Message("chats", b"hello Alice", lite_topic="alice"))

            delivery = await handled.get()
            print(f"received     {delivery.body.decode()} in {delivery.lite_topic}")
            await consumer.unsubscribe_lite("alice")


asyncio.run(main(*sys.argv[1:]))
