"""Conversion of arguments: a `str` is one name, and the error for a value of the wrong type names the argument."""

import datetime

from proxied import Case

import rocketmq_thin
from rocketmq_thin import Client, Credentials, Message, OffsetOption, Tags, aio


class Input(Case):
    def test_a_str_is_one_name(self):
        with Client(self.server) as client, client.simple_consumer("one-" + self.name, self.name) as consumer:
            with client.producer(self.name) as producer:
                producer.send(Message(self.name, b"hello", keys="order-42"))
            (delivery,) = consumer.receive(max_messages=1)
            self.assertEqual((delivery.topic, delivery.keys), (self.name, ("order-42",)))

    def test_several_names_may_come_from_any_iterable(self):
        topics = [f"{self.name}-{number}" for number in range(2)]
        with Client(self.server) as client:
            for given in (topics, tuple(topics), dict.fromkeys(topics), iter(topics)):
                client.producer(given).close()
            for given in (topics, dict.fromkeys(topics), iter(topics), {topics[0]: Tags("new")}):
                client.simple_consumer("several-" + self.name, given).close()

    def test_a_duration_is_seconds_or_a_timedelta(self):
        with Client(self.server, request_timeout=datetime.timedelta(seconds=3), startup_timeout=10) as client:
            client.close(0.5)

    def test_an_error_names_the_argument_and_the_expected_type(self):
        with Client(self.server) as client, client.producer() as producer:
            with client.simple_consumer(self.name, self.name) as consumer:
                send, consume = producer.send, client.simple_consumer
                plain = "must be a plain function; an async function needs a client of rocketmq_thin.aio"

                async def handler(_):
                    pass

                time, naive = "a datetime with a time zone, from 1970 on", datetime.datetime(2030, 1, 2)
                duration = "a number of seconds or a timedelta, from 0 to 1.8e19 seconds"
                for call, expected in [
                    (lambda: Client(7), "endpoints must be a str, got int"),
                    (lambda: aio.Client(None), "endpoints must be a str, got NoneType"),
                    (lambda: Client("h", namespace=1), "namespace must be a str, got int"),
                    (lambda: Client("h", credentials={}), "credentials must be a rocketmq_thin.Credentials, got dict"),
                    (lambda: Client("h", credentials=Credentials("a", 1)), "Credentials.secret_key must be a str, got int"),
                    (lambda: Client("h", tls=True), "tls must be a rocketmq_thin.Tls, got bool"),
                    (lambda: Client("h", request_timeout="3"), f"request_timeout must be {duration}, got str"),
                    (lambda: Client("h", request_timeout=-1), f"request_timeout must be {duration}, got -1"),
                    (lambda: client.close("soon"), f"deadline must be {duration}, got str"),
                    (lambda: client.producer(7), "topics must be a str or an iterable of str, got int"),
                    (lambda: client.producer(["t", 7]), "topics[1] must be a str, got int"),
                    (lambda: client.producer(max_in_flight_bytes="1"), "max_in_flight_bytes must be an int, not negative, got str"),
                    (lambda: consume(7, "t"), "group must be a str, got int"),
                    (lambda: consume("g", 7), "subscriptions must be a str, an iterable of str, a mapping of str to Tags, Sql or None, or a rocketmq_thin.Lite, got int"),
                    (lambda: consume("g", ["t", b"u"]), "subscriptions[1] must be a str, got bytes"),
                    (lambda: consume("g", {"t": "new"}), 'subscriptions["t"] must be rocketmq_thin.Tags, rocketmq_thin.Sql or None, got str'),
                    (lambda: consume("g", {"t": Tags(7)}), 'subscriptions["t"].tags[0] must be a str, got int'),
                    (lambda: Client("h", interceptors=7), "interceptors must be an iterable of rocketmq_thin.Interceptor, got int"),
                    (lambda: Client("h", credentials=handler), f"credentials {plain}"),
                    (lambda: client.producer(checker=handler), f"checker {plain}"),
                    (lambda: client.push_consumer("g", "t", handler), f"handler {plain}"),
                    (lambda: client.push_consumer("g", "t", None), "handler must be a function, got NoneType"),
                    (lambda: send("hello"), "message must be a rocketmq_thin.Message, got str"),
                    (lambda: send(Message(7, b"x")), "Message.topic must be a str, got int"),
                    (lambda: send(Message("t", "x")), "Message.body must be bytes or bytearray, got str"),
                    (lambda: send(Message("t", b"x", tag=7)), "Message.tag must be a str, got int"),
                    (lambda: send(Message("t", b"x", keys=7)), "Message.keys must be a str or an iterable of str, got int"),
                    (lambda: send(Message("t", b"x", keys=["a", 7])), "Message.keys[1] must be a str, got int"),
                    (lambda: send(Message("t", b"x", properties=[])), "Message.properties must be a mapping of str to str, got list"),
                    (lambda: send(Message("t", b"x", properties={"a": 7})), 'Message.properties["a"] must be a str, got int'),
                    (lambda: send(Message("t", b"x", properties={7: "a"})), "a key of Message.properties must be a str, got int"),
                    (lambda: producer.send_all(7), "messages must be an iterable of rocketmq_thin.Message, got int"),
                    (lambda: producer.send_all([Message("t", b"x"), 7]), "messages[1] must be a rocketmq_thin.Message, got int"),
                    (lambda: consumer.receive(max_messages="1"), "max_messages must be an int from 0 to 4294967295, got str"),
                    (lambda: consumer.receive(max_messages=-1), "max_messages must be an int from 0 to 4294967295, got -1"),
                    (lambda: consumer.receive(await_duration=float("nan")), f"await_duration must be {duration}, got nan"),
                    (lambda: consumer.receive(await_duration=float("inf")), f"await_duration must be {duration}, got inf"),
                    (lambda: producer.recall("r"), "receipt must be a rocketmq_thin.Receipt, got str"),
                    (lambda: producer.recall(None), "receipt must be a rocketmq_thin.Receipt, got NoneType"),
                    (lambda: rocketmq_thin.forward_logs("l"), "logger must be a logging.Logger, got str"),
                    (lambda: send(Message("t", b"x", deliver_at="noon")), f"Message.deliver_at must be {time}, got str"),
                    (lambda: send(Message("t", b"x", deliver_at=naive)), f"Message.deliver_at must be {time}, got {naive}, which has no time zone"),
                    (lambda: consumer.subscribe_lite("a", "min"), "start must be a rocketmq_thin.OffsetOption, got str"),
                    (lambda: consumer.subscribe_lite("a", OffsetOption.tail(-1)), "OffsetOption.tail must be an int, not negative, got -1"),
                    (lambda: consumer.subscribe_lite("a", OffsetOption.timestamp(7)), f"OffsetOption.timestamp must be {time}, got int"),
                    (lambda: consumer.ack("d"), "delivery must be a rocketmq_thin.Delivery, got str"),
                    (lambda: consumer.ack_all(["d"]), "deliveries[0] must be a rocketmq_thin.Delivery, got str"),
                ]:
                    with self.subTest(expected), self.assertRaises((TypeError, ValueError)) as raised:
                        call()
                    self.assertEqual(str(raised.exception), expected)

    def test_an_error_of_an_iterable_is_not_hidden(self):
        def broken():
            yield self.name
            raise LookupError("no more names")

        with Client(self.server) as client, self.assertRaisesRegex(LookupError, "no more names"):
            client.producer(broken())
