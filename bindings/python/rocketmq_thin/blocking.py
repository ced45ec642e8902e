"""The blocking face of the client. Any number of threads may share what is here."""

from __future__ import annotations

from typing import Any, Generic, Iterable, Optional, TypeVar, Union

from . import _native
from ._native import Delivery, run
from .errors import Error
from .values import CloseReport, Credentials, Message, Receipt, Seconds, Subscriptions, Tls

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer)
_H = TypeVar("_H", bound="_Handle[Any]")


class _Handle(Generic[_N]):
    """What is closed once, by `with` or `close`."""

    def __init__(self, opening: _native.Operation[_N]) -> None:
        self._handle: _N = run(opening)

    def __enter__(self: _H) -> _H:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Takes no more calls, and waits at most `deadline` for what is under way. See the report."""
        return run(self._handle.close(deadline))


class Client(_Handle[_native.Client]):
    """A way to one RocketMQ service, for any number of producers and consumers."""

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
        """Connects; any one endpoint that answers is enough.

        Args:
            endpoints: The addresses of one service, separated by `,` or `;`: `host:port`, `host` (port 8081),
                `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on.
            namespace: The namespace of every topic and group.
            credentials: Who we are to a server that asks.
            tls: Encrypted connections, and whom to trust.
            request_timeout: How long one attempt waits for its answer.
            operation_timeout: How long a call may take, all attempts and pauses together.
            startup_timeout: How long connecting and making a producer or consumer may take.
            max_attempts: The most attempts of one call; 1 never repeats.
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
        topics: Iterable[str] = (),
        *,
        max_in_flight_messages: Optional[int] = None,
        max_in_flight_bytes: Optional[int] = None,
    ) -> Producer:
        """A producer, after a check that `topics` exist. Other topics may be sent to as well."""
        return Producer(
            self._handle.producer(
                topics=list(topics),
                max_in_flight_messages=max_in_flight_messages,
                max_in_flight_bytes=max_in_flight_bytes,
            )
        )

    def simple_consumer(
        self, group: str, subscriptions: Subscriptions, *, max_body_size: Optional[int] = None
    ) -> SimpleConsumer:
        """A consumer in `group` of the topics in `subscriptions`: `{"orders": Tags("new"), "bills": None}`."""
        return SimpleConsumer(self._handle.simple_consumer(group, subscriptions, max_body_size=max_body_size))


class Producer(_Handle[_native.Producer]):
    """Sends messages."""

    def send(self, message: Message) -> Receipt:
        """Sends one message and waits until the server has stored it."""
        return run(self._handle.send(message))

    def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends many; a receipt or an error for each, in their order."""
        return run(self._handle.send_all(list(messages)))


class SimpleConsumer(_Handle[_native.SimpleConsumer]):
    """Receives messages, one call at a time, and settles them."""

    def receive(
        self,
        *,
        max_messages: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        await_duration: Optional[Seconds] = None,
    ) -> list[Delivery]:
        """Waits up to `await_duration` for messages, which are hidden from others for `invisible_duration`.

        None in time is an empty list.
        """
        return run(
            self._handle.receive(
                max_messages=max_messages,
                invisible_duration=invisible_duration,
                await_duration=await_duration,
            )
        )

    def ack(self, delivery: Delivery) -> None:
        """Tells the server that a delivery is done with."""
        run(self._handle.ack(delivery))

    def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acks many; `None` or an error for each, in their order."""
        return run(self._handle.ack_all(list(deliveries)))

    def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from others for `duration` from now; zero gives it back at once."""
        run(self._handle.change_invisible(delivery, duration))
