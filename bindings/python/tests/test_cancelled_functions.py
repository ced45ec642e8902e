"""Handlers, checkers and credentials providers that are cancelled, or fail in odd ways."""

import asyncio
import sys
import threading
import unittest
from contextlib import suppress

from proxied import Case

from rocketmq_thin import Client, Credentials, Message, _handling, aio, errors


async def wait_for_cancelled():
    """Waits for something that is cancelled, and not the caller."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


class Textless(Exception):
    def __str__(self):
        raise ValueError("no text")


class CancelledFunctions(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_handler_that_waits_for_something_cancelled_has_failed(self):
        attempts, handled = [], asyncio.Event()

        async def handler(delivery):
            if delivery.body == b"bad":
                attempts.append(delivery.attempt)
                if delivery.attempt == 1:
                    await wait_for_cancelled()
            handled.set()

        async with aio.Client(self.server) as client, client.producer(self.name) as producer:
            async with client.push_consumer(self.name, self.name, handler, concurrency=1):
                await producer.send(Message(self.name, b"bad"))
                await producer.send(Message(self.name, b"good"))
                await handled.wait()

    @unittest.skipIf(sys.version_info < (3, 11), "Python has no way to ask who was cancelled")
    async def test_a_provider_that_waits_for_something_cancelled_is_asked_again(self):
        calls = 0

        async def provider():
            nonlocal calls
            calls += 1
            if calls == 1:
                await wait_for_cancelled()
            return Credentials("user", "secret")

        async with aio.Client(self.server, credentials=provider, startup="lazy") as client:
            async with client.producer() as producer:
                message = Message(self.name, b"x")
                with self.assertRaisesRegex(errors.Unauthenticated, "CancelledError"):
                    await producer.send(message)
                # It is asked again after a pause.
                while calls == 1:
                    with suppress(errors.Unauthenticated):
                        await asyncio.wait_for(producer.send(message), 60)

    def test_a_provider_whose_failure_is_no_unicode_is_asked_again(self):
        calls = 0

        def provider():
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ValueError("file \udcff")
            return Credentials("user", "secret")

        with Client(self.server, credentials=provider, startup="lazy") as client:
            producer, message = client.producer(), Message(self.name, b"x")
            with self.assertRaisesRegex(errors.Unauthenticated, r"ValueError: file \?"):
                producer.send(message)
            # It is asked again after a pause. If it is not, the send fails for another reason.
            while calls == 1:
                with suppress(errors.Unauthenticated):
                    producer.send(message)

    def test_a_failure_without_a_text_has_its_name(self):
        self.assertEqual(_handling._to_text(Textless()), "Textless")

    async def test_a_cancelled_close_continues(self):
        begun, end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def handler(delivery):
            begun.set()
            await end.wait()
            ended.set()

        async with aio.Client(self.server) as client, client.producer(self.name) as producer:
            consumer = await client.push_consumer(self.name, self.name, handler)
            await producer.send(Message(self.name, b"x"))
            await begun.wait()
            closing = asyncio.create_task(consumer.close(60))
            await asyncio.sleep(0)
            closing.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await closing
            end.set()
            await ended.wait()
            self.assertEqual((await consumer.close()).abandoned, 0)

    async def test_a_close_in_another_loop_cancels_late_handlers(self):
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def handler(delivery):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with aio.Client(self.server) as client, client.producer(self.name) as producer:
            consumer = await client.push_consumer(self.name, self.name, handler)
            await producer.send(Message(self.name, b"x"))
            await begun.wait()
            thread = threading.Thread(target=asyncio.run, args=[consumer.close(0)])
            thread.start()
            await cancelled.wait()
            thread.join()
