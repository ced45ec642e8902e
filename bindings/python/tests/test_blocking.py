"""What is specific to the blocking face."""

import signal
import threading

import pytest

from rocketmq_thin import Client, Message


def test_a_waiting_thread_lets_others_run(server, name):
    received = []
    with Client(server) as client, client.simple_consumer("thread-" + name, [name]) as consumer:
        waiter = threading.Thread(target=lambda: received.extend(consumer.receive(max_messages=1)))
        waiter.start()
        with client.producer([name]) as producer:
            producer.send(Message(name, b"hello"))
        waiter.join()
        assert [delivery.body for delivery in received] == [b"hello"]
        assert consumer.ack_all(received) == [None]


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"bytearray")])
def test_what_is_sent_arrives(server, name, body):
    with Client(server) as client, client.simple_consumer("whole-" + name, [name]) as consumer:
        sent = Message(name, body, tag="new", keys=["k1", "k2"], properties={"region": "eu"})
        with client.producer() as producer:
            (receipt,) = producer.send_all([sent])
        (delivery,) = consumer.receive(max_messages=1)
        assert delivery.message_id == receipt.message_id
        assert (delivery.topic, delivery.body, delivery.tag) == (name, bytes(body), "new")
        assert (delivery.keys, delivery.properties) == (("k1", "k2"), {"region": "eu"})
        assert delivery.born_at.tzinfo is not None
        consumer.change_invisible(delivery, 0)
        (again,) = consumer.receive(max_messages=1)
        assert (again.message_id, again.attempt) == (delivery.message_id, 2)


@pytest.mark.parametrize(
    "wrong", [Message("t", "text"), Message("t", b"x", keys="one"), Message("t", b"x", properties={"a": 1})]
)
def test_what_has_the_wrong_type_is_refused_at_once(server, wrong):
    with Client(server) as client, client.producer() as producer:
        with pytest.raises(TypeError):
            producer.send(wrong)


def test_ctrl_c_ends_a_blocked_call(script):
    process = script("""
from rocketmq_thin import Client
with Client(SERVER) as client, client.simple_consumer(NAME, [NAME]) as consumer:
    try:
        print("receiving", flush=True)
        consumer.receive(await_duration=20)
        print("nothing came")
    except KeyboardInterrupt:
        print("interrupted")
""")
    assert process.stdout.readline() == "receiving\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("interrupted\n", "")


def test_the_interpreter_ends_with_everything_left_open(script):
    process = script("""
import threading
from rocketmq_thin import Client, Message
client = Client(SERVER)
producer, consumer = client.producer([NAME]), client.simple_consumer(NAME, [NAME])
producer.send(Message(NAME, b"x"))
consumer.receive()
def receive():
    try:
        consumer.receive(await_duration=20)
    except Exception:
        pass
threading.Thread(target=receive, daemon=True).start()
print("end")
""")
    assert process.communicate() == ("end\n", "")
    assert process.returncode == 0
