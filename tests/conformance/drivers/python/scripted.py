"""The application's functions, as a case scripts them, and the events that tell of them."""

import asyncio
import json
import sys
import threading
from collections import Counter

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
