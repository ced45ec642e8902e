"""Sends delayed messages, and recalls one before it is delivered.

    rocketmq-thin-proxy topic create reminders --type delay
    python main.py HOST:PORT
"""

import asyncio
import sys
from datetime import datetime, timedelta, timezone

from rocketmq_thin import Message, aio


async def main(endpoint="127.0.0.1:8081"):
    async with aio.Client(endpoint) as client:
        producer = await client.producer("reminders")
        consumer = await client.simple_consumer("people", "reminders")

        sent_at = datetime.now(timezone.utc)
        delay = timedelta(seconds=2)
        await producer.send(Message("reminders", b"drink water", delay=delay))
        print("sent         drink water, for 2 s later")

        later = sent_at + timedelta(seconds=8)
        receipt = await producer.send(Message("reminders", b"go home", deliver_at=later))
        print("sent         go home, for 8 s later")

        await producer.recall(receipt)
        print("recalled     go home")

        for delivery in await consumer.receive():
            early = datetime.now(timezone.utc) < sent_at + delay
            print(f"received     {delivery.body.decode()}, {'early' if early else 'not early'}")
            await consumer.ack(delivery)

        print(f"received     {len(await consumer.receive(await_duration=10.0))} more")


asyncio.run(main(*sys.argv[1:]))
