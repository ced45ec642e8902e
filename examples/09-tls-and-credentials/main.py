"""Connects with TLS to a server with a private certificate authority, and signs requests with an access key.

    python main.py HOST:PORT ca.pem
"""

import asyncio
import sys
from pathlib import Path

from rocketmq_thin import Credentials, Message, Tls, aio, errors


async def main(endpoint="127.0.0.1:8081", ca="ca.pem"):
    # The certificate authorities of the system do not include this authority.
    try:
        await aio.Client(endpoint, tls=Tls())
    except errors.Tls:
        print("refused      the certificate is not trusted")

    tls = Tls(ca=Path(ca).read_bytes())
    async with aio.Client(endpoint, tls=tls, credentials=Credentials("an-access-key", "its secret key")) as client:
        producer = await client.producer("secrets")
        consumer = await client.simple_consumer("keepers", "secrets")

        await producer.send(Message("secrets", b"hello"))
        print("sent         hello")
        for delivery in await consumer.receive():
            print(f"received     {delivery.body.decode()}")
            await consumer.ack(delivery)


asyncio.run(main(*sys.argv[1:]))
