"""The blocking API of the client. Clients, producers and consumers may be shared by any number of threads."""

from __future__ import annotations

import weakref
from typing import Any, Generic, Iterable, Iterator, Optional, TypeVar, Union

from . import _native
from ._fork import fork_count
from ._native import Delivery, run
from ._observers import Observers
from ._threads import Checker, Handler, Provider, answer_checks, handle_tasks, provide_credentials
from ._threads import require_plain_function, start
from .errors import Error
from .interceptor import Interceptor
from .values import (
    CloseReport,
    Credentials,
    Health,
    Message,
    Metric,
    Names,
    Receipt,
    Seconds,
    Sql,
    Startup,
    Subscriptions,
    Tags,
    Tls,
)

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer, _native.PushConsumer)
_C = TypeVar("_C", _native.SimpleConsumer, _native.PushConsumer)
_H = TypeVar("_H", bound="_Closeable[Any]")


class _Closeable(Generic[_N]):
    """The base class of objects that `with` or `close` closes."""

    def __init__(self, opening: _native.Operation[_N], description: str) -> None:
        self._forks, self._description = fork_count(), description
        self._native: _N = run(opening)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._description}>"

    def __enter__(self: _H) -> _H:
        return self

    def __exit__(self, *_: object) -> None:
        # In a forked child, an inherited object is left to the parent.
        if self._forks == fork_count():
            self.close()

    def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Accepts no more calls, and waits up to `deadline` (default 20 s) for running calls."""
        return run(self._native.close(deadline))


class Client(_Closeable[_native.Client]):
    """A client of one RocketMQ service, for any number of producers and consumers."""

    def __init__(
        self,
        endpoints: str,
        *,
        namespace: Optional[str] = None,
        credentials: Union[Credentials, Provider, None] = None,
        tls: Optional[Tls] = None,
        startup: Optional[Startup] = None,
        request_timeout: Optional[Seconds] = None,
        operation_timeout: Optional[Seconds] = None,
        startup_timeout: Optional[Seconds] = None,
        max_attempts: Optional[int] = None,
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        """Connects to one of the endpoints.

        Args:
            endpoints: The addresses of one service, separated by `,` or `;`. Each is `host:port`, `host` (port
                8081), `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on.
            namespace: The namespace of all topics and groups. Default: none.
            credentials: The access key for a server that requires one, or a function that provides it, which is called
                before connecting, before the credentials expire, and after a server has refused them. Default: none.
            tls: Encrypts connections, and decides which certificates are trusted. Default: plaintext, or for
                `https://` endpoints TLS with the certificate authorities that the system trusts.
            startup: "eager": connecting fails at once if no server listens. "wait": connecting waits for a server, at
                most `startup_timeout`. "lazy": only calls that need a server wait for it. Default: "eager".
            request_timeout: How long one attempt waits for its response. Default: 3 s.
            operation_timeout: How long a call may take, including all attempts and delays. Default: 10 s.
            startup_timeout: How long connecting, or creating a producer or consumer, may take. Default: 10 s.
            max_attempts: The maximum number of attempts of one call. With 1, a request that a server may have received
                is never repeated. Default: 16.
            interceptors: Their functions are called before and after each send, receive and settlement. Default: none.
        """
        self._observers = Observers(interceptors)
        provider = require_plain_function(credentials, "credentials") if callable(credentials) else None
        requests = _native.CredentialRequests() if provider is not None else None
        opening = _native.connect(
            endpoints,
            requests,
            namespace=namespace,
            credentials=credentials if requests is None else None,
            tls=tls,
            startup=startup,
            request_timeout=request_timeout,
            operation_timeout=operation_timeout,
            startup_timeout=startup_timeout,
            max_attempts=max_attempts,
        )
        if requests is not None:
            # The thread ends when the client is closed, or fails to connect.
            start(provide_credentials, requests, provider)
        super().__init__(opening, f"endpoints={endpoints}")

    def health(self) -> Health:
        """Returns whether the servers can be reached, according to the latest calls and heartbeats."""
        return self._native.health()

    def metrics(self) -> list[Metric]:
        """Returns the metrics of the client since it was created."""
        return self._native.metrics()

    def status_changes(self) -> Iterator[Health]:
        """Yields the current health, and then the health after each status change, until the client is closed."""
        changes = self._native.status_changes()
        while (health := run(changes.next())) is not None:
            yield health

    def producer(
        self,
        topics: Names = (),
        *,
        max_in_flight_messages: Optional[int] = None,
        max_in_flight_bytes: Optional[int] = None,
        compress_above: Optional[int] = None,
        checker: Optional[Checker] = None,
    ) -> Producer:
        """Creates a producer, after a check that `topics` exist. With a lazy client, the first send checks them.

        Args:
            topics: One topic or several. The producer may send to other topics, too. Default: none.
            max_in_flight_messages: The maximum number of messages being sent. Further sends wait. Default: 4096.
            max_in_flight_bytes: The maximum size of the bodies being sent. Further sends wait. Default: 64 MiB.
            compress_above: Bodies larger than this, in bytes, are compressed. Default: no body is compressed.
            checker: Decides about transactions that were neither committed nor rolled back in time. They may be those
                of other producers of the topics, and of processes that have died, so the checker must read durable
                state. If it raises, or returns `Decision.UNKNOWN`, the server asks again. Default: none.
        """
        if checker is not None:
            require_plain_function(checker, "checker")
        return Producer(
            self._native.producer(
                topics=topics,
                max_in_flight_messages=max_in_flight_messages,
                max_in_flight_bytes=max_in_flight_bytes,
                compress_above=compress_above,
            ),
            self._description,
            checker,
            self._observers,
        )

    def simple_consumer(
        self, group: str, subscriptions: Subscriptions, *, max_body_size: Optional[int] = None
    ) -> SimpleConsumer:
        """Creates a consumer, after a check that the topics exist. With a lazy client, the first receive checks them.

        Args:
            group: The consumer group. Its members share the messages.
            subscriptions: One topic or several, or a mapping with a filter for each topic:
                `{"orders": Tags("new"), "bills": None}`. They must be the same in all members of a group.
            max_body_size: The maximum size of a body after decompression, in bytes. A message with a larger body is
                delivered as `corrupted`. Default: 64 MiB.
        """
        opening = self._native.simple_consumer(group, subscriptions, max_body_size=max_body_size)
        return SimpleConsumer(opening, self._description, group, self._observers)

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
        """Creates a consumer that calls `handler` for each message, in threads, until it is closed.

        Args:
            group: The consumer group. Its members share the messages.
            subscriptions: As for `simple_consumer`.
            handler: Handles one message. If it returns, the message is acknowledged, whatever the return value. If it
                raises, the message is delivered again: `Retry` says when. `DeadLetter` moves it to the dead-letter
                topic instead. An exception that is returned, such as `Retry(10)`, counts as raised. An exception class
                that is returned is treated as a mistake: it is logged, and the message is delivered again.
            concurrency: The maximum number of messages that are handled at the same time, in threads. Default: 20.
            max_cached_messages: The maximum number of messages that wait or are being handled. Default: 4096.
            max_cached_bytes: The maximum size of their bodies. Above it, receiving pauses. Default: 64 MiB.
            invisible_duration: The duration of a lease, which is renewed while a message waits or is handled.
                Default: 60 s.
            max_rate: The maximum number of messages that are handled per second. Default: no limit.
            max_body_size: As for `simple_consumer`. Default: 64 MiB.
        """
        require_plain_function(handler, "handler")
        return PushConsumer(
            self._native.push_consumer(
                group,
                subscriptions,
                concurrency=concurrency,
                max_cached_messages=max_cached_messages,
                max_cached_bytes=max_cached_bytes,
                invisible_duration=invisible_duration,
                max_rate=max_rate,
                max_body_size=max_body_size,
            ),
            self._description,
            group,
            handler,
            self._observers,
        )


class Producer(_Closeable[_native.Producer]):
    """Sends messages. Created by `Client.producer`."""

    def __init__(
        self,
        opening: _native.Operation[_native.Producer],
        description: str,
        checker: Optional[Checker],
        observers: Observers,
    ) -> None:
        self._observers = observers
        super().__init__(opening, description)
        if checker is not None:
            # The thread ends when the producer is closed.
            start(answer_checks, self._native.orphan_checks(), checker)

    def send(self, message: Message) -> Receipt:
        """Sends one message and waits until the server has stored it."""
        message = self._observers.sending(message)
        with self._observers.sent(message) as done:
            return done(run(self._native.send(message)))

    def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends several messages. Returns a receipt or an error for each, in the order of the messages."""
        messages = self._observers.sending_all(messages)
        results = run(self._native.send_all(messages))
        self._observers.all_sent(messages, results)
        return results

    def recall(self, receipt: Receipt) -> str:
        """Recalls a delayed message before it is delivered. Returns the message id.

        Raises `errors.InvalidArgument` for a receipt without a recall handle, and the server's error if it is too late.
        """
        return run(self._native.recall(receipt))

    def begin(self) -> Transaction:
        """Begins a transaction: `with producer.begin() as transaction:`. Nothing is sent yet."""
        return Transaction(self._native.begin(), self._observers)


class Transaction:
    """Messages that are delivered together with a local change, or not at all. Created by `Producer.begin`.

    As a context manager, it commits at the end of the block, and rolls back if the block raises. If it is dropped
    without a decision, or the process dies, the server keeps its messages hidden and asks the checkers of the topic's
    producers in any process; see `Client.producer`.
    """

    def __init__(self, native: _native.Transaction, observers: Observers) -> None:
        self._native, self._observers = native, observers
        self._decided, self._forks = False, fork_count()

    def send(self, message: Message) -> Receipt:
        """Sends a message that is delivered once the transaction is committed."""
        message = self._observers.sending(message)
        with self._observers.sent(message) as done:
            return done(run(self._native.send(message)))

    def commit(self) -> None:
        """Commits: the messages are delivered. A second decision raises `errors.InvalidArgument`."""
        self._decided = True
        run(self._native.commit())

    def rollback(self) -> None:
        """Rolls back: the messages are dropped. A second decision raises `errors.InvalidArgument`."""
        self._decided = True
        run(self._native.rollback())

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        # In a forked child, an inherited transaction is left to the parent.
        if not self._decided and self._forks == fork_count():
            self.commit() if kind is None else self.rollback()


class _LiteConsumer(_Closeable[_C]):
    """Methods of consumers of lite topics."""

    def subscribe_lite(self, lite_topic: str) -> None:
        """Subscribes to a lite topic. The consumer must have been created with `Lite(topic)`."""
        run(self._native.subscribe_lite(lite_topic))

    def unsubscribe_lite(self, lite_topic: str) -> None:
        """Ends the subscription of a lite topic."""
        run(self._native.unsubscribe_lite(lite_topic))

    def lite_topics(self) -> list[str]:
        """Returns the lite topics that the consumer is subscribed to."""
        return self._native.lite_topics()

    def lite_revocations(self) -> Iterator[str]:
        """Yields the lite topics whose subscription the server ends from now on, until the consumer is closed."""
        revocations = self._native.lite_revocations()
        while (lite_topic := run(revocations.next())) is not None:
            yield lite_topic


class SimpleConsumer(_LiteConsumer[_native.SimpleConsumer]):
    """Receives messages on request and acknowledges them. Created by `Client.simple_consumer`."""

    def __init__(
        self, opening: _native.Operation[_native.SimpleConsumer], description: str, group: str, observers: Observers
    ) -> None:
        self._group, self._observers = group, observers
        super().__init__(opening, f"group={group} {description}")

    def receive(
        self,
        *,
        max_messages: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        await_duration: Optional[Seconds] = None,
    ) -> list[Delivery]:
        """Waits for messages. Returns an empty list if nothing arrives in time.

        Args:
            max_messages: The maximum number of messages, 1 or more. Servers return at most 32. Default: 32.
            invisible_duration: How long the messages are hidden from other consumers before they are delivered
                again. Servers accept 10 s to 12 h. Default: 30 s.
            await_duration: How long to wait for the first message. With 0, the receive returns messages that have
                already arrived, and later messages go to a later receive. Default: 20 s.
        """
        operation = self._native.receive(
            max_messages=max_messages,
            invisible_duration=invisible_duration,
            await_duration=await_duration,
        )
        with self._observers.receiving(self._group) as done:
            return done(run(operation))

    def ack(self, delivery: Delivery) -> None:
        """Acknowledges a delivery: the message is processed and is not delivered to this group again."""
        with self._observers.settling(self._group, delivery, "ack"):
            run(self._native.ack(delivery))

    def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acknowledges several deliveries. Returns `None` or an error for each, in the order of the deliveries."""
        deliveries = self._observers.settling_all(self._group, deliveries, "ack")
        results = run(self._native.ack_all(deliveries))
        self._observers.all_settled(self._group, deliveries, "ack", results)
        return results

    def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from other consumers for `duration` from now. Zero makes it visible at once."""
        with self._observers.settling(self._group, delivery, "change_invisible"):
            run(self._native.change_invisible(delivery, duration))

    def nack(self, delivery: Delivery, after: Seconds) -> None:
        """Returns a delivery that could not be processed. It is delivered again after the time `after`."""
        with self._observers.settling(self._group, delivery, "retry"):
            run(self._native.nack(delivery, after))

    def dead_letter(self, delivery: Delivery) -> None:
        """Moves a delivery to the dead-letter topic, whose name is `%DLQ%` and the group's name."""
        with self._observers.settling(self._group, delivery, "dead_letter"):
            run(self._native.dead_letter(delivery))

    def keep_lease(self, delivery: Delivery, max: Seconds) -> None:
        """Keeps a delivery hidden from other consumers until it is settled or dropped, for at most `max`.

        Returns at once; the lease is renewed in the background. See `Delivery.is_lease_lost`.
        """
        self._native.keep_lease(delivery, max)

    def subscribe(self, topic: str, filter: Union[Tags, Sql, None] = None) -> None:
        """Subscribes to another topic, or changes the filter of a subscribed topic. `None` means all messages."""
        run(self._native.subscribe(topic, filter))

    def unsubscribe(self, topic: str) -> None:
        """Ends the subscription of a topic. Deliveries that were received from it can still be settled."""
        run(self._native.unsubscribe(topic))

    def messages(
        self,
        *,
        max_messages: Optional[int] = None,
        max_bytes: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
    ) -> Messages:
        """Fetches messages before the application takes them: `for delivery in consumer.messages():`.

        Args:
            max_messages: The maximum number of messages that wait. Default: 128.
            max_bytes: The maximum size of their bodies. Above it, fetching pauses. Default: 64 MiB.
            invisible_duration: As for `receive`. The leases of waiting messages are renewed. Default: 30 s.
        """
        native = self._native.messages(
            max_messages=max_messages, max_bytes=max_bytes, invisible_duration=invisible_duration
        )
        return Messages(native, self._group, self._observers)


class Messages:
    """A stream of deliveries, which fetches ahead. Created by `SimpleConsumer.messages`.

    Leaving the loop or dropping this object gives back deliveries that were not handed out. If the server refuses a
    receive, the error is raised, and the next iteration continues. The stream ends when it or its consumer is closed.
    """

    def __init__(self, native: _native.Messages, group: str, observers: Observers) -> None:
        self._native, self._group, self._observers = native, group, observers
        self._forks = fork_count()

    def __iter__(self) -> Messages:
        return self

    def __next__(self) -> Delivery:
        with self._observers.receiving(self._group) as received:
            batch = run(self._native.next_batch(1))
            received(batch or [])
        if batch is None:
            raise StopIteration
        return batch[0]

    def close(self) -> None:
        """Ends the stream, and gives back deliveries that were not handed out."""
        run(self._native.close())

    def __enter__(self) -> Messages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._forks == fork_count():
            self.close()


class PushConsumer(_LiteConsumer[_native.PushConsumer]):
    """Calls a handler for each message. Created by `Client.push_consumer`."""

    def __init__(
        self,
        opening: _native.Operation[_native.PushConsumer],
        description: str,
        group: str,
        handler: Handler,
        observers: Observers,
    ) -> None:
        super().__init__(opening, f"group={group} {description}")
        start(handle_tasks, self._native, group, handler, observers)
        # A consumer that is not closed ends when it is garbage-collected.
        weakref.finalize(self, self._native.abandon)

    def pause(self) -> None:
        """Calls no handlers, and receives nothing, until `resume`. Running handlers continue.

        Messages that wait for a handler stay in the client, and their leases are renewed: other members of the group do
        not get them. `close` gives them back.
        """
        self._native.pause()

    def resume(self) -> None:
        """Resumes receiving and handling after a `pause`."""
        self._native.resume()

    @property
    def is_paused(self) -> bool:
        """Whether the consumer is paused."""
        return self._native.is_paused()

    def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Gives back messages that no handler has begun, and waits up to `deadline` (default 20 s) for running
        handlers. Handlers that run longer can't be ended; their messages are delivered again. A handler must not close
        its own consumer, which waits for the handler."""
        return super().close(deadline)
