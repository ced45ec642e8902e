"""Apache's Python client under measurement."""

import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

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

IN_FLIGHT = 32
WARM_UP = 1_000
BODY = b"x" * 1024
THREADS = ThreadPoolExecutor(IN_FLIGHT)


def send(producer, count):
    under_way = deque()
    for _ in range(count):
        if len(under_way) == IN_FLIGHT:
            under_way.popleft().result()
        message = Message()
        message.topic, message.body, message.tag, message.keys = "bench", BODY, "t", "key"
        under_way.append(producer.send_async(message))
    for future in under_way:
        future.result()


def receive(consumer, count):
    while count > 0:
        messages = consumer.receive(32, 60)
        # Its acks take one message each; those of a batch run at the same time. `ack_async` tells nobody its result.
        for _ in THREADS.map(consumer.ack, messages):
            pass
        count -= len(messages)


class Counting(MessageListener):
    def __init__(self, count):
        self.left, self.lock, self.all = count, threading.Lock(), threading.Event()

    def consume(self, message):
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.all.set()
        return ConsumeResult.SUCCESS


def push(configuration, count):
    listener = Counting(count)
    consumer = PushConsumer(
        configuration,
        "bench-apache-python-push",
        listener,
        {"bench": FilterExpression()},
        consumption_thread_count=IN_FLIGHT,
    )
    consumer.startup()
    listener.all.wait()
    # Its shutdown waits for long polls.
    threading.Thread(target=consumer.shutdown, daemon=True).start()


def simple_consumer(configuration, group, topic):
    consumer = SimpleConsumer(configuration, group, {topic: FilterExpression()}, await_duration=20)
    consumer.startup()
    return consumer


def keep_receiving(consumer):
    while True:
        consumer.receive(32, 60)


def idle(configuration, count):
    for number in range(count):
        consumer = simple_consumer(configuration, f"bench-idle-{number}", "bench-idle")
        threading.Thread(target=keep_receiving, args=(consumer,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()


def measure(configuration):
    producer = Producer(configuration, ("bench",))
    producer.startup()
    consumer = simple_consumer(configuration, "bench-apache-python", "bench")
    send(producer, WARM_UP)
    receive(consumer, WARM_UP // 2)
    print("ready", flush=True)
    for line in sys.stdin:
        workload, count = line.split()
        if workload == "send":
            send(producer, int(count))
        elif workload == "receive":
            receive(consumer, int(count))
        else:
            push(configuration, int(count))
        print("done", flush=True)


if __name__ == "__main__":
    *role, address = sys.argv[1:]
    connection = ClientConfiguration(address, Credentials())
    if role:
        idle(connection, int(role[1]))
    else:
        measure(connection)
    os._exit(0)
