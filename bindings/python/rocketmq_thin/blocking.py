"""The blocking API of the client. Clients, producers and consumers may be shared by any number of threads."""

from __future__ import annotations

from typing import Any, Generic, Iterable, Optional, TypeVar, Union

from . import _native
from ._native import Delivery, run
from .errors import Error
from .values import CloseReport, Credentials, Message, Names, Receipt, Seconds, Subscriptions, Tls

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer)
_H = TypeVar("_H", bound="_Handle[Any]")


class _Handle(Generic[_N]):
    """What is closed by `with` or `close`."""

    def __init__(self, opening: _native.Operation[_N]) -> None:
        self._handle: _N = run(opening)

    def __enter__(self: _H) -> _H:
        return self

    def __exit__(self, *_: object) -> None:
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
        credentials: Optional[Credentials] = None,
        tls: Optional[Tls] = None,
        request_timeout: Optional[Seconds] = None,
        operation_timeout: Optional[Seconds] = None,
        startup_timeout: Optional[Seconds] = None,
        max_attempts: Optional[int] = None,
    ) -> None:
        """Connects to one of the endpoints.

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
            _native.connect(
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
    ) -> Producer:
        """Makes a producer, after a check that `topics` exist.

        Args:
            topics: One topic or several; the producer may send to others, too. Default: none.
            max_in_flight_messages: The maximum number of messages being sent; further sends wait. Default: 4096.
            max_in_flight_bytes: The maximum size of the bodies being sent; further sends wait. Default: 64 MiB.
        """
        return Producer(
            self._handle.producer(
                topics=topics,
                max_in_flight_messages=max_in_flight_messages,
                max_in_flight_bytes=max_in_flight_bytes,
            )
        )

    def simple_consumer(
        self, group: str, subscriptions: Subscriptions, *, max_body_size: Optional[int] = None
    ) -> SimpleConsumer:
        """Makes a consumer, after a check that the topics exist.

        Args:
            group: The consumer group; its members share the messages.
            subscriptions: One topic or several, or a mapping with a filter for each topic:
                `{"orders": Tags("new"), "bills": None}`. All members of a group must subscribe to the same.
            max_body_size: The maximum size of a body after decompression, in bytes; a message with a larger one
                is delivered as `corrupted`. Default: 64 MiB.
        """
        return SimpleConsumer(self._handle.simple_consumer(group, subscriptions, max_body_size=max_body_size))


class Producer(_Handle[_native.Producer]):
    """Sends messages. Made by `Client.producer`."""

    def send(self, message: Message) -> Receipt:
        """Sends one message and waits until the server has stored it."""
        return run(self._handle.send(message))

    def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends many messages. Returns a receipt or an error for each, in their order."""
        return run(self._handle.send_all(messages))


class SimpleConsumer(_Handle[_native.SimpleConsumer]):
    """Receives messages on request and acknowledges them. Made by `Client.simple_consumer`."""

    def receive(
        self,
        *,
        max_messages: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        await_duration: Optional[Seconds] = None,
    ) -> list[Delivery]:
        """Waits for messages. Returns an empty list if nothing arrives in time.

        Args:
            max_messages: The maximum number of messages; servers return at most 32. Default: 32.
            invisible_duration: How long the messages are hidden from other consumers before they are delivered
                again; servers allow 10 s to 12 h. Default: 30 s.
            await_duration: How long to wait for the first message; servers wait 5 s to 20 s. Default: 20 s.
        """
        return run(
            self._handle.receive(
                max_messages=max_messages,
                invisible_duration=invisible_duration,
                await_duration=await_duration,
            )
        )

    def ack(self, delivery: Delivery) -> None:
        """Acknowledges a delivery: the message is processed and is not delivered to this group again."""
        run(self._handle.ack(delivery))

    def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acknowledges many deliveries. Returns `None` or an error for each, in their order."""
        return run(self._handle.ack_all(deliveries))

    def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from other consumers for `duration` from now. Zero gives it back at once."""
        run(self._handle.change_invisible(delivery, duration))
