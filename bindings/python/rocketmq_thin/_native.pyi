from datetime import datetime
from typing import Any, Generic, Iterable, Optional, TypeVar, Union, final

from .errors import Error
from .values import CloseReport, Message, Receipt, Seconds, Subscriptions

_T = TypeVar("_T")

class Operation(Generic[_T]): ...

def run(operation: Operation[_T]) -> _T: ...
def shutdown(deadline: Seconds) -> None: ...
def connect(endpoints: str, **options: Any) -> Operation[Client]: ...

class Completions:
    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
    def submit(self, operation: Operation[Any]) -> int: ...
    def cancel(self, id: int) -> None: ...
    def drain(self, max: int) -> list[tuple[int, bool, Any]]: ...
    def close(self) -> None: ...

class Client:
    def producer(self, **options: Any) -> Operation[Producer]: ...
    def simple_consumer(
        self, group: str, subscriptions: Subscriptions, **options: Any
    ) -> Operation[SimpleConsumer]: ...
    def close(self, deadline: Optional[Seconds]) -> Operation[CloseReport]: ...

class Producer:
    def send(self, message: Message) -> Operation[Receipt]: ...
    def send_all(self, messages: Iterable[Message]) -> Operation[list[Union[Receipt, Error]]]: ...
    def close(self, deadline: Optional[Seconds]) -> Operation[CloseReport]: ...

class SimpleConsumer:
    def receive(self, **options: Any) -> Operation[list[Delivery]]: ...
    def put_back(self, deliveries: Iterable[Delivery]) -> None: ...
    def ack(self, delivery: Delivery) -> Operation[None]: ...
    def ack_all(self, deliveries: Iterable[Delivery]) -> Operation[list[Optional[Error]]]: ...
    def change_invisible(self, delivery: Delivery, duration: Seconds) -> Operation[None]: ...
    def close(self, deadline: Optional[Seconds]) -> Operation[CloseReport]: ...

@final
class Delivery:
    """A received message. Acknowledge it with the consumer that received it."""

    @property
    def message_id(self) -> str:
        """The message's id, as its receipt has it."""

    @property
    def topic(self) -> str:
        """The topic."""

    @property
    def body(self) -> bytes:
        """The content, decompressed. If `corrupted`, the bytes as they were received."""

    @property
    def tag(self) -> Optional[str]:
        """The tag, or `None`."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys."""

    @property
    def properties(self) -> dict[str, str]:
        """The application's own properties."""

    @property
    def message_group(self) -> Optional[str]:
        """The group within which messages are delivered in order, or `None`."""

    @property
    def born_at(self) -> Optional[datetime]:
        """When the producer made the message, in UTC, or `None` if the server did not say."""

    @property
    def born_host(self) -> str:
        """The host that sent the message."""

    @property
    def stored_at(self) -> Optional[datetime]:
        """When the server stored the message, in UTC, or `None` if it did not say."""

    @property
    def attempt(self) -> int:
        """How many times the message has been delivered to this group, including this time. Starts at 1."""

    @property
    def corrupted(self) -> bool:
        """Whether the body does not match its digest, could not be decompressed, or is too large."""

    @property
    def queue_id(self) -> int:
        """The number of the queue."""

    @property
    def queue_offset(self) -> int:
        """The position in the queue."""
