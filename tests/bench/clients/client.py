"""The Python client under measurement, with asyncio: sends one call per message, 32 in flight; receives and acknowledges
32 at a time; handles messages with a push consumer.
"""

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


async def receive(consumer, count):
    while count > 0:
        deliveries = await consumer.receive()
        await consumer.ack_all(deliveries)
        count -= len(deliveries)


async def push(client, count):
    done = asyncio.Event()

    async def handle(_):
        nonlocal count
        count -= 1
        if count == 0:
            done.set()

    async with client.push_consumer("bench-python-push", "bench", handle, concurrency=IN_FLIGHT):
        await done.wait()


async def idle(endpoint, count):
    async def keep_receiving(consumer):
        while True:
            await consumer.receive()

    receiving = []
    for number in range(count):
        client = await aio.Client(endpoint)
        consumer = await client.simple_consumer(f"bench-idle-{number}", "bench-idle")
        receiving.append(asyncio.create_task(keep_receiving(consumer)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def main(endpoint):
    async with aio.Client(endpoint) as client:
        producer = await client.producer(topics=["bench"])
        consumer = await client.simple_consumer("bench-python", "bench")
        await send(producer, WARM_UP)
        await receive(consumer, WARM_UP // 2)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            workload, count = line.split()
            if workload == "send":
                await send(producer, int(count))
            elif workload == "receive":
                await receive(consumer, int(count))
            else:
                await push(client, int(count))
            print("done", flush=True)


*role, address = sys.argv[1:]
asyncio.run(idle(address, int(role[1])) if role else main(address))
