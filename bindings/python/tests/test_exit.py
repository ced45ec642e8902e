"""The interpreter exits without output on stderr, even if clients are left open."""

from proxied import Case

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
