"""Observability: trace contexts, interceptors, logs, help texts and metrics."""

import asyncio
import contextlib
import logging
import logging.handlers
import queue
import sys
import types
import unittest
import unittest.mock

from proxied import Case

import rocketmq_thin
from rocketmq_thin import (
    Client,
    CloseReport,
    DeadLetter,
    EndpointHealth,
    Health,
    Histogram,
    Interceptor,
    Message,
    Metric,
    Receipt,
    _observers,
    aio,
    errors,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextlib.contextmanager
def opentelemetry(current):
    """Replaces the API of OpenTelemetry by a fake, whose context is the list `current`."""

    def module(name, **members):
        fake = types.ModuleType(name)
        vars(fake).update(members)
        return fake

    modules = {
        "opentelemetry": module("opentelemetry"),
        "opentelemetry.propagate": module(
            "opentelemetry.propagate",
            inject=lambda carrier: carrier.update(traceparent=PARENT),
            extract=lambda carrier: carrier["traceparent"],
        ),
        "opentelemetry.context": module(
            "opentelemetry.context", attach=current.append, detach=lambda _: current.pop()
        ),
    }
    with unittest.mock.patch.dict(sys.modules, modules):
        yield


class Aio(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_handler_runs_within_the_trace_of_the_sender(self):
        current, seen = [], asyncio.Queue()

        async def handler(delivery):
            await seen.put((list(current), delivery.trace_parent))

        with opentelemetry(current):
            async with aio.Client(self.server) as client, client.producer() as producer:
                async with client.push_consumer(self.name, self.name, handler):
                    await producer.send(Message(self.name, b"x"))
                    self.assertEqual(await seen.get(), ([PARENT], PARENT))
        self.assertEqual(current, [])

    def test_a_trace_context_may_be_a_field_of_the_protocol(self):
        current, delivery = [], types.SimpleNamespace(properties={"a": "b"}, trace_parent=PARENT)
        with opentelemetry(current), _observers.within_trace(delivery):
            self.assertEqual(current, [PARENT])


class Recording(Interceptor):
    """Records its calls in `seen`, and adds a property to each message."""

    def __init__(self, seen, name):
        self.seen, self.name = seen, name

    def before_send(self, message):
        message.properties[self.name] = "seen"

    def after_send(self, message, result):
        self.seen.append((self.name, "sent", type(result).__name__))

    def before_receive(self, group):
        raise ValueError("has no effect")

    def after_receive(self, group, result):
        if result:
            self.seen.append((self.name, "received", [delivery.body for delivery in result]))

    def before_settle(self, group, delivery, settlement):
        self.seen.append((self.name, settlement, delivery.body))

    def after_settle(self, group, delivery, settlement, error):
        self.seen.append((self.name, "settled", error))


class Intercepted(Case, unittest.IsolatedAsyncioTestCase):
    """Both APIs call interceptors in the same way."""

    def expected_calls(self, *settlements):
        """Returns the calls of two interceptors for a send, a receive and these settlements."""
        expected = [("b", "sent", "Receipt"), ("a", "sent", "Receipt")]
        expected += [("b", "received", [b"x"]), ("a", "received", [b"x"])]
        for settlement in settlements:
            expected += [("a", settlement, b"x"), ("b", settlement, b"x"), ("b", "settled", None), ("a", "settled", None)]
        return expected

    async def test_aio(self):
        seen, message = [], Message(self.name, b"x")
        async with aio.Client(self.server, interceptors=[Recording(seen, "a"), Recording(seen, "b")]) as client:
            async with client.producer() as producer, client.simple_consumer(self.name, self.name) as consumer:
                await producer.send(message)
                async for delivery in consumer.messages():
                    self.assertEqual(delivery.properties, {"a": "seen", "b": "seen"})
                    await consumer.change_invisible(delivery, 30.0)
                    self.assertEqual(await consumer.ack_all([delivery]), [None])
                    break
                self.assertEqual(seen, self.expected_calls("change_invisible", "ack"))
                self.assertEqual(message.properties, {})
                with self.assertRaises(errors.InvalidArgument):
                    await producer.send(Message(self.name, b"x", priority=1, delay=1))
                self.assertEqual(seen[-1], ("a", "sent", "InvalidArgument"))
                with self.assertRaises(TypeError):
                    await producer.send_all([message, "x"])
                self.assertEqual(seen[-4:], 2 * [("b", "sent", "TypeError"), ("a", "sent", "TypeError")])

    def interceptors(self):
        """Returns interceptors, what they have seen, and a queue of settlements."""
        seen, settled = [], queue.SimpleQueue()

        class Settled(Interceptor):
            def after_settle(self, group, delivery, settlement, error):
                settled.put((group, delivery.body, settlement, error))

        # Called in reverse order after a settlement.
        return [Settled(), Recording(seen, "a")], seen, settled

    async def test_handlers(self):
        interceptors, seen, settled = self.interceptors()

        async def handler(delivery):
            pass

        async with aio.Client(self.server, interceptors=interceptors) as client, client.producer() as producer:
            async with client.push_consumer(self.name, self.name, handler):
                await producer.send_all([Message(self.name, b"x")])
                result = await asyncio.get_running_loop().run_in_executor(None, settled.get)
                self.assertEqual(result, (self.name, b"x", "ack", None))
        self.assertEqual(sorted(call[1] for call in seen), ["ack", "received", "sent", "settled"])

    def test_handlers_in_threads(self):
        interceptors, seen, settled = self.interceptors()
        with Client(self.server, interceptors=interceptors) as client, client.producer() as producer:
            with client.push_consumer(self.name, self.name, lambda _: DeadLetter()):
                producer.send(Message(self.name, b"x"))
                self.assertEqual(settled.get(), (self.name, b"x", "dead_letter", None))
        self.assertEqual(sorted(call[1] for call in seen), ["dead_letter", "received", "sent", "settled"])

    def test_blocking(self):
        seen = []
        with Client(self.server, interceptors=(Recording(seen, name) for name in "ab")) as client:
            with client.producer() as producer, client.simple_consumer(self.name, self.name) as consumer:
                producer.send(Message(self.name, b"x"))
                (delivery,) = consumer.receive()
                consumer.nack(delivery, 0)
                self.assertEqual(seen, self.expected_calls("retry"))
        with self.assertRaisesRegex(TypeError, r"interceptors\[0\] must be a rocketmq_thin.Interceptor, got int"):
            Client(self.server, interceptors=[7])


class Blocking(Case):
    def test_log_records_of_clients_go_to_a_logger(self):
        records, logger = queue.Queue(), logging.getLogger(self.name)
        logger.addHandler(logging.handlers.QueueHandler(records))
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        rocketmq_thin.forward_logs(logger)

        def provider():
            raise ValueError("the vault is sealed")

        with self.assertRaises(errors.Unauthenticated):
            Client(self.server, credentials=provider)
        # Records of clients of other tests may come first.
        record = next(record for record in iter(records.get, None) if "the vault is sealed" in record.getMessage())
        self.assertEqual(record.levelno, logging.WARNING)
        self.assertEqual(record.getMessage(), "the credentials could not be renewed cause=ValueError: the vault is sealed")

    def test_records_are_forwarded_after_a_log_handler_has_raised(self):
        class RaisingHandler(logging.Handler):
            def emit(self, record):
                records.put(record)
                raise ValueError("the disk is full")

        def provider():
            raise ValueError("the vault is sealed")

        records, logger = queue.Queue(), logging.getLogger(self.name)
        logger.addHandler(RaisingHandler())
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        rocketmq_thin.forward_logs(logger)
        for _ in range(2):
            with self.assertRaises(errors.Unauthenticated):
                Client(self.server, credentials=provider)
            # Records of clients of other tests may come first.
            texts = (record.getMessage() for record in iter(records.get, None))
            self.assertIn("the credentials could not be renewed", next(text for text in texts if "the vault is sealed" in text))

    def test_help_describes_fields_of_named_tuples(self):
        for value in (CloseReport, EndpointHealth, Health, Histogram, Metric, Receipt):
            for name in value._fields:
                self.assertNotIn("Alias", getattr(value, name).__doc__)
        self.assertIn("`degraded`", Health.status.__doc__)
        self.assertEqual(Receipt.message_id.__doc__, "The message id. Its deliveries have the same id.")

    def test_metrics_count_sends(self):
        with Client(self.server) as client, client.producer() as producer:
            for _ in range(3):
                producer.send(Message(self.name, b"x"))
            (sent,) = [metric for metric in client.metrics() if metric.name == "rocketmq_send_cost_time"]
            ((labels, value),) = sent.points
            self.assertEqual((labels["topic"], labels["invocation_status"]), (self.name, "success"))
            self.assertIsInstance(value, Histogram)
            self.assertEqual((sum(value.counts), len(value.counts)), (3, len(value.bounds) + 1))
