"""The blocking API of the client. Clients, producers and consumers may be shared by any number of threads."""

from __future__ import annotations

import weakref
from typing import Any, Generic, Iterable, Iterator, Optional, TypeVar, Union

from . import _native
from ._fork import forks
from ._native import Delivery, run
from ._observers import Observers
from ._threads import Checker, Handler, Provider, answer_checks, handle_tasks, plain, provide_credentials, start
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
_H = TypeVar("_H", bound="_Handle[Any]")


class _Handle(Generic[_N]):
    """What is closed by `with` or `close`."""

    def __init__(self, opening: _native.Operation[_N], shown: str) -> None:
        self._forks, self._shown = forks(), shown
        self._handle: _N = run(opening)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._shown}>"

    def __enter__(self: _H) -> _H:
        return self

    def __exit__(self, *_: object) -> None:
        # In a forked child it belongs to the parent.
        if self._forks == forks():
            self.close()

    def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Takes no more calls and waits up to `deadline` (default 20 s) for calls that are running."""
        return run(self._handle.close(deadline))


class Client(_Handle[_native.Client]):
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
            namespace: The namespace of every topic and group. Default: none.
            credentials: The access key for a server that requires one, or a function that provides it: it is called
                before connecting, before the credentials expire, and after a server has refused them. Default: none.
            tls: Encrypts connections, and says which certificates to trust. Default: plaintext, or for
                `https://` endpoints TLS with the certificate authorities that the system trusts.
            startup: "eager": connecting fails at once if nobody listens. "wait": it waits for a server that is not there
                yet, up to `startup_timeout`. "lazy": nothing waits for a server but the calls that need one.
                Default: "eager".
            request_timeout: How long one attempt waits for its response. Default: 3 s.
            operation_timeout: How long a call may take, including all attempts and pauses. Default: 10 s.
            startup_timeout: How long connecting, or making a producer or consumer, may take. Default: 10 s.
            max_attempts: The maximum number of attempts of one call. With 1, a request that a server may have received is
                not repeated. Default: 16.
            interceptors: They are called before and after each send, receive and settlement. Default: none.
        """
        self._observers = Observers(interceptors)
        provider = plain(credentials, "credentials") if callable(credentials) else None
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
            # The thread ends with the client, or if the client can't connect.
            start(provide_credentials, requests, provider)
        super().__init__(opening, f"endpoints={endpoints}")

    def health(self) -> Health:
        """Whether the servers can be reached, as the latest calls and heartbeats have shown."""
        return self._handle.health()

    def metrics(self) -> list[Metric]:
        """Everything that the client has counted since it was made."""
        return self._handle.metrics()

    def status_changes(self) -> Iterator[Health]:
        """The present health, then the health after each change of its status, until the client is closed."""
        changes = self._handle.status_changes()
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
        """Makes a producer, after a check that `topics` exist. A lazy client leaves the check to the first send.

        Args:
            topics: One topic or several; the producer may send to others, too. Default: none.
            max_in_flight_messages: The maximum number of messages being sent; further sends wait. Default: 4096.
            max_in_flight_bytes: The maximum size of the bodies being sent; further sends wait. Default: 64 MiB.
            compress_above: Bodies larger than this, in bytes, are compressed. Default: none are.
            checker: Decides about transactions that were neither committed nor rolled back in time, also those of
                other producers of the topics, and of processes that have died: so it looks at durable state. If it
                raises, or returns `Decision.UNKNOWN`, the server asks again. Default: none.
        """
        if checker is not None:
            plain(checker, "checker")
        return Producer(
            self._handle.producer(
                topics=topics,
                max_in_flight_messages=max_in_flight_messages,
                max_in_flight_bytes=max_in_flight_bytes,
                compress_above=compress_above,
            ),
            self._shown,
            checker,
            self._observers,
        )

    def simple_consumer(
        self, group: str, subscriptions: Subscriptions, *, max_body_size: Optional[int] = None
    ) -> SimpleConsumer:
        """Makes a consumer, after a check that the topics exist. A lazy client leaves the check to the first receive.

        Args:
            group: The consumer group; its members share the messages.
            subscriptions: One topic or several, or a mapping with a filter for each topic:
                `{"orders": Tags("new"), "bills": None}`. All members of a group must subscribe to the same.
            max_body_size: The maximum size of a body after decompression, in bytes; a message with a larger one
                is delivered as `corrupted`. Default: 64 MiB.
        """
        opening = self._handle.simple_consumer(group, subscriptions, max_body_size=max_body_size)
        return SimpleConsumer(opening, self._shown, group, self._observers)

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
        """Makes a consumer that calls `handler` for each message, in threads, until it is closed.

        Args:
            group: The consumer group; its members share the messages.
            subscriptions: As for `simple_consumer`.
            handler: Handles one message. When it returns, the message is acknowledged, whatever it returns. When it
                raises, the message is delivered again: `Retry` says when, `DeadLetter` sends it to the dead-letter
                topic instead. An exception that is returned, such as `Retry(10)`, counts as raised; one of their
                classes without `()` is taken for a mistake, which is logged, and the message is delivered again.
            concurrency: How many messages are handled at the same time, each in a thread. Default: 20.
            max_cached_messages: How many messages are held, waiting or being handled. Default: 4096.
            max_cached_bytes: The size of their bodies above which nothing is received. Default: 64 MiB.
            invisible_duration: The length of a lease, which is renewed while a message waits or is handled.
                Default: 60 s.
            max_rate: How many messages a second are handled at most. Default: no limit.
            max_body_size: As for `simple_consumer`. Default: 64 MiB.
        """
        plain(handler, "handler")
        return PushConsumer(
            self._handle.push_consumer(
                group,
                subscriptions,
                concurrency=concurrency,
                max_cached_messages=max_cached_messages,
                max_cached_bytes=max_cached_bytes,
                invisible_duration=invisible_duration,
                max_rate=max_rate,
                max_body_size=max_body_size,
            ),
            self._shown,
            group,
            handler,
            self._observers,
        )


class Producer(_Handle[_native.Producer]):
    """Sends messages. Made by `Client.producer`."""

    def __init__(
        self,
        opening: _native.Operation[_native.Producer],
        shown: str,
        checker: Optional[Checker],
        observers: Observers,
    ) -> None:
        self._observers = observers
        super().__init__(opening, shown)
        if checker is not None:
            # The thread ends with the producer.
            start(answer_checks, self._handle.orphan_checks(), checker)

    def send(self, message: Message) -> Receipt:
        """Sends one message and waits until the server has stored it."""
        message = self._observers.sending(message)
        with self._observers.sent(message) as done:
            return done(run(self._handle.send(message)))

    def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends many messages. Returns a receipt or an error for each, in their order."""
        messages = self._observers.sending_all(messages)
        results = run(self._handle.send_all(messages))
        self._observers.all_sent(messages, results)
        return results

    def recall(self, receipt: Receipt) -> str:
        """Takes back a delayed message before its time. Returns its message id.

        Raises `errors.InvalidArgument` for a receipt without a recall handle, and what the server says if it is too
        late.
        """
        return run(self._handle.recall(receipt))

    def begin(self) -> Transaction:
        """Begins a transaction: `with producer.begin() as transaction:`. Nothing is sent yet."""
        return Transaction(self._handle.begin(), self._observers)


class Transaction:
    """Messages that are delivered together with a local change, or not at all. Made by `Producer.begin`.

    As a context manager it is committed at the end of the block, and rolled back if the block raises. If it is dropped
    without a decision, or the process dies, the server keeps its messages hidden and asks the checkers of the topic's
    producers, of any process; see `Client.producer`.
    """

    def __init__(self, native: _native.Transaction, observers: Observers) -> None:
        self._native, self._observers = native, observers
        self._decided, self._forks = False, forks()

    def send(self, message: Message) -> Receipt:
        """Sends a message that is delivered once the transaction is committed."""
        message = self._observers.sending(message)
        with self._observers.sent(message) as done:
            return done(run(self._native.send(message)))

    def commit(self) -> None:
        """Has the messages delivered. A second decision raises `errors.InvalidArgument`."""
        self._decided = True
        run(self._native.commit())

    def rollback(self) -> None:
        """Has the messages dropped. A second decision raises `errors.InvalidArgument`."""
        self._decided = True
        run(self._native.rollback())

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        # If it belongs to the parent of a forked child, the parent decides.
        if not self._decided and self._forks == forks():
            self.commit() if kind is None else self.rollback()


class _LiteConsumer(_Handle[_C]):
    """What consumers of lite topics do."""

    def subscribe_lite(self, lite_topic: str) -> None:
        """Subscribes to a lite topic. The consumer was made with `Lite(topic)`."""
        run(self._handle.subscribe_lite(lite_topic))

    def unsubscribe_lite(self, lite_topic: str) -> None:
        """Ends the subscription of a lite topic."""
        run(self._handle.unsubscribe_lite(lite_topic))

    def lite_topics(self) -> list[str]:
        """The lite topics that it is subscribed to."""
        return self._handle.lite_topics()

    def lite_revocations(self) -> Iterator[str]:
        """The lite topics whose subscription the server ends from now on, until the consumer is closed."""
        revocations = self._handle.lite_revocations()
        while (lite_topic := run(revocations.next())) is not None:
            yield lite_topic


class SimpleConsumer(_LiteConsumer[_native.SimpleConsumer]):
    """Receives messages on request and acknowledges them. Made by `Client.simple_consumer`."""

    def __init__(
        self, opening: _native.Operation[_native.SimpleConsumer], shown: str, group: str, observers: Observers
    ) -> None:
        self._group, self._observers = group, observers
        super().__init__(opening, f"group={group} {shown}")

    def receive(
        self,
        *,
        max_messages: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        await_duration: Optional[Seconds] = None,
    ) -> list[Delivery]:
        """Waits for messages. Returns an empty list if nothing arrives in time.

        Args:
            max_messages: The maximum number of messages, 1 or more; servers return at most 32. Default: 32.
            invisible_duration: How long the messages are hidden from other consumers before they are delivered
                again; servers allow 10 s to 12 h. Default: 30 s.
            await_duration: How long to wait for the first message. With 0, it returns what has arrived already, and what
                comes then goes to a later receive. Default: 20 s.
        """
        operation = self._handle.receive(
            max_messages=max_messages,
            invisible_duration=invisible_duration,
            await_duration=await_duration,
        )
        with self._observers.receiving(self._group) as done:
            return done(run(operation))

    def ack(self, delivery: Delivery) -> None:
        """Acknowledges a delivery: the message is processed and is not delivered to this group again."""
        with self._observers.settling(self._group, delivery, "ack"):
            run(self._handle.ack(delivery))

    def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acknowledges many deliveries. Returns `None` or an error for each, in their order."""
        deliveries = self._observers.settling_all(self._group, deliveries, "ack")
        results = run(self._handle.ack_all(deliveries))
        self._observers.all_settled(self._group, deliveries, "ack", results)
        return results

    def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from other consumers for `duration` from now. Zero gives it back at once."""
        with self._observers.settling(self._group, delivery, "change_invisible"):
            run(self._handle.change_invisible(delivery, duration))

    def nack(self, delivery: Delivery, after: Seconds) -> None:
        """Returns a delivery that could not be processed: it comes again after this time, as a further attempt."""
        with self._observers.settling(self._group, delivery, "retry"):
            run(self._handle.nack(delivery, after))

    def dead_letter(self, delivery: Delivery) -> None:
        """Gives up on a delivery: it moves to the dead-letter topic of the group, `%DLQ%` and the name of the group."""
        with self._observers.settling(self._group, delivery, "dead_letter"):
            run(self._handle.dead_letter(delivery))

    def keep_lease(self, delivery: Delivery, max: Seconds) -> None:
        """Keeps a delivery hidden from other consumers until it is settled or dropped, for at most `max`.

        Returns at once; the lease is renewed in the background. See `Delivery.is_lease_lost`.
        """
        self._handle.keep_lease(delivery, max)

    def subscribe(self, topic: str, filter: Union[Tags, Sql, None] = None) -> None:
        """Subscribes to one more topic, or changes the filter of one. `None` stands for all messages."""
        run(self._handle.subscribe(topic, filter))

    def unsubscribe(self, topic: str) -> None:
        """Ends the subscription of a topic. What was received of it can still be settled."""
        run(self._handle.unsubscribe(topic))

    def messages(
        self,
        *,
        max_messages: Optional[int] = None,
        max_bytes: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
    ) -> Messages:
        """Fetches messages ahead: `for delivery in consumer.messages():`.

        Args:
            max_messages: The maximum number of messages that wait. Default: 128.
            max_bytes: The size of their bodies above which nothing more is fetched. Default: 64 MiB.
            invisible_duration: As for `receive`; the leases of messages that wait are kept. Default: 30 s.
        """
        native = self._handle.messages(
            max_messages=max_messages, max_bytes=max_bytes, invisible_duration=invisible_duration
        )
        return Messages(native, self._group, self._observers)


class Messages:
    """Deliveries, fetched ahead. Made by `SimpleConsumer.messages`.

    Leaving the loop, and dropping this object, gives back what was not handed out. A refusal by the server is raised;
    the next iteration goes on. It ends when it, or its consumer, is closed.
    """

    def __init__(self, native: _native.Messages, group: str, observers: Observers) -> None:
        self._native, self._group, self._observers = native, group, observers
        self._forks = forks()

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
        """Ends it, and gives back what was not handed out."""
        run(self._native.close())

    def __enter__(self) -> Messages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._forks == forks():
            self.close()


class PushConsumer(_LiteConsumer[_native.PushConsumer]):
    """Calls a handler for each message. Made by `Client.push_consumer`."""

    def __init__(
        self,
        opening: _native.Operation[_native.PushConsumer],
        shown: str,
        group: str,
        handler: Handler,
        observers: Observers,
    ) -> None:
        super().__init__(opening, f"group={group} {shown}")
        start(handle_tasks, self._handle, group, handler, observers)
        # Without a close, it ends when nobody refers to it any more.
        weakref.finalize(self, self._handle.abandon)

    def pause(self) -> None:
        """Calls no more handlers, and receives nothing, until `resume`. Handlers that run go on.

        Messages that wait for a handler stay here, and their leases are kept: other members of the group do not get them.
        `close` gives them back.
        """
        self._handle.pause()

    def resume(self) -> None:
        """Goes on after a `pause`."""
        self._handle.resume()

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._handle.is_paused()

    def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Gives back what no handler has begun, and waits up to `deadline` (default 20 s) for handlers that run. Those
        that run longer can't be ended; their messages are delivered again. A handler should not close its own consumer,
        which waits for the handler."""
        return super().close(deadline)
