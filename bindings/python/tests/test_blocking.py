"""Features of the blocking API: threads, Ctrl-C, representations of objects."""

import signal
import threading

from proxied import Case

from rocketmq_thin import Client, Credentials, Message, aio


class Blocking(Case):
    def test_a_waiting_thread_does_not_block_others(self):
        received = []
        with Client(self.server) as client, client.simple_consumer("thread-" + self.name, [self.name]) as consumer:
            waiter = threading.Thread(target=lambda: received.extend(consumer.receive(max_messages=1)))
            waiter.start()
            with client.producer([self.name]) as producer:
                producer.send(Message(self.name, b"hello"))
            waiter.join()
            self.assertEqual([delivery.body for delivery in received], [b"hello"])
            self.assertEqual(consumer.ack_all(received), [None])

    def test_a_delivery_has_all_fields_of_the_message(self):
        with Client(self.server) as client, client.simple_consumer("whole-" + self.name, [self.name]) as consumer:
            sent = Message(self.name, bytearray(b"hello"), tag="new", keys=["k1", "k2"], properties={"region": "eu"})
            with client.producer() as producer:
                (receipt,) = producer.send_all([sent])
            (delivery,) = consumer.receive(max_messages=1)
            self.assertEqual(delivery.message_id, receipt.message_id)
            self.assertEqual((delivery.topic, delivery.body, delivery.tag), (self.name, b"hello", "new"))
            self.assertEqual((delivery.keys, delivery.properties), (("k1", "k2"), {"region": "eu"}))
            self.assertIsNotNone(delivery.born_at.tzinfo)
            consumer.change_invisible(delivery, 0)
            (again,) = consumer.receive(max_messages=1)
            self.assertEqual((again.message_id, again.attempt), (delivery.message_id, 2))

    def test_ctrl_c_ends_a_blocked_call(self):
        process = self.script("""
from rocketmq_thin import Client
with Client(SERVER) as client, client.simple_consumer(NAME, [NAME]) as consumer:
    try:
        print("receiving", flush=True)
        consumer.receive(await_duration=20)
        print("nothing arrived")
    except KeyboardInterrupt:
        print("interrupted")
""")
        self.assertEqual(process.stdout.readline(), "receiving\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.communicate(), ("interrupted\n", ""))

    def test_ctrl_c_puts_back_a_message_that_arrives_with_it(self):
        process = self.script("""
import os, signal, threading
from rocketmq_thin import Client, Message
with Client(SERVER) as client, client.producer(NAME) as producer, client.simple_consumer(NAME, [NAME]) as consumer:
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        producer.send(Message(NAME, b"x"))
    # While the receive waits.
    timer = threading.Timer(0.3, interrupt)
    try:
        timer.start()
        consumer.receive(await_duration=20)
    except KeyboardInterrupt:
        timer.join()
        print([delivery.attempt for delivery in consumer.receive(await_duration=20)])
""")
        self.assertEqual(process.communicate(), ("[1]\n", ""))

    def test_representations_contain_no_secrets(self):
        secret = Credentials("reader", "s3cret")
        client = f"endpoints={self.server}"
        with Client(self.server, credentials=secret) as opened, opened.producer() as producer:
            with opened.simple_consumer("g", self.name) as simple, opened.push_consumer("h", self.name, print) as push:
                shown = [f"<Client {client}>", f"<Producer {client}>"]
                shown += [f"<SimpleConsumer group=g {client}>", f"<PushConsumer group=h {client}>"]
                self.assertEqual([repr(each) for each in (opened, producer, simple, push)], shown)
        self.assertEqual(repr(aio.Client(self.server, credentials=secret)), f"<Client {client}>")
