"""Wrong results of handlers and checkers are logged and acknowledge nothing.

A wrong result of a credentials provider raises an error.
"""

import asyncio
import gc
import logging
import queue
import unittest
import warnings

from proxied import Case

from rocketmq_thin import Client, Decision, Message, Retry, _handling, aio, errors


async def store():
    raise AssertionError("nobody awaits it")


def rows():
    yield "nobody asks for it"


# What handlers return for a message at its first attempt, and what is logged then.
MISTAKES = {
    b"coroutine": (store, "a handler returned a coroutine that was not awaited: await it"),
    b"generator": (rows, "a handler must return None, a Retry or a DeadLetter, got generator"),
    b"value": (lambda: False, "a handler must return None, a Retry or a DeadLetter, got bool"),
    b"class": (lambda: Retry, "a handler returned the class Retry: it must be raised, or returned as Retry()"),
}


class Results(Case, unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        super().setUp()
        self.logged, logger = queue.SimpleQueue(), logging.getLogger("rocketmq_thin")
        handler = logging.Handler()
        # Records without an error are about consumers of other tests.
        handler.emit = lambda record: record.exc_info and self.logged.put(record.exc_info[1])
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False
        # Python warns about coroutines of other tests when it collects them.
        gc.collect()
        # Collects Python's warnings about coroutines that were not awaited.
        catching = warnings.catch_warnings(record=True)
        self.warned = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)
        warnings.simplefilter("always")
        self.handled = queue.SimpleQueue()

    def handler(self, delivery):
        if delivery.attempt == 1:
            return MISTAKES[delivery.body][0]()
        self.handled.put(delivery.body)

    def expect(self):
        self.assertEqual({self.handled.get() for _ in MISTAKES}, set(MISTAKES))
        logged = [self.logged.get() for _ in MISTAKES]
        self.assertEqual({type(error) for error in logged}, {TypeError})
        for _, text in MISTAKES.values():
            self.assertTrue(any(str(error).startswith(text) for error in logged), text)
        gc.collect()
        self.assertEqual([str(each.message) for each in self.warned if each.category is RuntimeWarning], [])

    def test_of_a_handler_in_threads(self):
        with Client(self.server) as client, client.producer() as producer:
            producer.send_all([Message(self.name, body) for body in MISTAKES])
            with client.push_consumer(self.name, self.name, lambda delivery: self.handler(delivery)):
                self.expect()

    async def test_of_an_async_handler(self):
        async def handler(delivery):
            return self.handler(delivery)

        async with aio.Client(self.server) as client, client.producer() as producer:
            await producer.send_all([Message(self.name, body) for body in MISTAKES])
            async with client.push_consumer(self.name, self.name, handler):
                await asyncio.get_running_loop().run_in_executor(None, self.expect)

    def test_of_a_checker(self):
        self.assertEqual(_handling.to_decision(store()), Decision.UNKNOWN)
        self.assertIn("a checker returned a coroutine that was not awaited", str(self.logged.get()))
        self.assertEqual([each for each in self.warned if each.category is RuntimeWarning], [])

    def test_of_a_credentials_provider(self):
        with self.assertRaisesRegex(errors.Unauthenticated, "returned a coroutine that was not awaited: await it"):
            Client(self.server, credentials=lambda: store())
        self.assertEqual([each for each in self.warned if each.category is RuntimeWarning], [])
