"""Delivers a message only if a local change succeeded, even if the program does not decide about the transaction.

    rocketmq-thin-proxy topic create payments --type transaction
    python main.py HOST:PORT
"""

import asyncio
import sys

from rocketmq_thin import Decision, Message, aio


async def check(orphan):
    """The server asks about transactions without a decision. A real program reads its database."""
    print(f"asked        {orphan.message.body.decode()}")
    return Decision.COMMIT


async def main(endpoint="127.0.0.1:8081"):
    async with aio.Client(endpoint) as client:
        producer = await client.producer("payments", checker=check)
        consumer = await client.simple_consumer("ledger", "payments")

        # The transaction is committed at the end of the block, and rolled back if the block raises.
        async with producer.begin() as transaction:
            await transaction.send(Message("payments", b"payment 1"))
        print("committed    payment 1")

        async with producer.begin() as transaction:
            await transaction.send(Message("payments", b"payment 2"))
            await transaction.rollback()
        print("rolled back  payment 2")

        await receive_one(consumer)

        # The program forgets to decide about this transaction.
        await producer.begin().send(Message("payments", b"payment 3"))
        print("forgot       payment 3")

        await receive_one(consumer)


async def receive_one(consumer):
    """Waits for one message and acknowledges it."""
    while not (received := await consumer.receive(max_messages=1)):
        pass
    print(f"received     {received[0].body.decode()}")
    await consumer.ack(received[0])


asyncio.run(main(*sys.argv[1:]))
