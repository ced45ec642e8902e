"""The blocking API of the client. Clients, producers and consumers may be shared by any number of threads."""

from __future__ import annotations

from typing import Iterable, Iterator, Optional, Union

from . import _native
from ._blocking_consumers import Messages, PushConsumer, SimpleConsumer
from ._closeable import Closeable
from ._fork import fork_count
from ._handler_threads import Checker, Handler, Provider, answer_checks, provide_credentials, require_plain_function, start
from ._native import run
from ._observers import Observers
from .errors import Error
from .interceptor import Interceptor
from .values import (
    CloseReport,
    Credentials,
    Duration,
    Health,
    Message,
    Metric,
    Names,
    Receipt,
    Startup,
    Subscriptions,
    Tls,
)

__all__ = ["Client", "Messages", "Producer", "PushConsumer", "SimpleConsumer", "Transaction"]


class Client(Closeable[_native.Client]):
    """A client of one RocketMQ service, for any number of producers and consumers."""

    def __init__(
        self,
        endpoints: str,
        *,
        namespace: Optional[str] = None,
        credentials: Union[Credentials, Provider, None] = None,
        tls: Optional[Tls] = None,
        startup: Optional[Startup] = None,
        request_timeout: Optional[Duration] = None,
        operation_timeout: Optional[Duration] = None,
        startup_timeout: Optional[Duration] = None,
        max_attempts: Optional[int] = None,
        initial_retry_delay: Optional[Duration] = None,
        max_retry_delay: Optional[Duration] = None,
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
            initial_retry_delay: The limit of the delay before the second attempt. Delays are random, below a limit that
                doubles with each attempt. Default: 20 ms.
            max_retry_delay: The maximum of that limit. Default: 1 s.
            interceptors: Their functions are called before and after each send, receive and settlement. Default: none.
        """
        self._observers = Observers(interceptors)
        # Those that are not closed.
        self._push_consumers: set[PushConsumer] = set()
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
            initial_retry_delay=initial_retry_delay,
            max_retry_delay=max_retry_delay,
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
                delivered as `corrupted`. It also limits the total size of the bodies of one response that are decompressed
                when they arrive. The other ones are decompressed when they are handed out, and `receive` returns each of
                them alone. Default: 64 MiB.
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
        invisible_duration: Optional[Duration] = None,
        max_rate: Optional[float] = None,
        max_body_size: Optional[int] = None,
    ) -> PushConsumer:
        """Creates a consumer that calls `handler` for each message, in threads, until it or this client is closed.

        It also ends, with a warning, when the program has dropped both.

        Args:
            group: The consumer group. Its members share the messages.
            subscriptions: As for `simple_consumer`.
            handler: Handles one message. If it returns `None`, the message is acknowledged. If it raises, the message is
                delivered again: `Retry` says when. `DeadLetter` moves it to the dead-letter topic instead. An exception
                that is returned, such as `Retry(10)`, counts as raised. Any other return value is a mistake, such as a
                coroutine that was not awaited: a `TypeError` is logged, and the message is delivered again.
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
            self._push_consumers,
        )


class Producer(Closeable[_native.Producer]):
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
        """Sends one message and waits until the server has stored it.

        Raises:
            errors.InvalidArgument: Fields of the message contradict each other.
            errors.TypeMismatch: The topic does not accept messages of this type.
            errors.Error: The server refuses the message, or the last failure if there is no answer within
                `operation_timeout`. If `maybe_delivered` is set, the message may be stored.
        """
        message = self._observers.sending(message)
        with self._observers.sent(message) as done:
            return done(run(self._native.send(message)))

    def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends several messages. Returns a receipt or an error for each, in the order of the messages."""
        messages = self._observers.sending_all(messages)
        with self._observers.all_sent(messages) as done:
            return done(run(self._native.send_all(messages)))

    def recall(self, receipt: Receipt) -> str:
        """Recalls a delayed message before it is delivered. Returns the message id.

        Raises:
            errors.InvalidArgument: The receipt has no recall handle.
            errors.Error: The server refuses, for example because it is too late.
        """
        return run(self._native.recall(receipt))

    def recall_by_handle(self, topic: str, handle: str) -> str:
        """Recalls a delayed message by its topic and the recall handle of its receipt. Returns the message id.

        Raises the same errors as `recall`.
        """
        return run(self._native.recall_by_handle(topic, handle))

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
        """Sends a message that is delivered once the transaction is committed.

        Raises the same errors as `Producer.send`.
        """
        message = self._observers.sending(message)
        with self._observers.sent(message) as done:
            return done(run(self._native.send(message)))

    def commit(self) -> None:
        """Commits: the messages are delivered.

        Raises:
            errors.InvalidArgument: The transaction is already decided.
            errors.Closed: Its producer is closed.
            errors.Error: The server did not accept the commit, which may be repeated. It also asks the checkers.
        """
        self._decided = True
        run(self._native.commit())

    def rollback(self) -> None:
        """Rolls back: the messages are dropped. Raises the same errors as `commit`."""
        self._decided = True
        run(self._native.rollback())

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        # In a forked child, an inherited transaction is left to the parent.
        if not self._decided and self._forks == fork_count():
            self.commit() if kind is None else self.rollback()
