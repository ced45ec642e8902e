"""The asyncio API of the client: as `rocketmq_thin`, with `await`.

    async def main():
        async with aio.Client("127.0.0.1:8081") as client:
            async with client.producer("orders") as producer:
                receipt = await producer.send(Message("orders", b"hello"))

    asyncio.run(main())

A client, producer or consumer is opened by `async with`, which also closes it, or by `await`:
`producer = await client.producer()`. An open that failed or was cancelled can be tried again. All of them may be
used from any number of tasks and event loops. Cancelling a task cancels the operation that it awaits.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Callable, Generator, Generic, Iterable, Iterator, Optional, TypeVar, Union

from . import _native
from ._background import Checker, Handler, Work, answer_checks, handle_tasks
from ._loop import run
from ._native import Delivery
from .errors import Error
from .values import (
    CloseReport,
    Credentials,
    Message,
    Names,
    Receipt,
    Seconds,
    Sql,
    Subscriptions,
    Tags,
    Tls,
)

__all__ = ["Client", "Messages", "Producer", "PushConsumer", "SimpleConsumer", "Transaction"]

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer, _native.PushConsumer)
_H = TypeVar("_H", bound="_Handle[Any]")

def _reusable(given: Any) -> Any:
    """An open that is tried again reads its arguments again, which an iterator does not allow."""
    return list(given) if isinstance(given, Iterator) else given


class _Handle(Generic[_N]):
    """What `await` or `async with` opens, once."""

    _handle: _N

    def __init__(self, opening: Callable[[], _native.Operation[_N]]) -> None:
        # Raises for arguments of the wrong type.
        opening()
        self._opening: Callable[[], _native.Operation[_N]] = opening
        # The tasks of a loop that open it at the same time take turns.
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._locks = weakref.WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        if name == "_handle":
            raise RuntimeError(f"this {type(self).__name__} is not open: use `await` or `async with` on it first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _is_open(self) -> bool:
        return "_handle" in self.__dict__

    async def _open(self: _H) -> _H:
        if not self._is_open():
            async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if not self._is_open():
                    opened = await run(self._opening())
                    # Another loop may have been faster. Then this one is dropped, which closes it.
                    if self.__dict__.setdefault("_handle", opened) is opened:
                        self._opened()
        return self

    def _opened(self) -> None:
        """What begins with the open."""

    def __await__(self: _H) -> Generator[Any, None, _H]:
        return self._open().__await__()

    async def __aenter__(self: _H) -> _H:
        return await self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Takes no more calls and waits up to `deadline` (default 20 s) for calls that are running."""
        return await run(self._handle.close(deadline))


class Client(_Handle[_native.Client]):
    """A client of one RocketMQ service, for any number of producers and consumers."""

    def __init__(
        self,
        endpoints: str,
        *,
        namespace: Optional[str] = None,
        credentials: Optional[Credentials] = None,
        tls: Optional[Tls] = None,
        request_timeout: Optional[Seconds] = None,
        operation_timeout: Optional[Seconds] = None,
        startup_timeout: Optional[Seconds] = None,
        max_attempts: Optional[int] = None,
    ) -> None:
        """Opening it connects to one of the endpoints.

        Args:
            endpoints: The addresses of one service, separated by `,` or `;`. Each is `host:port`, `host` (port
                8081), `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on.
            namespace: The namespace of every topic and group. Default: none.
            credentials: The access key for a server that requires one. Default: none.
            tls: Encrypts connections, and says which certificates to trust. Default: plaintext, or for
                `https://` endpoints TLS with the certificate authorities that the system trusts.
            request_timeout: How long one attempt waits for its response. Default: 3 s.
            operation_timeout: How long a call may take, including all attempts and pauses. Default: 10 s.
            startup_timeout: How long connecting, or making a producer or consumer, may take. Default: 10 s.
            max_attempts: The maximum number of attempts of one call; 1 never retries. Default: 16.
        """
        super().__init__(
            lambda: _native.connect(
                endpoints,
                namespace=namespace,
                credentials=credentials,
                tls=tls,
                request_timeout=request_timeout,
                operation_timeout=operation_timeout,
                startup_timeout=startup_timeout,
                max_attempts=max_attempts,
            )
        )

    def producer(
        self,
        topics: Names = (),
        *,
        max_in_flight_messages: Optional[int] = None,
        max_in_flight_bytes: Optional[int] = None,
        compress_above: Optional[int] = None,
        checker: Optional[Checker] = None,
    ) -> Producer:
        """Makes a producer. Opening it checks that `topics` exist.

        Args:
            topics: One topic or several; the producer may send to others, too. Default: none.
            max_in_flight_messages: The maximum number of messages being sent; further sends wait. Default: 4096.
            max_in_flight_bytes: The maximum size of the bodies being sent; further sends wait. Default: 64 MiB.
            compress_above: Bodies larger than this, in bytes, are compressed. Default: none are.
            checker: Decides about transactions that were neither committed nor rolled back in time, also those of
                other producers of the topics, and of processes that have died: so it looks at durable state. If it
                raises, or returns `Decision.UNKNOWN`, the server asks again. Default: none.
        """
        topics = _reusable(topics)
        return Producer(
            lambda: self._handle.producer(
                topics=topics,
                max_in_flight_messages=max_in_flight_messages,
                max_in_flight_bytes=max_in_flight_bytes,
                compress_above=compress_above,
            ),
            checker,
        )

    def simple_consumer(
        self, group: str, subscriptions: Subscriptions, *, max_body_size: Optional[int] = None
    ) -> SimpleConsumer:
        """Makes a consumer. Opening it checks that the topics exist.

        Args:
            group: The consumer group; its members share the messages.
            subscriptions: One topic or several, or a mapping with a filter for each topic:
                `{"orders": Tags("new"), "bills": None}`. All members of a group must subscribe to the same.
            max_body_size: The maximum size of a body after decompression, in bytes; a message with a larger one
                is delivered as `corrupted`. Default: 64 MiB.
        """
        subscriptions = _reusable(subscriptions)
        return SimpleConsumer(
            lambda: self._handle.simple_consumer(group, subscriptions, max_body_size=max_body_size)
        )

    def push_consumer(
        self,
        group: str,
        subscriptions: Subscriptions,
        handler: Handler,
        *,
        concurrency: Optional[int] = None,
        max_cached_messages: Optional[int] = None,
        max_cached_bytes: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        max_rate: Optional[float] = None,
        max_body_size: Optional[int] = None,
    ) -> PushConsumer:
        """Makes a consumer that calls `handler` for each message, from its opening to its close.

        Args:
            group: The consumer group; its members share the messages.
            subscriptions: As for `simple_consumer`.
            handler: Handles one message. When it returns, the message is acknowledged. When it raises, the message is
                delivered again: `Retry` says when, `DeadLetter` sends it to the dead-letter topic instead.
            concurrency: How many messages are handled at the same time. Default: 20.
            max_cached_messages: How many messages are held, waiting or being handled. Default: 4096.
            max_cached_bytes: The size of their bodies above which nothing is received. Default: 64 MiB.
            invisible_duration: The length of a lease, which is renewed while a message waits or is handled. Default:
                60 s.
            max_rate: How many messages a second are handled at most. Default: no limit.
            max_body_size: As for `simple_consumer`.
        """
        subscriptions = _reusable(subscriptions)
        return PushConsumer(
            lambda: self._handle.push_consumer(
                group,
                subscriptions,
                concurrency=concurrency,
                max_cached_messages=max_cached_messages,
                max_cached_bytes=max_cached_bytes,
                invisible_duration=invisible_duration,
                max_rate=max_rate,
                max_body_size=max_body_size,
            ),
            handler,
        )


class Producer(_Handle[_native.Producer]):
    """Sends messages. Made by `Client.producer`."""

    def __init__(
        self, opening: Callable[[], _native.Operation[_native.Producer]], checker: Optional[Checker]
    ) -> None:
        super().__init__(opening)
        self._checker = _callable(checker, "checker") if checker is not None else None

    def _opened(self) -> None:
        if self._checker is not None:
            # It ends with the producer.
            self._work = Work()
            self._work.start(answer_checks(self._handle.orphan_checks(), self._checker))

    async def send(self, message: Message) -> Receipt:
        """Sends one message and waits until the server has stored it."""
        return await run(self._handle.send(message))

    async def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends many messages. Returns a receipt or an error for each, in their order."""
        return await run(self._handle.send_all(messages))

    async def recall(self, receipt: Receipt) -> None:
        """Takes back a delayed message before its time.

        Raises `errors.InvalidArgument` for a receipt without a recall handle, and what the server says if it is too
        late.
        """
        await run(self._handle.recall(receipt.topic, receipt.recall_handle or ""))

    def begin(self) -> Transaction:
        """Begins a transaction: `async with producer.begin() as transaction:`. Nothing is sent yet."""
        return Transaction(self._handle.begin())


class Transaction:
    """Messages that are delivered together with a local change, or not at all. Made by `Producer.begin`.

    As a context manager it is committed at the end of the block, and rolled back if the block raises. If it is dropped
    without a decision, or the process dies, the server keeps its messages hidden and asks the checkers of the topic's
    producers, of any process; see `Client.producer`.
    """

    def __init__(self, native: _native.Transaction) -> None:
        self._native = native
        self._decided = False

    async def send(self, message: Message) -> Receipt:
        """Sends a message that is delivered once the transaction is committed."""
        return await run(self._native.send(message))

    async def commit(self) -> None:
        """Has the messages delivered. A second decision raises `errors.InvalidArgument`."""
        self._decided = True
        await run(self._native.commit())

    async def rollback(self) -> None:
        """Has the messages dropped. A second decision raises `errors.InvalidArgument`."""
        self._decided = True
        await run(self._native.rollback())

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        if not self._decided:
            await (self.commit() if kind is None else self.rollback())


class SimpleConsumer(_Handle[_native.SimpleConsumer]):
    """Receives messages on request and acknowledges them. Made by `Client.simple_consumer`."""

    async def receive(
        self,
        *,
        max_messages: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        await_duration: Optional[Seconds] = None,
    ) -> list[Delivery]:
        """Waits for messages. Returns an empty list if nothing arrives in time.

        If the task is cancelled, messages that have arrived already go to the next `receive`.

        Args:
            max_messages: The maximum number of messages; servers return at most 32. Default: 32.
            invisible_duration: How long the messages are hidden from other consumers before they are delivered
                again; servers allow 10 s to 12 h. Default: 30 s.
            await_duration: How long to wait for the first message; servers wait 5 s to 20 s. Default: 20 s.
        """
        operation = self._handle.receive(
            max_messages=max_messages,
            invisible_duration=invisible_duration,
            await_duration=await_duration,
        )
        return await run(operation, self._handle.put_back)

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledges a delivery: the message is processed and is not delivered to this group again."""
        await run(self._handle.ack(delivery))

    async def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acknowledges many deliveries. Returns `None` or an error for each, in their order."""
        return await run(self._handle.ack_all(deliveries))

    async def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from other consumers for `duration` from now. Zero gives it back at once."""
        await run(self._handle.change_invisible(delivery, duration))

    async def nack(self, delivery: Delivery, after: Seconds) -> None:
        """Returns a delivery that could not be processed: it comes again after this time, as a further attempt."""
        await run(self._handle.nack(delivery, after))

    async def dead_letter(self, delivery: Delivery) -> None:
        """Gives up on a delivery: it moves to the dead-letter topic of the group, `%DLQ%` and the name of the group."""
        await run(self._handle.dead_letter(delivery))

    def keep_lease(self, delivery: Delivery, max: Seconds) -> None:
        """Keeps a delivery hidden from other consumers until it is settled or dropped, for at most `max`.

        Returns at once; the lease is renewed in the background. See `Delivery.is_lease_lost`.
        """
        self._handle.keep_lease(delivery, max)

    async def subscribe(self, topic: str, filter: Union[Tags, Sql, None] = None) -> None:
        """Subscribes to one more topic, or changes the filter of one. `None` stands for all messages."""
        await run(self._handle.subscribe(topic, filter))

    async def unsubscribe(self, topic: str) -> None:
        """Ends the subscription of a topic. What was received of it can still be settled."""
        await run(self._handle.unsubscribe(topic))

    def messages(
        self,
        *,
        max_messages: Optional[int] = None,
        max_bytes: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
    ) -> Messages:
        """Fetches messages ahead: `async for delivery in consumer.messages():`.

        Args:
            max_messages: The maximum number of messages that wait. Default: 128.
            max_bytes: The size of their bodies above which nothing more is fetched. Default: 64 MiB.
            invisible_duration: As for `receive`. The leases of messages that wait are kept.
        """
        return Messages(
            self._handle.messages(
                max_messages=max_messages, max_bytes=max_bytes, invisible_duration=invisible_duration
            )
        )


class Messages:
    """Deliveries, fetched ahead. Made by `SimpleConsumer.messages`.

    Leaving the loop, and dropping this object, gives back what was not handed out. A refusal by the server is raised;
    the next iteration goes on. It ends when it, or its consumer, is closed.
    """

    def __init__(self, native: _native.Messages) -> None:
        self._native = native

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Delivery:
        batch = await run(self._native.next_batch(1), self._put_back)
        if batch is None:
            raise StopAsyncIteration
        return batch[0]

    def _put_back(self, batch: Optional[list[Delivery]]) -> None:
        if batch is not None:
            self._native.put_back(batch)

    async def close(self) -> None:
        """Ends it, and gives back what was not handed out."""
        await run(self._native.close())

    async def __aenter__(self) -> Messages:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class PushConsumer(_Handle[_native.PushConsumer]):
    """Calls a handler for each message. Made by `Client.push_consumer`."""

    def __init__(
        self, opening: Callable[[], _native.Operation[_native.PushConsumer]], handler: Handler
    ) -> None:
        super().__init__(opening)
        self._handler: Handler = _callable(handler, "handler")

    def _opened(self) -> None:
        self._work, fetching = Work(), Work()
        fetching.start(handle_tasks(self._handle, self._handler, self._work))
        # Without a close, it ends when nobody refers to it any more.
        weakref.finalize(self, self._handle.abandon)

    def pause(self) -> None:
        """Calls no more handlers, and receives nothing, until `resume`. Handlers that run go on."""
        self._handle.pause()

    def resume(self) -> None:
        """Goes on after a `pause`."""
        self._handle.resume()

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._handle.is_paused()

    async def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Gives back what no handler has begun, waits up to `deadline` (default 20 s) for handlers that run, and cancels
        those that run longer."""
        try:
            return await super().close(deadline)
        finally:
            self._work.cancel()


def _callable(given: Any, name: str) -> Any:
    if not callable(given):
        raise TypeError(f"{name} must be a function, got {type(given).__name__}")
    return given
