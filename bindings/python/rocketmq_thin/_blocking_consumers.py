"""The consumers of the blocking API."""

from __future__ import annotations

from typing import Iterable, Iterator, Optional, TypeVar, Union

from . import _native
from ._closeable import Closeable
from ._fork import fork_count
from ._handler_threads import Handler, handle_tasks, start
from ._handling import end_when_collected
from ._native import Delivery, run
from ._observers import Observers
from .errors import Error
from .values import CloseReport, Duration, OffsetOption, Sql, Subscriptions, Tags

_C = TypeVar("_C", _native.SimpleConsumer, _native.PushConsumer)


class _Consumer(Closeable[_C]):
    """Base class: the subscriptions of a consumer."""

    def subscribe(self, topic: str, filter: Union[Tags, Sql, None] = None) -> None:
        """Subscribes to another topic, or changes the filter of a subscribed topic. `None` means all messages.

        Messages that matched the previous filter and that the application has not received are given back.

        Raises:
            errors.TopicNotFound: The topic does not exist. The subscriptions do not change.
            errors.InvalidArgument: This is a consumer of lite topics, which has `subscribe_lite`.
        """
        run(self._native.subscribe(topic, filter))

    def unsubscribe(self, topic: str) -> None:
        """Ends the subscription of a topic. Its messages that the application has not received are given back.

        Deliveries of a simple consumer can still be settled. Running handlers of a push consumer continue, and their
        messages are settled; no more handlers are called for the topic. A push consumer without topics is idle.

        Raises:
            errors.InvalidArgument: This is a consumer of lite topics, which has `unsubscribe_lite`.
        """
        run(self._native.unsubscribe(topic))

    def subscriptions(self) -> dict[str, Union[Tags, Sql, None]]:
        """Returns the current subscriptions: topics and their filters. `None` means all messages.

        For a consumer of lite topics, this is their topic.
        """
        return self._native.subscriptions()

    def subscribe_lite(self, lite_topic: str, start: Optional[OffsetOption] = None) -> None:
        """Subscribes to a lite topic. The consumer must have been created with `Lite(topic)`.

        Args:
            lite_topic: The name of the lite topic. If the consumer is subscribed to it already, nothing changes.
            start: Where the group starts in the lite topic. Its members share the position. Default: the group's
                last position.
        """
        run(self._native.subscribe_lite(lite_topic, start))

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


class SimpleConsumer(_Consumer[_native.SimpleConsumer]):
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
        invisible_duration: Optional[Duration] = None,
        await_duration: Optional[Duration] = None,
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
        """Acknowledges a delivery: the message is processed and is not delivered to this group again.

        Raises:
            errors.InvalidReceipt: The lease has ended. The message is delivered again.
        """
        with self._observers.settling(self._group, delivery, "ack"):
            run(self._native.ack(delivery))

    def ack_all(self, deliveries: Iterable[Delivery]) -> list[Optional[Error]]:
        """Acknowledges several deliveries. Returns `None` or an error for each, in the order of the deliveries."""
        deliveries = self._observers.settling_all(self._group, deliveries, "ack")
        with self._observers.all_settled(self._group, deliveries, "ack") as done:
            return done(run(self._native.ack_all(deliveries)))

    def change_invisible(self, delivery: Delivery, duration: Duration) -> None:
        """Hides a delivery from other consumers for `duration` from now. Zero makes it visible at once.

        Raises:
            errors.InvalidReceipt: The lease has ended, or the delivery is settled.
            errors.InvalidArgument: `duration` is above 12 h.
        """
        with self._observers.settling(self._group, delivery, "change_invisible"):
            run(self._native.change_invisible(delivery, duration))

    def nack(self, delivery: Delivery, after: Duration) -> None:
        """Returns a delivery that could not be processed. It is delivered again after the time `after`.

        Raises the same errors as `change_invisible`.
        """
        with self._observers.settling(self._group, delivery, "retry"):
            run(self._native.nack(delivery, after))

    def dead_letter(self, delivery: Delivery) -> None:
        """Moves a delivery to the dead-letter topic, whose name is `%DLQ%` and the group's name.

        Raises:
            errors.InvalidReceipt: The server does not accept the receipt handle, or the delivery is settled.
        """
        with self._observers.settling(self._group, delivery, "dead_letter"):
            run(self._native.dead_letter(delivery))

    def keep_lease(self, delivery: Delivery, max: Duration) -> None:
        """Keeps a delivery hidden from other consumers until it is settled or dropped, for at most `max`.

        Returns at once; the lease is renewed in the background. See `Delivery.is_lease_lost`.

        Raises:
            errors.InvalidReceipt: The lease has ended.
        """
        self._native.keep_lease(delivery, max)

    def messages(
        self,
        *,
        max_messages: Optional[int] = None,
        max_bytes: Optional[int] = None,
        invisible_duration: Optional[Duration] = None,
    ) -> Messages:
        """Returns a stream that prefetches messages: `for delivery in consumer.messages():`.

        Args:
            max_messages: The maximum number of prefetched messages. Default: 128.
            max_bytes: The maximum total size of their bodies; fetching pauses above it. Default: 64 MiB.
            invisible_duration: As for `receive`. The leases of waiting messages are renewed. Default: 30 s.
        """
        native = self._native.messages(
            max_messages=max_messages, max_bytes=max_bytes, invisible_duration=invisible_duration
        )
        return Messages(native, self._group, self._observers)


class Messages:
    """A stream of deliveries, which fetches ahead. Created by `SimpleConsumer.messages`.

    Closing or dropping this object gives back deliveries that were not handed out. If the server refuses a receive,
    the error is raised, and the next iteration continues. The stream ends when it or its consumer is closed.
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


class PushConsumer(_Consumer[_native.PushConsumer]):
    """Calls a handler for each message. Created by `Client.push_consumer`."""

    def __init__(
        self,
        opening: _native.Operation[_native.PushConsumer],
        description: str,
        group: str,
        handler: Handler,
        observers: Observers,
        open_consumers: set[PushConsumer],
    ) -> None:
        super().__init__(opening, f"group={group} {description}")
        start(handle_tasks, self._native, group, handler, observers)
        end_when_collected(self, self._native, group)
        # The client keeps a reference to it, because a program that only waits for messages may keep none.
        open_consumers.add(self)
        self._open_consumers = open_consumers

    def pause(self) -> None:
        """Pauses receiving and handling until `resume`. Running handlers continue.

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

    def close(self, deadline: Optional[Duration] = None) -> CloseReport:
        """Gives back messages that no handler has begun, and waits up to `deadline` (default 20 s) for running
        handlers. Handlers that run longer can't be ended; their messages are delivered again. A handler must not close
        its own consumer, which waits for the handler."""
        try:
            return super().close(deadline)
        finally:
            self._open_consumers.discard(self)
