"""Uses all features. Type checkers must accept it in their strictest mode. It is also run: usage.py SERVER NAME."""

import asyncio
import logging
import sys
from datetime import datetime, timedelta, timezone
from typing import Optional, Union

import rocketmq_thin
from rocketmq_thin import (
    Client,
    CloseReport,
    Credentials,
    DeadLetter,
    Decision,
    Delivery,
    EndpointHealth,
    Health,
    Histogram,
    Interceptor,
    Lite,
    Message,
    Metric,
    OffsetOption,
    OrphanCheck,
    Receipt,
    Retry,
    Settlement,
    Sql,
    Tags,
    Tls,
    aio,
    errors,
)


class Counting(Interceptor):
    def __init__(self) -> None:
        self.settled: list[Settlement] = []

    def before_send(self, message: Message) -> None:
        message.properties = {**message.properties, "origin": "usage"}

    def after_settle(
        self, group: str, delivery: Delivery, settlement: Settlement, error: Optional[BaseException]
    ) -> None:
        self.settled.append(settlement)


def provider() -> Credentials:
    return Credentials("key", "secret", expires_at=datetime.now(timezone.utc) + timedelta(hours=1))


async def provider_for_aio() -> Credentials:
    return provider()


def checker(check: OrphanCheck) -> Decision:
    return Decision.COMMIT if check.message.keys else Decision.UNKNOWN


async def checker_for_aio(check: OrphanCheck) -> Decision:
    return checker(check)


def messages_of_every_type(topic: str) -> list[Message]:
    return [
        Message(topic, b"plain", tag="new", keys=["1", "2"], properties={"a": "b"}),
        Message(topic, bytearray(b"fifo"), message_group="g"),
        Message(topic, b"delayed", delay=timedelta(seconds=1)),
        Message(topic, b"delayed", deliver_at=datetime.now(timezone.utc)),
        Message(topic, b"urgent", priority=3),
        Message(topic, b"lite", lite_topic="alice"),
    ]


def sums(metrics: list[Metric]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in metrics:
        for labels, value in metric.points:
            key = f"{metric.name} {labels.get('topic')} {metric.unit}"
            found[key] = value.sum if isinstance(value, Histogram) else value
    return found


def describe(delivery: Delivery) -> str:
    due: Optional[datetime] = delivery.deliver_at
    origin: Optional[tuple[str, str]] = delivery.dead_letter_origin
    return f"{delivery.body.decode()} {delivery.attempt} {due} {origin} {delivery.is_lease_lost} {delivery.trace_parent}"


def outcome_of(results: list[Union[Receipt, errors.Error]]) -> Optional[str]:
    for result in results:
        if isinstance(result, errors.Error):
            code: Optional[int] = result.code
            return f"{result.kind} {code} {result.retryable} {result.maybe_delivered} {result.operation}"
    return None


def blocking(server: str, topic: str) -> None:
    counting = Counting()
    with Client(server, credentials=provider, request_timeout=3, interceptors=[counting]) as client:
        health: Health = client.health()
        assert health.status == "connected", health
        assert health.error is None or health.error.kind
        endpoint: EndpointHealth = health.endpoints[0]
        assert (endpoint.endpoint, endpoint.error) == (server, None) and endpoint.connections, endpoint
        with client.producer(topic, checker=checker, compress_above=1 << 20) as producer:
            receipt: Receipt = producer.send(messages_of_every_type(topic)[0])
            assert receipt.message_id
            assert outcome_of(producer.send_all([Message(topic, b"second")])) is None
            transaction = producer.begin()
            transaction.rollback()
            with client.simple_consumer(topic, {topic: None}) as consumer:
                filters: dict[str, Union[Tags, Sql, None]] = consumer.subscriptions()
                assert filters == {topic: None}, filters
                for delivery in consumer.messages(max_messages=8, invisible_duration=timedelta(seconds=30)):
                    consumer.keep_lease(delivery, 60)
                    assert consumer.ack_all([delivery]) == [None], describe(delivery)
                    if len(counting.settled) == 2:
                        break
                report: CloseReport = consumer.close(5)
                assert report.abandoned == 0
        assert counting.settled == ["ack", "ack"]
        assert any(name.startswith("rocketmq_send_cost_time") for name in sums(client.metrics()))


async def with_asyncio(server: str, topic: str) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def handler(delivery: Delivery) -> None:
        if delivery.body == b"bad":
            raise DeadLetter
        if delivery.attempt == 1:
            raise Retry(after=0)
        await seen.put(describe(delivery))

    async with aio.Client(server, credentials=provider_for_aio, startup="wait") as client:
        async with client.producer(topic, checker=checker_for_aio) as producer:
            async with client.push_consumer(topic, topic, handler, concurrency=4) as consumer:
                consumer.pause()
                assert consumer.is_paused
                consumer.resume()
                await consumer.subscribe(f"{topic}-other", Sql("a = 1"))
                await consumer.unsubscribe(f"{topic}-other")
                filters: dict[str, Union[Tags, Sql, None]] = consumer.subscriptions()
                assert filters == {topic: None}, filters
                await producer.send_all(Message(topic, body) for body in (b"bad", b"good"))
                assert (await seen.get()).startswith("good 2")
            async with client.simple_consumer(topic, f"%DLQ%{topic}") as letters:
                await letters.subscribe(topic, Tags("new"))
                await letters.unsubscribe(topic)
                async for delivery in letters.messages():
                    await letters.change_invisible(delivery, 30.0)
                    await letters.ack(delivery)
                    break
        async for health in client.status_changes():
            assert health.status == "connected"
            break


def not_run(client: Client, consumer: rocketmq_thin.SimpleConsumer, delivery: Delivery) -> None:
    """Features that need a server with other settings."""
    tls = Tls(ca=b"", certificate=b"", key=b"", server_name="s")
    Client("https://h:8443", namespace="n", tls=tls, max_attempts=1, initial_retry_delay=0.1, max_retry_delay=2)
    lite = client.push_consumer("g", Lite("chats"), print, max_rate=0.5, max_cached_bytes=1)
    lite.subscribe_lite("alice")
    lite.subscribe_lite("bob", OffsetOption.MIN)
    starts: list[OffsetOption] = [OffsetOption.LAST, OffsetOption.MAX, OffsetOption.offset(5), OffsetOption.tail(10)]
    lite.subscribe_lite("carol", start=OffsetOption.timestamp(datetime.now(timezone.utc)) if starts else None)
    push = client.push_consumer("g", "orders", print)
    push.subscribe("bills", Tags("new", "paid"))
    push.unsubscribe("orders")
    names: list[str] = [*lite.lite_topics(), *lite.lite_revocations()]
    client.simple_consumer("g", {"orders": Sql("amount > 100"), "bills": Tags("new", "paid")}).nack(delivery, 1)
    consumer.dead_letter(delivery)
    with client.producer() as producer, producer.begin() as transaction:
        id: str = producer.recall(transaction.send(Message("t", b"x", keys=names)))
        print(id, producer.recall_by_handle("t", "handle"))


if __name__ == "__main__":
    rocketmq_thin.forward_logs(logging.getLogger("usage"))
    blocking(sys.argv[1], sys.argv[2])
    asyncio.run(with_asyncio(sys.argv[1], sys.argv[2]))
    print("done")
