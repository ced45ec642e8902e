"""Features of the asyncio API: concurrent tasks, cancellation, opening, several event loops."""

import asyncio
import unittest

from proxied import Case

import rocketmq_thin
from rocketmq_thin import Message, aio


class Aio(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_waiting_receive_does_not_block_the_loop(self):
        async with aio.Client(self.server) as client, client.producer([self.name]) as producer:
            async with client.simple_consumer("loop-" + self.name, [self.name]) as consumer:
                receiving = asyncio.create_task(consumer.receive(max_messages=1, await_duration=20))
                for _ in range(100):
                    await producer.send(Message("elsewhere-" + self.name, b"x"))
                self.assertFalse(receiving.done())
                receipt = await producer.send(Message(self.name, b"wanted"))
                (delivery,) = await receiving
                self.assertEqual((delivery.message_id, delivery.body), (receipt.message_id, b"wanted"))
                await consumer.ack(delivery)

    async def test_cancelling_a_task_cancels_only_its_operation(self):
        async with aio.Client(self.server) as client, client.producer() as producer:
            async with client.simple_consumer("cancel-" + self.name, [self.name]) as consumer:
                receiving = asyncio.create_task(consumer.receive(await_duration=20))
                await asyncio.sleep(0)
                receiving.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await receiving
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(consumer.receive(await_duration=20), timeout=0)
                await producer.send(Message(self.name, b"later"))
                (delivery,) = await consumer.receive(max_messages=1)
                self.assertEqual(delivery.body, b"later")

    async def test_an_error_has_its_type_and_fields(self):
        async with aio.Client(self.server) as client, client.producer() as producer:
            with self.assertRaises(rocketmq_thin.errors.InvalidArgument) as raised:
                await producer.send(Message(self.name + "/bad", b"x"))
            error = raised.exception
            self.assertEqual((error.kind, error.operation, error.retryable), ("InvalidArgument", "send", False))
            self.assertIsInstance(error.code, int)
            self.assertIn(str(error.code), str(error))
            await producer.close()
            with self.assertRaises(rocketmq_thin.errors.Closed):
                await producer.send(Message(self.name, b"x"))


class Opening(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_call_before_the_open_is_refused(self):
        with self.assertRaisesRegex(RuntimeError, "async with"):
            aio.Client(self.server).producer()
        async with aio.Client(self.server) as client:
            with self.assertRaisesRegex(RuntimeError, "async with"):
                await client.producer().send(Message(self.name, b"x"))

    async def test_an_open_can_be_repeated_after_a_failure(self):
        client = aio.Client("127.0.0.1:1", startup_timeout=0.05)
        for _ in range(2):
            with self.assertRaises(rocketmq_thin.Error):
                await client
        with self.assertRaisesRegex(RuntimeError, "async with"):
            client.producer()

    async def test_an_open_can_be_repeated_after_a_cancellation(self):
        client = aio.Client(self.server)
        opening = asyncio.ensure_future(client._open())
        await asyncio.sleep(0)
        opening.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await opening
        async with client, client.producer(iter([self.name])) as producer:
            await producer.send(Message(self.name, b"x"))

    async def test_concurrent_tasks_can_open_one_client(self):
        client = aio.Client(self.server)

        async def send():
            async with (await client).producer() as producer:
                return await producer.send(Message(self.name, b"x"))

        first, *others = [asyncio.create_task(send()) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        receipts = await asyncio.gather(*others)
        self.assertEqual({receipt.topic for receipt in receipts}, {self.name})
        await client.close()


class Loops(Case):
    def test_a_client_works_in_several_loops(self):
        async def opened():
            client = await aio.Client(self.server)
            return client, await client.producer()

        client, producer = asyncio.run(opened())
        for _ in range(3):
            self.assertEqual(asyncio.run(producer.send(Message(self.name, b"x"))).topic, self.name)
        asyncio.run(client.close())

    def test_many_concurrent_sends(self):
        async def main():
            client = await aio.Client(self.server)
            producer = await client.producer(topics=[self.name])
            receipts = await asyncio.gather(*(producer.send(Message(self.name, b"%d" % i)) for i in range(1000)))
            self.assertEqual(len({receipt.message_id for receipt in receipts}), 1000)
            self.assertEqual((await client.close(5)).abandoned, 0)

        asyncio.run(main())
