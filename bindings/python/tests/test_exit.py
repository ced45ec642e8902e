"""The interpreter exits without output on stderr, even if clients are left open."""

from proxied import Case

from rocketmq_thin import Client

OPEN = """
import atexit, asyncio, threading
from rocketmq_thin import Client, Message, aio, errors
client = Client(SERVER)
producer, consumer = client.producer([NAME]), client.simple_consumer(NAME, [NAME])
producer.send(Message(NAME, b"x"))
consumer.receive()
"""

DAEMON_THREADS = {
    "blocking receive": """
def work():
    consumer.receive(await_duration=20)
""",
    "blocking sends": """
def work():
    while True:
        producer.send(Message(NAME, b"x"))
""",
    "asyncio": """
async def receive():
    async with aio.Client(SERVER) as client, client.simple_consumer(NAME, [NAME]) as consumer:
        await consumer.receive(await_duration=20)

def work():
    asyncio.run(receive())
""",
}


class Exit(Case):
    def assert_exit(self, text, output="", code=0):
        process = self.script(OPEN + text)
        self.assertEqual(process.communicate(), (output, ""))
        self.assertEqual(process.returncode, code)

    def test_with_everything_left_open(self):
        self.assert_exit("")

    def test_with_a_daemon_thread_in_a_call(self):
        for name, work in DAEMON_THREADS.items():
            with self.subTest(name):
                self.assert_exit(work + "threading.Thread(target=work, daemon=True).start()\nproducer.send(Message(NAME, b'x'))\n")

    def test_with_a_pending_task(self):
        self.assert_exit("""
async def main():
    client = await aio.Client(SERVER)
    consumer = await client.simple_consumer(NAME, [NAME])
    receiving = asyncio.create_task(consumer.receive(await_duration=20))
    await asyncio.sleep(0)
asyncio.run(main())
""")

    def test_a_message_that_arrives_in_a_daemon_thread_with_a_loop_is_given_back(self):
        process = self.script("""
import asyncio, atexit, select, sys, threading
import rocketmq_thin
from rocketmq_thin import Client, Message, _loop, aio

arrived, exiting = threading.Event(), threading.Event()

async def receive():
    client = await aio.Client(SERVER)
    await client.push_consumer(NAME, NAME, handler)
    completions = _loop._completions(asyncio.get_running_loop())
    while not completions.waiting:
        await asyncio.sleep(0)
    # The blocking send and select stop the loop, so that it does not fetch the outcome.
    Client(SERVER).producer().send(Message(NAME, b"x"))
    select.select([completions.native.fileno()], [], [])
    arrived.set()
    exiting.wait()
    await asyncio.Event().wait()

async def handler(delivery):
    print("no handler begins at the exit")

def shutdown():
    # The loop continues when the shutdown has begun, because this thread does not yield to others before.
    sys.setswitchinterval(1000)
    exiting.set()
    rocketmq_thin._shutdown(60)

atexit.unregister(rocketmq_thin._shutdown)
atexit.register(shutdown)
threading.Thread(target=asyncio.run, args=[receive()], daemon=True).start()
arrived.wait()
""")
        self.assertEqual(process.communicate(), ("", ""))
        with Client(self.server) as client, client.simple_consumer(self.name, self.name) as consumer:
            self.assertEqual([delivery.attempt for delivery in consumer.receive()], [1])

    def test_with_an_exit_code(self):
        self.assert_exit("""
import sys
try:
    producer.send(Message("/", b"x"))
finally:
    sys.exit(3)
""", code=3)

    def test_a_call_of_a_later_exit_hook_fails(self):
        process = self.script("""
import atexit
def late():
    try:
        producer.send(Message(NAME, b"x"))
    except errors.Closed as error:
        print(error.message)
atexit.register(late)
""" + OPEN)
        self.assertEqual(process.communicate(), ("the client's runtime has stopped\n", ""))
