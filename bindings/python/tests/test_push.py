"""Push consumers: handlers, their results, and how they end."""

import asyncio
import contextvars
import gc
import logging
import queue
import sys
import threading
import time
import unittest
from unittest import mock

from proxied import Case

from rocketmq_thin import Client, DeadLetter, Message, Retry, _handler_tasks, _handler_threads, aio, forward_logs


class Aio(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_handler_can_acknowledge_retry_and_move_a_message_to_the_dead_letters(self):
        handled, letters = asyncio.Queue(), asyncio.Queue()

        async def handler(delivery):
            await handled.put((delivery.body, delivery.attempt))
            if delivery.attempt == 1 and delivery.body == b"retry":
                raise Retry(0)
            if delivery.attempt == 1 and delivery.body == b"fail":
                raise ValueError("once")
            if delivery.body == b"dead":
                raise DeadLetter

        async with aio.Client(self.server) as client, client.producer() as producer:
            async with client.push_consumer(self.name, self.name, handler):
                for body in (b"ack", b"retry", b"fail", b"dead"):
                    await producer.send(Message(self.name, body))
                seen = sorted([await handled.get() for _ in range(6)])
                expected = [(b"ack", 1), (b"dead", 1), (b"fail", 1), (b"fail", 2), (b"retry", 1), (b"retry", 2)]
                self.assertEqual(seen, expected)
                dead = f"%DLQ%{self.name}"
                async with client.push_consumer("dead-" + self.name, dead, letters.put):
                    self.assertEqual((await letters.get()).body, b"dead")

    async def test_a_plain_handler_runs_in_a_thread(self):
        threads = queue.SimpleQueue()
        async with aio.Client(self.server) as client, client.producer() as producer:
            async with client.push_consumer(self.name, self.name, lambda _: threads.put(threading.get_ident())):
                await producer.send(Message(self.name, b"x"))
                thread = await asyncio.get_running_loop().run_in_executor(None, threads.get)
                self.assertNotEqual(thread, threading.get_ident())

    async def test_plain_handlers_run_in_separate_threads(self):
        # More handlers than the loop's executor has threads, all of which are blocked here.
        together, released = threading.Barrier(40), threading.Event()
        handled, trace = queue.SimpleQueue(), contextvars.ContextVar("trace", default="none")
        loop = asyncio.get_running_loop()
        trace.set("kept")

        def handler(delivery):
            together.wait()
            handled.put((delivery.body, trace.get()))

        async with aio.Client(self.server) as client, client.producer() as producer:
            others = [loop.run_in_executor(None, released.wait) for _ in range(40)]
            async with client.push_consumer(self.name, self.name, handler, concurrency=40):
                await producer.send_all([Message(self.name, b"%d" % number) for number in range(40)])
                seen = set()
                while len(seen) < 40:
                    while handled.empty():
                        await asyncio.sleep(0)
                    seen.add(handled.get())
                self.assertEqual({trace for _, trace in seen}, {"kept"})
            released.set()
            await asyncio.gather(*others)

    async def test_a_close_waits_for_handlers_and_cancels_late_ones(self):
        begun, released, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def handler(delivery):
            begun.set()
            try:
                await (released.wait() if delivery.body == b"early" else asyncio.Event().wait())
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with aio.Client(self.server) as client, client.producer() as producer:
            consumer = await client.push_consumer(self.name, self.name, handler)
            await producer.send(Message(self.name, b"early"))
            await begun.wait()
            closing = asyncio.create_task(consumer.close(20))
            released.set()
            self.assertEqual((await closing).abandoned, 0)

            begun.clear()
            consumer = await client.push_consumer("late-" + self.name, "late-" + self.name, handler)
            await producer.send(Message("late-" + self.name, b"late"))
            await begun.wait()
            self.assertEqual((await consumer.close(0)).abandoned, 1)
            await cancelled.wait()

    async def test_closing_the_client_cancels_late_handlers(self):
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def handler(_):
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with aio.Client(self.server) as sender, sender.producer() as producer:
            client = await aio.Client(self.server)
            await client.push_consumer(self.name, self.name, handler)
            await producer.send(Message(self.name, b"x"))
            await begun.wait()
            self.assertEqual((await client.close(0)).abandoned, 1)
            await cancelled.wait()

    async def test_a_client_keeps_its_push_consumers(self):
        handled = asyncio.Queue()
        async with aio.Client(self.server) as client, client.producer() as producer:
            await client.push_consumer(self.name, self.name, handled.put)
            gc.collect()
            await producer.send(Message(self.name, b"x"))
            self.assertEqual((await handled.get()).body, b"x")

    async def test_a_consumer_that_is_dropped_with_its_client_stops_receiving(self):
        first, handled = asyncio.Event(), asyncio.Queue()

        async def handler(delivery):
            first.set()
            if delivery.body == b"2":
                await handled.put(delivery)

        async with aio.Client(self.server) as client, client.producer() as producer:
            dropped = await aio.Client(self.server)
            await dropped.push_consumer(self.name, self.name, handler)
            await producer.send(Message(self.name, b"1"))
            await first.wait()
            with self.assertLogs("rocketmq_thin", "WARNING") as logs:
                del dropped
                gc.collect()
            self.assertIn(f"the push consumer of group {self.name} is closed", logs.output[0])
            async with client.push_consumer(self.name, self.name, handled.put):
                for _ in range(20):
                    await producer.send(Message(self.name, b"2"))
                # Some messages may reach the first consumer while it closes. It gives back those it does not handle.
                for _ in range(20):
                    self.assertEqual((await handled.get()).body, b"2")


class RaisingHandler(logging.Handler):
    """A log handler that records what it gets and raises. `logging` does not catch the exception."""

    def __init__(self):
        super().__init__()
        self.records = queue.SimpleQueue()

    def emit(self, record):
        # Records without an error are about consumers of other tests.
        if record.exc_info:
            self.records.put((record.getMessage(), record.exc_info[0].__name__))
        raise ValueError("the disk is full")


class Failing(Case, unittest.IsolatedAsyncioTestCase):
    """Failures of handlers are logged, and do not stop the consumer."""

    def setUp(self):
        super().setUp()
        logger, self.logs = logging.getLogger("rocketmq_thin"), RaisingHandler()
        logger.addHandler(self.logs)
        self.addCleanup(logger.removeHandler, self.logs)
        self.addCleanup(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False
        self.handled = queue.SimpleQueue()

    # What handlers do with each message at its first attempt, and the type of the error that is logged.
    IN_LOOPS = {b"error": "ValueError", b"class": "TypeError", b"dead class": "TypeError", b"returned": None}
    IN_THREADS = {**IN_LOOPS, b"exit": "SystemExit", b"interrupt": "KeyboardInterrupt"}

    def handler(self, delivery):
        self.handled.put((delivery.body, delivery.attempt))
        if delivery.attempt > 1:
            return None
        if delivery.body == b"error":
            raise ValueError("once")
        if delivery.body == b"exit":
            sys.exit(7)
        if delivery.body == b"interrupt":
            raise KeyboardInterrupt
        return {b"class": Retry, b"dead class": DeadLetter, b"returned": Retry(0)}[delivery.body]

    def expect(self, failures):
        seen = sorted(self.handled.get() for _ in range(2 * len(failures)))
        self.assertEqual(seen, sorted((body, attempt) for body in failures for attempt in (1, 2)))
        expected = sorted(failure for failure in failures.values() if failure)
        logged = [self.logs.records.get() for _ in expected]
        self.assertEqual(sorted(failure for _, failure in logged), expected)
        for message, _ in logged:
            self.assertRegex(message, "^a handler failed on message .*, which is delivered again$")

    def test_in_threads(self):
        with Client(self.server) as client, client.producer() as producer:
            producer.send_all([Message(self.name, body) for body in self.IN_THREADS])
            # With a concurrency of 2, two handlers that never end would block the other messages.
            with client.push_consumer(self.name, self.name, self.handler, concurrency=2):
                self.expect(self.IN_THREADS)

    async def test_in_loops(self):
        async def handler(delivery):
            return self.handler(delivery)

        loop = asyncio.get_running_loop()
        async with aio.Client(self.server) as client, client.producer() as producer:
            # An async handler is not tried with `SystemExit` and `KeyboardInterrupt`, which end the loop.
            for handle, failures in ((self.handler, self.IN_THREADS), (handler, self.IN_LOOPS)):
                async with client.push_consumer(self.name, self.name, handle, concurrency=2):
                    await producer.send_all([Message(self.name, body) for body in failures])
                    await loop.run_in_executor(None, self.expect, failures)


class NoThreads(Case, unittest.IsolatedAsyncioTestCase):
    """The system refuses some threads for handlers."""

    def setUp(self):
        super().setUp()
        self.handled, self.allowed = queue.SimpleQueue(), []
        self.refused, started = [], threading.Thread.start

        def start(thread):
            if thread.name.startswith("rocketmq-thin-handler"):
                if not self.allowed or not self.allowed.pop(0):
                    self.refused.append(time.monotonic())
                    raise RuntimeError("can't start new thread")
            started(thread)

        patched = mock.patch.object(threading.Thread, "start", start)
        patched.start()
        self.addCleanup(patched.stop)

    def handler(self, delivery):
        self.handled.put((delivery.body, delivery.attempt))

    def expect(self, count):
        """Waits until the messages are handled, each at its first attempt."""
        seen = sorted(self.handled.get() for _ in range(count))
        self.assertEqual(seen, [(b"%d" % number, 1) for number in range(count)])

    def expect_pauses(self):
        times = self.refused[:4]
        pauses = [after - before for before, after in zip(times, times[1:])]
        self.assertEqual(len(pauses), 3)
        for pause, shortest in zip(pauses, (0.05, 0.1, 0.2)):
            self.assertGreater(pause, 0.9 * shortest)

    def test_blocking(self):
        with Client(self.server) as client, client.producer() as producer:
            for allowed in ([False] * 4 + [True], [True]):
                self.allowed[:] = allowed
                with client.push_consumer(self.name, self.name, self.handler):
                    producer.send_all([Message(self.name, b"%d" % number) for number in range(3)])
                    self.expect(3)
        self.expect_pauses()

    async def test_aio(self):
        loop = asyncio.get_running_loop()
        async with aio.Client(self.server) as client, client.producer() as producer:
            for allowed in ([False] * 4 + [True], [True]):
                self.allowed[:] = allowed
                async with client.push_consumer(self.name, self.name, self.handler, concurrency=1):
                    await producer.send_all([Message(self.name, b"%d" % number) for number in range(3)])
                    await loop.run_in_executor(None, self.expect, 3)
        self.expect_pauses()


class NoMemory(Case, unittest.IsolatedAsyncioTestCase):
    """Several fetches of messages fail for lack of memory. The messages are handled later."""

    def setUp(self):
        super().setUp()
        self.handled, self.times = queue.SimpleQueue(), []

    def fail(self, next_tasks):
        """Returns a replacement for the function that fetches messages, which fails three times."""

        def fetch(*arguments):
            self.times.append(time.monotonic())
            if len(self.times) <= 3:
                raise MemoryError
            return next_tasks(*arguments)

        return fetch

    def expect(self):
        self.assertEqual(self.handled.get(), b"x")
        pauses = [after - before for before, after in zip(self.times, self.times[1:])]
        for pause, shortest in zip(pauses, (0.05, 0.1, 0.2)):
            self.assertGreater(pause, 0.9 * shortest)

    def handler(self, delivery):
        self.handled.put(delivery.body)

    def test_blocking(self):
        with mock.patch.object(_handler_threads, "run", self.fail(_handler_threads.run)):
            with Client(self.server) as client, client.producer() as producer:
                with client.push_consumer(self.name, self.name, self.handler):
                    producer.send(Message(self.name, b"x"))
                    self.expect()

    async def test_aio(self):
        with mock.patch.object(_handler_tasks, "run", self.fail(_handler_tasks.run)):
            async with aio.Client(self.server) as client, client.producer() as producer:
                async with client.push_consumer(self.name, self.name, self.handler):
                    await producer.send(Message(self.name, b"x"))
                    await asyncio.get_running_loop().run_in_executor(None, self.expect)


class ReplacedThreads(Case):
    """Threads that wait in this library would stop all others, so the mistake is reported."""

    def test_functions_need_threads_of_the_system(self):
        gevents = [mock.Mock(is_module_patched=name.__eq__) for name in ("threading", "queue")]
        eventlet = mock.Mock(is_monkey_patched=lambda name: name == "thread")
        with Client(self.server) as client:
            for name, module, library in (
                *(("gevent.monkey", gevent, "gevent") for gevent in gevents),
                ("eventlet.patcher", eventlet, "eventlet"),
            ):
                with mock.patch.dict(sys.modules, {name: module}):
                    for call in (
                        lambda: client.push_consumer(self.name, self.name, print),
                        lambda: client.producer(checker=print),
                        lambda: Client(self.server, credentials=print),
                        forward_logs,
                    ):
                        with self.assertRaisesRegex(RuntimeError, f"threads and queues, which {library} has replaced"):
                            call()
                    with client.producer() as producer:
                        producer.send(Message(self.name, b"x"))


class Blocking(Case):
    def test_handlers_run_concurrently_in_threads(self):
        together, handled = threading.Barrier(3), queue.SimpleQueue()

        def handler(delivery):
            together.wait()
            handled.put(delivery.body)

        with Client(self.server) as client, client.producer() as producer:
            with client.push_consumer(self.name, self.name, handler, concurrency=3) as consumer:
                for number in range(3):
                    producer.send(Message(self.name, b"%d" % number))
                self.assertEqual(sorted(handled.get() for _ in range(3)), [b"0", b"1", b"2"])
                consumer.pause()
                self.assertTrue(consumer.is_paused)

    def test_messages_that_arrive_at_the_exit_of_the_interpreter_do_not_count_as_failed(self):
        process = self.script(
            "import atexit, threading\n"
            "from rocketmq_thin import Client, Interceptor, Message\n"
            "arrived = threading.Event()\n"
            "class Waiting(Interceptor):\n"
            "    def after_receive(self, group, result):\n"
            "        arrived.set()\n"
            "        # From then on, no handler can begin.\n"
            "        threading.main_thread().join()\n"
            "client = Client(SERVER, interceptors=[Waiting()])\n"
            "consumer = client.push_consumer(NAME, NAME, print)\n"
            "def receive():\n"
            "    with Client(SERVER) as other, other.simple_consumer(NAME, NAME) as next:\n"
            "        print(next.receive()[0].attempt)\n"
            "atexit.register(receive)\n"
            "client.producer().send(Message(NAME, b'x'))\n"
            "arrived.wait()\n"
        )
        self.assertEqual(process.communicate(timeout=60), ("1\n", ""))

    def test_at_the_exit_of_the_interpreter_messages_that_no_handler_has_begun_are_given_back(self):
        process = self.script(
            "import concurrent.futures.thread as executors, threading, time\n"
            "from rocketmq_thin import Client, Message\n"
            "begun = threading.Event()\n"
            "def handler(delivery):\n"
            "    begun.set()\n"
            "    # The exit waits for it, and from then on no handler can begin.\n"
            "    while not executors._shutdown:\n"
            "        time.sleep(0.01)\n"
            "client = Client(SERVER)\n"
            "consumer = client.push_consumer(NAME, NAME, handler, concurrency=1)\n"
            "producer = client.producer()\n"
            "for number in range(5):\n"
            "    producer.send(Message(NAME, b'x'))\n"
            "begun.wait()\n"
        )
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (0, ""))
        attempts = []
        with Client(self.server) as client, client.simple_consumer(self.name, self.name) as consumer:
            for delivery in consumer.messages():
                consumer.ack(delivery)
                attempts.append(delivery.attempt)
                # One was handled.
                if len(attempts) == 4:
                    break
        self.assertEqual(attempts, [1] * 4)
