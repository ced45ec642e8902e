"""The values that are passed to the client and returned by it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Iterable, Literal, Mapping, NamedTuple, Optional, TypeVar, Union

Seconds = Union[float, timedelta]
"""A length of time: a number of seconds, or a `timedelta`."""

Startup = Literal["eager", "wait", "lazy"]
"""How a client starts, see `Client`."""

Names = Union[str, Iterable[str]]
"""One name, or several."""

_T = TypeVar("_T")


def _documented(named_tuple: type[_T]) -> type[_T]:
    """Gives the fields of a named tuple what its docstring says of them. `help` shows it for each."""
    # There is no docstring under `python -OO`.
    for _, name, text in re.findall(r"^( +)(\w+): (.+(?:\n\1    .+)*)", named_tuple.__doc__ or "", re.MULTILINE):
        vars(named_tuple)[name].__doc__ = " ".join(text.split())
    return named_tuple


@dataclass
class Message:
    """A message to send.

    Attributes:
        topic: The topic it is sent to.
        body: Its content, as `bytes` or `bytearray`. Servers refuse an empty body and, by default, one above
            4 MiB.
        tag: One word that consumers can filter by. Default: none.
        keys: One word or several that the message can be found by. Default: none.
        properties: Further names and values for the application. Default: none.
        message_group: For a FIFO topic: messages of one group are delivered in the order in which they were sent.
            Default: none.
        deliver_at: For a delay topic: when it is delivered, as a `datetime` with a time zone. Default: at once.
        delay: The same as a time from the moment it is sent. Default: none.
        priority: For a priority topic: a higher one is delivered first. Default: none.
        lite_topic: For a lite topic: its name within `topic`. Default: none.

    A message has one type: at most one of `message_group`, `deliver_at`, `delay`, `priority` and `lite_topic` is set.
    """

    topic: str
    body: Union[bytes, bytearray]
    tag: Optional[str] = None
    keys: Names = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    message_group: Optional[str] = None
    deliver_at: Optional[datetime] = None
    delay: Optional[Seconds] = None
    priority: Optional[int] = None
    lite_topic: Optional[str] = None


@dataclass(frozen=True)
class Credentials:
    """An access key from the server's administrator.

    Attributes:
        access_key: The name of the key.
        secret_key: The secret that signs each request. It is never sent.
        session_token: The token of temporary credentials. Default: none.
        expires_at: When they expire, as a `datetime` with a time zone; before that a client asks its provider for new
            ones. Default: never.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: Optional[str] = field(default=None, repr=False)
    expires_at: Optional[datetime] = None


@dataclass(frozen=True)
class Tls:
    """Encrypted connections.

    Attributes:
        ca: The certificate authorities to trust, in PEM form. Default: those that the system trusts.
        certificate: The certificate by which the client authenticates itself, in PEM form. Default: none.
        key: Its private key, in PEM form, not encrypted. Default: none.
        server_name: The name that the server's certificate must have. Default: the host of the endpoint.
        dangerously_skip_verification: Whether any certificate is accepted, which protects against nobody who can change
            what is sent. Default: False.
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
    """In place of subscriptions: lite topics of a topic, see `subscribe_lite` of consumers. `Lite("chats")`.

    Attributes:
        lite_topics_of: The topic whose lite topics are meant.
    """

    lite_topics_of: str


Subscriptions = Union[Mapping[str, Union[Tags, Sql, None]], Names, Lite]
"""One topic or several, a mapping of topics to filters (`None` stands for all messages), or lite topics of one topic."""


@_documented
class Receipt(NamedTuple):
    """The server's confirmation that a message is stored.

    Attributes:
        message_id: The message's id. Its deliveries have the same.
        topic: The topic it was stored in.
        queue_offset: Its position in its queue, or -1 if the server did not return it.
        transaction_id: The server's transaction id. Servers return one for plain messages, too.
        recall_handle: What takes back a delayed message, see `Producer.recall`; `None` for other messages.
    """

    message_id: str
    topic: str
    queue_offset: int
    transaction_id: str
    recall_handle: Optional[str] = None


@_documented
class CloseReport(NamedTuple):
    """What a close did.

    Attributes:
        flushed: The number of sends and acks that were running and got their response.
        abandoned: The number of sends and acks that had no response at the deadline. They failed with `Closed`. For
            a push consumer also messages whose handlers were still running; they are delivered again.
        handled: Of push consumers: the number of messages that were being handled, and were settled in time.
        given_back: Of push consumers: the number of messages that no handler had begun, and that were given back to
            the server.
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
    """They are delivered."""
    ROLLBACK = "rollback"
    """They are dropped."""
    UNKNOWN = "unknown"
    """It is not known yet. The server asks again later."""


@dataclass(frozen=True)
class OrphanCheck:
    """A server's question about a message whose transaction was neither committed nor rolled back in time.

    Attributes:
        message: The message, with its topic, body, tag, keys and properties.
        message_id: Its id, as its receipt had it.
        transaction_id: The server's id of the transaction, as the receipt had it.
    """

    message: Message
    message_id: str
    transaction_id: str


class Retry(Exception):
    """Raised or returned by a handler of a push consumer: the message failed and is delivered again. Any other exception
    means the same, and is logged.

    Attributes:
        after: When it is delivered again. Default: when the retry policy of the group says.
    """

    def __init__(self, after: Optional[Seconds] = None) -> None:
        super().__init__(after)
        self.after = after


class DeadLetter(Exception):
    """Raised or returned by a handler of a push consumer: the message moves to the dead-letter topic of the group,
    `%DLQ%` and the name of the group, and is not delivered again."""


@_documented
class Health(NamedTuple):
    """Whether a client can reach its servers, as its latest calls and heartbeats have shown.

    Attributes:
        status: `connecting`, `connected`, `degraded` (some server does not answer, or refuses the client), `lost`
            or `closed`.
        error: What is wrong, if the status is `degraded` or `lost`.
        connections: The number of open connections.
        endpoints: For each address in use: `host:port`, its status, and what is wrong with it.
    """

    status: str
    error: Optional[Exception]
    connections: int
    endpoints: tuple[tuple[str, str, Optional[str]], ...]


@_documented
class Histogram(NamedTuple):
    """How values are distributed.

    Attributes:
        bounds: The upper bounds of the buckets but the last, which has none.
        counts: How many values each bucket holds: one more than there are bounds.
        sum: The sum of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float


@_documented
class Metric(NamedTuple):
    """What a client has counted, with a point for each set of labels.

    Attributes:
        name: Such as `rocketmq_send_cost_time`.
        description: What it measures.
        unit: `ms`, `By` for bytes, or a word in braces for a count of things, such as `{message}`.
        points: The labels and the value of each point.
    """

    name: str
    description: str
    unit: str
    points: list[tuple[dict[str, str], Union[int, Histogram]]]
