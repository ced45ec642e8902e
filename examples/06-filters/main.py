"""Receives only some messages of a topic: by their tags, or by an SQL expression on their properties.

    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Message, Sql, Tags, aio


async def main(endpoint="127.0.0.1:8081"):
    async with aio.Client(endpoint) as client:
        producer = await client.producer("orders")
        tagged = await client.simple_consumer("treasury", {"orders": Tags("paid", "refunded")})
        expensive = await client.simple_consumer("fraud-eu", {"orders": Sql("amount > 100 AND region = 'eu'")})

        for order, tag, amount, region in (
            (b"order 1", "paid", "250", "eu"),
            (b"order 2", "new", "120", "eu"),
            (b"order 3", "paid", "15", "us"),
            (b"order 4", "new", "900", "us"),
        ):
            await producer.send(Message("orders", order, tag=tag, properties={"amount": amount, "region": region}))

        print(f"by tag       {await receive_two(tagged)}")
        print(f"by SQL       {await receive_two(expensive)}")


async def receive_two(consumer):
    """Waits for two messages and acknowledges them."""
    orders = []
    while len(orders) < 2:
        for delivery in await consumer.receive():
            orders.append(delivery.body.decode())
            await consumer.ack(delivery)
    return ", ".join(sorted(orders))


asyncio.run(main(*sys.argv[1:]))
