"""What a program sees of its client: metrics and traces."""

import asyncio
import contextlib
import sys
import types
import unittest
import unittest.mock

from proxied import Case

from rocketmq_thin import Client, Histogram, Message, aio

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextlib.contextmanager
def opentelemetry(current):
    """A stand-in for the API of OpenTelemetry, whose context is the list `current`."""

    def module(name, **members):
        made = types.ModuleType(name)
        vars(made).update(members)
        return made

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


class Blocking(Case):
    def test_metrics_count_what_was_sent(self):
        with Client(self.server) as client, client.producer() as producer:
            for _ in range(3):
                producer.send(Message(self.name, b"x"))
            (sent,) = [metric for metric in client.metrics() if metric.name == "rocketmq_send_cost_time"]
            ((labels, value),) = sent.points
            self.assertEqual((labels["topic"], labels["invocation_status"]), (self.name, "success"))
            self.assertIsInstance(value, Histogram)
            self.assertEqual((sum(value.counts), len(value.counts)), (3, len(value.bounds) + 1))
