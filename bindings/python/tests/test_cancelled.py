"""Messages that have arrived for a receive are not lost if the receive is cancelled, or if its event loop ends."""

import asyncio
import gc
import os
import select
import unittest
import warnings
from collections import Counter

from proxied import Case

from rocketmq_thin import Client, Message, Tls, _loop, aio, errors


class Cancelled(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_message_of_a_cancelled_receive_goes_to_the_next_one(self):
        loop = asyncio.get_running_loop()

        def cancel_with_outcome_in_the_queue(receiving, completions):
            receiving.cancel()

        def cancel_before_the_future_is_resolved(receiving, completions):
            receiving.cancel()
            completions.resolve()

        def cancel_after_the_future_is_resolved(receiving, completions):
            completions.resolve()
            receiving.cancel()

        with Client(self.server) as other, other.producer() as producer:
            async with aio.Client(self.server) as client:
                async with client.simple_consumer("next-" + self.name, [self.name]) as consumer:
                    for cancel in (
                        cancel_with_outcome_in_the_queue,
                        cancel_before_the_future_is_resolved,
                        cancel_after_the_future_is_resolved,
                    ):
                        with self.subTest(cancel.__name__):
                            receiving = asyncio.create_task(consumer.receive(max_messages=1))
                            await asyncio.sleep(0)
                            # The blocking send and select stop the loop, so that it does not fetch the outcome.
                            receipt = producer.send(Message(self.name, b"x"))
                            completions = _loop._completions(loop)
                            select.select([completions.native.fileno()], [], [])
                            cancel(receiving, completions)
                            with self.assertRaises(asyncio.CancelledError):
                                await receiving
                            (delivery,) = await consumer.receive(max_messages=1)
                            self.assertEqual((delivery.message_id, delivery.attempt), (receipt.message_id, 1))
                            await consumer.ack(delivery)

    async def test_no_message_is_lost_to_short_timeouts(self):
        count = 300
        async with aio.Client(self.server) as client, client.producer() as producer:
            async with client.simple_consumer("short-" + self.name, [self.name]) as consumer:

                async def send():
                    for number in range(count):
                        await producer.send(Message(self.name, b"%d" % number))

                sending = asyncio.create_task(send())
                received = []
                while len(received) < count:
                    try:
                        received += await asyncio.wait_for(consumer.receive(max_messages=1), timeout=0.003)
                    except asyncio.TimeoutError:
                        pass
                await sending
                self.assertEqual({delivery.attempt for delivery in received}, {1})


ENDS = {"closed": lambda loop: loop.close(), "dropped": lambda loop: None}


class Ended(Case):
    def setUp(self):
        super().setUp()
        # asyncio warns if loops are dropped without a close.
        warnings.simplefilter("ignore", ResourceWarning)

    def receive_in_a_loop_that_ends(self, end):
        """Leaves a receive pending in a loop, and ends the loop by `end`."""
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)

        async def start():
            client = await aio.Client(self.server)
            consumer = await client.simple_consumer("ended-" + self.name, [self.name])
            loop.create_task(consumer.receive(max_messages=1))
            await asyncio.sleep(0)

        loop.run_until_complete(start())
        end(loop)

    def test_a_receive_ends_with_its_loop(self):
        for name, end in ENDS.items():
            with self.subTest(name):
                self.receive_in_a_loop_that_ends(end)
                gc.collect()
                with Client(self.server) as client, client.producer() as producer:
                    producer.send(Message(self.name, b"x"))
                    with client.simple_consumer("ended-" + self.name, [self.name]) as consumer:
                        (delivery,) = consumer.receive(max_messages=1)
                        self.assertEqual(delivery.attempt, 1)
                        consumer.ack(delivery)

    @unittest.skipUnless(os.path.isdir("/proc/self/fd"), "descriptors are counted in /proc")
    def test_an_ended_loop_leaves_no_descriptors(self):
        def descriptors():
            gc.collect()
            return Counter(filter(None, map(link, os.listdir("/proc/self/fd"))))

        def link(descriptor):
            try:
                return os.readlink("/proc/self/fd/" + descriptor)
            except FileNotFoundError:  # the one that listed the folder
                return None

        with Client(self.server):
            pass
        # The connections of closed clients may end later, so descriptors of before may be gone after.
        before = descriptors()
        for end in ENDS.values():
            for _ in range(5):
                loop = asyncio.new_event_loop()
                loop.run_until_complete(self.fail())
                end(loop)
                del loop
        self.assertEqual(descriptors() - before, Counter())

    async def fail(self):
        """Runs an operation that fails before it opens a socket, which might be closed later than the loop."""
        with self.assertRaises(errors.InvalidOptions):
            await aio.Client(f"https://{self.server}", tls=Tls(certificate=b"x", key=b"y"))
