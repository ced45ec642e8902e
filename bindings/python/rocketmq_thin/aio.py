"""The asyncio face of the client: the words of `rocketmq_thin`, awaited.

    async with aio.Client("127.0.0.1:8081") as client:
        async with client.producer(topics=["orders"]) as producer:
            receipt = await producer.send(Message("orders", b"hello"))

A client, producer or consumer is opened by `async with`, which also closes it, or by `await`:
`producer = await client.producer()`. Cancelling a task cancels the operation that it awaits.
"""

from __future__ import annotations

from typing import Any, Generator, Generic, Iterable, Optional, TypeVar, Union

from . import _native
from ._loop import completions
from ._native import Delivery
from .errors import Error
from .values import CloseReport, Credentials, Message, Receipt, Seconds, Subscriptions, Tls

__all__ = ["Client", "Producer", "SimpleConsumer"]

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer)
_H = TypeVar("_H", bound="_Handle[Any]")


class _Handle(Generic[_N]):
    """What is opened once, by `await` or `async with`, and then belongs to the running loop."""

    _handle: _N

    def __init__(self, opening: _native.Operation[_N]) -> None:
        self._opening: Optional[_native.Operation[_N]] = opening

    def __getattr__(self, name: str) -> Any:
        if name in ("_handle", "_run"):
            raise RuntimeError(f"this {type(self).__name__} is not open: use `await` or `async with` on it first")
        raise AttributeError(name)

    async def _open(self: _H) -> _H:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            self._run = completions().run
            self._handle = await self._run(opening)
        return self

    def __await__(self: _H) -> Generator[Any, None, _H]:
        return self._open().__await__()

    async def __aenter__(self: _H) -> _H:
        return await self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Takes no more calls, and waits at most `deadline` for what is under way. See the report."""
        return await self._run(self._handle.close(deadline))


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
        """The options are those of `rocketmq_thin.Client`."""
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
        """A producer; opening it checks that `topics` exist. Other topics may be sent to as well."""
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

    async def send(self, message: Message) -> Receipt:
        """Sends one message and waits until the server has stored it."""
        return await self._run(self._handle.send(message))

    async def send_all(self, messages: Iterable[Message]) -> list[Union[Receipt, Error]]:
        """Sends many; a receipt or an error for each, in their order."""
        return await self._run(self._handle.send_all(list(messages)))


class SimpleConsumer(_Handle[_native.SimpleConsumer]):
    """Receives messages, one call at a time, and settles them."""

    async def receive(
        self,
        *,
        max_messages: Optional[int] = None,
        invisible_duration: Optional[Seconds] = None,
        await_duration: Optional[Seconds] = None,
    ) -> list[Delivery]:
        """Waits up to `await_duration` for messages, which are hidden from others for `invisible_duration`.

        None in time is an empty list.
        """
        return await self._run(
            self._handle.receive(
                max_messages=max_messages,
                invisible_duration=invisible_duration,
                await_duration=await_duration,
            )
        )

    async def ack(self, delivery: Delivery) -> None:
        """Tells the server that a delivery is done with."""
        await self._run(self._handle.ack(delivery))

    async def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acks many; `None` or an error for each, in their order."""
        return await self._run(self._handle.ack_all(list(deliveries)))

    async def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from others for `duration` from now; zero gives it back at once."""
        await self._run(self._handle.change_invisible(delivery, duration))
