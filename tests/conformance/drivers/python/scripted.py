"""The application's functions, as a case scripts them, and the events that tell of them."""

import asyncio
import json
import sys
import threading
from collections import Counter

from rocketmq_thin import Interceptor

_output = threading.Lock()


def write(line):
    with _output:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def event(name, **fields):
    write({"event": name, **fields})


class Answers:
    """What a handler or a checker does about a message, by the message's tag and by how often it has come."""

    def __init__(self, script, default):
        self.script = script
        self.default = default
        self.seen = Counter()
        self.released = threading.Event()

    async def next(self, tag, message_id, released):
        answers = self.script.get(tag) or self.script.get("*") or [self.default]
        count = self.seen[message_id]
        self.seen[message_id] += 1
        answer = answers[min(count, len(answers) - 1)]
        if answer != "hang":
            return answer
        while not self.released.is_set():
            await asyncio.sleep(0.01)
        return released

    def release(self):
        self.released.set()


class Reporting(Interceptor):
    """Reports each of its calls, and raises then if it is to."""

    def __init__(self, how):
        self.how = how

    def report(self, hook, topic, ok=None):
        event("intercepted", hook=hook, topic=topic, ok=ok)
        if self.how == "throw":
            raise ValueError("as scripted")

    def before_send(self, message):
        message.properties["intercepted"] = "yes"
        self.report("before_send", message.topic)

    def after_send(self, message, result):
        self.report("after_send", message.topic, not isinstance(result, BaseException))

    def before_receive(self, group):
        self.report("before_receive", None)

    def after_receive(self, group, result):
        self.report("after_receive", None, not isinstance(result, BaseException))

    def before_settle(self, group, delivery, settlement):
        self.report("before_settle", delivery.topic)

    def after_settle(self, group, delivery, settlement, error):
        self.report("after_settle", delivery.topic, error is None)
