"""Arguments and return values of the client."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import ClassVar, Iterable, Literal, Mapping, NamedTuple, Optional, TypeVar, Union

from .errors import Error

Duration = Union[float, timedelta]
"""A duration: a number of seconds, or a `timedelta`."""

Startup = Literal["eager", "wait", "lazy"]
"""The startup modes of a client, see `Client`."""

Names = Union[str, Iterable[str]]
"""One name, or several."""

_T = TypeVar("_T")


def _documented(named_tuple: type[_T]) -> type[_T]:
    """Sets the docstring of each field of a named tuple from the docstring of the class, so that `help` shows it."""
    # There is no docstring under `python -OO`.
    for _, name, text in re.findall(r"^( +)(\w+): (.+(?:\n\1    .+)*)", named_tuple.__doc__ or "", re.MULTILINE):
        vars(named_tuple)[name].__doc__ = " ".join(text.split())
    return named_tuple


@dataclass
class Message:
    """A message to send.

    Attributes:
        topic: The topic that the message is sent to.
        body: The content, as `bytes` or `bytearray`. Servers refuse an empty body and, by default, a body above 4 MiB.
        tag: A word that consumers can filter by. Default: none.
        keys: One word or several by which the message can be looked up. Default: none.
        properties: The application's own properties. Default: none.
        message_group: For a FIFO topic: messages of one group are delivered in the order in which they were sent.
            Default: none.
        deliver_at: For a delay topic: when the message is delivered, as a `datetime` with a time zone.
            Default: at once.
        delay: For a delay topic: how long after the send the message is delivered. Default: none.
        priority: For a priority topic: messages with a higher priority are delivered first. Default: none.
        lite_topic: For a lite topic: the name of the lite topic within `topic`. Default: none.

    A message has one type: at most one of `message_group`, `deliver_at`, `delay`, `priority` and `lite_topic` is set.
    """

    topic: str
    body: Union[bytes, bytearray]
    tag: Optional[str] = None
    keys: Names = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    message_group: Optional[str] = None
    deliver_at: Optional[datetime] = None
    delay: Optional[Duration] = None
    priority: Optional[int] = None
    lite_topic: Optional[str] = None


@dataclass(frozen=True)
class Credentials:
    """An access key from the server's administrator.

    Attributes:
        access_key: The name of the key.
        secret_key: The secret that signs each request. It is never sent.
        session_token: The token of temporary credentials. Default: none.
        expires_at: When the credentials expire, as a `datetime` with a time zone. The client calls its provider for new
            credentials before that. Default: never.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: Optional[str] = field(default=None, repr=False)
    expires_at: Optional[datetime] = None


@dataclass(frozen=True)
class Tls:
    """Options of encrypted connections. Certificates and keys are in PEM format.

    Attributes:
        ca: The certificate authorities to trust. Default: those that the system trusts.
        certificate: The client's certificate, which authenticates it. Default: none.
        key: The unencrypted private key of `certificate`. Default: none.
        server_name: The name that the server's certificate must have. Default: the host of the endpoint.
        dangerously_skip_verification: Whether any certificate is accepted. This gives no protection against a man in
            the middle. Default: False.
    """

    ca: Optional[bytes] = None
    certificate: Optional[bytes] = None
    key: Optional[bytes] = field(default=None, repr=False)
    server_name: Optional[str] = None
    dangerously_skip_verification: bool = False


@dataclass(frozen=True)
class Tags:
    """A filter: the messages of a topic that have one of these tags. `Tags("new", "paid")`.

    Attributes:
        tags: The tags.
    """

    tags: tuple[str, ...]

    def __init__(self, *tags: str) -> None:
        object.__setattr__(self, "tags", tags)


@dataclass(frozen=True)
class Sql:
    """A filter: the messages of a topic whose properties satisfy an SQL-92 expression. `Sql("amount > 100")`.

    Attributes:
        expression: The condition.
    """

    expression: str


@dataclass(frozen=True)
class Lite:
    """Makes a consumer of lite topics. Pass it in place of subscriptions: `Lite("chats")`. See `subscribe_lite` of consumers.

    Attributes:
        bind_topic: The topic that the group is bound to. The lite topics belong to it.
    """

    bind_topic: str


@dataclass(frozen=True)
class OffsetOption:
    """Where a group starts in a lite topic: `OffsetOption.MIN`, `OffsetOption.tail(10)`. See `subscribe_lite` of consumers.

    Attributes:
        kind: How the position is chosen.
        value: The offset, the number of messages or the time; `None` for other kinds.
    """

    kind: Literal["last", "min", "max", "offset", "tail", "timestamp"]
    value: Union[int, datetime, None] = None

    LAST: ClassVar[OffsetOption]
    """At the first message that the group has not consumed."""
    MIN: ClassVar[OffsetOption]
    """At the first message."""
    MAX: ClassVar[OffsetOption]
    """After the last message."""

    @staticmethod
    def offset(offset: int) -> OffsetOption:
        """At this offset."""
        return OffsetOption("offset", offset)

    @staticmethod
    def tail(messages: int) -> OffsetOption:
        """This many messages before the first one that the group has not consumed."""
        return OffsetOption("tail", messages)

    @staticmethod
    def timestamp(time: datetime) -> OffsetOption:
        """At the first message stored at or after `time`, a `datetime` with a time zone. Apache's brokers ignore this."""
        return OffsetOption("timestamp", time)


OffsetOption.LAST = OffsetOption("last")
OffsetOption.MIN = OffsetOption("min")
OffsetOption.MAX = OffsetOption("max")


Subscriptions = Union[Mapping[str, Union[Tags, Sql, None]], Names, Lite]
"""One topic or several, a mapping of topics to filters (`None` means all messages), or the lite topics of one topic."""


@_documented
class Receipt(NamedTuple):
    """The server's confirmation that a message is stored.

    Attributes:
        message_id: The message id. Its deliveries have the same id.
        topic: The topic that the message was stored in.
        queue_offset: The offset in the queue, or -1 if the server did not return it.
        transaction_id: The server's transaction id. Servers set it for normal messages, too.
        recall_handle: The handle for recalling a delayed message, see `Producer.recall`. `None` for other messages.
    """

    message_id: str
    topic: str
    queue_offset: int
    transaction_id: str
    recall_handle: Optional[str] = None


@_documented
class CloseReport(NamedTuple):
    """The result of a close.

    Attributes:
        flushed: The number of outstanding sends and acks that were completed.
        abandoned: The number of sends and acks that had no response at the deadline and failed with `Closed`, plus the
            number of messages whose handlers were still running. Those messages are delivered again.
        handled: For push consumers: the number of messages whose handlers were running when the close began, and that were
            settled before the deadline.
        given_back: For consumers: the number of messages that were given back to the server unhandled.
        elapsed: How long the close took.
    """

    flushed: int
    abandoned: int
    handled: int
    given_back: int
    elapsed: timedelta


class Decision(Enum):
    """What happens to the messages of a transaction."""

    COMMIT = "commit"
    """The messages are delivered."""
    ROLLBACK = "rollback"
    """The messages are dropped."""
    UNKNOWN = "unknown"
    """The decision is not known yet. The server asks again later."""


@dataclass(frozen=True)
class OrphanCheck:
    """A question of the server: whether to commit a message whose transaction was not decided in time.

    Attributes:
        message: The message, with its topic, body, tag, keys and properties.
        message_id: The message id, which is also in the receipt.
        transaction_id: The server's transaction id, which is also in the receipt.
    """

    message: Message
    message_id: str
    transaction_id: str


class Retry(Exception):
    """Raised or returned by a handler of a push consumer: the message failed and is delivered again. Other exceptions
    mean the same, and are logged.

    Attributes:
        after: How long after the failure it is delivered again. Default: according to the group's retry policy.
    """

    def __init__(self, after: Optional[Duration] = None) -> None:
        super().__init__(after)
        self.after = after


class DeadLetter(Exception):
    """Raised or returned by a handler of a push consumer: the message moves to the dead-letter topic, whose
    name is `%DLQ%` and the group's name, and is not delivered again."""


@_documented
class EndpointHealth(NamedTuple):
    """Whether a client can reach one address.

    Attributes:
        endpoint: The address, as `host:port`.
        status: `connected`, `degraded` or `lost`.
        error: The failure, unless the status is `connected`.
        connections: The number of open connections to it.
    """

    endpoint: str
    status: str
    error: Optional[Error]
    connections: int


@_documented
class Health(NamedTuple):
    """Whether a client can reach its servers, according to its latest calls and heartbeats.

    Attributes:
        status: `connecting`, `connected`, `degraded` (at least one server does not answer or refuses the client),
            `lost` or `closed`.
        error: The failure, if the status is `degraded` or `lost`.
        connections: The number of open connections.
        endpoints: The health of each address in use.
    """

    status: str
    error: Optional[Error]
    connections: int
    endpoints: tuple[EndpointHealth, ...]


@_documented
class Histogram(NamedTuple):
    """A distribution of values.

    Attributes:
        bounds: The upper bounds of the buckets. The last bucket has no bound.
        counts: The number of values in each bucket. There is one entry more than in `bounds`: the last is for values
            above all bounds.
        sum: The sum of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float


@_documented
class Metric(NamedTuple):
    """A metric of a client, with a point for each set of labels.

    Attributes:
        name: The name, such as `rocketmq_send_cost_time`.
        description: The description.
        unit: The unit: `ms`, `By` for bytes, or the counted thing in braces, such as `{message}`.
        points: The labels and the value of each point.
    """

    name: str
    description: str
    unit: str
    points: list[tuple[dict[str, str], Union[int, Histogram]]]
