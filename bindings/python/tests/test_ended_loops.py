"""The application's async functions end with their event loop, and nothing waits for them then."""

import asyncio
import gc
import logging
import logging.handlers
import queue
import select
import warnings

from proxied import Case

from rocketmq_thin import Client, Interceptor, Message, _loop, aio, errors


def close_uncancelled(main):
    """Runs a coroutine in a loop that is closed without cancelling its tasks, unlike `asyncio.run` does."""
    loop = asyncio.new_event_loop()
    # It reports the tasks that never end.
    loop.set_exception_handler(lambda *_: None)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class EndedLoops(Case):
    RUNS = (asyncio.run, close_uncancelled)

    def setUp(self):
        super().setUp()
        self.records, logger = queue.SimpleQueue(), logging.getLogger("rocketmq_thin")
        handler = logging.handlers.QueueHandler(self.records)
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False
        warnings.simplefilter("ignore", ResourceWarning)

    def test_a_push_consumer_is_closed_with_its_loop(self):
        async def open_one(group, handler):
            client = await aio.Client(self.server)
            return await client.push_consumer(group, self.name, handler)

        async def handler(delivery):
            raise AssertionError("its loop has ended")

        with Client(self.server) as client, client.producer(self.name) as producer:
            for run in self.RUNS:
                with self.subTest(run.__name__):
                    group = f"{self.name}-{run.__name__}"
                    consumer = run(open_one(group, handler))
                    # Records of consumers of other tests may come first.
                    texts = (record.getMessage() for record in iter(self.records.get, None))
                    self.assertIn(f"the push consumer of group {group} is closed", next(each for each in texts if group in each))
                    self.assertEqual(run(consumer.close()).handled, 0)
                    producer.send(Message(self.name, b"for others"))
                    with client.simple_consumer(group, self.name) as other:
                        for delivery in other.messages():
                            self.assertEqual(delivery.body, b"for others")
                            other.ack(delivery)
                            break

    def test_messages_that_no_handler_has_seen_do_not_count_as_failed(self):
        async def receive_unseen(topic, producer):
            client = await aio.Client(self.server)
            await client.push_consumer(topic, topic, handler)
            completions = _loop._completions(asyncio.get_running_loop())
            while not completions.waiting:
                await asyncio.sleep(0)
            # The blocking send and select stop the loop, so that it does not fetch the outcome.
            producer.send(Message(topic, b"x"))
            select.select([completions.native.fileno()], [], [])

        async def handler(delivery):
            raise AssertionError("its loop has ended")

        with Client(self.server) as client:
            for run in self.RUNS:
                # A message of another run would end the select, while this run's message is on its way.
                topic = f"{self.name}-{run.__name__}"
                with self.subTest(run.__name__), client.producer(topic) as producer:
                    run(receive_unseen(topic, producer))
                    with client.simple_consumer(topic, topic) as other:
                        for delivery in other.messages():
                            other.ack(delivery)
                            self.assertEqual(delivery.attempt, 1)
                            break

    def test_messages_whose_handlers_have_not_begun_do_not_count_as_failed(self):
        class Stopping(Interceptor):
            def after_receive(self, group, result):
                if isinstance(result, list):
                    # The loop ends before it calls the handlers.
                    asyncio.get_running_loop().stop()

        async def receive(group, producer):
            client = await aio.Client(self.server, interceptors=[Stopping()])
            consumers.append(await client.push_consumer(group, self.name, handler))
            producer.send(Message(self.name, b"x"))
            await asyncio.Event().wait()

        async def handler(delivery):
            raise AssertionError("its loop has ended")

        consumers = []
        # Python warns of coroutines that have not begun when it collects them.
        warnings.simplefilter("ignore", RuntimeWarning)
        self.addCleanup(gc.collect)
        with Client(self.server) as client, client.producer(self.name) as producer:
            for run in self.RUNS:
                with self.subTest(run.__name__):
                    group = f"unbegun-{self.name}-{run.__name__}"
                    with self.assertRaisesRegex(RuntimeError, "stopped before"):
                        run(receive(group, producer))
                    # Its polls have ended then.
                    run(consumers.pop().close())
                    last = producer.send(Message(self.name, b"last"))
                    with client.simple_consumer(group, self.name) as other:
                        attempts = {}
                        for delivery in other.messages():
                            other.ack(delivery)
                            attempts[delivery.message_id] = delivery.attempt
                            if last.message_id in attempts and len(attempts) > 1:
                                break
                    self.assertEqual(set(attempts.values()), {1})

    def test_requests_for_credentials_fail_at_once(self):
        for run in self.RUNS:
            with self.subTest(run.__name__):

                async def connect():
                    begun = asyncio.Event()

                    async def provider():
                        begun.set()
                        await asyncio.Event().wait()

                    client = await aio.Client(self.server, credentials=provider, startup="lazy")
                    await begun.wait()
                    return client

                async def send():
                    async with client.producer() as producer:
                        await producer.send(Message(self.name, b"x"))

                client = run(connect())
                with self.assertRaisesRegex(errors.Unauthenticated, "the provider's event loop has ended"):
                    asyncio.run(send())
