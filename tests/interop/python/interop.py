"""Apache's Python client against a proxy: ENDPOINT TOPIC GROUP; prints "passed CHECK" per check."""
import os
import sys
import threading

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
)

COUNT = 5


def passed(check):
    print("passed", check, flush=True)


def send(producer, topic):
    ids = set()
    for n in range(COUNT):
        message = Message()
        message.topic, message.tag, message.keys = topic, "new", "k1"
        message.body = f"hello {n}".encode()
        message.add_property("region", "eu")
        ids.add(producer.send(message).message_id)
    return ids


def receive_and_ack(consumer, sent):
    received = []
    while len(received) < COUNT:
        for message in consumer.receive(16, 30):
            assert message.message_id in sent, f"a message that was not sent: {message.message_id}"
            assert message.body.startswith(b"hello "), message.body
            assert message.tag == "new", message.tag
            assert "k1" in message.keys, message.keys
            assert message.properties.get("region") == "eu", message.properties
            received.append(message)
    passed("receive")

    consumer.change_invisible_duration(received[0], 10)
    passed("change_invisible")

    for message in received:
        consumer.ack(message)
    for _ in range(3):  # three long polls are longer than the shortest lease
        left = consumer.receive(16, 10)
        assert not left, f"received again after the ack: {left}"
    passed("ack")


class Counting(MessageListener):
    def __init__(self):
        self.seen, self.lock, self.all = set(), threading.Lock(), threading.Event()

    def consume(self, message):
        with self.lock:
            self.seen.add(message.message_id)
            if len(self.seen) == COUNT:
                self.all.set()
        return ConsumeResult.SUCCESS


def main(endpoint, topic, group):
    configuration = ClientConfiguration(endpoint, Credentials())
    producer = Producer(configuration, (topic,))
    producer.startup()
    sent = send(producer, topic)
    passed("send")

    consumer = SimpleConsumer(configuration, group, {topic: FilterExpression()}, await_duration=5)
    consumer.startup()
    receive_and_ack(consumer, sent)
    consumer.shutdown()

    listener = Counting()
    push = PushConsumer(configuration, f"{group}-push", listener, {topic: FilterExpression()})
    push.startup()
    assert listener.all.wait(60), f"{len(listener.seen)} of {COUNT} messages were pushed"
    passed("push")
    # Its shutdown waits for long polls, and nothing of ours depends on it.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:4])
