"""The Python client under measurement: one send call per message, 32 in flight, asyncio."""

import asyncio
import sys

from rocketmq_thin import Message, aio

IN_FLIGHT = 32
WARM_UP = 5_000
BODY = b"x" * 1024


async def send(producer, count):
    left = iter(range(count))

    async def worker():
        for _ in left:
            await producer.send(Message("bench", BODY, tag="t", keys=["key"]))

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


async def main(endpoint):
    async with aio.Client(endpoint) as client:
        producer = await client.producer(topics=["bench"])
        await send(producer, WARM_UP)
        print("ready", flush=True)
        count = int(await asyncio.to_thread(sys.stdin.readline))
        await send(producer, count)
        print("done", flush=True)
        # Keep the process, and with it its CPU account, until the benchmark has read it.
        await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
