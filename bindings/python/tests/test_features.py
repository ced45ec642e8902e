"""Message types, streams, settling, credentials, health and startup, in both APIs."""

import asyncio
import queue
import threading
import unittest
from datetime import datetime, timedelta, timezone

from proxied import Case

from rocketmq_thin import Client, Credentials, Message, Sql, Tags, Tls, aio, errors


class Aio(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_stream_gives_back_deliveries_that_its_loop_has_not_reached(self):
        async with aio.Client(self.server) as client, client.producer() as producer:
            async with client.simple_consumer(self.name, self.name) as consumer:
                await producer.send_all([Message(self.name, b"%d" % number) for number in range(5)])
                seen = []
                async with consumer.messages() as messages:
                    async for delivery in messages:
                        seen.append(delivery.body)
                        await consumer.ack(delivery)
                        if len(seen) == 3:
                            break
                while len(seen) < 5:
                    for delivery in await consumer.receive():
                        seen.append(delivery.body)
                        await consumer.ack(delivery)
                self.assertEqual(sorted(seen), [b"0", b"1", b"2", b"3", b"4"])

    async def test_deliveries_can_be_returned_kept_invisible_and_moved_to_the_dead_letters(self):
        async with aio.Client(self.server) as client, client.producer() as producer:
            async with client.simple_consumer(self.name, self.name) as consumer:
                await producer.send(Message(self.name, b"x"))
                (delivery,) = await consumer.receive()
                consumer.keep_lease(delivery, timedelta(hours=1))
                await consumer.nack(delivery, 0)
                (delivery,) = await consumer.receive()
                self.assertEqual((delivery.attempt, delivery.is_lease_lost), (2, False))
                await consumer.dead_letter(delivery)
                await consumer.subscribe(f"%DLQ%{self.name}")
                (letter,) = await consumer.receive()
                self.assertEqual(letter.body, b"x")
                await consumer.ack(letter)
                await consumer.unsubscribe(f"%DLQ%{self.name}")

    async def test_a_provider_provides_credentials(self):
        calls = []

        async def provider():
            calls.append(1)
            return Credentials("key", "secret", expires_at=datetime.now(timezone.utc) + timedelta(hours=1))

        async with aio.Client(self.server, credentials=provider) as client, client.producer() as producer:
            await producer.send(Message(self.name, b"x"))
            self.assertEqual(calls, [1])
        with self.assertRaisesRegex(errors.Unauthenticated, "must return rocketmq_thin.Credentials, got NoneType"):
            await aio.Client(self.server, credentials=lambda: None)

    async def test_a_provider_that_hangs_fails_the_connect_in_time(self):
        with self.assertRaisesRegex(errors.Timeout, "the credentials provider did not answer in time"):
            await aio.Client(self.server, credentials=asyncio.Event().wait, startup_timeout=0.2)

    async def test_the_health_and_its_changes_are_reported(self):
        client = await aio.Client(self.server)
        self.assertEqual(client.health().status, "connected")
        changes = client.status_changes()
        self.assertEqual((await changes.__anext__()).status, "connected")
        await client.close()
        self.assertEqual([health.status async for health in changes], ["closed"])


class Blocking(Case):
    def test_a_provider_that_hangs_fails_the_connect_in_time(self):
        with self.assertRaisesRegex(errors.Timeout, "the credentials provider did not answer in time"):
            Client(self.server, credentials=threading.Event().wait, startup_timeout=0.2)

    def test_a_message_has_one_type(self):
        soon = datetime.now(timezone.utc) + timedelta(seconds=1)
        with Client(self.server) as client, client.producer() as producer:
            for given in ({"delay": 1, "priority": 1}, {"message_group": "g", "deliver_at": soon}):
                with self.subTest(given), self.assertRaises(errors.InvalidArgument):
                    producer.send(Message(self.name, b"x", **given))
            with self.assertRaisesRegex(TypeError, "deliver_at must be a datetime with a time zone"):
                producer.send(Message(self.name, b"x", deliver_at=datetime.now()))
            with self.assertRaises(errors.InvalidArgument):
                producer.recall(producer.send(Message(self.name, b"x"))._replace(recall_handle=None))
            with self.assertRaisesRegex(errors.InvalidArgument, "there is no recall handle"):
                producer.recall_by_handle(self.name, "")

    def test_the_subscriptions_of_a_consumer_are_returned(self):
        filters = {self.name: None, f"{self.name}-tags": Tags("a", "b"), f"{self.name}-sql": Sql("a = 1")}
        with Client(self.server) as client, client.simple_consumer(self.name, filters) as consumer:
            self.assertEqual(consumer.subscriptions(), filters)
            consumer.unsubscribe(self.name)
            self.assertEqual(set(consumer.subscriptions()), set(filters) - {self.name})

    def test_the_subscriptions_of_a_push_consumer_can_be_changed(self):
        handled = queue.Queue()
        with Client(self.server) as client, client.producer() as producer:
            with client.push_consumer(self.name, self.name, lambda delivery: handled.put(delivery.body)) as consumer:
                consumer.subscribe(f"{self.name}-new", Tags("a"))
                consumer.unsubscribe(self.name)
                self.assertEqual(consumer.subscriptions(), {f"{self.name}-new": Tags("a")})
                producer.send(Message(f"{self.name}-new", b"x", tag="a"))
                self.assertEqual(handled.get(), b"x")
                consumer.unsubscribe(f"{self.name}-new")
                self.assertEqual(consumer.subscriptions(), {})

    def test_a_stream_is_an_iterator(self):
        with Client(self.server) as client, client.producer() as producer:
            with client.simple_consumer(self.name, self.name) as consumer:
                producer.send(Message(self.name, b"x"))
                with consumer.messages() as messages:
                    self.assertEqual(next(messages).body, b"x")
                self.assertEqual(list(messages), [])

    def test_the_startup_option_decides_whether_connecting_fails_at_once(self):
        with self.assertRaises(errors.Unavailable) as raised:
            Client("127.0.0.1:1")
        self.assertIn("nothing listens", raised.exception.message)
        with Client("127.0.0.1:1", startup="lazy") as client:
            self.assertEqual(client.health().status, "connecting")
        with self.assertRaisesRegex(ValueError, "startup must be 'eager', 'wait' or 'lazy'"):
            Client(self.server, startup="later")

    def test_certificates_are_verified_unless_verification_is_skipped(self):
        with self.assertRaises(errors.Tls):
            Client(f"https://{self.server}")
        with Client(self.server, tls=Tls(dangerously_skip_verification=True)) as client:
            self.assertEqual(client.health().status, "connected")
        with self.assertRaisesRegex(errors.InvalidOptions, "client certificate"):
            Client(self.server, tls=Tls(certificate=b"x", key=b"y"))
