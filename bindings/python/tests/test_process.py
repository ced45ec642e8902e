"""Importing the package does not change the process, and forks work."""

import os
import subprocess
import sys
import tempfile
import unittest

from proxied import Case

FORKING = """
import warnings
# Python 3.12 and later warn if a process with threads is forked.
warnings.simplefilter("ignore", DeprecationWarning)
import asyncio, os
import rocketmq_thin
from rocketmq_thin import Client, Message, aio

client = Client(SERVER)
producer, consumer = client.producer([NAME]), client.simple_consumer(NAME, [NAME])
producer.send(Message(NAME, b"parent"))

async def own():
    async with aio.Client(SERVER) as client, client.producer() as producer:
        await producer.send(Message(NAME, b"child, asyncio"))
asyncio.run(own())

def refused(call):
    try:
        call()
    except rocketmq_thin.errors.Closed as error:
        print(error.operation, error.message, flush=True)

if os.fork() == 0:
    refused(lambda: client.producer())
    refused(lambda: producer.send(Message(NAME, b"never")))
    refused(lambda: consumer.receive())
    refused(client.close)
    with Client(SERVER) as mine, mine.producer([NAME]) as sender:
        sender.send(Message(NAME, b"child, blocking"))
    asyncio.run(own())
    print("child is done", flush=True)
    # The inherited objects are dropped here, in a process without their runtime thread.
    raise SystemExit(0)
pid, status = os.wait()
producer.send(Message(NAME, b"parent again"))
print("parent is done", status)
client.close()
"""


LEAVING = """
import warnings
# Python 3.12 and later warn if a process with threads is forked.
warnings.simplefilter("ignore", DeprecationWarning)
import asyncio, os, sys
from rocketmq_thin import Client, aio

def fork_and_leave():
    if os.fork() == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)

with Client(SERVER) as client, client.producer() as producer, client.simple_consumer(NAME, NAME) as consumer:
    with producer.begin(), consumer.messages():
        fork_and_leave()
async def main():
    async with aio.Client(SERVER) as client, client.producer() as producer, client.simple_consumer(NAME, NAME) as consumer:
        async with producer.begin(), consumer.messages():
            fork_and_leave()
            # The child has changed the event loop's descriptors, which it shares with the parent.
            os._exit(0)
asyncio.run(main())
"""


class Fork(Case):
    @unittest.skipUnless(hasattr(os, "fork"), "this platform has no fork")
    def test_leaving_a_block_in_a_child_does_not_affect_the_parent(self):
        output, errors = self.script(LEAVING).communicate()
        self.assertEqual((output, errors), ("7\n7\n", ""))

    @unittest.skipUnless(hasattr(os, "fork"), "this platform has no fork")
    def test_inherited_objects_fail_in_a_child_and_new_ones_work(self):
        output, errors = self.script(FORKING).communicate()
        hint = "created before this process was forked: connect a new client in the child"
        refused = [f"{operation} {hint}" for operation in ("producer", "send", "receive", "close")]
        self.assertEqual(errors, "")
        self.assertEqual(output.splitlines(), [*refused, "child is done", "parent is done 0"])


IMPORTING = """
import logging, os, signal, threading
before = [signal.getsignal(number) for number in signal.valid_signals()]
import rocketmq_thin
assert before == [signal.getsignal(number) for number in signal.valid_signals()]
assert threading.active_count() == 1
assert not os.path.isdir("/proc/self/task") or len(os.listdir("/proc/self/task")) == 1
assert not logging.root.handlers
"""


class Import(unittest.TestCase):
    def test_an_import_changes_neither_process_nor_disk(self):
        with tempfile.TemporaryDirectory() as home:
            os.chmod(home, 0o500)
            environment = {"HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}
            subprocess.run([sys.executable, "-c", IMPORTING], env=environment, cwd=home, check=True)
            self.assertEqual(os.listdir(home), [])
