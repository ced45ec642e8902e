"""The consumers of the asyncio API."""

from __future__ import annotations

import weakref
from typing import Any, AsyncIterator, Callable, Iterable, Optional, TypeVar, Union

from . import _native
from ._background import Handler, Work, handle_tasks
from ._fork import forks
from ._loop import run
from ._native import Delivery
from ._observers import Observers
from ._open import Handle, function
from .errors import Error
from .values import CloseReport, Seconds, Sql, Tags

_C = TypeVar("_C", _native.SimpleConsumer, _native.PushConsumer)


class _LiteConsumer(Handle[_C]):
    """What consumers of lite topics do."""

    async def subscribe_lite(self, lite_topic: str) -> None:
        """Subscribes to a lite topic. The consumer was made with `Lite(topic)`."""
        await run(self._handle.subscribe_lite(lite_topic))

    async def unsubscribe_lite(self, lite_topic: str) -> None:
        """Ends the subscription of a lite topic."""
        await run(self._handle.unsubscribe_lite(lite_topic))

    def lite_topics(self) -> list[str]:
        """The lite topics that it is subscribed to."""
        return self._handle.lite_topics()

    async def lite_revocations(self) -> AsyncIterator[str]:
        """The lite topics whose subscription the server ends from now on, until the consumer is closed."""
        revocations = self._handle.lite_revocations()
        while (lite_topic := await run(revocations.next())) is not None:
            yield lite_topic


class SimpleConsumer(_LiteConsumer[_native.SimpleConsumer]):
    """Receives messages on request and acknowledges them. Made by `Client.simple_consumer`."""

    def __init__(
        self,
        opening: Callable[[], _native.Operation[_native.SimpleConsumer]],
        shown: str,
        group: str,
        observers: Observers,
    ) -> None:
        super().__init__(opening, f"group={group} {shown}")
        self._group, self._observers = group, observers

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
            return done(await run(operation, self._handle.put_back))

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledges a delivery: the message is processed and is not delivered to this group again."""
        with self._observers.settling(self._group, delivery, "ack"):
            await run(self._handle.ack(delivery))

    async def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acknowledges many deliveries. Returns `None` or an error for each, in their order."""
        deliveries = self._observers.settling_all(self._group, deliveries, "ack")
        results = await run(self._handle.ack_all(deliveries))
        self._observers.all_settled(self._group, deliveries, "ack", results)
        return results

    async def change_invisible(self, delivery: Delivery, duration: Seconds) -> None:
        """Hides a delivery from other consumers for `duration` from now. Zero gives it back at once."""
        with self._observers.settling(self._group, delivery, "change_invisible"):
            await run(self._handle.change_invisible(delivery, duration))

    async def nack(self, delivery: Delivery, after: Seconds) -> None:
        """Returns a delivery that could not be processed: it comes again after this time, as a further attempt."""
        with self._observers.settling(self._group, delivery, "retry"):
            await run(self._handle.nack(delivery, after))

    async def dead_letter(self, delivery: Delivery) -> None:
        """Gives up on a delivery: it moves to the dead-letter topic of the group, `%DLQ%` and the name of the group."""
        with self._observers.settling(self._group, delivery, "dead_letter"):
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

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Delivery:
        with self._observers.receiving(self._group) as received:
            batch = await run(self._native.next_batch(1), self._put_back)
            received(batch or [])
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
        if self._forks == forks():
            await self.close()


class PushConsumer(_LiteConsumer[_native.PushConsumer]):
    """Calls a handler for each message. Made by `Client.push_consumer`."""

    def __init__(
        self,
        opening: Callable[[], _native.Operation[_native.PushConsumer]],
        shown: str,
        group: str,
        handler: Handler,
        observers: Observers,
    ) -> None:
        super().__init__(opening, f"group={group} {shown}")
        self._group, self._observers = group, observers
        self._handler: Handler = function(handler, "handler")

    def _opened(self) -> None:
        self._work, fetching = Work(), Work()
        fetching.start(handle_tasks(self._handle, self._group, self._handler, self._work, self._observers))
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

    async def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Gives back what no handler has begun, waits up to `deadline` (default 20 s) for handlers that run, and cancels
        those that run longer. A handler should not wait for the close of its own consumer, which waits for the handler."""
        try:
            return await super().close(deadline)
        finally:
            self._work.cancel()
